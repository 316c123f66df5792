"""The network of first masks, and its graph."""

from __future__ import annotations

import pytest
import torch

from vcedge.models.efficientnet_lite import EfficientNetLite
from vcedge.models.prompt_graph import PromptGraph
from vcedge.models.prompts import PROMPT_PROFILES, CellAttention, PromptNetwork
from vcedge.models.srnet import SRNET_PROFILES, SRNet
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.model.prompt_composition import PLANES

PROFILE = PROMPT_PROFILES["prompts-lite"]


@pytest.fixture(scope="module")
def network() -> PromptNetwork:
    torch.manual_seed(0)
    return PromptNetwork(PROFILE).eval()


def test_a_mask_is_as_large_as_its_view_whatever_its_shape(network: PromptNetwork) -> None:
    for height, width in ((32, 32), (48, 96)):
        image, prompts = torch.randn(2, 3, height, width), torch.zeros(2, 4, height, width)
        with torch.inference_mode():
            assert network(image, prompts).shape == (2, height, width)


@pytest.mark.parametrize("plane", range(len(PLANES)))
def test_every_plane_is_heard(network: PromptNetwork, plane: int) -> None:
    image, prompts = torch.randn(1, 3, 64, 64), torch.zeros(1, 4, 64, 64)
    with torch.inference_mode():
        before = network(image, prompts)
        prompts[:, plane, 20:40, 20:40] = 1
        assert not torch.allclose(network(image, prompts), before)


def test_it_has_few_weights(network: PromptNetwork) -> None:
    assert sum(parameter.numel() for parameter in network.parameters()) < 1.5e6


def test_attention_begins_so_that_it_changes_nothing_and_then_every_cell_hears_every_other() -> (
    None
):
    attention, cells = CellAttention(32, 4), torch.randn(1, 9, 32)
    assert torch.equal(attention(cells), cells)
    torch.nn.init.normal_(attention.out.weight)
    changed = cells.clone()
    changed[0, 0, 0] += 1
    heard = (attention(changed) - attention(cells)).abs().sum(2)
    assert (heard > 0).all()


def test_it_begins_with_the_weights_of_its_trunk_or_of_its_own_kind(
    network: PromptNetwork,
) -> None:
    torch.manual_seed(1)
    trunk, begun = EfficientNetLite("efficientnet-lite0"), PromptNetwork(PROFILE)
    begun.take_weights(trunk)
    assert torch.equal(begun.trunk.stem.conv.weight, trunk.stem.conv.weight)
    begun.take_weights(network)
    own, theirs = begun.state_dict(), network.state_dict()
    assert all(torch.equal(own[name], theirs[name]) for name in own)


@pytest.mark.parametrize("kind", ["srnet", "lite2"])
def test_other_weights_are_refused(kind: str) -> None:
    other = (
        SRNet(SRNET_PROFILES["srnet-edge"])
        if kind == "srnet"
        else EfficientNetLite("efficientnet-lite2")
    )
    with pytest.raises(TrainingError, match="begin with `--from imagenet`"):
        PromptNetwork(PROFILE).take_weights(other)


def test_the_graph_is_the_network_with_numbers_that_fp16_has(network: PromptNetwork) -> None:
    graph = PromptGraph(network).eval()
    values = torch.cat([parameter.flatten() for parameter in graph.parameters()])
    assert torch.equal(values, values.half().float())
    image, prompts = torch.randn(1, 3, 64, 96), torch.rand(1, 4, 64, 96)
    with torch.inference_mode():
        expected = network(image, prompts)
        found = graph(image, prompts)
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()
    assert [tensor.name for tensor in graph.spec.inputs] == ["image", "prompts"]
    # Training goes on with what it had.
    assert network.hints.weight.dtype == torch.float32
