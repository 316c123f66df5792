"""Bundles from somebody who means harm: what they name, what they link to, what they tell."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vcedge_runtime.engines.onnxruntime import engine_from_bundle
from vcedge_runtime.errors import BundleError
from vcedge_runtime.model.bundle import MANIFEST, MOST_MANIFEST, Bundle, name_after
from vcedge_runtime.reading import sha256_of

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """A copy of the tiny bundle, beside a file that is somebody's own."""
    return Path(shutil.copytree(tiny_bundle.folder, tmp_path / "bundle"))


def edit_manifest(folder: Path, edit: Edit) -> None:
    value = json.loads((folder / MANIFEST).read_text())
    edit(value)
    (folder / MANIFEST).write_text(json.dumps(value))


def move_weights(folder: Path, location: str) -> bytes:
    """Let the encoder's largest weights lie elsewhere, with a sha256 that is right; return them."""
    onnx = pytest.importorskip("onnx", reason="it writes the graph")
    path = folder / "encoder.onnx"
    model = onnx.load(path)
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values: bytes = largest.raw_data
    largest.ClearField("raw_data")
    largest.data_location = onnx.TensorProto.EXTERNAL
    largest.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())
    edit_manifest(folder, lambda value: value["graphs"]["encoder"].update(sha256=sha256_of(path)))
    return values


@pytest.mark.parametrize("kind", ["absolute", "above", "linked", "inside"])
def test_weights_outside_of_the_graph_are_refused_when_the_bundle_opens(
    folder: Path, kind: str
) -> None:
    secret = folder.parent / "secret.bin"
    places = {"absolute": str(secret), "above": "../secret.bin"}
    secret.write_bytes(move_weights(folder, places.get(kind, "weights.bin")))
    if kind == "linked":
        (folder / "weights.bin").symlink_to(secret)
    if kind == "inside":
        shutil.copyfile(secret, folder / "weights.bin")
    with pytest.raises(BundleError, match=r"encoder\.onnx, whose weights lie in another file"):
        Bundle.open(folder)


def test_a_graph_that_is_exchanged_after_the_check_is_not_loaded(folder: Path) -> None:
    pytest.importorskip("onnxruntime", reason="it runs the graph; install vcedge[cpu]")
    opened = Bundle.open(folder)
    shutil.copyfile(folder / "label_readout.onnx", folder / "encoder.onnx")
    with pytest.raises(BundleError, match=r"encoder\.onnx has sha256 .* was exchanged"):
        engine_from_bundle(opened, "encoder")


def test_a_file_that_never_ends_is_no_graph(folder: Path) -> None:
    (folder / "encoder.onnx").unlink()
    (folder / "encoder.onnx").symlink_to("/dev/zero")
    with pytest.raises(
        BundleError, match=r"lacks encoder\.onnx; export it again \(it is no file\)"
    ):
        Bundle.open(folder)


@pytest.mark.parametrize("name", ["encoder.onnx", MANIFEST])
def test_a_pipe_is_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(
        BundleError, match=r"encoder\.onnx; export it again \(it is no file\)|no model"
    ):
        Bundle.open(folder)


def test_graphs_may_be_links_as_caches_of_downloads_have_them(folder: Path) -> None:
    (folder / "encoder.onnx").rename(folder.parent / "blob")
    (folder / "encoder.onnx").symlink_to("../blob")
    assert Bundle.open(folder).read_graph("encoder")


NAMES = [
    *("../../x", "/etc/x", "..", ".", ".hidden", "-rf", "", "a/b", "a\\b", "a b", "a\x00b"),
    *("\x1b]0;owned\x07", "\x9b31m", "\u202etxt.exe", "[link=http://x]y[/]", "é", "a" * 101, "a\n"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_more_than_a_name_is_refused(folder: Path, name: str) -> None:
    def rename_graph(value: dict[str, Any]) -> None:
        value["graphs"][name] = value["graphs"].pop("encoder")

    def rename_tensor(value: dict[str, Any]) -> None:
        value["graphs"]["encoder"]["spec"]["inputs"][0][0] = name

    def rename_length(value: dict[str, Any]) -> None:
        value["graphs"]["encoder"]["spec"]["inputs"][0][2][2] = name

    edits: list[Edit] = [
        lambda value: value.update(name=name),
        lambda value: value.update(profile=name),
        lambda value: value["graphs"]["encoder"].update(file=name),
        *(rename_graph, rename_tensor, rename_length),
    ]
    whole = (folder / MANIFEST).read_text()
    for edit in edits:
        (folder / MANIFEST).write_text(whole)
        edit_manifest(folder, edit)
        with pytest.raises(BundleError, match=r"bundle\.json is damaged: .*") as refusal:
            Bundle.open(folder)
        assert str(refusal.value).isprintable()


@pytest.mark.parametrize("part", ["weights", "verification"])
@pytest.mark.parametrize(
    "fact",
    [
        {"data": "\x1b[2J"},
        {"\x1b[2J": 1},
        {"accuracy": {"on": ["\x9b0m"]}},
        {"data": "two\nlines"},
        {"steps": 10**40},
        {"data": json.loads("[" * 20 + "]" * 20)},
    ],
)
def test_facts_that_would_break_a_terminal_or_a_line_are_refused(
    folder: Path, part: str, fact: dict[str, Any]
) -> None:
    edit_manifest(folder, lambda value: value.update({part: fact}))
    with pytest.raises(BundleError, match=f"received {part}=.* expected names, each with plain"):
        Bundle.open(folder)


def test_facts_keep_the_names_that_files_have(folder: Path) -> None:
    fact = {"from": "caf\u00e9\u00a0\u202f2.safetensors", "held_out": [], "steps": None}
    edit_manifest(folder, lambda value: value.update(weights=fact))
    assert Bundle.open(folder).weights == fact


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN", "1e999", "-1e999"])
def test_a_number_that_is_not_finite_is_refused_wherever_it_stands(
    folder: Path, number: str
) -> None:
    whole = (folder / MANIFEST).read_text()
    for key in ("size", "passes", "frames", "steps"):
        before, at, after = whole.partition(f'"{key}": ')
        assert at
        rest = after.lstrip("-.0123456789truefalsn")
        (folder / MANIFEST).write_text(f"{before}{at}{number}{rest}")
        with pytest.raises(BundleError, match=r"bundle\.json (is damaged|cannot be read)"):
            Bundle.open(folder)


def test_levels_without_end_are_refused_below_a_part_too(folder: Path) -> None:
    text = (folder / MANIFEST).read_text().replace('"weights": {', '"weights": {"x": DEEP, ')
    for levels in (20, 900, 5000, 10**5):
        (folder / MANIFEST).write_text(text.replace("DEEP", "[" * levels + "]" * levels))
        with pytest.raises(BundleError, match=r"bundle\.json (is damaged|cannot be read)"):
            Bundle.open(folder)


def test_a_manifest_larger_than_any_is_not_read(folder: Path) -> None:
    with (folder / MANIFEST).open("a") as file:
        file.write(" " * MOST_MANIFEST)
    with pytest.raises(BundleError, match=r"bundle\.json cannot be read: .*holds more than 4,194,"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    ("folder_name", "expected"),
    [
        ("mine", "mine"),
        ("my model (2)", "my-model-2-"),
        ("été", "t-"),
        ("..", "model"),
        ("-x", "x"),
        ("a" * 200, "a" * 100),
    ],
)
def test_a_bundle_gets_a_name_whatever_its_folder_is_called(
    folder_name: str, expected: str
) -> None:
    assert name_after(Path(folder_name)) == expected
