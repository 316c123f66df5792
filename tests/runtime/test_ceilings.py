"""The machine's ceilings: what is measured, and by how many threads."""

from __future__ import annotations

import pytest

from vcedge_runtime.ceilings import Ceilings, measure_ceilings


@pytest.mark.parametrize("threads", [1, 2])
def test_ceilings_are_measured_by_as_many_threads_as_asked_for(threads: int) -> None:
    found = measure_ceilings(threads, side=64, copy_bytes=10**5)
    assert isinstance(found, Ceilings)
    assert found.threads == threads
    # Anything that runs numpy multiplies and copies faster than this.
    assert found.matmul_gflops > 1e-3
    assert found.copy_gbs > 1e-3
