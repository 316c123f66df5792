"""The tracker: a mask of one frame in, the mask of every later frame out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.bundle import Bundle
from vcedge_runtime.colour import lab_from_bgr
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vcedge_runtime.errors import TrackerError
from vcedge_runtime.memory.bank import MemoryBank
from vcedge_runtime.propagation.labels import (
    LabelReader,
    assign_share,
    labels_from_mask,
    mask_from_labels,
)
from vcedge_runtime.propagation.upsample import CubicUpsampler, EdgeGuide, Upsampler
from vcedge_runtime.video.masks import check_mask

LABEL_STEP = 4
"""Label channels are allocated in steps of this many."""
MAX_OBJECTS = 255


@dataclass(frozen=True)
class StepResult:
    """What one step gives.

    Attributes:
        mask: (H, W) uint8 object ids in the frame's own pixels, 0 the background; the caller's own.
        scores: how sure the tracker is of each object, 0 to 1; 0 for one that is not seen.
        timings_ms: milliseconds of each stage: resize, encode, readout, upsample.
    """

    mask: NDArray[np.uint8]
    scores: dict[int, float]
    timings_ms: dict[str, float]


@dataclass
class _Video:
    """What belongs to one video: it is made by ``start`` and replaced by the next ``start``."""

    frame_hw: tuple[int, int]
    work_hw: tuple[int, int]
    bank: MemoryBank
    reader: LabelReader
    image: NDArray[np.float32]
    frame: int = 0
    annotated: int = 0
    channel_of: dict[int, int] = field(default_factory=dict)
    drawn_in: dict[int, int] = field(default_factory=dict)

    @property
    def slot(self) -> int:
        return self.bank.slot_of(self.frame)


class Tracker:
    """Follows objects through one video at a time.

    Args:
        bundle: the model.
        engines: an engine for each graph, ``encoder`` and ``label_readout``; closed by the tracker.
        size: working size, the short side in pixels; the bundle's default when None.

    Raises:
        TrackerError: the size is smaller than two key cells, or an engine is missing.
    """

    def __init__(
        self, bundle: Bundle, engines: Mapping[str, Engine], *, size: int | None = None
    ) -> None:
        self.bundle = bundle
        self.size = bundle.composition.size if size is None else size
        if self.size < 2 * bundle.composition.stride:
            raise TrackerError(
                f"received a working size of {self.size}; expected at least "
                f"{2 * bundle.composition.stride} pixels"
            )
        missing = {"encoder", "label_readout"} - set(engines)
        if missing:
            raise TrackerError(
                f"bundle {bundle.folder} gives the graphs {sorted(engines)}; expected also "
                f"{sorted(missing)}; export the bundle again"
            )
        self._engines = dict(engines)
        self._video: _Video | None = None

    @classmethod
    def open(
        cls,
        model: str | Path | Bundle = "base-edge",
        *,
        size: int | None = None,
        edges: bool | None = None,
        threads: int = 0,
    ) -> Tracker:
        """Open a shipped model by name, or a bundle's folder, in ONNX Runtime.

        Args:
            model: name, folder, or an opened bundle.
            size: working size, the short side in pixels; the bundle's default when None.
            edges: bring masks to the frame's own edges; the bundle's default when None.
            threads: threads of an engine; 0 lets it choose.

        Raises:
            BundleError: the bundle cannot be read.
            EngineError: a graph cannot be loaded.
            MissingExtraError: onnxruntime is not installed.
        """
        bundle = model if isinstance(model, Bundle) else Bundle.open(model)
        if edges is not None:
            bundle = replace(bundle, composition=replace(bundle.composition, edges=edges))
        engines = {
            name: OnnxRuntimeEngine(bundle.path_of(name), graph.spec, threads=threads)
            for name, graph in bundle.graphs.items()
        }
        return cls(bundle, engines, size=size)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the engines and the memory."""
        for engine in self._engines.values():
            engine.close()
        self._engines = {}
        self._video = None

    @property
    def object_ids(self) -> list[int]:
        """Ids that are followed, in the order they were added."""
        return list(self._current().channel_of)

    @property
    def memory_bytes(self) -> int:
        """Bytes of every array that the tracker holds for this video; no step changes it.

        It depends on the video's shape, the working size and the number of label channels alone.
        """
        video = self._current()
        return video.bank.nbytes + video.reader.nbytes + video.image.nbytes

    def start(self, frame: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
        """Begin a video.

        Args:
            frame: (H, W, 3) uint8, BGR.
            mask: (H, W) uint8 object ids, 0 the background; ids may have gaps.

        Raises:
            MaskError: the mask is empty, of another size or no mask.
            TrackerError: the frame is no frame, or the tracker is closed.
        """
        self._require_open()
        _check_frame(frame)
        ids = check_mask(mask, frame.shape[:2])
        video = self._allocate((frame.shape[0], frame.shape[1]), int(np.unique(ids).size))
        self._video = video
        video.bank.claim(0, lambda stored: True)
        self._encode(video, frame, {})
        for object_id in np.unique(ids[ids > 0]).tolist():
            video.channel_of[object_id] = len(video.channel_of) + 1
            video.drawn_in[object_id] = 0
        video.bank.labels[video.slot] = labels_from_mask(
            ids, video.channel_of, video.bank.grid_hw, video.bank.channels
        )

    def step(self, frame: NDArray[np.uint8]) -> StepResult:
        """Follow the objects into the next frame.

        Args:
            frame: (H, W, 3) uint8, BGR, of the first frame's size.

        Raises:
            TrackerError: ``start`` was not called, or the frame is of another size.
            EngineError: a graph failed.
        """
        video = self._current()
        _check_frame(frame)
        if frame.shape[:2] != video.frame_hw:
            raise TrackerError(
                f"received a frame of {frame.shape[:2]}; expected {video.frame_hw} as in the first "
                "frame; call start() for another video"
            )
        timings: dict[str, float] = {}
        policy = self.bundle.composition.memory
        number = video.frame + 1
        references = [video.bank.slot_of(f) for f in policy.read(number, video.annotated)]
        slot = video.bank.claim(
            number, lambda stored: policy.keeps(stored, number, video.annotated)
        )
        video.frame = number
        self._encode(video, frame, timings)
        with _timed(timings, "readout"):
            video.reader.read(video.bank, slot, references)
        with _timed(timings, "upsample"):
            decision = mask_from_labels(
                video.bank.labels[slot], video.channel_of, self._upsampler(video, frame)
            )
        return StepResult(decision.mask, decision.scores, timings)

    def add_object(self, object_id: int, mask: NDArray[np.uint8]) -> None:
        """Follow one more object from the last frame on, or correct the mask of a known one.

        The last frame stays in long-term memory from now on, in place of the former one. Earlier
        frames in memory learn of the object too, but for those in which it was drawn before.

        Args:
            object_id: 1 to 255.
            mask: (H, W) bool or uint8, not 0 where the object is, in the last frame.

        Raises:
            TrackerError: ``start`` was not called, or the id is not in 1 to 255.
            MaskError: the mask is empty or of another size.
        """
        video = self._current()
        if not 1 <= object_id <= MAX_OBJECTS:
            raise TrackerError(f"received object id {object_id}; expected 1 to {MAX_OBJECTS}")
        binary = (check_mask(mask, video.frame_hw) > 0).astype(np.uint8)
        if object_id not in video.channel_of:
            video.channel_of[object_id] = self._free_channel(video)
        channel = video.channel_of[object_id]
        share = labels_from_mask(binary, {1: 1}, video.bank.grid_hw, 2)[..., 1]
        assign_share(video.bank.labels[video.slot], channel, share)
        self._read_back(video, channel, video.drawn_in.get(object_id, -1))
        video.drawn_in[object_id] = video.annotated = video.frame

    def remove_object(self, object_id: int) -> None:
        """Follow an object no longer; what it covered becomes background.

        Raises:
            TrackerError: the object is not followed.
        """
        video = self._current()
        if object_id not in video.channel_of:
            raise TrackerError(
                f"object {object_id} is not followed; these are: {list(video.channel_of)}"
            )
        channel = video.channel_of.pop(object_id)
        del video.drawn_in[object_id]
        video.bank.labels[..., 0] += video.bank.labels[..., channel]
        video.bank.labels[..., channel] = 0

    def _read_back(self, video: _Video, channel: int, drawn_in: int) -> None:
        """Label the frames since ``drawn_in`` from the current one, in one channel.

        A choice of ours: they show the object without its label, and would outvote the current one.
        """
        for frame, slot in video.bank.stored():
            if drawn_in < frame < video.frame:
                labels = video.bank.labels[slot]
                before = labels.copy()
                video.reader.read(video.bank, slot, [video.slot])
                share = labels[..., channel].copy()
                labels[...] = before
                assign_share(labels, channel, share)

    def _require_open(self) -> None:
        if not self._engines:
            raise TrackerError("the tracker is closed; open another")

    def _current(self) -> _Video:
        self._require_open()
        if self._video is None:
            raise TrackerError("no video has begun; call start(frame, mask) first")
        return self._video

    def _allocate(self, frame_hw: tuple[int, int], kinds: int) -> _Video:
        parts = self.bundle.composition
        work_hw = working_size(frame_hw, self.size, parts.stride)
        grid_hw = (work_hw[0] // parts.stride, work_hw[1] // parts.stride)
        channels = _allocated_channels(kinds)
        reader = LabelReader(
            self._engines["label_readout"], grid_hw, parts.radius, parts.memory.references
        )
        reader.resize(channels)
        bank = MemoryBank(parts.memory.slots, grid_hw, parts.key_dim, channels)
        image = np.zeros((1, 3, *work_hw), np.float32)
        return _Video(frame_hw, work_hw, bank, reader, image)

    def _encode(self, video: _Video, frame: NDArray[np.uint8], timings: dict[str, float]) -> None:
        with _timed(timings, "resize"):
            lab = lab_from_bgr(resize_frame(frame, video.work_hw))
            video.image[0] = lab.transpose(2, 0, 1)
        with _timed(timings, "encode"):
            self._engines["encoder"].run(
                {"image": video.image}, {"key": video.bank.keys[video.slot]}
            )

    def _upsampler(self, video: _Video, frame: NDArray[np.uint8]) -> Upsampler:
        if self.bundle.composition.edges:
            return EdgeGuide(frame, video.bank.grid_hw)
        return CubicUpsampler(video.frame_hw)

    def _free_channel(self, video: _Video) -> int:
        used = set(video.channel_of.values())
        channel = next(c for c in range(1, MAX_OBJECTS + 1) if c not in used)
        if channel >= video.bank.channels:
            channels = _allocated_channels(channel + 1)
            video.bank.widen(channels)
            video.reader.resize(channels)
        return channel


def working_size(frame_hw: tuple[int, int], size: int, stride: int) -> tuple[int, int]:
    """Size in which a frame is encoded: its short side about ``size``, both sides whole key cells.

    Args:
        frame_hw: the frame's height and width.
        size: wanted short side.
        stride: pixels per key cell.
    """
    scale = size / min(frame_hw)
    height, width = (max(2, round(side * scale / stride)) * stride for side in frame_hw)
    return height, width


def resize_frame(frame: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize (H, W, 3) uint8, averaging when it gets smaller."""
    if frame.shape[:2] == size_hw:
        return frame
    smaller = size_hw[0] < frame.shape[0]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame, size_hw[::-1], interpolation=method), np.uint8)


def _allocated_channels(wanted: int) -> int:
    return -(-(wanted + 1) // LABEL_STEP) * LABEL_STEP


def _check_frame(frame: NDArray[np.uint8]) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise TrackerError(
            f"received a frame {frame.dtype}{frame.shape}; expected uint8 (H, W, 3), BGR"
        )


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    timings[stage] = timings.get(stage, 0.0) + 1000 * (time.perf_counter() - began)
