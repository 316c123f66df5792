"""What is trained and delivered: the encoder, and value extraction beside it."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from vcedge.models.encoder import PROFILES
from vcedge.models.network import KeyNetwork

PARTS = list(product(sorted(PROFILES), [False, True], [False, True]))


@pytest.mark.parametrize(("profile", "motion", "value_extraction"), PARTS)
def test_a_network_is_made_again_from_its_parts(
    profile: str, motion: bool, value_extraction: bool
) -> None:
    network = KeyNetwork(PROFILES[profile], motion=motion, value_extraction=value_extraction)
    assert network.profile.name == profile
    assert (network.encoder.alpha is not None) is motion
    assert (network.values is not None) is value_extraction
    again = KeyNetwork.from_parts(**network.parts)
    assert again.parts == network.parts
    again.load_state_dict(network.state_dict())


def test_mer_begins_with_the_weights_of_base_and_modules_that_change_nothing() -> None:
    torch.manual_seed(0)
    base = KeyNetwork(PROFILES["edge"]).eval()
    mer = KeyNetwork(PROFILES["edge"], motion=True, value_extraction=True).eval()
    fresh = {name: value.clone() for name, value in mer.state_dict().items()}
    mer.take_weights(base)
    for name, value in mer.state_dict().items():
        if name != "encoder.alpha":
            assert torch.equal(value, base.state_dict().get(name, fresh[name])), name
    lab, flow = torch.randn(2, 1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(mer.encoder(lab, flow), base.encoder(lab))
    lab.requires_grad_()
    mer.encoder(lab, flow).sum().backward()
    assert mer.encoder.alpha is not None
    assert mer.encoder.alpha.grad is not None
    assert mer.encoder.alpha.grad.item() != 0
    assert mer.values is not None
    assert not any(parameter.any() for parameter in mer.values.to_out.parameters())


def test_a_given_alpha_holds_from_random_weights_and_beside_others() -> None:
    base = KeyNetwork(PROFILES["edge"])
    for given, alone, beside in ((None, 0.1, 0.0), (0.5, 0.5, 0.5)):
        network = KeyNetwork(PROFILES["edge"], motion=True, alpha=given)
        alpha = network.encoder.alpha
        assert alpha is not None
        assert alpha.item() == pytest.approx(alone)
        network.take_weights(base)
        assert alpha.item() == pytest.approx(beside)


def test_a_profile_begins_with_what_it_shares_with_another() -> None:
    torch.manual_seed(0)
    edge, paper = KeyNetwork(PROFILES["edge"]), KeyNetwork(PROFILES["paper"])
    own = {name: value.clone() for name, value in paper.state_dict().items()}
    paper.take_weights(edge)
    known = edge.state_dict()
    shared = [
        name for name, value in own.items() if name in known and known[name].shape == value.shape
    ]
    assert {"encoder.stem.0.weight", "encoder.stages.0.conv1.weight"} <= set(shared)
    quiet = {"encoder.stages.6.bn2.weight", "encoder.stages.7.bn2.weight"}
    for name, value in paper.state_dict().items():
        expected = torch.zeros_like(value) if name in quiet else own[name]
        assert torch.equal(value, known[name] if name in shared else expected), name
    paper.eval()
    cells = torch.rand(1, 256, 4, 4)
    assert torch.equal(paper.encoder.stages[6:](cells), cells)


def test_taken_weights_are_copies() -> None:
    first, second = KeyNetwork(PROFILES["edge"]), KeyNetwork(PROFILES["edge"])
    second.take_weights(first)
    with torch.no_grad():
        second.encoder.head.weight.zero_()
    assert first.encoder.head.weight.any()
