"""What SRNet's graphs give of one frame, where the next of them take it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Block, Device, DeviceArray, zeros_for
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.predictors.finite import require_finite

TOGETHER = 4
"""Objects whose masks are encoded or decoded in one run of a graph: it bounds what a run takes."""
LOOK_EVERY = 32
"""Frames between two looks at the logits of a device (our choice)."""


class EncodedFrame:
    """One frame as its encoder takes and gives it, but for the key, which memory has.

    Args:
        encoder: of queries.
        stride: pixels per key cell.
        work_hw: height and width in which frames are encoded.
        objects: K.
        device: of the engines; None where they run on the host.

    Attributes:
        image: (1, 3, H, W) in the encoder's input colour.
        features: the encoder's other outputs, by name.
        shares: (K + 1, H, W), of the background and each object in every pixel.
    """

    def __init__(
        self,
        encoder: Engine,
        stride: int,
        work_hw: tuple[int, int],
        objects: int,
        device: Device | None,
    ) -> None:
        lengths = {
            axis + name: length // cell
            for cell, name in ((stride, ""), (8, "8"), (4, "4"))
            for axis, length in zip("hw", work_hw, strict=True)
        }
        self._device = device
        self.image = Block((1, 3, *work_hw), device)
        self.shares = Block((objects + 1, *work_hw), device)
        self.features = {
            tensor.name: zeros_for(
                [lengths[dim] if isinstance(dim, str) else dim for dim in tensor.shape], device
            )
            for tensor in encoder.spec.outputs
            if tensor.name != "key"
        }

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for a in (self.image, self.shares, *self.features.values()))

    def exchange_shares(self, shares: NDArray[np.float32]) -> None:
        """Take other shares, of other objects; the former block stays as it is."""
        self.shares = Block.of(shares, self._device)


class FoundObjects:
    """What the graphs of a frame leave to each other, of K objects.

    Args:
        objects: K.
        work_hw: height and width in which frames are encoded.
        grid_hw: height and width of the key grid.
        value_dim: Cv.
        device: of the engines; None where they run on the host.
        mixes: whether anything is done with what was read before it is decoded.

    Attributes:
        read: (K, Cv, h, w), from global memory.
        near: (K, Cv, h, w), from local memory.
        mixed: (K, Cv, h, w), both.
        features: (K, Cv, h, w), as they follow the prototypes; this and the two before are what
            was read where nothing is done with it.
        aligned: (1, h, w, K, Cv), the local memory's value where the frame has it.
        logits: (K, H, W), of each object's own mask.
        parts: (h, w, k, Cv) for values of k objects that are encoded together, where that is not
            all of them.
    """

    def __init__(
        self,
        objects: int,
        work_hw: tuple[int, int],
        grid_hw: tuple[int, int],
        value_dim: int,
        device: Device | None,
        *,
        mixes: bool = True,
    ) -> None:
        planes = (objects, value_dim, *grid_hw)
        self.read = zeros_for(planes, device)
        self.near, self.mixed, self.features = (
            zeros_for(planes, device) if mixes else self.read for _ in range(3)
        )
        self.aligned = zeros_for((1, *grid_hw, objects, value_dim if mixes else 0), device)
        self.logits = zeros_for((objects, *work_hw), device)
        sizes = {group.stop - group.start for group in group_objects(objects)}
        self.parts = {
            size: zeros_for((*grid_hw, size, value_dim), device) for size in sizes if size < objects
        }

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        planes = {id(each): each for each in (self.read, self.near, self.mixed, self.features)}
        alone = (*planes.values(), self.aligned, self.logits)
        return sum(array.nbytes for array in (*alone, *self.parts.values()))

    def require_finite_logits(self, frame: int, scratch: NDArray[np.float32]) -> None:
        """Refuse logits that are none, of which an aggregation may make shares that look sound.

        A device's cross to the host now and then alone; a graph that overflows does so again.

        Args:
            frame: its number.
            scratch: (K, H, W), which a device's logits are read into.

        Raises:
            NotFiniteError: they are not finite.
        """
        if not isinstance(self.logits, DeviceArray):
            require_finite(self.logits, "logits")
        elif frame % LOOK_EVERY == 1:
            self.logits.read(scratch)
            require_finite(scratch, "logits")


def cover_pixels(mask: NDArray[np.bool_], work_hw: tuple[int, ...]) -> NDArray[np.float32]:
    """Share of each pixel of the working size that a mask covers: (H, W) float32."""
    size = (work_hw[1], work_hw[0])
    smaller = size[0] < mask.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(mask.astype(np.float32), size, interpolation=method), np.float32)


def group_objects(objects: int) -> list[slice]:
    """Split a number of objects into groups of ``TOGETHER`` at most."""
    firsts = range(0, objects, TOGETHER)
    return [slice(first, min(objects, first + TOGETHER)) for first in firsts]
