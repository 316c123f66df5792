"""Which run-time part an export has: the user's choice, else the method's, else the kind's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vcedge.models.weights import load_weights, shipped_weights
from vcedge.training.dmp import DmpObjective
from vcedge.training.mer import MerObjective
from vcedge_export.bundle import facts_as_exported
from vcedge_export.plan import ExportOptions, Int8Settings
from vcedge_export.planning import compose, plan_bundle
from vcedge_runtime.errors import BundleError
from vcedge_runtime.memory.dynamic import DynamicPolicy
from vcedge_runtime.memory.local_global import LocalGlobalPolicy
from vcedge_runtime.memory.references import ReferencePolicy
from vcedge_runtime.model.bundle import Bundle, shipped_models, shipped_prompt_models
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.presets import PRESETS

MEASURED = {
    "mer-paper": (240, ReferencePolicy(short=(8, 5, 3, 2, 1))),
    "dmp-paper": (240, DynamicPolicy(beta=0.2, gamma=0.75)),
    "base-edge": (480, ReferencePolicy()),
    "dmp-edge": (480, DynamicPolicy(beta=0.2, gamma=0.75, long_probe="single")),
    "srnet-edge": (480, LocalGlobalPolicy()),
}
"""Size and memory of the weights that come without a bundle, as their cards say that they were
measured."""
QUANTISED = {"srnet-lite-int8": "srnet-lite"}
"""Bundles in INT8, and the one in FP32 of the same weights."""


@pytest.mark.parametrize("name", shipped_weights())
def test_what_is_exported_is_composed_as_what_is_shipped(name: str) -> None:
    weights = load_weights(name)
    composition = compose(weights, ExportOptions())
    if name in MEASURED:
        assert (composition.size, composition.memory) == MEASURED[name]
        return
    shipped = Bundle.open(name)
    assert composition.to_json() == shipped.composition.to_json()
    assert facts_as_exported(weights, composition, ExportOptions()) == shipped.weights


def test_every_shipped_bundle_and_all_weights_are_compared() -> None:
    assert set(shipped_weights()) | set(QUANTISED) == {
        *shipped_models(),
        *shipped_prompt_models(),
        *MEASURED,
    }


@pytest.mark.parametrize(("name", "origin"), QUANTISED.items())
def test_a_bundle_in_int8_is_the_one_in_fp32_but_for_its_layers(name: str, origin: str) -> None:
    lowered, whole = Bundle.open(name), Bundle.open(origin)
    assert (lowered.precision, whole.precision) == ("int8", "fp32")
    assert lowered.composition == whole.composition
    specs = [{n: graph.spec for n, graph in each.graphs.items()} for each in (lowered, whole)]
    assert specs[0] == specs[1]
    facts = [
        {k: v for k, v in each.weights.items() if k != "accuracy"} for each in (lowered, whole)
    ]
    assert facts[0] == facts[1]
    assert lowered.verification["passes"]


@pytest.mark.parametrize("objective", [MerObjective, DmpObjective])
def test_what_training_delivers_is_composed_as_its_method(objective: Any) -> None:
    shipped = load_weights(f"{objective.name}-edge")
    assert objective.composition == shipped.composition
    made = objective("edge").composition
    assert {part: made[part] for part in shipped.composition} == shipped.composition
    # What weights from before do not name is as it was; new ones say it.
    ways = {"flow_scale": "cell", "value_frames": "target"} if objective is MerObjective else {}
    assert {part: made[part] for part in set(made) - set(shipped.composition)} == ways


@pytest.mark.parametrize(
    "options",
    [
        {"size": 320},
        {"overrides": {"memory": "references"}},
        {"overrides": {"memory": DynamicPolicy()}},
        {"temperature": 1.0},
        {"overrides": {"edges": False}},
        {"overrides": {"alignment": "none"}},
        {"int8": Int8Settings()},
    ],
    ids=str,
)
def test_what_was_not_measured_claims_no_accuracy(options: dict[str, Any]) -> None:
    weights, chosen = load_weights("dmp-edge"), ExportOptions(**options)
    facts = facts_as_exported(weights, compose(weights, chosen), chosen)
    assert {**facts, "accuracy": weights.facts["accuracy"]} == weights.facts
    assert "accuracy" not in facts


@pytest.mark.parametrize(
    "options", [{"size": 480}, {"overrides": {"memory": "dynamic"}}, {"fp16": True}], ids=str
)
def test_what_was_measured_keeps_its_claim(options: dict[str, Any]) -> None:
    """A kind without settings is the method's own where that is of it."""
    weights, chosen = load_weights("dmp-edge"), ExportOptions(**options)
    composition = compose(weights, chosen)
    assert facts_as_exported(weights, composition, chosen) == weights.facts


@pytest.mark.parametrize(("name", "preset"), [("mer", "mer-as-printed"), ("dmp", "dmp-as-printed")])
def test_a_preset_is_the_papers_stride_size_temperature_and_parts(name: str, preset: str) -> None:
    weights = load_weights(f"{name}-paper")
    found = compose(weights, ExportOptions(overrides={"preset": preset}))
    assert isinstance(found, Composition)
    assert (found.stride, found.size, found.temperature) == (4, 480, 1.0)
    assert {part: getattr(found, part) for part in PRESETS[preset]} == PRESETS[preset]
    chosen = ExportOptions(size=240, temperature=0.5, overrides={"preset": preset, "edges": True})
    own = compose(weights, chosen)
    assert isinstance(own, Composition)
    assert (own.size, own.temperature, own.edges) == (240, 0.5, True)


def test_the_users_choice_comes_before_the_methods() -> None:
    weights = load_weights("dmp-edge")
    own = ReferencePolicy(short=(3, 1))
    assert compose(weights, ExportOptions(overrides={"memory": own})).memory == own
    assert (
        compose(weights, ExportOptions(overrides={"memory": "references"})).memory
        == ReferencePolicy()
    )


def test_a_composition_of_another_kind_of_model_is_refused() -> None:
    weights = replace(load_weights("srnet-edge"), composition={"fusion": "vote"})
    with pytest.raises(BundleError, match="received fusion for a model that segments"):
        compose(weights, ExportOptions())


def test_a_bundle_is_planned_as_it_is_composed() -> None:
    model = plan_bundle(load_weights("dmp-lite"), Bundle.open("dmp-lite"))
    assert model.composition == Bundle.open("dmp-lite").composition
