"""``vcedge verify``: a bundle against its source, with an exit code that a script can trust."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from subprocess import CompletedProcess
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.runtime.engines import tensorrt_double as double
from tests.runtime.engines.conftest import MODULES
from tests.runtime.engines.fake_cuda import FakeCuda
from vcedge_runtime.engines import choosing, opening
from vcedge_runtime.errors import EngineError
from vcedge_runtime.model.bundle import DEFAULT_MODEL, Bundle
from vcedge_runtime.reading import sha256_of

if TYPE_CHECKING:
    from vcedge.models.weights import Weights

pytest.importorskip("torch", reason="PyTorch proves; install vcedge[export]")
pytest.importorskip("onnxscript", reason="onnxscript exports; install vcedge[export]")

pytestmark = pytest.mark.usefixtures("traced_once")

Run = Callable[..., CompletedProcess[str]]
POLYGRAPHY = "import sys; from polygraphy.tools import main; sys.exit(main())\n"
Refuse = Callable[..., str]
FRAMES = ("--frames", 3)


@pytest.fixture
def bundle(exported_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy that a test may change."""
    copytree(exported_bundle.folder, tmp_path / "tiny")
    return Bundle.open(tmp_path / "tiny")


@pytest.fixture
def weights(tiny_weights: Weights, tmp_path: Path) -> Path:
    from vcedge.models.weights import save_weights

    save_weights(tiny_weights.network, tmp_path / "tiny.safetensors", tiny_weights.facts)
    return tmp_path / "tiny.safetensors"


@pytest.fixture
def spoiled(bundle: Bundle) -> Bundle:
    """The encoder's head is a tenth too large, and the manifest says it is meant to be so."""
    import onnx
    from onnx import numpy_helper

    path = bundle.path_of("encoder")
    model = onnx.load(path)
    head = next(t for t in model.graph.initializer if "head.weight" in t.name)
    head.CopyFrom(numpy_helper.from_array(1.1 * numpy_helper.to_array(head), head.name))
    onnx.save(model, path)
    encoder = replace(bundle.graphs["encoder"], sha256=sha256_of(path))
    replace(bundle, graphs={**bundle.graphs, "encoder": encoder}).save()
    return Bundle.open(bundle.folder)


def test_a_bundle_is_its_weights(run: Run, weights: Path, truth: tuple[object, ...]) -> None:
    run("export", weights, "--size", 64, "--radius", 4, "--out", "new", *truth)
    before = {path: path.read_bytes() for path in Path("new").iterdir()}
    done = run("verify", "new", "--against", weights, *truth, "--json", "found.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"exported against {weights}, frames, 4 frames: J&F" in done.stdout
    verdict = done.stdout.splitlines()[-1]
    assert verdict.startswith("proven: new is the model (9 of 9 outputs within their bounds, ")
    assert re.search(r" at \d+\.\d% of its own, J&F 0\.\d{4} for 0\.\d{4}\)$", verdict)
    found = json.loads(Path("found.json").read_text())
    assert found == Bundle.open("new").verification
    assert {path: path.read_bytes() for path in Path("new").iterdir()} == before


def test_weights_that_were_rounded_are_others(
    run: Run, bundle: Bundle, weights: Path, truth: tuple[object, ...]
) -> None:
    """The bundle is of weights in FP32, the file holds them in FP16."""
    done = run("verify", bundle.folder, "--against", weights, *truth)
    assert done.returncode == 1
    assert "is NOT the model" in done.stdout


def test_a_bundle_that_is_not_its_source_exits_with_1_and_is_marked(
    run: Run, exported_bundle: Bundle, spoiled: Bundle
) -> None:
    done = run("verify", spoiled.folder, "--against", exported_bundle.folder, *FRAMES)
    assert done.returncode == 1
    [verdict] = [line for line in done.stdout.splitlines() if "NOT" in line]
    assert verdict.startswith(f"NOT proven: {spoiled.folder} is NOT the model (8 of 9 outputs")
    assert "encoder.key at " in verdict
    assert Bundle.open(spoiled.folder).verification["passes"]
    done = run("verify", spoiled.folder, "--against", exported_bundle.folder, *FRAMES, "--save")
    assert done.returncode == 1
    assert not Bundle.open(spoiled.folder).verification["passes"]


def test_a_dump_is_what_polygraphy_loads_and_its_command_names_the_worst(
    run: Run, exported_bundle: Bundle, spoiled: Bundle
) -> None:
    import onnx
    from polygraphy.comparator import RunResults
    from polygraphy.json import load_json

    done = run(
        *("verify", spoiled.folder, "--against", exported_bundle.folder, *FRAMES, "--dump", "dump")
    )
    assert done.returncode == 1
    inputs = load_json("dump/encoder.inputs.json")
    (_name, outputs), *others = RunResults.load("dump/encoder.outputs.json").items()
    assert not others
    assert len(inputs) == len(outputs) == 2
    assert {array.dtype for given in inputs for array in given.values()} == {np.dtype("float32")}
    assert inputs[0]["image"].shape == (1, 3, 64, 112)
    assert outputs[0]["key"].shape == (8, 14, 64)
    assert "to bisect encoder.key" in done.stdout
    command = next(li for li in done.stdout.splitlines() if li.startswith("polygraphy debug"))
    every = load_json("dump/encoder.every-input.json")
    assert {"image", "key"} < set(every[0])
    # The command itself: what is left is the layer that was made wrong.
    bin_folder = Path("bin")
    bin_folder.mkdir()
    (bin_folder / "polygraphy").write_text(f"#!{sys.executable}\n{POLYGRAPHY}")
    (bin_folder / "polygraphy").chmod(0o755)
    path = f"{bin_folder.resolve()}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        shlex.split(command), env={**os.environ, "PATH": path}, check=True, capture_output=True
    )
    reduced = onnx.load("dump/encoder.reduced.onnx")
    assert [node.op_type for node in reduced.graph.node][:1] == ["Conv"]
    assert len(reduced.graph.node) <= 3


