"""A crew of many machines: Ray's, a task a job."""

from __future__ import annotations

import signal
import socket
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
from vcedge_runtime.errors import ClusterError, MissingExtraError
from vcedge_runtime.installing import how_to_install
from vcedge_runtime.stopping import STOPS, finish_first
from vcedge_runtime.telling import tell_cause

AHEAD = 2
"""Tasks under way for each that can run at once: what waits there begins at once (our choice)."""
TOLD_S = 2.0
"""Between two times that a task tells how far it is, and that the crew asks (our choice)."""
LISTENS_S = 10.0
"""How long a cluster's head may take to answer (our choice)."""


class RayCrew(Crew):
    """Tasks of a Ray cluster, on whose machines vcedge is installed and the files are at hand.

    The work is put into Ray's object store once, with all that is in it. A task whose process or
    machine is lost is tried again elsewhere.

    Args:
        work: what is done with a job.
        address: ``auto`` for the cluster that this machine is in, or where its head is.
        cpus: cores that a task takes.
        gpus: GPUs, or a part of one.
        retries: how many times a job is tried again whose process was lost.

    Raises:
        MissingExtraError: Ray is not installed.
        ClusterError: there is no such cluster, or none of its tasks could ever run.
    """

    def __init__(
        self, work: Work, address: str, *, cpus: float, gpus: float, retries: int = RETRIES
    ) -> None:
        super().__init__()
        with _own_handlers():
            self._ray = import_ray()
            self._joined = not self._ray.is_initialized()
            if self._joined:
                self._join(address)
        self._needs = {"CPU": cpus, "GPU": gpus}
        self._retries = retries
        self._running: dict[Any, Any] = {}
        try:
            self._count_tasks()
            self._work = self._ray.put(work)
        except BaseException:
            self.close()
            raise
        self._tally = self._ray.remote(num_cpus=0)(_Tally).remote()
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": retries}
        self._task = self._ray.remote(**options)(_do)

    def run(self, jobs: Iterable[Any], on_tick: Tick = lambda frames: None) -> Iterator[Done]:
        """Do jobs; see ``Crew.run``."""
        waiting, left, most, asked_s = iter(jobs), True, 0, float("-inf")
        while left or self._running:
            # Each question goes to other processes: now and then will do.
            if time.monotonic() - asked_s > TOLD_S:
                with finish_first():
                    most, frames = AHEAD * self._count_tasks(), self._count_frames()
                asked_s = time.monotonic()
                on_tick(frames)
            while left and len(self._running) < most:
                with finish_first():
                    left = self._take(waiting)
            if self._running:
                yield from self._gather()

    def stop(self) -> Iterator[Done]:
        """End the jobs that run or wait; those that do not end within ``GRACE_S`` are lost."""
        until = time.monotonic() + GRACE_S
        yield from self._hand_out()
        for ref in self._running:
            self._ray.cancel(ref, force=False)
        while self._running and time.monotonic() < until:
            yield from self._gather()

    def close(self) -> None:
        """Leave the cluster, which ends what of this crew still runs there."""
        if self._joined:
            self._joined = False
            self._ray.shutdown()

    def _join(self, address: str) -> None:
        try:
            _require_listener(address)
            with warnings.catch_warnings():
                # Of what will change in a later Ray.
                warnings.simplefilter("ignore")
                self._ray.init(address, log_to_driver=False, logging_level="ERROR")
        except (OSError, ValueError, RuntimeError) as exc:
            raise ClusterError(
                f"received --ray {address}, where no cluster can be reached ({tell_cause(exc)}); "
                "expected one that runs; start it by `ray start --head`, or pass --workers instead"
            ) from exc

    def _count_frames(self) -> int:
        """Frames of the tasks that run, as far as they have told of them."""
        try:
            frames: int = self._ray.get(self._tally.count.remote(), timeout=TICK_S)
        except (self._ray.exceptions.RayError, TimeoutError):
            return 0  # its machine is lost, or busy: the jobs do without
        return frames

    def _count_tasks(self) -> int:
        """How many tasks the cluster runs at once, as it is now.

        Raises:
            ClusterError: none.
        """
        has = self._ray.cluster_resources()
        counts = [has.get(kind, 0) / need for kind, need in self._needs.items() if need]
        tasks = int(min(counts, default=AHEAD))
        if not tasks:
            told = ", ".join(f"{kind} {has.get(kind, 0):g}" for kind in self._needs)
            asked = ", ".join(f"{kind} {need:g}" for kind, need in self._needs.items())
            raise ClusterError(
                f"received tasks of {asked} for a cluster of {told}; expected tasks that fit; pass "
                "other --cpus-per-task or --gpus-per-task"
            )
        return tasks

    def _take(self, waiting: Iterator[Any]) -> bool:
        """Begin the next job; False where there is none."""
        for job in waiting:
            self._running[self._task.remote(self._work, job, self._tally)] = job
            return True
        return False

    def _gather(self) -> Iterator[Done]:
        """Wait for a job, and yield it if it is done."""
        # Within it Ray makes Ctrl-C of whatever signal comes.
        with finish_first():
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=TICK_S)
        for ref in ready:
            with finish_first():
                self._ready.append(self._settle(ref, self._running.pop(ref)))
        yield from self._hand_out()

    def _settle(self, ref: Any, job: Any) -> Done:
        errors = self._ray.exceptions
        lost = (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError)
        try:
            done: Done = self._ray.get(ref)
        except errors.TaskCancelledError:
            return Done(job, fault=STOPPED)
        except lost:
            return Done(job, fault=describe_loss(1 + self._retries, "--cpus-per-task 2 or more"))
        except Exception as exc:
            return Done(job, fault=tell_cause(exc))
        return done


def import_ray() -> Any:
    """Import Ray.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import ray
    except ImportError as exc:
        raise MissingExtraError(
            f"--ray needs Ray, which is not installed; run: {how_to_install('cluster')}"
        ) from exc
    return ray


class _Tally:
    """An actor that hears how far the tasks are."""

    def __init__(self) -> None:
        self._frames: dict[str, int] = {}

    def note(self, task: str, frames: int | None) -> None:
        """Note how many frames of a task are done; None when it has ended."""
        self._frames[task] = frames or 0
        if frames is None:
            del self._frames[task]

    def count(self) -> int:
        """Frames of all tasks that run."""
        return sum(self._frames.values())


def _do(work: Work, job: Any, tally: Any) -> Done:
    """A task: do a job; one that is cancelled ends between two frames."""
    task = import_ray().get_runtime_context().get_task_id()
    last_s = float("-inf")

    def tell(frames: int) -> None:
        nonlocal last_s
        if time.monotonic() - last_s > TOLD_S:
            last_s = time.monotonic()
            tally.note.remote(task, frames)

    try:
        return do_job(work, job, tell)
    except KeyboardInterrupt:
        return Done(job, fault=STOPPED)
    finally:
        tally.note.remote(task, None)


def _require_listener(address: str) -> None:
    """Refuse an address where nobody listens: Ray would try it again and again.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), timeout=LISTENS_S).close()


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Put back what hears signals: Ray has SIGTERM end the process where it stands."""
    main = threading.current_thread() is threading.main_thread()
    formers = {number: signal.getsignal(number) for number in STOPS} if main else {}
    try:
        yield
    finally:
        for number, handler in formers.items():
            signal.signal(number, handler)
