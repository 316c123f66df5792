"""Regions: every cell has one, near its seed; matches are few and near."""

from __future__ import annotations

from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge_runtime.errors import BundleError
from vcedge_runtime.sampling.regions import (
    WEIGHT_MAX,
    Regions,
    RegionSettings,
    cluster_regions,
    enhance,
    enhance_labels,
    match_regions,
)

Key = NDArray[np.float32]
SIDES = st.integers(1, 30)
STEPS = st.integers(1, 12)
WEIGHTS = st.sampled_from([0.0, 0.1, 0.5, 3.0, WEIGHT_MAX])


def make_key(seed: int, height: int, width: int, channels: int = 6) -> Key:
    """Make smooth features of uneven lengths."""
    noise = np.random.default_rng(seed).normal(size=(height, width, channels))
    smooth = cv2.blur(noise.astype(np.float32), (3, 3))
    return np.asarray(smooth, np.float32).reshape(height, width, channels)


KEYS = st.builds(make_key, st.integers(0, 2**32 - 1), SIDES, SIDES)


def count_seeds(shape: tuple[int, ...], step: int) -> tuple[int, int]:
    return -(-shape[0] // step), -(-shape[1] // step)


def number_grid(shape: tuple[int, ...], step: int) -> NDArray[np.int64]:
    """Number the seeds' own cells plainly: as even as whole cells can be."""
    rows, columns = count_seeds(shape, step)
    ys, xs = np.indices(shape[:2])
    return (ys * rows // shape[0]) * columns + xs * columns // shape[1]


def unit(vectors: Key) -> Key:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def cluster_plainly(key: Key, chosen: RegionSettings) -> NDArray[np.int64]:
    """State the method cell by cell, in float64."""
    shape, channels = key.shape[:2], key.shape[2]
    rows, columns = count_seeds(shape, chosen.step)
    features = unit(key).reshape(-1, channels).astype(np.float64)
    places = np.stack(np.indices(shape), -1).reshape(-1, 2).astype(np.float64)
    home = number_grid(shape, chosen.step).reshape(-1)
    ids = home
    mean = np.zeros((rows * columns, channels))
    centroid = np.zeros((rows * columns, 2))
    for turn in range(chosen.iterations + 1):
        for seed in np.unique(ids):
            total = features[ids == seed].mean(0)
            mean[seed] = total / np.linalg.norm(total)
            centroid[seed] = places[ids == seed].mean(0)
        if turn == chosen.iterations:
            break
        cost = 1 - features @ mean.T
        far = np.linalg.norm(places[:, None] - centroid[None], axis=2)
        cost += chosen.weight * far / chosen.step
        seeds = np.arange(rows * columns)
        apart_y = np.abs(seeds[None] // columns - home[:, None] // columns)
        apart_x = np.abs(seeds[None] % columns - home[:, None] % columns)
        cost[(apart_y > 1) | (apart_x > 1)] = np.inf
        ids = cost.argmin(1)
    return ids.reshape(shape)


@settings(max_examples=60)
@given(KEYS, STEPS, WEIGHTS, st.integers(1, 5))
@example(make_key(0, 30, 1), 8, 0.5, 5)
@example(make_key(0, 3, 29), 8, 0.5, 5)
def test_every_cell_has_a_region_among_the_nine_around_it(
    key: Key, step: int, weight: float, iterations: int
) -> None:
    chosen = RegionSettings(step=step, weight=weight, iterations=iterations)
    regions = cluster_regions(key, chosen)
    rows, columns = count_seeds(key.shape, step)
    home = number_grid(key.shape, step)
    assert regions.ids.shape == key.shape[:2]
    assert regions.ids.min() >= 0
    assert regions.ids.max() < rows * columns
    assert (np.abs(regions.ids // columns - home // columns) <= 1).all()
    assert (np.abs(regions.ids % columns - home % columns) <= 1).all()


@settings(max_examples=60)
@given(KEYS, STEPS, st.integers(1, 5))
def test_a_large_lambda_gives_the_grid(key: Key, step: int, iterations: int) -> None:
    chosen = RegionSettings(step=step, weight=WEIGHT_MAX, iterations=iterations)
    np.testing.assert_array_equal(cluster_regions(key, chosen).ids, number_grid(key.shape, step))


@pytest.mark.parametrize("weight", [0.0, 0.5, 4.0])
@pytest.mark.parametrize("shape", [(17, 30), (24, 24), (5, 40)])
def test_regions_are_those_of_the_plain_method(shape: tuple[int, int], weight: float) -> None:
    chosen = RegionSettings(step=6, weight=weight, iterations=3)
    found = cluster_regions(make_key(1, *shape, channels=16), chosen).ids
    expected = cluster_plainly(make_key(1, *shape, channels=16), chosen)
    # float32 against float64 may decide a tie otherwise, and so move a neighbour.
    assert (found == expected).mean() > 0.99


def test_without_lambda_a_cell_joins_the_seed_that_is_most_alike() -> None:
    key = np.zeros((8, 24, 3), np.float32)
    key[:, :8, 0], key[:, 8:16, 1], key[:, 16:, 2] = 1, 1, 1
    key[4, 2] = [0, 1, 0]
    key[4, 1] = [0, 0, 1]
    regions = cluster_regions(key, RegionSettings(step=8, weight=0))
    assert regions.ids[4, 2] == 1
    # The third seed is most alike but not among the neighbours.
    assert regions.ids[4, 1] == 0
    np.testing.assert_array_equal(np.delete(regions.ids[4], [1, 2]), [0] * 6 + [1] * 8 + [2] * 8)


@settings(max_examples=40)
@given(KEYS, STEPS, WEIGHTS)
def test_regions_are_described_by_their_own_cells(key: Key, step: int, weight: float) -> None:
    regions = cluster_regions(key, RegionSettings(step=step, weight=weight))
    count = len(regions.sizes)
    sizes = np.bincount(regions.ids.reshape(-1), minlength=count)
    np.testing.assert_array_equal(regions.sizes, sizes)
    for region in np.flatnonzero(sizes):
        inside = regions.ids == region
        mean = unit(key)[inside].mean(0)
        if np.linalg.norm(mean) > 1e-2:
            np.testing.assert_allclose(regions.features[region], unit(mean), atol=1e-4)
        # float32 sums of at most 900 places below 30.
        place = np.argwhere(inside).mean(0)
        np.testing.assert_allclose(regions.positions[region], place, atol=1e-3)
    assert np.isfinite(regions.features).all()
    assert np.isfinite(regions.positions).all()


@settings(max_examples=40)
@given(SIDES, SIDES, STEPS, st.integers(0, 99), st.integers(1, 12), st.integers(1, 9))
def test_matches_are_few_near_and_never_empty(
    height: int, width: int, step: int, seed: int, radius: int, matches: int
) -> None:
    chosen = RegionSettings(step=step, matches=matches, weight=0.1)
    query, reference = (cluster_regions(make_key(s, height, width), chosen) for s in (seed, 100))
    allowed = match_regions(query, reference, radius, chosen)
    offset = query.positions[:, None] - reference.positions[None]
    near = np.linalg.norm(offset, axis=2) <= radius + 2 * step
    assert allowed.shape == (len(query.sizes), len(reference.sizes))
    assert not (allowed & ~near).any()
    assert not allowed[:, reference.sizes == 0].any()
    admissible = (near & (reference.sizes > 0)).sum(1)
    np.testing.assert_array_equal(allowed.sum(1), np.minimum(admissible, matches))


def make_regions(features: Key, positions: Key) -> Regions:
    sizes = np.ones(len(features), np.int32)
    return Regions(np.zeros((1, 1), np.int32), unit(features), positions, sizes)


def test_matches_weigh_likeness_against_distance() -> None:
    query = make_regions(np.array([[1, 0]], np.float32), np.zeros((1, 2), np.float32))
    features = np.array([[0, 1], [1, 0], [1, 0]], np.float32)
    positions = np.array([[0, 0], [0, 16], [0, 30]], np.float32)
    reference = make_regions(features, positions)
    # Scores: 0; 1 - weight; and 1 - 30/16 weight, which lies beyond radius 12 + 16.
    for weight, expected in ((0.5, 1), (2.0, 0)):
        chosen = RegionSettings(weight=weight, matches=1)
        allowed = match_regions(query, reference, 12, chosen)
        np.testing.assert_array_equal(np.flatnonzero(allowed[0]), [expected])
    every = match_regions(query, reference, 12, RegionSettings(matches=9))
    np.testing.assert_array_equal(every, [[True, True, False]])


def test_a_frame_matches_itself() -> None:
    chosen = RegionSettings(matches=1)
    regions = cluster_regions(make_key(4, 32, 48), chosen)
    allowed = match_regions(regions, regions, 12, chosen)
    present = regions.sizes > 0
    np.testing.assert_array_equal(allowed[present][:, present], np.eye(present.sum(), dtype=bool))


@settings(max_examples=40)
@given(KEYS, st.floats(0, 4))
def test_enhanced_keys_keep_their_length_and_near_their_region(key: Key, eta: float) -> None:
    key = key + np.sign(key) * np.float32(0.1)
    regions = cluster_regions(key, RegionSettings())
    drawn = enhance(key, regions, eta)
    lengths = np.linalg.norm(key, axis=2)
    mean = regions.features[regions.ids]
    before, after = ((unit(k) * mean).sum(2) for k in (key, drawn))
    opposite = np.linalg.norm(unit(key) + eta * mean, axis=2) < 1e-2
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=2)[~opposite], lengths[~opposite], 1e-3)
    # Two normalisations in float32.
    assert (after - before)[~opposite].min(initial=0) > -1e-4


def test_nothing_is_enhanced_without_weight() -> None:
    key = make_key(5, 20, 20)
    regions = cluster_regions(key, RegionSettings())
    np.testing.assert_allclose(enhance(key, regions, 0), key, rtol=1e-5)
    labels = np.random.default_rng(0).random((20, 20, 3), np.float32)
    np.testing.assert_array_equal(enhance_labels(labels, regions.ids, 0), labels)


@settings(max_examples=40)
@given(KEYS, st.floats(0, 1), st.integers(1, 4))
def test_enhanced_labels_are_mixed_with_their_regions_mean(
    key: Key, eta: float, channels: int
) -> None:
    regions = cluster_regions(key, RegionSettings(step=4, weight=0))
    labels = np.random.default_rng(0).random((*key.shape[:2], channels), np.float32)
    labels /= labels.sum(2, keepdims=True)
    mixed = enhance_labels(labels, regions.ids, eta)
    expected = labels.copy()
    for region in np.unique(regions.ids):
        inside = regions.ids == region
        expected[inside] = (1 - eta) * labels[inside] + eta * labels[inside].mean(0)
    # float32 sums of at most 144 labels.
    np.testing.assert_allclose(mixed, expected, atol=1e-5)
    np.testing.assert_allclose(mixed.sum(2), 1, atol=1e-5)


def test_a_key_without_length_has_regions_too() -> None:
    regions = cluster_regions(np.zeros((12, 12, 4), np.float32), RegionSettings(step=4))
    np.testing.assert_array_equal(regions.ids, number_grid((12, 12), 4))
    assert np.isfinite(enhance(np.zeros((12, 12, 4), np.float32), regions, 0.5)).all()


def test_settings_are_plain_values() -> None:
    assert RegionSettings(**asdict(RegionSettings(step=16))) == RegionSettings(step=16)


@pytest.mark.parametrize(
    "wrong",
    [
        {"step": 0},
        {"iterations": 0},
        {"matches": 0},
        {"weight": -1.0},
        {"weight": float("inf")},
        {"weight": float("nan")},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    expected = f"received {next(iter(wrong))}=.* for RegionSettings; expected a"
    with pytest.raises(BundleError, match=expected):
        replace(RegionSettings(), **wrong)
