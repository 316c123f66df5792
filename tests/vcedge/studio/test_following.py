"""The tracker goes on from what the user drew, forward, backward, and over what he corrected."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.vcedge.studio.square import FRAMES, draw_bar, draw_truth, overlap
from vcedge.studio.following import BACKWARD, FORWARD, Follower
from vcedge.studio.footage import Footage
from vcedge.studio.records import Records
from vcedge_runtime.errors import TrackerError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.tracker import Tracker


@pytest.fixture
def records(footage: Footage) -> Iterator[Records]:
    with Records(footage.frame_hw) as opened:
        yield opened


@pytest.fixture
def follower(footage: Footage, records: Records, tiny_bundle: Bundle) -> Iterator[Follower]:
    with Tracker.open(tiny_bundle, backend="cpu", threads=1) as tracker:
        yield Follower(tracker, footage, records)


@pytest.fixture
def corrections(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[int, NDArray[np.uint8]]]:
    """What the tracker is given by ``add_object``."""
    given = []
    add = follower.tracker.add_object

    def note(object_id: int, mask: NDArray[np.uint8]) -> None:
        given.append((object_id, mask))
        add(object_id, mask)

    monkeypatch.setattr(follower.tracker, "add_object", note)
    return given


def draw(records: Records, frame: int, labels: NDArray[np.uint8], *ids: int) -> None:
    """What the user draws: these ids, empty ones included."""
    scores = {i: float((labels == i).any()) for i in ids}
    records.put(frame, records.make(labels, scores, ids))


def follow(
    follower: Follower, start: int, direction: int, *ids: int, to: int | None = None
) -> None:
    end = follower.find_end(start, direction) if to is None else to
    follower.begin(start, direction, ids)
    for frame in range(start + direction, end + direction, direction):
        follower.step(frame)


def found(records: Records, frame: int) -> NDArray[np.uint8]:
    return records.labels_of(records.find(frame))


def test_an_object_is_followed_to_the_end_and_to_the_beginning(
    follower: Follower, records: Records
) -> None:
    draw(records, 5, draw_truth(5), 1)
    follow(follower, 5, FORWARD, 1)
    follow(follower, 5, BACKWARD, 1)
    assert records.frames() == list(range(FRAMES))
    for frame in range(FRAMES):
        assert overlap(found(records, frame), draw_truth(frame)) > 0.6
    assert records.find(6).scores[1] > 0.5


def test_backward_ends_half_way_to_what_was_drawn_before(
    follower: Follower, records: Records
) -> None:
    draw(records, 2, draw_truth(2), 1)
    draw(records, 9, draw_truth(9), 1)
    assert follower.find_end(9, BACKWARD) == 6
    assert follower.find_end(2, BACKWARD) == 0
    assert follower.find_end(2, FORWARD) == FRAMES - 1


def test_it_starts_from_the_nearest_frame_before_that_has_a_mask(
    follower: Follower, records: Records
) -> None:
    draw(records, 3, draw_truth(3), 1)
    assert follower.find_start(3, FORWARD) == 3
    assert follower.find_start(8, FORWARD) == 3
    assert follower.find_start(1, BACKWARD) == 3
    with pytest.raises(TrackerError, match="draw an object first"):
        follower.find_start(2, FORWARD)


def test_a_drawn_frame_on_the_way_keeps_its_mask_and_is_taken_up(
    follower: Follower, records: Records, corrections: list[tuple[int, NDArray[np.uint8]]]
) -> None:
    draw(records, 0, draw_truth(0), 1)
    elsewhere = np.zeros_like(draw_truth(0))
    elsewhere[2:14, 2:14] = 1
    draw(records, 4, elsewhere, 1)
    follow(follower, 0, FORWARD, 1, to=5)
    np.testing.assert_array_equal(found(records, 4), elsewhere)
    assert records.find(4).drawn == {1}
    [(object_id, mask)] = corrections
    assert object_id == 1
    np.testing.assert_array_equal(mask, elsewhere == 1)


def test_a_correction_is_taken_up_without_beginning_anew(
    follower: Follower,
    records: Records,
    corrections: list[tuple[int, NDArray[np.uint8]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw(records, 0, draw_truth(0), 1)
    follow(follower, 0, FORWARD, 1, to=4)
    draw(records, 4, draw_truth(5), 1)
    follower.lose(4)
    monkeypatch.setattr(follower.tracker, "start", lambda *given: pytest.fail("began anew"))
    follow(follower, 4, FORWARD, 1, to=6)
    assert [object_id for object_id, _ in corrections] == [1]


def test_an_object_that_the_user_says_is_gone_is_followed_no_longer(
    follower: Follower, records: Records
) -> None:
    both = draw_truth(0)
    both[draw_bar() > 0] = 2
    draw(records, 0, both, 1, 2)
    follow(follower, 0, FORWARD, 1, 2, to=3)
    assert (found(records, 3) == 2).any()
    without = found(records, 3)
    without[without == 2] = 0
    draw(records, 3, without, 2)
    follower.lose(3)
    follow(follower, 3, FORWARD, 1, 2, to=6)
    assert not (found(records, 6) == 2).any()
    assert (found(records, 6) == 1).any()


def test_an_object_that_is_drawn_later_is_followed_from_there(
    follower: Follower, records: Records
) -> None:
    draw(records, 0, draw_truth(0), 1)
    follow(follower, 0, FORWARD, 1, to=4)
    more = found(records, 4)
    more[draw_bar() > 0] = 2
    draw(records, 4, more, 2)
    follower.lose(4)
    follow(follower, 4, FORWARD, 1, 2, to=7)
    assert set(np.unique(found(records, 7))) == {0, 1, 2}


def test_begun_anew_elsewhere_it_has_seen_what_was_drawn_before(
    follower: Follower, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    for frame in (0, 2, 3, 4, 6, 8):
        draw(records, frame, draw_truth(frame), 1)
    seen: list[int] = []
    read = follower._footage.read
    monkeypatch.setattr(follower._footage, "read", lambda at: (seen.append(at), read(at))[1])
    follower.begin(8, FORWARD, [1])
    assert seen == [2, 3, 4, 6, 8]
    seen.clear()
    follower.begin(2, BACKWARD, [1])
    assert seen == [8, 6, 4, 3, 2]


def test_objects_that_were_removed_are_not_followed(follower: Follower, records: Records) -> None:
    both = draw_truth(0)
    both[draw_bar() > 0] = 2
    draw(records, 0, both, 1, 2)
    follow(follower, 0, FORWARD, 1, 2, to=2)
    follow(follower, 2, FORWARD, 1, to=3)
    assert follower.tracker.object_ids == [1]
