"""What the page asks for, done on the small clip."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.vcedge.studio.square import BOX, FRAMES, HW, draw_frame, draw_truth, overlap, wait_for
from vcedge.studio.following import BACKWARD, FORWARD
from vcedge.studio.footage import LiveFootage
from vcedge.studio.records import UNKNOWN
from vcedge.studio.session import Session
from vcedge_runtime.errors import MaskError, SourceError, TrackerError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.prompts.segmenter import GRABCUT, PromptSegmenter
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.frame import Frame, Source

WIDE = (BOX[0] - 5.0, BOX[1] - 5.0, BOX[2] + 10.0, BOX[3] + 10.0)


def mask_of(session: Session, frame: int) -> np.ndarray:
    return session.records.labels_of(session.records.find(frame))


def finish(session: Session) -> None:
    wait_for(lambda: not session.worker.busy)


def begin(session: Session) -> None:
    session.add_object("square")
    session.draw_box(0, 1, WIDE)


def test_a_box_is_followed_to_the_end(session: Session) -> None:
    begin(session)
    assert overlap(mask_of(session, 0), draw_truth(0)) > 0.9
    session.track(0, FORWARD)
    finish(session)
    assert session.records.frames() == list(range(FRAMES))
    assert session.work is None
    assert overlap(mask_of(session, FRAMES - 1), draw_truth(FRAMES - 1)) > 0.5


def test_so_many_steps_are_tracked_and_no_more(session: Session) -> None:
    begin(session)
    session.track(0, FORWARD, 2)
    finish(session)
    assert session.records.frames() == [0, 1, 2]
    # From a frame beyond, it goes on from the last that has a mask.
    session.track(7, FORWARD, 1)
    finish(session)
    assert session.records.frames() == [0, 1, 2, 3]


def test_backward_from_the_last_frame(session: Session) -> None:
    session.add_object()
    session.load_mask(FRAMES - 1, draw_truth(FRAMES - 1))
    session.track(FRAMES - 1, BACKWARD)
    finish(session)
    assert session.records.frames() == list(range(FRAMES))


def test_what_runs_stops_where_something_is_drawn(session: Session) -> None:
    begin(session)
    stepped = threading.Event()
    step = session.follower.step
    session.follower.step = lambda frame: (step(frame), stepped.set())[0]
    session.track(0, FORWARD)
    stepped.wait(10)
    session.draw_stroke(0, 1, [(5.0, 5.0)], 3, erase=False)
    assert not session.worker.busy
    known = session.records.frames()
    assert session.records.frames() == known
    assert len(known) < FRAMES


def test_every_change_is_undone_and_done_again(session: Session) -> None:
    states = [(session.objects, mask_of(session, 0))]

    def note() -> None:
        states.append((session.objects, mask_of(session, 0)))

    session.add_object()
    note()
    session.draw_box(0, 1, WIDE)
    note()
    session.draw_stroke(0, 1, [(5.0, 5.0)], 3, erase=False)
    note()
    session.rename_object(1, "cat")
    note()
    session.clear(0, 1)
    note()
    session.remove_object(1)
    note()
    for objects, mask in reversed(states[:-1]):
        session.undo()
        assert session.objects == objects
        np.testing.assert_array_equal(mask_of(session, 0), mask)
    assert not session.can_undo
    for objects, mask in states[1:]:
        session.redo()
        assert session.objects == objects
        np.testing.assert_array_equal(mask_of(session, 0), mask)
    assert not session.can_redo
    with pytest.raises(MaskError, match="nothing to undo"):
        session.redo()


def test_clicks_after_a_box_keep_the_box_until_something_else_is_drawn(session: Session) -> None:
    begin(session)
    session.click(0, 1, (40.0, 30.0), positive=True)
    assert session._prompts is not None
    assert session._prompts.box == WIDE
    assert session._prompts.clicks == ((40.0, 30.0, True),)
    session.draw_stroke(0, 1, [(5.0, 5.0)], 3, erase=False)
    assert session._prompts is None


def test_a_removed_object_is_in_no_frame_and_its_id_is_not_taken_again(session: Session) -> None:
    begin(session)
    session.track(0, FORWARD, 2)
    finish(session)
    session.remove_object(1)
    assert not any(mask_of(session, frame).any() for frame in range(3))
    assert session.add_object().id == 2
    session.undo()
    session.undo()
    assert mask_of(session, 2).any()


def test_a_loaded_mask_with_a_removed_id_brings_no_old_mask_back(
    session: Session,
) -> None:
    begin(session)
    session.track(0, FORWARD, 2)
    finish(session)
    old = session.describe_frame(2)["lanes"]
    session.remove_object(1)
    session.load_mask(1, draw_truth(1))
    assert [each.id for each in session.objects] == [1]
    np.testing.assert_array_equal(mask_of(session, 1), draw_truth(1))
    assert not mask_of(session, 0).any()
    assert not mask_of(session, 2).any()
    assert session.describe_frame(2)["lanes"] == {1: UNKNOWN}
    assert session.records.drawn_frames() == [1]
    session.undo()
    session.undo()
    assert mask_of(session, 2).any()
    assert session.describe_frame(2)["lanes"] == old


def test_a_mask_that_is_loaded_brings_its_objects(session: Session) -> None:
    labels = draw_truth(0) * 7
    labels[:4, :4] = 3
    session.load_mask(0, labels)
    assert [each.id for each in session.objects] == [3, 7]
    assert session.describe_frame(0)["drawn"]
    session.undo()
    assert session.objects == ()


def test_what_cannot_be_is_said(session: Session) -> None:
    with pytest.raises(TrackerError, match="no object 5"):
        session.draw_box(0, 5, WIDE)
    session.add_object()
    with pytest.raises(TrackerError, match="draw an object first"):
        session.track(0, FORWARD)
    session.draw_box(FRAMES - 1, 1, (WIDE[0] + 2 * FRAMES - 2, *WIDE[1:]))
    with pytest.raises(TrackerError, match="no frame to track that way"):
        session.track(FRAMES - 1, FORWARD)
    for _ in range(254):
        session.add_object()
    with pytest.raises(TrackerError, match="255 objects"):
        session.add_object()


def test_what_fails_in_the_worker_is_told_and_the_studio_goes_on(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(session)
    told: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(session.events, "publish", lambda kind, **facts: told.append((kind, facts)))
    monkeypatch.setattr(session.follower, "step", lambda frame: 1 / 0)
    session.track(0, FORWARD)
    finish(session)
    [message] = [facts["message"] for kind, facts in told if kind == "error"]
    assert "ZeroDivisionError" in str(message)
    monkeypatch.undo()
    session.track(0, FORWARD, 1)
    finish(session)
    assert session.records.frames() == [0, 1]


def test_frames_that_are_not_there_are_refused(session: Session) -> None:
    session.add_object()
    for frame in (FRAMES, 10**9):
        with pytest.raises(SourceError, match=f"no frame {frame}"):
            session.draw_stroke(frame, 1, [(5.0, 5.0)], 3, erase=False)
    assert session.records.frames() == []


def open_session(footage: LiveFootage, bundle: Bundle) -> Session:
    tracker = Tracker.open(bundle, backend="cpu", threads=1)
    return Session(footage, tracker, PromptSegmenter.open(GRABCUT))


class Camera(Source):
    """A camera that gives a frame whenever it is asked, until it is closed."""

    live = True
    label = "camera 0"
    fps = 30.0
    frame_hw = HW

    def __init__(self) -> None:
        self.closed = threading.Event()

    def __iter__(self):
        for index in range(10_000):
            if self.closed.wait(0.005):
                return
            yield Frame(index, f"{index:05d}", draw_frame(index % FRAMES))

    def close(self) -> None:
        self.closed.set()


def test_a_camera_is_watched_drawn_in_tracked_and_stopped(tiny_bundle: Bundle) -> None:
    footage = LiveFootage(Camera(), most_bytes=60_000)
    with open_session(footage, tiny_bundle) as session:
        session.events._listening[None] = None  # a page is open
        session.events._hand_on = lambda told: None
        session.watch()
        wait_for(lambda: footage.span.stop > 3)
        session.stop()
        at = footage.span[-1]
        found = np.asarray(footage.show(at).image)[..., 2] > 150
        session.load_mask(at, found.astype(np.uint8))
        session.track(at, FORWARD)
        wait_for(lambda: len(session.records.frames()) > 5)
        session.stop()
        assert not session.worker.busy
        wait_for(
            lambda: footage.span.start == 0 or session.records.frames()[0] >= footage.span.start
        )
        session.events._listening.clear()


def test_a_camera_that_went_on_while_the_user_drew_is_caught_up(tiny_bundle: Bundle) -> None:
    footage = LiveFootage(Camera())
    with open_session(footage, tiny_bundle) as session:
        for _ in range(40):
            footage.take()
        session.load_mask(4, draw_truth(4))
        session.track(4, FORWARD, 25)
        finish(session)
        frames = session.records.frames()
        strides = np.diff(frames)
        assert strides[0] == 10  # one, and a quarter of the 36 before the newest
        assert list(strides) == sorted(strides, reverse=True)
        assert frames[-1] == footage.span[-1]
        assert strides[-1] == 1


def test_a_cameras_oldest_frames_go_with_what_is_known_of_them(tiny_bundle: Bundle) -> None:
    size = len(cv2.imencode(".jpg", draw_frame(0))[1])
    footage = LiveFootage(Camera(), most_bytes=6 * size)
    with open_session(footage, tiny_bundle) as session:
        session.load_mask(0, draw_truth(0))
        session.track(0, FORWARD, 20)
        finish(session)
        assert footage.span.start > 10
        assert session.records.frames() == list(footage.span)


def test_a_folder_of_images_names_its_frames_as_its_files(session: Session, clip: Path) -> None:
    assert session.footage.name == "square"
    assert session.footage.name_frame(3).name == "00003"
    assert clip.name == session.footage.label
