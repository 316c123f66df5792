"""CVAT's own XML ("CVAT for images 1.1"), to be imported into a task of the same frames.

CVAT finds a frame by its picture's name, and a video's by its number. A mask's runs go along the
rows of its box. ``group_id`` is the object's id: CVAT keeps what belongs together by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.video.picture_folder import name_picture
from vcedge_runtime.video.polygons import cut_holes, find_polygons
from vcedge_runtime.video.regions import Region, measure_regions
from vcedge_runtime.video.rle import measure_runs
from vcedge_runtime.video.shapes import ShapesFile
from vcedge_runtime.video.sinks import Labels, Scores
from vcedge_runtime.video.sources import Frame
from vcedge_runtime.video.spooling import Spool


class CvatFile(ShapesFile):
    """The objects of a video as shapes of CVAT, whose task must have their names as labels.

    ``ShapesFile`` says how.
    """

    def _open_spools(self) -> None:
        self._images = self._open_spool()

    def _add(self, frame: Frame, labels: Labels, scores: Scores) -> None:
        height, width = labels.shape
        size = f'width="{width}" height="{height}"'
        name = quoteattr(_to_xml(name_picture(frame)))
        shapes = [f'<image id="{frame.index}" name={name} {size}>\n']
        for object_id, region in measure_regions(labels).items():
            self._categories.place_of(object_id)
            label = quoteattr(self._categories.name_of(object_id))
            group = f'label={label} source="file" occluded="0" z_order="0" group_id="{object_id}"'
            for tag, attributes in self._outline(labels == object_id, region):
                shapes.append(f"<{tag} {group} {attributes}></{tag}>\n")
        self._images.add("".join((*shapes, "</image>\n")))

    def _outline(self, mask: NDArray[np.bool_], region: Region) -> Iterator[tuple[str, str]]:
        """Yield tag and attributes of each shape that an object has."""
        if self._tolerance is None:
            left, top, width, height = region.box
            runs = measure_runs(mask[top : top + height, left : left + width].T)
            box = f'left="{left}" top="{top}" width="{width}" height="{height}"'
            yield "mask", f'rle="{", ".join(map(str, runs.tolist()))}" {box}'
            return
        for part in find_polygons(mask, self._tolerance):
            points = ";".join(f"{x},{y}" for x, y in cut_holes(part).tolist())
            yield "polygon", f'points="{points}"'

    def _parts(self) -> Iterator[str | Spool]:
        labels = "".join(f"<label><name>{escape(n)}</name></label>" for n in self._categories.names)
        yield (
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
            f"<meta><task><size>{self._images.pieces}</size><mode>annotation</mode>"
            f"<labels>{labels}</labels></task></meta>\n"
        )
        yield self._images
        yield "</annotations>\n"


def _to_xml(text: str) -> str:
    """Replace what XML cannot hold, such as a byte of a file's name that is no text."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
