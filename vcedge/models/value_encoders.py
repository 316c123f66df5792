"""SRNet's value encoders: what memory keeps of a frame's objects."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from vcedge.models.srnet_blocks import BlockConv, Fuser, PreActivationBlock
from vcedge.models.trunk import Trunk

FINEST = 4
"""Pixels per cell of the finest shape that a value gets straight from its mask."""
STRIDE = 16
"""Pixels per cell of a value."""


class ValueEncoder(nn.Module):
    """Encodes objects' masks together with the frame.

    The mask's shape at stride 4 is added to the value by one linear map (our choice: values hold
    the shape from the first step on).

    Args:
        value_dim: Cv.
        shaped: whether it is; STCN's is not.

    Attributes:
        takes: names of what is taken of the frame: ``image``, or the query encoder's features.
    """

    takes: tuple[str, ...]

    def __init__(self, value_dim: int, *, shaped: bool = True) -> None:
        super().__init__()
        self.shape = BlockConv(2, value_dim, STRIDE // FINEST, bias=False) if shaped else None

    def forward(self, frame: Mapping[str, Tensor], masks: Tensor, others: Tensor) -> Tensor:
        """Encode.

        Args:
            frame: what ``takes`` names: ``image``, (B, 3, H, W) in the network's input colour, and
                ``f4``, ``f8``, ``f16`` of ``Pyramid``.
            masks: (B, K, H, W) float32, 0 to 1, of K objects.
            others: (B, K, H, W) float32, what all other objects cover, likewise.

        Returns:
            (B, K, Cv, h, w).
        """
        seen = torch.stack([masks, others], 2)
        value = self.encode(frame, seen)
        if self.shape is not None:
            value = value + self.shape(functional.avg_pool2d(seen.flatten(0, 1), FINEST))
        values: Tensor = value.unflatten(0, masks.shape[:2])
        return values

    def encode(self, frame: Mapping[str, Tensor], seen: Tensor) -> Tensor:
        """Encode all but the shape.

        Args:
            frame: as for ``forward``.
            seen: (B, K, 2, H, W) each object's mask, and what all others cover.

        Returns:
            (B * K, Cv, h, w).
        """
        raise NotImplementedError


class PictureValueEncoder(ValueEncoder):
    """Encodes the picture once more, with the masks, and fuses the query's features in (STCN).

    Args:
        width: channels of its trunk's stem, 64 in a ResNet-18.
        deep: channels of the query encoder's ``f16``.
        value_dim: Cv.
        kernel: side of the kernels of the fuser's shortcuts.
        shaped: see ``ValueEncoder``.
    """

    takes = ("image", "f16")

    def __init__(
        self, width: int, deep: int, value_dim: int, kernel: int, *, shaped: bool = True
    ) -> None:
        super().__init__(value_dim, shaped=shaped)
        self.trunk = Trunk(5, (2, 2, 2), width, bottleneck=False)
        self.fuser = Fuser(deep + self.trunk.widths[2], value_dim, kernel)

    def encode(self, frame: Mapping[str, Tensor], seen: Tensor) -> Tensor:
        """See ``ValueEncoder.encode``."""
        image, deep = (_share(frame[name], seen.shape[1]) for name in self.takes)
        found = self.trunk(torch.cat([image, seen.flatten(0, 1)], 1)).f16
        fused: Tensor = self.fuser(torch.cat([found, deep], 1))
        return fused


class FeatureValueEncoder(ValueEncoder):
    """Joins the masks with the query's own features at strides 4, 8 and 16 (our choice).

    Nothing of the picture is encoded a second time, and the features' part of each join is
    computed once for all objects: it is added after its convolution. Convolutions are dense and
    narrow, which a CPU and INT8 take better than wide depthwise ones, and none is normalised.

    Args:
        width: channels at stride 4, where there is no block; twice as many at stride 8.
        features: channels of the query encoder's ``f4``, ``f8`` and ``f16``.
        value_dim: Cv.
        kernel: side of the kernels of shortcuts.
    """

    takes = ("f4", "f8", "f16")

    def __init__(
        self, width: int, features: tuple[int, int, int], value_dim: int, kernel: int
    ) -> None:
        super().__init__(value_dim)
        widths = (width, 2 * width, value_dim)
        self.mask = BlockConv(2, width, FINEST, bias=True)
        self.joins = nn.ModuleList(
            nn.Conv2d(own, joined, 1) for own, joined in zip(features, widths, strict=True)
        )
        self.blocks = nn.ModuleList(PreActivationBlock(each, each, kernel) for each in widths[1:])
        self.shrinks = nn.ModuleList(
            nn.Conv2d(fine, coarse, 3, 2, 1) for fine, coarse in pairwise(widths)
        )
        self.last = PreActivationBlock(value_dim, value_dim, kernel)

    def encode(self, frame: Mapping[str, Tensor], seen: Tensor) -> Tensor:
        """See ``ValueEncoder.encode``."""
        objects = seen.shape[1]
        x = self.mask(seen.flatten(0, 1))
        x = self._join(x, frame["f4"], 0, objects)
        for level, name in enumerate(("f8", "f16"), 1):
            x = self.shrinks[level - 1](torch.relu(x))
            x = self.blocks[level - 1](self._join(x, frame[name], level, objects))
        found: Tensor = self.last(x)
        return found

    def _join(self, x: Tensor, features: Tensor, level: int, objects: int) -> Tensor:
        """Add a frame's features to those of each of its objects."""
        joined: Tensor = x.unflatten(0, (-1, objects)) + self.joins[level](features)[:, None]
        return joined.flatten(0, 1)


def _share(features: Tensor, objects: int) -> Tensor:
    """(B, C, H, W) of a frame to (B * K, C, H, W), the same for each of K objects."""
    return features[:, None].expand(-1, objects, -1, -1, -1).flatten(0, 1)
