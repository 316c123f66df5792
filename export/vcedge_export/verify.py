"""The proof that exported graphs are the model: on each graph, and over a whole clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcedge.evaluation.davis_sequence import score_sequence
from vcedge_export.differences import BOUNDS, Difference, OutputDifference
from vcedge_export.prompt_loop import PromptLoop
from vcedge_runtime.buffers import Buffer, Device, HostArray, host_arrays
from vcedge_runtime.engines.base import Engine, ForwardingEngine
from vcedge_runtime.errors import ExportError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.prompt_composition import PromptComposition
from vcedge_runtime.predictors.finite import NotFiniteError
from vcedge_runtime.tracker import Tracker

OF_FRAMES = ("encoder", "query_encoder")
"""Graphs that are given what hangs on the frame alone."""
OTHERS = (
    {"sampler": "clusters", "fusion": "bidirectional", "memory": "dynamic"},
    {"sampler": "window", "fusion": "mean"},
)
"""Parts that run, one after the other, every graph that a bundle's own composition may not run."""
OTHER_FRAMES = 4
"""Frames on which graphs are compared that the bundle's own composition does not run."""
OnRun = Callable[[str, Mapping[str, HostArray], Mapping[str, HostArray]], None]
OnFrame = Callable[[int, int], None]
Masks = list[NDArray[np.uint8]]


@dataclass(frozen=True)
class TruthClip:
    """Frames with the truth of each, held in memory.

    Attributes:
        label: what it is, for the report.
        frames: (H, W, 3) uint8 BGR each.
        masks: (H, W) uint8 object ids each.
    """

    label: str
    frames: Sequence[NDArray[np.uint8]]
    masks: Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class Verification:
    """What verification measured.

    Attributes:
        clip: what it was measured on.
        frames: how many frames were tracked.
        outputs: per output of each graph, on the inputs that the exported tracker really saw.
        mask_iou: mean IoU of the exported tracker's masks with the model's, and a frame's lowest.
        score_model: J&F of the model over the clip, in a closed loop.
        score_exported: J&F of the exported graphs, in a closed loop of their own.
        max_drop: most J&F that INT8 may lose; what other precisions may differ by is in ``BOUNDS``.
        unreached: graphs that neither the composition runs nor, over the first frames, one with
            every other part; of them nothing is shown.
        score_device: J&F of the exported graphs in a closed loop with memory on their device; None
            where they run on the host.
    """

    clip: str
    frames: int
    outputs: tuple[OutputDifference, ...]
    mask_iou: tuple[float, float]
    score_model: float
    score_exported: float
    max_drop: float = BOUNDS["int8"].score
    unreached: tuple[str, ...] = ()
    score_device: float | None = None

    @property
    def drops(self) -> tuple[float, ...]:
        """J&F that the exported graphs lose, in each loop."""
        scores = (self.score_exported, self.score_device)
        return tuple(self.score_model - score for score in scores if score is not None)

    @property
    def passes(self) -> bool:
        """Whether the bundle is the model."""
        precisions = {output.precision for output in self.outputs}
        if "int8" in precisions:
            close = max(self.drops) <= self.max_drop
        else:
            allowed = max(BOUNDS[each].score for each in precisions)
            close = all(abs(drop) <= allowed for drop in self.drops)
        return close and all(output.passes for output in self.outputs)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values for the manifest."""
        found = {name: value for name, value in asdict(self).items() if value is not None}
        outputs = [output.to_json() for output in self.outputs]
        return {**found, "outputs": outputs, "passes": self.passes}


class _SharedEngine(ForwardingEngine):
    """Runs a graph for several trackers, none of which closes it."""

    def close(self) -> None:
        """Stay open: ``verify_bundle`` closes the graph."""


class _RememberingEngine(_SharedEngine):
    """Runs a graph on the host once where several trackers give it the same inputs in turn."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._inputs: dict[str, HostArray] = {}
        self._outputs: dict[str, HostArray] = {}

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        given, written = (host_arrays(self.spec.name, arrays) for arrays in (inputs, out))
        known = self._inputs
        if not known or not all(np.array_equal(given[name], known[name]) for name in given):
            self._inputs = {}
            self._engine.run(given, written)
            self._outputs = {name: array.copy() for name, array in written.items()}
            self._inputs = {name: array.copy() for name, array in given.items()}
            return
        for name, array in written.items():
            array[...] = self._outputs[name]


class _ComparingEngine(_SharedEngine):
    """Runs the exported graph, and the model on the same inputs."""

    def __init__(
        self, exported: Engine, model: Engine, precision: str, on_run: OnRun | None
    ) -> None:
        super().__init__(exported)
        self._model = model
        self._on_run = on_run
        spec = exported.spec
        # Whole numbers tell which of equally near cells were taken: either may be, and what is read
        # of them is compared.
        self._outputs = {
            tensor.name: Difference(f"{spec.name}.{tensor.name}", precision)
            for tensor in spec.outputs
            if tensor.dtype == "float32"
        }

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        given, written = (host_arrays(self.spec.name, arrays) for arrays in (inputs, out))
        super().run(given, written)
        reference = {name: np.empty_like(array) for name, array in written.items()}
        self._model.run(given, reference)
        if self._on_run is not None:
            self._on_run(self.spec.name, given, reference)
        for name, difference in self._outputs.items():
            difference.add(written[name], reference[name])

    def results(self) -> list[OutputDifference]:
        found = [difference.result() for difference in self._outputs.values()]
        return [result for result in found if result is not None]


