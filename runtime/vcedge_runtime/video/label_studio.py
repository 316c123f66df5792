"""Tasks of Label Studio with what was followed as predictions, to be looked through and corrected.

Label Studio serves pictures from below its document root, and names them from there
(``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT``): that root is the folder in which this one lies.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.video.outputs import Output, write_noted
from vcedge_runtime.video.palette import davis_palette
from vcedge_runtime.video.picture_folder import IMAGES_NAME, PictureFolder
from vcedge_runtime.video.polygons import cut_holes, find_polygons
from vcedge_runtime.video.regions import measure_regions
from vcedge_runtime.video.rle import measure_runs
from vcedge_runtime.video.shapes import ShapesFile
from vcedge_runtime.video.sinks import Labels, Scores, round_score
from vcedge_runtime.video.sources import Frame
from vcedge_runtime.video.spooling import Spool

TASKS_NAME = "tasks.json"
CONFIG_NAME = "labels.xml"
_RUN_BITS = 16
_MOST_OF_RUN = 2**_RUN_BITS


class LabelStudioFolder(ShapesFile):
    """The frames of a video as pictures, tasks.json, and labels.xml, which a project begins with.

    Args:
        folder: where they go; made where it is missing.
        names: of the objects, by id; several may have one. The others are ``object``.
        tolerance: None for brush masks; else outlines of at most so many pixels off, one for each
            part, whose holes are cut into it by slits.
        output: the run's folder, which records the files; None to replace what has their names.

    Raises:
        OutputError: the folder cannot be made or written, or a name is none.
    """

    def __init__(
        self,
        folder: str | Path,
        names: Mapping[int, str] | None = None,
        *,
        tolerance: float | None = None,
        output: Output | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._pictures = PictureFolder(self.folder / IMAGES_NAME, output)
        place = self.folder / TASKS_NAME
        super().__init__(place, names, tolerance=tolerance, output=output)

    def _open_spools(self) -> None:
        self._tasks = self._open_spool(",\n")

    def close(self) -> None:
        """Write labels.xml and tasks.json; where no frame was written, there are none."""
        try:
            if self._frames:
                path = os.fspath(self.folder / CONFIG_NAME)
                write_noted(path, self._configure().encode(), self._output)
        finally:
            super().close()

    def _add(self, frame: Frame, labels: Labels, scores: Scores) -> None:
        name = self._pictures.write(frame)
        place = os.fsencode(f"{self.folder.resolve().name}/{IMAGES_NAME}/{name}")
        result = [
            region
            for object_id in measure_regions(labels)
            for region in self._describe(labels, object_id, scores.get(object_id))
        ]
        task = {
            "data": {"image": f"/data/local-files/?d={quote(place)}", "frame": frame.index},
            "predictions": [{"model_version": "vcedge", "result": result}],
        }
        self._tasks.add(json.dumps(task, separators=(",", ":")))

    def _describe(
        self, labels: Labels, object_id: int, score: float | None
    ) -> Iterator[dict[str, Any]]:
        """Yield the regions that an object has: its mask, or an outline for each part."""
        self._categories.place_of(object_id)
        height, width = labels.shape
        found = round_score(score)
        for number, value in enumerate(self._outline(labels == object_id)):
            kind = "brushlabels" if "rle" in value else "polygonlabels"
            yield {
                "id": f"object-{object_id}-{number}",
                "type": kind,
                "from_name": "label",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {**value, kind: [self._categories.name_of(object_id)]},
                "meta": {"text": [f"object {object_id}"]},
                **({} if found is None else {"score": found}),
            }

    def _outline(self, mask: NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
        if self._tolerance is None:
            yield {"format": "rle", "rle": list(encode_brush(mask))}
            return
        height, width = mask.shape
        for part in find_polygons(mask, self._tolerance):
            shares = cut_holes(part) * (100 / width, 100 / height)
            yield {"points": shares.round(4).tolist(), "closed": True}

    def _parts(self) -> Iterator[str | Spool]:
        yield "[\n"
        yield self._tasks
        yield "\n]\n"

    def _configure(self) -> str:
        kind = "BrushLabels" if self._tolerance is None else "PolygonLabels"
        colours = davis_palette()
        labels = "".join(
            f'    <Label value={quoteattr(name)} background="#{bytes(colours[place]).hex()}"/>\n'
            for place, name in enumerate(self._categories.names, start=1)
        )
        return (
            '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
            f'  <{kind} name="label" toName="image">\n{labels}  </{kind}>\n</View>\n'
        )


def encode_brush(mask: NDArray[np.bool_]) -> bytes:
    """Encode a mask as Label Studio's brush does: runs of RGBA along the rows, packed in bits.

    First come the number of bytes that it stands for (32 bits), the width of one less 1 (5), and of
    four widths of runs, each less 1 (4 each). A run is 1, the place of its width (2), its length
    less 1, and its byte. Ours are all of the fourth width (thi.ng/rle-pack).

    Args:
        mask: (H, W) bool.

    Returns:
        The bytes; Label Studio writes them as a list of numbers.
    """
    bits = [f"{4 * mask.size:032b}", f"{8 - 1:05b}"]
    bits += [f"{width - 1:04b}" for width in (3, 4, 8, _RUN_BITS)]
    value = 0
    for run in (4 * measure_runs(mask.T)).tolist():
        for start in range(0, run, _MOST_OF_RUN):
            length = min(run - start, _MOST_OF_RUN)
            bits.append(f"111{length - 1:0{_RUN_BITS}b}{value:08b}")
        value = 255 - value
    text = "".join(bits)
    size = -(-len(text) // 8)
    return int(text.ljust(8 * size, "0"), 2).to_bytes(size, "big")
