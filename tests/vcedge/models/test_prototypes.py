"""SRNet's prototypes and the transformer that lets pixels ask them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vcedge.models.prototypes import (
    Attention,
    PrototypeTransformer,
    cover_cells,
    prototypes_from_sums,
    sum_features,
)
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.propagation.prototypes import sine_positions

# Sums of at most a few hundred products in float32, in another order.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
GRID = (3, 5)


def make_masks(objects: int = 3) -> Tensor:
    """Soft masks of made objects: (N, 1, 48, 80)."""
    torch.manual_seed(2)
    return torch.rand(objects, 1, 16 * GRID[0], 16 * GRID[1])


def make_inputs(objects: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Make what was read, prototypes, and positions."""
    torch.manual_seed(3)
    positions = torch.from_numpy(sine_positions(GRID, 32))
    return torch.randn(objects, 32, *GRID), torch.randn(objects, 2, 32), positions


@pytest.fixture
def transformer() -> PrototypeTransformer:
    torch.manual_seed(0)
    return PrototypeTransformer(32, heads=4).eval()


# Sums.


def test_sums_weigh_each_cell_by_the_share_of_it_that_the_mask_covers() -> None:
    values, masks = torch.randn(3, 7, *GRID), make_masks()
    sums, weights = sum_features(values, cover_cells(masks))
    for n in range(3):
        inside, count = torch.zeros(7), 0.0
        for i in range(GRID[0]):
            for j in range(GRID[1]):
                share = masks[n, 0, 16 * i : 16 * i + 16, 16 * j : 16 * j + 16].mean()
                inside += share * values[n, :, i, j]
                count += share.item()
        torch.testing.assert_close(sums[n, 0], inside, **CLOSE)
        torch.testing.assert_close(sums[n, 1], values[n].sum((1, 2)) - inside, **CLOSE)
        assert weights[n, 0].item() == pytest.approx(count, rel=1e-5)
        assert weights[n].sum().item() == pytest.approx(GRID[0] * GRID[1], rel=1e-5)


def test_sums_of_two_frames_add_up_to_those_of_both_at_once() -> None:
    values, masks = torch.randn(2, 7, *GRID), make_masks(2)
    sums, weights = sum_features(values, cover_cells(masks))
    both = torch.cat([*values], 2)[None], torch.cat([*masks], 2)[None]
    expected, count = sum_features(both[0], cover_cells(both[1]))
    torch.testing.assert_close(sums.sum(0)[None], expected, **CLOSE)
    torch.testing.assert_close(weights.sum(0)[None], count, **CLOSE)


def test_prototypes_are_the_mean_features_of_either_side() -> None:
    values = torch.randn(1, 7, *GRID)
    masks = torch.zeros(1, 1, 16 * GRID[0], 16 * GRID[1])
    masks[..., :32] = 1
    prototypes = prototypes_from_sums(*sum_features(values, cover_cells(masks)))
    torch.testing.assert_close(prototypes[0, 0], values[0, ..., :2].mean((1, 2)), **CLOSE)
    torch.testing.assert_close(prototypes[0, 1], values[0, ..., 2:].mean((1, 2)), **CLOSE)


@pytest.mark.parametrize(("covered", "empty"), [(0.0, 0), (1.0, 1)])
def test_an_empty_side_has_a_prototype_of_zeros(
    transformer: PrototypeTransformer, covered: float, empty: int
) -> None:
    x, _, positions = make_inputs(1)
    masks = torch.full((1, 1, 16 * GRID[0], 16 * GRID[1]), covered)
    prototypes = prototypes_from_sums(*sum_features(x, cover_cells(masks)))
    assert not prototypes[0, empty].any()
    assert prototypes[0, 1 - empty].any()
    with torch.inference_mode():
        assert transformer(x, prototypes, positions).isfinite().all()


# Attention.


@pytest.mark.parametrize(("keys", "constant"), [(1, True), (2, False)])
def test_one_key_alone_tells_every_query_the_same(keys: int, constant: bool) -> None:
    torch.manual_seed(0)
    attention = Attention(16, 4)
    with torch.inference_mode():
        found = attention.ask_prototypes(torch.randn(2, 9, 16), *torch.randn(2, 2, keys, 16))
    spread = (found - found[:, :1]).abs().max()
    # A softmax over one logit is 1; the product with it may be rounded once.
    assert spread < 1e-6 if constant else spread > 0.01


