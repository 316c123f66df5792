"""OpenCV kept off the terminal by several threads at once, and off memory that a file claims."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from resource import RUSAGE_SELF, getrusage

import cv2
import numpy as np
import pytest

from vcedge_runtime.video.opencv import PNG_SIGNATURE, decode_image, quiet_opencv

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


def test_a_png_that_claims_gigabytes_takes_none() -> None:
    """Found by the fuzzer: 20 bytes, for which OpenCV takes the memory that they claim."""
    claim = PNG_SIGNATURE + b"\xe1\xe1\xe1\x10IEND\xaeB`\x82"
    before = getrusage(RUSAGE_SELF).ru_maxrss
    assert decode_image(claim, cv2.IMREAD_UNCHANGED) is None
    whole = cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes()
    large = whole.replace(whole[33:37], b"\x7f\xff\xff\xff", 1)
    assert decode_image(large, cv2.IMREAD_UNCHANGED) is None
    assert decode_image(whole, cv2.IMREAD_UNCHANGED) is not None
    assert getrusage(RUSAGE_SELF).ru_maxrss - before < 200_000
