"""The file of points that begins a run, the log that a run writes, and the picture."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcedge_runtime.errors import MaskError, OutputError
from vcedge_runtime.propagation.points import PointEstimate
from vcedge_runtime.video.points import PointLog, draw_points, read_points
from vcedge_runtime.video.sources import Frame

HW = (48, 64)
SEEN = PointEstimate(10.25, 20.5, True, 0.75)
FAINT = PointEstimate(30, 5, False, 0.001)
LOST = PointEstimate(math.nan, math.nan, False, 0.0)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def frame(index: int) -> Frame:
    return Frame(index, f"shot{index}", np.zeros((*HW, 3), np.uint8))


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_points_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "name,x,y\nnose,63.5,0\nleft ear,-0.5,47.25\n")
    found = read_points(path, frame_hw=HW)
    assert list(found.items()) == [("nose", (63.5, 0)), ("left ear", (-0.5, 47.25))]


def test_columns_may_stand_in_any_order_with_others_spaces_and_a_byte_order_mark(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "a.csv", "\ufeffy, name, sure, x\r\n2, nose , 1, 1\r\n\r\n")
    assert read_points(path, frame_hw=HW) == {"nose": (1, 2)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "without the column name"),
        ("name,x\nnose,1\n", "without the column y"),
        ("nose,1,2\n", "without the column name"),
        ("name,x,y\n", "received 0 points"),
        ("name,x,y\nnose,1,2\nnose,3,4\n", "the name 'nose' a second time in line 3"),
        ("name,x,y\n,1,2\n", "no name in line 2"),
        ("name,x,y\nnose,one,2\n", "'one', '2' in line 2"),
        ("name,x,y\nnose,1\n", "'1', '' in line 2"),
        ("name,x,y\nnose,64,2\n", "x from 0 to 63"),
        ("name,x,y\nnose,1,-1\n", "y from 0 to 47"),
        ("name,x,y\nnose,nan,2\n", "the position nan"),
        ("name,x,y\n\nnose,4,6\n\n\ntail,999,3\n", r"999, 3 in line 6 of"),
        ("\n\nname,x,y\r\n\r\ntail,999,3\r\n", r"in line 5 of"),
        ('name,x,y,note\nnose,4,6,"two\nlines"\ntail,999,3,\n', r"in line 4 of"),
        ('name,x,y,note\ntail,999,3,"two\n\nlines"\n', r"in line 2 of"),
        ("name,x,y\n,,\n  \ntail,999,3\n", r"in line 4 of"),
        ("name,x,y\rnose,4,6\rtail,999,3\r", r"in line 3 of"),
        ('name,x,y\n"no\nse",1,2\n', r"the name 'no\\nse' in line 2 of .*text that prints"),
        ("name,x,y\n\x1b[2J,1,2\n", r"the name '\\x1b\[2J' in line 2 of"),
        # What is repeated is cut: a message is a line.
        (f"name,x,y\nnose,{'2' * 400},{'x' * 400}\n", r"'2{59}\.\.\., 'x{59}\.\.\. in line 2 of"),
        (f"name,x,y\nnose,{'2' * 400},1\n", r"the position inf, 1 in line 2 of"),
        (f"name,x,y\n{'n' * 400},9,9\n{'n' * 400},9,9\n", r"the name 'n{59}\.\.\. a second"),
        ("name,x,y\n" + "".join(f"p{i},1,1\n" for i in range(256)), "256 points"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_line(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(MaskError, match=said):
        read_points(write(tmp_path / "a.csv", text), frame_hw=HW)


def test_files_that_are_no_text_or_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xd8\xff\xe0\x00")
    with pytest.raises(MaskError, match="no CSV text"):
        read_points(tmp_path / "a.csv", frame_hw=HW)
    with pytest.raises(MaskError, match="cannot be read"):
        read_points(tmp_path / "none.csv", frame_hw=HW)
    with pytest.raises(MaskError, match="it holds more than 1,048,576 bytes"):
        read_points("/dev/zero", frame_hw=HW)


def test_points_come_through_a_pipe_too(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"name,x,y\nnose,1,2\n")
    os.close(writing)
    assert read_points(f"/dev/fd/{reading}", frame_hw=HW) == {"nose": (1, 2)}
    os.close(reading)


def test_the_log_has_a_line_per_frame_and_point(tmp_path: Path) -> None:
    with PointLog(tmp_path / "points.csv") as log:
        log.write(frame(0), {"nose": SEEN, "ear": LOST})
        log.write(frame(7), {"nose": FAINT, "ear": SEEN})
        assert [row["name"] for row in read_rows(tmp_path / "points.csv")][2:] == ["nose", "ear"]
    first, lost, faint, _ = read_rows(tmp_path / "points.csv")
    assert list(first) == ["frame", "name", "x", "y", "visible", "score"]
    assert list(first.values()) == ["0", "nose", "10.25", "20.50", "1", "0.7500"]
    assert list(lost.values()) == ["0", "ear", "", "", "0", "0.0000"]
    assert (faint["frame"], faint["x"], faint["visible"]) == ("7", "30.00", "0")
    assert [path.name for path in tmp_path.iterdir()] == ["points.csv"]


def test_a_log_without_a_frame_leaves_nothing(tmp_path: Path) -> None:
    log = PointLog(tmp_path / "points.csv")
    log.close()
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_log_keeps_its_frames(tmp_path: Path) -> None:
    def run() -> None:
        with PointLog(tmp_path / "points.csv") as log:
            log.write(frame(0), {"nose": SEEN})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert len(read_rows(tmp_path / "points.csv")) == 1


def test_a_log_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        PointLog(tmp_path / "none" / "points.csv")


def test_names_with_commas_and_quotes_survive_log_and_reading(tmp_path: Path) -> None:
    with PointLog(tmp_path / "points.csv") as log:
        log.write(frame(0), {'left, "upper" ear': SEEN})
    assert read_points(tmp_path / "points.csv", frame_hw=HW) == {'left, "upper" ear': (10.25, 20.5)}


@given(st.floats(5, 58), st.floats(5, 42))
def test_a_visible_point_is_drawn_around_its_place_and_nowhere_else(x: float, y: float) -> None:
    image = np.full((*HW, 3), 90, np.uint8)
    picture = draw_points(image, {"nose": PointEstimate(x, y, True, 1.0)})
    assert (image == 90).all()
    rows, columns = np.nonzero((picture != 90).any(axis=-1))
    # A disc is symmetric; its anti-aliased rim may miss a pixel on one side.
    assert (columns.mean(), rows.mean()) == pytest.approx((x, y), abs=0.5)
    assert np.hypot(columns - x, rows - y).max() < 5


def test_points_that_are_not_visible_are_not_drawn() -> None:
    image = np.full((*HW, 3), 90, np.uint8)
    np.testing.assert_array_equal(draw_points(image, {"ear": FAINT, "nose": LOST}), image)


def test_points_differ_in_colour() -> None:
    image = np.zeros((*HW, 3), np.uint8)
    points = {"a": PointEstimate(15, 24, True, 1.0), "b": PointEstimate(45, 24, True, 1.0)}
    picture = draw_points(image, points)
    assert picture[24, 15].tolist() != picture[24, 45].tolist()
    assert picture[24, 15].any()
