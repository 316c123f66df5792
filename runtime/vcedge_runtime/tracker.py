"""The tracker: a mask of one frame in, the mask of every later frame out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from threading import RLock
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Device
from vcedge_runtime.closing import Closing
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.opening import AUTO, open_engines
from vcedge_runtime.engines.plans import BuildProgress, ignore_progress
from vcedge_runtime.errors import TrackerError
from vcedge_runtime.followed import StepResult, Video
from vcedge_runtime.frames.fitting import Fit, fit_frame
from vcedge_runtime.frames.following import Windows
from vcedge_runtime.frames.resizing import LARGEST_SIZE, check_frame
from vcedge_runtime.model.bundle import DEFAULT_MODEL, Bundle
from vcedge_runtime.predictors.beside import find_beside
from vcedge_runtime.predictors.finite import NotFiniteError
from vcedge_runtime.predictors.opening import open_point_predictor, open_predictor
from vcedge_runtime.predictors.ranges import find_spans
from vcedge_runtime.predictors.requirements import choose_graphs, require_graphs
from vcedge_runtime.predictors.shown import Shown
from vcedge_runtime.products import ONE_THREAD
from vcedge_runtime.propagation.points import check_points
from vcedge_runtime.settings import as_whole, check_overrides, show
from vcedge_runtime.timing import STAGES, timed
from vcedge_runtime.video.masks import check_mask

Given = ParamSpec("Given")
Found = TypeVar("Found")

MAX_OBJECTS = 255
MOST_THREADS = 1024
"""Of an engine; a back-end refuses more in its own way."""


def _alone(
    method: Callable[Concatenate[Tracker, Given], Found],
) -> Callable[Concatenate[Tracker, Given], Found]:
    """Let one thread at a time into a tracker; the others wait. numpy takes no threads besides."""

    @wraps(method)
    def enter(tracker: Tracker, /, *args: Given.args, **kwargs: Given.kwargs) -> Found:
        with tracker._lock, ONE_THREAD.held():
            return method(tracker, *args, **kwargs)

    return enter


class Tracker(Closing):
    """Follows objects through one video at a time.

    Several threads may share it: each call is done whole before the next one begins, in whatever
    order they come, and ``close`` waits for a step that runs. Who wants videos at the same time
    opens a tracker for each, with engines of its own.

    Args:
        bundle: the model.
        engines: an engine for each graph; closed by the tracker.
        size: working size, the short side in pixels; the bundle's default when None.
        device: where the engines want what lives longer than a run; None on the host.
        backend: what runs the engines, for those who ask.

    Attributes:
        bundle: as given.
        size: in which videos are worked on.
        device: as given.
        engines: by graph, none of a closed tracker; others may run them while this one does not.

    Raises:
        TrackerError: the size is no whole number or smaller than two key cells, or an engine is
            missing, or the encoder's lacks the flow that the composition wants.
    """

    def __init__(
        self,
        bundle: Bundle,
        engines: Mapping[str, Engine],
        *,
        size: int | None = None,
        device: Device | None = None,
        backend: str = "",
    ) -> None:
        self.bundle = bundle
        self.backend = backend
        self.size = _check_size(bundle, size)
        require_graphs(bundle, {name: engine.spec for name, engine in engines.items()})
        self.engines: Mapping[str, Engine] = dict(engines)
        self.device = device
        self._video: Video | None = None
        self._lock = RLock()

    @classmethod
    def open(
        cls,
        model: str | Path | Bundle = DEFAULT_MODEL,
        *,
        size: int | None = None,
        overrides: Mapping[str, Any] | None = None,
        threads: int = 0,
        backend: str = AUTO,
        cuda_graphs: bool | None = None,
        tell: Callable[[str], None] = lambda text: None,
        on_progress: Callable[[BuildProgress], None] = ignore_progress,
    ) -> Tracker:
        """Open a shipped model by name, or a bundle's folder.

        Args:
            model: name, folder, or an opened bundle.
            size: working size, the short side in pixels; the bundle's default when None.
            overrides: parts of the model's composition by name, in place of the bundle's own, such
                as ``{"memory": "dynamic", "edges": False}``; None for a part leaves what is. See
                ``Composition.exchange`` and ``ObjectComposition.exchange``.
            threads: threads of an engine on the CPU; 0 lets it choose.
            backend: what runs the graphs, one of ``opening.BACKENDS``; ``auto`` takes what this
                machine runs fastest, and tells why.
            cuda_graphs: whether a GPU's runs are recorded and played again; None as its back-end
                does it: TensorRT where shapes come again, ONNX Runtime not.
            tell: told in words what was chosen and what takes long, such as the build of an engine.
            on_progress: told how far such a build is.

        Raises:
            BundleError: the bundle cannot be read, or there is no such part or kind.
            EngineError: a graph cannot be loaded.
            TrackerError: the size is no whole number or smaller than two key cells, the model
                lacks what is asked of it, or something that is given is of another kind.
            MissingExtraError: the back-end is not installed.
        """
        if not isinstance(model, str | Path | Bundle):
            raise TrackerError(
                f"received {show(model)} as a model; expected a shipped name, a bundle's folder "
                "or an opened bundle"
            )
        workers = as_whole(threads)
        if workers is None or not 0 <= workers <= MOST_THREADS:
            raise TrackerError(
                f"received {show(threads)} threads; expected 0 to {MOST_THREADS}, a whole number"
            )
        bundle = model if isinstance(model, Bundle) else Bundle.open(model)
        parts = bundle.tracking.exchange(**check_overrides(overrides))
        bundle = replace(bundle, composition=parts)
        require_graphs(bundle, {name: graph.spec for name, graph in bundle.graphs.items()})
        _check_size(bundle, size)
        wanted = choose_graphs(parts, bundle.graphs)
        opened = open_engines(
            bundle,
            [name for name in bundle.graphs if name in wanted],
            backend,
            spans=partial(find_spans, parts),
            beside=find_beside(parts),
            threads=workers,
            cuda_graphs=cuda_graphs,
            tell=tell,
            on_progress=on_progress,
        )
        return cls(
            opened.bundle, opened.engines, size=size, device=opened.device, backend=opened.backend
        )

    @_alone
    def close(self) -> None:
        """Release the engines and the memory, after the call that runs; twice does no harm."""
        engines, self.engines, self._video = self.engines, {}, None
        with ExitStack() as stack:
            for engine in engines.values():
                stack.callback(engine.close)

    @property
    @_alone
    def video(self) -> Video:
        """The video that is followed.

        Raises:
            TrackerError: none has begun, or the tracker is closed.
        """
        self._require_open()
        if self._video is None:
            raise TrackerError("no video has begun; call start(frame, mask) first")
        return self._video

    @property
    @_alone
    def object_ids(self) -> list[int]:
        """Ids that are followed, in the order they were added."""
        return self.video.predictor.object_ids

    @property
    @_alone
    def point_names(self) -> list[str]:
        """Names of the points that are followed, in the order they were given."""
        return list(self.video.predictor.point_names)

    @property
    @_alone
    def memory_bytes(self) -> int:
        """Bytes of every array that the tracker holds for this video; no step changes it.

        It depends on the model, the video's shape, the working size and the number of label
        channels alone; with dynamic memory, it is the most that may be held. A GPU's memory counts
        as the host's does; what a back-end takes for itself does not.
        """
        video = self.video
        return video.predictor.memory_bytes + video.shown.nbytes + video.frame.nbytes

    @_alone
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
        check_frame(frame)
        ids = check_mask(mask, frame.shape[:2])
        objects = np.unique(ids[ids > 0]).tolist()
        frame_hw, fit = self._sizes(frame)
        predictor = open_predictor(
            self.bundle, self.engines, fit.work_hw, len(objects), self.device, fit
        )
        parts = self.bundle.tracking
        windows = parts.window.begin(frame_hw, predictor.grid_hw, parts.stride)
        window = windows.begin(ids, objects)
        predictor.look(windows.whole)
        predictor.start(self._prepare(frame, fit), ids, objects)
        if window != windows.whole:
            predictor.look(window)
            predictor.show(self._prepare(frame[window.slices], fit), ids[window.slices])
        kept = frame.copy() if windows.moves else frame[:0, :0].copy()
        self._video = Video(frame_hw, fit, predictor, Shown(ids), windows, kept)

    @_alone
    def start_points(
        self, frame: NDArray[np.uint8], points: Mapping[str, tuple[float, float]]
    ) -> None:
        """Begin a video with named points instead of a mask.

        Args:
            frame: (H, W, 3) uint8, BGR.
            points: x and y of each, in the frame's pixels, whole numbers being pixel centres.

        Raises:
            TrackerError: there is no point, or too many, or one that is nowhere or none; the frame
                is no frame, or the tracker is closed.
        """
        self._require_open()
        check_frame(frame)
        known = check_points(points, MAX_OBJECTS, frame.shape[:2])
        frame_hw, fit = self._sizes(frame)
        predictor = open_point_predictor(
            self.bundle, self.engines, fit.work_hw, tuple(known), self.device
        )
        predictor.start_points(self._prepare(frame, fit), known, frame_hw)
        shown = Shown(np.zeros(frame_hw, np.uint8), known)
        windows = Windows(frame_hw, predictor.grid_hw)
        self._video = Video(frame_hw, fit, predictor, shown, windows, frame[:0, :0].copy())

    @_alone
    def step(self, frame: NDArray[np.uint8]) -> StepResult:
        """Follow the objects or the points into the next frame.

        Where a graph or memory fails, the last frame stays the last, and the next one may be
        stepped. Numbers that are not finite are no failure: the last mask stays, and the result
        says so.

        Args:
            frame: (H, W, 3) uint8, BGR, of the first frame's size.

        Raises:
            TrackerError: ``start`` was not called, or the frame is of another size.
            EngineError: a graph failed.
        """
        video = self.video
        check_frame(frame)
        if frame.shape[:2] != video.frame_hw:
            raise TrackerError(
                f"received a frame of {frame.shape[:2]}; expected {video.frame_hw} as in the first "
                "frame; call start() for another video"
            )
        timings = dict.fromkeys(STAGES, 0.0)
        window = video.windows.choose()
        video.predictor.look(window)
        seen = frame[window.slices]
        with timed(timings, "resize"):
            image = self._prepare(seen, video.fit)
        try:
            video.predictor.step(image, timings)
        except NotFiniteError:
            found = video.shown.show_again(video.predictor.object_ids)
            states = video.windows.states.copy()
            return StepResult(found.mask, found.scores, timings, found.points, states, held=True)
        with timed(timings, "upsample"):
            found = video.predictor.decide(seen)
            video.windows.see(window, found.mask, found.scores)
            if not window.is_whole:
                mask = np.zeros(video.frame_hw, np.uint8)
                mask[window.slices] = found.mask
                found = replace(found, mask=mask)
            if video.windows.moves:
                video.frame[...] = frame
        video.shown.keep(found)
        states = video.windows.states.copy()
        return StepResult(found.mask, found.scores, timings, found.points, states)

    @_alone
    def add_object(self, object_id: int, mask: NDArray[np.uint8]) -> None:
        """Follow one more object from the last frame on, or correct the mask of a known one.

        The last frame stays in long-term memory from now on, in place of the former one. Earlier
        frames in memory learn of the object too, but for those in which it was drawn before.

        Args:
            object_id: 1 to 255, of Python's or numpy's whole numbers.
            mask: (H, W) bool or uint8, not 0 where the object is, in the last frame.

        Raises:
            TrackerError: ``start`` was not called, or the id is no whole number from 1 to 255.
            MaskError: the mask is empty, of another size or no mask.
        """
        video = self.video
        if video.predictor.point_names:
            raise TrackerError("this video began with points; call start() to follow objects")
        known = _check_id(object_id)
        binary = (check_mask(mask, video.frame_hw) > 0).astype(np.uint8)
        windows = deepcopy(video.windows)
        window = windows.include(known, binary)
        if window != video.windows.last:
            seen = self._prepare(video.frame[window.slices], video.fit)
            video.predictor.look_again(seen, window)
            video.windows.last = window
        video.predictor.draw(known, binary[window.slices])
        video.shown.draw(known, binary)
        self._video = replace(video, windows=windows)

    @_alone
    def remove_object(self, object_id: int) -> None:
        """Follow an object no longer; what it covered becomes background.

        Raises:
            TrackerError: the object is not followed, or this is no id.
        """
        video, known = self.video, _check_id(object_id)
        predictor = video.predictor
        if known not in predictor.object_ids:
            raise TrackerError(f"object {known} is not followed; these are: {predictor.object_ids}")
        predictor.forget(known)
        video.shown.forget(known)
        video.windows.forget(known)

    def _require_open(self) -> None:
        if not self.engines:
            raise TrackerError("the tracker is closed; open another")

    def _prepare(self, frame: NDArray[np.uint8], fit: Fit) -> NDArray[np.float32]:
        """The frame as its encoder takes it, (h, w, 3) float32."""
        return fit.prepare(frame, self.bundle.composition.colour)

    def _sizes(self, frame: NDArray[np.uint8]) -> tuple[tuple[int, int], Fit]:
        """The frame's own size, and how it lies in what is encoded."""
        frame_hw, parts = (frame.shape[0], frame.shape[1]), self.bundle.tracking
        # A window that moves lies in whole key cells, as the whole frame then does.
        pads = parts.fit == "pad" and not parts.window.moves
        return frame_hw, fit_frame(frame_hw, self.size, parts.stride, pads=pads)


def _check_size(bundle: Bundle, size: int | None) -> int:
    """The working size, the bundle's own where it is None."""
    chosen = as_whole(bundle.composition.size if size is None else size)
    least = 2 * bundle.composition.stride
    if chosen is None or not least <= chosen <= LARGEST_SIZE:
        raise TrackerError(
            f"received a working size of {show(size)}; expected {least} to {LARGEST_SIZE} pixels, "
            "a whole number"
        )
    return chosen


def _check_id(object_id: int) -> int:
    """An object's id as Python's own int, which JSON can hold."""
    known = as_whole(object_id)
    if known is None or not 1 <= known <= MAX_OBJECTS:
        raise TrackerError(
            f"received object id {show(object_id)}; expected 1 to {MAX_OBJECTS}, a whole number"
        )
    return known
