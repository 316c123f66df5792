"""Samplers: what each says of a frame, what it keeps, and what a failed frame leaves."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge_runtime.sampling.clusters import ClusterSettings, cluster_windows
from vcedge_runtime.sampling.regions import RegionSettings, cluster_regions, match_regions
from vcedge_runtime.sampling.sampling import (
    ClusterSampler,
    RegionSampler,
    Sampler,
    SamplerSettings,
    WindowSampler,
    WindowSettings,
    open_sampler,
)

GRID = (14, 18)
KEY_DIM = 8
RADIUS = 6
ALL = pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (WindowSettings(), WindowSampler),
        (ClusterSettings(clusters=3), ClusterSampler),
        (RegionSettings(step=5), RegionSampler),
    ],
)


def make_keys(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Keys that are smooth in space: one of four directions for each quarter, and some noise."""
    rng = np.random.default_rng(seed)
    quarters = rng.standard_normal((2, 2, KEY_DIM), np.float32)
    smooth = np.kron(quarters, np.ones((7, 9, 1), np.float32))
    noise = rng.standard_normal((count, *GRID, KEY_DIM), np.float32)
    return smooth + np.float32(0.3) * noise


def bytes_held(sampler: Sampler) -> int:
    arrays = [value for value in vars(sampler).values() if isinstance(value, np.ndarray)]
    owners = {
        id(a if a.base is None else a.base): a.base if a.base is not None else a for a in arrays
    }
    return sum(array.nbytes for array in owners.values())


@ALL
def test_settings_choose_the_sampler_and_its_bytes_are_what_it_holds(
    settings: SamplerSettings, kind: type[Sampler]
) -> None:
    sampler = open_sampler(settings, RADIUS, 4, GRID, KEY_DIM)
    assert type(sampler) is kind
    before = sampler.nbytes
    assert before == bytes_held(sampler)
    keys = make_keys(4)
    for slot, key in enumerate(keys):
        sampler.look(slot, key)
        sampling = sampler.sample(slot, [0, slot], keys)
        sampler.keep()
        assert sampling.inner <= RADIUS
    assert sampler.nbytes == before == bytes_held(sampler)


def test_a_window_is_the_radius_and_nothing_else() -> None:
    found = open_sampler(WindowSettings(), RADIUS, 4, GRID, KEY_DIM).sample(0, [1], make_keys(2))
    assert (found.inner, found.outer, found.delta, found.matches) == (RADIUS, None, 0, None)


def test_clusters_give_two_windows_that_begin_where_the_frame_before_ended() -> None:
    settings, keys = ClusterSettings(clusters=3), make_keys(3)
    sampler, centres = open_sampler(settings, RADIUS, 4, GRID, KEY_DIM), None
    for slot, key in enumerate(keys):
        sampler.look(slot, key)
        found, expected = (
            sampler.sample(slot, [0], keys),
            cluster_windows([key, keys[0]], settings, RADIUS, centres),
        )
        sampler.keep()
        centres = expected.centres
        assert (found.inner, found.delta) == (expected.size_origin, settings.delta)
        np.testing.assert_array_equal(found.outer, expected.outer)
        groups = found.groups
        assert groups is not None
        assert groups.reach == settings.reach
        np.testing.assert_array_equal(groups.query_ids, expected.ids[0])
        np.testing.assert_array_equal(groups.key_ids, expected.ids[1:])


def test_a_frame_that_is_not_kept_leaves_no_trace_in_the_clusters() -> None:
    settings, keys = ClusterSettings(clusters=3), make_keys(3)
    found = []
    for fails in (False, True):
        sampler = open_sampler(settings, RADIUS, 4, GRID, KEY_DIM)
        sampler.sample(0, [0], keys)
        sampler.keep()
        if fails:
            sampler.sample(1, [0], np.ascontiguousarray(keys[:, ::-1]))
        found.append(sampler.sample(2, [0], keys).outer)
    np.testing.assert_array_equal(*found)


def test_regions_are_kept_by_slot_and_matched_in_the_order_of_the_references() -> None:
    settings, keys = RegionSettings(step=5, matches=2), make_keys(3)
    sampler = RegionSampler(settings, RADIUS, 3, GRID, KEY_DIM)
    for slot, key in enumerate(keys):
        sampler.look(slot, key)
    matches = sampler.sample(2, [1, 0], keys).matches
    assert matches is not None
    regions = [cluster_regions(key, settings) for key in keys]
    np.testing.assert_array_equal(matches.query_ids, regions[2].ids)
    for place, slot in enumerate((1, 0)):
        np.testing.assert_array_equal(matches.key_ids[place], regions[slot].ids)
        expected = match_regions(regions[2], regions[slot], RADIUS, settings)
        np.testing.assert_array_equal(matches.allowed[place], expected)
    assert sampler.sample(2, [1], keys).unmatched.matches is None
