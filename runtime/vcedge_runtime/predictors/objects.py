"""One video's objects with SRNet, frame by frame: read, align, follow prototypes, decode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Device, fetch_block
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.errors import TrackerError
from vcedge_runtime.frames.fitting import Fit
from vcedge_runtime.frames.windows import Window, bring_over, overlap
from vcedge_runtime.memory.bank import MemoryBank
from vcedge_runtime.memory.long_term import LongTermMemory, LongTermPolicy
from vcedge_runtime.memory.objects import ObjectBank
from vcedge_runtime.model.object_composition import ObjectComposition
from vcedge_runtime.predictors.doubt import Doubt
from vcedge_runtime.predictors.finite import require_finite
from vcedge_runtime.predictors.hidden import HiddenStates
from vcedge_runtime.predictors.long_term import LongTerm
from vcedge_runtime.predictors.object_frames import EncodedFrame, FoundObjects, cover_pixels
from vcedge_runtime.predictors.object_graphs import ObjectGraphs
from vcedge_runtime.predictors.object_reader import ObjectReader
from vcedge_runtime.predictors.protocol import everything_or_nothing
from vcedge_runtime.predictors.reading_back import read_object_back
from vcedge_runtime.predictors.strays import clear_strays
from vcedge_runtime.predictors.zoomed import ZoomedViews
from vcedge_runtime.propagation.labels import Decision, assign_share, mask_from_labels
from vcedge_runtime.propagation.upsample import open_upsampler
from vcedge_runtime.timing import Timings, timed

Planes = NDArray[np.float32]


class ObjectPredictor:
    """Masks of one video's objects, each on its own, in the working size; see ``Predictor``.

    Args:
        parts: the composition.
        engines: by name; the caller closes them.
        work_hw: height and width in which frames are encoded, whole key cells.
        objects: how many are followed to begin with.
        device: of the engines; None where they run on the host.
        fit: where the frame lies in the working size; all of it when None.

    Attributes:
        bank: keys, and shares at the key grid.
        values: what memory keeps of the objects, in the same slots.
        frame: number of the last frame that is done.
        readout_macs: multiply-accumulates of the readouts of all frames so far.

    Raises:
        TrackerError: the key grid has fewer cells than a readout takes.
    """

    def __init__(
        self,
        parts: ObjectComposition,
        engines: Mapping[str, Engine],
        work_hw: tuple[int, int],
        objects: int,
        device: Device | None = None,
        fit: Fit | None = None,
    ) -> None:
        grid_hw = (work_hw[0] // parts.stride, work_hw[1] // parts.stride)
        if parts.top_k is not None and grid_hw[0] * grid_hw[1] < parts.top_k:
            raise TrackerError(
                f"received frames of {grid_hw[0]}x{grid_hw[1]} key cells; expected at least "
                f"{parts.top_k} cells; choose a larger working size"
            )
        self.parts = parts
        self.frame = 0
        self.readout_macs = 0
        self.point_names: Sequence[str] = ()
        self._device = device
        self._fit = fit or Fit(work_hw, work_hw)
        self._place_of: dict[int, int] = {}
        self._drawn_in: dict[int, int] = {}
        self._doubt = Doubt(parts.doubt)
        reserved = parts.reserved(grid_hw[0] * grid_hw[1])
        spare = parts.spare + reserved
        slots = parts.slots + spare
        self.memory = parts.begin_memory()
        self.bank = MemoryBank(
            slots, grid_hw, parts.key_dim, objects + 1, spare=spare, device=device
        )
        self.values = ObjectBank(slots, grid_hw, parts.value_dim, objects, device)
        states = (objects, parts.hidden_dim, *grid_hw)
        self._hidden = HiddenStates(states, device, moves=parts.window.moves)
        self._long_term: LongTerm | None = None
        if reserved and isinstance(parts.memory, LongTermPolicy):
            self._long_term = LongTerm(parts.memory, self.bank, self.values, reserved)
        # The last frame and the next: where the next one fails, the last can still be drawn in.
        self._last, self._next = (
            EncodedFrame(engines["query_encoder"], parts.stride, work_hw, objects, device)
            for _ in range(2)
        )
        self._graphs = ObjectGraphs(parts, engines, self.bank, self.values, self._hidden, device)
        first = parts.slots + parts.spare - len(parts.scales)
        views = range(first, parts.slots + parts.spare)
        self._views = ZoomedViews(parts.scales, views, self._graphs)
        self._found = self._make_room()
        self._window = Window(work_hw, grid_hw, grid_hw)
        self._windows = [self._window] * slots
        self._reader = ObjectReader(
            parts, engines, self.bank, self.values, self._windows, self._long_term, device
        )

    @property
    def object_ids(self) -> list[int]:
        """Ids that are followed, in the order they were added."""
        return list(self._place_of)

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Height and width of the key grid."""
        return self.bank.grid_hw

    @property
    def label_hw(self) -> tuple[int, int]:
        """The working size."""
        _, height, width = self._last.shares.host.shape
        return height, width

    @property
    def memory_bytes(self) -> int:
        """Bytes of all arrays that outlive a frame; only ``draw`` and ``forget`` change it."""
        held = (self.bank, self.values, self._last, self._next, self._found, self._hidden)
        kept = self.parts.memory.count_bytes(self.parts.key_dim)
        kept += self._long_term.nbytes if self._long_term else 0
        return kept + sum(each.nbytes for each in (*held, self._graphs, self._reader))

    def look(self, window: Window) -> None:
        """Take the frames to come through this window of them; what is remembered stays."""
        self._window = window

    def look_again(self, image: Planes, window: Window) -> None:
        """See the last frame through another window; its masks move there.

        Args:
            image: the window's part of the frame, as in ``step``.
            window: the other one.
        """
        slot = self.bank.slot_of(self.frame)
        former, key, values = self._windows[slot], self.bank.save_key(slot), self._save(slot)

        def restore() -> None:
            key()
            values()

        with everything_or_nothing(restore):
            self._graphs.encode(slot, image, self._next, {})
            shares, seen = self._next.shares, self._last.shares.host
            # A pixel is to a plane what a cell is to the key grid.
            before, after = (each.in_cells(self.label_hw) for each in (former, window))
            for plane, moved in zip(seen[1:], shares.host[1:], strict=True):
                bring_over(plane, before, after, moved)
                # What the former window did not show is no object's, whoever touched its border.
                moved[~overlap(before, after)] = 0
            shares.host[0] = 1 - shares.host[1:].sum(axis=0)
            shares.push()
            self._hidden.begin_again(former, window)
            self._remember(self.frame, slot, self._next)
            self._hidden.finish()
        self._window = self._windows[slot] = window
        self._last, self._next = self._next, self._last

    def start(self, image: Planes, mask: NDArray[np.uint8], objects: list[int]) -> None:
        """Take the first frame and its mask."""
        self._place_of = {object_id: place for place, object_id in enumerate(objects)}
        self._take(0, image, mask)

    def show(self, image: Planes, mask: NDArray[np.uint8]) -> None:
        """Take the next frame and the mask of all objects in it; pin that frame."""
        self._take(self.frame + 1, image, mask)
        self.memory.annotate(self.frame)

    def _take(self, frame: int, image: Planes, mask: NDArray[np.uint8]) -> None:
        slot = self.bank.claim(frame, self._keeps if frame else lambda stored: True)
        self._windows[slot] = self._window
        self._hidden.begin(self._windows[self.bank.slot_of(self.frame)], self._window)
        self._graphs.encode(slot, image, self._next, {})
        shares = self._next.shares
        shares.host[1:] = [self._cover(mask == object_id) for object_id in self._place_of]
        shares.host[0] = 1 - shares.host[1:].sum(axis=0)
        shares.push()
        self._remember(frame, slot, self._next)
        self._finish(frame)
        self._drawn_in = dict.fromkeys(self._place_of, frame)
        self._views.ask(frame)

    def step(self, image: Planes, timings: Timings) -> None:
        """Take the next frame; where anything fails, the last one stays the last."""
        frame = self.frame + 1
        with timed(timings, "remember"):
            self._views.make(self._last, self._next, self._found)
        slot = self.bank.claim(frame, self._keeps)
        self._windows[slot] = self._window
        self._hidden.begin(self._windows[self.bank.slot_of(self.frame)], self._window)
        self._graphs.encode(slot, image, self._next, timings)
        with timed(timings, "memory"):
            chosen = self.memory.select(frame, self.bank.keys[slot], self._coarse_read(slot))
            slots = [self.bank.slot_of(past) for past in chosen]
        shares = self._next.shares
        if self._place_of:
            local = self._read(frame, slot, slots, timings)
            with timed(timings, "prototypes"):
                features = self._graphs.follow_prototypes([*slots, local], self._found)
            with timed(timings, "segment"):
                self._graphs.decode(features, self._next, self._found)
            self._found.require_finite_logits(frame, scratch=shares.host[1:])
            fetch_block(shares, timings)
            require_finite(shares.host, "shares")
            former, last = self._windows[self.bank.slot_of(self.frame)], self._last.shares.host
            clear_strays(self._place_of.values(), shares, last, former, self._window)
            self._doubt.refuse(self._place_of, shares)
        else:
            shares.host[...] = 1
        with timed(timings, "remember"):
            if self.parts.reads_last or self.memory.wants(frame):
                self._remember(frame, slot, self._next)
            else:
                self.memory.store(frame, self.bank.keys[slot], self.bank.labels[slot])
            self._finish(frame)

    def _finish(self, frame: int) -> None:
        """Make the next frame the last."""
        if self._long_term and isinstance(self.memory, LongTermMemory):
            self._long_term.finish(frame, self.memory)
        self._hidden.finish()
        self._doubt.finish()
        self.frame = frame
        self._last, self._next = self._next, self._last

    def decide(self, frame: NDArray[np.uint8]) -> Decision:
        """Find the winning object of every pixel of the last frame."""
        labels = np.moveaxis(self._last.shares.host, 0, -1)[self._fit.slices]
        channel_of = {object_id: 1 + place for object_id, place in self._place_of.items()}
        upsampler = open_upsampler(frame, self._fit.content_hw, edges=self.parts.edges)
        return mask_from_labels(labels, channel_of, upsampler)

    def draw(self, object_id: int, mask: NDArray[np.uint8]) -> None:
        """Follow an object from the last frame on, or correct its mask there; pin that frame.

        Earlier frames in memory learn of it too, but for those in which it was drawn before: its
        values are read back into them from the last frame (our choice).
        """
        covered = self._cover(mask > 0)
        slot = self.bank.slot_of(self.frame)
        with everything_or_nothing(self._save(slot)):
            if object_id not in self._place_of:
                self._add(object_id)
            place, drawn = self._place_of[object_id], self._last.shares
            assign_share(np.moveaxis(drawn.host, 0, -1), 1 + place, covered)
            drawn.push()
            self._hidden.begin_again(self._windows[slot], self._windows[slot])
            self._remember(self.frame, slot, self._last)
            self._hidden.finish()
            drawn_in = self._drawn_in.get(object_id, -1)
            if self._views.frame == self.frame:
                self._views.ask(self.frame)
                # Where a window follows, the frame before is the same one, whole.
                drawn_in = -1
            self._read_back(place, drawn_in)
            self._drawn_in[object_id] = self.frame
            self.memory.annotate(self.frame)
        self._doubt.believe(object_id)

    def forget(self, object_id: int) -> None:
        """Follow an object no longer; what it covered becomes background."""
        with everything_or_nothing(self._save(self.bank.slot_of(self.frame))):
            place = self._place_of.pop(object_id)
            del self._drawn_in[object_id]
            self._place_of = {other: at - (at > place) for other, at in self._place_of.items()}
            self.values.remove(place)
            self._hidden.remove(place)
            self.bank.drop(1 + place)
            shares = self._last.shares.host
            shares[0] += shares[1 + place]
            self._exchange_shares(np.delete(shares, 1 + place, axis=0))
            for frame, at in self._done():
                self.memory.store(frame, self.bank.keys[at], self.bank.labels[at])
        if self._views.frame == self.frame:
            self._views.ask(self.frame)

    def _save(self, slot: int) -> Callable[[], None]:
        """What puts back all that a change of objects changes; it takes no memory of a device.

        Args:
            slot: the last frame's.
        """
        places, drawn, found = self._place_of.copy(), self._drawn_in.copy(), self._found
        blocks, held = (self._last.shares, self._next.shares), self._last.shares.host.copy()
        values = self.values.save([slot, *self._views.slots])
        labels = self.bank.save_values()
        hidden = self._hidden.save()
        memory = deepcopy(self.memory)

        def restore() -> None:
            self._place_of, self._drawn_in, self._found = places, drawn, found
            self.memory = memory
            self._last.shares, self._next.shares = blocks
            blocks[0].host[...] = held
            blocks[0].push()
            values()
            labels()
            hidden()

        return restore

    def _add(self, object_id: int) -> None:
        self._place_of[object_id] = len(self._place_of)
        self.values.add()
        self._hidden.add()
        self.bank.widen(self.bank.channels + 1)
        shares = self._last.shares.host
        self._exchange_shares(np.concatenate([shares, np.zeros_like(shares[:1])]))

    def _exchange_shares(self, shares: Planes) -> None:
        """Make room for as many objects as the last frame's shares are now of."""
        self._last.exchange_shares(shares)
        self._next.exchange_shares(np.zeros_like(shares))
        self._found = self._make_room()

    def _make_room(self) -> FoundObjects:
        objects, *work_hw = self._last.shares.host.shape
        height, width = work_hw
        grid_hw, dim = self.grid_hw, self.parts.value_dim
        shape = (objects - 1, (height, width), grid_hw, dim)
        return FoundObjects(*shape, self._device, mixes=self.parts.mixes)

    def _cover(self, mask: NDArray[np.bool_]) -> Planes:
        """Share of each pixel of the working size that a mask of the frame covers."""
        return self._fit.pad(cover_pixels(mask, self._fit.content_hw))

    def _done(self) -> list[tuple[int, int]]:
        """Frames that may still be read, each with its slot."""
        stored = self.bank.stored()
        return [
            (frame, slot) for frame, slot in stored if frame <= self.frame and self._keeps(frame)
        ]

    def _keeps(self, stored: int) -> bool:
        return stored > self.frame - self.parts.interval or self.memory.keeps(stored)

    def _read(self, frame: int, slot: int, slots: Sequence[int], timings: Timings) -> int:
        """Read global and local memory, and mix them; return the local slot."""
        local = self.bank.slot_of(max(0, frame - self.parts.interval))
        slots = [*slots, *self._views.slots]
        count = self._reader.read(slot, slots, local, self._window, self._found, timings)
        cells = self.grid_hw[0] * self.grid_hw[1]
        for frames in (count, *([1] if self.parts.local != "off" else [])):
            self.readout_macs += self.parts.count_readout(cells, frames, len(self._place_of))
        return local

    def _remember(self, frame: int, slot: int, encoded: EncodedFrame) -> None:
        """Take a frame's objects into its slot, by its shares."""
        self._graphs.write(slot, encoded, self._found)
        self.memory.store(frame, self.bank.keys[slot], self.bank.labels[slot])

    def _coarse_read(self, slot: int) -> Callable[[Sequence[int]], Planes]:
        """Read labels at the key grid, for memories that ask."""

        def read(frames: Sequence[int]) -> Planes:
            slots = [self.bank.slot_of(past) for past in frames]
            labels, keys = self.bank.labels[..., None], self.bank.key_block.shared
            found = np.empty((labels.shape[3], 1, *self.grid_hw), np.float32)
            self._reader.attend(keys[slot], keys, labels, slots, found)
            return np.ascontiguousarray(np.moveaxis(found[:, 0], 0, -1))

        return read

    def _read_back(self, place: int, drawn_in: int) -> None:
        """Give the frames since ``drawn_in`` an object's values, read from the last frame."""
        last = self.bank.slot_of(self.frame)
        past = [(f, slot) for f, slot in self._done() if drawn_in < f < self.frame]
        slots = [slot for _, slot in past]
        if self._long_term and drawn_in < 0:
            slots += self._long_term.slots
        if drawn_in < self._views.frame < self.frame:
            slots += self._views.slots
        if slots:
            self.values.change(
                lambda values: read_object_back(
                    values, self.bank, self.values, place, last, slots, self._reader.attend
                )
            )
        for frame, slot in past:
            self.memory.store(frame, self.bank.keys[slot], self.bank.labels[slot])
