"""What SRNet remembers of objects: values, and sums that make prototypes."""

from __future__ import annotations

import numpy as np
import pytest

from vcedge_runtime.memory.objects import SIDES, ObjectBank

SLOTS, GRID, DIM = 4, (3, 5), 6


def make_bank(objects: int = 3) -> ObjectBank:
    """Make a bank in which no two numbers are the same."""
    bank = ObjectBank(SLOTS, GRID, DIM, objects)
    for offset, array in enumerate((bank.values, bank.sums, bank.weights)):
        array[...] = np.arange(array.size).reshape(array.shape) + 1e4 * offset + 1
    return bank


def check_shapes(bank: ObjectBank, objects: int) -> None:
    """Every slot of every array is what a graph writes into: contiguous float32."""
    assert bank.objects == objects
    assert bank.values.shape == (SLOTS, *GRID, objects, DIM)
    assert bank.sums.shape == (SLOTS, objects, SIDES, DIM)
    assert bank.weights.shape == (SLOTS, objects, SIDES)
    for array in (bank.values, bank.sums, bank.weights):
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        assert array[1].flags.c_contiguous


@pytest.mark.parametrize("objects", [0, 1, 3])
def test_a_new_bank_knows_nothing(objects: int) -> None:
    bank = ObjectBank(SLOTS, GRID, DIM, objects)
    check_shapes(bank, objects)
    assert not any(array.any() for array in (bank.values, bank.sums, bank.weights))


def test_its_bytes_are_those_of_its_arrays() -> None:
    bank = make_bank()
    per_object = 4 * SLOTS * (GRID[0] * GRID[1] * DIM + SIDES * DIM + SIDES)
    assert bank.nbytes == 3 * per_object
    bank.add()
    assert bank.nbytes == 4 * per_object
    bank.remove(0)
    bank.remove(0)
    assert bank.nbytes == 2 * per_object


def test_an_object_more_is_the_last_and_changes_none_of_the_others() -> None:
    bank, before = make_bank(), make_bank()
    bank.add()
    check_shapes(bank, 4)
    np.testing.assert_array_equal(bank.values[..., :3, :], before.values)
    np.testing.assert_array_equal(bank.sums[:, :3], before.sums)
    np.testing.assert_array_equal(bank.weights[:, :3], before.weights)
    new = (bank.values[..., 3, :], bank.sums[:, 3], bank.weights[:, 3])
    assert not any(array.any() for array in new)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_those_after_a_forgotten_object_move_down_by_one(place: int) -> None:
    bank, before = make_bank(), make_bank()
    bank.remove(place)
    check_shapes(bank, 2)
    kept = [other for other in range(3) if other != place]
    np.testing.assert_array_equal(bank.values, before.values[..., kept, :])
    np.testing.assert_array_equal(bank.sums, before.sums[:, kept])
    np.testing.assert_array_equal(bank.weights, before.weights[:, kept])


def test_a_bank_may_lose_its_last_object_and_get_another() -> None:
    bank = make_bank(1)
    bank.remove(0)
    check_shapes(bank, 0)
    assert bank.nbytes == 0
    assert [part.shape for part in bank.sum_slots([0, 2])] == [(0, SIDES, DIM), (0, SIDES)]
    bank.add()
    check_shapes(bank, 1)
    assert not bank.values.any()


def test_sums_of_slots_are_added_up_each_slot_once() -> None:
    bank = make_bank()
    sums, weights = bank.sum_slots([2, 0, 2])
    np.testing.assert_array_equal(sums, bank.sums[0] + bank.sums[2])
    np.testing.assert_array_equal(weights, bank.weights[0] + bank.weights[2])
    for array in (sums, weights):
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        assert not np.shares_memory(array, bank.sums)
        assert not np.shares_memory(array, bank.weights)


def test_the_order_of_slots_changes_no_bit() -> None:
    bank = make_bank()
    rng = np.random.default_rng(0)
    bank.sums[...] = rng.standard_normal(bank.sums.shape)
    found = [bank.sum_slots(slots)[0] for slots in ([0, 1, 3], [3, 1, 0], [1, 0, 3])]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
