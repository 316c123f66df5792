"""The proof that exported graphs are the model: on each graph, and over a whole clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcedge.evaluation.davis_sequence import score_sequence
from vcedge_runtime.buffers import Buffer, HostArray, host_arrays
from vcedge_runtime.engines.base import Engine, ForwardingEngine
from vcedge_runtime.errors import ExportError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.propagation.reader import EMPTY_LOGIT
from vcedge_runtime.tracker import Tracker

OTHER_FRAMES = 4
"""Frames on which graphs are compared that the bundle's own composition does not run."""
OnRun = Callable[[str, Mapping[str, HostArray], Mapping[str, HostArray]], None]


@dataclass(frozen=True)
class Bounds:
    """How far an exported graph may be from the model (our choice).

    Attributes:
        largest: error of an output, as a share of its largest magnitude.
        mean: likewise, over all of the output.
        score: J&F over a clip.
    """

    largest: float
    mean: float
    score: float


BOUNDS = {
    # Convolutions sum in another order: 1e-4 is usual, a defect is above 1e-2.
    "fp32": Bounds(1e-3, 1e-3, 0.002),
    # FP16 rounds by 5e-4; measured on the shipped models: 2.3e-3 and 1.6e-4.
    "fp16": Bounds(2e-2, 2e-3, 0.003),
    # A step of 8 bits is 4e-3 of the range; single values may be clipped. Measured: means of 9e-3.
    "int8": Bounds(1.0, 5e-2, 0.01),
}
"""By precision; a bundle's score may differ by what the coarsest of its graphs may."""
SELECTING = {"memory_read.readout": 0.1}
"""Largest error of an output that hangs on which cells are the k nearest, in any precision, as a
share of the magnitude: where two are as near to the last bit, either may be taken. Of k = 20 the
last has a twentieth of the weight at most, and such cells are rare: of the mean error, which was
2e-8, a hundredth of the bound is allowed."""


def bounds_of(tensor: str, precision: str) -> Bounds:
    """How far an output, ``graph.output``, may be off in a precision."""
    bounds = BOUNDS[precision]
    if tensor not in SELECTING:
        return bounds
    return replace(bounds, largest=SELECTING[tensor], mean=bounds.mean / 100)


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
class OutputDifference:
    """How far one output of a graph is from the model's, over all frames.

    Attributes:
        tensor: graph and output.
        precision: of the graph.
        largest: error.
        mean: error.
        median: error, of the run where it is largest.
        magnitude: largest of the model's output.
        cosine: of both outputs.
        non_finite: values that are NaN or infinite in either.
    """

    tensor: str
    precision: str
    largest: float
    mean: float
    median: float
    magnitude: float
    cosine: float
    non_finite: int

    @property
    def passes(self) -> bool:
        """Whether the output is the model's."""
        return self.non_finite == 0 and self.share_of_bound <= 1

    @property
    def share_of_bound(self) -> float:
        """Its error over what it may be: of the largest and the mean, the larger share."""
        if self.largest == 0:
            return 0.0
        bounds = bounds_of(self.tensor, self.precision)
        share = max(self.largest / bounds.largest, self.mean / bounds.mean)
        return share / self.magnitude if self.magnitude else float("inf")


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
    """

    clip: str
    frames: int
    outputs: tuple[OutputDifference, ...]
    mask_iou: tuple[float, float]
    score_model: float
    score_exported: float
    max_drop: float = BOUNDS["int8"].score
    unreached: tuple[str, ...] = ()

    @property
    def drop(self) -> float:
        """J&F that the exported graphs lose."""
        return self.score_model - self.score_exported

    @property
    def passes(self) -> bool:
        """Whether the bundle is the model."""
        precisions = {output.precision for output in self.outputs}
        if "int8" in precisions:
            close = self.drop <= self.max_drop
        else:
            close = abs(self.drop) <= max(BOUNDS[each].score for each in precisions)
        return close and all(output.passes for output in self.outputs)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values for the manifest."""
        return {**asdict(self), "passes": self.passes}


