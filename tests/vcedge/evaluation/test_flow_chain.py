"""Points that optical flow carries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge.evaluation.flow_chain import PRESETS, chain_points
from vcedge_runtime.errors import EvaluationError

MakeImage = Callable[..., NDArray[np.uint8]]
POINTS = np.array([(40.0, 40.0), (60.5, 55.25), (80.0, 30.0)])


@pytest.mark.parametrize("preset", PRESETS)
def test_points_follow_a_moving_texture(make_frame: MakeImage, preset: str) -> None:
    frames = [make_frame(96, 128, 3 * step) for step in range(5)]
    found = list(chain_points(frames, POINTS, preset))
    assert len(found) == 5
    for step, places in enumerate(found):
        # DIS is right to a fraction of a pixel a step on a smooth texture.
        np.testing.assert_allclose(places, POINTS + np.array([3 * step, 0]), atol=0.3 * step)


def test_points_stay_where_nothing_moves(make_frame: MakeImage) -> None:
    given = POINTS.copy()
    *_, last = chain_points([make_frame(96, 128)] * 3, given)
    np.testing.assert_allclose(last, POINTS, atol=0.01)
    np.testing.assert_array_equal(given, POINTS)


def test_points_outside_the_frame_go_on_with_its_border(make_frame: MakeImage) -> None:
    frames = [make_frame(96, 128, 3 * step) for step in range(3)]
    *_, last = chain_points(frames, np.array([(140.0, 48.0)]))
    assert np.isfinite(last).all()
    assert 135 < last[0, 0] < 160


def test_frames_of_two_sizes_and_unknown_presets_are_refused(make_frame: MakeImage) -> None:
    with pytest.raises(EvaluationError, match="frames of one size"):
        list(chain_points([make_frame(96, 128), make_frame(64, 128)], POINTS))
    with pytest.raises(EvaluationError, match="expected one of ultrafast, fast, medium"):
        list(chain_points([make_frame(96, 128)], POINTS, "slow"))
