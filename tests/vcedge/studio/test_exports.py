"""Files that the studio hands out are whole, or not there."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.vcedge.studio.square import FRAMES, draw_bar, draw_truth, wait_for
from vcedge.studio.exports import Exports
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


def test_labels_for_training_have_the_objects_names(drawn: Session) -> None:
    drawn.rename_object(1, "square")
    with Exports(drawn) as exports:
        found = json.loads(export(exports, drawn, "coco").read_text())
        with zipfile.ZipFile(export(exports, drawn, "yolo")) as archive:
            names = archive.namelist()
            data = archive.read("data.yaml").decode()
            line = archive.read("labels/00003.txt").decode().splitlines()[0]
    assert [each["name"] for each in found["categories"]] == ["square", "object 2"]
    assert len(found["images"]) == FRAMES
    areas = [each["area"] for each in found["annotations"] if each["track_id"] == 1]
    assert areas == [int((draw_truth(frame) > 0).sum()) for frame in range(FRAMES)]
    assert sum(name.startswith("images/0") for name in names) == FRAMES
    assert '0: "square"' in data
    assert line.startswith("0 ")