class _Difference:
    """Sums up how far one output is from the model's, run by run."""

    def __init__(self, tensor: str, precision: str) -> None:
        self._tensor = tensor
        self._precision = precision
        self._sums = np.zeros(5)
        self._largest = self._magnitude = self._median = 0.0
        self._non_finite = 0

    def add(self, output: HostArray, model_output: HostArray) -> None:
        """Compare; where both are masked logits, their values mean nothing."""
        masked = (output < EMPTY_LOGIT) & (model_output < EMPTY_LOGIT)
        found, expected = (a[~masked].astype(np.float64) for a in (output, model_output))
        error = np.abs(found - expected)
        self._largest = float(error.max(initial=self._largest))
        if error.size:
            self._median = max(self._median, float(np.median(error)))
        self._magnitude = float(np.abs(expected).max(initial=self._magnitude))
        self._non_finite += int((~np.isfinite(error)).sum())
        squares = [(found * expected).sum(), (found**2).sum(), (expected**2).sum()]
        self._sums += [error.sum(), error.size, *squares]

    def result(self) -> OutputDifference | None:
        """Sum up; None for an output that no run wrote."""
        total, count, product, found, expected = self._sums
        if count == 0:
            return None
        return OutputDifference(
            tensor=self._tensor,
            precision=self._precision,
            largest=self._largest,
            mean=total / count,
            median=self._median,
            magnitude=self._magnitude,
            # Of zeros there is no direction: the largest error tells whether both are.
            cosine=product / np.sqrt(found * expected) if found * expected else 1.0,
            non_finite=self._non_finite,
        )


class _ComparingEngine(ForwardingEngine):
    """Runs the exported graph, and the model on the same inputs."""

    def __init__(
        self, exported: Engine, model: Engine, precision: str, on_run: OnRun | None
    ) -> None:
        super().__init__(exported)
        self._model = model
        self._on_run = on_run
        spec = exported.spec
        self._outputs = {
            t.name: _Difference(f"{spec.name}.{t.name}", precision) for t in spec.outputs
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

    def close(self) -> None:
        """Stay open for the next tracker: ``verify_bundle`` closes the graph."""


def verify_bundle(
    bundle: Bundle,
    exported: Mapping[str, Engine],
    model: Mapping[str, Engine],
    clip: TruthClip,
    size: int | None = None,
    max_drop: float = BOUNDS["int8"].score,
    on_run: OnRun | None = None,
) -> Verification:
    """Compare exported graphs with the model on a clip.

    Args:
        bundle: the bundle that was exported.
        exported: an engine for each of its graphs; closed here.
        model: an engine for each of the model's modules, under the same names.
        clip: at least three frames, with truth.
        size: working size; the bundle's default when None.
        max_drop: most J&F that INT8 may lose.
        on_run: told each run of a graph: its name, its inputs, and what the model gave.

    Raises:
        ExportError: the clip is too short.
    """
    if len(clip.frames) < 3:
        raise ExportError(f"received a clip of {len(clip.frames)} frames; expected at least 3")
    comparing = {
        name: _ComparingEngine(exported[name], model[name], bundle.graphs[name].precision, on_run)
        for name in exported
    }
    with ExitStack() as stack:
        for engine in exported.values():
            stack.callback(engine.close)
        masks = track_clip(Tracker(bundle, comparing, size=size), clip)
        if not any(row.non_finite for each in comparing.values() for row in each.results()):
            _run_others(bundle, comparing, clip, size)
    expected = track_clip(Tracker(bundle, model, size=size), clip)
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
    bundle: Bundle, comparing: Mapping[str, Engine], clip: TruthClip, size: int | None
) -> None:
    """Run the graphs that only other parts of the composition need, where there are some."""
    parts = bundle.composition
    if isinstance(parts, Composition) and set(comparing) > parts.graphs:
        parts = parts.exchange(sampler="clusters", fusion="bidirectional")
        first = replace(clip, frames=clip.frames[:OTHER_FRAMES], masks=clip.masks[:OTHER_FRAMES])
        track_clip(Tracker(replace(bundle, composition=parts), comparing, size=size), first)


def track_clip(tracker: Tracker, clip: TruthClip) -> list[NDArray[np.uint8]]:
    """Track a clip from its first mask, which is the first frame's result; close the tracker."""
    with tracker:
        tracker.start(clip.frames[0], clip.masks[0])
        return [clip.masks[0], *(tracker.step(frame).mask for frame in clip.frames[1:])]


def _iou(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    union = int(((a > 0) | (b > 0)).sum())
    return 1.0 if union == 0 else int(((a == b) & (a > 0)).sum()) / union
