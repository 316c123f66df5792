"""What every engine is: a graph that runs on named arrays and writes where it is told to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from vcedge_runtime.buffers import Buffer, HostArray, host_arrays
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


def runs_beside(engine: Engine) -> bool:
    """Whether an engine may run while another one does, and itself in two threads at once.

    That of ONNX Runtime says so where it was opened with a part of the cores alone.
    """
    return bool(getattr(engine, "beside", False))


class ForwardingEngine:
    """An engine that runs another; what it does besides is its subclass's.

    Args:
        engine: what runs; closed with this one.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def spec(self) -> GraphSpec:
        """Names, dtypes and shapes of the graph."""
        return self._engine.spec

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        """Run once; see ``Engine.run``."""
        self._engine.run(inputs, out)

    def close(self) -> None:
        """Release what the engine holds."""
        self._engine.close()


class HostEngine:
    """A graph that its subclass computes from the host's arrays.

    Args:
        spec: of the graph.
    """

    def __init__(self, spec: GraphSpec) -> None:
        self._spec = spec

    @property
    def spec(self) -> GraphSpec:
        """Names, dtypes and shapes of the graph."""
        return self._spec

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        """Run once; see ``Engine.run``."""
        self._spec.check_arrays({**inputs, **out})
        name = self._spec.name
        self._compute(host_arrays(name, inputs), host_arrays(name, out))

    def close(self) -> None:
        """Hold nothing."""

    def _compute(self, inputs: Mapping[str, HostArray], out: Mapping[str, HostArray]) -> None:
        raise NotImplementedError
