"""The tracker: a mask of one frame in, the mask of every later frame out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Device
from vcedge_runtime.closing import Closing
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.opening import open_engines, require_graphs
from vcedge_runtime.engines.plans import BuildProgress, ignore_progress
from vcedge_runtime.errors import TrackerError
from vcedge_runtime.frames.resizing import prepare_frame, working_size
from vcedge_runtime.model.bundle import DEFAULT_MODEL, Bundle
from vcedge_runtime.model.composition import Composition, Part
from vcedge_runtime.model.object_composition import ObjectComposition
from vcedge_runtime.predictors.labels import LabelPredictor
from vcedge_runtime.predictors.objects import ObjectPredictor
from vcedge_runtime.propagation.points import (
    PointEstimate,
    labels_from_points,
    points_from_labels,
)
from vcedge_runtime.timing import timed
from vcedge_runtime.video.masks import check_mask

MAX_OBJECTS = 255
STAGES = (
    "resize",
    "flow",
    "upload",
    "encode",
    "values",
    "memory",
    "sample",
    "align",
    "readout",
    "prototypes",
    "segment",
    "download",
    "remember",
    "upsample",
)
"""What a step does, in order; a model does not need to have all of it."""


@dataclass(frozen=True)
class StepResult:
    """What one step gives.

    Attributes:
        mask: (H, W) uint8 object ids in the frame's own pixels, 0 the background; the caller's own.
        scores: how sure the tracker is of each object, 0 to 1; 0 for one that is not seen.
        timings_ms: milliseconds of each stage of ``STAGES``; 0 for one that the model lacks.
        points: where each point is, if the video began with points.
    """

    mask: NDArray[np.uint8]
    scores: dict[int, float]
    timings_ms: dict[str, float]
    points: dict[str, PointEstimate] = field(default_factory=dict)


@dataclass
class _Video:
    """What belongs to one video: it is made by ``start`` and replaced by the next ``start``."""

    frame_hw: tuple[int, int]
    work_hw: tuple[int, int]
    predictor: LabelPredictor | ObjectPredictor
    points: tuple[str, ...] = ()


class Tracker(Closing):
    """Follows objects through one video at a time.

    Args:
        bundle: the model.
        engines: an engine for each graph; closed by the tracker.
        size: working size, the short side in pixels; the bundle's default when None.
        device: where the engines want what lives longer than a run; None on the host.

    Raises:
        TrackerError: the size is smaller than two key cells, or an engine is missing, or the
            encoder's lacks the flow that the composition wants.
    """

    def __init__(
        self,
        bundle: Bundle,
        engines: Mapping[str, Engine],
        *,
        size: int | None = None,
        device: Device | None = None,
    ) -> None:
        self.bundle = bundle
        self.size = _check_size(bundle, size)
        require_graphs(bundle, {name: engine.spec for name, engine in engines.items()})
        self._engines = dict(engines)
        self._device = device
        self._video: _Video | None = None

    @classmethod
    def open(
        cls,
        model: str | Path | Bundle = DEFAULT_MODEL,
        *,
        size: int | None = None,
        edges: bool | None = None,
        motion: bool | None = None,
        value_extraction: bool | None = None,
        memory: str | Part | None = None,
        sampler: str | Part | None = None,
        fusion: str | Part | None = None,
        alignment: str | Part | None = None,
        local: str | None = None,
        interval: int | None = None,
        prototypes: bool | None = None,
        threads: int = 0,
        backend: str = "cpu",
        cuda_graphs: bool | None = None,
        tell: Callable[[str], None] = lambda text: None,
        on_progress: Callable[[BuildProgress], None] = ignore_progress,
    ) -> Tracker:
        """Open a shipped model by name, or a bundle's folder.

        Args:
            model: name, folder, or an opened bundle.
            size: working size, the short side in pixels; the bundle's default when None.
            edges: bring masks to the frame's own edges; the bundle's default when None.
            motion: add optical flow to the frames (MER), likewise.
            value_extraction: refine keys by the value extraction (MER), likewise.
            memory: which frames are read: a kind such as ``dynamic``, with its default settings
                unless it is the bundle's own, or settings; the bundle's when None.
            sampler: where in them a cell looks, likewise.
            fusion: how what was read becomes one label, likewise.
            alignment: whether and how windows follow the objects, likewise.
            local: what becomes of SRNet's local memory, ``fam``, ``raw`` or ``off``, likewise.
            interval: distance of its frame, likewise.
            prototypes: whether SRNet's prototype transformer runs, likewise.
            threads: threads of an engine on the CPU; 0 lets it choose.
            backend: what runs the graphs, one of ``opening.BACKENDS``.
            cuda_graphs: whether a GPU's runs are recorded and played again; None as its back-end
                does it: TensorRT where shapes come again, ONNX Runtime not.
            tell: told in words what takes long, such as the build of an engine.
            on_progress: told how far such a build is.

        Raises:
            BundleError: the bundle cannot be read, or there is no such kind.
            EngineError: a graph cannot be loaded.
            TrackerError: the size is smaller than two key cells, or the model lacks what is asked
                of it.
            MissingExtraError: the back-end is not installed.
        """
        bundle = model if isinstance(model, Bundle) else Bundle.open(model)
        parts = bundle.composition.exchange(
            edges=edges,
            motion=motion,
            value_extraction=value_extraction,
            memory=memory,
            sampler=sampler,
            fusion=fusion,
            alignment=alignment,
            local=local,
            interval=interval,
            prototypes=prototypes,
        )
        bundle = replace(bundle, composition=parts)
        require_graphs(bundle, {name: graph.spec for name, graph in bundle.graphs.items()})
        _check_size(bundle, size)
        names = [name for name in bundle.graphs if name in parts.graphs]
        engines, device = open_engines(
            bundle,
            names,
            backend,
            threads=threads,
            cuda_graphs=cuda_graphs,
            tell=tell,
            on_progress=on_progress,
        )
        return cls(bundle, engines, size=size, device=device)

    def close(self) -> None:
        """Release the engines and the memory."""
        engines, self._engines, self._video = self._engines, {}, None
        with ExitStack() as stack:
            for engine in engines.values():
                stack.callback(engine.close)

    @property
    def object_ids(self) -> list[int]:
        """Ids that are followed, in the order they were added."""
        return self._current().predictor.object_ids

    @property
    def point_names(self) -> list[str]:
        """Names of the points that are followed, in the order they were given."""
        return list(self._current().points)

    @property
    def memory_bytes(self) -> int:
        """Bytes of every array that the tracker holds for this video; no step changes it.

        It depends on the model, the video's shape, the working size and the number of label
        channels alone; with dynamic memory, it is the most that may be held. A GPU's memory counts
        as the host's does; what a back-end takes for itself does not.
        """
        return self._current().predictor.nbytes

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
        objects = np.unique(ids[ids > 0]).tolist()
        frame_hw, work_hw = self._sizes(frame)
        predictor = self._open_predictor(work_hw, len(objects))
        predictor.begin(self._prepare(frame, work_hw), ids, objects)
        self._video = _Video(frame_hw, work_hw, predictor)

    def start_points(
        self, frame: NDArray[np.uint8], points: Mapping[str, tuple[float, float]]
    ) -> None:
        """Begin a video with named points instead of a mask.

        Args:
            frame: (H, W, 3) uint8, BGR.
            points: x and y of each, in the frame's pixels, whole numbers being pixel centres.

        Raises:
            TrackerError: there is no point, or too many, or one that is nowhere; the frame is no
                frame, or the tracker is closed.
        """
        self._require_open()
        _check_frame(frame)
        if not 1 <= len(points) <= MAX_OBJECTS or not np.isfinite(list(points.values())).all():
            raise TrackerError(
                f"received {len(points)} points; expected 1 to {MAX_OBJECTS}, each with a finite "
                "x and y in the frame's pixels"
            )
        parts = self.require_points()
        frame_hw, work_hw = self._sizes(frame)
        predictor = LabelPredictor(
            parts, self._engines, work_hw, len(points), points=True, device=self._device
        )
        drawn = labels_from_points(points, frame_hw, predictor.grid_hw)
        predictor.begin_labels(self._prepare(frame, work_hw), drawn)
        self._video = _Video(frame_hw, work_hw, predictor, tuple(points))

    def require_points(self) -> Composition:
        """The composition, of a model that can follow points.

        Raises:
            TrackerError: the model follows masks alone.
        """
        parts = self.bundle.composition
        if not isinstance(parts, Composition):
            raise TrackerError(
                f"model {self.bundle.name} follows masks alone; open a model that propagates "
                "labels, such as mer-edge"
            )
        return parts

    def step(self, frame: NDArray[np.uint8]) -> StepResult:
        """Follow the objects or the points into the next frame.

        Where it fails, the last frame stays the last, and the next one may be stepped.

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
        timings = dict.fromkeys(STAGES, 0.0)
        with timed(timings, "resize"):
            image = self._prepare(frame, video.work_hw)
        predictor = video.predictor
        predictor.advance(image, timings)
        with timed(timings, "upsample"):
            if video.points and isinstance(predictor, LabelPredictor):
                labels = predictor.labels[..., : 1 + len(video.points)]
                found = points_from_labels(labels, video.frame_hw)
                points = dict(zip(video.points, found, strict=True))
                return StepResult(np.zeros(video.frame_hw, np.uint8), {}, timings, points)
            decision = predictor.decide(frame)
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
        if video.points:
            raise TrackerError("this video began with points; call start() to follow objects")
        if not 1 <= object_id <= MAX_OBJECTS:
            raise TrackerError(f"received object id {object_id}; expected 1 to {MAX_OBJECTS}")
        binary = (check_mask(mask, video.frame_hw) > 0).astype(np.uint8)
        video.predictor.draw(object_id, binary)

    def remove_object(self, object_id: int) -> None:
        """Follow an object no longer; what it covered becomes background.

        Raises:
            TrackerError: the object is not followed.
        """
        video = self._current()
        if object_id not in video.predictor.object_ids:
            raise TrackerError(
                f"object {object_id} is not followed; these are: {video.predictor.object_ids}"
            )
        video.predictor.forget(object_id)

    def _require_open(self) -> None:
        if not self._engines:
            raise TrackerError("the tracker is closed; open another")

    def _current(self) -> _Video:
        self._require_open()
        if self._video is None:
            raise TrackerError("no video has begun; call start(frame, mask) first")
        return self._video

    def _prepare(self, frame: NDArray[np.uint8], work_hw: tuple[int, int]) -> NDArray[np.float32]:
        """The frame as its encoder takes it, (h, w, 3) float32."""
        return prepare_frame(frame, work_hw, self.bundle.composition.colour)

    def _sizes(self, frame: NDArray[np.uint8]) -> tuple[tuple[int, int], tuple[int, int]]:
        """The frame's own size, and that in which it is encoded."""
        frame_hw = (frame.shape[0], frame.shape[1])
        return frame_hw, working_size(frame_hw, self.size, self.bundle.composition.stride)

    def _open_predictor(
        self, work_hw: tuple[int, int], objects: int
    ) -> LabelPredictor | ObjectPredictor:
        parts = self.bundle.composition
        if isinstance(parts, ObjectComposition):
            return ObjectPredictor(parts, self._engines, work_hw, objects, self._device)
        return LabelPredictor(parts, self._engines, work_hw, objects, device=self._device)


def _check_size(bundle: Bundle, size: int | None) -> int:
    """The working size, the bundle's own where it is None."""
    chosen, least = bundle.composition.size if size is None else size, 2 * bundle.composition.stride
    if chosen < least:
        raise TrackerError(f"received a working size of {chosen}; expected at least {least} pixels")
    return chosen


def _check_frame(frame: NDArray[np.uint8]) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise TrackerError(
            f"received a frame {frame.dtype}{frame.shape}; expected uint8 (H, W, 3), BGR"
        )
