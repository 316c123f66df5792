"""The numpy oracle; that it is the dense readout stands in the tests of the torch readout."""

from __future__ import annotations

import numpy as np
import pytest

from tests.oracle import NumpyLabelReadout
from vcedge_runtime.errors import EngineError
from vcedge_runtime.model.bundle import Bundle


def test_it_is_checked_against_the_spec_of_the_exported_graph(tiny_bundle: Bundle) -> None:
    spec = tiny_bundle.graphs["label_readout"].spec
    engine = NumpyLabelReadout(spec)
    assert engine.spec is spec
    with pytest.raises(EngineError, match="graph label_readout received tensors"):
        engine.run({"query": np.zeros((1, 1, 64), np.float32)}, {})
    engine.close()
