"""Processes that load clips, and end without a word where a run is stopped."""

from __future__ import annotations

import errno
import multiprocessing
from copy import copy
from multiprocessing.context import BaseContext
from multiprocessing.queues import Queue
from typing import Any

CLOSED = (errno.EBADF, errno.EPIPE)
"""How the system names a pipe that is no more."""


class QuietQueue(Queue):  # type: ignore[type-arg]
    """A queue whose thread prints no traceback where it is closed while it is written to.

    PyTorch's loader closes its queues so when an exception ends it, such as Ctrl-C. Everything else
    that cannot be sent is told as before.
    """

    @staticmethod
    def _on_queue_feeder_error(error: Exception, item: Any) -> None:
        if not (isinstance(error, OSError) and error.errno in CLOSED):
            Queue._on_queue_feeder_error(error, item)  # type: ignore[attr-defined]


def loading_context() -> BaseContext:
    """How loader processes are started: as the system's default is, with quiet queues."""
    context = copy(multiprocessing.get_context())
    vars(context)["Queue"] = lambda maxsize=0: QuietQueue(maxsize, ctx=context)
    return context
