"""Where results go: masks as PNG, an overlay video, a log of the objects.

A sink is a context manager with two verbs, ``write`` and ``close``. Nothing half-written stands
under a final name, and leaving the ``with`` closes the sink, so that an interruption costs nothing.
"""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.closing import Closing
from vcedge_runtime.errors import OutputError
from vcedge_runtime.files import Draft, GrowingText, list_drafts, unwritable
from vcedge_runtime.video.opencv import quiet_opencv
from vcedge_runtime.video.overlay import draw_overlay
from vcedge_runtime.video.palette import write_label_png
from vcedge_runtime.video.points import POINTS_NAME
from vcedge_runtime.video.rle import Rle, encode_rle
from vcedge_runtime.video.sources import Frame

MASKS_NAME = "masks"
OVERLAY_NAME = "overlay.mp4"
OBJECTS_NAME = "objects.ndjson"
DEFAULT_FPS = 25.0
"""For frames that come from images, whose rate nobody knows (our choice)."""


class ObjectRecord(TypedDict):
    """What the log says of one object that is seen in a frame, in the frame's own pixels.

    ``box`` is left, top, width, height; ``centroid`` is x, y, whole numbers being pixel centres.
    """

    id: int
    area: int
    box: list[int]
    centroid: list[float]
    score: float | None
    rle: Rle


def require_free(folder: str | Path, *, overwrite: bool = False) -> None:
    """Refuse an output folder that holds something, unless it may be overwritten; change nothing.

    Raises:
        OutputError: it does, or it cannot be listed.
    """
    folder = Path(folder)
    try:
        if folder.is_dir() and any(folder.iterdir()) and not overwrite:
            raise OutputError(
                f"received an existing folder {folder}, which is not empty; "
                "pass --overwrite or choose another --out"
            )
    except OSError as exc:
        raise unwritable(folder, exc) from exc


def prepare_output(folder: str | Path, *, overwrite: bool = False) -> Path:
    """Make the folder that a run writes into.

    Args:
        folder: where the results go; made with its parents where it is missing.
        overwrite: empty an existing folder of what an earlier run wrote (the masks, the overlay and
            the logs); whatever else lies there stays.

    Returns:
        The folder.

    Raises:
        OutputError: it holds something and ``overwrite`` is not set, or it cannot be made or
            written.
    """
    folder = Path(folder)
    require_free(folder, overwrite=overwrite)
    try:
        if folder.is_dir():
            _clear_results(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise unwritable(folder, exc) from exc
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"received {folder}, which may not be written; expected a folder of your own; "
            "change its permissions or choose another --out"
        )
    return folder


class Sink(Closing):
    """Takes the result of one frame after the other; closing it finishes what it wrote."""

    @abstractmethod
    def write(self, frame: Frame, labels: NDArray[np.uint8], scores: Mapping[int, float]) -> None:
        """Write the result of a frame.

        Args:
            frame: the frame; its name and index are those of the result.
            labels: (H, W) uint8 object ids in the frame's pixels, 0 the background; only read.
            scores: how sure the tracker is of each object, 0 to 1.

        Raises:
            OutputError: it cannot be written.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish the output; closing twice does no harm.

        Raises:
            OutputError: it cannot be finished.
        """