def verify_bundle(
    bundle: Bundle,
    exported: Sequence[Mapping[str, Engine]],
    model: Mapping[str, Engine],
    clip: TruthClip,
    *,
    size: int | None = None,
    max_drop: float = BOUNDS["int8"].score,
    device: Device | None = None,
    on_run: OnRun | None = None,
    on_frame: OnFrame = lambda done, frames: None,
) -> list[Verification]:
    """Compare exported graphs with the model on a clip.

    All loops go through the clip side by side, so that the model encodes each frame once.

    Args:
        bundle: the bundle that was exported.
        exported: one or several ways to run it: an engine for each of its graphs; closed here.
        model: an engine for each of the model's modules, under the same names; closed here.
        clip: at least three frames, with truth.
        size: working size; the bundle's default when None.
        max_drop: most J&F that INT8 may lose.
        device: of the exported engines; one more loop then has its memory there, as a tracker has.
        on_run: told each run of a graph of the first way: its name, its inputs, and what the model
            gave.
        on_frame: told how many frames of the clip are done.

    Returns:
        For each way.

    Raises:
        ExportError: the clip is too short.
    """
    if len(clip.frames) < 3:
        raise ExportError(f"received a clip of {len(clip.frames)} frames; expected at least 3")
    with ExitStack() as stack:
        for engine in (e for engines in (*exported, model) for e in engines.values()):
            stack.callback(engine.close)
        source = {
            name: (_RememberingEngine if name in OF_FRAMES else _SharedEngine)(engine)
            for name, engine in model.items()
        }
        comparing = [
            {
                name: _ComparingEngine(engine, source[name], bundle.graphs[name].precision, told)
                for name, engine in engines.items()
            }
            for engines, told in zip_longest(exported, [on_run])
        ]
        run: list[Mapping[str, Engine]] = [*comparing, source]
        trackers = [_open_loop(bundle, engines, clip, size) for engines in run]
        loops = _track_together(trackers, clip, on_frame)
        expected = loops[len(exported)]
        for engines in comparing:
            _run_others(bundle, engines, clip, size)
        found = [
            _judge(clip, masks, expected, engines, max_drop)
            for masks, engines in zip(loops, comparing, strict=False)
        ]
        if device is None or isinstance(bundle.composition, PromptComposition):
            return found
        # On its own: a back-end records runs whose arrays come again.
        shared = {name: _SharedEngine(engine) for name, engine in exported[0].items()}
        [masks] = _track_together([Tracker(bundle, shared, size=size, device=device)], clip)
        on_device = score_sequence(clip.masks, masks).j_and_f
        return [replace(each, score_device=on_device) for each in found]


def _open_loop(
    bundle: Bundle, engines: Mapping[str, Engine], clip: TruthClip, size: int | None
) -> Tracker | PromptLoop:
    """What goes through the clip with a model."""
    if isinstance(bundle.composition, PromptComposition):
        return PromptLoop(bundle, engines, clip.masks)
    return Tracker(bundle, engines, size=size)


def _judge(
    clip: TruthClip,
    masks: Masks,
    expected: Masks,
    comparing: Mapping[str, _ComparingEngine],
    max_drop: float,
) -> Verification:
    results = {name: engine.results() for name, engine in comparing.items()}
    overlaps = [_iou(a, b) for a, b in zip(masks, expected, strict=True)]
    return Verification(
        clip=clip.label,
        frames=len(masks),
        outputs=tuple(row for rows in results.values() for row in rows),
        mask_iou=(float(np.mean(overlaps)), float(np.min(overlaps))),
        score_model=score_sequence(clip.masks, expected).j_and_f,
        score_exported=score_sequence(clip.masks, masks).j_and_f,
        max_drop=max_drop,
        unreached=tuple(name for name, rows in results.items() if not rows),
    )


def _run_others(
    bundle: Bundle, comparing: Mapping[str, _ComparingEngine], clip: TruthClip, size: int | None
) -> None:
    """Run the graphs that only other parts of the composition need, where there are some."""
    parts = bundle.composition
    # A sampler cannot cluster what is not finite.
    finite = not any(row.non_finite for each in comparing.values() for row in each.results())
    if not isinstance(parts, Composition) or not finite:
        return
    first = replace(clip, frames=clip.frames[:OTHER_FRAMES], masks=clip.masks[:OTHER_FRAMES])
    for exchanged in OTHERS:
        if not all(engine.results() for engine in comparing.values()):
            others = replace(bundle, composition=parts.exchange(**exchanged))
            _track_together([Tracker(others, comparing, size=size)], first)


def _track_together(
    trackers: Sequence[Tracker | PromptLoop],
    clip: TruthClip,
    on_frame: OnFrame = lambda done, frames: None,
) -> list[Masks]:
    """Track a clip frame by frame in several trackers from its first mask, and close them.

    Returns:
        Masks of each tracker; the first one is the clip's own.
    """
    frames = len(clip.frames)
    with ExitStack() as stack:
        for tracker in trackers:
            stack.enter_context(tracker)
        found: list[Masks] = [[clip.masks[0]] for _ in trackers]
        begun = [_begins(tracker, clip) for tracker in trackers]
        for done, frame in enumerate(clip.frames[1:], start=1):
            on_frame(done, frames)
            for masks, tracker, begins in zip(found, trackers, begun, strict=True):
                masks.append(tracker.step(frame).mask if begins else clip.masks[0])
    on_frame(frames, frames)
    return found


def _begins(tracker: Tracker | PromptLoop, clip: TruthClip) -> bool:
    """Begin with a clip; False where the first frame has no finite key, as its row will tell."""
    try:
        tracker.start(clip.frames[0], clip.masks[0])
    except NotFiniteError:
        return False
    return True


def _iou(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    union = int(((a > 0) | (b > 0)).sum())
    return 1.0 if union == 0 else int(((a == b) & (a > 0)).sum()) / union
