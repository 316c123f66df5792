"""DMP's regions of training crops, against those of the runtime."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vcedge.training.regions import (
    RegionBatch,
    cluster_batch,
    enhance_batch,
    match_bias,
    mix_batch,
)
from vcedge_runtime.sampling import regions as runtime
from vcedge_runtime.sampling.regions import Regions, RegionSettings

SETTINGS = RegionSettings(step=4, weight=0.5, iterations=3, matches=2)
GRIDS = [(8, 8), (10, 7), (16, 12), (3, 5)]


def draw_keys(grid_hw: tuple[int, int], seed: int, count: int = 1) -> torch.Tensor:
    return torch.randn(count, 6, *grid_hw, generator=torch.Generator().manual_seed(seed))


def to_rows(planes: torch.Tensor) -> np.ndarray:
    """(C, h, w) to (h, w, C)."""
    return np.ascontiguousarray(planes.permute(1, 2, 0).numpy())


def cluster_both(keys: torch.Tensor) -> tuple[RegionBatch, list[Regions]]:
    batch = cluster_batch(keys, SETTINGS.step, SETTINGS.weight, SETTINGS.iterations)
    return batch, [runtime.cluster_regions(to_rows(key), SETTINGS) for key in keys]


@pytest.mark.parametrize("grid_hw", GRIDS)
@pytest.mark.parametrize("seed", range(4))
def test_a_batch_is_cut_as_the_runtime_cuts_each_frame(grid_hw: tuple[int, int], seed: int) -> None:
    batch, frames = cluster_both(draw_keys(grid_hw, seed, 3))
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(batch.ids[number].reshape(grid_hw).numpy(), frame.ids)
        # FP32 sums of up to 144 cells in another order.
        np.testing.assert_allclose(batch.features[number], frame.features, atol=1e-5)
        np.testing.assert_allclose(batch.positions[number], frame.positions, atol=1e-4)


def test_a_large_weight_of_places_gives_the_grid() -> None:
    ids = cluster_batch(draw_keys((8, 12), 0), 4, 1e4).ids.reshape(8, 12)
    expected = torch.arange(6).reshape(2, 3).repeat_interleave(4, 0).repeat_interleave(4, 1)
    assert torch.equal(ids, expected)


def test_every_cell_joins_one_of_the_nine_nearest_seeds() -> None:
    ids = cluster_batch(draw_keys((16, 16), 1), 4, 0.0).ids.reshape(16, 16)
    ys, xs = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    assert ((ids // 4 - ys // 4).abs() <= 1).all()
    assert ((ids % 4 - xs // 4).abs() <= 1).all()


@settings(max_examples=20)
@given(grid=st.sampled_from(GRIDS), seed=st.integers(0, 999), eta=st.floats(0, 2))
def test_keys_are_enhanced_as_at_run_time(grid: tuple[int, int], seed: int, eta: float) -> None:
    keys = draw_keys(grid, seed, 2)
    batch, frames = cluster_both(keys)
    found = enhance_batch(keys, batch, eta)
    torch.testing.assert_close(found.norm(dim=1), keys.norm(dim=1))
    for number, frame in enumerate(frames):
        if not np.array_equal(batch.ids[number].reshape(grid).numpy(), frame.ids):
            continue
        expected = runtime.enhance(to_rows(keys[number]), frame, eta)
        np.testing.assert_allclose(to_rows(found[number]), expected, atol=1e-4)


@settings(max_examples=20)
@given(grid=st.sampled_from(GRIDS), seed=st.integers(0, 999), eta=st.floats(0, 1))
def test_values_are_mixed_as_at_run_time(grid: tuple[int, int], seed: int, eta: float) -> None:
    keys = draw_keys(grid, seed, 2)
    batch, frames = cluster_both(keys)
    labels = torch.softmax(draw_keys(grid, seed + 1, 2), 1)
    found = mix_batch(labels, batch, eta)
    torch.testing.assert_close(found.sum(1), torch.ones_like(found[:, 0]))
    for number, frame in enumerate(frames):
        if not np.array_equal(batch.ids[number].reshape(grid).numpy(), frame.ids):
            continue
        expected = runtime.enhance_labels(to_rows(labels[number]), frame.ids, eta)
        np.testing.assert_allclose(to_rows(found[number]), expected, atol=1e-5)


@pytest.mark.parametrize("radius", [1.0, 4.0, 20.0])
def test_regions_are_matched_as_at_run_time(radius: float) -> None:
    queries, queries_there = cluster_both(draw_keys((16, 12), 0, 2))
    memory, memory_there = cluster_both(draw_keys((16, 12), 7, 6))
    bias = match_bias(queries, memory, radius, SETTINGS.step, SETTINGS.matches)
    assert bias.shape == (2, 16 * 12, 3 * 16 * 12)
    assert set(bias.flatten().tolist()) == {0.0, -1e4}
    for query in range(2):
        for place in range(3):
            reference = memory_there[3 * query + place]
            allowed = runtime.match_regions(queries_there[query], reference, radius, SETTINGS)
            pairs = allowed[queries_there[query].ids.reshape(-1)][:, reference.ids.reshape(-1)]
            found = bias[query].unflatten(1, (3, -1))[:, place] == 0
            np.testing.assert_array_equal(found.numpy(), pairs)


def test_an_empty_region_takes_no_place_among_the_matches() -> None:
    ids = torch.zeros(1, 4, dtype=torch.int64)
    features = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    positions = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    query = RegionBatch(ids, features, torch.zeros(1, 2, 2))
    # The second region is the nearest and has no cell.
    found = match_bias(query, RegionBatch(ids, features, positions), 5, 4, 1)
    assert not found.any()


def test_gradients_pass_through_keys_and_values_and_not_through_the_cut() -> None:
    keys = draw_keys((8, 8), 0).requires_grad_()
    regions = cluster_batch(keys)
    assert not any(part.requires_grad for part in regions)
    weights = draw_keys((8, 8), 3)
    (by_keys,) = torch.autograd.grad((enhance_batch(keys, regions, 0.5) * weights).sum(), keys)
    (by_values,) = torch.autograd.grad((mix_batch(keys, regions, 0.2) * weights).sum(), keys)
    assert by_keys.isfinite().all()
    assert by_keys.any()
    assert by_values.any()
