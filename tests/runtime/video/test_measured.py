"""What a result tells of its objects when it is asked, and what that costs before."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.runtime.video.made_objects import NAMES, SCORES, fill_rings, make_objects
from vcedge_runtime.errors import MissingExtraError, OutputError
from vcedge_runtime.followed import StepResult
from vcedge_runtime.video import measured
from vcedge_runtime.video.sinks import describe_objects


def make_result(index: int = 0) -> StepResult:
    return StepResult(make_objects(index), dict(SCORES), {})


def test_areas_boxes_and_centroids_are_the_pixels() -> None:
    result = make_result()
    assert list(result.areas) == list(result.boxes) == list(result.centroids) == [3, 200]
    for object_id in (3, 200):
        rows, columns = np.nonzero(result.mask == object_id)
        assert result.areas[object_id] == rows.size
        left, top, width, height = result.boxes[object_id]
        assert (left, top) == (columns.min(), rows.min())
        assert (left + width, top + height) == (columns.max() + 1, rows.max() + 1)
        assert result.centroids[object_id] == pytest.approx((columns.mean(), rows.mean()))


def test_they_are_what_the_log_says() -> None:
    result = make_result()
    for record in describe_objects(result.mask, result.scores):
        object_id = record["id"]
        assert record["area"] == result.areas[object_id]
        assert tuple(record["box"]) == result.boxes[object_id]
        assert record["centroid"] == pytest.approx(result.centroids[object_id], abs=0.0051)


def test_polygons_are_the_mask() -> None:
    result = make_result()
    for object_id, polygons in result.polygons.items():
        rings = [ring for polygon in polygons for ring in (polygon.outer, *polygon.holes)]
        found = fill_rings(rings, (result.mask.shape[0], result.mask.shape[1]))
        np.testing.assert_array_equal(found, result.mask == object_id)


def test_an_object_that_is_not_seen_is_in_none_of_them() -> None:
    for index, seen in ((2, [3]), (5, [])):
        result = make_result(index)
        for found in (result.areas, result.boxes, result.centroids, result.polygons):
            assert list(found) == seen


def test_nothing_is_measured_before_it_is_asked_for_and_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measure, calls = measured.measure_regions, list[int]()

    def count(labels: np.typing.NDArray[np.uint8]) -> object:
        calls.append(1)
        return measure(labels)

    monkeypatch.setattr(measured, "measure_regions", count)
    result = make_result()
    assert not calls
    assert result.boxes
    assert result.areas
    assert result.polygons is result.polygons
    assert len(calls) == 1


def test_a_result_with_another_mask_is_measured_anew() -> None:
    result = make_result()
    assert 200 in result.boxes
    assert list(replace(result, mask=make_objects(2)).boxes) == [3]


def test_supervision_gets_boxes_masks_names_and_ids() -> None:
    pytest.importorskip("supervision", reason="install vcedge[supervision]")
    result = make_result()
    found = result.to_supervision({200: "ball", 3: "wheel"})
    for place, object_id in enumerate((3, 200)):
        left, top, width, height = result.boxes[object_id]
        assert found.xyxy[place].tolist() == [left, top, left + width, top + height]
        np.testing.assert_array_equal(found.mask[place], result.mask == object_id)
    assert found.tracker_id.tolist() == [3, 200]
    assert found.class_id.tolist() == [1, 0]
    assert found.data["class_name"].tolist() == ["wheel", "ball"]
    assert found.confidence == pytest.approx([SCORES[3], SCORES[200]])
    assert found[found.confidence > 0.6].tracker_id.tolist() == [3]


def test_supervision_gets_no_detections_of_an_empty_frame() -> None:
    pytest.importorskip("supervision", reason="install vcedge[supervision]")
    found = make_result(5).to_supervision(NAMES)
    assert len(found) == 0
    assert found.mask.shape == (0, 48, 64)


def test_supervision_draws_them() -> None:
    supervision = pytest.importorskip("supervision", reason="install vcedge[supervision]")
    result, picture = make_result(), np.full((48, 64, 3), 90, np.uint8)
    drawn = supervision.MaskAnnotator(opacity=1).annotate(
        picture.copy(), result.to_supervision(NAMES)
    )
    np.testing.assert_array_equal((drawn != picture).any(axis=2), result.mask > 0)


def test_a_name_that_is_none_is_refused() -> None:
    pytest.importorskip("supervision", reason="install vcedge[supervision]")
    with pytest.raises(OutputError, match="as the name of object 3"):
        make_result().to_supervision({3: ""})


def test_without_supervision_the_message_names_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingExtraError, match=r"supervision.*pip install.*\[supervision\]"):
        make_result().to_supervision()
