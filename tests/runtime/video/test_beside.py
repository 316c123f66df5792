"""Frames that are written while others are tracked: all of them, in order, and errors are told."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from vcedge_runtime.errors import OutputError
from vcedge_runtime.video.beside import WrittenBeside
from vcedge_runtime.video.frame import Frame
from vcedge_runtime.video.sinks import Labels, Sink

MASK = np.zeros((4, 6), np.uint8)


def frame(index: int) -> Frame:
    return Frame(index, f"{index:05d}", np.zeros((4, 6, 3), np.uint8))


class Notes(Sink):
    """Notes what it is told and by which thread; waits for ``gate``, and fails at a frame."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.told: list[tuple[str, int]] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False
        self._fail_at = fail_at

    def write(self, frame: Frame, labels: Labels, *rest: Any) -> None:
        assert self.gate.wait(30)
        if frame.index == self._fail_at:
            raise OutputError("received a full disk")
        self.told.append(("write", frame.index))
        self.threads.add(threading.current_thread().name)

    def hold(self, frame: Frame, labels: Labels) -> None:
        self.told.append(("hold", frame.index))

    def close(self) -> None:
        self.closed = True


def test_every_frame_is_written_in_order_by_a_thread_of_its_own() -> None:
    first, second = Notes(), Notes()
    with WrittenBeside([first, second]) as beside:
        for index in range(5):
            if index == 3:
                beside.hold(frame(index), MASK)
            else:
                beside.write(frame(index), MASK, {1: 0.5}, {})
    expected = [("write", 0), ("write", 1), ("write", 2), ("hold", 3), ("write", 4)]
    assert first.told == second.told == expected
    assert all(name.startswith("vcedge-write") for name in first.threads)
    assert not first.closed


def test_a_frame_that_is_being_written_keeps_nobody_but_the_next_one() -> None:
    notes = Notes()
    notes.gate.clear()
    with WrittenBeside([notes]) as beside:
        beside.write(frame(0), MASK, {})
        assert notes.told == []
        # The next one waits for it.
        opener = threading.Timer(0.05, notes.gate.set)
        opener.start()
        beside.write(frame(1), MASK, {})
        assert notes.told[0] == ("write", 0)
    assert notes.told == [("write", 0), ("write", 1)]


def test_what_fails_is_told_with_the_next_frame() -> None:
    notes = Notes(fail_at=1)
    beside = WrittenBeside([notes])
    beside.write(frame(0), MASK, {})
    beside.write(frame(1), MASK, {})
    with pytest.raises(OutputError, match="full disk"):
        beside.write(frame(2), MASK, {})
    beside.close()
    beside.close()
    assert notes.told == [("write", 0)]


def test_what_fails_last_is_told_at_the_end() -> None:
    with pytest.raises(OutputError, match="full disk"), WrittenBeside([Notes(0)]) as beside:
        beside.write(frame(0), MASK, {})
