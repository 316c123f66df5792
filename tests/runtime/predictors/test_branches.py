"""Two-way prediction: its branches against their formulas, written densely, and its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.oracle import NumpyColumnTotal, NumpyLabelReadout
from vcedge_runtime.memory.bank import MemoryBank
from vcedge_runtime.model.spec import GraphSpec, TensorSpec
from vcedge_runtime.predictors.branches import LabelPropagation, measure_losses
from vcedge_runtime.predictors.reader import TileReader
from vcedge_runtime.propagation.fusion import BidirectionalFusion, JointFusion, weigh_branches
from vcedge_runtime.sampling.regions import (
    RegionSettings,
    cluster_regions,
    enhance,
    enhance_labels,
    match_regions,
)
from vcedge_runtime.sampling.sampling import RegionMatches, Sampling

Array = NDArray[np.float32]
GRID = (9, 10)
CELLS = GRID[0] * GRID[1]
RADIUS = 4
KEY_DIM = 8
REFERENCES = [0, 2]
QUERY = 1
TOLERANCE = 1e-4
"""FP32 softmaxes of logits up to 20 against FP64 ones."""


def spec_of(name: str, inputs: dict[str, str], outputs: dict[str, str]) -> GraphSpec:
    def tensors(given: dict[str, str]) -> tuple[TensorSpec, ...]:
        whole = ("query_index", "key_index", "column_index", "slot_offset")
        return tuple(
            TensorSpec(
                tensor,
                "int64" if tensor in whole else "float32",
                tuple(int(d) if d.isdigit() else d for d in dims.split()),
            )
            for tensor, dims in given.items()
        )

    return GraphSpec(name, tensors(inputs), tensors(outputs))


COMMON = {"query": "h w C", "keys": "S h w C", "slot_offset": "R", "inner": "1"}
READOUT = spec_of(
    "label_readout",
    {
        **COMMON,
        "labels": "S h w L",
        "query_index": "N A",
        "key_index": "N R P",
        "key_bias": "N R P",
        "distance": "A P",
    },
    {"peak": "N R A", "total": "N R A", "values": "N R A L"},
)
COLUMNS = spec_of(
    "column_total",
    {
        **COMMON,
        "column_index": "N A",
        "query_index": "N R P",
        "query_bias": "N R P",
        "distance": "A P",
        "outer": "N R P",
        "delta": "1",
        "column_group": "N R A",
        "query_group": "N R P",
        "reach": "1",
    },
    {"log_total": "N R A"},
)


@dataclass
class Scene:
    """Three frames of which the middle one is predicted, with regions of each."""

    bank: MemoryBank
    regions: list[Any]

    def propagation(self, fusion: Any, tile: int = 4) -> LabelPropagation:
        engines = {
            "label_readout": NumpyLabelReadout(READOUT),
            "column_total": NumpyColumnTotal(COLUMNS),
        }
        reader = TileReader(engines, GRID, RADIUS, 2, tile=tile)
        reader.resize(self.bank.values.shape[-1])
        return LabelPropagation(reader, self.bank, fusion)

    def logits(self, keys: Array) -> NDArray[np.float64]:
        """(R, h * w, h * w) float64 within the window, -inf beyond."""
        rows = keys.reshape(3, CELLS, KEY_DIM).astype(np.float64)
        ys, xs = (axis.reshape(-1) for axis in np.indices(GRID))
        near = np.maximum(*(np.abs(a[:, None] - a[None]) for a in (ys, xs))) <= RADIUS
        products = [rows[QUERY] @ rows[r].T / np.sqrt(KEY_DIM) for r in REFERENCES]
        return np.where(near, np.stack(products), -np.inf)

    def values(self, values: Array) -> NDArray[np.float64]:
        return values[REFERENCES].reshape(2, CELLS, -1).astype(np.float64)


def make_scene(seed: int = 0) -> Scene:
    rng = np.random.default_rng(seed)
    bank = MemoryBank(3, GRID, KEY_DIM, 3, colours=True, enhanced=True)
    bank.keys[:] = 2 * rng.standard_normal(bank.keys.shape, np.float32)
    bank.labels[:] = rng.dirichlet(np.ones(3), (3, *GRID))
    bank.colours[:] = rng.uniform(-1, 1, bank.colours.shape)
    regions = [cluster_regions(key, RegionSettings(step=4)) for key in bank.keys]
    for slot, own in enumerate(regions):
        bank.enhanced_keys[slot] = enhance(bank.keys[slot], own, 0.5)
        bank.enhanced_values[slot] = enhance_labels(bank.values[slot], own.ids, 0.2)
    return Scene(bank, regions)


def joint(weights: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Read (R, P, V) values by (R, Q, P) weights that are made to add up to 1 a row."""
    share = weights / weights.sum(axis=(0, 2), keepdims=True)
    return np.einsum("rqp,rpv->qv", share, values).reshape(*GRID, -1)


