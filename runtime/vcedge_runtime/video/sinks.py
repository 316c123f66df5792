"""Where results go: masks as PNG, an overlay video, a log of the objects.

A sink is a context manager with two verbs, ``write`` and ``close``. What stands under a final name
is whole at every moment, the log up to its last line, and leaving the ``with`` closes the sink, so
that an interruption costs nothing.
"""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.closing import Closing
from vcedge_runtime.errors import OutputError
from vcedge_runtime.files import Draft, make_folder, unwritable
from vcedge_runtime.stopping import finish_first
from vcedge_runtime.video.encoding import VideoEncoder
from vcedge_runtime.video.outputs import (
    MASKS_NAME,
    Output,
    OutputFolder,
    prepare_output,
    write_noted,
)
from vcedge_runtime.video.palette import encode_label_png
from vcedge_runtime.video.regions import measure_regions
from vcedge_runtime.video.result_picture import draw_result
from vcedge_runtime.video.rle import Rle, encode_rle
from vcedge_runtime.video.rotating import Lines, Rotation, open_lines
from vcedge_runtime.video.sources import Frame

__all__ = [
    "DEFAULT_FPS",
    "MASKS_NAME",
    "OBJECTS_NAME",
    "OVERLAY_NAME",
    "MaskFolder",
    "MaskList",
    "ObjectLog",
    "ObjectRecord",
    "OverlayVideo",
    "Sink",
    "describe_objects",
    "open_masks",
    "prepare_output",
]

OVERLAY_NAME = "overlay.mp4"
OBJECTS_NAME = "objects.ndjson"
DEFAULT_FPS = 25.0
"""For frames that come from images, whose rate nobody knows (our choice)."""
Labels = NDArray[np.uint8]
Scores = Mapping[int, float]
States = Mapping[int, str]
NO_STATES: States = MappingProxyType({})
SEEN = "tracked"
"""State of an object that is seen."""


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


