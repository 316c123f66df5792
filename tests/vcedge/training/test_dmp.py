"""DMP's training: its three predictions and how they are fused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import whole_frames
from vcedge.models.affinity import read_values, window_bias
from vcedge.training.corpus import Clips
from vcedge.training.dmp import DmpSettings, backward_logits, fusion_weights
from vcedge.training.objective import Objective
from vcedge_runtime.errors import TrainingError

MakeObjective = Callable[..., Objective]


def make_clips(frames: int = 4, side: int = 48) -> Clips:
    torch.manual_seed(5)
    lab = torch.rand(2, frames, 3, side, side) * 2 - 1
    return Clips(
        lab, torch.zeros(2, frames, 0, side, side), torch.tensor([0, 1]), whole_frames(2, frames)
    )


# The fusion.


@pytest.mark.parametrize("losses", [(0.0, 0.0, 0.0), (0.0, 1.0, 1.0), (1e-12, 1.0, 1.0)])
def test_losses_near_zero_give_finite_weights(losses: tuple[float, ...]) -> None:
    weights = fusion_weights(torch.tensor(losses))
    assert weights.isfinite().all()
    assert weights.min() >= 0.04
    assert weights.max() <= 0.9 + 1e-6
    assert weights.sum().item() == pytest.approx(1)


@given(st.lists(st.floats(0, 1e4), min_size=3, max_size=3))
def test_weights_are_bounded_and_fall_with_the_loss(losses: list[float]) -> None:
    weights = fusion_weights(torch.tensor(losses)).tolist()
    assert math.fsum(weights) == pytest.approx(1, abs=1e-6)
    assert 0.04 <= min(weights) <= max(weights) <= 0.9 + 1e-6
    for (a, weight_a), (b, weight_b) in zip(
        zip(losses, weights, strict=True), zip(losses[1:], weights[1:], strict=True), strict=False
    ):
        assert (weight_a - weight_b) * (a - b) <= 1e-6 * abs(a - b)


def test_weights_carry_no_gradient() -> None:
    assert not fusion_weights(torch.rand(3, requires_grad=True)).requires_grad


# The backward prediction.


@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
def test_a_backward_row_is_the_column_softmax_made_to_sum_to_1(scale: float) -> None:
    torch.manual_seed(0)
    logits = scale * torch.randn(2, 9, 18, dtype=torch.float64)
    columns = torch.softmax(logits, 1)
    expected = columns / columns.sum(-1, keepdim=True)
    found = torch.softmax(backward_logits(logits), -1)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-6)


def test_what_is_masked_stays_out_of_a_backward_row() -> None:
    torch.manual_seed(0)
    bias = window_bias(3, 3, 1)
    logits = torch.randn(1, 9, 18) + bias.repeat(1, 2)
    # A reference that is not held: no query may look at its cells.
    logits[..., 9:] -= 1e4
    affinity = torch.softmax(backward_logits(logits), -1)[0]
    assert not affinity[:, 9:].any()
    assert not affinity[:, :9][bias < 0].any()
    torch.testing.assert_close(affinity.sum(-1), torch.ones(9))


# The objective.


def test_a_run_begins_with_colourisation_alone(make_objective: MakeObjective) -> None:
    dmp, base = make_objective("dmp", plain=0.4).eval(), make_objective("base").eval()
    base.network.take_weights(dmp.network)
    with torch.no_grad():
        for share in (0.0, 0.39):
            found = dmp.colour_losses(make_clips(), 1, share, dmp.network)
            expected = base.colour_losses(make_clips(), 1, share, base.network)
            assert found.keys() == {"colour"}
            assert torch.equal(found["colour"], expected["colour"])
        assert dmp.colour_losses(make_clips(), 1, 0.4, dmp.network).keys() == {
            "fused",
            "forward",
            "backward",
        }


def test_one_colour_everywhere_costs_nothing_in_any_branch(make_objective: MakeObjective) -> None:
    objective = make_objective("dmp", plain=0.0).eval()
    clips = make_clips()
    clips.lab[:, :, 2] = 0.3
    with torch.no_grad():
        losses = objective.colour_losses(clips, 2, 0.5, objective.network)
    # Weights of a softmax sum to 1 within FP32, and smooth L1 squares what is left.
    assert all(loss.item() < 1e-8 for loss in losses.values())


def test_the_branches_are_weighted(make_objective: MakeObjective) -> None:
    one, half = (
        make_objective("dmp", plain=0.0, branch_weight=weight).eval() for weight in (1.0, 0.5)
    )
    with torch.no_grad():
        whole, weighted = (o.colour_losses(make_clips(), 1, 0.0, o.network) for o in (one, half))
    assert weighted["fused"] == whole["fused"]
    for name in ("forward", "backward"):
        assert weighted[name].item() == pytest.approx(whole[name].item() / 2)


@pytest.mark.parametrize("frames", [3, 4, 5])
def test_all_weights_learn_from_all_branches(make_objective: MakeObjective, frames: int) -> None:
    objective = make_objective("dmp", plain=0.0, frames=frames)
    assert objective.clip_settings.frames == frames
    losses = objective.colour_losses(make_clips(frames), 1, 0.0, objective.network)
    for name in ("fused", "forward", "backward"):
        objective.zero_grad()
        losses[name].backward(retain_graph=True)
        for parameter, weight in objective.network.named_parameters():
            assert weight.grad is not None, (name, parameter)
            assert weight.grad.isfinite().all(), (name, parameter)
            assert weight.grad.any(), (name, parameter)


@pytest.mark.parametrize(
    "own",
    [
        {"frames": 2},
        {"radius": 0},
        {"plain": 1.1},
        {"beta": -0.1},
        {"gamma": 2.0},
        {"eta": -1.0},
        {"eta_values": 1.5},
        {"branch_weight": -0.5},
        {"beta": math.nan},
    ],
)
def test_settings_that_cannot_work_are_refused(own: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="DMP settings out of range"):
        DmpSettings(**own)


def test_a_fused_prediction_lies_within_its_branches() -> None:
    torch.manual_seed(0)
    logits, values = torch.randn(1, 9, 9), torch.randn(1, 1, 1, 3, 3)
    branches = torch.stack(
        [read_values(logits, values), read_values(backward_logits(logits), values)]
    )
    weights = fusion_weights(torch.tensor([0.2, 0.1]))
    fused = (weights[:, None, None, None, None] * branches).sum(0)
    assert (fused <= branches.amax(0) + 1e-6).all()
    assert (fused >= branches.amin(0) - 1e-6).all()