def state_branches(scene: Scene) -> dict[str, NDArray[np.float64]]:
    """The three branches as methods have them, without restriction to regions."""
    plain = np.exp(scene.logits(scene.bank.keys))
    enhanced = np.exp(scene.logits(scene.bank.enhanced_keys))
    columns = plain / plain.sum(axis=1, keepdims=True)
    values = scene.values(scene.bank.values)
    return {
        "normal": joint(plain, values),
        "forward": joint(enhanced, scene.values(scene.bank.enhanced_values)),
        "backward": joint(columns, values),
    }


@pytest.mark.parametrize(
    "branches",
    [
        ("normal",),
        ("normal", "forward"),
        ("normal", "backward"),
        ("normal", "forward", "backward"),
    ],
)
def test_branches_are_fused_by_their_photometric_losses(branches: tuple[str, ...]) -> None:
    scene, fusion = make_scene(), BidirectionalFusion(branches=branches)
    found = scene.propagation(fusion).read(QUERY, REFERENCES, Sampling(RADIUS))
    stated = np.stack([state_branches(scene)[branch] for branch in branches])
    distance = np.abs(stated[..., :3] - scene.bank.colours[QUERY])
    losses = np.where(distance < 1, 0.5 * distance**2, distance - 0.5).mean(axis=(1, 2, 3))
    weights = weigh_branches(losses, fusion)
    expected = np.einsum("b,bhwv->hwv", weights, stated)[..., 3:]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)


def test_weights_by_the_cell_favour_the_branch_that_shows_the_cell() -> None:
    scene = make_scene()
    stated = state_branches(scene)
    # The left half looks as the normal branch says, the right as the backward branch does.
    scene.bank.colours[QUERY, :, :5] = stated["normal"][:, :5, :3]
    scene.bank.colours[QUERY, :, 5:] = stated["backward"][:, 5:, :3]
    fusion = BidirectionalFusion(branches=("normal", "backward"), weights="pixel")
    found = scene.propagation(fusion).read(QUERY, REFERENCES, Sampling(RADIUS))
    for columns, branch in ((slice(0, 2), "normal"), (slice(8, 10), "backward")):
        near, far = (
            stated[b][:, columns, 3:] for b in (branch, *({"normal", "backward"} - {branch}))
        )
        expected = 0.9 / 0.95 * near + 0.05 / 0.95 * far
        np.testing.assert_allclose(found[:, columns], expected, atol=TOLERANCE)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_a_column_weight_is_how_much_of_the_column_sums_is_divided_by(weight: float) -> None:
    scene = make_scene()
    found = scene.propagation(JointFusion(weight)).read(QUERY, REFERENCES, Sampling(RADIUS))
    logits = scene.logits(scene.bank.keys)
    totals = np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = joint(np.exp(logits - weight * totals), scene.values(scene.bank.values))
    np.testing.assert_allclose(found, expected[..., 3:], atol=TOLERANCE)


