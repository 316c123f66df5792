"""SRNet's graphs in PyTorch: each is its piece of the network, in the layout of memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import make_srnet
from vcedge.models.aggregation import aggregate_softly
from vcedge.models.graph import GraphModule
from vcedge.models.prototypes import cover_cells, prototypes_from_sums, sum_features
from vcedge.models.srnet import SRNET_PROFILES, SRNet
from vcedge.models.srnet_graphs import srnet_graphs
from vcedge_runtime.model.object_composition import ObjectComposition

GRID, OBJECTS, SLOTS, TOP_K = (3, 4), 2, 5, 6
HEIGHT, WIDTH = 16 * GRID[0], 16 * GRID[1]
LENGTHS = {"h": 3, "w": 4, "h8": 6, "w8": 8, "h4": 12, "w4": 16, "H": HEIGHT, "W": WIDTH}
# Batches of other sizes and layouts may add in another order: float32, up to 30 layers.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module", params=["srnet-edge", "srnet-lite"])
def network(request: pytest.FixtureRequest) -> SRNet:
    return make_srnet(request.param)


@pytest.fixture(scope="module")
def graphs(network: SRNet) -> Mapping[str, GraphModule]:
    return srnet_graphs(network, TOP_K)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def run(graph: GraphModule, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Run a graph, and check that all tensors are of the dtypes and shapes of its spec."""
    with torch.inference_mode():
        found = graph(*inputs)
    outputs = found if isinstance(found, tuple) else (found,)
    tensors = zip(graph.spec.tensors, [*inputs, *outputs], strict=True)
    graph.spec.check_arrays({spec.name: each.contiguous().numpy() for spec, each in tensors})
    return outputs


def cells(planes: Tensor) -> Tensor:
    return planes[0].permute(1, 2, 0)


def test_there_is_a_graph_for_whatever_a_composition_runs(
    graphs: Mapping[str, GraphModule],
) -> None:
    whole = ObjectComposition(16, 64, 128, 480, local="fam", prototypes=True)
    assert set(graphs) == whole.graphs
    assert all(name == graph.spec.name for name, graph in graphs.items())
    assert not any(graph.training for graph in graphs.values())


def test_the_query_encoder_is_the_networks(
    network: SRNet, graphs: Mapping[str, GraphModule]
) -> None:
    image = draw(1, 3, HEIGHT, WIDTH)
    key, content, f16, f8, f4 = run(graphs["query_encoder"], image)
    with torch.inference_mode():
        expected = network.query(image)
    frame = expected.frame
    pairs = [(key, cells(expected.key)), (content, expected.content), (f16, frame.f16)]
    for found, wanted in [*pairs, (f8, frame.f8), (f4, frame.f4)]:
        # Batch normalisation is folded, which rounds differently in each layer.
        assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_the_value_encoder_is_the_networks_with_the_sums_of_its_masks(
    network: SRNet, graphs: Mapping[str, GraphModule]
) -> None:
    graph = graphs["value_encoder"]
    lengths = {**LENGTHS, "objects": OBJECTS}
    frame = {
        tensor.name: draw(*(lengths[d] if isinstance(d, str) else d for d in tensor.shape))
        for tensor in graph.spec.inputs[:-2]
    }
    assert tuple(frame) == network.value.takes
    # One object more than the graph is asked for.
    shares = torch.softmax(draw(OBJECTS + 2, HEIGHT, WIDTH), 0)
    background, masks = shares[:1], shares[1 : 1 + OBJECTS]
    others = shares[1:].sum(0) - masks
    found = run(graph, *frame.values(), masks, background)
    value, sums, weights, coverage = found
    with torch.inference_mode():
        expected = network.value(frame, masks[None], others[None])[0]
        expected_coverage = cover_cells(masks[:, None])
        expected_sums, expected_weights = sum_features(expected, expected_coverage)
    wanted = expected.permute(2, 3, 0, 1)
    assert (value - wanted).abs().max() < 1e-4 * wanted.abs().max()
    assert (sums - expected_sums).abs().max() < 1e-4 * expected_sums.abs().max()
    torch.testing.assert_close(weights, expected_weights, **CLOSE)
    assert torch.equal(coverage, expected_coverage[:, 0])
    means = masks.reshape(OBJECTS, GRID[0], 16, GRID[1], 16).mean((2, 4))
    torch.testing.assert_close(coverage, means, **CLOSE)


def test_alignment_is_the_networks(network: SRNet, graphs: Mapping[str, GraphModule]) -> None:
    query, key = draw(*GRID, 64), draw(*GRID, 64).flip(0)
    value = draw(*GRID, OBJECTS, 128)
    aligned_key, aligned_value = run(graphs["feature_alignment"], query, key, value)
    planes = (query.permute(2, 0, 1)[None], key.permute(2, 0, 1)[None])
    with torch.inference_mode():
        expected = network.alignment(*planes, value.permute(2, 3, 0, 1)[None])
    torch.testing.assert_close(aligned_key, cells(expected.key), **CLOSE)
    torch.testing.assert_close(aligned_value, expected.value[0].permute(2, 3, 0, 1), **CLOSE)
    # It does something, unlike at the start.
    assert (aligned_key - key).abs().max() > 0.1


