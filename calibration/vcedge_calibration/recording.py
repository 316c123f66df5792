"""What graphs see while a tracker runs: its own masks and memory among it, a bounded number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Buffer, host_arrays
from vcedge_runtime.engines.base import Engine, ForwardingEngine
from vcedge_runtime.engines.onnxruntime import engine_from_bundle
from vcedge_runtime.errors import SourceError
from vcedge_runtime.model.bundle import QUANTISED, Bundle
from vcedge_runtime.tracker import Tracker

Sample = Mapping[str, NDArray[Any]]
"""The inputs of one run of a graph, by name."""


@dataclass(frozen=True)
class CalibrationClip:
    """A video and where its objects are to begin with.

    Attributes:
        label: what it is, for messages.
        frames: (H, W, 3) uint8 BGR each; read once.
        mask: (H, W) uint8 object ids of the first frame.
    """

    label: str
    frames: Iterable[NDArray[np.uint8]]
    mask: NDArray[np.uint8]


class Reservoir:
    """Keeps a fair sample of a stream of unknown length (Vitter 1985, algorithm R).

    Args:
        size: how many are kept at most.
        seed: of what is kept; the same stream gives the same sample.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.samples: list[Sample] = []
        self._size = size
        self._seen = 0
        self._rng = np.random.default_rng(seed)

    def offer(self, arrays: Sample) -> None:
        """Take a copy, or pass it by."""
        place = self._seen if self._seen < self._size else int(self._rng.integers(self._seen + 1))
        self._seen += 1
        if place >= self._size:
            return
        copied = {name: array.copy() for name, array in arrays.items()}
        if place == len(self.samples):
            self.samples.append(copied)
        else:
            self.samples[place] = copied


class RecordingEngine(ForwardingEngine):
    """Offers what a graph is given to a reservoir."""

    def __init__(self, engine: Engine, reservoir: Reservoir) -> None:
        super().__init__(engine)
        self._reservoir = reservoir

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        """Run once; see ``Engine.run``."""
        self._reservoir.offer(host_arrays(self.spec.name, inputs))
        super().run(inputs, out)


def record_inputs(
    bundle: Bundle,
    clips: Iterable[CalibrationClip],
    *,
    samples: int,
    seed: int = 0,
    size: int | None = None,
    graphs: Sequence[str] = QUANTISED,
) -> dict[str, list[Sample]]:
    """Track clips in ONNX Runtime and keep what some graphs were given.

    Args:
        bundle: the model, in FP32.
        clips: what to track, one after the other.
        samples: most runs that are kept of each graph.
        seed: of which ones.
        size: working size; the bundle's default when None.
        graphs: which graphs, of those that the bundle has and its composition runs.

    Returns:
        By graph.

    Raises:
        SourceError: a clip has no frame.
        MaskError: a mask is not of its clip.
    """
    parts = bundle.composition
    wanted = {name: Reservoir(samples, seed) for name in graphs if name in parts.graphs}
    engines: dict[str, Engine] = {}
    for name in sorted(parts.graphs):
        engine = engine_from_bundle(bundle, name)
        engines[name] = RecordingEngine(engine, wanted[name]) if name in wanted else engine
    with Tracker(bundle, engines, size=size) as tracker:
        for clip in clips:
            _track(tracker, clip)
    return {name: reservoir.samples for name, reservoir in wanted.items()}


def _track(tracker: Tracker, clip: CalibrationClip) -> None:
    frames = iter(clip.frames)
    first = next(frames, None)
    if first is None:
        raise SourceError(f"{clip.label} has no frame; expected at least one")
    tracker.start(first, clip.mask)
    for frame in frames:
        tracker.step(frame)
