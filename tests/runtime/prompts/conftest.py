"""A scene whose objects are red, and a network that knows red."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge_runtime.buffers import HostArray
from vcedge_runtime.engines.base import HostEngine
from vcedge_runtime.model.bundle import Bundle, GraphFile
from vcedge_runtime.model.prompt_composition import GRAPH, PLANES, PromptComposition
from vcedge_runtime.model.spec import GraphSpec, TensorSpec

Image = NDArray[np.uint8]
SPEC = GraphSpec(
    GRAPH,
    (
        TensorSpec("image", "float32", (1, 3, "H", "W")),
        TensorSpec("prompts", "float32", (1, len(PLANES), "H", "W")),
    ),
    (TensorSpec("logits", "float32", (1, "H", "W")),),
)


class RedEngine(HostEngine):
    """Takes all that is red for the object, more surely where it is brighter."""

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.seen: list[tuple[HostArray, HostArray]] = []
        self.closed = False

    def _compute(self, inputs: dict[str, HostArray], out: dict[str, HostArray]) -> None:
        self.seen.append((inputs["image"].copy(), inputs["prompts"].copy()))
        out["logits"][...] = 8 * inputs["image"][:, 0]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def engine() -> RedEngine:
    return RedEngine()


@pytest.fixture
def red_bundle() -> Bundle:
    """A bundle whose graph is no file: it is for an engine that is given."""
    graph = GraphFile(SPEC, f"{GRAPH}.onnx", "0" * 64, "fp32")
    return Bundle(Path("red"), "red", "prompts-lite", PromptComposition(), {GRAPH: graph})


@pytest.fixture
def make_scene() -> Callable[..., Image]:
    """Make a dark frame with red rectangles, each left, top, width, height."""

    def make(frame_hw: tuple[int, int], *boxes: tuple[int, int, int, int]) -> Image:
        frame = np.full((*frame_hw, 3), 20, np.uint8)
        for left, top, width, height in boxes:
            frame[top : top + height, left : left + width, 2] = 250
        return frame

    return make
