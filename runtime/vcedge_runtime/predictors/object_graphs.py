"""SRNet's encoders and its decoder, on the arrays of one video's objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.buffers import Buffer, Device, fetch_block, push_blocks, share_array
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.memory.bank import MemoryBank
from vcedge_runtime.memory.objects import ObjectBank
from vcedge_runtime.model.object_composition import ObjectComposition
from vcedge_runtime.predictors.finite import require_finite
from vcedge_runtime.predictors.hidden import HiddenStates
from vcedge_runtime.predictors.object_frames import EncodedFrame, FoundObjects, group_objects
from vcedge_runtime.propagation.prototypes import sine_positions
from vcedge_runtime.timing import Timings, timed


class ObjectGraphs:
    """All graphs but those that read memory; the predictor says which frame and which slot.

    Args:
        parts: the composition.
        engines: by name; the caller closes them.
        bank: keys, and shares at the key grid.
        values: of the objects, in the same slots.
        hidden: states of the objects.
        device: of the engines; None where they run on the host.
    """

    def __init__(
        self,
        parts: ObjectComposition,
        engines: Mapping[str, Engine],
        bank: MemoryBank,
        values: ObjectBank,
        hidden: HiddenStates,
        device: Device | None,
    ) -> None:
        self._parts = parts
        self._engines = engines
        self._bank = bank
        self._values = values
        self._hidden = hidden
        self._positions = share_array(sine_positions(bank.grid_hw, parts.value_dim), device)

    @property
    def nbytes(self) -> int:
        """Bytes of its own array."""
        return self._positions.nbytes

    def encode(
        self, slot: int, image: NDArray[np.float32], encoded: EncodedFrame, timings: Timings
    ) -> None:
        """Write a frame's key into a slot, and keep its features.

        Args:
            slot: its own.
            image: (H, W, 3) float32 in the encoder's input colour.
            encoded: where image and features go.
            timings: added to.

        Raises:
            NotFiniteError: the key is not finite.
        """
        with timed(timings, "resize"):
            encoded.image.host[0] = image.transpose(2, 0, 1)
        push_blocks([encoded.image], timings)
        block = self._bank.key_block
        with timed(timings, "encode"):
            out = {"key": block.shared[slot], **encoded.features}
            self._engines["query_encoder"].run({"image": encoded.image.shared}, out)
        if self._parts.memory.reads_keys:
            fetch_block(block, timings, slot)
        if self._parts.memory.reads_keys or not block.is_apart:
            require_finite(self._bank.keys[slot], "keys")

    def follow_prototypes(self, slots: Sequence[int], found: FoundObjects) -> Buffer:
        """Correct what was read by the objects' prototypes.

        Args:
            slots: of the frames whose prototypes are followed.
            found: what was read, and where what is corrected goes.

        Returns:
            (K, Cv, h, w) float32, one of the arrays of ``found``, valid until its next frame.
        """
        if not self._parts.prototypes:
            return found.mixed
        sums, weights = self._values.sum_slots(slots)
        inputs = {"mixed": found.mixed, "sums": sums, "weights": weights}
        self._engines["prototype_transformer"].run(
            {**inputs, "positions": self._positions}, {"features": found.features}
        )
        return found.features

    def decode(self, features: Buffer, encoded: EncodedFrame, found: FoundObjects) -> None:
        """Decode a frame's features to its shares.

        Args:
            features: (K, Cv, h, w) float32, as ``follow_prototypes`` gives them.
            encoded: the frame; its shares are written.
            found: where the (K, H, W) float32 logits go.
        """
        decoder, held = self._engines["mask_decoder"], encoded.features
        frame = {t.name: held[t.name] for t in decoder.spec.inputs if t.name in held}
        for some in group_objects(len(features)):
            inputs, out = {"features": features[some], **frame}, {"logits": found.logits[some]}
            if self._parts.hidden_dim:
                inputs["hidden"] = self._hidden.now[some]
                out["next_hidden"] = self._hidden.next[some]
            decoder.run(inputs, out)
        shares = {"shares": encoded.shares.shared}
        self._engines["soft_aggregation"].run({"logits": found.logits}, shares)

    def write(self, slot: int, encoded: EncodedFrame, found: FoundObjects) -> None:
        """Encode a frame's objects into a slot, by its shares.

        Args:
            slot: where values, sums and (h, w, K + 1) float32 shares at the key grid go.
            encoded: the frame.
            found: room for values of objects that are encoded together.

        Raises:
            NotFiniteError: the values are not finite.
        """
        values, shares, labels = self._values, encoded.shares.shared, self._bank.labels[slot]
        masks, encoder = shares[1:], self._engines["value_encoder"]
        for some in group_objects(len(masks)):
            count = len(masks[some])
            value = values.values[slot] if count == len(masks) else found.parts[count]
            coverage = np.empty((count, *self._bank.grid_hw), np.float32)
            held = {"image": encoded.image.shared, **encoded.features}
            held |= {"masks": masks[some], "background": shares[:1]}
            held["hidden"] = self._hidden.now[some]
            # A value is made of the picture or of its features.
            inputs = {tensor.name: held[tensor.name] for tensor in encoder.spec.inputs}
            sums = {"sums": values.sums[slot, some], "weights": values.weights[slot, some]}
            out = {"value": value, **sums, "coverage": coverage}
            if self._parts.hidden_dim:
                out["next_hidden"] = self._hidden.next[some]
            encoder.run(inputs, out)
            if count < len(masks):
                values.put(slot, some, value)
            labels[..., 1 + some.start : 1 + some.stop] = np.moveaxis(coverage, 0, -1)
        require_finite(values.sums[slot], "values")
        labels[..., 0] = 1 - labels[..., 1:].sum(axis=-1)