@pytest.mark.parametrize("asks", ["ask_pixels", "ask_prototypes"])
def test_attention_is_that_of_torch(asks: str) -> None:
    torch.manual_seed(0)
    attention = Attention(16, 4)
    for layer in attention.children():
        if layer.bias is not None:
            nn.init.normal_(layer.bias)
    query, key, value = torch.randn(2, 5, 16), torch.randn(2, 9, 16), torch.randn(2, 9, 16)
    layers = (attention.query, attention.key, attention.value)
    biases = [attention.query.bias, torch.zeros(16), attention.value.bias]
    expected, _ = functional.multi_head_attention_forward(
        *(part.transpose(0, 1) for part in (query, key, value)),
        embed_dim_to_check=16,
        num_heads=4,
        in_proj_weight=torch.cat([layer.weight for layer in layers]),
        in_proj_bias=torch.cat(biases),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=attention.out.weight,
        out_proj_bias=attention.out.bias,
    )
    found = getattr(attention, asks)(query, key, value)
    torch.testing.assert_close(found, expected.transpose(0, 1), **CLOSE)


# The transformer.


def test_rounds_are_those_of_the_specification(transformer: PrototypeTransformer) -> None:
    x, prototypes, positions = make_inputs()
    pixels, places = x.permute(0, 2, 3, 1).reshape(3, -1, 32), positions.reshape(-1, 32)
    named, sides = prototypes, transformer.sides
    with torch.inference_mode():
        for each in transformer.rounds:
            named = each.prototype_attention_norm(
                named + each.prototype_attention.ask_pixels(named + sides, pixels + places, pixels)
            )
            named = each.prototype_ffn_norm(named + each.prototype_ffn(named))
            pixels = each.pixel_attention_norm(
                pixels + each.pixel_attention.ask_prototypes(pixels + places, named + sides, named)
            )
            pixels = each.pixel_ffn_norm(pixels + each.pixel_ffn(pixels))
        expected = pixels.reshape(3, *GRID, 32).permute(0, 3, 1, 2)
        torch.testing.assert_close(transformer(x, prototypes, positions), expected, **CLOSE)


def test_features_keep_their_shape_and_are_normalised(transformer: PrototypeTransformer) -> None:
    x, prototypes, positions = make_inputs()
    with torch.inference_mode():
        found = transformer(x, prototypes, positions)
    assert found.shape == x.shape
    # LayerNorm adds 1e-5 to a variance of about 1.
    torch.testing.assert_close(found.std(1, correction=0), torch.ones(3, *GRID), rtol=0, atol=1e-3)


def test_objects_do_not_see_each_other(transformer: PrototypeTransformer) -> None:
    x, prototypes, positions = make_inputs()
    order = [2, 0, 1]
    with torch.inference_mode():
        found = transformer(x, prototypes, positions)
        permuted = transformer(x[order], prototypes[order], positions)
        alone = [transformer(x[[n]], prototypes[[n]], positions) for n in range(3)]
    torch.testing.assert_close(permuted, found[order], **CLOSE)
    torch.testing.assert_close(torch.cat(alone), found, **CLOSE)


def test_pixels_are_told_apart_by_their_place_alone(transformer: PrototypeTransformer) -> None:
    x, prototypes, positions = make_inputs()
    same = x[..., :1, :1].expand_as(x)
    with torch.inference_mode():
        placed = transformer(same, prototypes, positions)
        unplaced = transformer(same, prototypes, torch.zeros_like(positions))
        turned = transformer(x.flip(2, 3), prototypes, positions.flip(0, 1))
        plain = transformer(x, prototypes, positions)
    assert (placed - placed[..., :1, :1]).abs().max() > 0.01
    torch.testing.assert_close(unplaced, unplaced[..., :1, :1].expand_as(x), **CLOSE)
    # Cells are a set: they may come in any order, each with its place.
    torch.testing.assert_close(turned.flip(2, 3), plain, **CLOSE)


def test_the_object_and_the_background_are_told_apart(transformer: PrototypeTransformer) -> None:
    x, prototypes, positions = make_inputs()
    with torch.inference_mode():
        found = transformer(x, prototypes, positions)
        exchanged = transformer(x, prototypes.flip(1), positions)
    assert (found - exchanged).abs().max() > 1e-3
    torch.nn.init.zeros_(transformer.sides)
    with torch.inference_mode():
        found = transformer(x, prototypes, positions)
        exchanged = transformer(x, prototypes.flip(1), positions)
    torch.testing.assert_close(found, exchanged, **CLOSE)


def test_gradients_reach_every_weight(transformer: PrototypeTransformer) -> None:
    x, prototypes, positions = make_inputs()
    transformer(x, prototypes, positions)[:, 0].square().mean().backward()
    for name, parameter in transformer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize(
    ("channels", "rounds", "heads"), [(32, 3, 5), (32, 0, 4), (32, 3, 0), (30, 3, 5)]
)
def test_sizes_that_do_not_fit_are_refused(channels: int, rounds: int, heads: int) -> None:
    with pytest.raises(TrainingError, match=f"{heads} heads and {rounds} rounds for {channels}"):
        PrototypeTransformer(channels, rounds, heads)
