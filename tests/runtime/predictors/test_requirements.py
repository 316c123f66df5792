"""Which graphs a composition runs, of those that a bundle has."""

from __future__ import annotations

from typing import Any

import pytest

from vcedge_runtime.errors import TrackerError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.predictors.requirements import choose_graphs
from vcedge_runtime.tracker import Tracker


@pytest.mark.parametrize(
    ("parts", "reads"),
    [
        ({}, ["joint_readout"]),
        ({"memory": "dynamic"}, ["joint_readout"]),
        ({"fusion": "vote"}, ["label_readout"]),
        ({"fusion": "joint:column_weight=0.5"}, ["label_readout", "column_total"]),
        ({"sampler": "clusters"}, ["label_readout", "cluster_readout"]),
        ({"sampler": "regions"}, ["label_readout"]),
        ({"fusion": "bidirectional"}, ["label_readout", "column_total"]),
    ],
    ids=str,
)
def test_a_composition_runs_the_graphs_that_it_needs(
    tiny_bundle: Bundle, parts: dict[str, Any], reads: list[str]
) -> None:
    composition = tiny_bundle.tracking.exchange(**parts)
    assert choose_graphs(composition, tiny_bundle.graphs) == {"encoder", *reads}
    before = set(tiny_bundle.graphs) - {"joint_readout"}
    assert choose_graphs(composition, before) == composition.graphs
    with Tracker.open(tiny_bundle, overrides=parts, threads=1, backend="cpu") as tracker:
        assert set(tracker.engines) == {"encoder", *reads}


def test_a_bundle_without_either_readout_is_refused(tiny_bundle: Bundle) -> None:
    from dataclasses import replace

    lacking = replace(
        tiny_bundle, graphs={n: g for n, g in tiny_bundle.graphs.items() if "readout" not in n}
    )
    with pytest.raises(TrackerError, match=r"expected also \['label_readout'\]"):
        Tracker.open(lacking, threads=1, backend="cpu")