def test_where_no_weights_are_installed_they_are_not_called_unknown(
    refuse: Refuse, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vcedge.models.weights.SHIPPED", tmp_path / "none")
    line = refuse("verify", bundle.folder)
    assert "without --against; weights for training are not installed with vcedge" in line


def test_a_source_that_is_unknown_or_another_model_is_refused(
    refuse: Refuse, bundle: Bundle
) -> None:
    assert "was not exported from shipped weights; pass --against" in refuse(
        "verify", bundle.folder
    )
    assert "are not those of such a network" in refuse(
        "verify", bundle.folder, "--against", DEFAULT_MODEL
    )
    assert "cannot prove" in refuse(
        "verify", bundle.folder, "--against", Path(__file__).parents[3] / SRNET_BUNDLE
    )


SRNET_BUNDLE = Path("runtime/vcedge_runtime/models") / DEFAULT_MODEL


def test_a_clip_without_its_truth_is_refused(refuse: Refuse, bundle: Bundle) -> None:
    assert "received --clip without --truth" in refuse(
        "verify", bundle.folder, "--clip", "some.mp4"
    )


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeCuda]:
    """A GPU, and a TensorRT made of ONNX Runtime."""
    found = FakeCuda()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "tensorrt", double)
    monkeypatch.setattr(double, "behaviour", double.Behaviour())
    monkeypatch.setattr(opening, "Cuda", lambda **which: found.share())
    monkeypatch.setattr(choosing, "Cuda", lambda **which: found.share())
    yield found
    for name in MODULES:
        sys.modules.pop(name, None)


def test_export_builds_engines_where_there_is_tensorrt_and_proves_them(
    run: Run, weights: Path, truth: tuple[object, ...], device: FakeCuda
) -> None:
    options = ("--size", 64, "--radius", 4, *truth)
    done = run("export", weights, "--out", "new", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert "building an engine of encoder (there is none yet)" in done.stdout
    assert "in TensorRT against PyTorch, frames, 4 frames: J&F" in done.stdout
    found = Bundle.open("new").verification
    assert found["passes"]
    assert found["tensorrt"]["passes"]
    # Memory was on the device too, in a loop of its own.
    assert found["tensorrt"]["score_device"] == pytest.approx(found["score_model"], abs=1e-3)
    assert "score_device" not in found
    assert sum(device.copied_in) > 0
    kept = Path(os.environ["XDG_CACHE_HOME"]) / "vcedge" / "engines"
    assert len(list(kept.glob("new/encoder.*.plan"))) == 1
    assert not Path("new/engines").exists()
    assert (device.users, device.held) == (1, {})
    done = run("export", weights, "--out", "plain", "--no-engines", *options)
    assert not (kept / "plain").exists()
    # Those that export built are found again.
    again = run("verify", "new", "--against", weights, "--backend", "tensorrt", "--save", *truth)
    assert (again.returncode, "building" in again.stdout) == (0, False)
    assert "with memory on the device" in again.stdout.splitlines()[-1]
    assert Bundle.open("new").verification == found
    # The proof of the files leaves that of the engines.
    run("verify", "new", "--against", weights, "--save", *truth)
    assert Bundle.open("new").verification["tensorrt"] == found["tensorrt"]


def test_an_engine_that_is_not_the_model_fails(
    run: Run, bundle: Bundle, weights: Path, truth: tuple[object, ...], device: FakeCuda
) -> None:
    double.behaviour.spoils = 1.1
    made = run("export", weights, "--out", "new", "--size", 64, "--radius", 4, *truth)
    assert made.returncode == 1
    assert "the engines are NOT the model" in made.stdout
    verdict = Bundle.open("new").verification
    assert (verdict["passes"], verdict["tensorrt"]["passes"]) == (True, False)
    options = ("--against", weights, "--backend", "tensorrt")
    done = run("verify", bundle.folder, *options, *truth)
    assert done.returncode == 1
    assert "is NOT the model" in done.stdout


def test_engines_that_cannot_be_built_are_refused_at_once(
    refuse: Refuse, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lack(**which: object) -> None:
        raise EngineError("CUDA's cudaStreamCreate failed")

    monkeypatch.setitem(sys.modules, "tensorrt", double)
    monkeypatch.setattr(choosing, "Cuda", lack)
    line = refuse("export", weights, "--engines", "--out", "new")
    assert "received --engines, but no GPU answers (CUDA's cudaStreamCreate failed)" in line
    assert "`vcedge doctor`" in line
    assert not Path("new").exists()


def test_an_engine_that_fails_leaves_the_bundle(
    refuse: Refuse, weights: Path, truth: tuple[object, ...], device: FakeCuda
) -> None:
    double.behaviour.out_of_memory = True
    options = ("--size", 64, "--radius", 4, *truth)
    assert "TensorRT 10.3.0 cannot build encoder" in refuse(
        "export", weights, "--out", "new", *options
    )
    assert Bundle.open("new").verification["passes"]
