"""A tracker whose window follows the objects, with graphs written by hand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.runtime.tracker.made import Frame, bytes_beside_engines, iou
from tests.runtime.tracker.made_srnet import HandMadeGraph, make_engines, open_hand_made
from vcedge_runtime.errors import BundleError
from vcedge_runtime.tracker import Tracker

HEIGHT, WIDTH, SIDE = 256, 512, 40
COLOURS = {1: (40, 200, 60), 2: (200, 60, 30), 3: (230, 220, 40)}
GROUND = np.random.default_rng(0).integers(100, 140, (HEIGHT // 8, WIDTH // 8, 3))


def draw(**places: tuple[int, int]) -> tuple[Frame, Frame]:
    """A frame of squares at their tops and lefts, and its ids: ``one=(top, left)`` and so on."""
    frame = np.kron(GROUND, np.ones((8, 8, 1))).astype(np.uint8)
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    for name, (top, left) in places.items():
        object_id = ("one", "two", "three").index(name) + 1
        at = np.s_[max(top, 0) : top + SIDE, max(left, 0) : left + SIDE]
        frame[at], ids[at] = COLOURS[object_id], object_id
    return frame, ids


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    with open_hand_made(size=128, window="follow:finest=0.5") as opened:
        yield opened


def test_a_window_follows_an_object_that_moves_and_shows_it_finer(tracker: Tracker) -> None:
    overlaps: list[tuple[float, float]] = []
    with open_hand_made(size=128) as whole:
        for each in (tracker, whole):
            each.start(*draw(one=(100, 40)))
        for step in range(1, 30):
            frame, truth = draw(one=(100 + 2 * step, 40 + 12 * step))
            found, coarse = tracker.step(frame), whole.step(frame)
            window = tracker.video.windows.last
            assert not window.is_whole
            overlaps.append((iou(found.mask == 1, truth == 1), iou(coarse.mask == 1, truth == 1)))
            assert found.states == coarse.states == {1: "tracked"}
            assert found.mask.shape == truth.shape
        _, left, _, right = window.box
        assert left <= 40 + 12 * 29
        assert right >= 40 + 12 * 29 + SIDE
    # The square does not move by whole cells, of 8 pixels in its window, and of 32 in the frame.
    finer, coarser = np.mean(overlaps, axis=0)
    assert finer > 0.7 > 2 * coarser


def test_an_object_that_leaves_is_looked_for_in_the_whole_frame_and_found() -> None:
    with open_hand_made(size=128, window="follow", local="off") as tracker:
        tracker.start(*draw(one=(96, 40)))
        for step in range(1, 6):
            assert tracker.step(draw(one=(96, 40 + 4 * step))[0]).states == {1: "tracked"}
        for _ in range(7):
            result = tracker.step(draw()[0])
        assert (result.states, result.mask.any()) == ({1: "absent"}, False)
        assert tracker.video.windows.last.is_whole
        frame, truth = draw(one=(192, 432))
        for _ in range(3):
            result = tracker.step(frame)
        assert result.states == {1: "tracked"}
        assert not tracker.video.windows.last.is_whole
        assert iou(result.mask == 1, truth == 1) > 0.6


def test_one_that_is_lost_is_looked_for_now_and_then_while_others_are_followed() -> None:
    with open_hand_made(size=128, window="follow:search=4") as tracker:
        tracker.start(*draw(one=(100, 40), two=(100, 100)))
        looks = []
        for _ in range(12):
            result = tracker.step(draw(one=(100, 40))[0])
            assert result.states[1] == "tracked"
            looks.append((tracker.video.windows.last.is_whole, result.states[2]))
        # Once it is lost, every fourth frame is looked at whole.
        assert looks[4:8] == looks[8:]
        assert sorted(looks[4:8]) == [(False, "lost")] * 3 + [(True, "absent")]


def test_what_comes_into_a_window_was_seen_before(tracker: Tracker) -> None:
    """Frame 0 is remembered whole: what was outside its window is known to be background."""
    twin, _ = draw(one=(100, 40), two=(60, 440))
    tracker.start(twin, draw(one=(100, 40))[1])
    assert not tracker.video.windows.last.is_whole
    for step in range(1, 30):
        frame, _ = draw(one=(100, 40 + 12 * step), two=(60, 440))
        result = tracker.step(frame)
    assert not result.mask[60 : 60 + SIDE, 440 : 440 + SIDE].any()


def test_an_object_drawn_outside_the_window_is_followed_from_that_frame_on(
    tracker: Tracker,
) -> None:
    tracker.start(*draw(one=(100, 40)))
    for _ in range(3):
        tracker.step(draw(one=(100, 40), two=(180, 300))[0])
    before = tracker.video.windows.last
    frame, truth = draw(one=(100, 40), two=(180, 300))
    tracker.add_object(2, truth == 2)  # type: ignore[arg-type]
    assert tracker.video.windows.last != before
    for _ in range(8):
        result = tracker.step(frame)
        for object_id in (1, 2):
            assert iou(result.mask == object_id, truth == object_id) > 0.7
    tracker.remove_object(2)
    for _ in range(3):
        result = tracker.step(frame)
    assert set(np.unique(result.mask)) == {0, 1}


@pytest.mark.parametrize("graph", ["query_encoder", "value_encoder"])
def test_a_mask_outside_the_window_that_cannot_be_encoded_changes_nothing(graph: str) -> None:
    engines = make_engines()
    with open_hand_made(engines, size=128, window="follow") as tracker:
        engine = engines[graph]
        assert isinstance(engine, HandMadeGraph)
        frame, truth = draw(one=(100, 40), two=(180, 300))
        tracker.start(frame, np.where(truth == 1, truth, 0).astype(np.uint8))
        tracker.step(frame)
        before = tracker.video.windows.last
        engine.broken = True
        with pytest.raises(RuntimeError, match="on purpose"):
            tracker.add_object(2, truth == 2)  # type: ignore[arg-type]
        engine.broken = False
        assert tracker.video.windows.last == before
        assert tracker.object_ids == [1]
        for _ in range(5):
            result = tracker.step(frame)
            assert result.states == {1: "tracked"}
            assert iou(result.mask > 0, truth == 1) > 0.9
        assert tracker.video.windows.last == before


def test_memory_does_not_grow_whatever_the_window_does(tracker: Tracker) -> None:
    tracker.start(*draw(one=(100, 40), two=(60, 60)))
    before = tracker.memory_bytes
    for step in range(1, 50):
        two = {"two": (60, 60 + 9 * step)} if step % 20 < 12 else {}
        tracker.step(draw(one=(100, 40 + 5 * step), **two)[0])
    assert tracker.memory_bytes == before
    assert bytes_beside_engines(tracker.video) == before


def test_a_frame_that_is_changed_after_its_step_changes_nothing(tracker: Tracker) -> None:
    frame, truth = draw(one=(100, 40), two=(180, 300))
    tracker.start(frame, np.where(truth == 1, truth, 0).astype(np.uint8))
    shown = frame.copy()
    tracker.step(shown)
    shown[...] = 0
    tracker.add_object(2, truth == 2)  # type: ignore[arg-type]
    assert iou(tracker.step(frame).mask == 2, truth == 2) > 0.8


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ("follow:room=0.5", "room=0.5"),
        ("follow:search=0", "search=0"),
        ("follow:zoom=2", "expected setting=value of room"),
        ("away", "expected one of full, follow"),
    ],
)
def test_a_window_that_cannot_be_is_refused(window: str, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        open_hand_made(window=window)
