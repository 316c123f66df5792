"""Clusters: regions grow as a plain search grows them, and radii follow them."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from vcedge_runtime.errors import BundleError, EngineError
from vcedge_runtime.sampling.clusters import ClusterSettings, cluster_windows, grow_region

Key = NDArray[np.float32]
SEEDS = st.integers(0, 2**32 - 1)
THETAS = st.floats(-0.9, 0.95)


def make_key(seed: int, height: int, width: int, channels: int = 8) -> Key:
    """Make smooth features, so that clusters are regions."""
    noise = np.random.default_rng(seed).normal(size=(height, width, channels))
    smooth = cv2.blur(noise.astype(np.float32), (5, 5))
    return np.asarray(smooth, np.float32).reshape(height, width, channels)


KEYS = st.builds(make_key, SEEDS, st.integers(1, 24), st.integers(1, 24))


def make_halves(width: int = 40) -> Key:
    """Make a key of two flat halves."""
    key = np.zeros((20, width, 4), np.float32)
    key[:, : width // 2, 0] = 3
    key[:, width // 2 :, 1] = 5
    return key


def search_region(similarity: Key, seed: tuple[int, int], theta: float) -> NDArray[np.bool_]:
    """Grow a region plainly, breadth first (MER, section 3.4)."""
    grown = np.zeros(similarity.shape, bool)
    queue = deque([seed])
    while queue:
        y, x = queue.popleft()
        inside = 0 <= y < similarity.shape[0] and 0 <= x < similarity.shape[1]
        if inside and not grown[y, x] and similarity[y, x] > theta:
            grown[y, x] = True
            queue.extend([(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)])
    return grown


@st.composite
def similarities(draw: st.DrawFn) -> tuple[Key, tuple[int, int]]:
    """Draw a map of few values, so that thresholds are met exactly, and a seed in it."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    values = st.sampled_from([np.float32(v) for v in (-0.5, 0.25, 0.5, 0.75)])
    similarity = draw(hnp.arrays(np.float32, shape, elements=values))
    return similarity, (draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1)))


@given(similarities(), st.sampled_from([-0.5, 0.25, 0.3, 0.5, 0.75]))
def test_a_region_is_what_breadth_first_search_grows(
    given_map: tuple[Key, tuple[int, int]], theta: float
) -> None:
    similarity, seed = given_map
    found = grow_region(similarity, seed, theta)
    np.testing.assert_array_equal(found, search_region(similarity, seed, theta))


@given(similarities(), THETAS, THETAS)
def test_a_region_shrinks_as_theta_rises(
    given_map: tuple[Key, tuple[int, int]], first: float, second: float
) -> None:
    similarity, seed = given_map
    wide = grow_region(similarity, seed, min(first, second))
    narrow = grow_region(similarity, seed, max(first, second))
    assert not (narrow & ~wide).any()


@settings(max_examples=40)
@given(KEYS, THETAS, THETAS, st.booleans())
def test_windows_widen_as_theta_rises(key: Key, first: float, second: float, centre: bool) -> None:
    low, high = (
        cluster_windows([key], ClusterSettings(theta=theta, centre=centre), radius=12)
        for theta in sorted([first, second])
    )
    assert not (high.grown & ~low.grown).any()
    assert (high.outer >= low.outer).all()
    assert high.size_origin == low.size_origin


@settings(max_examples=60)
@given(KEYS, st.integers(1, 14), st.integers(3, 12), st.integers(1, 7), st.booleans())
def test_radii_are_whole_and_within_their_bounds(
    key: Key, radius: int, radius_max: int, clusters: int, centre: bool
) -> None:
    chosen = ClusterSettings(clusters=clusters, radius_max=radius_max, centre=centre)
    windows = cluster_windows([key], chosen, radius)
    widest = min(radius, radius_max)
    assert min(3, widest) <= windows.size_origin <= widest
    assert windows.outer.shape == windows.ids[0].shape == windows.grown.shape == key.shape[:2]
    assert windows.outer.dtype == np.float32
    assert windows.outer.min() >= min(2, widest)
    assert windows.outer.max() <= widest
    np.testing.assert_array_equal(windows.outer, np.rint(windows.outer))
    assert windows.ids[0].min() >= 0
    assert windows.ids[0].max() < clusters


def test_the_first_radius_is_the_mean_distance_to_the_clusters_own_centroids() -> None:
    windows = cluster_windows([make_halves()], ClusterSettings(clusters=2, radius_max=30), 30)
    ys, xs = np.indices((20, 20))
    # Two squares of 20 cells: the mean distance of a cell to the middle of its square (eq. 13).
    assert windows.size_origin == np.rint(np.hypot(ys - 9.5, xs - 9.5).mean())


