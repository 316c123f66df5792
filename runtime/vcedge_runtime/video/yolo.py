"""A data set of YOLO for segmentation: pictures, a text of outlines for each, and data.yaml.

A line is an object: its category's number, and x, y of the corners as shares of width and height. A
line holds one ring, so that holes and parts are joined by slits without width, as Ultralytics' own
converter joins parts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.files import make_folder
from vcedge_runtime.video.categories import Categories
from vcedge_runtime.video.outputs import Output, write_noted
from vcedge_runtime.video.picture_folder import IMAGES_NAME, PictureFolder
from vcedge_runtime.video.polygons import DEFAULT_TOLERANCE, find_polygons, join_parts
from vcedge_runtime.video.regions import measure_regions
from vcedge_runtime.video.sinks import NO_STATES, Labels, Scores, Sink, States
from vcedge_runtime.video.sources import Frame

LABELS_NAME = "labels"
DATA_NAME = "data.yaml"


class YoloFolder(Sink):
    """The frames of a video as a data set, a picture and a text for each.

    Args:
        folder: where they go; made where it is missing.
        names: of the objects, by id; several may have one. The others are ``object``.
        tolerance: how many pixels an outline may be off.
        output: the run's folder, which records the files; None to replace what has their names.

    Raises:
        OutputError: the folder cannot be made, or a name is none.
    """

    def __init__(
        self,
        folder: str | Path,
        names: Mapping[int, str] | None = None,
        *,
        tolerance: float = DEFAULT_TOLERANCE,
        output: Output | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._categories = Categories(names)
        self._tolerance = tolerance
        self._output = output
        self._pictures = PictureFolder(self.folder / IMAGES_NAME, output)
        make_folder(self.folder / LABELS_NAME)
        self._unfinished = False

    def write(
        self, frame: Frame, labels: Labels, scores: Scores, states: States = NO_STATES
    ) -> None:
        """Write a frame's outlines, and then its picture: one without a text has no objects."""
        path = f"{self.folder}{os.sep}{LABELS_NAME}{os.sep}{frame.name}.txt"
        lines = [self._describe(labels == i, i) for i in measure_regions(labels)]
        write_noted(path, "".join(lines).encode(), self._output)
        self._pictures.write(frame)
        self._unfinished = True

    def close(self) -> None:
        """Write data.yaml; where no frame was written, there is none."""
        if not self._unfinished:
            return
        self._unfinished = False
        # JSON's texts are YAML's.
        names = "".join(f"  {i}: {json.dumps(n)}\n" for i, n in enumerate(self._categories.names))
        text = f"train: {IMAGES_NAME}\nval: {IMAGES_NAME}\nnames:\n{names}"
        write_noted(os.fspath(self.folder / DATA_NAME), text.encode(), self._output)

    def _describe(self, mask: NDArray[np.bool_], object_id: int) -> str:
        height, width = mask.shape
        ring = join_parts(find_polygons(mask, self._tolerance)) / (width, height)
        corners = " ".join(f"{value:.6f}" for value in ring.ravel().tolist())
        return f"{self._categories.place_of(object_id)} {corners}\n"
