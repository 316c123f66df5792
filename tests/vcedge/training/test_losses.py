"""The losses, against plain arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vcedge.models.affinity import window_bias
from vcedge.training.losses import clip_keys, colourisation_loss, drop_channel


@pytest.mark.parametrize("channel", [1, 2])
def test_a_dropped_channel_is_zero_and_the_rest_half_as_much_again(channel: int) -> None:
    lab = torch.randn(2, 4, 3, 5, 6)
    dropped = drop_channel(lab, channel)
    other = 3 - channel
    assert not dropped[:, :, channel].any()
    assert torch.equal(dropped[:, :, [0, other]], 1.5 * lab[:, :, [0, other]])
    assert lab[:, :, channel].abs().min() > 0


def test_every_frame_is_encoded_without_the_channel() -> None:
    clip = torch.randn(2, 4, 3, 8, 8)
    keys = clip_keys(nn.Identity(), clip, 2)
    assert keys.shape == clip.shape
    assert torch.equal(keys, drop_channel(clip, 2))


def distinct_keys(frames: int, side: int, length: float) -> Tensor:
    """Make keys of one frame, repeated, whose cells are orthogonal: (1, T, side^2, side, side)."""
    frame = length * torch.eye(side * side).reshape(side * side, side, side)
    return frame.expand(1, frames, -1, -1, -1).contiguous()


def test_one_colour_everywhere_costs_nothing_whatever_the_keys() -> None:
    keys = torch.randn(2, 3, 8, 4, 4)
    colour = torch.full((2, 3, 16, 16), 0.3)
    # Weights of a softmax sum to 1 within FP32, and smooth L1 squares what is left.
    assert colourisation_loss(keys, colour, window_bias(4, 4, 2), 4).item() < 1e-9


def test_keys_that_find_themselves_copy_the_colour() -> None:
    colour = torch.rand(1, 1, 16, 16).expand(1, 3, 16, 16)
    bias = window_bias(4, 4, 8)
    found = colourisation_loss(distinct_keys(3, 4, 40.0), colour, bias, 4)
    blind = colourisation_loss(torch.zeros(1, 3, 16, 4, 4), colour, bias, 4)
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
    found = colourisation_loss(keys, colour, window_bias(2, 2, 2), 2)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3])
def test_gradients_are_finite(scale: float) -> None:
    torch.manual_seed(0)
    keys = (scale * torch.randn(2, 4, 8, 4, 4)).requires_grad_()
    loss = colourisation_loss(keys, torch.rand(2, 4, 32, 32), window_bias(4, 4, 2), 8)
    (gradient,) = torch.autograd.grad(loss, keys)
    assert math.isfinite(loss.item())
    assert gradient.isfinite().all()


def test_the_loss_pulls_keys_of_one_colour_together() -> None:
    torch.manual_seed(0)
    keys = torch.randn(1, 2, 8, 4, 4, requires_grad=True)
    colour = torch.rand(1, 1, 16, 16).expand(1, 2, 16, 16)
    bias = window_bias(4, 4, 4)
    loss = colourisation_loss(keys, colour, bias, 4)
    (gradient,) = torch.autograd.grad(loss, keys)
    with torch.no_grad():
        assert colourisation_loss(keys - gradient, colour, bias, 4) < loss
