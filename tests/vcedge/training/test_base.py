"""The base method: colourisation alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.conftest import whole_frames
from vcedge.models.affinity import window_bias
from vcedge.models.efficientnet_lite import EfficientNetLite
from vcedge.models.encoder import PROFILES
from vcedge.training.base import BaseObjective, BaseSettings
from vcedge.training.corpus import Clips
from vcedge.training.losses import clip_keys, colourisation_loss
from vcedge.training.objective import TRUNK_RATE, Objective
from vcedge.training.run import TrainingRun
from vcedge.training.settings import default_sizes
from vcedge_runtime.errors import TrainingError

CLIPS = Clips(
    torch.rand(2, 3, 3, 32, 32),
    torch.zeros(2, 3, 0, 32, 32),
    torch.tensor([0, 1]),
    whole_frames(2, 3),
)


@pytest.mark.parametrize("channel", [1, 2])
def test_the_loss_is_the_colourisation_loss_of_the_hidden_channel(
    make_objective: Callable[..., Objective], channel: int
) -> None:
    objective = make_objective("base").eval()
    network = objective.network
    with torch.no_grad():
        (found,) = objective.colour_losses(CLIPS, channel, 0.5, network).values()
        keys = clip_keys(network.encoder, CLIPS, channel)
        bias = window_bias(4, 4, 3)
        expected = colourisation_loss([keys] * 3, CLIPS.lab[:, :, channel], [bias] * 3, 8)
    assert found.item() == pytest.approx(expected.item())


def test_both_colours_are_hidden_in_turn_and_lightness_never(
    make_objective: Callable[..., Objective], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = make_objective("base")
    hidden: list[int] = []

    def losses(clips: Clips, channel: int, share: float, teacher: object) -> dict[str, object]:
        hidden.append(channel)
        return {"one": torch.tensor(0.5), "other": torch.tensor(0.25)}

    monkeypatch.setattr(objective, "colour_losses", losses)
    torch.manual_seed(0)
    totals = {objective(CLIPS, 0.0, objective.network).item() for _ in range(40)}
    assert set(hidden) == {1, 2}
    assert totals == {0.75}
    assert objective.parts == {"one": torch.tensor(0.5), "other": torch.tensor(0.25)}


def test_a_window_mask_is_made_once_for_a_grid(make_objective: Callable[..., Objective]) -> None:
    objective = make_objective("base")
    device = torch.device("cpu")
    assert objective.bias(4, device) is objective.bias(4, device)
    assert torch.equal(objective.bias(5, device), window_bias(5, 5, 3))


@pytest.mark.parametrize("method", ["base", "mer"])
def test_the_prior_is_a_part_of_the_loss_where_it_has_a_weight(
    make_objective: Callable[..., Objective], method: str
) -> None:
    own = {"motion": False} if method == "mer" else {}
    found = {}
    for compact in (0.0, 0.5, 1.0):
        objective = make_objective(method, compact=compact, **own).eval()
        with torch.no_grad():
            # Keys that are sure of one cell.
            objective.network.encoder.head.weight *= 40
            torch.manual_seed(0)
            found[compact] = objective.colour_losses(CLIPS, 1, 0.5, objective.network)
    assert "compact" not in found[0.0]
    assert found[1.0]["compact"] > 0
    assert found[0.5]["compact"].item() == pytest.approx(found[1.0]["compact"].item() / 2)
    assert torch.equal(found[1.0]["colour"], found[0.0]["colour"])


def test_a_window_without_cells_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"a radius of at least 1 .* received 0, 0.0"):
        BaseSettings(radius=0)


@pytest.mark.parametrize(("profile", "zoom"), [("edge", (1.0, 2.2)), ("paper", (0.5, 1.1))])
def test_clips_are_zoomed_for_the_stride_of_the_profile(
    profile: str, zoom: tuple[float, float]
) -> None:
    assert BaseObjective(profile).clip_settings.zoom == zoom
    # A crop has as many key cells in either profile.
    cells = [size / PROFILES[profile].stride for _, size in default_sizes(profile)]
    assert cells == [16, 24]


@pytest.mark.parametrize("method", ["base", "mer", "dmp"])
def test_a_pretrained_trunk_learns_more_slowly_and_its_statistics_stay(
    make_objective: Callable[..., Objective], method: str
) -> None:
    objective = make_objective(method, "lite").train()
    (rest, whole), (trunk, slower) = objective.groups
    assert (whole, slower) == (1.0, TRUNK_RATE)
    assert {id(p) for p in trunk} == {id(p) for p in objective.network.encoder.trunk.parameters()}
    both = {id(parameter) for parameter in [*rest, *trunk]}
    assert both == {id(parameter) for parameter in objective.parameters()}
    norms = [m for m in objective.network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    (_, rate), *others = make_objective(method).groups
    assert (rate, others) == (1.0, [])


def test_a_run_from_a_published_trunk_begins_with_a_projection_of_its_own_clips(
    make_run: Callable[..., TrainingRun], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    published = EfficientNetLite("efficientnet-lite0")
    sizes = ((1.0, 32),)
    # Shorter than what the projection is made of at most.
    run = make_run(tmp_path, profile="lite", sizes=sizes, steps=6)
    before = run.objective.network.encoder.head.weight.clone()
    run.start_from(published)
    encoder, delivered = run.objective.network.encoder, run.delivered.encoder
    assert torch.equal(encoder.trunk.stem.conv.weight, published.stem.conv.weight)
    assert not torch.equal(encoder.head.weight, before)
    assert torch.equal(encoder.head.weight, delivered.head.weight)
    # Weights that were trained keep their own.
    again = make_run(tmp_path / "again", profile="lite", sizes=sizes, steps=6)
    again.start_from(run.objective.network)
    assert torch.equal(again.objective.network.encoder.head.weight, encoder.head.weight)
    run.train(lambda progress: None, stop_at=2)
    assert not torch.equal(run.objective.network.encoder.head.weight, delivered.head.weight)
    taken = make_run(tmp_path, profile="lite", sizes=sizes, steps=6)
    taken.resume()
    assert taken.step == 2
