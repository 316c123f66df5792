"""The TensorRT engine against the bindings of every version, without TensorRT and without a GPU."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.contract.checking import ROOT, check_contract

SAMPLE = ROOT / "tests" / "contract" / "sample_backend.py"
SOURCES = (
    "tests/contract/sample_backend.py",
    "runtime/vcedge_runtime/engines/tensorrt.py",
)
"""Every file that speaks to TensorRT."""
MISTAKES = {
    "context.execute_async_v3(stream)": (
        "context.execute_async_v4(stream)",
        'has no attribute "execute_async_v4"',
    ),
    "trt.BuilderFlag.TF32": ("trt.BuilderFlag.TF64", 'has no attribute "TF64"'),
    "set_shape(tensor.name, least, best, most)": (
        "set_shape(tensor.name, least, best)",
        'Missing positional argument "max"',
    ),
    "create_engine_inspector()": ("create_engine_inspector(0)", "Too many arguments"),
    "ignore_mismatch=False": ("mismatch=False", 'Unexpected keyword argument "mismatch"'),
    "set_tensor_address(name, address)": (
        "set_tensor_address(address, name)",
        'has incompatible type "int"; expected "str"',
    ),
    "(self, phase_name: str, step: int) -> bool:": (
        "(self, phase_name: str) -> bool:",
        'Signature of "step_complete" incompatible with supertype',
    ),
    "error.desc()": ("error.text()", '"ParserError" has no attribute "text"'),
    "if plan is None:": ("if len(onnx.name) == 0:", '"IHostMemory | None"'),
}
"""What stands in the sample: what is wrong in its place, and what is said of it."""


@pytest.mark.parametrize("source", SOURCES)
def test_what_a_file_uses_exists_in_every_version(source: str, stubs: Path) -> None:
    path = ROOT / source
    if not path.is_file():
        pytest.skip(f"{source} is not written yet")
    assert check_contract(path, stubs) == []


def test_mistakes_are_found_in_every_version(stubs: Path, tmp_path: Path) -> None:
    wrong, text = tmp_path / "wrong.py", SAMPLE.read_text()
    for right, (mistake, _) in MISTAKES.items():
        assert text.count(right) == 1, right
        text = text.replace(right, mistake)
    wrong.write_text(text)
    complaints = check_contract(wrong, stubs)
    for mistake, expected in MISTAKES.values():
        assert any(expected in complaint for complaint in complaints), (mistake, complaints)


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
    found = {str(path.relative_to(ROOT)) for path in files if imports.search(path.read_text())}
    assert found <= set(SOURCES)