class Sink(Closing):
    """Takes the result of one frame after the other; closing it finishes what it wrote."""

    @abstractmethod
    def write(
        self, frame: Frame, labels: Labels, scores: Scores, states: States = NO_STATES
    ) -> None:
        """Write the result of a frame.

        Args:
            frame: the frame; its name and index are those of the result.
            labels: (H, W) uint8 object ids in the frame's pixels, 0 the background; only read.
            scores: how sure the tracker is of each object, 0 to 1.
            states: of each object, ``StepResult.states``; nothing where they are not known.

        Raises:
            OutputError: it cannot be written.
        """

    def hold(self, frame: Frame, labels: NDArray[np.uint8]) -> None:
        """Write a frame that keeps the last mask, because the model gave none; scores are unknown.

        Args:
            frame: as in ``write``.
            labels: (H, W) uint8 object ids, the last frame's; only read.

        Raises:
            OutputError: it cannot be written.
        """
        self.write(frame, labels, {})

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
        output: the run's place, which records them; None to replace what has their names.

    Raises:
        OutputError: the folder cannot be made.
    """

    def __init__(self, folder: str | Path, output: Output | None = None) -> None:
        self.folder = Path(folder)
        self._output = output
        make_folder(self.folder)

    def write(
        self, frame: Frame, labels: Labels, scores: Scores, states: States = NO_STATES
    ) -> None:
        """Write the mask; the file appears whole or not at all."""
        self.put(frame.name, labels)

    def put(self, name: str, labels: NDArray[np.uint8]) -> None:
        """Write the mask of a frame by its name; see ``write``."""
        path = f"{self.folder}{os.sep}{name}.png"
        write_noted(path, encode_label_png(labels), self._output)

    def close(self) -> None:
        """Do nothing: every mask is finished when it is written."""


@contextmanager
def open_masks(folder: Path, *, overwrite: bool = False) -> Iterator[MaskFolder]:
    """Open a folder that holds the masks of one video and nothing else; see ``OutputFolder``.

    Raises:
        OutputError: it holds something else, or cannot be written.
    """
    with OutputFolder(folder, overwrite=overwrite, beside=True) as output:
        yield MaskFolder(output.path, output)


class ChangedMasks(Sink):
    """A palette PNG of each frame whose mask is another than the last one that was written.

    Args:
        masks: writes them, and is closed by whoever opened it.
    """

    def __init__(self, masks: MaskFolder) -> None:
        self._masks = masks
        self._last: Labels | None = None

    def write(
        self, frame: Frame, labels: Labels, scores: Scores, states: States = NO_STATES
    ) -> None:
        """Write the mask if any pixel of it has changed."""
        if self._last is None or not np.array_equal(labels, self._last):
            self._masks.write(frame, labels, scores)
            self._last = labels

    def close(self) -> None:
        """Do nothing."""


class MaskList(Sink):
    """Keeps the masks in memory, for scoring.

    Attributes:
        masks: (H, W) uint8 object ids of every frame so far.
    """

    def __init__(self) -> None:
        self.masks: list[NDArray[np.uint8]] = []

    def write(
        self, frame: Frame, labels: Labels, scores: Scores, states: States = NO_STATES
    ) -> None:
        """Keep the mask of a frame."""
        self.masks.append(labels)

    def close(self) -> None:
        """Do nothing."""


class OverlayVideo(Sink):
    """The frames with their objects drawn in, as MP4: H.264, which browsers play, else MPEG-4.

    Its sides are even, so that a last odd row or column is repeated. Frames of a live source are
    shown at the source's own times, which are drawn in; others as far apart as ``fps`` says.

    Args:
        path: the video, ending in ``.mp4``; it stands there once the sink is closed.
        fps: frames a second; 25 where the source does not say.
        output: the run's place, which records it; None to replace what has its name.

    Raises:
        OutputError: something has its name that no run wrote.
    """

    def __init__(
        self, path: str | Path, fps: float | None = None, output: Output | None = None
    ) -> None:
        self.path = Path(path)
        self.fps = fps or DEFAULT_FPS
        self._output = output
        self._draft = Draft(self.path)
        self._encoder: VideoEncoder | None = None
        if output is not None:
            output.claim(self.path)

    def write(
        self, frame: Frame, labels: Labels, scores: Scores, states: States = NO_STATES
    ) -> None:
        """Draw the objects and write the frame; a full disk is told at once, and no video left."""
        picture = draw_result(frame, labels, scores)
        time_s = None if frame.arrived_s is None else frame.time_s
        height, width = labels.shape
        if height % 2 or width % 2:
            edge = cv2.BORDER_REPLICATE
            picture = np.asarray(
                cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, edge), np.uint8
            )
        try:
            if self._encoder is None:
                timed = time_s is not None
                self._encoder = self._open_encoder(picture.shape[0], picture.shape[1], timed)
            # FFmpeg crashes where an interruption comes out of what it calls.
            with finish_first():
                self._encoder.write(picture, time_s)
        except OSError as exc:
            self._discard()
            raise unwritable(self.path, exc) from exc

    def close(self) -> None:
        """Finish the video and give it its name; where no frame was written, there is none."""
        if self._encoder is None:
            return
        try:
            with finish_first():
                self._encoder.close()
                if self._output is not None:
                    self._output.note(self.path, self._draft.place)
                self._draft.keep()
        except OSError as exc:
            raise unwritable(self.path, exc) from exc
        finally:
            self._discard()

    def _discard(self) -> None:
        if self._encoder is not None:
            self._encoder.discard()
            self._encoder = None
        self._draft.discard()

    def _open_encoder(self, height: int, width: int, timed: bool) -> VideoEncoder:
        try:
            return VideoEncoder(self._draft.place, self.fps, (height, width), timed=timed)
        except OutputError as exc:
            self._draft.discard()
            raise OutputError(
                f"{self.path} cannot be written as {width}x{height} (width x height) at "
                f"{self.fps:g} frames a second ({exc}); pass --no-overlay, or frames below 8192 "
                "pixels a side"
            ) from exc


class ObjectLog(Sink):
    """One line of JSON per frame: its index, its name, and the objects seen in it.

    Those that are followed and not seen stand under ``missing``, each with its state: ``lost``
    where only a window of the frame was looked at, ``absent`` where all of it was.

    Of a live source, a line says the source's time in seconds, how old the frame was when its mask
    was ready, and how many frames before it were dropped.

    A frame that could not be decoded has a line that says so, before that of the next one; one that
    keeps the last mask says so in its own. The log stands there from the beginning, and a line is
    whole once the line's end stands: it can be followed.

    Args:
        path: the log.
        output: the run's place, which records it; None to replace what has its name.
        rotation: of what size it may become; None of any.

    Raises:
        OutputError: it cannot be opened, or something has its name that no run wrote.
    """

    def __init__(
        self,
        path: str | Path,
        output: Output | None = None,
        rotation: Rotation | None = None,
    ) -> None:
        self._text: Lines = open_lines(Path(path), output, rotation)

    def write(
        self, frame: Frame, labels: Labels, scores: Scores, states: States = NO_STATES
    ) -> None:
        """Write the frame's line, in which the objects that are not seen have their state."""
        missing = {object_id: state for object_id, state in states.items() if state != SEEN}
        self._write_frame(frame, labels, scores, **({"missing": missing} if missing else {}))

    def hold(self, frame: Frame, labels: NDArray[np.uint8]) -> None:
        """Write the frame's line, which says that its mask is the last one's."""
        self._write_frame(frame, labels, {}, held=True)

    def close(self) -> None:
        """Finish the log; where no line was written, there is none."""
        self._text.close()

    def _write_frame(
        self,
        frame: Frame,
        labels: NDArray[np.uint8],
        scores: Mapping[int, float],
        **facts: object,
    ) -> None:
        lines: list[dict[str, object]] = [
            {"frame": lost, "decoded": False}
            for lost in range(frame.index - frame.lost, frame.index)
        ]
        objects = describe_objects(labels, scores)
        facts = {**_describe_times(frame), **facts}
        lines.append({"frame": frame.index, "name": frame.name, **facts, "objects": objects})
        text = [json.dumps(line, separators=(",", ":")) + "\n" for line in lines]
        self._text.write("".join(text))


def _describe_times(frame: Frame) -> dict[str, float]:
    """What the log says of a live source's frame beside its objects."""
    if frame.arrived_s is None:
        return {}
    told = {"time": frame.time_s, "age_ms": frame.age_ms}
    known = {name: round(value, 3) for name, value in told.items() if value is not None}
    return {**known, "dropped": frame.dropped}


def describe_objects(labels: NDArray[np.uint8], scores: Mapping[int, float]) -> list[ObjectRecord]:
    """Measure every object that is seen.

    Args:
        labels: (H, W) uint8 object ids, 0 the background.
        scores: how sure the tracker is of each object, 0 to 1; an object without one gets None.

    Returns:
        A record for each id in the labels, in the order of the ids.
    """
    return [
        {
            "id": object_id,
            "area": region.area,
            "box": list(region.box),
            "centroid": [round(value, 2) for value in region.centroid],
            "score": round_score(scores.get(object_id)),
            "rle": encode_rle(labels == object_id),
        }
        for object_id, region in measure_regions(labels).items()
    ]


def round_score(score: float | None) -> float | None:
    """Round a score as files have it; None where there is none."""
    return None if score is None else round(float(score), 4)
