"""A tracker of small frames, with a model that was never trained but tells cells apart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.runtime.tracker.made import HEIGHT, WIDTH, Frame, MakeFrame
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.tracker import Tracker


@pytest.fixture
def tracker(tiny_bundle: Bundle) -> Iterator[Tracker]:
    """A tracker of the tiny bundle, at its own size of 64; masks do not follow edges.

    The objects of these tests are not told from their background by colour.
    """
    with Tracker.open(tiny_bundle, overrides={"edges": False}, threads=1) as tracker:
        yield tracker


@pytest.fixture
def frame(make_frame: MakeFrame) -> Frame:
    return make_frame(HEIGHT, WIDTH)


@pytest.fixture
def mask(make_mask: MakeFrame) -> Frame:
    """Objects 3 and 200 side by side."""
    return make_mask(HEIGHT, WIDTH, 3, 200)


@pytest.fixture(params=[False, True], ids=["cubic", "edges"])
def either(request: pytest.FixtureRequest, tiny_bundle: Bundle) -> Iterator[Tracker]:
    """A tracker whose masks follow edges, and one whose masks do not."""
    with Tracker.open(tiny_bundle, overrides={"edges": request.param}, threads=1) as tracker:
        yield tracker
