"""SRNet's feature alignment: a deformable convolution that starts as the identity."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcedge.models.feature_alignment import (
    STEADINESS,
    TAPS,
    DeformableConv,
    Deformation,
    FeatureAlignment,
)
from vcedge_runtime.errors import TrainingError

# Places are formed and taken apart again in float32: a few units in the last place of a cell.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def rest(groups: int, batch: int, grid_hw: tuple[int, int]) -> Deformation:
    """No offset, and every tap with weight 1."""
    return Deformation(
        torch.zeros(batch, 2 * TAPS * groups, *grid_hw),
        torch.ones(batch, TAPS * groups, *grid_hw),
    )


def sample(plane: NDArray[np.float64], y: float, x: float) -> float:
    """Read a plane between its cells, bilinear; 0 outside."""
    found = 0.0
    for row, column in product((int(np.floor(y)), int(np.floor(y)) + 1), (0, 1)):
        at = int(np.floor(x)) + column
        if 0 <= row < plane.shape[0] and 0 <= at < plane.shape[1]:
            found += plane[row, at] * (1 - abs(y - row)) * (1 - abs(x - at))
    return found


def convolve_directly(conv: DeformableConv, x: Tensor, bend: Deformation) -> NDArray[np.float64]:
    """The definition: each tap is read where its offset points, weighed, and multiplied."""
    planes, weight = x.double().numpy(), conv.weight.detach().double().numpy()
    batch, objects, channels, height, width = planes.shape
    moves = bend.offsets.unflatten(1, (conv.groups, TAPS, 2)).double().numpy()
    shares = bend.modulation.unflatten(1, (conv.groups, TAPS)).double().numpy()
    seen = np.zeros((batch, objects, TAPS, channels, height, width))
    for b, k, tap, c, i, j in product(*map(range, seen.shape)):
        group = c * conv.groups // channels
        dy, dx = moves[b, group, tap, :, i, j]
        place = (i + tap // 3 - 1 + dy, j + tap % 3 - 1 + dx)
        seen[b, k, tap, c, i, j] = sample(planes[b, k, c], *place) * shares[b, group, tap, i, j]
    return np.asarray(np.einsum("otc,bktchw->bkohw", weight, seen))


@pytest.mark.parametrize("grid_hw", [(1, 1), (2, 7), (9, 5), (30, 54)])
def test_without_offsets_the_identity_gives_what_it_takes(grid_hw: tuple[int, int]) -> None:
    x = torch.randn(2, 3, 8, *grid_hw, generator=torch.Generator().manual_seed(0))
    found = DeformableConv(8, 4)(x, rest(4, 2, grid_hw))
    torch.testing.assert_close(found, x, **CLOSE)


def test_grid_samples_are_the_deformable_convolution() -> None:
    torch.manual_seed(1)
    conv = DeformableConv(4, 2)
    torch.nn.init.normal_(conv.weight)
    # Some offsets lead out of the planes.
    x, offsets = torch.randn(2, 3, 4, 5, 6), 2 * torch.randn(2, 2 * TAPS * 2, 5, 6)
    bend = Deformation(offsets, 2 * torch.rand(2, TAPS * 2, 5, 6))
    expected = convolve_directly(conv, x, bend)
    with torch.no_grad():
        found = conv(x, bend).numpy()
    # 36 products of numbers up to about 10.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("dy", "dx"), [(1, 0), (0, -2), (-3, 2), (9, 0)])
def test_whole_offsets_shift_exactly(dy: int, dx: int) -> None:
    x = torch.randn(1, 2, 4, 7, 6, generator=torch.Generator().manual_seed(2))
    bend = rest(2, 1, (7, 6))
    bend.offsets[:, 0::2], bend.offsets[:, 1::2] = dy, dx
    expected = torch.zeros_like(x)
    for i, j in product(range(7), range(6)):
        if 0 <= i + dy < 7 and 0 <= j + dx < 6:
            expected[..., i, j] = x[..., i + dy, j + dx]
    torch.testing.assert_close(DeformableConv(4, 2)(x, bend), expected, **CLOSE)


def test_each_group_has_offsets_of_its_own() -> None:
    x = torch.randn(1, 2, 4, 5, 5, generator=torch.Generator().manual_seed(3))
    bend = rest(2, 1, (5, 5))
    bend.offsets[:, 2 * TAPS + 1 :: 2] = 1  # dx of the second group
    found = DeformableConv(4, 2)(x, bend)
    torch.testing.assert_close(found[:, :, :2], x[:, :, :2], **CLOSE)
    torch.testing.assert_close(found[:, :, 2:, :, :-1], x[:, :, 2:, :, 1:], **CLOSE)
    assert not found[:, :, 2:, :, -1].abs().gt(1e-5).any()


def test_places_are_as_exact_in_mixed_precision() -> None:
    x = torch.randn(1, 2, 8, 30, 54, generator=torch.Generator().manual_seed(6)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = DeformableConv(8, 4)(x, rest(4, 1, (30, 54)))
    # Sampled at whole cells, a value is rounded to its own 8 bits once more at most.
    torch.testing.assert_close(found.float(), x.float(), rtol=1 / 128, atol=1e-2)


def make_inputs(objects: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(4)
    return torch.randn(2, 16, 6, 7), torch.randn(2, 16, 6, 7), torch.randn(2, objects, 32, 6, 7)


def test_memory_is_left_as_it_is_at_the_start() -> None:
    query, key, value = make_inputs()
    found = FeatureAlignment(16, 32)(query, key, value)
    torch.testing.assert_close(found.key, key, **CLOSE)
    torch.testing.assert_close(found.value, value, **CLOSE)


def test_it_has_as_many_weights_as_the_specification_counts() -> None:
    count = sum(parameter.numel() for parameter in FeatureAlignment().parameters())
    assert count == pytest.approx(1.05e6, rel=0.01)


def test_all_objects_are_bent_alike() -> None:
    query, key, value = make_inputs()
    module = FeatureAlignment(16, 32)
    torch.nn.init.normal_(module.to_offsets.weight, std=0.1)
    with torch.no_grad():
        together = module(query, key, value)
        alone = [module(query, key, value[:, [k]]).value for k in range(3)]
    assert (together.value - value).abs().max() > 0.1
    torch.testing.assert_close(together.value, torch.cat(alone, 1), **CLOSE)


def test_offsets_are_bounded_by_the_reach() -> None:
    query, key, value = make_inputs()
    module = FeatureAlignment(16, 32, reach=1.0)
    torch.nn.init.constant_(module.to_offsets.bias, 50.0 / STEADINESS)
    found = module(query, key, value)
    torch.testing.assert_close(found.key[..., :-1, :-1], key[..., 1:, 1:], **CLOSE)


def test_the_bound_still_gives_a_gradient_back() -> None:
    query, key, value = make_inputs()
    module = FeatureAlignment(16, 32, reach=1.0)
    torch.nn.init.constant_(module.to_offsets.bias, 2.0 / STEADINESS)
    module(query, key, value).value.square().mean().backward()
    gradient = module.to_offsets.bias.grad
    assert gradient is not None
    # Only the middle tap has a weight yet.
    assert gradient.unflatten(0, (4, TAPS, 2))[:, TAPS // 2].abs().min() > 0


def test_the_length_of_keys_does_not_move_anything() -> None:
    query, key, value = make_inputs()
    module = FeatureAlignment(16, 32)
    torch.nn.init.normal_(module.to_offsets.weight, std=1.0)
    with torch.no_grad():
        found, longer = module(query, key, value), module(7 * query, 3 * key, value)
    torch.testing.assert_close(longer.value, found.value, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(longer.key, 3 * found.key, rtol=1e-4, atol=1e-4)


def test_it_learns_where_the_memory_has_moved() -> None:
    torch.manual_seed(5)
    module = FeatureAlignment(16, 16, hidden=32)
    optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)
    smooth = torch.nn.functional.interpolate(
        torch.randn(4, 16, 5, 5), size=(12, 12), mode="bicubic"
    )
    key = torch.roll(smooth, 1, dims=3)
    losses = []
    for _ in range(40):
        found = module(smooth, key, key[:, None])
        loss = (found.key - smooth)[..., 1:-1].square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(parameter.grad is not None for parameter in module.look.parameters())


@pytest.mark.parametrize(("channels", "groups"), [(6, 4), (4, 0)])
def test_groups_that_do_not_divide_the_channels_are_refused(channels: int, groups: int) -> None:
    with pytest.raises(TrainingError, match=f"{groups} groups for {channels} channels"):
        DeformableConv(channels, groups)
