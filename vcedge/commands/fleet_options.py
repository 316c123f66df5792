"""Options of commands that let several processes, or machines, work on videos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, cast

import click

from vcedge.fleet.cluster import RayCrew
from vcedge.fleet.crews import Alone, Crew, Work
from vcedge.fleet.processes import ProcessCrew
from vcedge.fleet.sharing import Share, share_cores
from vcedge_runtime.engines.processor import count_cores

Command = TypeVar("Command", bound=Callable[..., Any])
OPTIONS = ("workers", "ray", "cpus_per_task", "gpus_per_task")
"""Parameters of the group."""
MOST_WORKERS = 1024


@dataclass(frozen=True)
class Staff:
    """Who is to work, as it was asked for.

    Attributes:
        workers: processes on this machine; 0 for this one alone, None for what is best.
        ray: address of a Ray cluster, or ``auto``; None for this machine.
        cpus: of a task of Ray.
        gpus: likewise, or a part of one.
    """

    workers: int | None = None
    ray: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0

    def __bool__(self) -> bool:
        """Whether anything was asked for."""
        return self.workers is not None or self.ray is not None

    def share(self, threads: int | None, *, on_gpu: bool = False) -> Share:
        """Say how many processes of this machine work, and with how many threads each.

        Args:
            threads: that were asked for; None for what is best.
            on_gpu: whether the engines run on a GPU.
        """
        if self.ray is not None:
            return Share(1, threads or max(1, int(self.cpus)))
        share = share_cores(count_cores(), self.workers or None, threads, on_gpu=on_gpu)
        return share if self.workers != 0 else Share(0, threads or count_cores())

    def open(self, work: Work, workers: int) -> Crew:
        """Open a crew.

        Args:
            work: what it does.
            workers: processes, where they are of this machine.

        Raises:
            MissingExtraError: Ray is not installed.
            ClusterError: there is no such cluster.
        """
        if self.ray is not None:
            return RayCrew(work, self.ray, cpus=self.cpus, gpus=self.gpus)
        return ProcessCrew(work, workers) if workers else Alone(work)


_OPTIONS = (
    click.option(
        "--workers",
        type=click.IntRange(min=0, max=MOST_WORKERS),
        help="Processes on this machine, a video each at a time; 0 for this process alone.",
    ),
    click.option(
        "--ray",
        metavar="auto|ADDRESS",
        help="Work on a Ray cluster: the one that this machine is in, or by its address, such as "
        "ray://head:10001.",
    ),
    click.option(
        "--cpus-per-task",
        type=click.FloatRange(min=0, max=1024),
        default=1.0,
        show_default=True,
        help="With --ray: cores that a video takes.",
    ),
    click.option(
        "--gpus-per-task",
        type=click.FloatRange(min=0, max=64),
        default=0.0,
        show_default=True,
        help="With --ray: GPUs that a video takes; 0.25 lets four share one.",
    ),
)


def staffed(function: Command) -> Command:
    """Give a command the options of who works; it takes them as ``staff``."""

    @wraps(function)
    def run(
        workers: int | None,
        ray: str | None,
        cpus_per_task: float,
        gpus_per_task: float,
        **given: Any,
    ) -> Any:
        if workers is not None and ray is not None:
            raise click.UsageError("pass one of --workers and --ray")
        return function(**given, staff=Staff(workers, ray, cpus_per_task, gpus_per_task))

    found: Any = run
    for option in reversed(_OPTIONS):
        found = option(found)
    return cast(Command, found)
