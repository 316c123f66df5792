"""The TensorRT engine against the bindings of every version, without TensorRT and without a GPU."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.contract.checking import ROOT, check_contract

ENGINE = ROOT / "runtime" / "vcedge_runtime" / "engines"
SOURCES = tuple(ENGINE / f"{name}.py" for name in ("tensorrt", "tensorrt_build", "tensorrt_plan"))
"""Every file that speaks to TensorRT."""
MISTAKES = {
    "execute_async_v3(self._cuda.stream)": (
        "execute_async_v4(self._cuda.stream)",
        'has no attribute "execute_async_v4"',
    ),
    "create_engine_inspector()": ("create_engine_inspector(0)", "Too many arguments"),
    "set_tensor_address(name, place)": (
        "set_tensor_address(place, name)",
        'has incompatible type "int"; expected "str"',
    ),
    "trt.TensorIOMode.INPUT": ("trt.TensorIOMode.INWARD", 'has no attribute "INWARD"'),
    "if engine is None:": ("if len(plan) == 0:", '"ICudaEngine | None"'),
    "trt.init_libnvinfer_plugins(LOG": (
        "trt.init_libnvinfer_plugin(LOG",
        'has no attribute "init_libnvinfer_plugin"',
    ),
    "ExecutionContextAllocationStrategy.USER_MANAGED": (
        "ExecutionContextAllocationStrategy.OURS",
        'has no attribute "OURS"',
    ),
    "device_memory_size_v2": ("device_memory_size_v3", 'has no attribute "device_memory_size_v3"'),
    "trt.BuilderFlag.TF32": ("trt.BuilderFlag.TF64", 'has no attribute "TF64"'),
    "set_shape(tensor.name, least, usual, most)": (
        "set_shape(tensor.name, least, most)",
        'Missing positional argument "max"',
    ),
    "ignore_mismatch=False": ("mismatch=False", 'Unexpected keyword argument "mismatch"'),
    "(self, phase_name: str, step: int) -> bool:": (
        "(self, phase_name: str) -> bool:",
        'Signature of "step_complete" incompatible with supertype',
    ),
    "e.desc()": ("e.text()", '"ParserError" has no attribute "text"'),
}
"""What stands in a source: what is wrong in its place, and what is said of it."""


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_what_a_file_uses_exists_in_every_version(source: Path, stubs: Path) -> None:
    assert check_contract(source, stubs) == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_mistakes_are_found_in_every_version(source: Path, stubs: Path, tmp_path: Path) -> None:
    text = source.read_text()
    made = {right: found for right, found in MISTAKES.items() if right in text}
    assert made
    for right, (mistake, _) in made.items():
        text = text.replace(right, mistake)
    wrong = tmp_path / "wrong.py"
    wrong.write_text(text)
    complaints = check_contract(wrong, stubs)
    for mistake, expected in made.values():
        assert any(expected in complaint for complaint in complaints), (mistake, complaints)


def test_every_mistake_is_made_in_one_of_the_files() -> None:
    texts = [source.read_text() for source in SOURCES]
    assert [sum(right in text for text in texts) for right in MISTAKES] == [1] * len(MISTAKES)


def test_what_only_some_versions_have_is_refused_by_the_others(stubs: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.py"
    old.write_text("import tensorrt\n\nhalf = tensorrt.BuilderFlag.FP16\n")
    refused = ['3: error: "type[BuilderFlag]" has no attribute "FP16"  [attr-defined]']
    assert check_contract(old, stubs) == (refused if stubs.name.startswith("11.") else [])


def test_the_stubs_are_those_of_the_version_that_was_asked_for(stubs: Path) -> None:
    written = (stubs / "tensorrt" / "__init__.pyi").read_text()
    assert re.findall("^__version__: str = '(.+)'", written, re.MULTILINE) == [stubs.name]


def test_no_file_speaks_to_tensorrt_unchecked() -> None:
    packages = ("runtime", "calibration", "export", "vcedge")
    files = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    imports = re.compile(r"^\s*(?:import|from) tensorrt\b", re.MULTILINE)
    assert {path for path in files if imports.search(path.read_text())} == set(SOURCES)
