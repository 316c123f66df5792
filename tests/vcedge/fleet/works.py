"""Stand-ins for work, which processes of a crew can import."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from vcedge.fleet.crews import Tell


@dataclass(frozen=True)
class StandIn:
    """Does what the job's text says, and notes each beginning in a folder."""

    folder: Path

    def __call__(self, job: str, tell: Tell) -> str:
        kind, _, name = job.partition(" ")
        mark = self.folder / f"{name}-{time.monotonic_ns()}-{os.getpid()}"
        mark.touch()
        tell(3)
        tries = len(list(self.folder.glob(f"{name}-*")))
        if kind == "die" or (kind == "die-once" and tries == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "raise":
            raise ValueError(name)
        for _ in range(600 if kind == "sleep" else 0):
            time.sleep(0.1)
        return f"{name} of {os.getpid()}"


def echo(job: str, tell: Tell) -> str:
    return job