class MaskFolder(Sink):
    """One palette PNG per frame, named like the frame.

    Args:
        folder: where they go; made where it is missing.

    Raises:
        OutputError: the folder cannot be made.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise unwritable(self.folder, exc) from exc

    def write(self, frame: Frame, labels: NDArray[np.uint8], scores: Mapping[int, float]) -> None:
        """Write the mask; the file appears whole or not at all."""
        write_label_png(self.folder / f"{frame.name}.png", labels)

    def close(self) -> None:
        """Do nothing: every mask is finished when it is written."""


class MaskList(Sink):
    """Keeps the masks in memory, for scoring.

    Attributes:
        masks: (H, W) uint8 object ids of every frame so far.
    """

    def __init__(self) -> None:
        self.masks: list[NDArray[np.uint8]] = []

    def write(self, frame: Frame, labels: NDArray[np.uint8], scores: Mapping[int, float]) -> None:
        """Keep the mask of a frame."""
        self.masks.append(labels)

    def close(self) -> None:
        """Do nothing."""


class OverlayVideo(Sink):
    """The frames with their objects drawn in, as MP4 (MPEG-4 part 2, which OpenCV always has).

    The encoder cuts a last odd row or column off, so that those frames are padded by one pixel.

    Args:
        path: the video, ending in ``.mp4``; it stands there once the sink is closed.
        fps: frames a second; 25 where the source does not say.
    """

    def __init__(self, path: str | Path, fps: float | None = None) -> None:
        self.path = Path(path)
        self.fps = fps or DEFAULT_FPS
        self._draft = Draft(self.path)
        self._writer: cv2.VideoWriter | None = None
        self._written = 0

    def write(self, frame: Frame, labels: NDArray[np.uint8], scores: Mapping[int, float]) -> None:
        """Draw the objects and write the frame."""
        picture = draw_overlay(frame.image, labels, scores)
        height, width = labels.shape
        if height % 2 or width % 2:
            edge = cv2.BORDER_REPLICATE
            picture = np.asarray(
                cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, edge), np.uint8
            )
        if self._writer is None:
            self._writer = self._open_writer(picture.shape[0], picture.shape[1])
        self._writer.write(picture)
        self._written += 1

    def close(self) -> None:
        """Finish the video and give it its name; where no frame was written, there is none."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        try:
            # OpenCV is silent when the disk is full.
            if _count_frames(self._draft.place) < self._written:
                raise OutputError(
                    f"{self.path} could not be written whole; is there room on the disk?"
                )
            self._draft.keep()
        except OSError as exc:
            raise unwritable(self.path, exc) from exc
        finally:
            self._draft.discard()

    def _open_writer(self, height: int, width: int) -> cv2.VideoWriter:
        code = cv2.VideoWriter.fourcc(*"mp4v")
        with quiet_opencv():
            writer = cv2.VideoWriter(str(self._draft.place), code, self.fps, (width, height))
        if not writer.isOpened():
            self._draft.discard()
            raise OutputError(
                f"{self.path} cannot be written as {width}x{height} (width x height) at "
                f"{self.fps:g} frames a second; expected a folder that can be written and frames "
                "below 8192 pixels a side"
            )
        return writer


class ObjectLog(Sink):
    """One line of JSON per frame: its index, its name, and the objects seen in it.

    A frame that could not be decoded has a line that says so, before that of the next one.

    Args:
        path: the log; it stands there once the sink is closed.

    Raises:
        OutputError: it cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self._text = GrowingText(Path(path))

    def write(self, frame: Frame, labels: NDArray[np.uint8], scores: Mapping[int, float]) -> None:
        """Write the frame's line."""
        for lost in range(frame.index - frame.lost, frame.index):
            self._write_line({"frame": lost, "decoded": False})
        objects = describe_objects(labels, scores)
        self._write_line({"frame": frame.index, "name": frame.name, "objects": objects})

    def close(self) -> None:
        """Finish the log and give it its name; where no line was written, there is none."""
        self._text.close()

    def _write_line(self, line: Mapping[str, object]) -> None:
        self._text.write(json.dumps(line, separators=(",", ":")) + "\n")


def describe_objects(labels: NDArray[np.uint8], scores: Mapping[int, float]) -> list[ObjectRecord]:
    """Measure every object that is seen.

    Args:
        labels: (H, W) uint8 object ids, 0 the background.
        scores: how sure the tracker is of each object, 0 to 1; an object without one gets None.

    Returns:
        A record for each id in the labels, in the order of the ids.
    """
    counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()
    present = np.flatnonzero(counts[1:]) + 1
    return [_describe_object(labels, int(i), scores.get(int(i))) for i in present]


def _describe_object(
    labels: NDArray[np.uint8], object_id: int, score: float | None
) -> ObjectRecord:
    mask = labels == object_id
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    part = mask[top : top + height, left : left + width].astype(np.uint8)
    moments = cv2.moments(part, binaryImage=True)
    area = moments["m00"]
    x, y = left + moments["m10"] / area, top + moments["m01"] / area
    return {
        "id": object_id,
        "area": int(area),
        "box": [left, top, width, height],
        "centroid": [round(x, 2), round(y, 2)],
        "score": None if score is None else round(float(score), 4),
        "rle": encode_rle(mask),
    }


def _clear_results(folder: Path) -> None:
    """Remove what an earlier run wrote, and nothing else."""
    finals = [folder / name for name in (OVERLAY_NAME, OBJECTS_NAME, POINTS_NAME)]
    drafts = [draft for path in finals for draft in list_drafts(path)]
    for path in (*finals, *drafts, *(folder / MASKS_NAME).glob("*.png")):
        path.unlink(missing_ok=True)


def _count_frames(path: Path) -> int:
    with quiet_opencv():
        capture = cv2.VideoCapture(str(path))
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
    return count
