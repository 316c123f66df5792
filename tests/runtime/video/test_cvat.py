"""CVAT's XML, read back by datumaro where it is installed, and by the rules of the format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.runtime.video.made_objects import (
    HW,
    NAMES,
    fill_rings,
    make_frame,
    make_objects,
    write_objects,
)
from vcedge_runtime.video.cvat import CvatFile
from vcedge_runtime.video.picture_folder import encode_jpeg
from vcedge_runtime.video.sources import Frame

EXACT = [pytest.param(None, id="mask"), pytest.param(0.0, id="polygon")]


def write(path: Path, tolerance: float | None = None) -> Path:
    with CvatFile(path, NAMES, tolerance=tolerance) as sink:
        write_objects(sink, 6, ".jpg")
    return path


def read_mask(shape: ElementTree.Element) -> NDArray[np.bool_]:
    """Decode a shape as CVAT does: runs along the rows of the box, background first."""
    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in shape.attrib["points"].split(";")]
        return fill_rings([np.array(pairs, float)], HW)
    left, top, width, height = (int(shape.attrib[n]) for n in ("left", "top", "width", "height"))
    runs = [int(run) for run in shape.attrib["rle"].split(",")]
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask = np.zeros(HW, bool)
    mask[top : top + height, left : left + width] = flat.reshape(height, width)
    return mask


def read_objects(path: Path) -> Iterator[tuple[int, dict[int, NDArray[np.bool_]]]]:
    """Frame, and the union of its shapes by ``group_id``."""
    for image in ElementTree.parse(path).findall("image"):
        found: dict[int, NDArray[np.bool_]] = {}
        for shape in image:
            assert shape.attrib["label"] == NAMES[int(shape.attrib["group_id"])]
            group = int(shape.attrib["group_id"])
            found[group] = found.get(group, np.zeros(HW, bool)) | read_mask(shape)
        yield int(image.attrib["id"]), found


@pytest.mark.parametrize("tolerance", EXACT)
def test_shapes_are_the_masks_exactly_with_holes_and_parts(
    tmp_path: Path, tolerance: float | None
) -> None:
    frames = list(read_objects(write(tmp_path / "cvat.xml", tolerance)))
    assert [index for index, _ in frames] == list(range(6))
    for index, found in frames:
        labels = make_objects(index)
        assert set(found) == set(np.unique(labels[labels > 0]).tolist())
        for object_id, mask in found.items():
            np.testing.assert_array_equal(mask, labels == object_id)


def test_an_object_is_one_mask_or_a_polygon_for_each_part(tmp_path: Path) -> None:
    counts = {
        tolerance: [
            shape.attrib["group_id"]
            for shape in ElementTree.parse(write(tmp_path / "cvat.xml", tolerance))
            .findall("image")[0]
            .iter()
            if shape.tag in ("mask", "polygon")
        ]
        for tolerance in (None, 0.75)
    }
    assert counts == {None: ["3", "200"], 0.75: ["3", "3", "200"]}


def test_the_meta_part_names_the_labels_that_the_task_must_have(tmp_path: Path) -> None:
    root = ElementTree.parse(write(tmp_path / "cvat.xml")).getroot()
    assert root.findtext("version") == "1.1"
    assert [label.findtext("name") for label in root.iter("label")] == ["wheel", "ball"]
    assert root.findtext("meta/task/size") == "6"
    sizes = {(i.attrib["width"], i.attrib["height"]) for i in root.findall("image")}
    assert sizes == {(str(HW[1]), str(HW[0]))}


def test_names_that_xml_cannot_hold_are_written_so_that_it_can_be_read(tmp_path: Path) -> None:
    names = {3: "a < b & \"c\" 'd'", 200: "é"}
    frame = make_frame(0)
    with CvatFile(tmp_path / "cvat.xml", names) as sink:
        for index, name in enumerate(("caf\udce9", "\x1b[2J", 'a"<b>&')):
            sink.write(Frame(index, name, frame.image), make_objects(), {})
    root = ElementTree.parse(tmp_path / "cvat.xml").getroot()
    assert [label.findtext("name") for label in root.iter("label")] == list(names.values())
    assert {mask.attrib["label"] for mask in root.iter("mask")} == set(names.values())
    written = [image.attrib["name"] for image in root.iter("image")]
    assert written == ["caf\ufffd.jpg", "\ufffd[2J.jpg", 'a"<b>&.jpg']


@pytest.mark.parametrize("tolerance", EXACT)
def test_datumaro_reads_it(tmp_path: Path, tolerance: float | None) -> None:
    datumaro = pytest.importorskip("datumaro", reason="datumaro reads CVAT's files")
    coco = pytest.importorskip("pycocotools.mask")
    (tmp_path / "images").mkdir()
    for index in range(6):
        data = encode_jpeg(make_frame(index).image, "")
        (tmp_path / "images" / f"shot{index}.jpg").write_bytes(data)
    data = datumaro.Dataset.import_from(str(write(tmp_path / "annotations.xml", tolerance)), "cvat")
    assert len(data) == 6
    for item in data:
        labels, found = make_objects(item.attributes["frame"]), {}
        for shape in item.annotations:
            if tolerance is None:
                mask = np.asarray(shape.image, bool)
            else:
                mask = coco.decode(coco.frPyObjects([list(shape.points)], *HW))[..., 0] > 0
            found[shape.group] = found.get(shape.group, np.zeros(HW, bool)) | mask
        assert set(found) == set(np.unique(labels[labels > 0]).tolist())
        for object_id, mask in found.items():
            np.testing.assert_array_equal(mask, labels == object_id)
