"""The losses, against plain arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.conftest import whole_frames
from vcedge.models.affinity import window_bias
from vcedge.training.corpus import Clips
from vcedge.training.losses import (
    COLOUR_SCALE,
    cell_colours,
    clip_keys,
    colourisation_loss,
    compactness_loss,
    others,
)


class Superposition(nn.Module):
    """An encoder that gives back what it is given, and says whether flow was."""

    def hide(self, lab: Tensor, channel: int) -> Tensor:
        return lab + channel

    def forward(self, lab: Tensor, flow: Tensor | None) -> Tensor:
        return lab if flow is None else lab + 2 * flow


def test_every_frame_is_encoded_without_the_channel_and_with_its_flow() -> None:
    lab, flow = torch.randn(2, 4, 3, 8, 8), torch.randn(2, 4, 3, 8, 8)
    video, place = torch.tensor([0, 1]), whole_frames(2, 4)
    keys = clip_keys(Superposition(), Clips(lab, flow[:, :, :0], video, place), 2)
    assert keys.shape == lab.shape
    assert torch.equal(keys, lab + 2)
    moving = clip_keys(Superposition(), Clips(lab, flow, video, place), 2)
    assert torch.equal(moving, lab + 2 + 2 * flow)


def test_a_cells_colour_is_the_scaled_mean_of_its_pixels() -> None:
    colour = torch.zeros(1, 2, 4, 6)
    colour[0, 1, :2, 2:4] = torch.tensor([[0.1, 0.2], [0.3, 0.6]])
    cells = cell_colours(colour, 2)
    assert cells.shape == (1, 2, 1, 2, 3)
    assert cells[0, 1, 0, 0, 1].item() == pytest.approx(0.3 * COLOUR_SCALE)
    assert cells.sum().item() == pytest.approx(0.3 * COLOUR_SCALE)


@pytest.mark.parametrize(("target", "expected"), [(0, [1, 2]), (1, [0, 2]), (2, [0, 1])])
def test_the_others_are_a_clips_frames_without_one(target: int, expected: list[int]) -> None:
    assert others(3, target) == expected


def distinct_keys(frames: int, side: int, length: float) -> Tensor:
    """Make keys of one frame, repeated, whose cells are orthogonal: (1, T, side^2, side, side)."""
    frame = length * torch.eye(side * side).reshape(side * side, side, side)
    return frame.expand(1, frames, -1, -1, -1).contiguous()


def lose(
    keys: Tensor, colour: Tensor, bias: Tensor, stride: int, weight: Tensor | None = None
) -> Tensor:
    """The loss of keys that every target sees alike, in one window."""
    frames = keys.shape[1]
    return colourisation_loss([keys] * frames, colour, [bias] * frames, stride, weight)


def test_one_colour_everywhere_costs_nothing_whatever_the_keys() -> None:
    keys = torch.randn(2, 3, 8, 4, 4)
    colour = torch.full((2, 3, 16, 16), 0.3)
    # Weights of a softmax sum to 1 within FP32, and smooth L1 squares what is left.
    assert lose(keys, colour, window_bias(4, 4, 2), 4).item() < 1e-9


def test_keys_that_find_themselves_copy_the_colour() -> None:
    colour = torch.rand(1, 1, 16, 16).expand(1, 3, 16, 16)
    bias = window_bias(4, 4, 8)
    found = lose(distinct_keys(3, 4, 40.0), colour, bias, 4)
    blind = lose(torch.zeros(1, 3, 16, 4, 4), colour, bias, 4)
    assert found.item() < 1e-9
    assert blind.item() > 0.01


def test_the_colourisation_loss_is_smooth_l1_on_20_times_the_cells_mean() -> None:
    keys = torch.zeros(1, 2, 3, 2, 2)
    colour = torch.stack([torch.zeros(4, 4), torch.full((4, 4), 0.5)])[None]
    colour[0, 1, 0, 0] = 0.9
    # With blank keys and a window over all, each frame gets the mean of the other one's cells.
    cells = [np.zeros(4), 20 * np.array([0.6, 0.5, 0.5, 0.5])]
    errors = np.abs([cells[1].mean() - cells[0], cells[0].mean() - cells[1]])
    expected = np.where(errors < 1, errors**2 / 2, errors - 0.5).mean()
    found = lose(keys, colour, window_bias(2, 2, 2), 2)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_each_cells_error_has_its_weight() -> None:
    torch.manual_seed(0)
    keys, colour = torch.randn(2, 3, 4, 4, 4), torch.rand(2, 3, 16, 16)
    bias = window_bias(4, 4, 2)
    plain = lose(keys, colour, bias, 4)
    for factor in (0.0, 1.0, 2.5):
        weight = torch.full((2, 3, 4, 4), factor)
        found = lose(keys, colour, bias, 4, weight)
        assert found.item() == pytest.approx(factor * plain.item(), rel=1e-6)
    total = 0.0
    for cell in range(2 * 3 * 4 * 4):
        weight = torch.zeros(2, 3, 4, 4)
        weight.view(-1)[cell] = 1
        total += lose(keys, colour, bias, 4, weight).item()
    assert total == pytest.approx(plain.item(), rel=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3])
def test_gradients_are_finite(scale: float) -> None:
    torch.manual_seed(0)
    keys = (scale * torch.randn(2, 4, 8, 4, 4)).requires_grad_()
    loss = lose(keys, torch.rand(2, 4, 32, 32), window_bias(4, 4, 2), 8)
    (gradient,) = torch.autograd.grad(loss, keys)
    assert math.isfinite(loss.item())
    assert gradient.isfinite().all()


def test_the_loss_pulls_keys_of_one_colour_together() -> None:
    torch.manual_seed(0)
    keys = torch.randn(1, 2, 8, 4, 4, requires_grad=True)
    colour = torch.rand(1, 1, 16, 16).expand(1, 2, 16, 16)
    bias = window_bias(4, 4, 4)
    loss = lose(keys, colour, bias, 4)
    (gradient,) = torch.autograd.grad(loss, keys)
    with torch.no_grad():
        assert lose(keys - gradient, colour, bias, 4) < loss


# LIIR's compactness prior.


def test_the_prior_pulls_a_sure_cell_to_two_narrow_peaks() -> None:
    keys, bias = distinct_keys(2, 4, 4.0), window_bias(4, 4, 4)
    # Logits of 16 / 4 on the own cell and 0 on the 15 others.
    most, rest = math.exp(4) / (math.exp(4) + 15), 1 / (math.exp(4) + 15)
    affinity = np.full((16, 16), rest)
    np.fill_diagonal(affinity, most)
    share = np.exp([most, rest]) / np.exp([most, rest]).sum()
    ys, xs = np.divmod(np.arange(16), 4)
    square = (ys[:, None] - ys) ** 2 + (xs[:, None] - xs) ** 2
    peaks = np.exp(-4 * np.log(2) * square)
    # Of the cells that are alike, the first is the second largest.
    second = np.array([0 if cell else 1 for cell in range(16)])
    wanted = share[0] * peaks + share[1] * peaks[second]
    errors = 20 * np.abs(affinity - wanted)
    expected = np.where(errors < 1, errors**2 / 2, errors - 0.5).mean(axis=1).mean()
    found = compactness_loss([keys, keys], [bias, bias])
    assert found.item() == pytest.approx(expected, rel=0.02)


def test_the_prior_looks_at_no_cell_that_is_unsure() -> None:
    keys = torch.zeros(1, 3, 8, 4, 4, requires_grad=True)
    loss = compactness_loss([keys] * 3, [window_bias(4, 4, 2)] * 3)
    (gradient,) = torch.autograd.grad(loss, keys)
    assert loss.item() == 0
    assert not gradient.any()
