"""One video's labels, frame by frame: encode, refine, choose frames, sample, read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import replace
from itertools import count

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Block, Device, fetch_block, push_blocks
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.frames.motion import FlowEstimator, FlowScale
from vcedge_runtime.frames.windows import Window
from vcedge_runtime.memory.bank import MemoryBank
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.predictors.branches import LabelPropagation
from vcedge_runtime.predictors.finite import require_finite
from vcedge_runtime.predictors.point_following import PointFollower
from vcedge_runtime.predictors.protocol import everything_or_nothing
from vcedge_runtime.predictors.reader import TileReader
from vcedge_runtime.predictors.refining import KeyRefiner
from vcedge_runtime.predictors.requirements import count_reach, takes_flow
from vcedge_runtime.propagation.fusion import BidirectionalFusion, Fusion
from vcedge_runtime.propagation.labels import (
    Decision,
    assign_share,
    clear_traces,
    labels_from_mask,
    mask_from_labels,
)
from vcedge_runtime.propagation.points import labels_from_points
from vcedge_runtime.propagation.upsample import open_upsampler
from vcedge_runtime.sampling.alignment import AlignmentSettings, ObjectAligner
from vcedge_runtime.sampling.regions import RegionSettings, enhance, enhance_labels
from vcedge_runtime.sampling.sampling import RegionSampler, Sampling, open_sampler
from vcedge_runtime.timing import Timings, timed

LABEL_STEP = 4
"""Label channels are allocated in steps of this many."""


class LabelPredictor:
    """Labels of one video on its key grid; see ``PointPredictor``.

    Args:
        parts: the composition.
        engines: by name; the caller closes them.
        work_hw: height and width in which frames are encoded, whole key cells.
        objects: how many are followed to begin with.
        points: names of the points of one body that labels are instead of objects.
        device: of the engines; None where they run on the host.

    Attributes:
        bank: the memory; ``labels`` writes through ``settle`` alone.
        frame: number of the last frame that is done.
        readout_macs: multiply-accumulates of all readouts so far, without those of ``memory``.
    """

    def __init__(
        self,
        parts: Composition,
        engines: Mapping[str, Engine],
        work_hw: tuple[int, int],
        objects: int,
        *,
        points: Sequence[str] = (),
        device: Device | None = None,
    ) -> None:
        grid_hw = (work_hw[0] // parts.stride, work_hw[1] // parts.stride)
        self.parts = parts
        self.frame = 0
        self.readout_macs = 0
        self._annotated = 0
        self._engines = engines
        self._channel_of: dict[int, int] = {}
        self._drawn_in: dict[int, int] = {}
        fusion = parts.fusion
        both_ways = isinstance(fusion, BidirectionalFusion)
        self._etas = _enhancement(fusion)
        slots, references = parts.slots, parts.memory.references
        self.bank = MemoryBank(
            slots,
            grid_hw,
            parts.key_dim,
            count_channels(objects),
            refined=parts.value_extraction,
            colours=both_ways,
            enhanced=self._etas is not None,
            device=device,
        )
        self._image = Block((1, 3, *work_hw), device)
        self._flow_image = (
            Block(self._image.host.shape, device) if takes_flow(engines["encoder"].spec) else None
        )
        self._flow = FlowEstimator(FlowScale(parts.flow_scale, parts.stride), parts.colour)
        self._points = PointFollower(points, parts.colour, parts.stride, flow=parts.point_flow)
        self._refiner = (
            KeyRefiner(engines["value_extraction"], self.bank, device)
            if parts.value_extraction
            else None
        )
        self.memory = parts.memory.begin()
        self._plain = Sampling(parts.radius)
        self._sampler = open_sampler(parts.sampler, parts.radius, slots, grid_hw, parts.key_dim)
        needed = isinstance(fusion, BidirectionalFusion) and fusion.needs_regions
        self._regions = self._open_regions(slots, grid_hw) if needed else None
        self._aligner = (
            ObjectAligner(parts.alignment, slots, grid_hw, parts.key_dim, joined=bool(points))
            if isinstance(parts.alignment, AlignmentSettings)
            else None
        )
        reach = count_reach(parts, engines)
        reader = TileReader(engines, grid_hw, reach, references, device=device)
        reader.resize(self.bank.values.shape[-1])
        self.propagation = LabelPropagation(reader, self.bank, parts.fusion)

    @property
    def point_names(self) -> Sequence[str]:
        """Names of the points, if labels are points."""
        return self._points.names

    @property
    def slot(self) -> int:
        """Slot of the last frame that is done."""
        return self.bank.slot_of(self.frame)

    @property
    def labels(self) -> NDArray[np.float32]:
        """(h, w, L) float32 soft labels of the last frame; a view; after a change, ``settle``."""
        labels: NDArray[np.float32] = self.bank.labels[self.slot]
        return labels

    def done(self) -> list[tuple[int, int]]:
        """Frames in memory that are done, each with its slot."""
        known = [pair for pair in self.bank.stored() if pair[0] <= self.frame]
        return [(f, slot) for f, slot in known if f == self.frame or self.memory.keeps(f)]

    @property
    def memory_bytes(self) -> int:
        """Bytes of all arrays, at most; no frame changes it."""
        held = (
            self.bank,
            self.propagation.reader,
            self._image,
            self._flow_image,
            self._points,
            self._refiner,
            self._sampler,
            self._aligner,
            self._regions if self._regions is not self._sampler else None,
        )
        # The flow keeps the last frame's lightness, a byte a pixel.
        lightness = self._image.host.nbytes // 12 if self.parts.motion else 0
        kept = self.parts.memory.count_bytes(self.parts.key_dim)
        return sum(part.nbytes for part in held if part is not None) + lightness + kept

    @property
    def object_ids(self) -> list[int]:
        """Ids that are followed, in the order they were added."""
        return list(self._channel_of)

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Height and width of the key grid."""
        return self.bank.grid_hw

    @property
    def label_hw(self) -> tuple[int, int]:
        """Those of the key grid."""
        return self.bank.grid_hw

    def look(self, window: Window) -> None:
        """Every window is the whole frame: ``Composition`` has no other."""

    def look_again(self, image: NDArray[np.float32], window: Window) -> None:
        """See ``look``."""

    def show(self, image: NDArray[np.float32], mask: NDArray[np.uint8]) -> None:
        """See ``look``."""

    def start(
        self, image: NDArray[np.float32], mask: NDArray[np.uint8], objects: list[int]
    ) -> None:
        """Take the first frame and its mask."""
        self._channel_of = {object_id: c for c, object_id in enumerate(objects, start=1)}
        self._drawn_in = dict.fromkeys(objects, 0)
        bank = self.bank
        self._start(image, labels_from_mask(mask, self._channel_of, bank.grid_hw, bank.channels))

    def start_points(
        self,
        image: NDArray[np.float32],
        points: Mapping[str, tuple[float, float]],
        frame_hw: tuple[int, int],
    ) -> None:
        """Take the first frame and where its points are."""
        self._start(image, labels_from_points(points, frame_hw, self.grid_hw))
        self._points.start(image, points, frame_hw)

    def _start(self, image: NDArray[np.float32], labels: NDArray[np.float32]) -> None:
        """Take the first frame and its (h, w, l) labels, l at most L."""
        slot = self.bank.claim(0, lambda stored: True)
        self._flow = self._encode(0, slot, image, {})
        self._look(slot)
        self.bank.labels[slot, ..., : labels.shape[-1]] = labels
        self.settle(0)
        self._sampler.keep()

    def step(self, image: NDArray[np.float32], timings: Timings) -> None:
        """Take the next frame; where anything fails, the last one stays the last."""
        bank, frame = self.bank, self.frame + 1
        slot = bank.claim(frame, self.memory.keeps)
        flow = self._encode(frame, slot, image, timings)
        with timed(timings, "memory"):
            chosen = self.memory.select(frame, bank.keys[slot], self._coarse_read(slot))
        references = [bank.slot_of(past) for past in chosen]
        if self._refiner and self.parts.value_frames == "target":
            self._refiner.refine(frame, self._annotated, references, timings)
        with timed(timings, "sample"):
            self._look(slot)
            sampling = self._sampler.sample(slot, references, bank.keys)
            if self._regions is not None:
                sampling = replace(sampling, regions=self._regions.match(slot, references))
        with timed(timings, "align"):
            sampling = self._follow(sampling, references)
        with timed(timings, "readout"):
            before = self.propagation.reader.macs
            bank.labels[slot] = self.propagation.read(slot, references, sampling)
            clear_traces(bank.labels[slot])
            self.readout_macs += self.propagation.reader.macs - before
        points = copy(self._points)
        if self.point_names:
            with timed(timings, "flow"):
                points.step(image, bank.labels[slot])
        with timed(timings, "memory"):
            self._keep(frame, slot)
        self._sampler.keep()
        self.frame, self._flow, self._points = frame, flow, points

    def decide(self, frame: NDArray[np.uint8]) -> Decision:
        """Find the winning object of every pixel of the last frame, or every point."""
        if self.point_names:
            frame_hw = (frame.shape[0], frame.shape[1])
            points = self._points.find(self.labels, frame_hw)
            return Decision(np.zeros(frame_hw, np.uint8), {}, points)
        upsampler = open_upsampler(frame, self.bank.grid_hw, edges=self.parts.edges)
        return mask_from_labels(self.labels, self._channel_of, upsampler)

    def draw(self, object_id: int, mask: NDArray[np.uint8]) -> None:
        """Follow an object from the last frame on, or correct its mask there; pin that frame.

        Earlier frames in memory learn of it too, but for those in which it was drawn before.
        """
        share = labels_from_mask(mask, {1: 1}, self.bank.grid_hw, 2)[..., 1]
        with everything_or_nothing(self._save()):
            if object_id not in self._channel_of:
                self._channel_of[object_id] = self._free_channel()
            channel = self._channel_of[object_id]
            assign_share(self.labels, channel, share)
            self.settle(self.frame)
            self._read_back(channel, self._drawn_in.get(object_id, -1))
            self._drawn_in[object_id] = self._annotated = self.frame
            self.memory.annotate(self.frame)

    def forget(self, object_id: int) -> None:
        """Follow an object no longer; what it covered becomes background."""
        with everything_or_nothing(self._save()):
            channel = self._channel_of.pop(object_id)
            del self._drawn_in[object_id]
            for frame, slot in self.done():
                labels = self.bank.labels[slot]
                labels[..., 0] += labels[..., channel]
                labels[..., channel] = 0
                self.settle(frame)

    def _save(self) -> Callable[[], None]:
        """What puts back all that a change of objects changes; it takes no memory of a device."""
        channels, drawn, annotated = self._channel_of.copy(), self._drawn_in.copy(), self._annotated
        memory, values = deepcopy(self.memory), self.bank.save_values()

        def restore() -> None:
            self._channel_of, self._drawn_in, self._annotated = channels, drawn, annotated
            self.memory = memory
            values()
            self.propagation.reader.resize(self.bank.values.shape[-1])

        return restore

    def _read_back(self, channel: int, drawn_in: int) -> None:
        """Label the frames since ``drawn_in`` from the last one, in one channel.

        A choice of ours: they show the object without its label, and would outvote the last one.
        """
        for frame, slot in self.done():
            if drawn_in < frame < self.frame:
                share = self.propagation.read_plainly(slot, [self.slot], self._plain)[..., channel]
                assign_share(self.bank.labels[slot], channel, share)
                self.settle(frame)

    def _free_channel(self) -> int:
        used = set(self._channel_of.values())
        channel = next(c for c in count(1) if c not in used)
        if channel >= self.bank.channels:
            self.bank.widen(count_channels(channel))
            self.propagation.reader.resize(self.bank.values.shape[-1])
        return channel

    def settle(self, frame: int) -> None:
        """Make everything that hangs on a frame's labels follow a change of them."""
        slot = self.bank.slot_of(frame)
        clear_traces(self.bank.labels[slot])
        self._keep(frame, slot)

    def _open_regions(self, slots: int, grid_hw: tuple[int, int]) -> RegionSampler:
        """Regions by which keys and labels are enhanced: the sampler's own where it has some."""
        if isinstance(self._sampler, RegionSampler):
            return self._sampler
        parts = self.parts
        return RegionSampler(RegionSettings(), parts.radius, slots, grid_hw, parts.key_dim)

    def _encode(
        self, frame: int, slot: int, image: NDArray[np.float32], timings: Timings
    ) -> FlowEstimator:
        """Write the frame's key and colours into its slot; return the flow's next state."""
        inputs, flow = {"image": self._image.shared}, copy(self._flow)
        if self._flow_image is not None:
            inputs["flow"] = self._flow_image.shared
        with timed(timings, "resize"):
            self._image.host[0] = image.transpose(2, 0, 1)
            colours = self.bank.colours[slot]
            if colours.size:
                size = self.bank.grid_hw[::-1]
                colours[:] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        if self._flow_image is not None and self.parts.motion:
            with timed(timings, "flow"):
                flow.step(image, out=self._flow_image.host[0])
        push_blocks([self._image, self._flow_image], timings)
        with timed(timings, "encode"):
            self._engines["encoder"].run(inputs, {"key": self.bank.raw_keys[slot]})
        if self._refiner:
            self._refiner.refine(frame, self._annotated, [slot], timings)
        else:
            fetch_block(self.bank.key_block, timings, slot)
        require_finite(self.bank.keys[slot], "keys")
        return flow

    def _look(self, slot: int) -> None:
        key = self.bank.keys[slot]
        self._sampler.look(slot, key)
        if self._aligner is not None:
            self._aligner.look(slot, key)
        if self._regions is not None and self._regions is not self._sampler:
            self._regions.look(slot, key)
        if self._regions is None or self._etas is None:
            return
        regions = self._regions.regions_of(slot)
        self.bank.enhanced_keys[slot] = enhance(key, regions, self._etas[0])
        self.bank.enhanced_key_block.push(slot)

    def _follow(self, sampling: Sampling, references: Sequence[int]) -> Sampling:
        """Let windows follow the objects, where the composition wants it."""
        if self._aligner is None:
            return sampling
        shifts = self._aligner.align(references, self.bank.keys, self.bank.labels)
        return replace(sampling, shifts=shifts)

    def _keep(self, frame: int, slot: int) -> None:
        """Hand a frame whose labels are done to memory, enhanced too."""
        bank = self.bank
        if self._regions is not None and self._etas is not None:
            regions = self._regions.regions_of(slot)
            values = enhance_labels(bank.values[slot], regions.ids, self._etas[1])
            bank.enhanced_values[slot] = values
            clear_traces(bank.enhanced_values[slot, ..., -bank.channels :])
            bank.enhanced_value_block.push(slot)
        bank.value_block.push(slot)
        self.memory.store(frame, bank.keys[slot], bank.labels[slot])

    def _coarse_read(self, slot: int) -> Callable[[Sequence[int]], NDArray[np.float32]]:
        def read(frames: Sequence[int]) -> NDArray[np.float32]:
            slots = [self.bank.slot_of(past) for past in frames]
            return self.propagation.read_plainly(slot, slots, self._plain)

        return read


def count_channels(objects: int) -> int:
    """Label channels that are allocated for some objects: the background's and spare ones too."""
    return -(-(objects + 2) // LABEL_STEP) * LABEL_STEP


def _enhancement(fusion: Fusion) -> tuple[float, float] | None:
    """How much regions enhance keys and labels of memory; None where no branch asks for it."""
    if isinstance(fusion, BidirectionalFusion) and "forward" in fusion.branches:
        return fusion.eta, fusion.eta_labels if fusion.enhanced == "memory" else 0.0
    return None
