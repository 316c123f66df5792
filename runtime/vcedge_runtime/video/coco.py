"""COCO instances: a JSON file of pictures and of the objects in each, for training and scoring.

Beside COCO's own keys, an annotation has ``track_id``, the object's id through the video, and
``score``; a picture has ``frame_index``. Ids of pictures, annotations and categories begin at 1:
pycocotools takes an annotation 0 for none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.video.picture_folder import name_picture
from vcedge_runtime.video.polygons import cut_holes, find_polygons
from vcedge_runtime.video.regions import measure_regions
from vcedge_runtime.video.rle import encode_rle
from vcedge_runtime.video.shapes import ShapesFile
from vcedge_runtime.video.sinks import Labels, Scores, round_score
from vcedge_runtime.video.sources import Frame
from vcedge_runtime.video.spooling import Spool

_BETWEEN = ",\n"


class CocoFile(ShapesFile):
    """The objects of a video as COCO instances, a picture for each frame: ``ShapesFile`` says how.

    Masks are RLE; an outline has a ring for each part.
    """

    def _open_spools(self) -> None:
        self._images = self._open_spool(_BETWEEN)
        self._annotations = self._open_spool(_BETWEEN)

    def _add(self, frame: Frame, labels: Labels, scores: Scores) -> None:
        height, width = labels.shape
        image = {
            "id": frame.index + 1,
            "file_name": name_picture(frame),
            "height": height,
            "width": width,
            "frame_index": frame.index,
        }
        self._images.add(_to_json(image))
        for object_id, region in measure_regions(labels).items():
            score = round_score(scores.get(object_id))
            annotation = {
                "id": self._annotations.pieces + 1,
                "image_id": frame.index + 1,
                "category_id": self._categories.place_of(object_id) + 1,
                "track_id": object_id,
                "bbox": region.box,
                "area": region.area,
                "iscrowd": 0,
                **({} if score is None else {"score": score}),
                "segmentation": self._outline(labels == object_id),
            }
            self._annotations.add(_to_json(annotation))

    def _outline(self, mask: NDArray[np.bool_]) -> object:
        if self._tolerance is None:
            return encode_rle(mask)
        return [cut_holes(part).ravel().tolist() for part in find_polygons(mask, self._tolerance)]

    def _parts(self) -> Iterator[str | Spool]:
        yield '{"info": {"description": "Objects that vcedge followed"},\n"images": [\n'
        yield self._images
        yield '],\n"annotations": [\n'
        yield self._annotations
        names = enumerate(self._categories.names, start=1)
        categories = [{"id": number, "name": name, "supercategory": ""} for number, name in names]
        yield f'],\n"categories": {_to_json(categories)}}}\n'


def _to_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
