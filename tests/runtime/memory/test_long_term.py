"""XMem's memory: which frames are whole, and what is made of those that leave."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge_runtime.errors import BundleError
from vcedge_runtime.memory.long_term import (
    LongTermPolicy,
    choose_prototypes,
    consolidate,
    packed_length,
    unpack,
)

NOTHING = np.zeros((1, 1, 2), np.float32)
POLICIES = st.builds(LongTermPolicy, st.integers(1, 4), st.integers(2, 6), st.integers(1, 6))


def no_look(frames: object) -> NDArray[np.float32]:
    raise AssertionError("frames are chosen without a look")


def test_every_fifth_frame_is_read_until_ten_are_and_five_leave() -> None:
    memory = LongTermPolicy().begin()
    left = {}
    for frame in range(100):
        if frame:
            assert 0 in memory.select(frame, NOTHING, no_look)
        memory.store(frame, NOTHING, NOTHING)
        if memory.leaving:
            left[frame] = memory.leaving
    assert left == {45: [5, 10, 15, 20, 25], 70: [30, 35, 40, 45, 50], 95: [55, 60, 65, 70, 75]}
    assert memory.select(100, NOTHING, no_look) == [0, 80, 85, 90, 95]


@given(policy=POLICIES, drawn=st.sets(st.integers(0, 59), max_size=6))
def test_no_more_is_read_or_kept_than_is_declared(policy: LongTermPolicy, drawn: set[int]) -> None:
    memory = policy.begin()
    held: set[int] = set()
    for frame in range(60):
        held = {past for past in held if past == frame - 1 or memory.keeps(past)} | {frame}
        assert len(held) <= policy.slots
        if frame:
            chosen = memory.select(frame, NOTHING, no_look)
            assert len(chosen) <= policy.references
            assert set(chosen) <= held
            assert 0 in chosen
        memory.store(frame, NOTHING, NOTHING)
        assert set(memory.leaving) <= held
        if frame in drawn:
            memory.annotate(frame)
            memory.store(frame, NOTHING, NOTHING)


def test_a_drawn_frame_stays_while_it_is_the_last_such() -> None:
    memory = LongTermPolicy(every=1, least=2, batch=2).begin()
    for frame in range(20):
        memory.store(frame, NOTHING, NOTHING)
        if frame == 2:
            memory.annotate(2)
        assert frame < 2 or 2 in memory.select(frame + 1, NOTHING, no_look)
    memory.annotate(19)
    memory.store(20, NOTHING, NOTHING)
    for frame in range(21, 25):
        memory.store(frame, NOTHING, NOTHING)
    assert 2 not in memory.select(25, NOTHING, no_look)


def test_prototypes_are_what_was_used_most_for_its_age() -> None:
    usage = np.array([0.5, 3, 0, 3, 1], np.float32)
    assert choose_prototypes(usage, 3).tolist() == [1, 3, 4]
    assert choose_prototypes(usage, 9).tolist() == [1, 3, 4, 0, 2]


def test_a_prototype_is_the_mean_of_all_cells_by_their_likeness_to_it() -> None:
    rng = np.random.default_rng(0)
    dim, cells = 6, 40
    keys = rng.standard_normal((cells, packed_length(dim))).astype(np.float32)
    keys[:, dim] = 1 + keys[:, dim] ** 2
    keys[:, dim + 1 :] = 1 / (1 + np.exp(-keys[:, dim + 1 :]))
    values = rng.standard_normal((cells, 5)).astype(np.float32)
    chosen = np.array([7, 3, 30])
    made, content = consolidate(keys, values, chosen)
    key, shrinkage, selection = (each.astype(np.float64) for each in unpack(keys))
    for place, cell in enumerate(chosen):
        distance = (selection[cell] * (key - key[cell]) ** 2).sum(axis=1)
        logits = -shrinkage[:, 0] * distance / np.sqrt(dim)
        weights = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(content[place], weights @ values, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(made[place, dim], weights @ shrinkage[:, 0], rtol=1e-4)
        np.testing.assert_array_equal(made[place, :dim], keys[cell, :dim])
        np.testing.assert_array_equal(made[place, dim + 1 :], keys[cell, dim + 1 :])


def test_cells_far_from_each_other_are_no_infinity() -> None:
    keys = np.zeros((2, 3), np.float32)
    keys[:, 0], keys[:, 1:] = [1e3, -1e3], 1
    _, content = consolidate(keys, np.array([[1.0], [2.0]], np.float32), np.array([0, 1]))
    np.testing.assert_array_equal(content, [[1.0], [2.0]])


@pytest.mark.parametrize("setting", ["every=0", "least=1", "batch=65", "prototypes=0", "cells=0"])
def test_settings_beyond_their_bounds_are_refused(setting: str) -> None:
    name, _, value = setting.partition("=")
    with pytest.raises(BundleError, match=f"received {setting} for LongTermPolicy"):
        LongTermPolicy(**{name: int(value)})
