"""Bundles on disk: the way there and back, and everything that can be wrong with one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from vcedge_runtime.errors import BundleError
from vcedge_runtime.frames.colour import LAB
from vcedge_runtime.memory.local_global import LocalGlobalPolicy
from vcedge_runtime.memory.references import ReferencePolicy
from vcedge_runtime.model import bundle as bundle_module
from vcedge_runtime.model.bundle import (
    FORMAT,
    MANIFEST,
    Bundle,
    GraphFile,
    shipped_models,
)
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.spec import GraphSpec, TensorSpec
from vcedge_runtime.reading import sha256_of

SPEC = GraphSpec(
    "encoder",
    (TensorSpec("image", "float32", (1, 3, "H", "W")),),
    (TensorSpec("key", "float32", ("h", "w", 64)),),
)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A saved bundle of one graph, which is empty."""
    (tmp_path / "encoder.onnx").write_bytes(b"")
    sha256 = sha256_of(tmp_path / "encoder.onnx")
    bundle = Bundle(
        folder=tmp_path,
        name="toy",
        profile="edge",
        composition=Composition(8, 64, 480, 7, 30, 0.5, False, ReferencePolicy((0, 9), (1, 4))),
        graphs={"encoder": GraphFile(SPEC, "encoder.onnx", sha256, "fp32", 1234.5)},
        weights={"data": ["clips"], "steps": 8000},
        verification={"passes": True},
    )
    bundle.save()
    return bundle


def edit_manifest(bundle: Bundle, edit: Callable[[dict[str, Any]], None]) -> None:
    path = bundle.folder / MANIFEST
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def test_what_is_saved_is_opened(bundle: Bundle) -> None:
    assert Bundle.open(bundle.folder) == bundle
    assert Bundle.open(str(bundle.folder)) == bundle
    assert bundle.path_of("encoder") == bundle.folder / "encoder.onnx"


def test_saving_leaves_one_manifest_and_replaces_the_former(bundle: Bundle) -> None:
    replace(bundle, name="renamed").save()
    assert Bundle.open(bundle.folder).name == "renamed"
    assert {path.name for path in bundle.folder.iterdir()} == {MANIFEST, "encoder.onnx"}


def test_a_bundle_may_move(bundle: Bundle, tmp_path: Path) -> None:
    moved = shutil.copytree(bundle.folder, tmp_path / "elsewhere")
    assert Bundle.open(moved) == replace(bundle, folder=moved)


def test_a_graph_that_was_exchanged_is_found(bundle: Bundle) -> None:
    bundle.path_of("encoder").write_bytes(b"another graph")
    with pytest.raises(BundleError, match=r"encoder\.onnx has sha256 .*damaged or was exchanged"):
        Bundle.open(bundle.folder)


def test_a_graph_that_is_gone_is_named(bundle: Bundle) -> None:
    bundle.path_of("encoder").unlink()
    with pytest.raises(BundleError, match=r"lacks encoder\.onnx; export it again"):
        Bundle.open(bundle.folder)


@pytest.mark.parametrize(
    ("written", "mend"), [(FORMAT + 1, "upgrade vcedge"), (FORMAT - 1, "export the bundle again")]
)
def test_another_format_is_refused_with_its_mend(bundle: Bundle, written: int, mend: str) -> None:
    edit_manifest(bundle, lambda value: value.update(format=written))
    expected = rf"has format {written}, this vcedge reads format {FORMAT}; {mend}"
    with pytest.raises(BundleError, match=expected):
        Bundle.open(bundle.folder)


def test_a_newer_format_is_refused_before_anything_else_is_read(bundle: Bundle) -> None:
    (bundle.folder / MANIFEST).write_text(json.dumps({"format": FORMAT + 1}))
    with pytest.raises(BundleError, match="upgrade vcedge"):
        Bundle.open(bundle.folder)


@pytest.mark.parametrize(
    "text", ["", "no json", "[]", "3", "{}", '{"format": "one"}', '{"format": null}', "\ufffe"]
)
def test_a_manifest_that_is_none_is_refused(bundle: Bundle, text: str) -> None:
    (bundle.folder / MANIFEST).write_text(text, encoding="utf-16")
    with pytest.raises(BundleError, match=r"bundle\.json cannot be read: .*export the bundle agai"):
        Bundle.open(bundle.folder)
    (bundle.folder / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=r"bundle\.json cannot be read: .*export the bundle agai"):
        Bundle.open(bundle.folder)


