"""The baseline, which needs no model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge_runtime.prompts.asking import Asked
from vcedge_runtime.prompts.grabcut import GrabCutSegmenter
from vcedge_runtime.prompts.planes import Click

Image = NDArray[np.uint8]


@pytest.mark.parametrize(
    "asked",
    [Asked((80.0, 80.0, 160.0, 170.0)), Asked(None, (Click(120, 120),))],
    ids=["box", "click"],
)
def test_an_object_of_its_own_colour_is_found(
    asked: Asked, make_scene: Callable[..., Image]
) -> None:
    frame = make_scene((240, 320), (90, 90, 60, 60))
    rng = np.random.default_rng(0)
    frame = (frame.astype(int) + rng.integers(-8, 9, frame.shape)).clip(0, 255).astype(np.uint8)
    mask = GrabCutSegmenter().find(frame, asked).plane > 0.5
    truth = frame[..., 2] > 150
    assert (mask & truth).sum() / (mask | truth).sum() > 0.9


def test_a_large_frame_is_shrunk_and_the_mask_is_of_its_own_size(
    make_scene: Callable[..., Image],
) -> None:
    frame = make_scene((900, 1600), (400, 200, 500, 400))
    found = GrabCutSegmenter().find(frame, Asked((380.0, 180.0, 920.0, 620.0)))
    assert found.plane.shape == (900, 1600)
    assert 0.1 < (found.plane > 0.5).mean() < 0.2


def test_a_box_of_the_whole_frame_is_taken_as_it_is(make_scene: Callable[..., Image]) -> None:
    found = GrabCutSegmenter().find(make_scene((30, 40)), Asked((0.0, 0.0, 40.0, 30.0)))
    assert found.plane.min() == 1
