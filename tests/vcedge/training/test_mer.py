"""MER's training, module by module."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.conftest import whole_frames
from vcedge.models.value_extraction import training_grid
from vcedge.training.clusters import cluster_bias
from vcedge.training.corpus import Clips
from vcedge.training.mer import MerObjective, MerSettings, _weight_map
from vcedge.training.objective import Objective
from vcedge.training.values import refine_clip, spread_positions, value_maps
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.sampling.clusters import ClusterSettings

MakeObjective = Callable[..., Objective]
NOTHING = {"motion": False, "value_extraction": False, "weight_map": False, "contrast": 0.0}


def make_clips(videos: Sequence[int] = (0, 1), side: int = 32, flow: bool = True) -> Clips:
    torch.manual_seed(5)
    lab = torch.rand(len(videos), 3, 3, side, side) * 2 - 1
    channels = 3 if flow else 0
    return Clips(
        lab,
        torch.rand(len(videos), 3, channels, side, side) * 2 - 1,
        torch.tensor(videos),
        whole_frames(len(videos), 3),
    )


def losses_of(objective: Objective, clips: Clips, share: float = 0.5) -> dict[str, Tensor]:
    torch.manual_seed(2)
    return objective.colour_losses(clips, 1, share, objective.network)


# The weight map (eq. 20).


def test_weights_are_omega_at_the_beginning_and_two_minus_omega_at_the_end() -> None:
    seen = torch.rand(2, 3, 4, 4)
    omega = 2 * seen
    for share, expected in ((0.0, omega), (1.0, 2 - omega)):
        torch.testing.assert_close(_weight_map(seen, share), expected / expected.mean())


@settings(max_examples=30)
@given(share=st.floats(0, 1), seed=st.integers(0, 99))
def test_weights_have_the_mean_1_and_are_never_negative(share: float, seed: int) -> None:
    seen = torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
    weight = _weight_map(seen, share)
    # FP32: a mean of 32 values.
    assert weight.mean().item() == pytest.approx(1, abs=1e-5)
    assert weight.min() >= 0


def test_weights_of_a_blank_map_are_finite_and_carry_no_gradient() -> None:
    seen = torch.zeros(1, 2, 4, 4, requires_grad=True)
    for share in (0.0, 0.5, 1.0):
        weight = _weight_map(seen, share)
        assert weight.isfinite().all()
        assert not weight.requires_grad


def test_the_weight_map_moves_from_the_seen_to_the_unseen(make_objective: MakeObjective) -> None:
    objective = make_objective("mer", contrast=0.0).eval()
    plain = make_objective("mer", contrast=0.0, weight_map=False).eval()
    clips = make_clips(side=64)
    with torch.no_grad():
        found = [losses_of(objective, clips, share)["colour"].item() for share in (0.0, 1.0)]
        unweighted = losses_of(plain, clips)["colour"].item()
    assert len({*found, unweighted}) == 3
    # Weights of mean 1 on errors that hardly know of them.
    assert found == pytest.approx([unweighted] * 2, rel=0.5)


# The modules' switches.


def test_without_its_modules_it_is_the_base_method(make_objective: MakeObjective) -> None:
    clips = make_clips(flow=False)
    bare = make_objective("mer", **NOTHING).eval()
    base = make_objective("base").eval()
    base.network.take_weights(bare.network)
    with torch.no_grad():
        found, expected = losses_of(bare, clips), losses_of(base, clips)
    assert found.keys() == expected.keys() == {"colour"}
    assert torch.equal(found["colour"], expected["colour"])


def test_a_new_value_extraction_leaves_the_loss_as_it_is(make_objective: MakeObjective) -> None:
    clips = make_clips(flow=False)
    gated = make_objective("mer", **{**NOTHING, "value_extraction": True}).eval()
    bare = make_objective("mer", **NOTHING).eval()
    bare.network.take_weights(gated.network)
    with torch.no_grad():
        assert torch.equal(losses_of(gated, clips)["colour"], losses_of(bare, clips)["colour"])
        assert gated.network.values is not None
        gated.network.values.to_out.reset_parameters()
        assert not torch.equal(losses_of(gated, clips)["colour"], losses_of(bare, clips)["colour"])


def test_flow_reaches_the_keys_through_alpha(make_objective: MakeObjective) -> None:
    objective = make_objective("mer", contrast=0.0).eval()
    clips = make_clips()
    still = clips._replace(flow=torch.zeros_like(clips.flow))
    alpha = objective.network.encoder.alpha
    assert alpha is not None
    with torch.no_grad():
        assert losses_of(objective, clips)["colour"] != losses_of(objective, still)["colour"]
        alpha.zero_()
        assert losses_of(objective, clips)["colour"] == losses_of(objective, still)["colour"]


@pytest.mark.parametrize("motion", [True, False])
def test_clips_have_flow_where_motion_is_used(make_objective: MakeObjective, motion: bool) -> None:
    objective = make_objective("mer", motion=motion)
    assert objective.clip_settings.flow is motion
    assert (objective.network.encoder.alpha is not None) is motion


@pytest.mark.parametrize(
    "own",
    [
        {"value_extraction": False},
        {"radius": 0},
        {"cells": 0},
        {"negatives": 0},
        {"bank": 0},
        {"contrast": -0.1},
        {"temperature": 0.0},
    ],
)
def test_settings_that_cannot_work_are_refused(own: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match=r"weight map is made by|MER settings out of range"):
        MerSettings(**own)


# The positive-negative loss (eqs. 16, 17).


def test_the_contrast_begins_when_the_bank_knows_another_video(
    make_objective: MakeObjective,
) -> None:
    objective = make_objective("mer")
    assert isinstance(objective, MerObjective)
    assert losses_of(objective, make_clips((4, 4)))["contrast"].item() == 0
    assert objective.bank.videos.tolist() == [4, 4, -1, -1, -1]
    assert losses_of(objective, make_clips((4, 4)))["contrast"].item() == 0
    assert losses_of(objective, make_clips((5, 4)))["contrast"].item() > 0
    assert losses_of(objective, make_clips((6, 6)))["contrast"].item() > 0
    # Eight were pushed into five places.
    assert objective.bank.videos.tolist() == [4, 6, 6, 4, 5]


def test_the_bank_holds_what_the_moving_average_gives(make_objective: MakeObjective) -> None:
    objective, teacher = make_objective("mer"), make_objective("mer").network
    assert isinstance(objective, MerObjective)
    with torch.no_grad():
        teacher.encoder.head.weight.zero_()
        teacher.encoder.head.bias.fill_(0.5)
    torch.manual_seed(0)
    objective.colour_losses(make_clips(), 2, 0.0, teacher)
    assert (objective.bank.maps[:2] == 0.5).all()
    assert not objective.bank.maps[2:].any()


def test_all_weights_learn_and_the_moving_average_does_not(make_objective: MakeObjective) -> None:
    objective, teacher = make_objective("mer"), make_objective("mer").network
    assert objective.network.values is not None
    with torch.no_grad():
        objective.network.values.to_out.reset_parameters()
    for share, videos in ((0.2, (1, 2)), (0.8, (3, 4))):
        torch.manual_seed(0)
        sum(objective.colour_losses(make_clips(videos), 1, share, teacher).values()).backward()
    for name, weight in objective.network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        # A softmax does not see what all keys share.
        assert weight.grad.any() or name == "values.to_key.bias", name
    assert all(weight.grad is None for weight in teacher.parameters())
    assert not teacher.training


# Whose value map (eq. 11), and what the weights' file says of it.


def open_gate(objective: Objective) -> Objective:
    torch.manual_seed(3)
    values = objective.network.values
    assert values is not None
    values.to_out.reset_parameters()
    torch.nn.init.normal_(values.position)
    return objective.eval()


def test_references_are_refined_by_the_targets_value_map(make_objective: MakeObjective) -> None:
    clips, raw = make_clips(), torch.randn(2, 3, 64, 4, 4)
    both = {}
    for frames in ("target", "own"):
        objective = open_gate(make_objective("mer", value_frames=frames))
        assert isinstance(objective, MerObjective)
        with torch.no_grad():
            both[frames], _ = objective._extract(raw, clips.place)
    for target in range(3):
        # A frame as the target is the same by both.
        torch.testing.assert_close(both["target"][target][:, target], both["own"][0][:, target])
        others = [index for index in range(3) if index != target]
        assert not torch.allclose(both["target"][target][:, others], both["own"][0][:, others])
    assert all(view is both["own"][0] for view in both["own"])


@pytest.mark.parametrize("frames", ["target", "own"])
def test_keys_are_refined_by_where_in_the_frame_their_crops_lie(
    make_objective: MakeObjective, frames: str
) -> None:
    objective = open_gate(make_objective("mer", value_frames=frames))
    assert isinstance(objective, MerObjective)
    values, grid = objective.network.values, training_grid((8, 8))
    assert values is not None
    raw, whole = torch.randn(2, 3, 64, 8, 8), whole_frames(2, 3)
    place = whole + 0.2 * torch.randn(2, 3, 2, 3)
    with torch.no_grad():
        views, seen = objective._extract(raw, place)
        unmoved, _ = objective._extract(raw, whole)
        with torch.autocast("cpu", torch.bfloat16):
            maps = value_maps(values, raw, place, grid)
            where = spread_positions(values, place, 8)
            tokens = [values.map_tokens(raw[:, t], maps[:, t], where[:, t], grid) for t in range(3)]
            # By target, all frames.
            refined = [refine_clip(values, raw, each, where, grid).float() for each in tokens]
    torch.testing.assert_close(seen, grid.spread(maps))
    for target in range(3):
        for frame in range(3):
            by = target if frames == "target" else frame
            # BF16: batches of another size.
            torch.testing.assert_close(
                views[target][:, frame], refined[by][:, frame], atol=1e-2, rtol=0
            )
        assert (views[target] - unmoved[target]).abs().max() > 0.1


def test_the_weights_say_how_they_are_to_be_run(make_objective: MakeObjective) -> None:
    told = make_objective("mer", flow_scale="largest", value_frames="own").composition
    assert (told["flow_scale"], told["value_frames"]) == ("largest", "own")
    bare = make_objective("mer", **NOTHING).composition
    assert set(bare) == {"memory"}
    assert make_objective("mer").composition["flow_scale"] == "cell"


@pytest.mark.parametrize(
    "own",
    [
        {"value_frames": "other"},
        {"clusters": -1},
        {"clusters": 3, "radius": 2},
        {"compact": -0.5},
        {"compact": math.nan},
    ],
)
def test_settings_that_are_none_are_refused(own: dict[str, Any]) -> None:
    expected = r"received (value_frames|MER settings out of range|clusters and a radius of 2)"
    with pytest.raises(TrainingError, match=expected):
        MerSettings(**own)


def test_the_sampler_weighs_in_training_as_at_run_time(make_objective: MakeObjective) -> None:
    plain, sampled = (make_objective("mer", clusters=k, contrast=0.0).eval() for k in (0, 3))
    clips = make_clips(side=64)
    with torch.no_grad():
        found = [losses_of(each, clips)["colour"].item() for each in (plain, sampled)]
    assert found[0] != found[1]


def test_each_target_looks_where_the_clusters_of_its_own_reading_say(
    make_objective: MakeObjective,
) -> None:
    objective = make_objective("mer", clusters=3, radius=4, reach=6)
    assert isinstance(objective, MerObjective)
    torch.manual_seed(0)
    views = [torch.randn(2, 3, 64, 8, 8) for _ in range(3)]
    sampler = ClusterSettings(clusters=3, radius_max=4, reach=6)
    biases = objective._biases_of(views)
    for target, (view, bias) in enumerate(zip(views, biases, strict=True)):
        assert torch.equal(bias, cluster_bias(view, target, sampler))
        for other in {0, 1, 2} - {target}:
            assert not torch.equal(bias, cluster_bias(view, other, sampler))
            assert not torch.equal(bias, cluster_bias(views[other], target, sampler))
