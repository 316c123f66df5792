"""The machine's ceilings: what is measured, and by how many threads."""

from __future__ import annotations

import numpy as np
import pytest

from vcedge.bench.ceilings import Ceilings, measure_ceilings, open_product_engine


@pytest.mark.parametrize("threads", [1, 2])
def test_ceilings_are_measured_by_as_many_threads_as_asked_for(threads: int) -> None:
    found = measure_ceilings(threads, side=64, copy_bytes=10**5)
    assert isinstance(found, Ceilings)
    assert found.threads == threads
    # Anything that runs numpy multiplies and copies faster than this.
    assert found.matmul_gflops > 1e-3
    assert found.copy_gbs > 1e-3


def test_the_product_that_is_timed_is_a_matrix_product() -> None:
    pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(0)
    left, right = rng.random((3, 5), np.float32), rng.random((5, 4), np.float32)
    product = np.empty((3, 4), np.float32)
    engine = open_product_engine(threads=1)
    engine.run({"left": left, "right": right}, {"product": product})
    engine.close()
    # Five float32 products summed in another order.
    np.testing.assert_allclose(product, left @ right, rtol=1e-5)
