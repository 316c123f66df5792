"""How often the network looks, and at what."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.model.prompt_composition import PLANES, PromptComposition
from vcedge_runtime.prompts.asking import Asked
from vcedge_runtime.prompts.network import NetworkSegmenter
from vcedge_runtime.prompts.planes import Click

Image = NDArray[np.uint8]


def test_a_box_is_cut_out_before_it_is_resized_and_what_was_found_is_looked_at_again(
    engine: object, make_scene: Callable[..., Image]
) -> None:
    frame = make_scene((480, 640), (100, 100, 40, 40), (500, 300, 60, 60))
    segmenter = NetworkSegmenter(PromptComposition(margin=0.25), engine)  # type: ignore[arg-type]
    found = segmenter.find(frame, Asked((90, 90, 150, 150)))
    [(image, prompts), (finer, known)] = engine.seen  # type: ignore[attr-defined]
    assert image.shape[2:] == (256, 256)
    # 40 of 90 pixels are red, in each direction, at three times their size, and 60 in the box.
    assert 0.18 < (image[0, 0] > 0).mean() < 0.22
    np.testing.assert_allclose(prompts[0, PLANES.index("box")].mean(), (60 / 90) ** 2, atol=0.01)
    assert not prompts[0, PLANES.index("prior")].any()
    # Then 40 of 60, larger; of the box all is seen, and what was found is known.
    assert finer.shape[2:] == (384, 384)
    assert 0.40 < (finer[0, 0] > 0).mean() < 0.48
    assert known[0, PLANES.index("box")].mean() > 0.98
    prior = known[0, PLANES.index("prior")]
    assert 0.40 < (prior > 0.5).mean() < 0.48
    rows, columns = found.region.slices
    assert (rows.stop - rows.start, columns.stop - columns.start) == (60, 60)
    seen = frame[found.region.slices][..., 2] > 100
    np.testing.assert_array_equal(found.plane > 0.5, seen)


def test_a_click_is_looked_at_in_the_whole_frame_and_then_closer(
    engine: object, make_scene: Callable[..., Image]
) -> None:
    frame = make_scene((480, 640), (100, 100, 40, 40))
    segmenter = NetworkSegmenter(PromptComposition(margin=0.25), engine)  # type: ignore[arg-type]
    found = segmenter.find(frame, Asked(None, (Click(120, 120),)))
    first, second = (prompts for _, prompts in engine.seen)  # type: ignore[attr-defined]
    assert first.shape[2:] == (256, 336)
    assert not first[0, PLANES.index("prior")].any()
    # What the first look found is known to the second.
    assert second[0, PLANES.index("prior")].max() > 0.9
    assert found.region.bottom - found.region.top == 60


def test_a_click_on_nothing_is_looked_at_ever_closer_but_not_for_ever(
    engine: object, make_scene: Callable[..., Image]
) -> None:
    segmenter = NetworkSegmenter(PromptComposition(margin=0.25), engine)  # type: ignore[arg-type]
    found = segmenter.find(make_scene((480, 640)), Asked(None, (Click(120, 120),)))
    assert 2 <= len(engine.seen) <= 3  # type: ignore[attr-defined]
    assert not (found.plane > 0.5).any()


def test_an_object_that_fills_the_frame_is_looked_at_once(
    engine: object, make_scene: Callable[..., Image]
) -> None:
    segmenter = NetworkSegmenter(PromptComposition(margin=0.25), engine)  # type: ignore[arg-type]
    frame = make_scene((64, 64), (2, 2, 60, 60))
    segmenter.find(frame, Asked(None, (Click(30, 30),)))
    assert len(engine.seen) == 1  # type: ignore[attr-defined]


def test_a_prior_is_shown_to_the_network(engine: object, make_scene: Callable[..., Image]) -> None:
    prior = np.zeros((100, 100), np.float32)
    prior[40:60, 40:60] = 1
    segmenter = NetworkSegmenter(PromptComposition(margin=0.25), engine)  # type: ignore[arg-type]
    segmenter.find(make_scene((100, 100)), Asked((40, 40, 60, 60)), prior)
    [(_, prompts)] = engine.seen  # type: ignore[attr-defined]
    np.testing.assert_allclose(
        prompts[0, PLANES.index("prior")].mean(), prompts[0, PLANES.index("box")].mean(), rtol=0.1
    )


def test_clicks_beside_a_box_stay_in_sight(
    engine: object, make_scene: Callable[..., Image]
) -> None:
    # What was found is far from the click: the finer look is at both.
    frame = make_scene((480, 640), (100, 100, 40, 40))
    segmenter = NetworkSegmenter(PromptComposition(margin=0.25), engine)  # type: ignore[arg-type]
    found = segmenter.find(frame, Asked((90, 90, 260, 260), (Click(250, 250),)))
    rows, columns = found.region.slices
    for part in (rows, columns):
        assert part.start <= 100
        assert part.stop >= 251
