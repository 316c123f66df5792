"""Refines keys in memory by MER's value extraction, each by its own value map or by another's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vcedge_runtime.buffers import Device, fetch_block, share_array
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.memory.bank import MemoryBank
from vcedge_runtime.memory.references import ReferencePolicy
from vcedge_runtime.sampling.tokens import WINDOWS, token_grid
from vcedge_runtime.timing import Timings, timed

VALUE_REFERENCES = ReferencePolicy()
"""The frames that the value extraction compares with (MER's own, whatever is read)."""


class KeyRefiner:
    """The value extraction of one video (MER, eqs. 6 to 12).

    Args:
        engine: runs the graph ``value_extraction``.
        bank: the memory, with keys as the encoder gave them beside the refined ones.
        device: of the engine; None where it runs on the host.
    """

    def __init__(self, engine: Engine, bank: MemoryBank, device: Device | None) -> None:
        self._engine = engine
        self._bank = bank
        tables = vars(token_grid(bank.grid_hw))
        self._tables = {name: share_array(table, device) for name, table in tables.items()}
        self._value_map = np.zeros((WINDOWS, WINDOWS), np.float32)
        shapes = {tensor.name: tensor.shape for tensor in engine.spec.inputs}
        self._places = int(shapes["slot_index"][0])
        self._takes_target = "target" in shapes

    @property
    def nbytes(self) -> int:
        """Bytes of its tables and of the value map."""
        return self._value_map.nbytes + sum(table.nbytes for table in self._tables.values())

    def refine(self, frame: int, annotated: int, slots: Sequence[int], timings: Timings) -> None:
        """Refine the keys of some slots by a frame's value map; Python then sees them.

        Args:
            frame: number of the target, whose key is in memory.
            annotated: number of the last frame for which a mask was given.
            slots: of the keys, the target's own or, where the graph has the input ``target``, any.
            timings: get what it takes.
        """
        bank, keys = self._bank, self._bank.raw_keys
        held = dict(bank.stored())
        past = VALUE_REFERENCES.read(frame, annotated) if frame else [0]
        seen = [held[number] for number in past if number in held][-self._places :]
        missing = self._places - len(seen)
        inputs = {
            "keys": keys,
            "slot_index": np.array([*seen, *[held[frame]] * missing], np.int64),
            "slot_valid": np.array([1] * len(seen) + [0] * missing, np.float32),
            **self._tables,
        }
        if self._takes_target:
            inputs["target"] = keys[held[frame]]
        for slot in slots:
            out = {"key": bank.key_block.shared[slot], "value_map": self._value_map}
            with timed(timings, "values"):
                self._engine.run({**inputs, "x": keys[slot]}, out)
            fetch_block(bank.key_block, timings, slot)
