"""How fast the processors run now, and how fast they may: what can be read without root."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vcedge.doctor.probing import read_number, run_tool

CPUS = "sys/devices/system/cpu"
DEVICES = "sys/class/devfreq"
GPU_DEVICES = re.compile(r"gpu|ga10b|gv11b|gp10b|gm20b")
"""Of devfreq, on Jetsons from Nano to Thor: ``17000000.gpu``, ``17000000.ga10b``, ``gpu-gpc-0``."""
MEMORY_DEVICES = re.compile(r"emc")


@dataclass(frozen=True)
class Clock:
    """One clock.

    Attributes:
        name: ``CPU``, ``GPU`` or ``memory``; numbered where there are several GPUs.
        mhz: what it runs at now; of the CPU, its slowest core.
        max_mhz: what the power mode allows.
        held: whether its lowest is its highest, which is what ``jetson_clocks`` sets; None where
            that cannot be asked.
    """

    name: str
    mhz: int
    max_mhz: int
    held: bool | None = None

    @property
    def text(self) -> str:
        """``GPU 306 of 1020 MHz``."""
        return f"{self.name} {self.mhz} of {self.max_mhz} MHz"


def read_clocks(root: Path) -> tuple[Clock, ...]:
    """Read the clocks of CPU, GPU and memory; what cannot be read is left out.

    Args:
        root: where the system's files lie.
    """
    cores = sorted((root / CPUS).glob("cpu[0-9]*/cpufreq"))
    found = [_read_range("CPU", [_frequencies(core, "scaling_", "_freq") for core in cores], 1000)]
    for name, wanted in (("GPU", GPU_DEVICES), ("memory", MEMORY_DEVICES)):
        devices = [each for each in sorted((root / DEVICES).glob("*")) if wanted.search(each.name)]
        ranges = [_frequencies(device, "", "_freq") for device in devices]
        found.append(_read_range(name, ranges, 1_000_000))
    return (*(clock for clock in found if clock), *_ask_gpu_clocks())


def describe_clocks(clocks: Sequence[Clock]) -> str | None:
    """Say whether clocks are held, which measurements need; None where that is unknown."""
    known = [clock.held for clock in clocks if clock.held is not None]
    if not known:
        return None
    return "held at their highest" if all(known) else "moving with the load"


def _frequencies(folder: Path, before: str, after: str) -> tuple[int | None, ...]:
    return tuple(read_number(folder / f"{before}{what}{after}") for what in ("cur", "min", "max"))


def _read_range(name: str, ranges: Sequence[tuple[int | None, ...]], unit: int) -> Clock | None:
    """Sum up what the parts of a processor say, in units of this many hertz a megahertz."""
    known = [(now, low, top) for now, low, top in ranges if now and top]
    if not known:
        return None
    slowest, highest = min(now for now, _, _ in known), max(top for _, _, top in known)
    held = all(low == top for _, low, top in known)
    return Clock(name, round(slowest / unit), round(highest / unit), held)


def _ask_gpu_clocks() -> list[Clock]:
    """Ask NVML, through its tool, for the multiprocessors' and the memory's clock of each GPU."""
    fields = "--query-gpu=clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem"
    text = run_tool(["nvidia-smi", fields, "--format=csv,noheader,nounits"])
    rows = [re.findall(r"\d+", line) for line in text.splitlines() if re.match(r"[\d, ]+$", line)]
    rows = [row for row in rows if len(row) == 4]
    clocks = []
    for number, row in enumerate(rows):
        which = f" {number}" if len(rows) > 1 else ""
        now, top, memory_now, memory_top = map(int, row)
        clocks.append(Clock(f"GPU{which}", now, top))
        clocks.append(Clock(f"GPU{which} memory", memory_now, memory_top))
    return clocks
