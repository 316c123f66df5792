"""The loss of first masks, and the clicks that correct them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.vcedge.training.test_prompt_corpus import RUN, make_still
from vcedge.training.prompt_corpus import PromptCorpus, PromptSample, PromptSettings
from vcedge.training.prompts import PRIOR, PromptObjective
from vcedge.training.run import TrainingRun
from vcedge_runtime.model.prompt_composition import PLANES
from vcedge_runtime.video.masks import VOID

SMALL = replace(RUN, steps=4, batch=2, sizes=((1.0, 64),), workers=0)
PLAIN = PromptSettings(corrections=(1.0,))
ALWAYS = PromptSettings(corrections=(0.0, 1.0))


def make_objective(settings: PromptSettings) -> PromptObjective:
    torch.manual_seed(0)
    return PromptObjective("prompts-lite", settings)


def make_batch(said: bool = True) -> PromptSample:
    truth = torch.zeros(2, 64, 64, dtype=torch.uint8)
    truth[:, 20:44, 20:44] = 1
    planes = torch.zeros(2, len(PLANES), 64, 64)
    if said:
        planes[:, 0, 18:46, 18:46] = 1
    return PromptSample(torch.randn(2, 1, 3, 64, 64), truth, planes)


def test_what_is_void_costs_nothing() -> None:
    objective = make_objective(PLAIN)
    batch = make_batch()
    unknown = batch.truth.clone()
    unknown[:, :10] = VOID
    some = objective.losses(batch._replace(truth=unknown), 0.0, objective.network)
    assert all(float(each.detach()) > 0 for each in some.values())
    everything = torch.full_like(unknown, VOID)
    nothing = objective.losses(batch._replace(truth=everything), 0.0, objective.network)
    assert all(float(each.detach()) == 0 for each in nothing.values())


def test_a_correction_is_a_click_in_an_error_and_the_former_mask_is_shown_at_times() -> None:
    objective, batch = make_objective(ALWAYS), make_batch()
    images = batch.images[:, 0]
    torch.manual_seed(1)
    found = [objective._correct(images, batch.planes, batch.truth) for _ in range(6)]
    for planes in found:
        clicks = planes[:, 1:PRIOR].sum((1, 2, 3))
        assert (clicks > 0).all()
    shown = [bool(planes[at, PRIOR].any()) for planes in found for at in range(2)]
    assert any(shown)
    assert not all(shown)
    assert not batch.planes[:, 1:].any()


def test_where_nothing_is_said_nothing_is_corrected() -> None:
    objective, batch = make_objective(ALWAYS), make_batch(said=False)
    planes = objective._correct(batch.images[:, 0], batch.planes, batch.truth)
    assert not planes.any()


def test_the_trunk_learns_more_slowly_and_its_statistics_stay() -> None:
    objective = make_objective(PLAIN).train()
    (rest, whole), (trunk, slower) = objective.groups
    assert (whole, slower) == (1.0, PromptSettings.trunk_rate)
    both = {id(parameter) for parameter in [*rest, *trunk]}
    assert both == {id(parameter) for parameter in objective.parameters()}
    norms = [m for m in objective.network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)


def test_a_run_learns_to_fill_a_box_and_resumes_with_the_same_curve(tmp_path: Path) -> None:
    stills = [make_still(f"made-{number}.jpg") for number in range(4)]

    def make_run(out: str) -> TrainingRun:
        return TrainingRun(
            SMALL,
            make_objective(PromptSettings()),
            PromptCorpus(PromptSettings(), stills),
            tmp_path / out,
            "cpu",
        )

    losses: dict[str, list[float]] = {"whole": [], "parts": []}
    make_run("whole").train(lambda state: losses["whole"].append(state.loss), report_every=1)
    make_run("parts").train(lambda state: losses["parts"].append(state.loss), 1, stop_at=2)
    second = make_run("parts")
    second.resume()
    second.train(lambda state: losses["parts"].append(state.loss), report_every=1)
    assert losses["parts"] == pytest.approx(losses["whole"], rel=1e-5)
    assert len(losses["whole"]) == SMALL.steps
