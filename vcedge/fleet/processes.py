"""A crew on one machine: processes, each with the job that it works on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from typing import Any

from vcedge.fleet.crews import (
    GRACE_S,
    RETRIES,
    STOPPED,
    TICK_S,
    Crew,
    Done,
    Tick,
    Work,
    describe_loss,
    do_job,
)
from vcedge_runtime.stopping import finish_first, stoppable
from vcedge_runtime.telling import tell_cause

_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Of the processes: libraries would take every core for each of them."""
_OWN: list[Callable[[Any], Done]] = []
"""What this process does with a job, where it is one of a crew."""


class _Place:
    """One process and the job in it.

    An executor of one process each: a process that dies breaks its executor, and would take the
    jobs of all others with it.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.executor: ProcessPoolExecutor | None = None
        self.job: Any = None
        self.tries = 0


class ProcessCrew(Crew):
    """Processes of this machine, spawned when there is work for them.

    A process that dies, killed or out of memory, costs its own job one more try.

    Args:
        work: what is done with a job; sent to each process once.
        workers: processes.
        retries: how many times a job is tried again whose process died.
    """

    def __init__(self, work: Work, workers: int, *, retries: int = RETRIES) -> None:
        super().__init__()
        self._work, self._retries = work, retries
        self._context = get_context("spawn")
        # Without a lock: one that a killed process held would hold up all others.
        self._frames = self._context.RawArray("Q", workers)
        self._ids = self._context.RawArray("Q", workers)
        # The last one is taken first: what was spawned is used again.
        self._free = [_Place(number) for number in reversed(range(workers))]
        self._running: dict[Future[Done], _Place] = {}
        self._stopping = False

    def run(self, jobs: Iterable[Any], on_tick: Tick = lambda frames: None) -> Iterator[Done]:
        """Do jobs; see ``Crew.run``."""
        waiting = iter(jobs)
        left = True
        while left or self._running:
            while left and self._free:
                with finish_first():
                    left = self._take(waiting)
            if self._running:
                yield from self._gather(TICK_S)
            on_tick(sum(self._frames))

    def reduce(self, workers: int) -> None:
        """Let no more processes work than so many; those that were spawned stay, one at least."""
        self._free = self._free[-max(1, workers) :]

    def stop(self) -> Iterator[Done]:
        """End the jobs that run; one that does not end within ``GRACE_S`` is killed."""
        until, told = time.monotonic() + GRACE_S, set[int]()
        self._stopping = True
        yield from self._hand_out()
        while self._running and time.monotonic() < until:
            for place in self._running.values():
                # One that is still being spawned has no number yet.
                if self._ids[place.number] and place.number not in told:
                    told.add(place.number)
                    self._signal(place, signal.SIGTERM)
            yield from self._gather(TICK_S)

    def close(self) -> None:
        """End the processes; a job that still runs is lost."""
        places = [*self._free, *self._running.values()]
        for place in self._running.values():
            self._signal(place, signal.SIGKILL)
        for place in places:
            if place.executor is not None:
                place.executor.shutdown(wait=True, cancel_futures=True)
                place.executor = None

    def _take(self, waiting: Iterator[Any]) -> bool:
        """Begin the next job; False where there is none."""
        for job in waiting:
            place = self._free.pop()
            place.job, place.tries = job, 0
            self._begin(place)
            return True
        return False

    def _begin(self, place: _Place) -> None:
        """Give a place's job to its process, which is spawned where there is none."""
        self._frames[place.number] = 0
        if place.executor is None:
            arguments = (self._work, self._frames, self._ids, place.number)
            place.executor = ProcessPoolExecutor(
                1, mp_context=self._context, initializer=_enter, initargs=arguments
            )
        place.tries += 1
        with _spawning():
            self._running[place.executor.submit(_do, place.job)] = place

    def _gather(self, timeout_s: float) -> Iterator[Done]:
        """Wait for jobs, and yield those that are done."""
        ready, _ = wait(self._running, timeout=timeout_s, return_when=FIRST_COMPLETED)
        for future in ready:
            with finish_first():
                self._settle(future, self._running.pop(future))
        yield from self._hand_out()

    def _settle(self, future: Future[Done], place: _Place) -> None:
        """See what became of a job, and try it again where its process died."""
        try:
            done = future.result()
        except BrokenProcessPool:
            self._bury(place)
            if place.tries <= self._retries and not self._stopping:
                self._begin(place)
                return
            fault = STOPPED if self._stopping else describe_loss(place.tries)
            done = Done(place.job, fault=fault)
        except Exception as exc:
            done = Done(place.job, fault=tell_cause(exc))
        self._frames[place.number] = 0
        self._free.append(place)
        self._ready.append(done)

    def _bury(self, place: _Place) -> None:
        if place.executor is not None:
            place.executor.shutdown(wait=True)
        place.executor, self._ids[place.number] = None, 0

    def _signal(self, place: _Place, number: int) -> None:
        own = self._ids[place.number]
        if own:
            with suppress(ProcessLookupError):
                os.kill(own, number)


@contextmanager
def _spawning() -> Iterator[None]:
    """What a process that is spawned meanwhile inherits.

    Ctrl-C goes to every process of a terminal: the crew's ignore it from their first moment, and
    end when they are told to.
    """
    given = {name: text for name, text in _ENVIRONMENT.items() if name not in os.environ}
    main = threading.current_thread() is threading.main_thread()
    former = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    os.environ.update(given)
    try:
        yield
    finally:
        for name in given:
            del os.environ[name]
        if main:
            signal.signal(signal.SIGINT, former)


def _enter(work: Work, frames: Any, ids: Any, number: int) -> None:
    """Begin a process of a crew."""
    ids[number] = os.getpid()

    def tell(done: int) -> None:
        frames[number] = done

    _OWN[:] = [partial(do_job, work, tell=tell)]
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _do(job: Any) -> Done:
    try:
        with stoppable():
            return _OWN[0](job)
    except KeyboardInterrupt:
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            os._exit(1)  # nobody would tell it to end
        return Done(job, fault=STOPPED)


def _end_with_parent() -> None:
    """End this process where its parent was killed, which nothing else would tell it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)
