"""Clocks: what sysfs and NVML's tool say, and whether they are held."""

from __future__ import annotations

from pathlib import Path

import pytest

from vcedge.doctor.clocks import Clock, describe_clocks, read_clocks


def put_core(root: Path, number: int, now: int, low: int, top: int) -> None:
    """Put a core's frequencies, in kHz."""
    folder = root / f"sys/devices/system/cpu/cpu{number}/cpufreq"
    folder.mkdir(parents=True)
    for name, value in (("cur", now), ("min", low), ("max", top)):
        (folder / f"scaling_{name}_freq").write_text(f"{value}\n")


def put_device(root: Path, name: str, now: int, low: int, top: int) -> None:
    """Put a device's frequencies, in Hz."""
    folder = root / "sys/class/devfreq" / name
    folder.mkdir(parents=True)
    for what, value in (("cur", now), ("min", low), ("max", top)):
        (folder / f"{what}_freq").write_text(f"{value}\n")


@pytest.mark.usefixtures("tools")
def test_a_jetson_at_rest_is_moving_with_the_load(tmp_path: Path) -> None:
    put_core(tmp_path, 0, 729_600, 729_600, 1_728_000)
    put_core(tmp_path, 1, 1_344_000, 729_600, 1_728_000)
    put_device(tmp_path, "17000000.gpu", 306_000_000, 306_000_000, 1_020_000_000)
    put_device(tmp_path, "15340000.vic", 115_200_000, 115_200_000, 729_600_000)
    clocks = read_clocks(tmp_path)
    assert clocks == (Clock("CPU", 730, 1728, False), Clock("GPU", 306, 1020, False))
    assert [clock.text for clock in clocks] == ["CPU 730 of 1728 MHz", "GPU 306 of 1020 MHz"]
    assert describe_clocks(clocks) == "moving with the load"


@pytest.mark.usefixtures("tools")
def test_jetson_clocks_holds_all_of_them(tmp_path: Path) -> None:
    put_core(tmp_path, 0, 1_728_000, 1_728_000, 1_728_000)
    put_device(tmp_path, "17000000.ga10b", 1_020_000_000, 1_020_000_000, 1_020_000_000)
    put_device(tmp_path, "emc", 3_199_000_000, 3_199_000_000, 3_199_000_000)
    clocks = read_clocks(tmp_path)
    assert [clock.name for clock in clocks] == ["CPU", "GPU", "memory"]
    assert describe_clocks(clocks) == "held at their highest"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("210, 2040, 405, 6251", (Clock("GPU", 210, 2040), Clock("GPU memory", 405, 6251))),
        ("[N/A], [N/A], [N/A], [N/A]", ()),
        ("210, 2040", ()),
    ],
)
def test_a_gpu_is_asked_through_its_tool(
    tmp_path: Path, tools: Path, line: str, expected: tuple[Clock, ...]
) -> None:
    (tools / "nvidia-smi").write_text(f"#!/bin/sh\necho '{line}'\n")
    (tools / "nvidia-smi").chmod(0o755)
    clocks = read_clocks(tmp_path)
    assert clocks == expected
    assert describe_clocks(clocks) is None


def test_two_gpus_are_numbered(tmp_path: Path, tools: Path) -> None:
    (tools / "nvidia-smi").write_text("#!/bin/sh\necho 1, 2, 3, 4; echo 5, 6, 7, 8\n")
    (tools / "nvidia-smi").chmod(0o755)
    names = [clock.name for clock in read_clocks(tmp_path)]
    assert names == ["GPU 0", "GPU 0 memory", "GPU 1", "GPU 1 memory"]


@pytest.mark.usefixtures("tools")
def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "sys/class/devfreq/17000000.gpu").mkdir(parents=True)
    (tmp_path / "sys/class/devfreq/17000000.gpu/cur_freq").write_text("busy")
    assert read_clocks(tmp_path) == ()
