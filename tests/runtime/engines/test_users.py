"""Engines know arrays, graphs and bundles, and none of those who run them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from vcedge_runtime.engines import base

KNOWN = {"buffers", "errors", "files", "installing", "model.bundle", "model.spec"}
"""Of the runtime, what the room may import."""
FILES = sorted(Path(base.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_engines_know_none_of_their_users(path: Path) -> None:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    names = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    ours = {name.removeprefix("vcedge_runtime.") for name in names if name.startswith("vcedge_")}
    assert {name for name in ours if name.partition(".")[0] != "engines"} <= KNOWN