def test_the_plain_backward_branch_without_regions_is_the_normal_one() -> None:
    scene = make_scene()
    both = BidirectionalFusion(branches=("normal", "backward"), backward="plain")
    found, expected = (
        scene.propagation(fusion).read(QUERY, REFERENCES, Sampling(RADIUS))
        for fusion in (both, JointFusion())
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("backward", ["column", "plain"])
def test_without_any_match_every_branch_is_the_normal_one(backward: str) -> None:
    scene, fusion = make_scene(), BidirectionalFusion(backward=backward)
    count = len(scene.regions[0].sizes)
    ids = [scene.regions[slot].ids for slot in (QUERY, *REFERENCES)]
    matches = RegionMatches([np.zeros((count, count), bool)] * 2, ids[0], ids[1:])
    found = scene.propagation(fusion).read(QUERY, REFERENCES, Sampling(RADIUS, matches=matches))
    plain = scene.propagation(JointFusion()).read(QUERY, REFERENCES, Sampling(RADIUS))
    np.testing.assert_allclose(found, plain, atol=1e-6)


def test_regions_that_match_restrict_all_but_the_normal_branch() -> None:
    scene, settings = make_scene(), RegionSettings(step=4, matches=1)
    regions = scene.regions
    allowed = [match_regions(regions[QUERY], regions[r], RADIUS, settings) for r in REFERENCES]
    matches = RegionMatches(allowed, regions[QUERY].ids, [regions[r].ids for r in REFERENCES])
    sampling = Sampling(RADIUS, matches=matches)
    fusion = BidirectionalFusion(branches=("normal", "backward"), backward="plain")
    found = scene.propagation(fusion).read(QUERY, REFERENCES, sampling)
    logits = scene.logits(scene.bank.keys)
    query_ids = regions[QUERY].ids.reshape(-1)
    may = np.stack(
        [
            a[query_ids][:, regions[r].ids.reshape(-1)]
            for a, r in zip(allowed, REFERENCES, strict=True)
        ]
    )
    values = scene.values(scene.bank.values)
    normal = joint(np.exp(logits), values)
    restricted = np.where(may, np.exp(logits), 0)
    lonely = restricted.sum(axis=(0, 2)) == 0
    restricted[:, lonely] = np.exp(logits)[:, lonely]
    branches = np.stack([normal, joint(restricted, values)])
    losses = measure_losses(branches[..., :3].astype(np.float32), scene.bank.colours[QUERY])
    weights = weigh_branches(losses.mean(axis=(1, 2)).astype(np.float64), fusion)
    expected = np.einsum("b,bhwv->hwv", weights, branches)[..., 3:]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def match_scene(scene: Scene) -> RegionMatches:
    """The matches of the scene's own regions, one of each reference."""
    regions, settings = scene.regions, RegionSettings(step=4, matches=1)
    allowed = [match_regions(regions[QUERY], regions[r], RADIUS, settings) for r in REFERENCES]
    return RegionMatches(allowed, regions[QUERY].ids, [regions[r].ids for r in REFERENCES])


@pytest.mark.parametrize("backward", ["plain", "column"])
def test_the_backward_branch_has_regions_of_its_own_whatever_the_sampler(backward: str) -> None:
    scene = make_scene()
    matches = match_scene(scene)
    branches = ("normal", "backward")
    own = BidirectionalFusion(branches=branches, backward=backward, candidates="regions")
    plain = BidirectionalFusion(branches=branches, backward=backward)
    free, bound = Sampling(RADIUS, regions=matches), Sampling(RADIUS, matches=matches)
    found = scene.propagation(own).read(QUERY, REFERENCES, free)
    # As if the sampler had the regions: the normal branch never has.
    expected = scene.propagation(plain).read(QUERY, REFERENCES, bound)
    np.testing.assert_array_equal(found, expected)
    without = scene.propagation(plain).read(QUERY, REFERENCES, free)
    assert np.abs(found - without).max() > 1e-3


def test_the_forward_branch_smooths_what_it_predicts_within_the_querys_regions() -> None:
    scene = make_scene()
    # Memory is read as it is; its keys are enhanced.
    scene.bank.enhanced_values[:] = scene.bank.values
    fusion = BidirectionalFusion(
        branches=("normal", "forward"), enhanced="query", eta_labels=0.3, least=1 / 3, most=1 / 3
    )
    sampling = Sampling(RADIUS, regions=match_scene(scene))
    found = scene.propagation(fusion).read(QUERY, REFERENCES, sampling)
    values = scene.values(scene.bank.values)
    normal = joint(np.exp(scene.logits(scene.bank.keys)), values)[..., 3:]
    forward = joint(np.exp(scene.logits(scene.bank.enhanced_keys)), values)[..., 3:]
    ids = scene.regions[QUERY].ids
    smooth = forward.copy()
    for region in np.unique(ids):
        smooth[ids == region] = 0.7 * forward[ids == region] + 0.3 * forward[ids == region].mean(0)
    np.testing.assert_allclose(found, (normal + smooth) / 2, atol=TOLERANCE)


def test_cells_without_an_object_in_sight_have_no_say_in_the_weights() -> None:
    scene = make_scene()
    scene.bank.labels[..., 1:], scene.bank.labels[..., 0] = 0, 1
    scene.bank.labels[:, :4, :4] = [0, 1, 0]
    scene.bank.enhanced_values[..., 3:] = scene.bank.labels
    fusion = replace(BidirectionalFusion(), branches=("normal", "backward"))
    found = []
    for value in (0.0, 0.9):
        # What is far from the object changes its colours alone.
        scene.bank.colours[QUERY, :, 9:] = value
        found.append(scene.propagation(fusion).read(QUERY, REFERENCES, Sampling(RADIUS)))
    np.testing.assert_array_equal(*found)
    assert found[0][..., 1].max() > 0.5


def test_losses_are_smooth_near_0_and_linear_beyond_1() -> None:
    found = np.zeros((3, 1, 1, 3), np.float32)
    found[1], found[2] = 0.5, 2
    losses = measure_losses(found, np.zeros((1, 1, 3), np.float32))
    np.testing.assert_allclose(losses[:, 0, 0], [0, 0.125, 1.5])
