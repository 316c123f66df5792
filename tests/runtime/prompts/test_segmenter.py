"""First masks: ids, conflicts, what is refused, and what stands in for a model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge_runtime.demo.clip import render_demo_clip
from vcedge_runtime.errors import BundleError, MaskError, TrackerError
from vcedge_runtime.model.bundle import PROMPT_MODEL, Bundle, shipped_prompt_models
from vcedge_runtime.model.prompt_composition import GRAPH
from vcedge_runtime.prompts import segmenter as module
from vcedge_runtime.prompts.segmenter import GRABCUT, PromptSegmenter, mask_from_prompts

Image = NDArray[np.uint8]
BOX = (100, 100, 40, 40)


@pytest.fixture
def segmenter(red_bundle: Bundle, engine: object) -> PromptSegmenter:
    return PromptSegmenter(red_bundle, {GRAPH: engine})  # type: ignore[dict-item]


def test_a_box_gives_the_object_in_it_and_nothing_else(
    segmenter: PromptSegmenter, make_scene: Callable[..., Image]
) -> None:
    frame = make_scene((240, 320), BOX, (150, 100, 60, 60))
    mask = segmenter.segment(frame, {9: BOX})
    assert mask.dtype == np.uint8
    expected = np.zeros((240, 320), np.uint8)
    expected[100:140, 100:140] = 9
    np.testing.assert_array_equal(mask, expected)


def test_several_objects_have_their_ids_and_the_likelier_one_gets_what_both_claim(
    segmenter: PromptSegmenter, make_scene: Callable[..., Image]
) -> None:
    frame = make_scene((240, 320), (100, 100, 40, 40), (200, 100, 40, 40))
    mask = segmenter.segment(frame, {1: (100, 100, 40, 40)}, {2: [(220, 120)]})
    assert set(np.unique(mask)) == {0, 1, 2}
    assert (mask[100:140, 200:240] == 2).all()
    assert (mask[100:140, 100:140] == 1).all()


def test_objects_of_which_nothing_is_said_stay_and_named_ones_are_made_anew(
    segmenter: PromptSegmenter, make_scene: Callable[..., Image]
) -> None:
    frame = make_scene((240, 320), BOX)
    known = np.zeros((240, 320), np.uint8)
    known[0:20, 0:20], known[200:230, 200:230] = 5, 1
    mask = segmenter.segment(frame, {1: BOX}, mask=known)
    assert (mask[0:20, 0:20] == 5).all()
    assert not (mask[200:230, 200:230]).any()
    assert (mask[100:140, 100:140] == 1).all()
    assert known[210, 210] == 1


def test_clicks_off_an_object_that_is_known_correct_it(
    segmenter: PromptSegmenter, make_scene: Callable[..., Image]
) -> None:
    frame = make_scene((240, 320), BOX, (160, 100, 40, 40))
    known = np.zeros((240, 320), np.uint8)
    known[100:140, 100:140], known[100:140, 160:200], known[0:9, 0:9] = 1, 1, 5
    mask = segmenter.segment(frame, clicks={1: [(180, 120, False)]}, mask=known)
    assert (mask[100:140, 100:140] == 1).all()
    assert (mask[0:9, 0:9] == 5).all()
    with pytest.raises(MaskError, match="clicks off it alone"):
        segmenter.segment(frame, clicks={2: [(180, 120, False)]}, mask=known)


def test_where_nothing_is_found_that_is_said_unless_it_may_be_left_out(
    segmenter: PromptSegmenter, make_scene: Callable[..., Image]
) -> None:
    with pytest.raises(MaskError, match="of object 4, where nothing was found"):
        segmenter.segment(make_scene((240, 320)), {4: BOX})
    assert not segmenter.segment(make_scene((240, 320)), {4: BOX}, required=False).any()


@pytest.mark.parametrize("frame_hw", [(1, 1), (17, 400), (400, 17), (33, 31)])
def test_frames_of_any_shape_are_taken(
    frame_hw: tuple[int, int], segmenter: PromptSegmenter
) -> None:
    frame = np.zeros((*frame_hw, 3), np.uint8)
    frame[..., 2] = 250
    mask = segmenter.segment(frame, {1: (0, 0, frame_hw[1], frame_hw[0])})
    np.testing.assert_array_equal(mask, np.ones(frame_hw, np.uint8))


def test_what_is_no_frame_is_refused(segmenter: PromptSegmenter) -> None:
    with pytest.raises(TrackerError, match="received a frame"):
        segmenter.segment(np.zeros((5, 5), np.uint8), {1: (0, 0, 2, 2)})


def test_closing_closes_the_engine_and_twice_does_no_harm(
    segmenter: PromptSegmenter, engine: object
) -> None:
    with segmenter:
        pass
    segmenter.close()
    assert engine.closed  # type: ignore[attr-defined]


def test_a_bundle_that_tracks_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="tracks and makes no first masks"):
        PromptSegmenter.open(tiny_bundle)


def test_grabcut_stands_in_for_a_model_that_did_not_come_along_and_says_so(
    monkeypatch: pytest.MonkeyPatch, make_scene: Callable[..., Image]
) -> None:
    monkeypatch.setattr(module, "shipped_prompt_models", list)
    told: list[str] = []
    frame = make_scene((120, 160), (60, 40, 50, 50))
    mask = mask_from_prompts(frame, {3: (50, 30, 70, 70)}, tell=told.append)
    assert set(np.unique(mask)) == {0, 3}
    assert len(told) == 1
    assert "GrabCut makes the mask" in told[0]
    with PromptSegmenter.open(GRABCUT) as opened:
        assert opened.name == GRABCUT


def test_what_stands_out_is_found_with_nothing_said(
    segmenter: PromptSegmenter, engine: object, make_scene: Callable[..., Image]
) -> None:
    frame = make_scene((240, 320), BOX)
    found = segmenter.find_salient(frame)
    assert found.shape == (240, 320)
    np.testing.assert_array_equal(found[::8, ::8] > 0.5, frame[::8, ::8, 2] > 100)
    [(_, prompts)] = engine.seen  # type: ignore[attr-defined]
    assert not prompts.any()
    with pytest.raises(BundleError, match="where nothing is said"):
        PromptSegmenter(None, {}).find_salient(frame)


@pytest.mark.skipif(not shipped_prompt_models(), reason="no model of first masks is shipped here")
def test_the_shipped_model_finds_a_disc_by_its_box_and_by_a_click() -> None:
    pytest.importorskip("onnxruntime", reason="the graph runs in it; install vcedge[cpu]")
    y, x = np.mgrid[:240, :320]
    disc = (y - 120) ** 2 + (x - 180) ** 2 < 50**2
    frame = np.full((240, 320, 3), (60, 120, 60), np.uint8)
    frame[disc] = (40, 60, 220)
    with PromptSegmenter.open(PROMPT_MODEL, threads=1) as opened:
        for said in ({"boxes": {1: (130, 70, 101, 101)}}, {"clicks": {1: [(180, 120)]}}):
            mask = opened.segment(frame, **said) == 1
            assert (mask & disc).sum() / (mask | disc).sum() > 0.85


@pytest.mark.skipif(not shipped_prompt_models(), reason="no model of first masks is shipped here")
def test_a_click_off_the_object_takes_away_what_was_drawn_too_much() -> None:
    pytest.importorskip("onnxruntime", reason="the graph runs in it; install vcedge[cpu]")
    image, labels = next(iter(render_demo_clip(frames=1)))
    fish = labels == 1
    ys, xs = np.nonzero(fish)
    known = fish.copy()
    known[ys.min() : ys.min() + 40, xs.max() + 4 : xs.max() + 64] = True
    click = (float(xs.max() + 34), float(ys.min() + 20), False)
    found = mask_from_prompts(image, clicks={1: [click]}, mask=known.astype(np.uint8)) == 1
    assert (found & fish).sum() / (found | fish).sum() > 0.95
    assert (known & fish).sum() / (known | fish).sum() < 0.9
