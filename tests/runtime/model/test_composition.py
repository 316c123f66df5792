"""The composition of a model: any memory with any sampler and fusion, as plain data."""

from __future__ import annotations

import json
from itertools import product

import pytest

from vcedge_runtime.errors import BundleError
from vcedge_runtime.memory.dynamic import DynamicPolicy
from vcedge_runtime.memory.references import ReferencePolicy
from vcedge_runtime.model.composition import KINDS, Composition, kind_of, part_from_text
from vcedge_runtime.propagation.fusion import BidirectionalFusion, JointFusion, VoteFusion
from vcedge_runtime.sampling.clusters import ClusterSettings

PLAIN = Composition(8, 64, 480)


@pytest.mark.parametrize("kinds", [*product(*KINDS.values())])
def test_every_combination_is_written_and_read_back(kinds: tuple[str, ...]) -> None:
    parts = PLAIN.exchange(**dict(zip(KINDS, kinds, strict=True)))
    assert tuple(kind_of(part, getattr(parts, part)) for part in KINDS) == kinds
    assert Composition.from_json(json.loads(json.dumps(parts.to_json()))) == parts


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
