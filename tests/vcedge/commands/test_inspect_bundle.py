"""What ``vcedge inspect`` shows of a bundle."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

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
