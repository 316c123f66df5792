"""What tracking draws: watts sampled in the background while frames are tracked.

On a Jetson the module's own sensors say it (INA3221, in sysfs or through ``tegrastats``), elsewhere
NVML says it of the GPU. Rails: Jetson Linux Developer Guide, Platform Power and Performance.
"""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vcedge.doctor.probing import read_number, read_text
from vcedge_runtime.closing import Closing

PERIOD_MS = 100
"""Between two samples (our choice); a sensor averages over less."""
WHOLE_RAILS = ("VDD_IN", "VIN", "POM_5V_IN")
"""Rails that feed the whole module; where there is one, the others are parts of it."""
FED_RAILS = ("VDDQ_VDD2_1V8AO",)
"""Rails of AGX Orin that hang on another one (VIN_SYS_5V0), and would count twice in a sum."""
SENSORS = "sys/class/hwmon"


@dataclass(frozen=True)
class PowerReading:
    """What was drawn over some frames.

    Attributes:
        source: what was measured, in words.
        mean_watts: over all samples.
        peak_watts: highest sample.
        samples: how many there were.
        seconds: wall time of the frames.
        frames: how many were tracked in it.
    """

    source: str
    mean_watts: float
    peak_watts: float
    samples: int
    seconds: float
    frames: int

    @property
    def joules_per_frame(self) -> float:
        """Energy of a frame, what the machine draws when idle included."""
        return self.mean_watts * self.seconds / self.frames

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**vars(self), "joules_per_frame": self.joules_per_frame}


class PowerSource(Protocol):
    """Where watts come from."""

    name: str

    def samples(self) -> Iterator[float]:
        """Give watts as they are measured, until ``stop``."""

    def stop(self) -> None:
        """End ``samples``, from another thread."""


class PolledSource:
    """A sensor that is asked again and again.

    Args:
        name: what it measures, in words.
        read: gives watts, None where it fails.
        release: gives the sensor back.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], float | None],
        release: Callable[[], object] = lambda: None,
    ) -> None:
        self.name = name
        self._read = read
        self._release = release
        self._stopped = threading.Event()

    def samples(self) -> Iterator[float]:
        """See ``PowerSource.samples``."""
        while not self._stopped.is_set():
            watts = self._read()
            if watts is not None:
                yield watts
            self._stopped.wait(PERIOD_MS / 1000)
        self._release()

    def stop(self) -> None:
        """See ``PowerSource.stop``."""
        self._stopped.set()


class StreamedSource:
    """A tool that prints a line a sample.

    Args:
        name: what it measures, in words.
        command: the tool, by its whole path, and its options.
        parse: gives watts of a line, None where it says none.

    Raises:
        OSError: the tool cannot be started.
    """

    def __init__(self, name: str, command: list[str], parse: Callable[[str], float | None]) -> None:
        self.name = name
        self._parse = parse
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )

    def samples(self) -> Iterator[float]:
        """See ``PowerSource.samples``."""
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                watts = self._parse(line)
                if watts is not None:
                    yield watts

    def stop(self) -> None:
        """See ``PowerSource.stop``."""
        self._process.kill()
        self._process.wait()


class PowerMeter(Closing):
    """Samples a source in a thread of its own, from the start to ``close``.

    Args:
        source: where watts come from; closed with the meter.
    """

    def __init__(self, source: PowerSource) -> None:
        self._source = source
        self._watts: list[float] = []
        self._began = time.perf_counter()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Forget what was sampled so far: the frames that count begin."""
        self._watts, self._began = [], time.perf_counter()

    def read(self, frames: int) -> PowerReading | None:
        """Sum up the time since ``begin``; None where nothing was sampled in it.

        Args:
            frames: tracked since then, at least 1.
        """
        watts, seconds = list(self._watts), time.perf_counter() - self._began
        if not watts:
            return None
        mean = sum(watts) / len(watts)
        return PowerReading(self._source.name, mean, max(watts), len(watts), seconds, frames)

    def close(self) -> None:
        """Stop sampling."""
        self._source.stop()
        self._thread.join()

    def _sample(self) -> None:
        for watts in self._source.samples():
            self._watts.append(watts)


