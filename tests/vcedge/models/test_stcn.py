"""SRNet begins with STCN's weights: what it adds changes nothing at first, and learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch

from tests.published import make_small
from vcedge.models.memory_readout import read_memory
from vcedge.models.srnet import SRNET_PROFILES, SRNet
from vcedge.models.stcn import STCN
from vcedge.training.srnet import SRNetObjective
from vcedge_export.plan import ExportOptions
from vcedge_export.planning import open_modules, plan_export
from vcedge_runtime.demo.clip import render_demo_clip
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.frames.colour import IMAGENET
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.tracker import Tracker


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> STCN:
    """A small STCN, and ``srnet-stcn`` in its size."""
    network = cast(STCN, make_small("stcn").network)
    size = {
        name: getattr(network.profile, name)
        for name in ("encoder", "value_width", "value_dim", "decoder_widths")
    }
    small = replace(SRNET_PROFILES["srnet-stcn"], **size)
    monkeypatch.setitem(SRNET_PROFILES, "srnet-stcn", small)
    return network


def test_the_first_masks_are_stcns_and_all_parts_learn(given: STCN) -> None:
    objective = SRNetObjective("srnet-stcn").eval()
    network = objective.network
    network.take_weights(given)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(1, 3, 3, 64, 96, generator=generator)
    masks = torch.zeros(1, 2, 64, 96)
    masks[0, 0, 8:40, 16:48], masks[0, 1, 24:56, 48:80] = 1, 1
    found = objective.unroll(images, masks)
    with torch.inference_mode():
        first = given.query(images[:, 0])
        held = {"image": images[:, 0], "f16": first.frame.f16}
        values = given.value(held, masks, masks.flip(1))[0].permute(2, 3, 0, 1).flatten(0, 1)
        for at in (1, 2):
            query = given.query(images[:, at])
            rows = [key[0].flatten(1).t() for key in (query.key, first.key)]
            read = read_memory(*rows, values.flatten(1)).reshape(4, 6, 2, -1).permute(2, 3, 0, 1)
            logits = given.decoder(read[None], query.content, query.frame.f8, query.frame.f4)
            assert (found[:, at - 1] - logits).abs().max() < 1e-4 * logits.abs().max()
    found.square().mean().backward()  # type: ignore[no-untyped-call]
    for name in ("mix.weight", "prototypes.gate", "value.shape.weight"):
        gradient = network.get_parameter(name).grad
        assert gradient is not None
        assert gradient.any(), name


def test_once_the_gate_is_open_prototypes_are_heard(given: STCN) -> None:
    network = SRNet(SRNET_PROFILES["srnet-stcn"])
    network.take_weights(given)
    x, prototypes, places = torch.randn(1, 16, 3, 4), torch.randn(1, 2, 16), torch.randn(3, 4, 16)
    assert torch.equal(network.prototypes(x, prototypes, places), x)
    gate = network.prototypes.gate
    assert gate is not None
    with torch.no_grad():
        gate.fill_(1)
    ungated = replace(SRNET_PROFILES["srnet-stcn"], gated=False)
    plain = SRNet(ungated).prototypes
    plain.load_state_dict(
        {name: each for name, each in network.prototypes.state_dict().items() if name != "gate"}
    )
    torch.testing.assert_close(
        network.prototypes(x, prototypes, places), plain(x, prototypes, places)
    )


def test_an_srnet_that_goes_on_keeps_what_it_learned(given: STCN) -> None:
    before = SRNet(SRNET_PROFILES["srnet-stcn"])
    before.take_weights(given)
    torch.nn.init.normal_(before.mix.weight)
    after = SRNet(SRNET_PROFILES["srnet-stcn"])
    after.take_weights(before)
    ours, theirs = after.state_dict(), before.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_profile_of_other_colours_is_refused_with_the_one_that_fits() -> None:
    class Whole(torch.nn.Module):
        profile = STCN.profile

    with pytest.raises(TrainingError, match="srnet's; pass --profile srnet-stcn"):
        SRNet(replace(SRNET_PROFILES["srnet"], value_dim=16)).take_weights(Whole())
    assert SRNET_PROFILES["srnet-stcn"].colour == IMAGENET


def test_a_window_may_follow_the_objects_whose_frames_then_get_no_border() -> None:
    weights = make_small("stcn")
    found = []
    for window in ("full", "follow"):
        options = ExportOptions(size=96, top_k=6, overrides={"window": window})
        model = plan_export(weights, options)
        bundle = Bundle(Path(), "small", model.profile, model.composition, {})
        clip = list(render_demo_clip(frames=12, frame_hw=(150, 270)))
        with Tracker(bundle, open_modules(model)) as tracker:
            tracker.start(*clip[0])
            held = tracker.memory_bytes
            for frame, _ in clip[1:]:
                result = tracker.step(frame)
            assert result.mask.shape == (150, 270)
            assert tracker.memory_bytes == held
            found.append(tracker.video.fit)
    full, follow = found
    assert (full.content_hw, full.work_hw) == ((96, 173), (96, 176))
    assert follow.content_hw == follow.work_hw
