"""The composition of a model: any memory with any sampler and fusion, as plain data."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from vcedge_runtime.errors import BundleError
from vcedge_runtime.memory.dynamic import DynamicPolicy
from vcedge_runtime.memory.references import ReferencePolicy
from vcedge_runtime.model.composition import (
    KINDS,
    LABEL_PARTS,
    Composition,
    kind_of,
    part_from_text,
)
from vcedge_runtime.model.object_composition import ObjectComposition
from vcedge_runtime.model.presets import PRESETS
from vcedge_runtime.propagation.fusion import BidirectionalFusion, JointFusion, VoteFusion
from vcedge_runtime.sampling.alignment import AlignmentSettings, NoAlignment
from vcedge_runtime.sampling.clusters import ClusterSettings

PLAIN = Composition(8, 64, 480)
OBJECTS = ObjectComposition(16, 64, 128, 480)


@pytest.mark.parametrize("kinds", [*product(*(KINDS[part] for part in LABEL_PARTS))])
def test_every_combination_is_written_and_read_back(kinds: tuple[str, ...]) -> None:
    parts = PLAIN.exchange(**dict(zip(LABEL_PARTS, kinds, strict=True)))
    assert tuple(kind_of(part, getattr(parts, part)) for part in LABEL_PARTS) == kinds
    assert Composition.from_json(json.loads(json.dumps(parts.to_json()))) == parts


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_has_nothing_that_is_ours_and_others_come_before_it(preset: str) -> None:
    found = replace(PLAIN, alignment=AlignmentSettings()).exchange(preset=preset)
    assert found.alignment == NoAlignment()
    assert not found.edges
    assert found.exchange(preset=preset) == found
    own = PLAIN.exchange(preset=preset, edges=True, fusion="joint", memory=None)
    assert (own.edges, own.fusion) == (True, JointFusion())
    assert own.memory == found.memory


def test_the_presets_are_what_the_papers_print() -> None:
    mer, dmp = (PLAIN.exchange(preset=name) for name in PRESETS)
    assert mer.memory == ReferencePolicy((0, 5), (5, 3, 1))
    assert mer.fusion == VoteFusion()
    assert isinstance(mer.sampler, ClusterSettings)
    assert (mer.sampler.clusters, mer.sampler.theta, mer.sampler.reach) == (5, 0.45, 24)
    assert (mer.motion, mer.value_extraction, mer.value_frames) == (True, True, "target")
    assert isinstance(dmp.memory, DynamicPolicy)
    assert (dmp.memory.beta, dmp.memory.gamma) == (0.15, 0.85)
    assert isinstance(dmp.fusion, BidirectionalFusion)
    assert (dmp.fusion.candidates, dmp.fusion.enhanced) == ("regions", "query")
    assert kind_of("sampler", dmp.sampler) == "regions"


@pytest.mark.parametrize("name", ["mer", "", 3, {"kind": "mer"}])
def test_a_preset_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises(BundleError, match=r"received preset .*; expected one of mer-as-printed, "):
        PLAIN.exchange(preset=name)
    with pytest.raises(BundleError, match="received preset for a model that segments"):
        OBJECTS.exchange(preset="mer-as-printed")


@pytest.mark.parametrize(
    ("part", "value"), [("flow_scale", "pixels"), ("value_frames", "all"), ("flow_scale", 3)]
)
def test_a_way_that_is_none_is_refused(part: str, value: Any) -> None:
    with pytest.raises(BundleError, match=f"received {part}=.*; expected one of"):
        PLAIN.exchange(**{part: value})


def test_a_manifest_of_before_names_no_ways_and_means_the_ones_there_were() -> None:
    written = PLAIN.to_json()
    del written["flow_scale"], written["value_frames"]
    assert Composition.from_json(written) == PLAIN
    assert (PLAIN.flow_scale, PLAIN.value_frames) == ("side", "own")
    new = replace(PLAIN, flow_scale="cell", value_frames="target")
    assert Composition.from_json(new.to_json()) == new


def test_settings_are_kept_by_name_and_by_value() -> None:
    own = ReferencePolicy((0, 9), (1, 4))
    parts = PLAIN.exchange(memory=own, sampler=ClusterSettings(clusters=3))
    assert parts.exchange(memory="references", sampler="clusters") == parts
    assert parts.exchange(memory="dynamic").memory == DynamicPolicy()
    assert parts.exchange() == parts
    fusion = BidirectionalFusion(branches=("normal", "backward"), weights="pixel")
    again = Composition.from_json(json.loads(json.dumps(parts.exchange(fusion=fusion).to_json())))
    assert again.fusion == fusion
    assert again.memory == own


@pytest.mark.parametrize(
    ("part", "value", "expected"),
    [
        ("memory", "dynamic:short=3", DynamicPolicy(short=3)),
        ("memory", {"kind": "dynamic", "short": 3}, DynamicPolicy(short=3)),
        ("memory", DynamicPolicy(short=3), DynamicPolicy(short=3)),
        ("alignment", "none", NoAlignment()),
        ("edges", "off", False),
        ("motion", "True", True),
        ("value_extraction", np.bool_(True), True),
    ],
)
def test_a_part_may_be_text_settings_or_a_plain_value(
    part: str, value: object, expected: object
) -> None:
    assert PLAIN.exchange(**{part: value}) == replace(PLAIN, **{part: expected})


def test_settings_that_are_not_named_have_their_defaults() -> None:
    own = PLAIN.exchange(memory="dynamic:short=3,long=1")
    assert own.exchange(memory="dynamic").memory == DynamicPolicy(short=3, long=1)
    assert own.exchange(memory="dynamic:").memory == DynamicPolicy()
    assert own.exchange(memory="dynamic:long=2").memory == DynamicPolicy(long=2)


@pytest.mark.parametrize(
    ("composition", "foreign", "message"),
    [
        (PLAIN, {"local": "raw"}, "received local for a model that propagates labels"),
        (OBJECTS, {"sampler": "window"}, "received sampler for a model that segments each object"),
        (PLAIN, {"stride": 4}, "received stride for"),
        (OBJECTS, {"top_k": 4}, "received top_k for"),
    ],
)
def test_a_part_that_a_model_lacks_is_refused(
    composition: Composition | ObjectComposition, foreign: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        composition.exchange(**foreign)
    assert composition.exchange(**dict.fromkeys(foreign)) == composition


def test_a_part_of_another_sort_is_refused() -> None:
    with pytest.raises(BundleError, match=r"received sampler=DynamicPolicy.* expected WindowSetti"):
        PLAIN.exchange(sampler=DynamicPolicy())
    with pytest.raises(BundleError, match=r"received local='near' for .*; expected one of fam"):
        OBJECTS.exchange(local="near")
    with pytest.raises(
        BundleError, match=r"received interval='1\.5' for .* a whole number, 1 to 64"
    ):
        OBJECTS.exchange(interval="1.5")


def test_an_unknown_kind_lists_the_known_ones() -> None:
    with pytest.raises(BundleError, match="received fusion 'average'; expected one of joint, mean"):
        PLAIN.exchange(fusion="average")


@pytest.mark.parametrize(
    ("fusion", "needed"),
    [
        (JointFusion(), False),
        (JointFusion(0.5), True),
        (VoteFusion(), False),
        (BidirectionalFusion(), True),
        (BidirectionalFusion(backward="plain"), False),
        (BidirectionalFusion(column_weight=0), False),
        (BidirectionalFusion(branches=("normal", "forward")), False),
    ],
)
def test_graphs_are_those_that_will_run(fusion: object, needed: bool) -> None:
    graphs = PLAIN.exchange(fusion=fusion).graphs  # type: ignore[arg-type]
    assert ("column_total" in graphs) == needed
    assert {"encoder", "label_readout"} <= graphs
    assert "value_extraction" in Composition(8, 64, 480, value_extraction=True).graphs


@pytest.mark.parametrize(
    "settings",
    [
        {"branches": ("forward",)},
        {"branches": ("normal", "sideways")},
        {"weights": "cell"},
        {"backward": "both"},
        {"column_weight": 1.5},
        {"eta": -0.1},
        {"eta_labels": 1.1},
        {"epsilon": 0.0},
        {"least": 0.5},
        {"most": 0.2},
    ],
)
def test_two_way_prediction_that_cannot_be_is_refused(settings: dict[str, object]) -> None:
    expected = f"received {next(iter(settings))}=.*; expected"
    with pytest.raises(BundleError, match=expected):
        BidirectionalFusion(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("part", "text", "expected"),
    [
        ("memory", "dynamic", DynamicPolicy()),
        ("memory", "references:", ReferencePolicy()),
        ("memory", "references:long=[0,5],short=[8,1]", ReferencePolicy((0, 5), (8, 1))),
        (
            "memory",
            "dynamic:short=3,prune_short=fifo,adaptive=true",
            DynamicPolicy(short=3, prune_short="fifo", adaptive=True),
        ),
        ("memory", "dynamic:adaptive=False", DynamicPolicy(adaptive=False)),
        ("memory", "dynamic: short = 3, adaptive = on", DynamicPolicy(short=3, adaptive=True)),
        (
            "fusion",
            "bidirectional:branches=[normal, backward],eta=1",
            BidirectionalFusion(("normal", "backward"), eta=1.0),
        ),
        ("fusion", "joint:column_weight=0.5", JointFusion(0.5)),
    ],
)
def test_a_part_is_read_as_a_user_writes_it(part: str, text: str, expected: object) -> None:
    assert part_from_text(part, text) == expected


@pytest.mark.parametrize(
    ("part", "text", "message"),
    [
        ("memory", "elastic", "expected one of references, dynamic"),
        ("memory", "dynamic:shrt=3", "'shrt=3' for memory dynamic; expected .*short"),
        ("memory", "dynamic:short", "expected setting=value"),
        (
            "memory",
            "dynamic:short=few",
            "short='few' for DynamicPolicy; expected a whole number",
        ),
        ("memory", "dynamic:short=0", "received short=0 for"),
        ("memory", "dynamic:short=3.5", "received short='3.5' for"),
        ("memory", "local_global:every=2.5", "received every='2.5' for"),
        ("memory", "references:short=[5,3.5,1]", "expected a list of 1 to 32, each a whole"),
        ("alignment", "objects:reach=1000000", "expected a whole number, 1 to 256"),
        ("alignment", "objects:spread=1e308", "expected a number, 0.1 to 10000"),
        ("sampler", "clusters:theta=nan", "expected a number, -0.999 to 0.999"),
        ("alignment", "none:reach=3", "it has no settings"),
    ],
)
def test_a_part_that_cannot_be_read_says_why(part: str, text: str, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        part_from_text(part, text)


@pytest.mark.parametrize("column_weight", [-0.1, 1.1])
def test_a_column_weight_is_a_share(column_weight: float) -> None:
    with pytest.raises(BundleError, match=r"received column_weight=.*; expected a number, 0 to 1"):
        JointFusion(column_weight)
