"""Weights on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vcedge.models import weights as weights_module
from vcedge.models.encoder import PROFILES
from vcedge.models.network import KeyNetwork
from vcedge.models.value_extraction import FORMER, ValueSettings
from vcedge.models.weights import load_weights, save_weights, shipped_weights
from vcedge_runtime import files
from vcedge_runtime.errors import BundleError
from vcedge_runtime.memory.dynamic import DynamicPolicy

FACTS = {"data": ["clips"], "licences": {"clips": "research"}, "steps": 8000, "j_and_f": 0.7}


@pytest.fixture(scope="module", params=[False, True], ids=["base", "mer"])
def network(request: pytest.FixtureRequest) -> KeyNetwork:
    torch.manual_seed(0)
    mer: bool = request.param
    network = KeyNetwork.from_parts("edge", motion=mer, value_extraction=mer)
    network.encoder.train()(torch.randn(2, 3, 32, 32))
    return network.eval()


def test_weights_come_back_in_fp16_with_their_facts(network: KeyNetwork, tmp_path: Path) -> None:
    path = tmp_path / "new" / "base.safetensors"
    save_weights(network, path, FACTS)
    loaded = load_weights(path)
    assert loaded.facts == {**FACTS, **network.parts}
    assert loaded.network.parts == network.parts
    assert not loaded.network.training
    expected = network.state_dict()
    assert loaded.network.state_dict().keys() == expected.keys()
    for name, value in loaded.network.state_dict().items():
        rounded = expected[name].half().float() if value.is_floating_point() else expected[name]
        assert value.dtype == expected[name].dtype
        torch.testing.assert_close(value, rounded, atol=0, rtol=0)


def test_settings_of_the_value_extraction_come_back(tmp_path: Path) -> None:
    wanted = ValueSettings("static", omega=0.75, dropkey=0.2)
    network = KeyNetwork(PROFILES["edge"], value_extraction=True, values=wanted)
    save_weights(network, tmp_path / "mer.safetensors", FACTS)
    loaded = load_weights(tmp_path / "mer.safetensors").network
    assert isinstance(loaded, KeyNetwork)
    assert loaded.values is not None
    assert loaded.values.settings == wanted


def test_weights_from_before_are_read_as_they_were_trained() -> None:
    loaded = load_weights("mer-edge")
    assert "value_settings" not in loaded.facts
    assert isinstance(loaded.network, KeyNetwork)
    assert loaded.network.values is not None
    assert loaded.network.values.settings == FORMER == ValueSettings("own", 0.6)
    assert not {"flow_scale", "value_frames"} & set(loaded.composition)


def test_a_methods_choices_come_back(network: KeyNetwork, tmp_path: Path) -> None:
    composition = {"memory": DynamicPolicy(gamma=0.75, position="last"), "size": 320}
    save_weights(network, tmp_path / "dmp.safetensors", FACTS, composition)
    loaded = load_weights(tmp_path / "dmp.safetensors")
    assert loaded.composition == composition
    assert "composition" not in loaded.facts
    save_weights(network, tmp_path / "base.safetensors", FACTS)
    assert load_weights(tmp_path / "base.safetensors").composition == {}


def test_a_file_holds_two_bytes_a_weight(network: KeyNetwork, tmp_path: Path) -> None:
    save_weights(network, tmp_path / "base.safetensors", FACTS)
    weights = sum(value.numel() for value in network.state_dict().values())
    # The header and the int64 step counters of batch normalisation are the rest.
    assert 0 < (tmp_path / "base.safetensors").stat().st_size - 2 * weights < 20_000
    assert [path.name for path in tmp_path.iterdir()] == ["base.safetensors"]


def test_the_rounding_to_fp16_hardly_moves_a_key(network: KeyNetwork, tmp_path: Path) -> None:
    save_weights(network, tmp_path / "base.safetensors", FACTS)
    lab = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = network.encoder(lab)
        found = load_weights(tmp_path / "base.safetensors").network.encoder(lab)
    # FP16 has 11 bits: half a thousandth per weight, and errors of many weights cancel.
    assert (found - expected).abs().max() < 5e-3 * expected.abs().max()


def test_shipped_weights_open_by_name(
    network: KeyNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_module, "SHIPPED", tmp_path)
    save_weights(network, tmp_path / "toy.safetensors", FACTS)
    assert shipped_weights() == ["toy"]
    assert load_weights("toy").facts["steps"] == 8000
    with pytest.raises(BundleError, match=r"no weights 'absent': .*\['toy'\]"):
        load_weights("absent")


def test_where_no_weights_are_installed_it_is_said_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_module, "SHIPPED", tmp_path)
    with pytest.raises(BundleError, match=r"no weights 'mer-edge': .* vcedge/weights of a clone"):
        load_weights("mer-edge")


def damaged_files() -> dict[str, tuple[dict[str, torch.Tensor], dict[str, str] | None]]:
    """Name files that safetensors can read and that are no weights of ours."""
    tensors = {
        name: value.half()
        for name, value in KeyNetwork.from_parts("edge", False, False).state_dict().items()
    }
    parts = {"profile": "edge", "motion": False, "value_extraction": False}
    facts = {"facts": json.dumps(parts)}
    unknown = json.dumps({"memory": {"kind": "endless"}})
    wrong = json.dumps({"memory": {"kind": "dynamic", "short": 0}})
    fewer = {name: value for name, value in tensors.items() if name != "encoder.head.weight"}

    def claim(**other: object) -> dict[str, str]:
        return {"facts": json.dumps({**parts, **other})}

    return {
        "no metadata": (tensors, None),
        "a memory that there is not": (tensors, {**facts, "composition": unknown}),
        "a memory that cannot be": (tensors, {**facts, "composition": wrong}),
        "a composition that is a list": (tensors, {**facts, "composition": "[]"}),
        "other metadata": (tensors, {"format": "pt"}),
        "facts that are no JSON": (tensors, {"facts": "edge"}),
        "facts that are a list": (tensors, {"facts": "[]"}),
        "an unknown profile": (tensors, claim(profile="wide")),
        "the tensors of another profile": (tensors, claim(profile="paper")),
        "facts without the parts": (tensors, {"facts": json.dumps({"profile": "edge"})}),
        "the tensors of another method": (tensors, claim(motion=True, value_extraction=True)),
        "a tensor too few": (fewer, facts),
        "a tensor too many": ({**tensors, "tail": torch.zeros(3)}, facts),
        "a tensor of another shape": ({**tensors, "encoder.head.bias": torch.zeros(3)}, facts),
    }


@pytest.mark.parametrize("damage", sorted(damaged_files()))
def test_weights_of_others_are_refused(damage: str, tmp_path: Path) -> None:
    tensors, metadata = damaged_files()[damage]
    save_file(tensors, tmp_path / "other.safetensors", metadata)
    with pytest.raises(BundleError, match=r"other\.safetensors does not hold weights of vcedge"):
        load_weights(tmp_path / "other.safetensors")


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x00" * 64])
def test_a_file_that_is_no_safetensors_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other.safetensors").write_bytes(content)
    with pytest.raises(BundleError, match="does not hold weights of vcedge"):
        load_weights(tmp_path / "other.safetensors")


def test_an_interrupted_save_leaves_the_former_file(
    network: KeyNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "base.safetensors"
    save_weights(network, path, FACTS)
    before = path.read_bytes()

    def stop(place: str, data: bytes) -> None:
        Path(place).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "_fill", stop)
    with pytest.raises(KeyboardInterrupt):
        save_weights(network, path, {})
    assert path.read_bytes() == before


def test_the_file_says_what_it_is_made_of_whatever_the_facts_say(
    network: KeyNetwork, tmp_path: Path
) -> None:
    save_weights(network, tmp_path / "one.safetensors", {"profile": "wide", "motion": "perhaps"})
    assert load_weights(tmp_path / "one.safetensors").facts == network.parts