def make_memory() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    keys = 0.5 * torch.randn(SLOTS, *GRID, 64)
    return 0.5 * torch.randn(*GRID, 64), keys, torch.randn(SLOTS, *GRID, OBJECTS, 7)


@pytest.mark.parametrize("top_k", [None, TOP_K])
def test_memory_is_read_from_the_chosen_slots_by_distance(top_k: int | None) -> None:
    graph = srnet_graphs(SRNet(SRNET_PROFILES["srnet-edge"]), top_k)["memory_read"]
    query, keys, values = make_memory()
    index, valid = torch.tensor([3, 0]), torch.ones(2)
    (found,) = run(graph, query, keys, values, index, valid)
    chosen = keys[index].reshape(-1, 64).double()
    distances = torch.cdist(query.reshape(-1, 64).double(), chosen).square()
    kept = distances <= distances.sort(1).values[:, [(top_k or len(chosen)) - 1]]
    weights = torch.softmax(torch.where(kept, -distances / 8, -torch.inf), 1)
    content = values[index].reshape(-1, OBJECTS, 7).double()
    expected = torch.einsum("nm,mkc->kcn", weights, content).reshape(OBJECTS, 7, *GRID)
    # Logits of up to 10 are rounded by 1e-6, and values are as large as 4.
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("top_k", [None, TOP_K])
def test_a_slot_that_is_not_valid_is_not_read(network: SRNet, top_k: int | None) -> None:
    graph = srnet_graphs(network, top_k)["memory_read"]
    query, keys, values = make_memory()
    keys[4], values[4] = query, 1e30
    valid = torch.tensor([0.0, 1.0, 1.0])
    (found,) = run(graph, query, keys, values, torch.tensor([4, 1, 2]), valid)
    (expected,) = run(graph, query, keys, values, torch.tensor([1, 2]), torch.ones(2))
    torch.testing.assert_close(found, expected, **CLOSE)


def test_what_is_in_slots_that_are_not_asked_for_does_not_matter(
    graphs: Mapping[str, GraphModule],
) -> None:
    query, keys, values = make_memory()
    asked = (torch.tensor([1, 2]), torch.ones(2))
    (before,) = run(graphs["memory_read"], query, keys, values, *asked)
    keys[[0, 3, 4]], values[[0, 3, 4]] = torch.nan, torch.nan
    (after,) = run(graphs["memory_read"], query, keys, values, *asked)
    assert torch.equal(after, before)


def test_the_mixture_the_transformer_and_the_decoder_are_the_networks(
    network: SRNet, graphs: Mapping[str, GraphModule]
) -> None:
    read, near = draw(OBJECTS, 128, *GRID), draw(OBJECTS, 128, *GRID).flip(1)
    sums, weights = draw(OBJECTS, 2, 128), 1 + draw(OBJECTS, 2).abs()
    positions = draw(*GRID, 128)
    c4, c8, _ = network.query.trunk.widths
    content, f8, f4 = draw(1, 128, *GRID), draw(1, c8, 6, 8), draw(1, c4, 12, 16)
    local = draw(*GRID, OBJECTS, 128)
    (mixed,) = run(graphs["readout_mix"], read, near, local)
    (features,) = run(graphs["prototype_transformer"], mixed, sums, weights, positions)
    (logits,) = run(graphs["mask_decoder"], features, content, f8, f4)
    with torch.inference_mode():
        joined = torch.cat([read, near, local.permute(2, 3, 0, 1)], 1)
        torch.testing.assert_close(mixed, network.mix(joined), **CLOSE)
        prototypes = prototypes_from_sums(sums, weights)
        torch.testing.assert_close(
            features, network.prototypes(mixed, prototypes, positions), **CLOSE
        )
        expected = network.decoder(features[None], content, f8, f4)[0]
    torch.testing.assert_close(logits, expected, **CLOSE)


def test_objects_compete_as_in_training(graphs: Mapping[str, GraphModule]) -> None:
    logits = 3 * draw(OBJECTS, HEIGHT, WIDTH)
    (shares,) = run(graphs["soft_aggregation"], logits)
    # At a logit of 10 a sigmoid may be rounded by 6e-8, of the 5e-5 that it lacks to 1.
    torch.testing.assert_close(shares, aggregate_softly(logits[None])[0], rtol=0, atol=1e-3)


def test_examples_are_zeros_of_the_specs_shapes(graphs: Mapping[str, GraphModule]) -> None:
    lengths = {**LENGTHS, "objects": 2, "slots": 5, "references": 3, "channels": 9}
    for graph in graphs.values():
        for example, spec in zip(graph.make_examples(lengths), graph.spec.inputs, strict=True):
            assert not example.any()
            assert example.numpy().dtype == np.dtype(spec.dtype)
            wanted = [lengths[d] if isinstance(d, str) else d for d in spec.shape]
            assert list(example.shape) == wanted
