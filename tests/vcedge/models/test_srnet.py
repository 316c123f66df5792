"""SRNet as a whole: its sizes, where its weights begin, and what it can take over."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vcedge.models.efficientnet_lite import EfficientNetLite
from vcedge.models.network import KeyNetwork
from vcedge.models.srnet import SRNET_PROFILES, SRNet
from vcedge.models.trunk import Trunk
from vcedge.models.weights import Weights
from vcedge_export.plan import ExportOptions
from vcedge_export.planning import plan_export
from vcedge_runtime.errors import TrainingError

# The same sums in batches of other sizes, in networks of up to 30 layers in float32.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
FRAME = {"image": (3, 32, 48), "f4": (24, 8, 12), "f8": (40, 4, 6), "f16": (256, 2, 3)}
"""Shapes of what a value encoder is offered of a frame."""


def make_network(profile: str = "srnet-edge", seed: int = 0) -> SRNet:
    torch.manual_seed(seed)
    return SRNet(SRNET_PROFILES[profile]).eval()


@pytest.fixture(scope="module")
def network() -> SRNet:
    return make_network()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def copy_state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


# Sizes.


def test_the_papers_parts_have_the_sizes_that_the_specification_counts() -> None:
    network = make_network("srnet")
    sizes = {
        8.5e6: network.query.trunk,
        0.6e6: network.query.key,
        2.4e6: network.query.content,
        2.8e6: network.value.trunk,
        7.7e6: network.value.fuser,
        1.05e6: network.alignment,
        11.8e6: network.decoder,
    }
    # The specification gives two digits.
    for expected, part in sizes.items():
        assert count(part) == pytest.approx(expected, rel=0.02)


def test_the_small_one_has_less_than_a_fifth_of_the_weights(network: SRNet) -> None:
    assert count(network) == pytest.approx(7.14e6, rel=0.01)
    assert count(make_network("srnet")) == pytest.approx(38.9e6, rel=0.01)


@pytest.mark.parametrize("profile", sorted(SRNET_PROFILES))
def test_a_query_has_one_cell_per_stride_and_as_many_channels_as_its_profile_says(
    profile: str,
) -> None:
    network, sizes = make_network(profile), SRNET_PROFILES[profile]
    assert sizes.name == profile
    assert network.parts == {"profile": profile, "local": "fam", "prototypes": True}
    with torch.inference_mode():
        key, content, frame = network.query(torch.randn(2, 3, 32, 48))
        image, masks, others = torch.rand(3, 2, 3, 32, 48)
        values = network.value({"image": image, **frame._asdict()}, masks, others)
    assert key.shape == (2, sizes.key_dim, 2, 3)
    assert content.shape == (2, sizes.value_dim, 2, 3)
    assert [part.shape[-1] for part in frame] == [12, 6, 3]
    assert values.shape == (2, 3, sizes.value_dim, 2, 3)
    assert sizes.stride == 16


# Where weights begin.


@pytest.mark.parametrize("profile", sorted(SRNET_PROFILES))
def test_keys_begin_orthogonal_and_without_bias(profile: str) -> None:
    head = make_network(profile).query.key
    rows = head.weight.detach().flatten(1)
    # A QR decomposition in float32.
    torch.testing.assert_close(rows @ rows.T, torch.eye(64), rtol=0, atol=1e-5)
    assert head.bias is not None
    assert not head.bias.any()


def test_the_mixture_begins_as_the_mean_of_both_readouts(network: SRNet) -> None:
    read, near, local = torch.randn(3, 2, 128, 3, 4)
    with torch.inference_mode():
        mixed = network.mix.join(read, near, local)
    # Two products are not zero; a convolution may round their sum once.
    torch.testing.assert_close(mixed, (read + near) / 2, rtol=0, atol=1e-6)


def test_the_mixture_is_one_linear_map_of_what_was_read_and_of_the_local_memory() -> None:
    mix = make_network().mix
    nn.init.normal_(mix.weight)
    parts = torch.randn(3, 2, 128, 3, 4)
    weights = mix.weight.detach()[..., 0, 0].split(128, 1)
    expected = sum(
        torch.einsum("oc,nchw->nohw", weight, part)
        for weight, part in zip(weights, parts, strict=True)
    )
    with torch.inference_mode():
        # Sums of 384 products of about 1.
        torch.testing.assert_close(mix.join(*parts), expected, rtol=1e-4, atol=1e-3)
    assert mix.bias is None


# Values.


def test_an_objects_value_hangs_on_its_own_mask_and_what_the_others_cover(
    network: SRNet,
) -> None:
    torch.manual_seed(1)
    frame = {name: torch.randn(2, *shape) for name, shape in FRAME.items()}
    masks = torch.softmax(torch.randn(2, 4, 32, 48), 1)[:, 1:]
    others = masks.sum(1, keepdim=True) - masks
    with torch.inference_mode():
        together = network.value(frame, masks, others)
        for k in range(3):
            alone = network.value(frame, masks[:, [k]], others[:, [k]])
            torch.testing.assert_close(alone, together[:, [k]], **CLOSE)
        lone = network.value(frame, masks, torch.zeros_like(masks))
        moved = network.value(frame, masks.flip(3), others)
    assert (lone - together).abs().amax((0, 2, 3, 4)).min() > 0.01
    assert (moved - together).abs().amax((0, 2, 3, 4)).min() > 0.01


def test_the_masks_shape_is_added_at_stride_4_by_one_linear_map(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = make_network()
    encoder = network.value
    monkeypatch.setattr(encoder, "encode", lambda frame, seen: seen.new_zeros(2, 128, 2, 3))
    frame = {name: torch.randn(1, *shape) for name, shape in FRAME.items()}
    masks, others = torch.rand(2, 1, 2, 32, 48)
    with torch.inference_mode():
        found = encoder(frame, masks, others)
    weight = encoder.shape.weight.detach().reshape(128, 2, 4, 4)
    for k in range(2):
        sides = torch.stack([masks[0, k], others[0, k]])
        fine = functional.avg_pool2d(sides, 4).reshape(2, 2, 4, 3, 4)
        expected = torch.einsum("vsyx,shywx->vhw", weight, fine)
        torch.testing.assert_close(found[0, k], expected, **CLOSE)


# Taking over weights.


def fill(network: KeyNetwork) -> KeyNetwork:
    """Give every tensor values of its own."""
    for number, value in enumerate(network.state_dict().values()):
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape) + number)
        else:
            value.fill_(number)
    return network


@pytest.mark.parametrize(
    ("profile", "motion", "value_extraction"),
    [("edge", False, False), ("edge", True, True), ("paper", False, False)],
)
def test_trunk_and_head_of_a_self_supervised_network_are_taken_over_whole(
    profile: str, motion: bool, value_extraction: bool
) -> None:
    network = make_network()
    before = copy_state(network)
    other = fill(KeyNetwork.from_parts(profile, motion, value_extraction))
    network.take_weights(other)
    query, encoder = network.query, other.encoder
    assert isinstance(query.trunk, Trunk)
    pairs = [(query.trunk.stem, encoder.stem), (query.key, encoder.head)]
    blocks = list(chain.from_iterable(query.trunk.stages))
    assert len(blocks) == 6
    pairs += list(zip(blocks, encoder.stages, strict=False))
    taken = set()
    for own, theirs in pairs:
        expected = theirs.state_dict()
        assert own.state_dict().keys() == expected.keys()
        for name, value in own.state_dict().items():
            assert torch.equal(value, expected[name]), name
            taken.add(value.data_ptr())
    # All else is as it was.
    for name, value in network.state_dict().items():
        assert (value.data_ptr() in taken) != torch.equal(value, before[name]), name


def test_another_srnets_weights_are_taken_over_whole() -> None:
    network, other = make_network(seed=0), make_network(seed=1)
    assert any(
        not torch.equal(value, other.state_dict()[name])
        for name, value in network.state_dict().items()
    )
    network.take_weights(other)
    assert network.state_dict().keys() == other.state_dict().keys()
    for name, value in network.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    # Copied, not shared.
    with torch.no_grad():
        other.mix.weight.zero_()
    assert network.mix.weight.any()


def test_a_resnet_50_refuses_a_resnet_18() -> None:
    network = make_network("srnet")
    before = copy_state(network)
    with pytest.raises(TrainingError, match="is resnet18 for srnet, whose encoder is resnet50"):
        network.take_weights(fill(KeyNetwork.from_parts("edge", False, False)))
    changed = [n for n, v in network.state_dict().items() if not torch.equal(v, before[n])]
    assert changed == []


@pytest.mark.parametrize(
    "make_other",
    [lambda: nn.Linear(3, 3), lambda: make_network("srnet")],
    ids=["another module", "another size"],
)
def test_a_network_of_other_shapes_leaves_what_does_not_fit(
    make_other: Callable[[], nn.Module],
) -> None:
    network, other = make_network(), make_other()
    before = copy_state(network)
    network.take_weights(other)
    known = other.state_dict()
    for name, value in network.state_dict().items():
        fits = name in known and known[name].shape == value.shape
        assert torch.equal(value, known[name] if fits else before[name]), name


def test_a_published_trunk_is_taken_over_and_nothing_else() -> None:
    network = make_network("srnet-lite")
    before = copy_state(network)
    torch.manual_seed(5)
    other = EfficientNetLite("efficientnet-lite0")
    network.take_weights(other)
    for name, value in network.state_dict().items():
        own = name.removeprefix("query.trunk.")
        expected = other.state_dict()[own] if own != name else before[name]
        assert torch.equal(value, expected), name
    with pytest.raises(TrainingError, match="that is efficientnet-lite2 for srnet-lite"):
        network.take_weights(EfficientNetLite("efficientnet-lite2"))


def test_features_of_a_light_trunk_are_divided_by_their_spread() -> None:
    query = make_network("srnet-lite").query
    image = torch.randn(1, 3, 32, 48)
    with torch.inference_mode():
        for found, features in zip(query(image).frame, query.trunk(image), strict=True):
            torch.testing.assert_close(found, features / 8)


def test_values_of_a_light_network_are_made_of_the_querys_features_at_every_stride() -> None:
    network = make_network("srnet-lite")
    torch.manual_seed(1)
    frame = {"f4": torch.randn(1, 24, 8, 12), "f8": torch.randn(1, 40, 4, 6)}
    frame |= {"f16": torch.randn(1, 112, 2, 3)}
    masks = torch.softmax(torch.randn(1, 4, 32, 48), 1)[:, 1:]
    others = masks.sum(1, keepdim=True) - masks
    with torch.inference_mode():
        values = network.value(frame, masks, others)
        alone = network.value(frame, masks[:, [1]], others[:, [1]])
        torch.testing.assert_close(alone, values[:, [1]], **CLOSE)
        for name in frame:
            moved = network.value({**frame, name: frame[name].flip(3)}, masks, others)
            assert (moved - values).abs().max() > 1e-3, name
        lone = network.value(frame, masks, torch.zeros_like(masks))
    assert (lone - values).abs().amax((0, 2, 3, 4)).min() > 0.01


@pytest.mark.slow
def test_the_light_network_takes_at_most_12_gmac_for_a_frame_with_one_object() -> None:
    model = plan_export(Weights(make_network("srnet-lite"), {}), ExportOptions())
    memory = model.composition.memory
    lengths = {**model.lengths_at((480, 864)), "objects": 1, "labels": 2, "channels": 128}
    lengths |= {"slots": memory.slots + 1, "references": memory.references}
    macs = {name: graph.count_macs(lengths) for name, graph in model.modules.items()}
    local = model.modules["memory_read"].count_macs({**lengths, "references": 1, "slots": 1})
    assert 8e9 < sum(macs.values()) + local < 12e9
