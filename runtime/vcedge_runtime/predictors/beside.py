"""Runs of graphs that need nothing of each other, at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from vcedge_runtime.engines.base import Engine, runs_beside
from vcedge_runtime.model.bundle import AnyComposition
from vcedge_runtime.model.object_composition import ObjectComposition


def find_beside(parts: AnyComposition) -> frozenset[str]:
    """Graphs of a composition that run beside each other, where a back-end has cores for both.

    Global memory is read while local memory is bent towards the query and read: two threads of one
    graph wait for each other in every operator, two graphs of one thread each do not.
    """
    if isinstance(parts, ObjectComposition) and parts.local != "off":
        return frozenset({"memory_read", "feature_alignment"})
    return frozenset()


@contextmanager
def done_beside(engine: Engine, work: Callable[[], object]) -> Iterator[None]:
    """Do a piece of work while the block runs, and be done with it at its end.

    Before the block, where the engine is not to run beside others.

    Args:
        engine: that the work runs.
        work: done in another thread.
    """
    if not runs_beside(engine):
        work()
        yield
        return
    with ThreadPoolExecutor(1, thread_name_prefix="vcedge-read") as pool:
        done = pool.submit(work)
        yield
    done.result()