PARTS = ["name", "profile", "composition", "graphs", "weights", "verification"]
NESTED = [
    ("composition", "stride"),
    ("composition", "memory"),
    ("composition", "memory", "kind"),
    ("composition", "sampler"),
    ("composition", "fusion"),
    ("composition", "fusion", "kind"),
    ("composition", "motion"),
    ("graphs", "encoder", "file"),
    ("graphs", "encoder", "sha256"),
    ("graphs", "encoder", "spec"),
    ("graphs", "encoder", "spec", "inputs"),
]


@pytest.mark.parametrize("path", [*[(part,) for part in PARTS], *NESTED])
def test_a_manifest_without_a_part_is_damaged(bundle: Bundle, path: tuple[str, ...]) -> None:
    def remove(value: dict[str, Any]) -> None:
        for key in path[:-1]:
            value = value[key]
        del value[path[-1]]

    edit_manifest(bundle, remove)
    with pytest.raises(BundleError, match="damaged"):
        Bundle.open(bundle.folder)


@pytest.mark.parametrize("file", ["../encoder.onnx", "/etc/hostname", "sub/../../encoder.onnx"])
def test_a_graph_outside_the_folder_is_refused(bundle: Bundle, file: str) -> None:
    edit_manifest(bundle, lambda value: value["graphs"]["encoder"].update(file=file))
    with pytest.raises(BundleError, match=r"expected a name .*, within the bundle's folder"):
        Bundle.open(bundle.folder)


def test_an_unknown_name_lists_what_there_is(tmp_path: Path) -> None:
    expected = r"no model 'absent': expected the folder of a bundle .*vcedge models"
    with pytest.raises(BundleError, match=expected):
        Bundle.open("absent")
    with pytest.raises(BundleError, match="no model"):
        Bundle.open(tmp_path)


def test_a_graph_that_it_lacks_is_named(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"has no graph 'decoder'; it has \['encoder'\]"):
        bundle.path_of("decoder")


def test_a_shipped_model_opens_by_its_name(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bundle.folder, tmp_path / "models" / "toy")
    monkeypatch.setattr(bundle_module, "MODELS", tmp_path / "models")
    assert shipped_models() == ["toy"]
    assert Bundle.open("toy").folder == tmp_path / "models" / "toy"


@pytest.mark.parametrize("name", shipped_models())
def test_what_was_shipped_is_read_as_it_was_written(name: str) -> None:
    bundle = Bundle.open(name)
    written = json.loads((bundle.folder / MANIFEST).read_text())
    read = json.loads(json.dumps(bundle.composition.to_json()))
    # Manifests of before these were properties of a bundle do not name them: they mean Lab, frames
    # that are resized, a local memory, no frame or view besides the global ones, flow as a share of
    # the short side, keys that are refined once, and points that follow the flow.
    before = {"colour": json.loads(json.dumps(asdict(LAB))), "fit": "resize", "mixes": True}
    before |= {"hidden_dim": 0, "flow_scale": "side", "value_frames": "own", "point_flow": True}
    known = {name: value for name, value in before.items() if name in read}
    known |= written["composition"]
    if known["memory"]["kind"] == "local_global":
        known["memory"] = {"include_last": False, "zoom": 1.0, **known["memory"]}
    assert read == known
    for graph, entry in bundle.graphs.items():
        # What is not written has its default.
        assert {**entry.to_json(), **written["graphs"][graph]} == entry.to_json()


def test_a_manifest_of_before_views_reads_none(srnet_bundle: Bundle) -> None:
    written = srnet_bundle.composition.to_json()
    del written["memory"]["zoom"], written["memory"]["include_last"]
    read = type(srnet_bundle.tracking).from_json(written)
    assert read.memory == LocalGlobalPolicy()
    assert read.scales == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"stride": 0},
        {"key_dim": 0},
        {"radius": 0},
        {"size": 15},
        {"top_k": 0},
        {"temperature": 0.0},
        # A window of 15x15 cells of one reference holds no more than 225 logits.
        {"top_k": 226},
    ],
)
def test_a_composition_that_cannot_run_is_refused(
    bundle: Bundle, changed: dict[str, float]
) -> None:
    with pytest.raises(BundleError, match=f"received {next(iter(changed))}=.*; expected a"):
        replace(bundle.composition, memory=ReferencePolicy((0,), (1,)), **changed)