def test_cells_like_their_cluster_look_near_and_others_far() -> None:
    key = make_halves()
    key[3, 3] = [0, 0, 9, 0]
    windows = cluster_windows([key], ClusterSettings(clusters=2, radius_max=12), 12)
    assert windows.size_origin == 8
    # Cosine about 1 to its cluster: half of 8; in no cluster: half more than 8.
    assert windows.outer[3, 3] == 12
    assert not windows.grown[3, 3]
    assert set(np.unique(np.delete(windows.outer.reshape(-1), 3 * 40 + 3))) == {4}


def test_a_piece_apart_from_the_seed_of_its_cluster_is_not_reached() -> None:
    key = make_halves()
    key[:, 30:] = key[0, 0]
    key[:, 30] = [0, 0, 4, 0]
    windows = cluster_windows([key], ClusterSettings(clusters=3), 12)
    same = windows.ids[0] == windows.ids[0][0, 0]
    assert windows.grown[:, :20].all()
    assert windows.grown[same].any()
    assert not windows.grown[:, 31:][same[:, 31:]].any()


@settings(max_examples=20)
@given(KEYS)
def test_the_same_key_has_the_same_windows(key: Key) -> None:
    first, second = (cluster_windows([key], ClusterSettings(), 12) for _ in range(2))
    np.testing.assert_array_equal(first.outer, second.outer)
    np.testing.assert_array_equal(first.centres, second.centres)


def test_the_length_of_a_key_does_not_matter() -> None:
    key = make_key(1, 20, 30)
    first, second = (cluster_windows([k], ClusterSettings(), 12) for k in (key, 16 * key))
    # A power of two: only the guard against length 0 rounds differently.
    assert (first.ids[0] == second.ids[0]).mean() > 0.99
    assert first.size_origin == second.size_origin


def test_opencvs_random_numbers_are_left_as_they_were() -> None:
    key, drawn = make_key(2, 20, 30), []
    for between in (False, True):
        cv2.setRNGSeed(5)
        if between:
            cluster_windows([key], ClusterSettings(), 12)
        drawn.append(cv2.randu(np.zeros((4, 4), np.uint8), 0, 255))
    np.testing.assert_array_equal(*drawn)


def test_a_still_video_keeps_its_clusters_when_they_begin_where_they_were() -> None:
    key, chosen = make_key(3, 24, 32), ClusterSettings(clusters=3, iterations=100)
    first = cluster_windows([key], chosen, 12)
    second = cluster_windows([key], chosen, 12, first.centres)
    np.testing.assert_array_equal(second.ids[0], first.ids[0])
    np.testing.assert_array_equal(second.outer, first.outer)


def test_a_frame_is_clustered_together_with_its_references() -> None:
    halves, chosen = make_halves(), ClusterSettings(clusters=2)
    mirrored, mixed = halves[:, ::-1].copy(), halves.copy()
    mixed[4:9, 4:9] = halves[0, -1]
    windows = cluster_windows([halves, mirrored, mixed], chosen, 12)
    own, there, third = windows.ids
    # What looks alike is of one cluster, wherever it is.
    np.testing.assert_array_equal(there, own[:, ::-1])
    assert (third[4:9, 4:9] == own[0, -1]).all()
    np.testing.assert_array_equal(third[:, 20:], own[:, 20:])


def test_centres_of_other_settings_are_not_begun_from() -> None:
    key = make_key(3, 24, 32)
    others = cluster_windows([key], ClusterSettings(clusters=3), 12).centres
    found = cluster_windows([key], ClusterSettings(), 12, others)
    np.testing.assert_array_equal(found.outer, cluster_windows([key], ClusterSettings(), 12).outer)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("centre", [False, True])
def test_a_flat_key_has_finite_windows(value: float, centre: bool) -> None:
    key = np.full((9, 11, 4), value, np.float32)
    windows = cluster_windows([key], ClusterSettings(centre=centre), 12)
    assert np.isfinite(windows.outer).all()
    assert np.isfinite(windows.centres).all()


def test_few_samples_still_cluster_every_cell() -> None:
    windows = cluster_windows([make_halves()], ClusterSettings(clusters=2, samples=20), 12)
    np.testing.assert_array_equal(windows.ids[0][:, :20], windows.ids[0][0, 0])
    np.testing.assert_array_equal(windows.ids[0][:, 20:], 1 - windows.ids[0][0, 0])


def test_settings_are_plain_values() -> None:
    assert ClusterSettings(**asdict(ClusterSettings(theta=0.5))) == ClusterSettings(theta=0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"clusters": 0},
        {"samples": 0},
        {"iterations": 0},
        {"theta": 1.0},
        {"theta": float("nan")},
        {"delta": -0.1},
        {"radius_min": 1},
        {"radius_max": 2},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BundleError, match=f"received .*{next(iter(wrong))}=.*; expected a"):
        replace(ClusterSettings(), **wrong)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_key_that_is_not_finite_is_refused(value: float) -> None:
    key = make_key(0, 12, 16)
    key[3, 4, 5] = value
    with pytest.raises(EngineError, match="a key that is not finite"):
        cluster_windows([key], ClusterSettings(), 8)
