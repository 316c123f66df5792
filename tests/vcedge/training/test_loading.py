"""What loader processes print when a run is stopped."""

from __future__ import annotations

import errno
import multiprocessing
import os
import threading
from collections.abc import Callable
from multiprocessing.context import BaseContext
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from vcedge.training.loading import loading_context


def close_early(context: BaseContext) -> None:
    """Write to a queue whose pipe is gone already, and wait for its thread."""
    queue: Any = context.Queue()

    def fail(data: bytes) -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    queue._send_bytes = fail
    queue.put(1)
    queue.close()
    queue.join_thread()


def send_what_cannot_be(context: BaseContext) -> None:
    """Send what no process can take; locks belong to theirs."""
    queue: Any = context.Queue()
    queue.put(threading.Lock())
    queue.close()
    queue.join_thread()


@pytest.mark.parametrize(
    ("context", "fail", "told"),
    [
        (multiprocessing.get_context, close_early, "Bad file descriptor"),
        (loading_context, close_early, ""),
        (loading_context, send_what_cannot_be, "cannot pickle"),
    ],
    ids=["python's own", "closed", "cannot be sent"],
)
def test_a_queue_that_is_closed_while_it_is_written_to_prints_nothing(
    context: Callable[[], BaseContext],
    fail: Callable[[BaseContext], None],
    told: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    fail(context())
    error = capfd.readouterr().err
    assert told in error if told else error == ""


def test_a_loader_loads_with_it() -> None:
    data = TensorDataset(torch.arange(12.0))
    context = loading_context()
    loader = DataLoader(data, batch_size=4, num_workers=2, multiprocessing_context=context)
    assert [batch[0].tolist() for batch in loader] == [
        [0.0, 1.0, 2.0, 3.0],
        [4.0, 5.0, 6.0, 7.0],
        [8.0, 9.0, 10.0, 11.0],
    ]
