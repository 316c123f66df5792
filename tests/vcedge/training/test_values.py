"""Value extraction on crops: the same place is that of the video, and so are positions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.conftest import whole_frames
from vcedge.models.value_extraction import ValueExtraction, ValueSettings, training_grid
from vcedge.training.values import move_planes, refine_clip, spread_positions, value_maps

KEY_DIM, SIDE = 8, 16


def make_values(omega: float = 0.6) -> ValueExtraction:
    torch.manual_seed(0)
    values = ValueExtraction(KEY_DIM, ValueSettings(omega=omega)).eval()
    torch.nn.init.normal_(values.position)
    values.to_out.reset_parameters()
    return values


def shift(cells: float) -> torch.Tensor:
    """The place of a crop that lies so many cells to the right, in a frame of its own size."""
    place = torch.eye(2, 3)
    place[0, 2] = cells / SIDE
    return place


def test_whole_frames_are_refined_as_at_run_time() -> None:
    values, grid, raw = (
        make_values(),
        training_grid((SIDE, SIDE)),
        torch.randn(2, 3, KEY_DIM, SIDE, SIDE),
    )
    place = whole_frames(2, 3)
    with torch.no_grad():
        maps = value_maps(values, raw, place, grid)
        where = spread_positions(values, place, SIDE)
        for target in range(3):
            refs = [index for index in range(3) if index != target]
            seen = values(raw[:, target], raw[:, refs], torch.ones(2, 2), grid)
            torch.testing.assert_close(maps[:, target], seen.value_map, atol=1e-4, rtol=0)
            tokens = values.map_tokens(raw[:, target], seen.value_map, where[:, target], grid)
            refined = refine_clip(values, raw, tokens, where, grid)
            torch.testing.assert_close(refined[:, target], seen.key, atol=1e-4, rtol=0)


def test_a_reference_is_looked_at_where_the_targets_crop_lies() -> None:
    wide = torch.randn(1, KEY_DIM, SIDE, SIDE + 3)
    left, right = wide[..., :SIDE], wide[..., 3:]
    moved = move_planes(right, shift(3)[None], shift(0)[None])
    # What the other crop shows of the target's own; beyond it, its edge.
    torch.testing.assert_close(moved[..., 3:], left[..., 3:], atol=1e-4, rtol=0)
    torch.testing.assert_close(
        moved[..., :3], right[..., :1].expand(-1, -1, -1, 3), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("cells", [2, 4])
def test_jitter_of_the_crops_does_not_move_the_same_place(cells: int) -> None:
    # The same place outweighs all else in the map.
    values, grid = make_values(omega=8), training_grid((SIDE, SIDE))
    still = torch.randn(1, KEY_DIM, SIDE, SIDE + cells)
    frames = [still + 0.7 * torch.randn_like(still) for _ in range(3)]
    steady = torch.stack([frame[..., :SIDE] for frame in frames], 1)
    jittered = steady.clone()
    jittered[:, 1] = frames[1][..., cells:]
    place = torch.stack([shift(0), shift(cells), shift(0)])[None]
    with torch.no_grad():
        expected = value_maps(values, steady, whole_frames(1, 3), grid)[:, 0]
        found = value_maps(values, jittered, place, grid)[:, 0]
        moved = value_maps(values, jittered, whole_frames(1, 3), grid)[:, 0]
    # The first columns of windows are beyond the other crop; maps are stretched over the rest too.
    inner = np.s_[0, :, 2:]
    likeness = [
        np.corrcoef(each[inner].ravel(), expected[inner].ravel())[0, 1] for each in (found, moved)
    ]
    assert likeness[0] > 0.98
    assert likeness[1] < 0.9


def test_positions_belong_to_the_frame() -> None:
    values = make_values()
    whole = spread_positions(values, whole_frames(1, 1), SIDE)[0, 0, 0]
    half = torch.tensor([[0.5, 0.0, 0.5], [0.0, 0.5, 0.0]])[None, None]
    corner = spread_positions(values, half, SIDE // 2)[0, 0, 0]
    # The crop of the upper right quarter has the positions of that quarter.
    torch.testing.assert_close(corner, whole[: SIDE // 2, SIDE // 2 :], atol=1e-5, rtol=0)
