"""COCO instances, read back by pycocotools and by supervision."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.runtime.video.made_objects import HW, NAMES, make_frame, make_objects, write_objects
from vcedge_runtime.video.coco import CocoFile

# pycocotools' decoder lags behind NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
EXACT = [pytest.param(None, id="rle"), pytest.param(0.0, id="polygons")]


def write(path: Path, tolerance: float | None = None, file: str = "") -> dict[str, Any]:
    """Write six frames, the last two empty, and read the JSON."""
    with CocoFile(path, NAMES, tolerance=tolerance) as sink:
        write_objects(sink, 6, file)
    return dict(json.loads(path.read_text()))


def read_annotations(path: Path) -> Iterator[tuple[int, dict[str, Any], Any]]:
    """Frame, annotation and pycocotools' own mask of each."""
    coco = pytest.importorskip("pycocotools.coco").COCO(str(path))
    for image in coco.loadImgs(coco.getImgIds()):
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            yield image["frame_index"], annotation, coco.annToMask(annotation) > 0


@pytest.mark.parametrize("tolerance", EXACT)
def test_pycocotools_reads_every_mask_exactly_with_holes_and_parts(
    tmp_path: Path, tolerance: float | None
) -> None:
    write(tmp_path / "coco.json", tolerance)
    seen = []
    for index, annotation, mask in read_annotations(tmp_path / "coco.json"):
        object_id = annotation["track_id"]
        np.testing.assert_array_equal(mask, make_objects(index) == object_id)
        seen.append((index, object_id))
    assert seen == [(0, 3), (0, 200), (1, 3), (1, 200), (2, 3), (3, 3), (3, 200)]


@pytest.mark.parametrize("tolerance", EXACT)
def test_area_and_box_are_the_masks(tmp_path: Path, tolerance: float | None) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    write(tmp_path / "coco.json", tolerance)
    for _, annotation, mask in read_annotations(tmp_path / "coco.json"):
        assert annotation["area"] == mask.sum()
        encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert annotation["bbox"] == coco.toBbox(encoded).tolist()


def test_smoothed_polygons_are_near_the_mask(tmp_path: Path) -> None:
    found = write(tmp_path / "coco.json", 0.75)
    for index, annotation, mask in read_annotations(tmp_path / "coco.json"):
        truth = make_objects(index) == annotation["track_id"]
        # The ball is 10 pixels wide.
        assert (mask & truth).sum() / (mask | truth).sum() > 0.85
    assert [len(a["segmentation"]) for a in found["annotations"][:2]] == [2, 1]


def test_scores_of_pycocotools_are_perfect_against_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    found = write(tmp_path / "coco.json")
    truth = pytest.importorskip("pycocotools.coco").COCO(str(tmp_path / "coco.json"))
    scored = evaluation.COCOeval(truth, truth.loadRes(found["annotations"]), "segm")
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    # An annotation with the id 0 would count as missed.
    assert scored.stats[0] == pytest.approx(1)


def test_categories_are_the_names_and_ids_begin_at_1(tmp_path: Path) -> None:
    found = write(tmp_path / "coco.json")
    names = {category["id"]: category["name"] for category in found["categories"]}
    assert names == {1: "wheel", 2: "ball"}
    assert {(a["track_id"], names[a["category_id"]]) for a in found["annotations"]} == {
        *NAMES.items()
    }
    assert [a["id"] for a in found["annotations"]] == list(range(1, 8))
    assert [image["id"] for image in found["images"]] == list(range(1, 7))


def test_objects_without_a_name_are_one_category(tmp_path: Path) -> None:
    with CocoFile(tmp_path / "coco.json", {3: "wheel"}) as sink:
        write_objects(sink, 1)
    found = json.loads((tmp_path / "coco.json").read_text())
    assert [(c["id"], c["name"]) for c in found["categories"]] == [(1, "wheel"), (2, "object")]


def test_every_frame_is_a_picture_by_its_own_name(tmp_path: Path) -> None:
    video, pictures = write(tmp_path / "a.json"), write(tmp_path / "b.json", file=".png")
    assert [image["file_name"] for image in video["images"]][:2] == ["00000.jpg", "00001.jpg"]
    assert [image["file_name"] for image in pictures["images"]][:2] == ["shot0.png", "shot1.png"]
    assert {(image["height"], image["width"]) for image in video["images"]} == {HW}


def test_scores_are_written_where_they_are_known(tmp_path: Path) -> None:
    with CocoFile(tmp_path / "coco.json") as sink:
        sink.write(make_frame(0), make_objects(), {3: 0.91237})
        sink.hold(make_frame(1), make_objects())
    found = json.loads((tmp_path / "coco.json").read_text())["annotations"]
    assert [a.get("score") for a in found] == [0.9124, None, None, None]


def test_supervision_reads_it_too(tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision", reason="install vcedge[supervision]")
    write(tmp_path / "coco.json", file=".png")
    (tmp_path / "images").mkdir()
    for index in range(6):
        image = make_frame(index).image
        assert cv2.imwrite(str(tmp_path / "images" / f"shot{index}.png"), image)
    data = supervision.DetectionDataset.from_coco(
        str(tmp_path / "images"), str(tmp_path / "coco.json"), force_masks=True
    )
    assert data.classes == ["wheel", "ball"]
    assert len(data) == 6
    for path, _, found in data:
        labels = make_objects(int(Path(path).stem.removeprefix("shot")))
        truth = [labels == i for i in (3, 200) if (labels == i).any()]
        assert len(found) == len(truth)
        for mask, expected in zip(found.mask if truth else [], truth, strict=True):
            np.testing.assert_array_equal(mask, expected)
