"""The tiny bundle beside the tests is what its script makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from tests.conftest import TINY
from tests.data.make_tiny import make_tiny
from vcedge_runtime.model.bundle import Bundle


def test_the_script_still_makes_the_tiny_bundle(tmp_path: Path) -> None:
    kept, made = Bundle.open(TINY), make_tiny(tmp_path / "tiny")
    assert made.verification["passes"]
    assert made.composition == kept.composition
    assert made.graphs.keys() == kept.graphs.keys()
    for name, graph in made.graphs.items():
        before = kept.graphs[name]
        assert (graph.spec, graph.macs_per_pixel) == (before.spec, before.macs_per_pixel)
        new, old = (onnx.load(bundle.path_of(name)).graph for bundle in (made, kept))
        assert [node.op_type for node in new.node] == [node.op_type for node in old.node]
        for one, other in zip(new.initializer, old.initializer, strict=True):
            # Sums in another order.
            np.testing.assert_allclose(
                numpy_helper.to_array(one), numpy_helper.to_array(other), rtol=1e-3, atol=1e-4
            )


def test_it_is_a_few_kilobytes() -> None:
    assert sum(path.stat().st_size for path in TINY.iterdir()) < 80_000
