"""What every engine is: a graph that runs on named arrays and writes where it is told to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from vcedge_runtime.buffers import Buffer
from vcedge_runtime.model.spec import GraphSpec


class Engine(Protocol):
    """A graph loaded by a back-end."""

    @property
    def spec(self) -> GraphSpec:
        """Names, dtypes and shapes of the graph."""

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        """Run once, and wait; outputs are written into ``out``, whose arrays the caller owns.

        Raises:
            EngineError: an array does not fit the spec or lies where the engine cannot reach it,
                or the back-end failed.
        """

    def close(self) -> None:
        """Release what the back-end holds."""
