"""The log for Rerun: against a double of it, and against Rerun itself where it is installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.runtime.video import rerun_double
from tests.runtime.video.made_objects import (
    HW,
    NAMES,
    SCORES,
    make_frame,
    make_objects,
    write_objects,
)
from vcedge_runtime.errors import MissingExtraError, OutputError
from vcedge_runtime.video.outputs import OutputFile
from vcedge_runtime.video.rerun import RerunLog, is_viewer

VIEWER = "rerun+http://127.0.0.1:9876/proxy"


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> type[rerun_double.RecordingStream]:
    """Put the double in Rerun's place."""
    monkeypatch.setitem(sys.modules, "rerun", rerun_double)
    monkeypatch.setattr(rerun_double.RecordingStream, "opened", ())
    monkeypatch.setenv("RUST_LOG", "off")
    return rerun_double.RecordingStream


def logged_at(stream: rerun_double.RecordingStream, index: int) -> dict[str, Any]:
    """What was logged of a frame, by its place."""
    return {
        place: entity
        for times, place, entity in stream.logged
        if times.get("frame") == {"sequence": index}
    }


def test_a_frame_is_logged_with_its_objects_boxes_scores_and_times(
    tmp_path: Path, double: type[rerun_double.RecordingStream]
) -> None:
    with RerunLog(tmp_path / "a.rrd", 20, NAMES) as log:
        log.write(make_frame(3), make_objects(3), SCORES)
        log.time({"encode": 12.5, "flow": 0.0})
    [stream] = double.opened
    assert {times["time"]["duration"] for times, *_ in stream.logged} == {3 / 20}
    found = logged_at(stream, 3)
    assert set(found) == {
        *("video", "video/objects", "video/boxes"),
        *("scores/3", "scores/200", "timings/encode"),
    }
    np.testing.assert_array_equal(found["video"].given[0], make_frame(3).image)
    assert found["video"].named == {"color_model": "BGR"}
    np.testing.assert_array_equal(found["video/objects"].given[0], make_objects(3))
    boxes = found["video/boxes"].named
    assert boxes["class_ids"] == [3, 200]
    assert boxes["array"].tolist() == [[10, 7, 54, 41], [23, 20, 9, 9]]
    assert boxes["array_format"] is rerun_double.Box2DFormat.XYWH
    assert found["scores/200"].given == (0.5,)
    assert found["timings/encode"].given == (12.5,)


def test_objects_have_their_names_and_palette_colours_as_they_appear(
    tmp_path: Path, double: type[rerun_double.RecordingStream]
) -> None:
    with RerunLog(tmp_path / "a.rrd", names={3: "wheel"}) as log:
        log.write(make_frame(2), make_objects(2), {})
        log.write(make_frame(3), make_objects(3), {})
    [stream] = double.opened
    assert stream.static["video"].given[0] == [
        (0, "background", (0, 0, 0, 0)),
        (3, "wheel 3", (128, 128, 0, 255)),
        (200, "object 200", (96, 32, 0, 255)),
    ]


def test_a_frame_without_objects_clears_the_boxes(
    tmp_path: Path, double: type[rerun_double.RecordingStream]
) -> None:
    with RerunLog(tmp_path / "a.rrd") as log:
        write_objects(log, 6)
    assert logged_at(double.opened[0], 5)["video/boxes"].named["array"].shape == (0, 4)


def test_a_file_has_its_name_when_it_is_whole_and_the_record_tells_of_it(
    tmp_path: Path, double: type[rerun_double.RecordingStream]
) -> None:
    path = tmp_path / "a.rrd"
    with OutputFile(path) as output, RerunLog(path, output=output) as log:
        write_objects(log, 2)
        assert not path.exists()
    assert output.written == {"a.rrd": (1, path.stat().st_size)}
    assert {found.name for found in tmp_path.iterdir()} == {"a.rrd", ".a.rrd.vcedge-run.ndjson"}


def test_an_interruption_leaves_what_was_logged_and_no_frame_leaves_nothing(
    tmp_path: Path, double: type[rerun_double.RecordingStream]
) -> None:
    def run(frames: int) -> None:
        with RerunLog(tmp_path / f"{frames}.rrd") as log:
            write_objects(log, frames)
            raise KeyboardInterrupt

    for frames in (0, 2):
        with pytest.raises(KeyboardInterrupt):
            run(frames)
    assert [path.name for path in tmp_path.iterdir()] == ["2.rrd"]