def open_power_meter(*, root: Path = Path("/")) -> PowerMeter | None:
    """Begin to sample what this machine can tell; None where it tells nothing.

    Args:
        root: where the system's files lie; a test puts its own there.
    """
    ways = (lambda: _open_sensors(root), _open_tegrastats, _open_nvml, _open_nvidia_smi)
    source = next((found for found in (way() for way in ways) if found), None)
    return PowerMeter(source) if source else None


def sum_rails(rails: Mapping[str, float]) -> float | None:
    """Watts of a whole module: those of the rail that feeds it, or the sum of its rails.

    Args:
        rails: watts by the rail's name.
    """
    for name in WHOLE_RAILS:
        if name in rails:
            return rails[name]
    own = [watts for name, watts in rails.items() if name not in FED_RAILS]
    return sum(own) if own else None


def parse_tegrastats(line: str) -> float | None:
    """Watts of a module in a line such as ``... VDD_IN 5120mW/5000mW VDD_SOC 1480mW/1480mW``."""
    rails = re.findall(r"(\w+) (\d+)mW/\d+mW", line)
    return sum_rails({name: int(milliwatts) / 1000 for name, milliwatts in rails})


def _open_sensors(root: Path) -> PolledSource | None:
    """The INA3221 of a Jetson: ``in1_label``, ``in1_input`` (mV) and ``curr1_input`` (mA)."""
    channels: dict[str, tuple[Path, Path]] = {}
    for folder in sorted((root / SENSORS).glob("hwmon*")):
        if read_text(folder / "name").strip() != "ina3221":
            continue
        for label in sorted(folder.glob("in[1-3]_label")):
            rail, channel = read_text(label).strip(), label.name[2]
            if rail and rail != "NC":
                channels[rail] = (folder / f"in{channel}_input", folder / f"curr{channel}_input")
    if not channels:
        return None

    def read() -> float | None:
        rails = {}
        for rail, paths in channels.items():
            millivolts, milliamperes = map(read_number, paths)
            if millivolts is not None and milliamperes is not None:
                rails[rail] = millivolts * milliamperes / 1e6
        return sum_rails(rails)

    whole = [rail for rail in WHOLE_RAILS if rail in channels]
    parts = [rail for rail in channels if rail not in FED_RAILS]
    source = PolledSource(f"the module, {' + '.join(whole[:1] or parts)} (INA3221)", read)
    return source if read() is not None else None


def _open_tegrastats() -> StreamedSource | None:
    tool = shutil.which("tegrastats")
    command = [tool or "", "--interval", str(PERIOD_MS)]
    return _start("the module (tegrastats)", command, parse_tegrastats) if tool else None


def _open_nvml() -> PolledSource | None:
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:
        return None

    def read() -> float | None:
        try:
            return float(nvml.nvmlDeviceGetPowerUsage(nvml.nvmlDeviceGetHandleByIndex(0))) / 1000
        except nvml.NVMLError:
            return None

    if read() is None:
        nvml.nvmlShutdown()
        return None
    return PolledSource("the first GPU alone (NVML)", read, nvml.nvmlShutdown)


def _open_nvidia_smi() -> StreamedSource | None:
    tool = shutil.which("nvidia-smi")
    options = ["--id=0", "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
    command = [tool or "", *options, f"--loop-ms={PERIOD_MS}"]
    return _start("the first GPU alone (nvidia-smi)", command, _parse_watts) if tool else None


def _parse_watts(line: str) -> float | None:
    return float(line) if re.fullmatch(r"\s*\d+(\.\d+)?\s*", line) else None


def _start(
    name: str, command: list[str], parse: Callable[[str], float | None]
) -> StreamedSource | None:
    try:
        return StreamedSource(name, command, parse)
    except OSError:
        return None
