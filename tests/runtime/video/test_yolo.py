"""A data set of YOLO, read back by supervision and by the rules of the format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
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
from vcedge_runtime.errors import OutputError
from vcedge_runtime.video.outputs import OutputFolder
from vcedge_runtime.video.picture_folder import LARGEST_JPEG, encode_jpeg
from vcedge_runtime.video.yolo import YoloFolder


def write(folder: Path, frames: int = 6, tolerance: float = 0) -> None:
    with YoloFolder(folder, NAMES, tolerance=tolerance) as sink:
        write_objects(sink, frames)


def read_rings(folder: Path, index: int) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Category and corners in pixels of each line."""
    height, width = HW
    for line in (folder / "labels" / f"{index:05d}.txt").read_text().splitlines():
        number, *shares = line.split()
        corners = np.array(shares, float).reshape(-1, 2)
        assert ((corners >= 0) & (corners <= 1)).all()
        yield int(number), corners * (width, height)


def test_every_line_is_an_object_with_its_holes_and_parts(tmp_path: Path) -> None:
    write(tmp_path)
    for index in range(6):
        labels, found = make_objects(index), dict(read_rings(tmp_path, index))
        assert list(found) == [p for p, i in enumerate((3, 200)) if (labels == i).any()]
        for place, ring in found.items():
            # Six digits of a share are less than a ten-thousandth of a pixel.
            truth = labels == (3, 200)[place]
            np.testing.assert_array_equal(fill_rings([ring.round(3)], HW), truth)


def test_a_frame_without_objects_has_an_empty_text(tmp_path: Path) -> None:
    write(tmp_path)
    assert (tmp_path / "labels" / "00005.txt").read_text() == ""
    assert len(list((tmp_path / "labels").iterdir())) == 6


def test_pictures_are_the_frames_by_the_names_of_their_texts(tmp_path: Path) -> None:
    write(tmp_path, 3)
    for index in range(3):
        image = cv2.imread(str(tmp_path / "images" / f"{index:05d}.jpg"))
        assert image is not None
        # JPEG keeps a plain gray within a level.
        np.testing.assert_allclose(image.astype(int), make_frame(index).image, atol=1)


def test_data_yaml_names_the_categories_and_its_texts_are_yamls(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="supervision brings it")
    names = {3: 'a "wheel": #1', 200: "balle élastique"}
    with YoloFolder(tmp_path, names) as sink:
        write_objects(sink, 1)
    found = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert found == {"train": "images", "val": "images", "names": dict(enumerate(names.values()))}


def test_supervision_reads_the_data_set(tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision", reason="install vcedge[supervision]")
    write(tmp_path)
    data = supervision.DetectionDataset.from_yolo(
        *(str(tmp_path / name) for name in ("images", "labels", "data.yaml")), force_masks=True
    )
    assert data.classes == ["wheel", "ball"]
    assert len(data) == 6
    for path, _, found in data:
        labels = make_objects(int(Path(path).stem))
        assert sorted(found.class_id) == [p for p, i in enumerate((3, 200)) if (labels == i).any()]
        for mask, place in zip(found.mask if len(found) else [], found.class_id, strict=True):
            truth = labels == (3, 200)[place]
            # It draws the outline itself with a line of a pixel, and the slits.
            assert (truth & ~mask).sum() == 0
            near = cv2.dilate(truth.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
            assert (mask & ~near).sum() < 40


def test_an_interruption_leaves_a_data_set_that_is_whole(tmp_path: Path) -> None:
    def run() -> None:
        with YoloFolder(tmp_path, NAMES) as sink:
            write_objects(sink, 2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    pairs = {f"{part}/0000{i}.{end}" for i in (0, 1) for part, end in PARTS}
    assert names == {"data.yaml", *pairs}


PARTS = (("images", "jpg"), ("labels", "txt"))
BELOW = ("images", "labels")


def test_without_a_frame_there_is_no_data_set(tmp_path: Path) -> None:
    with YoloFolder(tmp_path):
        pass
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_an_earlier_run_wrote_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for frames in (3, 1):
        with (
            OutputFolder(tmp_path, overwrite=frames == 1, below=BELOW) as output,
            YoloFolder(tmp_path, output=output) as sink,
        ):
            write_objects(sink, frames)
        if frames == 3:
            (tmp_path / "images" / "mine.jpg").write_text("mine")
            (tmp_path / "labels" / "00002.txt").write_text("corrected by hand")
    left = {path.name for part in BELOW for path in (tmp_path / part).iterdir()}
    assert left == {"00000.jpg", "00000.txt", "mine.jpg", "00002.txt"}


def test_a_text_that_was_corrected_is_not_replaced(tmp_path: Path) -> None:
    with OutputFolder(tmp_path, below=BELOW) as output:
        (tmp_path / "labels").mkdir()
        (tmp_path / "labels" / "00000.txt").write_text("corrected by hand")
        with (
            pytest.raises(OutputError, match=r"00000\.txt, which this run would replace"),
            YoloFolder(tmp_path, output=output) as sink,
        ):
            write_objects(sink, 1)
    assert (tmp_path / "labels" / "00000.txt").read_text() == "corrected by hand"


def test_a_frame_that_no_jpeg_holds_is_refused() -> None:
    image = np.zeros((1, LARGEST_JPEG + 1, 3), np.uint8)
    with pytest.raises(OutputError, match=r"at most 65500 a side, as JPEG holds; resize"):
        encode_jpeg(image, "wide.jpg")
    assert encode_jpeg(image[:, :LARGEST_JPEG], "wide.jpg")


def test_names_of_categories_are_texts_of_json(tmp_path: Path) -> None:
    write(tmp_path, 1)
    *_, first, second = (tmp_path / "data.yaml").read_text().splitlines()
    assert [json.loads(line.partition(": ")[2]) for line in (first, second)] == ["wheel", "ball"]
