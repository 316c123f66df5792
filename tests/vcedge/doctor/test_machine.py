from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import pytest

from vcedge.doctor import machine, probing
from vcedge.doctor.machine import describe_machine
from vcedge_runtime.installing import how_to_install

TEGRA = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"
REPORT_WITHOUT_TORCH = (
    "import sys; from vcedge.doctor.machine import describe_machine; describe_machine(); "
    "print('torch' in sys.modules, 'tensorrt' in sys.modules)"
)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _put_tool(folder: Path, name: str, script: str) -> None:
    _write(folder / name, f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def _import_onnxruntime_as(
    monkeypatch: pytest.MonkeyPatch, result: SimpleNamespace | Exception
) -> None:
    real = importlib.import_module

    def fake(name: str) -> ModuleType | SimpleNamespace:
        if name != "onnxruntime":
            return real(name)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(importlib, "import_module", fake)


def test_this_machine_is_described_and_the_report_is_json() -> None:
    report = describe_machine()
    assert report.python == ".".join(map(str, sys.version_info[:3]))
    assert report.opencv == cv2.__version__
    assert 1 <= report.cores <= (os.cpu_count() or 1)
    assert report.video_backends
    assert json.loads(json.dumps(report.to_json()))["cpu"] == report.cpu
    assert report.cpu in report.line
    assert dict(report.rows)["Python"] == report.python


@pytest.mark.parametrize(
    ("fast", "told"), [(True, "fast in INT8"), (False, "slow in INT8 (no VNNI): prefer FP32")]
)
def test_a_processor_is_told_with_what_int8_is_worth_on_it(
    monkeypatch: pytest.MonkeyPatch, fast: bool, told: str
) -> None:
    monkeypatch.setattr(machine, "sums_bytes_exactly", lambda root: fast)
    report = describe_machine()
    assert dict(report.rows)["processor"] == f"{report.cpu}, {report.cores} cores; {told}"


def test_an_empty_machine_is_described_without_an_error(tmp_path: Path, tools: Path) -> None:
    report = describe_machine(root=tmp_path)
    assert (report.memory_bytes, report.memory_free_bytes) == (None, None)
    assert (report.jetpack, report.power_mode, report.gpus) == (None, None, ())
    assert (report.cuda_driver, report.tensorrt_library, report.clocks) == (None, None, ())
    assert report.cpu
    assert dict(report.rows)["memory"] == "unknown"
    assert "None" not in report.line


def test_a_jetson_is_recognised(tmp_path: Path, tools: Path) -> None:
    _write(tmp_path / "etc/nv_tegra_release", TEGRA)
    _write(tmp_path / "proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")
    _write(tmp_path / "proc/meminfo", "MemTotal:        7802308 kB\nMemAvailable:    5120000 kB\n")
    _put_tool(tools, "nvpmodel", "echo 'NV Power Mode: MAXN_SUPER'; echo 2")
    report = describe_machine(root=tmp_path)
    assert report.cpu == "NVIDIA Jetson Orin Nano Developer Kit"
    assert report.jetpack == "6 (L4T 36.4.3)"
    assert report.power_mode == "MAXN_SUPER"
    assert dict(report.rows)["memory"] == "7.4 GiB, 4.9 GiB free"
    assert "JetPack 6 (L4T 36.4.3), power mode MAXN_SUPER" in report.line


def test_every_gpu_is_named_with_its_driver(tmp_path: Path, tools: Path) -> None:
    _put_tool(
        tools,
        "nvidia-smi",
        "echo 'NVIDIA L4, 570.86.15, 23034 MiB'; echo 'NVIDIA L4, 570.86.15, 23034 MiB'",
    )
    report = describe_machine(root=tmp_path)
    assert report.gpus == ("NVIDIA L4, driver 570.86.15, 23034 MiB",) * 2


@pytest.mark.parametrize("script", ["echo broken driver; exit 9", "exec sleep 5", "echo a, b"])
def test_a_tool_that_fails_hangs_or_babbles_is_as_if_it_were_not_there(
    tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(probing, "COMMAND_SECONDS", 0.2)
    (tools / "sleep").symlink_to("/bin/sleep")
    _put_tool(tools, "nvidia-smi", script)
    _put_tool(tools, "nvpmodel", script)
    report = describe_machine(root=tmp_path)
    assert (report.gpus, report.power_mode, report.cuda_driver) == ((), None, None)
    assert report.clocks == ()


def _install_only(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    """Make every package be there in a version, or none."""

    def fake(name: str) -> str:
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", fake)


@pytest.mark.usefixtures("tools")
def test_a_part_that_is_missing_comes_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _import_onnxruntime_as(monkeypatch, ModuleNotFoundError("no", name="onnxruntime"))
    _install_only(monkeypatch, None)
    report = describe_machine(root=tmp_path)
    assert [part.works for part in report.parts] == [False] * 7
    assert [part.install for part in report.parts] == [
        how_to_install("cpu"),
        how_to_install("gpu"),
        how_to_install("tensorrt"),
        how_to_install("studio"),
        how_to_install("rewrite"),
        how_to_install("export"),
        how_to_install("train"),
    ]
    assert report.parts[1].missing[0] == "an NVIDIA GPU with its driver"
    assert report.parts[6].missing == ("torch", "safetensors")
    rows = dict(report.rows)
    assert [rows[name] for name in ("ONNX Runtime", "TensorRT", "CUDA")] == ["not installed"] * 3


def test_a_part_whose_packages_are_there_works(
    tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    found = SimpleNamespace(__version__="1.25.0", get_available_providers=lambda: providers)
    _import_onnxruntime_as(monkeypatch, found)
    _install_only(monkeypatch, "10.16.1.11")
    _put_tool(tools, "nvidia-smi", "echo 'NVIDIA L4, 570.86.15, 23034 MiB'")
    report = describe_machine(root=tmp_path)
    assert all(part.works and not part.install for part in report.parts)
    assert dict(report.rows)["ONNX Runtime"] == f"1.25.0; {', '.join(providers)}"
    assert dict(report.rows)["TensorRT"] == "10.16.1.11; supported"


def test_onnxruntime_for_cpus_has_to_go_before_the_one_for_gpus(
    tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = SimpleNamespace(__version__="1.25.0", get_available_providers=lambda: ["CPU"])
    _import_onnxruntime_as(monkeypatch, found)
    _put_tool(tools, "nvidia-smi", "echo 'NVIDIA L4, 570.86.15, 23034 MiB'")
    part = describe_machine(root=tmp_path).parts[1]
    assert part.missing == ("ONNX Runtime's CUDAExecutionProvider",)
    assert part.install == f"pip uninstall -y onnxruntime && {how_to_install('gpu')}"


@pytest.mark.usefixtures("tools")
def test_on_a_jetson_tensorrt_comes_with_jetpack_and_not_with_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path / "etc/nv_tegra_release", TEGRA)
    _write(tmp_path / "usr/lib/aarch64-linux-gnu/libnvinfer.so.10", "")
    _write(tmp_path / "usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0", "")
    _install_only(monkeypatch, None)
    report = describe_machine(root=tmp_path)
    cuda, tensorrt = report.parts[1:3]
    assert tensorrt.missing == ("tensorrt",)
    assert tensorrt.install.startswith("sudo apt install python3-libnvinfer")
    assert "no onnxruntime-gpu for Jetson" in cuda.install
    assert dict(report.rows)["TensorRT"] == "library 10.3.0, but no Python package"


def test_a_tensorrt_that_is_too_old_does_not_work(
    tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install_only(monkeypatch, "10.2.0")
    _put_tool(tools, "nvidia-smi", "echo 'NVIDIA L4, 570.86.15, 23034 MiB'")
    report = describe_machine(root=tmp_path)
    assert report.parts[2].missing == ("TensorRT 10.3 or newer",)
    assert report.parts[2].install == how_to_install("tensorrt")
    assert "known bad: GridSample" in dict(report.rows)["TensorRT"]


def test_the_clocks_of_a_jetson_are_told_with_what_holds_them(tmp_path: Path, tools: Path) -> None:
    _write(tmp_path / "etc/nv_tegra_release", TEGRA)
    device = tmp_path / "sys/class/devfreq/17000000.gpu"
    for what, value in (("cur", 306), ("min", 306), ("max", 1020)):
        _write(device / f"{what}_freq", f"{value}000000\n")
    report = describe_machine(root=tmp_path)
    assert dict(report.rows)["clocks"] == (
        "GPU 306 of 1020 MHz; moving with the load; `sudo jetson_clocks` holds them while you "
        "measure"
    )
    assert "clocks moving with the load" in report.line


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ImportError("libcudart.so.13: cannot open shared object file\nmore"), "libcudart.so.13"),
        (ModuleNotFoundError("No module named 'flatbuffers'", name="flatbuffers"), "flatbuffers"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_an_onnxruntime_that_cannot_be_imported_says_why(
    monkeypatch: pytest.MonkeyPatch, error: Exception, why: str
) -> None:
    _import_onnxruntime_as(monkeypatch, error)
    report = describe_machine()
    assert why in dict(report.rows)["ONNX Runtime"]
    assert "\n" not in dict(report.rows)["ONNX Runtime"]
    assert not report.parts[0].works


def test_neither_torch_nor_tensorrt_is_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", REPORT_WITHOUT_TORCH],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "False"]
