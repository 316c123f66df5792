"""Long-term memory in slots: cells lie one behind the other, are counted, and make room."""

from __future__ import annotations

import numpy as np
import pytest

from tests.runtime.engines.fake_cuda import FakeCuda
from vcedge_runtime.buffers import to_host
from vcedge_runtime.memory.bank import MemoryBank
from vcedge_runtime.memory.long_term import LongTermPolicy
from vcedge_runtime.memory.objects import ObjectBank
from vcedge_runtime.predictors.long_term import LongTerm

GRID, KEY_DIM, NOTHING = (2, 3), 5, np.zeros((1, 1, 2), np.float32)


class Video:
    """Frames that are remembered one by one, with a key and a value that tell which they are."""

    def __init__(self, policy: LongTermPolicy, device: FakeCuda | None = None) -> None:
        reserved = policy.count_slots(GRID[0] * GRID[1])
        self.memory = policy.begin()
        slots = policy.slots + reserved
        self.bank = MemoryBank(slots, GRID, KEY_DIM, 2, spare=reserved, device=device)
        self.values = ObjectBank(slots, GRID, 2, 1, device)
        self.long_term = LongTerm(policy, self.bank, self.values, reserved)
        self.frame = -1

    def step(self, usage: float = 1.0) -> None:
        """Remember one frame more, of whose past every cell was read as much."""
        self.frame += 1
        slot = self.bank.claim(self.frame, lambda past: past == self.frame - 1 or self.keeps(past))
        if self.frame:
            chosen = self.memory.select(self.frame, NOTHING, lambda frames: NOTHING)
            slots = [*map(self.bank.slot_of, chosen), *self.long_term.slots]
            valid = self.long_term.find_valid(slots)
            self.long_term.note(slots, usage * valid)
        self.bank.key_block.host[slot] = 100.0 * self.frame
        self.bank.key_block.host[slot, ..., 2:] = 1
        self.bank.key_block.push(slot)
        value = to_host(self.values.values[slot])
        value[...] = self.frame
        if self.bank.key_block.is_apart:
            self.values.values[slot].write(value)  # type: ignore[union-attr]
        self.memory.store(self.frame, NOTHING, NOTHING)
        self.long_term.finish(self.frame, self.memory)

    def keeps(self, past: int) -> bool:
        return self.memory.keeps(past)

    def cells(self) -> list[float]:
        """What the cells of long-term memory are of, in order: their value, which their key has."""
        slots = self.long_term.slots
        size = self.long_term.size
        keys, values = (
            np.concatenate([to_host(each[slot]).reshape(6, -1) for slot in slots])[:size, 0]
            for each in (self.bank.key_block.shared, self.values.values)
        )
        np.testing.assert_allclose(keys, 100 * values, rtol=1e-5)
        return [float(value) for value in values]


@pytest.mark.parametrize("device", [None, FakeCuda()], ids=["host", "device"])
def test_frames_that_leave_become_cells_one_behind_the_other(device: FakeCuda | None) -> None:
    policy = LongTermPolicy(every=1, least=2, batch=2, prototypes=4, cells=20)
    video = Video(policy, device)
    for _ in range(4):
        video.step()
    # Of frames 1 and 2, whose cells were read alike for their age, the earliest.
    assert video.cells() == [1] * 4
    for _ in range(2):
        video.step()
    assert video.cells() == [1] * 4 + [3] * 4
    assert len(video.long_term.slots) == 2
    valid = video.long_term.find_valid([0, *video.long_term.slots])
    assert valid.reshape(3, 6).sum(axis=1).tolist() == [6, 6, 2]


def test_what_was_used_least_for_its_age_makes_room() -> None:
    policy = LongTermPolicy(every=1, least=2, batch=2, prototypes=4, cells=10)
    video = Video(policy)
    for _ in range(6):
        video.step()
    assert video.long_term.size == 8
    slot = video.long_term.slots[0]
    # The first two cells are of use, the next two of none.
    video.long_term.use[slot].reshape(-1)[:4] = [9, 9, 0, 0]
    for _ in range(2):
        video.step(usage=0.5)
    # Six and four more: those that were of no use went, and those of equal use with them.
    assert video.long_term.size <= 10
    assert video.cells()[:2] == [1, 1]
    assert 5 in video.cells()
    assert video.long_term.use[slot].reshape(-1)[0] > 9


def test_nothing_is_counted_twice_or_of_a_frame_that_was_not_done() -> None:
    video = Video(LongTermPolicy(every=1))
    for _ in range(3):
        video.step()
    slots = [video.bank.slot_of(frame) for frame in range(3)]
    assert video.long_term.use[slots].reshape(3, -1)[:, 0].tolist() == [2, 1, 0]
    video.long_term.note([slots[0]], np.ones((1, *GRID), np.float32))
    video.long_term.note([slots[0]], np.ones((1, *GRID), np.float32))
    assert video.long_term.use[slots[0], 0, 0] == 2
    video.memory.store(3, NOTHING, NOTHING)


def test_its_bytes_are_those_of_the_counters() -> None:
    long_term = Video(LongTermPolicy()).long_term
    assert long_term.nbytes == long_term.use.nbytes + long_term.life.nbytes
