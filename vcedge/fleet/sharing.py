"""How a machine's cores and memory are shared among trackers."""

from __future__ import annotations

from dataclasses import dataclass

LEFT_FREE = 0.9
"""Share of the free memory that trackers may take (our choice)."""


@dataclass(frozen=True)
class Share:
    """What each tracker has.

    Attributes:
        workers: processes with a tracker each.
        threads: of an engine.
    """

    workers: int
    threads: int


def share_cores(
    cores: int, workers: int | None = None, threads: int | None = None, *, on_gpu: bool = False
) -> Share:
    """Share cores so that most frames a second come out.

    On a CPU that is a tracker a core with one thread: what a frame needs beside the engines (to
    decode, resize, write) is then done beside another's engines. On a GPU it is one tracker.

    Args:
        cores: that there are.
        workers: as many as were asked for; None for the best.
        threads: likewise.
        on_gpu: whether the engines run on a GPU.
    """
    if workers is None:
        workers = 1 if on_gpu else max(1, cores // (threads or 1))
    return Share(workers, threads or max(1, cores // workers))


def fit_memory(share: Share, tracker_bytes: int, free_bytes: int | None) -> Share:
    """As many trackers as the free memory holds, at least one.

    Args:
        share: of the cores.
        tracker_bytes: what a process with its tracker takes.
        free_bytes: what is free; None where nobody knows.
    """
    if free_bytes is None:
        return share
    most = max(1, int(LEFT_FREE * free_bytes) // tracker_bytes)
    return Share(min(share.workers, most), share.threads)
