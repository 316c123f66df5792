"""What NVIDIA's tools and files say."""

from __future__ import annotations

from pathlib import Path

import pytest

from vcedge.doctor import nvidia
from vcedge.doctor.nvidia import ask_driver_cuda, find_cuda, judge_tensorrt, parse_version


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ("10.3.0", "supported"),
        ("10.16.1.11", "supported"),
        ("11.4.0.106", "supported"),
        ("10.2.0.post1", "known bad"),
        ("8.6.1", "too old"),
        ("10.7.0", "not tried"),
        ("12.0", "not tried"),
    ],
)
def test_a_version_of_tensorrt_is_judged(version: str, verdict: str) -> None:
    assert judge_tensorrt(version).startswith(verdict)


def test_a_version_is_its_leading_numbers() -> None:
    assert parse_version("10.3.0.post1") == (10, 3, 0)
    assert parse_version("unknown") == ()


@pytest.mark.parametrize("words", ["CUDA Version: 12.8", "CUDA UMD Version: 12.8"])
def test_the_driver_tells_which_cuda_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '| Driver Version: 570.86.15   {words}     |'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_driver_cuda() == "12.8"


def test_cuda_is_found_by_its_toolkit_then_by_its_library_then_by_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvidia, "find_version", lambda *names: "13.0.48")
    assert find_cuda(tmp_path) == "13.0.48"
    libraries = tmp_path / "usr/local/cuda/lib64"
    libraries.mkdir(parents=True)
    for name in ("libcudart.so.12", "libcudart.so.12.6.68"):
        (libraries / name).touch()
    assert find_cuda(tmp_path) == "12.6.68"
    version = tmp_path / "usr/local/cuda/version.json"
    version.write_text('{"cuda": {"name": "CUDA SDK", "version": "12.6.10"}}')
    assert find_cuda(tmp_path) == "12.6.10"
    version.write_text("damaged")
    assert find_cuda(tmp_path) == "12.6.68"
