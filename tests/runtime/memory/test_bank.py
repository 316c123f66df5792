"""The slots of memory."""

from __future__ import annotations

import numpy as np
import pytest

from tests.runtime.engines.fake_cuda import FakeCuda
from vcedge_runtime.buffers import Block, DeviceArray
from vcedge_runtime.errors import TrackerError
from vcedge_runtime.memory.bank import MemoryBank


def full_bank() -> MemoryBank:
    """Make a bank of three slots that holds frames 0, 1 and 2."""
    bank = MemoryBank(3, (4, 5), 8, 2)
    for frame in range(3):
        bank.claim(frame, lambda stored: True)
    return bank


def test_free_slots_are_given_first() -> None:
    assert [full_bank().slot_of(frame) for frame in range(3)] == [0, 1, 2]


def test_a_frame_that_is_no_longer_wanted_gives_its_slot() -> None:
    bank = full_bank()
    assert bank.claim(3, lambda stored: stored != 1) == 1
    assert bank.slot_of(3) == 1
    with pytest.raises(TrackerError, match=r"frame 1 is not in memory; it holds \[0, 3, 2\]"):
        bank.slot_of(1)


def test_no_slot_is_given_while_all_are_wanted() -> None:
    bank = full_bank()
    with pytest.raises(TrackerError, match=r"no slot is free for frame 3; .*\[0, 1, 2\]"):
        bank.claim(3, lambda stored: True)
    assert [bank.slot_of(frame) for frame in range(3)] == [0, 1, 2]


def test_a_new_bank_holds_no_frame() -> None:
    with pytest.raises(TrackerError, match="frame 0 is not in memory"):
        MemoryBank(2, (1, 1), 1, 1).slot_of(0)


def test_its_bytes_are_those_of_keys_and_labels() -> None:
    bank = MemoryBank(3, (4, 5), 8, 2)
    assert bank.nbytes == 3 * 4 * 5 * (8 + 2) * 4
    bank.widen(6)
    assert bank.nbytes == 3 * 4 * 5 * (8 + 6) * 4


def test_widening_keeps_labels_and_frames() -> None:
    bank = full_bank()
    before = np.random.default_rng(0).random((3, 4, 5, 2), np.float32)
    bank.labels[:] = before
    bank.widen(5)
    assert bank.channels == 5
    assert bank.grid_hw == (4, 5)
    np.testing.assert_array_equal(bank.labels[..., :2], before)
    assert not bank.labels[..., 2:].any()
    assert bank.labels.flags.c_contiguous
    assert bank.slot_of(2) == 2


def test_a_frame_that_is_claimed_again_keeps_its_slot() -> None:
    bank = full_bank()
    assert bank.claim(1, lambda stored: True) == 1
    assert bank.claim(3, lambda stored: stored != 0) == 0


def test_colours_stand_before_the_labels_and_stay_when_these_are_widened() -> None:
    bank = MemoryBank(2, (4, 5), 8, 2, colours=True)
    bank.colours[:], bank.labels[:] = 0.5, 0.25
    bank.widen(4)
    assert bank.values.shape == (2, 4, 5, 3 + 4)
    assert (bank.colours == 0.5).all()
    np.testing.assert_array_equal(bank.labels[0, 0, 0], [0.25, 0.25, 0, 0])


@pytest.mark.parametrize("refined", [False, True])
@pytest.mark.parametrize("enhanced", [False, True])
def test_what_is_kept_twice_counts_twice(refined: bool, enhanced: bool) -> None:
    bank = MemoryBank(3, (4, 5), 8, 2, refined=refined, enhanced=enhanced)
    assert (bank.raw_keys is bank.key_block.shared) != refined
    blocks = [each for each in vars(bank).values() if isinstance(each, Block)]
    held = {id(array): array.nbytes for array in [*(b.host for b in blocks), bank.raw_keys]}
    assert bank.nbytes == sum(held.values())
    before = bank.nbytes
    bank.widen(6)
    assert bank.nbytes - before == (2 if enhanced else 1) * 3 * 4 * 5 * 4 * 4


def test_keys_before_they_are_refined_take_no_memory_of_the_host_beside_a_device() -> None:
    held = []
    for refined in (False, True):
        device = FakeCuda()
        bank = MemoryBank(3, (4, 5), 8, 2, refined=refined, device=device)
        held.append((sum(block.size for block in device.held_on_host.values()), bank.nbytes))
        assert isinstance(bank.raw_keys, DeviceArray)
    keys = 4 * 3 * 4 * 5 * 8
    assert held[1] == (held[0][0], held[0][1] + keys)
