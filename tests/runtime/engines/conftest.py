"""A TensorRT and a device for the tests of engines."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.runtime.engines import tensorrt_double as double
from tests.runtime.engines.fake_cuda import FakeCuda
from vcedge_runtime.engines.plans import PlanCache

NAMES = ("tensorrt", "tensorrt_build", "tensorrt_plan")
MODULES = tuple(f"vcedge_runtime.engines.{name}" for name in NAMES)


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The engine's module, which found the double as its TensorRT."""
    monkeypatch.setitem(sys.modules, "tensorrt", double)
    monkeypatch.setattr(double, "behaviour", double.Behaviour())
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module(MODULES[0])
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "engines")


@pytest.fixture
def told() -> list[str]:
    return []
