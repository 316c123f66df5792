"""What the machine draws: which sensors are found, what is summed up, and what a frame costs."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from vcedge.bench.power import (
    PolledSource,
    PowerMeter,
    PowerReading,
    open_power_meter,
    parse_tegrastats,
    sum_rails,
)

PATIENCE_S = 20.0
NANO = (
    "11-21-2026 10:00:00 RAM 2448/7620MB (lfb 4x4MB) SWAP 0/3810MB CPU [2%@729,off] GR3D_FREQ 0% "
    "cpu@45.2C VDD_IN 5120mW/5000mW VDD_CPU_GPU_CV 1240mW/1200mW VDD_SOC 1480mW/1480mW"
)
AGX = (
    "RAM 9000/62000MB VDD_GPU_SOC 3150mW/2971mW VDD_CPU_CV 14312mW/12415mW "
    "VIN_SYS_5V0 4968mW/5048mW VDDQ_VDD2_1V8AO 1091mW/1091mW"
)


def put_sensor(root: Path, number: int, *channels: tuple[str, int, int]) -> Path:
    """Put an INA3221 with (rail, mV, mA) channels under a folder."""
    folder = root / f"sys/class/hwmon/hwmon{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text("ina3221\n")
    for channel, (rail, millivolts, milliamperes) in enumerate(channels, start=1):
        (folder / f"in{channel}_label").write_text(f"{rail}\n")
        (folder / f"in{channel}_input").write_text(f"{millivolts}\n")
        (folder / f"curr{channel}_input").write_text(f"{milliamperes}\n")
    return folder


def put_tool(folder: Path, name: str, line: str) -> None:
    """Put a tool on the PATH that prints a line for ever."""
    (folder / name).write_text(f"#!/bin/sh\nwhile :; do echo '{line}'; sleep 0.01; done\n")
    (folder / name).chmod(0o755)


def wait_for(found: Callable[[], PowerReading | None]) -> PowerReading:
    """Wait until the thread has sampled something."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        reading = found()
        if reading is not None:
            return reading
        time.sleep(0.01)
    raise AssertionError("nothing was sampled")


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH but for sleep; NVML is not installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sleep").symlink_to("/bin/sleep")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    return folder


def test_a_line_of_tegrastats_gives_the_rail_that_feeds_the_module() -> None:
    assert parse_tegrastats(NANO) == pytest.approx(5.12)


def test_where_no_rail_feeds_all_they_are_summed_but_for_those_that_hang_on_another() -> None:
    assert parse_tegrastats(AGX) == pytest.approx(3.150 + 14.312 + 4.968)
    assert sum_rails({"VDDQ_VDD2_1V8AO": 1.0}) is None


def test_a_line_without_rails_gives_nothing() -> None:
    assert parse_tegrastats("RAM 2448/7620MB CPU [2%@729] cpu@45.2C") is None


def test_energy_of_a_frame_is_power_times_time_over_frames() -> None:
    reading = PowerReading("x", mean_watts=6.0, peak_watts=9.0, samples=4, seconds=5.0, frames=20)
    assert reading.joules_per_frame == pytest.approx(1.5)
    assert reading.to_json()["joules_per_frame"] == pytest.approx(1.5)


def test_mean_and_peak_are_of_what_was_sampled_after_the_beginning() -> None:
    given = deque([100.0])
    meter = PowerMeter(PolledSource("x", lambda: given.popleft() if given else None))
    with meter:
        assert wait_for(lambda: meter.read(1)).peak_watts == 100.0
        meter.begin()
        given.extend([4.0, 8.0])
        found = wait_for(lambda: _enough(meter, 2))
    assert (found.mean_watts, found.peak_watts, found.samples) == (6.0, 8.0, 2)
    assert found.frames == 1
    assert found.seconds > 0


def _enough(meter: PowerMeter, samples: int) -> PowerReading | None:
    found = meter.read(1)
    return found if found and found.samples >= samples else None


@pytest.mark.usefixtures("tools")
def test_the_sensors_of_a_jetson_are_read(tmp_path: Path) -> None:
    put_sensor(tmp_path, 1, ("VDD_IN", 5000, 1200), ("VDD_CPU_GPU_CV", 5000, 300))
    with open_power_meter(root=tmp_path) or pytest.fail("found nothing") as meter:
        found = wait_for(lambda: meter.read(1))
    assert found.source == "the module, VDD_IN (INA3221)"
    assert found.mean_watts == pytest.approx(6.0)


@pytest.mark.usefixtures("tools")
def test_the_rails_of_two_sensors_are_summed(tmp_path: Path) -> None:
    put_sensor(tmp_path, 3, ("VDD_GPU_SOC", 8000, 500), ("VDD_CPU_CV", 8000, 250))
    put_sensor(tmp_path, 4, ("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 1800, 400))
    with open_power_meter(root=tmp_path) or pytest.fail("found nothing") as meter:
        found = wait_for(lambda: meter.read(1))
    assert found.source == "the module, VDD_GPU_SOC + VDD_CPU_CV (INA3221)"
    assert found.mean_watts == pytest.approx(4.0 + 2.0)


def test_other_sensors_are_passed_over_and_tegrastats_is_asked(tmp_path: Path, tools: Path) -> None:
    folder = put_sensor(tmp_path, 0, ("VDD_IN", 5000, 1000))
    (folder / "name").write_text("k10temp\n")
    put_tool(tools, "tegrastats", NANO)
    with open_power_meter(root=tmp_path) or pytest.fail("found nothing") as meter:
        found = wait_for(lambda: meter.read(1))
    assert found.source == "the module (tegrastats)"
    assert found.mean_watts == pytest.approx(5.12)


def test_elsewhere_the_first_gpu_is_asked(tmp_path: Path, tools: Path) -> None:
    put_tool(tools, "nvidia-smi", "71.25")
    with open_power_meter(root=tmp_path) or pytest.fail("found nothing") as meter:
        found = wait_for(lambda: meter.read(2))
    assert found.source == "the first GPU alone (nvidia-smi)"
    assert found.mean_watts == found.peak_watts == 71.25


def test_nvml_is_asked_where_it_is_installed(
    tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bool] = []
    nvml = SimpleNamespace(
        NVMLError=ValueError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: ended.append(True),
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetPowerUsage=lambda handle: 52_500,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with open_power_meter(root=tmp_path) or pytest.fail("found nothing") as meter:
        found = wait_for(lambda: meter.read(1))
    assert (found.source, found.mean_watts) == ("the first GPU alone (NVML)", 52.5)
    assert ended == [True]


def test_a_gpu_that_does_not_tell_gives_no_reading(tmp_path: Path, tools: Path) -> None:
    put_tool(tools, "nvidia-smi", "[N/A]")
    with open_power_meter(root=tmp_path) or pytest.fail("found nothing") as meter:
        time.sleep(0.2)
        assert meter.read(1) is None


@pytest.mark.usefixtures("tools")
def test_a_machine_that_tells_nothing_has_no_meter(tmp_path: Path) -> None:
    assert open_power_meter(root=tmp_path) is None
