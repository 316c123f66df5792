"""DMP's training: its three predictions and how they are fused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.conftest import whole_frames
from vcedge.models.affinity import read_values, window_bias
from vcedge.training.corpus import Clips
from vcedge.training.dmp import DmpSettings, backward_logits, fusion_weights
from vcedge.training.gates import memory_bias
from vcedge.training.losses import COLOUR_SCALE, cell_colours, clip_keys
from vcedge.training.objective import Objective
from vcedge.training.regions import cluster_batch, enhance_batch, match_bias, mix_batch
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


@pytest.mark.parametrize("enhanced", ["memory", "query"])
@pytest.mark.parametrize("backward", ["column", "plain"])
def test_the_losses_are_those_of_the_three_predictions_written_densely(
    make_objective: MakeObjective, enhanced: str, backward: str
) -> None:
    own = {"enhanced": enhanced, "backward": backward}
    dmp = make_objective("dmp", plain=0.0, branch_weight=1.0, **own).eval()
    # So many regions that not all of them match.
    clips, settings = make_clips(3, side=96), dmp.settings
    with torch.no_grad():
        found = dmp.colour_losses(clips, 1, 0.5, dmp.network)
        keys = clip_keys(dmp.network.encoder, clips, 1)
        values = cell_colours(clips.lab[:, :, 1], dmp.network.profile.stride)
        expected = [
            _expect(keys, values, target, settings, dmp.bias(keys.shape[-1], keys.device))
            for target in (0, 2)
        ]
    names = ("fused", "forward", "backward")
    for name, losses in zip(names, zip(*expected, strict=True), strict=True):
        # FP32 sums in another order: 2e-7 was seen.
        assert found[name].item() == pytest.approx(sum(losses) / 2, rel=1e-6), name


def _expect(
    keys: Tensor, values: Tensor, target: int, settings: DmpSettings, bias: Tensor
) -> tuple[float, float, float]:
    """The losses of the fused, the forward and the backward prediction of one frame."""
    refs = [t for t in range(keys.shape[1]) if t != target]
    true = values[:, target].flatten(1).double()
    query, memory = keys[:, target], keys[:, refs].flatten(0, 1)
    regions, memory_regions = cluster_batch(query), cluster_batch(memory)
    matched = match_bias(regions, memory_regions, settings.radius)
    held = memory_bias(keys, values, target, bias, settings.beta, settings.gamma)
    masks = bias.repeat(1, len(refs)) + held

    def weigh(query: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        rows = query.flatten(2).transpose(1, 2).double()
        columns = memory.reshape(len(rows), len(refs), *query.shape[1:]).transpose(1, 2).flatten(2)
        return (rows @ columns.double() / math.sqrt(query.shape[1]) + mask).exp()

    carried = values[:, refs].flatten(1)
    mixed = mix_batch(values[:, refs].flatten(0, 1), memory_regions, settings.eta_values)
    given = mixed.reshape(carried.shape) if settings.enhanced == "memory" else carried
    normal = weigh(query, memory, masks)
    drawn = [
        enhance_batch(each, own, settings.eta)
        for each, own in ((query, regions), (memory, memory_regions))
    ]
    back = weigh(query, memory, masks + matched)
    if settings.backward == "column":
        back = back / back.sum(1, keepdim=True).clamp(min=1e-300)
    pairs = [(normal, carried), (weigh(*drawn, masks + matched), given), (back, carried)]
    predictions = []
    for weights, labels in pairs:
        alike = weights / weights.sum(-1, keepdim=True)
        predictions.append((alike @ labels.double()[..., None])[..., 0])
    if settings.enhanced == "query":
        forward = predictions[1].clone()
        for clip, ids in enumerate(regions.ids):
            for region in ids.unique():
                part = ids == region
                mean = predictions[1][clip, part].mean()
                forward[clip, part] += settings.eta_values * (mean - forward[clip, part])
        predictions[1] = forward
    errors = [torch.nn.functional.smooth_l1_loss(each, true).item() for each in predictions]
    lab = [
        torch.nn.functional.smooth_l1_loss(each / COLOUR_SCALE, true / COLOUR_SCALE)
        for each in predictions
    ]
    shares = fusion_weights(torch.stack(lab))
    fused = sum(share * each for share, each in zip(shares, predictions, strict=True))
    return torch.nn.functional.smooth_l1_loss(fused, true).item(), errors[1], errors[2]


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