def test_a_video_without_an_end_has_no_footer_which_would_grow_in_memory(
    tmp_path: Path, double: type[rerun_double.RecordingStream]
) -> None:
    for live in (False, True):
        RerunLog(tmp_path / "a.rrd", live=live).close()
    assert [stream.footer for stream in double.opened] == [True, False]


def test_closing_twice_does_no_harm(
    tmp_path: Path, double: type[rerun_double.RecordingStream]
) -> None:
    log = RerunLog(tmp_path / "a.rrd")
    write_objects(log, 1)
    log.close()
    log.close()
    assert double.opened[0].flushed == 1


def test_a_place_that_cannot_be_written_is_an_output_error(
    tmp_path: Path, double: type[rerun_double.RecordingStream]
) -> None:
    with pytest.raises(OutputError, match=r"a\.rrd cannot be written"):
        RerunLog(tmp_path / "none" / "a.rrd")


@pytest.mark.parametrize(("place", "viewer"), [("connect", VIEWER), (VIEWER, VIEWER)])
def test_a_viewer_is_sent_what_is_logged(
    tmp_path: Path, double: type[rerun_double.RecordingStream], place: str, viewer: str
) -> None:
    assert is_viewer(place)
    with RerunLog(place) as log:
        write_objects(log, 1)
    assert double.opened[0].place == viewer
    assert "video/boxes" in logged_at(double.opened[0], 0)


def test_a_viewer_that_is_not_there_is_told_at_once(
    double: type[rerun_double.RecordingStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(double, "unreachable", True)
    with pytest.raises(OutputError, match=r"--rerun connect, .* unable to connect.*a viewer runs"):
        RerunLog("connect")


def test_a_file_that_rerun_cannot_finish_is_told_and_not_left(
    tmp_path: Path, double: type[rerun_double.RecordingStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RerunLog(tmp_path / "a.rrd")
    write_objects(log, 2)
    monkeypatch.setattr(double, "unreachable", True)
    with pytest.raises(OutputError, match=r"a\.rrd cannot be written .*free the place"):
        log.close()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_noticed_while_frames_come(
    tmp_path: Path, double: type[rerun_double.RecordingStream], limited_files: None
) -> None:
    log = RerunLog(tmp_path / "a.rrd")
    with pytest.raises(OutputError, match=r"a\.rrd cannot be written \(File too large\)"):
        write_objects(log, 2_000)
    with pytest.raises(OutputError, match="cannot be written"):
        log.close()
    assert not list(tmp_path.iterdir())


def test_an_address_that_is_none_is_refused(double: type[rerun_double.RecordingStream]) -> None:
    with pytest.raises(OutputError, match="invalid endpoint"):
        RerunLog("rerun+http://127.0.0.1")


def test_without_rerun_the_message_names_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    monkeypatch.setenv("RUST_LOG", "off")
    with pytest.raises(MissingExtraError, match=r"Rerun.*pip install.*\[rerun\]"):
        RerunLog(tmp_path / "a.rrd")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(find_spec("rerun") is None, reason="Rerun is large; install vcedge[rerun]")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rerun_itself_reads_what_was_logged(tmp_path: Path) -> None:
    with RerunLog(tmp_path / "a.rrd", 20, NAMES) as log:
        for index in range(3):
            log.write(make_frame(index), make_objects(index), SCORES)
            log.time({"encode": 12.5})
    rows = read_rows(tmp_path / "a.rrd")
    for index in range(3):
        (blob,) = rows["/video", index]["EncodedImage:blob"]
        picture = cv2.imdecode(np.array(blob, np.uint8), cv2.IMREAD_COLOR)
        # JPEG keeps a plain gray within a level.
        np.testing.assert_allclose(picture.astype(int), make_frame(index).image, atol=1)
        (buffer,) = rows["/video/objects", index]["SegmentationImage:buffer"]
        np.testing.assert_array_equal(np.array(buffer, np.uint8).reshape(HW), make_objects(index))
        assert rows["/video/boxes", index]["Boxes2D:class_ids"][0] == 3
        assert rows["/scores/200", index]["Scalars:scalars"] == [0.5]
        assert rows["/timings/encode", index]["Scalars:scalars"] == [12.5]


def read_rows(path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Columns of each frame, by place and frame."""
    chunks = pytest.importorskip("rerun.chunk")
    rows = {}
    for chunk in chunks.RrdReader(path).stream():
        batch = chunk.to_record_batch()
        # Python's times have no nanoseconds.
        names = [name for name in batch.schema.names if name != "log_time"]
        for row in range(batch.num_rows):
            values = {name: batch.column(name)[row].as_py() for name in names}
            rows[chunk.entity_path, values.get("frame", -1)] = values
    return rows
