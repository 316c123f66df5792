"""Who works on many videos: what every kind of crew is asked and gives back."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from vcedge_runtime.closing import Closing
from vcedge_runtime.telling import tell_cause

Tell = Callable[[int], None]
"""Is told how many frames of the running job are done."""
Work = Callable[[Any, Tell], Any]
"""Does a job whole; what it needs and gives can be pickled, and so can it."""
Tick = Callable[[int], None]
"""Is told now and then how many frames of the jobs that run are done."""
TICK_S = 0.5
RETRIES = 1
"""How many times a job is tried again whose process died (our choice)."""
GRACE_S = 60.0
"""What a job that is stopped may take to finish its files (our choice)."""
STOPPED = "stopped"
"""Fault of a job that was ended because all were."""


@dataclass(frozen=True)
class Done:
    """What became of a job.

    Attributes:
        job: as it was given.
        result: what the work gave; None where there is a fault.
        fault: why it gave nothing.
    """

    job: Any
    result: Any = None
    fault: str = ""


class Crew(Closing):
    """Works on jobs, each done by one process that nothing else is asked of meanwhile."""

    def __init__(self) -> None:
        self._ready: deque[Done] = deque()

    @abstractmethod
    def run(self, jobs: Iterable[Any], on_tick: Tick = lambda frames: None) -> Iterator[Done]:
        """Do jobs, and yield each as it is done, in any order.

        No more are taken than can be worked on, so that a stream of them is never held. Of an
        interruption the caller hears; the jobs that run go on until ``stop``.
        """

    def reduce(self, workers: int) -> None:
        """Let no more processes work than so many, where they are this machine's."""
        return

    @abstractmethod
    def stop(self) -> Iterator[Done]:
        """Tell the jobs that run to end between two frames, and yield what they give."""

    def _hand_out(self) -> Iterator[Done]:
        """Yield what is done; what an interruption came before waits for ``stop``."""
        while self._ready:
            yield self._ready.popleft()


class Alone(Crew):
    """The plain loop: does the jobs itself, one after the other, in this process."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work

    def run(self, jobs: Iterable[Any], on_tick: Tick = lambda frames: None) -> Iterator[Done]:
        """Do one after the other; an interruption ends the one that runs."""
        for job in jobs:
            yield do_job(self._work, job, on_tick)

    def stop(self) -> Iterator[Done]:
        """Yield nothing: what ran has heard of the interruption itself."""
        yield from ()

    def close(self) -> None:
        """Do nothing."""


def do_job(work: Work, job: Any, tell: Tell) -> Done:
    """Do a job where it is; a fault of the work itself is told and not raised."""
    try:
        return Done(job, work(job, tell))
    except Exception as exc:
        return Done(job, fault=tell_cause(exc))


def describe_loss(tries: int, mend: str = "fewer --workers") -> str:
    """Say that a job's process died."""
    times = "" if tries == 1 else f" {tries} times"
    return (
        f"the process that worked on it died{times}: it was killed, or the memory did not do; "
        f"pass {mend}"
    )
