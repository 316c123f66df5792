"""How cores and memory are shared: what is asked for counts, the rest is made to fit."""

from __future__ import annotations

import pytest

from vcedge.fleet.sharing import Share, fit_memory, share_cores


@pytest.mark.parametrize(
    ("asked", "share"),
    [
        ({}, Share(8, 1)),
        ({"threads": 2}, Share(4, 2)),
        ({"workers": 3}, Share(3, 2)),
        ({"workers": 20}, Share(20, 1)),
        ({"workers": 2, "threads": 8}, Share(2, 8)),
        ({"threads": 16}, Share(1, 16)),
        ({"on_gpu": True}, Share(1, 8)),
        ({"on_gpu": True, "workers": 4}, Share(4, 2)),
    ],
)
def test_eight_cores_are_shared_as_was_asked_for(asked: dict[str, int], share: Share) -> None:
    assert share_cores(8, **asked) == share


@pytest.mark.parametrize(("free", "workers"), [(None, 8), (10**10, 8), (4 * 10**8, 3), (1, 1)])
def test_as_many_trackers_as_fit_are_taken_and_one_at_least(free: int | None, workers: int) -> None:
    assert fit_memory(Share(8, 1), 10**8, free) == Share(workers, 1)
