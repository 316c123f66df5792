"""Files that the studio hands out are whole, or not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.vcedge.studio.square import FRAMES, draw_bar, draw_truth, wait_for
from vcedge.studio.exports import Exports, list_kinds
from vcedge.studio.session import Session
from vcedge_runtime.video.sources import open_source


@pytest.fixture
def drawn(session: Session) -> Session:
    """A session with masks of every frame."""
    for frame in range(FRAMES):
        session.load_mask(frame, np.maximum(draw_truth(frame), 2 * draw_bar()))
    return session


def export(exports: Exports, session: Session, name: str) -> Path:
    exports.start(name)
    wait_for(lambda: not session.worker.busy)
    return exports.path(name)


def test_the_overlay_shows_every_frame_that_has_a_mask(drawn: Session) -> None:
    drawn.footage.fps = 10.0
    with Exports(drawn) as exports, open_source(export(exports, drawn, "overlay")) as video:
        assert video.frame_hw == drawn.footage.frame_hw
        frames = [frame.image for frame in video]
    assert len(frames) == FRAMES
    inside = draw_bar() > 0
    plain = drawn.footage.show(0).image[inside].mean(axis=0)
    assert np.abs(frames[0][inside].mean(axis=0) - plain).max() > 20


def test_what_stops_half_way_leaves_no_file(
    drawn: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    read = drawn.footage.name_frame

    def stop_at_three(index: int) -> object:
        seen.append(index)
        if index == 3:
            drawn.worker._stop.set()
        return read(index)

    monkeypatch.setattr(drawn.footage, "name_frame", stop_at_three)
    with Exports(drawn) as exports:
        assert not export(exports, drawn, "masks").exists()
    assert seen == [0, 1, 2, 3]


def test_what_was_exported_goes_with_the_studio(drawn: Session) -> None:
    with Exports(drawn) as exports:
        path = export(exports, drawn, "masks")
        assert path.is_file()
    assert not path.parent.exists()


@pytest.mark.parametrize("name", ["coco", "yolo"])
def test_labels_for_training_are_written_where_their_writer_is_there(
    drawn: Session, name: str
) -> None:
    if name not in list_kinds():
        pytest.skip(f"vcedge_runtime.video.{name} is not there")
    with Exports(drawn) as exports:
        assert export(exports, drawn, name).stat().st_size > 100
