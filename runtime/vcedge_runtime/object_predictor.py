"""One video's objects with SRNet, frame by frame: read, align, follow prototypes, decode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.engines.base import Buffer, Engine
from vcedge_runtime.errors import TrackerError
from vcedge_runtime.memory.bank import MemoryBank
from vcedge_runtime.memory.objects import ObjectBank
from vcedge_runtime.object_composition import ObjectComposition
from vcedge_runtime.propagation.labels import MaskDecision, assign_share, mask_from_labels
from vcedge_runtime.propagation.prototypes import aggregate_softly, sine_positions
from vcedge_runtime.propagation.upsample import open_upsampler
from vcedge_runtime.timing import Timings, timed

Planes = NDArray[np.float32]
TOGETHER = 4
"""Objects whose masks are encoded or decoded in one run of a graph: it bounds what a run takes."""


class _Encoded:
    """One frame as its encoder takes and gives it, but for the key, which memory has.

    Args:
        encoder: of queries.
        stride: pixels per key cell.
        work_hw: height and width in which frames are encoded.

    Attributes:
        image: (1, 3, H, W) float32 normalised Lab.
        features: the encoder's other outputs, by name.
    """

    def __init__(self, encoder: Engine, stride: int, work_hw: tuple[int, int]) -> None:
        lengths = {
            axis + name: length // cell
            for cell, name in ((stride, ""), (8, "8"), (4, "4"))
            for axis, length in zip("hw", work_hw, strict=True)
        }
        self.image = np.zeros((1, 3, *work_hw), np.float32)
        self.features = {
            tensor.name: np.zeros(
                [lengths[dim] if isinstance(dim, str) else dim for dim in tensor.shape], np.float32
            )
            for tensor in encoder.spec.outputs
            if tensor.name != "key"
        }

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.image.nbytes + sum(each.nbytes for each in self.features.values())


class ObjectPredictor:
    """Masks of one video's objects, each segmented on its own, in the working size.

    Args:
        parts: the composition.
        engines: by name; the caller closes them.
        work_hw: height and width in which frames are encoded, whole key cells.
        objects: how many are followed to begin with.

    Attributes:
        bank: keys, and shares at the key grid.
        values: what memory keeps of the objects, in the same slots.
        frame: number of the last frame that is done.
        readout_macs: multiply-accumulates of the readouts of all frames so far.

    Raises:
        TrackerError: the key grid has fewer cells than a readout takes.
    """

    def __init__(
        self,
        parts: ObjectComposition,
        engines: Mapping[str, Engine],
        work_hw: tuple[int, int],
        objects: int,
    ) -> None:
        grid_hw = (work_hw[0] // parts.stride, work_hw[1] // parts.stride)
        if parts.top_k is not None and grid_hw[0] * grid_hw[1] < parts.top_k:
            raise TrackerError(
                f"received frames of {grid_hw[0]}x{grid_hw[1]} key cells; expected at least "
                f"{parts.top_k} cells; choose a larger working size"
            )
        self.parts = parts
        self.frame = 0
        self.readout_macs = 0
        self._engines = engines
        self._place_of: dict[int, int] = {}
        self._drawn_in: dict[int, int] = {}
        slots = parts.slots
        self.memory = parts.memory.begin()
        self.bank = MemoryBank(slots, grid_hw, parts.key_dim, objects + 1)
        self.values = ObjectBank(slots, grid_hw, parts.value_dim, objects)
        # The last frame and the next: where the next one fails, the last can still be drawn in.
        self._last, self._next = (
            _Encoded(engines["query_encoder"], parts.stride, work_hw) for _ in range(2)
        )
        self._shares = np.zeros((objects + 1, *work_hw), np.float32)
        self._positions = sine_positions(grid_hw, parts.value_dim)
        self._aligned_key = np.zeros((1, *grid_hw, parts.key_dim), np.float32)

    @property
    def object_ids(self) -> list[int]:
        """Ids that are followed, in the order they were added."""
        return list(self._place_of)

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Height and width of the key grid."""
        return self.bank.grid_hw

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that outlive a frame; only ``draw`` and ``forget`` change it."""
        held = (self.bank, self.values, self._last, self._next)
        arrays = (self._shares, self._positions, self._aligned_key)
        kept = self.parts.memory.count_bytes(self.parts.key_dim)
        return kept + sum(each.nbytes for each in (*held, *arrays))

    def begin(self, lab: Planes, mask: NDArray[np.uint8], objects: list[int]) -> None:
        """Take the first frame and its mask, once.

        Args:
            lab: (H, W, 3) float32 normalised Lab, in the working size.
            mask: (H', W') uint8 object ids, in the frame's own pixels.
            objects: ids that are followed.
        """
        self._place_of = {object_id: place for place, object_id in enumerate(objects)}
        self._drawn_in = dict.fromkeys(objects, 0)
        slot = self.bank.claim(0, lambda stored: True)
        self._encode(slot, lab, {})
        drawn = [_cover(mask == object_id, lab.shape[:2]) for object_id in objects]
        self._shares[1:] = drawn
        self._shares[0] = 1 - self._shares[1:].sum(axis=0)
        self._remember(0, slot, self._next, self._shares)
        self._last, self._next = self._next, self._last

    def advance(self, lab: Planes, timings: Timings) -> None:
        """Take the next frame; where anything fails, the last one stays the last.

        Args:
            lab: (H, W, 3) float32 normalised Lab, in the working size.
            timings: takes each stage's milliseconds.
        """
        frame = self.frame + 1
        slot = self.bank.claim(frame, self._keeps)
        self._encode(slot, lab, timings)
        with timed(timings, "memory"):
            chosen = self.memory.select(frame, self.bank.keys[slot], self._coarse_read(slot))
            slots = [self.bank.slot_of(past) for past in chosen]
        shares = np.ones((1, *lab.shape[:2]), np.float32)
        if self._place_of:
            mixed, local = self._read(frame, slot, slots, timings)
            with timed(timings, "prototypes"):
                features = self._follow_prototypes(mixed, [*slots, local])
            with timed(timings, "segment"):
                shares = self._decode(features)
        with timed(timings, "remember"):
            self._remember(frame, slot, self._next, shares)
        self.frame, self._shares = frame, shares
        self._last, self._next = self._next, self._last

    def decide(self, frame: NDArray[np.uint8]) -> MaskDecision:
        """Find the winning object of every pixel of the last frame.

        Args:
            frame: (H', W', 3) uint8 BGR, that frame in its own pixels.
        """
        labels = np.moveaxis(self._shares, 0, -1)
        channel_of = {object_id: 1 + place for object_id, place in self._place_of.items()}
        upsampler = open_upsampler(frame, labels.shape[:2], edges=self.parts.edges)
        return mask_from_labels(labels, channel_of, upsampler)

    def draw(self, object_id: int, mask: NDArray[np.uint8]) -> None:
        """Follow an object from the last frame on, or correct its mask there; pin that frame.

        Earlier frames in memory learn of it too, but for those in which it was drawn before: its
        values are read back into them from the last frame (our choice). Where a graph fails,
        everything stays as it was.

        Args:
            object_id: 1 to 255.
            mask: (H', W') uint8, 1 where the object is, in the frame's own pixels.
        """
        before = (self._place_of.copy(), self._shares.copy(), deepcopy(self.values))
        labels = self.bank.values.copy()
        if object_id not in self._place_of:
            self._add(object_id)
        place = self._place_of[object_id]
        covered = _cover(mask > 0, self._shares.shape[1:])
        assign_share(np.moveaxis(self._shares, 0, -1), 1 + place, covered)
        slot = self.bank.slot_of(self.frame)
        try:
            self._remember(self.frame, slot, self._last, self._shares)
            self._read_back(place, self._drawn_in.get(object_id, -1))
        except Exception:
            self._place_of, self._shares, self.values = before
            self.bank.values = labels
            self._tell_memory()
            raise
        self._drawn_in[object_id] = self.frame
        self.memory.annotate(self.frame)

    def forget(self, object_id: int) -> None:
        """Follow an object no longer; what it covered becomes background."""
        place = self._place_of.pop(object_id)
        self._drawn_in.pop(object_id, None)
        self._place_of = {other: at - (at > place) for other, at in self._place_of.items()}
        self.values.remove(place)
        self.bank.drop(1 + place)
        self._shares[0] += self._shares[1 + place]
        self._shares = np.delete(self._shares, 1 + place, axis=0)
        self._tell_memory()

    def _tell_memory(self) -> None:
        """Make memory follow a change of all frames' labels."""
        for frame, slot in self._done():
            self.memory.store(frame, self.bank.keys[slot], self.bank.labels[slot])

    def _add(self, object_id: int) -> None:
        self._place_of[object_id] = len(self._place_of)
        self.values.add()
        self.bank.widen(self.bank.channels + 1)
        self._shares = np.concatenate([self._shares, np.zeros_like(self._shares[:1])])

    def _done(self) -> list[tuple[int, int]]:
        """Frames that may still be read, each with its slot."""
        stored = self.bank.stored()
        return [
            (frame, slot) for frame, slot in stored if frame <= self.frame and self._keeps(frame)
        ]

    def _keeps(self, stored: int) -> bool:
        return stored > self.frame - self.parts.interval or self.memory.keeps(stored)

    def _encode(self, slot: int, lab: Planes, timings: Timings) -> None:
        """Write the next frame's key into its slot, and keep its features."""
        with timed(timings, "resize"):
            self._next.image[0] = lab.transpose(2, 0, 1)
        with timed(timings, "encode"):
            out = {"key": self.bank.keys[slot], **self._next.features}
            self._engines["query_encoder"].run({"image": self._next.image}, out)

    def _read(
        self, frame: int, slot: int, slots: Sequence[int], timings: Timings
    ) -> tuple[Planes, int]:
        """Read global and local memory; the mixture, (K, Cv, h, w), and the local slot."""
        query, parts = self.bank.keys[slot], self.parts
        local = self.bank.slot_of(max(0, frame - parts.interval))
        with timed(timings, "readout"):
            read = near = self._attend(query, self.bank.keys, self.values.values, slots)
        key, value = self.bank.keys[local][None], self.values.values[local][None]
        if parts.local == "fam":
            with timed(timings, "align"):
                bent = np.empty_like(value)
                aligned = {"aligned_key": self._aligned_key[0], "aligned_value": bent[0]}
                inputs = {"query": query, "key": key[0], "value": value[0]}
                self._engines["feature_alignment"].run(inputs, aligned)
                key, value = self._aligned_key, bent
        with timed(timings, "readout"):
            if parts.local == "off":
                value = np.zeros_like(value)
            else:
                near = self._attend(query, key, value, [0])
            mixed = np.empty_like(read)
            inputs = {"readout": read, "local_readout": near, "local_value": value[0]}
            self._engines["readout_mix"].run(inputs, {"mixed": mixed})
        frames = len(slots) + (parts.local != "off")
        channels = parts.key_dim + read.shape[0] * parts.value_dim
        self.readout_macs += (query.shape[0] * query.shape[1]) ** 2 * frames * channels
        return mixed, local

    def _attend(self, query: Planes, keys: Planes, values: Planes, slots: Sequence[int]) -> Planes:
        """Read (S, h, w, K, C) values of some slots: (K, C, h, w)."""
        found = np.empty((*values.shape[3:], *query.shape[:2]), np.float32)
        inputs: dict[str, Buffer] = {
            "query": query,
            "keys": keys,
            "values": values,
            "slot_index": np.array(slots, np.int64),
            "slot_valid": np.ones(len(slots), np.float32),
        }
        self._engines["memory_read"].run(inputs, {"readout": found})
        return found

    def _follow_prototypes(self, mixed: Planes, slots: Sequence[int]) -> Planes:
        if not self.parts.prototypes:
            return mixed
        sums, weights = self.values.sum_slots(slots)
        inputs = {"mixed": mixed, "sums": sums, "weights": weights, "positions": self._positions}
        features = np.empty_like(mixed)
        self._engines["prototype_transformer"].run(inputs, {"features": features})
        return features

    def _decode(self, features: Planes) -> Planes:
        """Decode (K, Cv, h, w) features of the next frame to (K + 1, H, W) shares."""
        logits = np.empty((len(features), *self._next.image.shape[2:]), np.float32)
        frame = {name: self._next.features[name] for name in ("content", "f8", "f4")}
        for some in _in_groups(len(features)):
            inputs = {"features": features[some], **frame}
            self._engines["mask_decoder"].run(inputs, {"logits": logits[some]})
        return aggregate_softly(logits)

    def _remember(self, frame: int, slot: int, encoded: _Encoded, shares: Planes) -> None:
        """Encode a frame's objects, of (K + 1, H, W) shares, into its slot."""
        bank, masks = self.values, shares[1:]
        others = 1 - shares[:1] - masks
        for some in _in_groups(len(masks)):
            count = len(masks[some])
            value = np.empty((*self.grid_hw, count, self.parts.value_dim), np.float32)
            inputs: dict[str, Planes] = {
                "image": encoded.image,
                "f16": encoded.features["f16"],
                "masks": masks[some],
                "others": others[some],
            }
            sums = {"sums": bank.sums[slot, some], "weights": bank.weights[slot, some]}
            self._engines["value_encoder"].run(inputs, {"value": value, **sums})
            bank.values[slot, :, :, some] = value
        for channel, share in enumerate(shares):
            self.bank.labels[slot, ..., channel] = cv2.resize(
                share, self.grid_hw[::-1], interpolation=cv2.INTER_AREA
            )
        self.memory.store(frame, self.bank.keys[slot], self.bank.labels[slot])

    def _coarse_read(self, slot: int) -> Callable[[Sequence[int]], Planes]:
        """Read labels at the key grid, for memories that ask."""

        def read(frames: Sequence[int]) -> Planes:
            slots = [self.bank.slot_of(past) for past in frames]
            labels = self.bank.labels[..., None]
            found = self._attend(self.bank.keys[slot], self.bank.keys, labels, slots)
            return np.ascontiguousarray(np.moveaxis(found[:, 0], 0, -1))

        return read

    def _read_back(self, place: int, drawn_in: int) -> None:
        """Give the frames since ``drawn_in`` an object's values, read from the last frame."""
        last = self.bank.slot_of(self.frame)
        values, labels = self.values.values, self.bank.labels
        both = np.concatenate([values[last, ..., place, :], labels[last, ..., 1 + place, None]], -1)
        for frame, slot in self._done():
            if drawn_in < frame < self.frame:
                key = self.bank.keys[last][None]
                found = self._attend(self.bank.keys[slot], key, both[None, ..., None, :], [0])[0]
                values[slot, ..., place, :] = np.moveaxis(found[:-1], 0, -1)
                assign_share(labels[slot], 1 + place, found[-1])
                shares = np.stack([found[-1], 1 - found[-1]])
                self.values.weights[slot, place] = shares.sum(axis=(1, 2))
                self.values.sums[slot, place] = np.tensordot(
                    shares, found[:-1], axes=((1, 2), (1, 2))
                )
                self.memory.store(frame, self.bank.keys[slot], labels[slot])


def _cover(mask: NDArray[np.bool_], work_hw: tuple[int, ...]) -> Planes:
    """Share of each pixel of the working size that a mask covers: (H, W) float32."""
    size = (work_hw[1], work_hw[0])
    smaller = size[0] < mask.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(mask.astype(np.float32), size, interpolation=method), np.float32)


def _in_groups(objects: int) -> list[slice]:
    """Split a number of objects into groups of ``TOGETHER`` at most."""
    return [slice(start, start + TOGETHER) for start in range(0, objects, TOGETHER)]
