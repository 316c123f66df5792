"""Label Studio's tasks, read back by its converter where it is installed, and by its own rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from tests.runtime.video.made_objects import (
    HW,
    NAMES,
    SCORES,
    fill_rings,
    make_frame,
    make_objects,
    write_objects,
)
from vcedge_runtime.video.label_studio import LabelStudioFolder, encode_brush

EXACT = [pytest.param(None, id="brush"), pytest.param(0.0, id="polygons")]
masks = hnp.arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20)))


def decode_brush(data: list[int]) -> NDArray[np.uint8]:
    """Decode runs as Label Studio's page does (thi.ng/rle-pack)."""
    bits = "".join(f"{byte:08b}" for byte in data)
    at = 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    size, word = read(32), read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    out: list[int] = []
    while len(out) < size:
        repeated, width = read(1), widths[read(2)]
        length = read(width) + 1
        out += [read(word)] * length if repeated else [read(word) for _ in range(length)]
    assert len(out) == size
    assert len(bits) - at < 8
    return np.array(out, np.uint8)


def write(folder: Path, tolerance: float | None = None, frames: int = 6) -> list[dict[str, Any]]:
    with LabelStudioFolder(folder, NAMES, tolerance=tolerance) as sink:
        write_objects(sink, frames)
    return list(json.loads((folder / "tasks.json").read_text()))


def read_mask(region: dict[str, Any]) -> NDArray[np.bool_]:
    height, width = region["original_height"], region["original_width"]
    value = region["value"]
    if "points" in value:
        shares = np.array(value["points"]) * (width / 100, height / 100)
        return fill_rings([shares.round(2)], (height, width))
    assert value["format"] == "rle"
    pixels = decode_brush(value["rle"]).reshape(height, width, 4)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 3] == 255


@given(masks)
def test_a_brush_is_the_mask(mask: NDArray[np.bool_]) -> None:
    pixels = decode_brush(list(encode_brush(mask))).reshape(*mask.shape, 4)
    np.testing.assert_array_equal(pixels[..., 3] > 0, mask)


@pytest.mark.parametrize("value", [False, True])
def test_runs_that_are_longer_than_a_run_may_be_are_several(value: bool) -> None:
    mask = np.full((300, 400), value)
    mask[:3] = not value
    pixels = decode_brush(list(encode_brush(mask))).reshape(300, 400, 4)
    np.testing.assert_array_equal(pixels[..., 3] > 0, mask)


@given(masks)
def test_its_own_converter_reads_a_brush(mask: NDArray[np.bool_]) -> None:
    brush = pytest.importorskip("label_studio_converter.brush", reason="it reads brushes")
    pixels = brush.decode_rle(list(encode_brush(mask))).reshape(*mask.shape, 4)
    np.testing.assert_array_equal(pixels[..., 3] > 0, mask)


@pytest.mark.parametrize("tolerance", EXACT)
def test_regions_are_the_masks_exactly_with_holes_and_parts(
    tmp_path: Path, tolerance: float | None
) -> None:
    tasks = write(tmp_path, tolerance)
    assert [task["data"]["frame"] for task in tasks] == list(range(6))
    for task in tasks:
        found: dict[int, NDArray[np.bool_]] = {}
        for region in task["predictions"][0]["result"]:
            [note] = region["meta"]["text"]
            object_id = int(note.removeprefix("object "))
            assert region["value"][region["type"]] == [NAMES[object_id]]
            found[object_id] = found.get(object_id, np.zeros(HW, bool)) | read_mask(region)
        labels = make_objects(task["data"]["frame"])
        assert set(found) == set(np.unique(labels[labels > 0]).tolist())
        for object_id, mask in found.items():
            np.testing.assert_array_equal(mask, labels == object_id)


@pytest.mark.parametrize("tolerance", EXACT)
def test_regions_belong_to_the_labels_of_the_configuration(
    tmp_path: Path, tolerance: float | None
) -> None:
    tasks = write(tmp_path, tolerance)
    root = ElementTree.parse(tmp_path / "labels.xml").getroot()
    image, control = root
    assert image.attrib["value"] == "$image"
    assert control.attrib["toName"] == image.attrib["name"]
    labels = {label.attrib["value"] for label in control}
    assert labels == set(NAMES.values())
    for region in tasks[0]["predictions"][0]["result"]:
        assert region["type"] == control.tag.lower()
        assert region["from_name"] == control.attrib["name"]
        assert region["to_name"] == image.attrib["name"]
        assert set(region["value"][region["type"]]) <= labels
    ids = [region["id"] for region in tasks[0]["predictions"][0]["result"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("tolerance", EXACT)
def test_its_own_kit_takes_the_predictions(tmp_path: Path, tolerance: float | None) -> None:
    kit = pytest.importorskip("label_studio_sdk.label_interface", reason="it checks predictions")
    tasks = write(tmp_path, tolerance)
    setup = kit.LabelInterface((tmp_path / "labels.xml").read_text())
    for task in tasks:
        assert setup.validate_prediction(task["predictions"][0], return_errors=True) == []


def test_pictures_are_named_from_the_folder_above(tmp_path: Path) -> None:
    folder = tmp_path / "a b é"
    for task in write(folder, frames=2):
        prefix, _, place = task["data"]["image"].partition("?d=")
        assert prefix == "/data/local-files/"
        assert place.isascii()
        assert (tmp_path / unquote(place)).is_file()


def test_scores_are_written_where_they_are_known(tmp_path: Path) -> None:
    with LabelStudioFolder(tmp_path) as sink:
        sink.write(make_frame(0), make_objects(), SCORES)
        sink.hold(make_frame(1), make_objects())
    first, second = json.loads((tmp_path / "tasks.json").read_text())
    assert [r.get("score") for r in first["predictions"][0]["result"]] == [0.9124, 0.5]
    assert [r.get("score") for r in second["predictions"][0]["result"]] == [None, None]
