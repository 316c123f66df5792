"""OpenCV's own log, kept off the terminal by several threads at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import cv2
import pytest

from vcedge_runtime.video.opencv import quiet_opencv

LOG = getattr(cv2.utils, "logging", cv2)
SILENT, WARNINGS = 0, 3


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    """OpenCV tells warnings, and afterwards what it told before."""
    before = LOG.getLogLevel()
    LOG.setLogLevel(WARNINGS)
    yield
    LOG.setLogLevel(before)


def test_the_level_is_put_back_in_whatever_order_threads_leave() -> None:
    for first_leaves_first in (True, False):
        stacks = [ExitStack(), ExitStack()]
        for stack in stacks:
            stack.enter_context(quiet_opencv())
        assert LOG.getLogLevel() == SILENT
        for number, stack in enumerate(stacks if first_leaves_first else stacks[::-1]):
            stack.close()
            assert LOG.getLogLevel() == (WARNINGS if number else SILENT)


def test_the_level_is_put_back_where_a_block_fails() -> None:
    with pytest.raises(KeyError), quiet_opencv():
        raise KeyError
    assert LOG.getLogLevel() == WARNINGS
