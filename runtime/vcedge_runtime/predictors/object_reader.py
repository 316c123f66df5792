"""What a query reads of objects in memory: of global memory, of local memory, and of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Buffer, Device, to_host, zeros_for
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.frames.windows import Window, bring_over
from vcedge_runtime.memory.bank import MemoryBank
from vcedge_runtime.memory.objects import ObjectBank
from vcedge_runtime.model.object_composition import ObjectComposition
from vcedge_runtime.predictors.beside import done_beside
from vcedge_runtime.predictors.long_term import LongTerm
from vcedge_runtime.predictors.memory_read import run_memory_read
from vcedge_runtime.predictors.object_frames import FoundObjects
from vcedge_runtime.timing import Timings, timed


class ObjectReader:
    """Reads what one video's memory holds of its objects.

    Args:
        parts: the composition.
        engines: by name.
        bank: keys.
        values: of the objects, in the same slots.
        windows: through which each slot's frame was seen.
        long_term: further cells, where there are any.
        device: of the engines; None where they run on the host.
    """

    def __init__(
        self,
        parts: ObjectComposition,
        engines: Mapping[str, Engine],
        bank: MemoryBank,
        values: ObjectBank,
        windows: Sequence[Window],
        long_term: LongTerm | None,
        device: Device | None,
    ) -> None:
        self._parts = parts
        self._engines = engines
        self._bank = bank
        self._values = values
        self._windows = windows
        self._long_term = long_term
        self._aligned_key = zeros_for((1, *bank.grid_hw, parts.key_dim), device)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays of its own."""
        return self._aligned_key.nbytes

    def read(
        self,
        slot: int,
        slots: Sequence[int],
        local: int,
        window: Window,
        found: FoundObjects,
        timings: Timings,
    ) -> int:
        """Read global and local memory, and mix them.

        Args:
            slot: that holds the query's key.
            slots: of global memory.
            local: the slot of local memory.
            window: through which the query's frame is seen.
            found: what is read is written there.
            timings: the stages' times are added to it.

        Returns:
            How many slots of global memory were read.
        """
        keys = self._bank.key_block.shared
        slots = [*slots, *(self._long_term.slots if self._long_term else ())]

        def read_global() -> None:
            usage = self.attend(keys[slot], keys, self._values.values, slots, found.read)
            if self._long_term and usage is not None:
                self._long_term.note(slots, usage)

        aligned = timings.get("align", 0.0)
        with timed(timings, "readout"):
            if self._parts.mixes:
                with done_beside(self._engines["memory_read"], read_global):
                    near, value = self._read_local(keys[slot], local, window, found, timings)
                inputs = {"readout": found.read, "local_readout": near, "local_value": value[0]}
                self._engines["readout_mix"].run(inputs, {"mixed": found.mixed})
            else:
                read_global()
        # What is a stage of its own is none of this one.
        timings["readout"] -= timings.get("align", 0.0) - aligned
        return len(slots)

    def attend(
        self, query: Buffer, keys: Buffer, values: Buffer, slots: Sequence[int], out: Buffer
    ) -> NDArray[np.float32] | None:
        """Read (S, h, w, K, C) values of some slots into ``out``, (K, C, h, w).

        Returns:
            (R, h, w) how much was read of each cell, where the model tells.
        """
        valid, reader = None, self._engines["memory_read"]
        if self._long_term:
            valid = self._long_term.find_valid(slots)
        return run_memory_read(reader, query, keys, values, slots, out, valid)

    def _read_local(
        self, query: Buffer, local: int, window: Window, found: FoundObjects, timings: Timings
    ) -> tuple[Buffer, Buffer]:
        """Read local memory, bent towards the query; return what was read, and its own value."""
        parts, shown = self._parts, local
        if parts.local == "off":
            # Nothing is ever aligned then, and these are zeros.
            return found.read, found.aligned
        if self._windows[local] != window:
            with timed(timings, "align"):
                shown = self._bring_over(local, window)
        key = self._bank.key_block.shared[shown][None]
        value = self._values.values[shown][None]
        if parts.local == "fam":
            with timed(timings, "align"):
                aligned = {"aligned_key": self._aligned_key[0], "aligned_value": found.aligned[0]}
                inputs = {"query": query, "key": key[0], "value": value[0]}
                self._engines["feature_alignment"].run(inputs, aligned)
                key, value = self._aligned_key, found.aligned
        self.attend(query, key, value, [0], found.near)
        return found.near, value

    def _bring_over(self, slot: int, window: Window) -> int:
        """Bring what a slot holds into the spare one, as far as this window shows it."""
        former, spare = self._windows[slot], self._parts.slots
        block, values = self._bank.key_block, to_host(self._values.values[slot])
        bring_over(to_host(block.shared[slot]), former, window, block.host[spare])
        block.push(spare)
        moved = np.empty_like(values)
        bring_over(values, former, window, moved)
        self._values.write(spare, moved)
        return spare
