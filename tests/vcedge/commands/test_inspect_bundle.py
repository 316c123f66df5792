"""What ``vcedge inspect`` shows of a bundle."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from vcedge.commands.inspect_bundle import command
from vcedge_runtime.errors import BundleError
from vcedge_runtime.model.bundle import DEFAULT_MODEL, MANIFEST, Bundle, shipped_models


def inspect(folder: Path, *options: str) -> str:
    found = CliRunner().invoke(
        command, [str(folder), *options], env={"COLUMNS": "200"}, catch_exceptions=False
    )
    assert found.exit_code == 0
    return found.output


def test_every_tensor_of_every_graph_is_shown(tiny_bundle: Bundle) -> None:
    rows = [line.split() for line in inspect(tiny_bundle.folder).splitlines()]
    for name, graph in tiny_bundle.graphs.items():
        for side, tensors in (("in", graph.spec.inputs), ("out", graph.spec.outputs)):
            for tensor in tensors:
                shape = ", ".join(map(str, tensor.shape)).split()
                assert [name, side, tensor.name, tensor.dtype, *shape] in rows


def test_composition_weights_and_proof_are_shown(tiny_bundle: Bundle) -> None:
    text = inspect(tiny_bundle.folder)
    assert "9x9 cells (radius 4)" in text
    assert "frames 0, 5, and 5, 3, 1 before the current one" in text
    assert tiny_bundle.graphs["encoder"].sha256[:12] in text
    assert "data   none" in text
    assert "moving texture, 4 frames" in text
    assert "encoder.key" in text
    assert re.search(r"input +lab, less 50 0 0, divided by 50 127 127", text)


@pytest.mark.skipif(DEFAULT_MODEL not in shipped_models(), reason="no model is shipped here")
def test_the_graphs_of_the_default_model_stand_whole_in_a_terminal_of_80_columns() -> None:
    found = CliRunner().invoke(command, [DEFAULT_MODEL], env={"COLUMNS": "80"})
    bundle = Bundle.open(DEFAULT_MODEL)
    rows = [line.split() for line in found.output.splitlines()]
    for name, graph in bundle.graphs.items():
        assert [name, graph.precision, graph.sha256[:12]] in [[*row[:2], *row[-1:]] for row in rows]


def test_what_was_not_recorded_is_said_to_be_missing(tiny_bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(tiny_bundle.folder, folder)
    replace(tiny_bundle, folder=folder, weights={}, verification={}).save()
    text = inspect(folder)
    assert "not verified" in text
    assert text.count("nothing is recorded") == 2


def test_json_is_the_manifest(tiny_bundle: Bundle) -> None:
    manifest = json.loads((tiny_bundle.folder / MANIFEST).read_text())
    assert json.loads(inspect(tiny_bundle.folder, "--json")) == manifest


def test_a_damaged_bundle_is_not_shown(tiny_bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_bundle.folder, folder)
    (folder / "encoder.onnx").write_bytes(b"something else")
    with pytest.raises(BundleError, match="sha256"):
        inspect(folder)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("ab[]/\\{}é ", max_size=8)
    | st.sampled_from(["[/]", "[red]x", "[link=http://x]y", "\\"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab[/]"), inner, max_size=3)
    ),
    max_leaves=6,
)
KNOWN = ("accuracy", "on", "j_and_f", "outputs", "mask_iou", "clip", "frames", "passes", "median")


@settings(max_examples=60)
@given(data=st.data())
def test_facts_and_proofs_of_every_shape_are_shown_or_refused(
    data: st.DataObject, tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("bundle") / "foreign"
    shutil.copytree(tiny_bundle.folder, folder)
    proof = dict(tiny_bundle.verification)
    weights = {"accuracy": {"j_and_f": 0.5, "on": "clips"}}
    for facts in (proof, weights):
        name = data.draw(st.sampled_from([*facts, *KNOWN]))
        facts[name] = data.draw(PLAIN)
    row = dict(tiny_bundle.verification["outputs"][0])
    row[data.draw(st.sampled_from(sorted(row)))] = data.draw(PLAIN)
    proof["outputs"] = data.draw(st.sampled_from([proof.get("outputs"), [row]]))
    replace(tiny_bundle, folder=folder, weights=weights, verification=proof).save()
    found = CliRunner().invoke(command, [str(folder)], env={"COLUMNS": "200"})
    assert found.exception is None or isinstance(found.exception, BundleError)
    assert CliRunner().invoke(command, [str(folder), "--json"]).exit_code == 0
    shutil.rmtree(folder)


def test_an_export_that_gave_no_number_is_shown(tiny_bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "overflowed"
    shutil.copytree(tiny_bundle.folder, folder)
    rows = [
        {**row, "largest": None, "non_finite": 3} for row in tiny_bundle.verification["outputs"]
    ]
    proof = {**tiny_bundle.verification, "outputs": rows, "passes": False}
    replace(tiny_bundle, folder=folder, verification=proof).save()
    text = inspect(folder)
    assert "FAILED" in text
    assert "nan" in text


def test_the_manifest_that_is_printed_is_the_one_that_was_checked(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "foreign"
    shutil.copytree(tiny_bundle.folder, folder)
    assert json.loads(inspect(folder, "--json")) == json.loads((folder / MANIFEST).read_text())
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace('"name"', '"x": "\x9b2J", "name"', 1))
    with pytest.raises(BundleError, match="received 'x'; expected name, profile, "):
        inspect(folder, "--json")
