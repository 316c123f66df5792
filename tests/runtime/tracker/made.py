"""What the tests of the tracker share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Buffer
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.errors import EngineError
from vcedge_runtime.followed import StepResult

Frame = NDArray[np.uint8]
MakeFrame = Callable[..., Frame]
HEIGHT, WIDTH = 72, 128


def square(top: int, left: int, side: int = 24) -> Frame:
    """Make a mask of object 1."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def iou(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Intersection over union of two bool masks."""
    return float((found & expected).sum() / (found | expected).sum())


def bytes_of_arrays(value: object, seen: set[int]) -> int:
    """Walk everything that an object holds, and add up the arrays that own their memory."""
    if id(value) in seen or isinstance(value, type):
        return 0
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        return value.nbytes if value.base is None else bytes_of_arrays(value.base, seen)
    held: list[object] = []
    if isinstance(value, dict):
        held = [*value.values()]
    elif isinstance(value, list | tuple | set):
        held = [*value]
    elif hasattr(value, "__dict__"):
        held = [*vars(value).values()]
    return sum(bytes_of_arrays(part, seen) for part in held)


def bytes_beside_engines(video: Any) -> int:
    """Arrays of one video of objects, whose hand-made graphs keep what they saw: left out."""
    predictor = video.predictor
    predictor._graphs._engines = predictor._reader._engines = {}
    return bytes_of_arrays(video, set())


def same(one: StepResult, other: StepResult) -> bool:
    """Tell whether two results are the same."""
    return np.array_equal(one.mask, other.mask) and one.scores == other.scores


class FailingEngine:
    """An engine that fails when it is told to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.spec = engine.spec
        self.broken = False

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        if self.broken:
            raise EngineError("the engine broke")
        self._engine.run(inputs, out)

    def close(self) -> None:
        self._engine.close()
