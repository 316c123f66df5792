"""``vcedge export`` of a bundle: rewritten and proven where PyTorch is not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from subprocess import CompletedProcess, Popen

import pytest

from tests.conftest import TINY
from vcedge.commands.export import _find_bundle
from vcedge.commands.verify import _find_source
from vcedge_runtime.model.bundle import Bundle

pytest.importorskip("onnx", reason="onnx rewrites graphs; install the extra export")
pytest.importorskip("onnxruntime", reason="ONNX Runtime proves them; install the extra cpu")

Run = Callable[..., CompletedProcess[str]]
Refuse = Callable[..., str]
BLOCK = "import sys; sys.modules |= dict.fromkeys(('torch', 'safetensors', 'onnxscript'))"
FRAMES = ("--frames", 3, "--out", "new")


@pytest.mark.parametrize(
    ("options", "precision"), [(("--fp16",), "fp16"), (("--int8", "--fp16"), "int8")]
)
def test_a_bundle_is_rewritten_and_proven_without_pytorch(
    launch: Callable[..., Popen[str]], tmp_path: Path, options: tuple[str, ...], precision: str
) -> None:
    process = launch("export", TINY, *FRAMES, *options, "--max-drop", 100, before=BLOCK)
    said, error = process.communicate(timeout=240)
    assert (process.returncode, error) == (0, "")
    assert "as a GPU rounds it against tiny in FP32, demo clip, 3 frames: J&F" in said
    made, tiny = Bundle.open(tmp_path / "new"), Bundle.open(TINY)
    assert (made.name, made.precision, made.profile) == ("new", precision, tiny.profile)
    assert made.composition == tiny.composition
    assert made.verification["passes"]
    assert made.verification["unrounded"]["passes"]
    assert made.graphs["encoder"].half
    assert made.weights == tiny.weights
    again = launch("verify", "new", "--against", TINY, "--frames", 3, before=BLOCK)
    said, error = again.communicate(timeout=240)
    # What INT8 loses on a texture that nobody trained for is not of interest here.
    proven = (again.returncode, error) == (0, "")
    assert ("NOT proven: new is" in said) == (not proven)
    assert proven or (precision == "int8" and again.returncode == 1)


def test_the_run_time_part_may_be_changed_on_the_way(run: Run, tmp_path: Path) -> None:
    claimed = replace(Bundle.open(copytree(TINY, tmp_path / "own")), weights={"accuracy": "high"})
    claimed.save()
    done = run("export", "own", *FRAMES, "--fp16", "--memory", "dynamic:short=3", "--size", 48)
    assert (done.returncode, done.stderr) == (0, "")
    made = Bundle.open("new")
    assert made.composition == replace(
        claimed.composition.exchange(memory=made.composition.memory), size=48
    )
    assert made.composition.memory.references == 3 + 3 + 1
    # What was measured was composed otherwise.
    assert made.weights == {}
    assert run("export", "own", *FRAMES, "--fp16", "--overwrite").returncode == 0
    assert Bundle.open("new").weights == {"accuracy": "high"}


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        ((), "without --fp16 or --int8; pass one of them, or weights"),
        (("--fp16", "--top-k", 20), "received top_k for the bundle"),
        (("--fp16", "--temperature", 1), "received temperature for the bundle"),
        (("--fp16", "--radius", 6), "received radius for the bundle"),
        (("--fp16", "--deform-conv"), "received deform_conv for the bundle"),
        (("--fp16", "--out", TINY, "--overwrite"), "as the bundle to read and to write"),
        (("--fp16", "--local", "off"), "received local for a model that propagates labels"),
    ],
)
def test_what_pytorch_alone_can_change_is_refused(
    refuse: Refuse, options: tuple[object, ...], mend: str
) -> None:
    assert mend in refuse("export", TINY, *FRAMES, *options)
    assert not list(Path().iterdir())


def test_a_bundle_in_a_lower_precision_is_no_source(run: Run, refuse: Refuse) -> None:
    assert run("export", TINY, *FRAMES, "--fp16").returncode == 0
    line = refuse("export", "new", "--fp16", "--frames", 3, "--out", "other")
    assert "a bundle in fp16; expected one in FP32" in line
    assert not Path("other").exists()


def test_a_shipped_name_is_its_bundle_where_pytorch_is_missing_and_none_is_traced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _find_bundle(str(TINY), rewritten=False) == Bundle.open(TINY)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert _find_bundle("dmp-lite", rewritten=True) == Bundle.open("dmp-lite")
    assert _find_bundle("dmp-lite", rewritten=False) is None
    assert _find_bundle("dmp-paper", rewritten=True) is None


def test_engines_of_a_shipped_bundle_are_proven_against_it_where_pytorch_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    shipped = Bundle.open("dmp-lite")
    assert _find_source(shipped, None, "tensorrt") == shipped
    other = replace(shipped, graphs={}, weights={**shipped.weights, "accuracy": None})
    assert _find_source(other, None, "cpu") == shipped
