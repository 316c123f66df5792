"""Named points outside the tracker: the file that begins a run, the log of a run, the picture."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.closing import Closing
from vcedge_runtime.errors import MaskError
from vcedge_runtime.propagation.points import PointEstimate, lies_within
from vcedge_runtime.reading import read_bounded
from vcedge_runtime.settings import show
from vcedge_runtime.video.outputs import GrowingFile, OutputFolder
from vcedge_runtime.video.palette import davis_palette
from vcedge_runtime.video.sources import Frame

POINTS_NAME = "points.csv"
MAX_POINTS, MOST_BYTES = 255, 2**20
"""What a file may hold (our choice)."""
INPUT_HEADER = ("name", "x", "y")
LOG_HEADER = ("frame", "name", "x", "y", "visible", "score")
_RADIUS_PER_PIXELS = 160
"""A drawn point's radius is two pixels, and one more for each this many of the short side."""


def read_points(path: str | Path, *, frame_hw: tuple[int, int]) -> dict[str, tuple[float, float]]:
    """Read the points of a first frame.

    Args:
        path: a CSV file with the columns name, x, y; further columns are not looked at. x and y are
            in the frame's pixels, 0, 0 being the centre of the first one.
        frame_hw: height and width of the frame.

    Returns:
        x, y by name, in the order of the file.

    Raises:
        MaskError: the file cannot be read, lacks a column, names a point twice, not at all or by
            what does not print, holds no number where one should be, a point outside the frame, or
            none or too many.
    """
    points: dict[str, tuple[float, float]] = {}
    for line, name, x, y in _read_rows(path):
        where = f"line {line} of {path}"
        if not name.isprintable():
            raise MaskError(
                f"received the name {show(name)} in {where}; expected text that prints; rename it"
            )
        if not name or name in points:
            what = f"the name {show(name)} a second time" if name else "no name"
            raise MaskError(f"received {what} in {where}; expected one name a point; rename it")
        points[name] = _read_position(x, y, frame_hw, where)
    if not 1 <= len(points) <= MAX_POINTS:
        raise MaskError(
            f"received {len(points)} points in {path}; expected 1 to {MAX_POINTS}, one a line below"
            " the header name,x,y"
        )
    return points


class PointLog(Closing):
    """A CSV file with a line per frame and point; positions that are not known are empty.

    Args:
        path: the log; it stands there from the beginning, and can be followed.
        output: the run's folder, which records it; None to replace what has its name.

    Raises:
        OutputError: it cannot be opened, or something has its name that no run wrote.
    """

    def __init__(self, path: str | Path, output: OutputFolder | None = None) -> None:
        self._text = GrowingFile(Path(path), output)

    def write(self, frame: Frame, points: Mapping[str, PointEstimate]) -> None:
        """Write the points of a frame.

        Raises:
            OutputError: they cannot be written.
        """
        rows = [(frame.index, *_cells(name, point)) for name, point in points.items()]
        text = StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows(rows if self._text.written else [LOG_HEADER, *rows])
        # A frame's points are written at once: all of them, or none.
        self._text.write(text.getvalue())

    def close(self) -> None:
        """Finish the log; where no frame was written, there is none.

        Raises:
            OutputError: it cannot be finished.
        """
        self._text.close()


def draw_points(image: NDArray[np.uint8], points: Mapping[str, PointEstimate]) -> NDArray[np.uint8]:
    """Draw every visible point as a disc in its palette colour with a white rim.

    Args:
        image: (H, W, 3) uint8, BGR, 0-255; left as it is.
        points: in the order that gives them their colours.

    Returns:
        (H, W, 3) uint8, BGR, 0-255; owned by the caller.
    """
    picture = image.copy()
    radius = 2 + min(image.shape[:2]) // _RADIUS_PER_PIXELS
    for position, point in enumerate(points.values(), start=1):
        if point.visible:
            centre = round(16 * point.x), round(16 * point.y)
            colour = tuple(davis_palette()[1 + (position - 1) % 255, ::-1].tolist())
            # Four bits of the coordinates are fractions of a pixel.
            cv2.circle(picture, centre, 16 * (radius + 1), (255, 255, 255), -1, cv2.LINE_AA, 4)
            cv2.circle(picture, centre, 16 * radius, colour, -1, cv2.LINE_AA, 4)
    return picture


def _read_rows(path: str | Path) -> Iterator[tuple[int, str, str, str]]:
    """Line, name, x and y of each row; the line is the one that the row begins in."""
    try:
        text = read_bounded(path, MOST_BYTES, piped=True).decode("utf-8-sig")
        rows = list(_number_rows(text))
    except OSError as exc:
        raise MaskError(
            f"received points {path}, which cannot be read ({exc.strerror}); expected a CSV file"
        ) from exc
    except (UnicodeDecodeError, csv.Error) as exc:
        raise MaskError(
            f"received points {path}, which is no CSV text; expected the columns name,x,y"
        ) from exc
    _, header = rows[0] if rows else (0, [])
    missing = [name for name in INPUT_HEADER if name not in header]
    if missing:
        raise MaskError(
            f"received points {path} without the column {missing[0]}; expected a first line"
            " name,x,y and then one point a line"
        )
    for line, cells in rows[1:]:
        found = dict(zip(header, cells, strict=False))
        name, x, y = (found.get(key, "") for key in INPUT_HEADER)
        yield line, name, x, y


def _number_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that hold something, with the line that each begins in."""
    reader, line = csv.reader(StringIO(text, newline=""), skipinitialspace=True), 1
    for row in reader:
        cells = [cell.strip() for cell in row]
        if any(cells):
            yield line, cells
        line = reader.line_num + 1


def _read_position(x: str, y: str, frame_hw: tuple[int, int], where: str) -> tuple[float, float]:
    height, width = frame_hw
    try:
        across, down = float(x), float(y)
    except ValueError as exc:
        raise MaskError(
            f"received the position {show(x)}, {show(y)} in {where}; expected two numbers of pixels"
        ) from exc
    if not lies_within((across, down), frame_hw):
        raise MaskError(
            f"received the position {across:g}, {down:g} in {where}; expected x from 0 to "
            f"{width - 1} and y from 0 to {height - 1}, inside the first frame; mend or drop it"
        )
    return across, down


def _cells(name: str, point: PointEstimate) -> tuple[str, str, str, int, str]:
    x, y = ("" if math.isnan(value) else f"{value:.2f}" for value in (point.x, point.y))
    return name, x, y, int(point.visible), f"{point.score:.4f}"
