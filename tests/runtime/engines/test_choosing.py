"""Which back-end is chosen, and what is said of it, on machines that have this and lack that."""

from __future__ import annotations

import importlib.machinery
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from types import ModuleType
from typing import Any

import onnxruntime
import pytest

from tests.runtime.engines.fake_cuda import FakeCuda
from vcedge_runtime.engines import choosing, opening
from vcedge_runtime.engines.choosing import find_half, rank_backends
from vcedge_runtime.engines.onnxruntime import CPU, CUDA
from vcedge_runtime.errors import EngineError, MissingExtraError
from vcedge_runtime.model.bundle import DEFAULT_LABEL_MODEL, MANIFEST, Bundle


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(DEFAULT_LABEL_MODEL)


def install(monkeypatch: pytest.MonkeyPatch, **parts: Any) -> FakeCuda:
    """Make a machine: ``tensorrt`` is a version or an error, ``gpu`` an error, ``providers``."""
    device = FakeCuda()

    def open_cuda(**which: Any) -> FakeCuda:
        if parts.get("gpu"):
            raise parts["gpu"]
        return device.share()

    for module in (choosing, opening):
        monkeypatch.setattr(module, "Cuda", open_cuda)
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: parts.get("providers", [CPU])
    )
    found = parts.get("tensorrt")
    if found is None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        monkeypatch.setattr(choosing.importlib.util, "find_spec", lambda name: None)
        return device
    module = ModuleType("tensorrt")
    module.__spec__ = importlib.machinery.ModuleSpec("tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    if isinstance(found, str):
        module.__version__ = found  # type: ignore[attr-defined]
    else:

        def fail(name: str) -> ModuleType:
            raise found

        monkeypatch.setattr(choosing.importlib, "import_module", fail)
    return device


NO_GPU = EngineError("CUDA's cudaStreamCreateWithFlags failed: no CUDA-capable device (code 100)")
NO_CUDA = MissingExtraError("received no run time of CUDA 12 (libcudart.so.12: ...)")
WITH_CUDA = [CUDA, CPU]


@pytest.mark.parametrize(
    ("parts", "backend", "reason"),
    [
        ({"tensorrt": "10.3.0", "providers": WITH_CUDA}, "tensorrt", "since it and a GPU are here"),
        ({"tensorrt": "11.4.0.106"}, "tensorrt", "TensorRT runs the graphs"),
        ({"providers": WITH_CUDA}, "cuda", "in CUDA, since TensorRT is not installed"),
        ({"tensorrt": "8.5.2.2", "providers": WITH_CUDA}, "cuda", "since TensorRT 8.5.2.2 is too"),
        (
            {"tensorrt": OSError("libnvinfer.so.10: cannot open\nshared"), "providers": WITH_CUDA},
            "cuda",
            "since TensorRT cannot be imported (libnvinfer.so.10: cannot open shared)",
        ),
        ({}, "cpu", "since TensorRT is not installed and ONNX Runtime here has no CUDAExecution"),
        (
            {"tensorrt": RuntimeError()},
            "cpu",
            "since TensorRT cannot be imported (RuntimeError()) and ONNX Runtime here",
        ),
        (
            {"tensorrt": "10.3.0", "providers": WITH_CUDA, "gpu": NO_GPU},
            "cpu",
            "on the CPU, since no GPU answers (CUDA's cudaStreamCreateWithFlags failed: no CUDA-",
        ),
        (
            {"tensorrt": "10.3.0", "providers": WITH_CUDA, "gpu": NO_CUDA},
            "cpu",
            "on the CPU, since CUDA's run time is not installed",
        ),
        ({"gpu": OSError("broken")}, "cpu", "on the CPU, since TensorRT is not installed and"),
    ],
)
def test_the_fastest_that_is_there_is_chosen_and_the_reason_is_one_sentence(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    parts: dict[str, Any],
    backend: str,
    reason: str,
) -> None:
    device = install(monkeypatch, **parts)
    choice = rank_backends(bundle)[0]
    assert choice.backend == backend
    assert reason in choice.reason
    assert "\n" not in choice.reason
    # Nothing of the device is kept.
    assert device.users == 1


def test_int8_for_a_cpu_stays_on_the_cpu(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tensorrt="10.3.0")
    graphs = {
        name: replace(graph, precision="int8") if name == "encoder" else graph
        for name, graph in bundle.graphs.items()
    }
    choice = rank_backends(replace(bundle, graphs=graphs))[0]
    assert (choice.backend, choice.reason[-24:]) == ("cpu", "CPU, for which their INT8 is"[-24:])
    halves = {name: replace(graph, half=True) for name, graph in graphs.items()}
    assert rank_backends(replace(bundle, graphs=halves))[0].backend == "tensorrt"


def test_choosing_loads_no_graph_and_takes_no_time() -> None:
    script = (
        "import sys, time; from vcedge_runtime.model.bundle import Bundle; "
        "from vcedge_runtime.engines.choosing import rank_backends; "
        "bundle = Bundle.open('mer-edge'); began = time.process_time(); "
        "print(rank_backends(bundle)[0].backend, time.process_time() - began < 5, "
        "'torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["cpu", "True", "False"], done.stderr


def open_auto(bundle: Bundle, told: list[str]) -> opening.Opened:
    return opening.open_engines(
        bundle, ["label_readout"], "auto", spans=lambda lengths: {}, threads=1, tell=told.append
    )


def test_auto_says_once_what_it_chose(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    told: list[str] = []
    opened = open_auto(bundle, told)
    assert opened.device is None
    assert list(opened.engines) == ["label_readout"]
    assert (opened.bundle, opened.backend) == (bundle, "cpu")
    assert told == [rank_backends(bundle)[0].reason]


def test_auto_goes_on_on_the_cpu_where_what_it_chose_cannot_load(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, providers=WITH_CUDA)
    told: list[str] = []
    # ONNX Runtime here lists the provider and, as where cuDNN is missing, runs on the CPU.
    opened = open_auto(bundle, told)
    assert opened.device is None
    assert opened.backend == "cpu"
    assert opened.engines["label_readout"].spec.name == "label_readout"
    assert told[0].startswith("ONNX Runtime runs the graphs in CUDA")
    assert told[1].startswith("WARNING: ONNX Runtime")


def test_auto_tries_every_back_end_that_is_here_and_the_cpu_last(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tensorrt="10.3.0", providers=WITH_CUDA)
    tried: list[str] = []

    def fail(*given: Any) -> Any:
        tried.append("tensorrt" if len(given) > 3 else "cuda")
        raise EngineError("cannot be loaded")

    monkeypatch.setattr(opening, "_open_tensorrt", fail)
    monkeypatch.setattr(opening, "_open_in_cuda", fail)
    told: list[str] = []
    assert open_auto(bundle, told).backend == "cpu"
    assert tried == ["tensorrt", "cuda"]
    assert told[-1] == "ONNX Runtime runs the graphs on the CPU"


@pytest.mark.parametrize("works", [False, True])
def test_a_gpu_is_given_the_model_in_fp16_and_the_cpu_its_own(
    half: Bundle, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    install(monkeypatch, tensorrt="10.3.0")
    seen: list[str] = []

    def open_here(bundle: Bundle, *_: Any) -> Any:
        seen.append(bundle.precision)
        if not works:
            raise EngineError("cannot be loaded")
        return {}, None

    monkeypatch.setattr(opening, "_open_tensorrt", open_here)
    told: list[str] = []
    opened = open_auto(half, told)
    assert seen == ["fp16"]
    assert opened.bundle.precision == ("fp16" if works else "fp32")
    assert any("taken in FP16" in text for text in told) is works


@pytest.fixture
def half(bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the model and, beside it, its sibling; a half's graphs are not written here."""
    copytree(bundle.folder, tmp_path / "model")
    copytree(bundle.folder, tmp_path / "model-fp16")
    change(tmp_path / "model-fp16", lower)
    return Bundle.open(tmp_path / "model")


def lower(manifest: dict[str, Any]) -> None:
    for graph in manifest["graphs"].values():
        graph["precision"] = "fp16"
    manifest["name"], manifest["weights"]["accuracy"] = "model-fp16", {"j_and_f": 0.1}


def change(folder: Path, how: Any) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    how(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_the_model_in_half_precision_stands_beside_it(half: Bundle) -> None:
    parts = replace(half.composition, size=240)
    found = find_half(replace(half, composition=parts))
    assert found is not None
    assert found.folder.name == "model-fp16"
    assert (found.precision, found.composition) == ("fp16", parts)
    assert find_half(found) is None


@pytest.mark.parametrize(
    "how",
    [
        lambda manifest: manifest["weights"].update(steps=1),
        lambda manifest: manifest["verification"].update(passes=False),
        lambda manifest: manifest.update(profile="other"),
        lambda manifest: manifest.update(format=1),
        lambda manifest: [g.update(precision="fp32") for g in manifest["graphs"].values()],
        lambda manifest: manifest["graphs"].popitem(),
    ],
    ids=["trained further", "not proven", "another profile", "too old", "not half", "a graph less"],
)
def test_what_is_not_the_same_model_is_not_taken(half: Bundle, how: Any) -> None:
    change(half.folder.with_name("model-fp16"), how)
    assert find_half(half) is None
