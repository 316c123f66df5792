"""The stubs of every TensorRT version, generated once a session."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.contract.fetch import COMMAND, FOLDER, VERSIONS
from tests.contract.libraries import compile_libraries
from tests.contract.stubs import generate_stubs


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("pybind11_stubgen", "mypy"):
        if find_spec(module) is None:
            _give_up(f"{module} is not installed; pip install vcedge[dev]")
    if shutil.which("cc") is None:
        _give_up("there is no C compiler to make the bindings importable; install one as `cc`")
    return compile_libraries(tmp_path_factory.mktemp("libraries"))


@pytest.fixture(scope="session")
def contract_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what all versions share, mypy's cache above all."""
    return tmp_path_factory.mktemp("contract")


@pytest.fixture(scope="session")
def generate(libraries: Path, contract_folder: Path) -> Callable[[str], Path]:
    """Generate the stubs of a version, once, in whatever order the tests of several come."""
    return cache(
        lambda version: generate_stubs(FOLDER / version, libraries, contract_folder / version)
    )


@pytest.fixture(scope="session", params=VERSIONS)
def stubs(request: pytest.FixtureRequest, generate: Callable[[str], Path]) -> Path:
    version = str(request.param)
    if not (FOLDER / version).is_dir():
        _give_up(f"the bindings of TensorRT {version} are not in {FOLDER}; run `{COMMAND}`")
    return generate(version)


def _give_up(reason: str) -> None:
    if "bindings" in os.environ.get("VCEDGE_REQUIRE", "").split(","):
        pytest.fail(f"VCEDGE_REQUIRE asks for bindings, but {reason}", pytrace=False)
    pytest.skip(reason)
