"""DMP's memory gates on a training clip."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vcedge.models.affinity import window_bias
from vcedge.training.gates import BINS, colour_agreement, feature_positions, memory_bias
from vcedge.training.losses import COLOUR_SCALE

SIDE = 8
BIAS = window_bias(SIDE, SIDE, 3)


def make_keys(*places: tuple[int, int]) -> torch.Tensor:
    """Make frames whose features are strong at one cell each: (1, T, 4, 8, 8)."""
    keys = 0.1 * torch.ones(1, len(places), 4, SIDE, SIDE)
    for frame, (row, column) in enumerate(places):
        keys[0, frame, :, row, column] = 5
    return keys


def admitted(
    keys: torch.Tensor, values: torch.Tensor, target: int, beta: float, gamma: float
) -> list[bool]:
    """Read which frames are in memory off the mask, which is one value a frame."""
    mask = memory_bias(keys, values, target, BIAS, beta, gamma)
    assert mask.shape == (len(keys), 1, (keys.shape[1] - 1) * SIDE * SIDE)
    frames = mask[0, 0].unflatten(0, (-1, SIDE * SIDE))
    assert torch.equal(frames.amin(-1), frames.amax(-1))
    assert set(frames.flatten().tolist()) <= {0.0, -1e4}
    return [bool(value == 0) for value in frames[:, 0]]


def make_values(frames: int) -> torch.Tensor:
    """Make colours that differ from frame to frame in every cell: (1, T, 1, 8, 8)."""
    levels = torch.linspace(-0.9, 0.9, frames)
    return COLOUR_SCALE * levels[None, :, None, None, None].expand(1, -1, 1, SIDE, SIDE)


# Positions and agreement.


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 6), (7, 7)])
def test_a_position_is_where_features_are_strongest(row: int, column: int) -> None:
    (found,) = feature_positions(make_keys((row, column)))[0]
    assert found.tolist() == pytest.approx([(row + 0.5) / SIDE, (column + 0.5) / SIDE])


def test_a_blur_prefers_a_region_to_a_speck() -> None:
    keys = torch.zeros(1, 1, 1, 60, 100)
    keys[..., 10, 10] = 2.0
    keys[..., 38:43, 68:73] = 1.5
    (found,) = feature_positions(keys)[0]
    assert found.tolist() == pytest.approx([40.5 / 60, 70.5 / 100])


@settings(max_examples=30)
@given(seed=st.integers(0, 999), spread=st.floats(0.05, 0.9))
def test_the_agreement_is_the_mean_iou_of_the_classes_present(seed: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = [
        COLOUR_SCALE * spread * (2 * torch.rand(1, 1, 4, 5, generator=generator) - 1)
        for _ in range(2)
    ]
    classes = [((m.flatten() / COLOUR_SCALE + 1) * BINS / 2).long().tolist() for m in maps]
    ious = []
    for number in sorted({*classes[0], *classes[1]}):
        sets = [{cell for cell, c in enumerate(m) if c == number} for m in classes]
        ious.append(len(sets[0] & sets[1]) / len(sets[0] | sets[1]))
    found = colour_agreement(*maps)
    assert found.item() == pytest.approx(sum(ious) / len(ious), abs=1e-6)
    assert colour_agreement(maps[0], maps[0]).item() == 1


def test_colours_that_share_no_class_do_not_agree() -> None:
    low, high = torch.full((2, 1, 3, 3), -10.0), torch.full((2, 1, 3, 3), 10.0)
    assert colour_agreement(low, high).tolist() == [0, 0]
    # Beyond the range of Lab is its outermost class.
    assert colour_agreement(high * 9, high * 5).tolist() == [1, 1]


# The gates.


@pytest.mark.parametrize(("target", "neighbour"), [(0, 0), (3, 2), (1, 0)])
def test_the_neighbour_is_always_held(target: int, neighbour: int) -> None:
    keys = make_keys((0, 0), (7, 7), (0, 7), (7, 0))
    found = admitted(keys, make_values(4), target, 0.0, 1.0)
    assert found == [place == neighbour for place in range(3)]


@settings(max_examples=20)
@given(seed=st.integers(0, 999), target=st.integers(0, 3), beta=st.floats(0, 1))
def test_a_wider_gate_holds_no_fewer_frames(seed: int, target: int, beta: float) -> None:
    torch.manual_seed(seed)
    keys, values = torch.randn(2, 4, 3, SIDE, SIDE), torch.randn(2, 4, 1, SIDE, SIDE)
    narrow = memory_bias(keys, values, target, BIAS, beta, 1.0)
    wide = memory_bias(keys, values, target, BIAS, beta + 0.1, 1.0)
    assert (wide >= narrow).all()
    neighbour = (target or 1) - 1
    cells = slice(neighbour * SIDE * SIDE, (neighbour + 1) * SIDE * SIDE)
    assert not narrow[:, :, cells].any()
    everything = memory_bias(keys, values, target, BIAS, 2.0, 1.0)
    assert not everything.any()


def test_a_frame_at_the_same_place_is_short_term_memory() -> None:
    keys = make_keys((4, 4), (0, 0), (4, 5), (4, 4))
    # One cell of eight is 0.125 of the side, less than beta.
    assert admitted(keys, make_values(4), 3, 0.15, 1.0) == [True, False, True]
    assert admitted(keys, make_values(4), 0, 0.15, 1.0) == [True, True, True]
    assert admitted(keys, make_values(4), 0, 0.1, 1.0) == [True, False, True]


def test_a_far_frame_that_agrees_is_long_term_memory() -> None:
    keys = make_keys((0, 0), (7, 7), (0, 7), (7, 0))
    values = make_values(4).clone()
    values[:, 1] = values[:, 2]
    assert admitted(keys, values, 3, 0.0, 0.85) == [False, True, True]
    assert admitted(keys, values, 3, 0.0, 1.0) == [False, False, True]


def test_the_gates_carry_no_gradient() -> None:
    keys = torch.randn(1, 3, 2, SIDE, SIDE, requires_grad=True)
    assert not memory_bias(keys, make_values(3), 0, BIAS, 0.15, 0.85).requires_grad
