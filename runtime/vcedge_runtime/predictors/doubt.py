"""Objects that were away, and are not taken back while the model is in doubt."""

from __future__ import annotations

from collections.abc import Mapping

from vcedge_runtime.buffers import Block

SEEN = 0.5
"""Share of a pixel from which it is surely an object's (our choice)."""


class Doubt:
    """Takes what looks like an object that was away for background, where the model is in doubt.

    What is remembered of an object, wrongly, is found again in the next frame with a larger score,
    and after ten frames the model is sure of it (our choice, measured).

    Args:
        least: score, the mean share of an object's pixels, from which it is taken back; 0 for any.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self._away: set[int] = set()
        self._away_next: set[int] = set()

    def refuse(self, place_of: Mapping[int, int], shares: Block) -> None:
        """Clear the shares of objects that were nowhere in the last frame and are in doubt now.

        Args:
            place_of: place of each object's id.
            shares: (1 + K, H, W) float32, the background's and each object's by its place; changed
                on the host, and pushed where it is.
        """
        if not self._least:
            return
        away = set()
        for object_id, place in place_of.items():
            share = shares.host[1 + place]
            seen = share > SEEN
            if object_id in self._away and seen.any() and share[seen].mean() < self._least:
                shares.host[0] += share
                share[...] = 0
                shares.push()
                away.add(object_id)
            elif not seen.any():
                away.add(object_id)
        self._away_next = away

    def finish(self) -> None:
        """Make the next frame the last."""
        self._away = self._away_next

    def believe(self, object_id: int) -> None:
        """Take an object that was drawn for seen."""
        self._away = self._away - {object_id}
        self._away_next = self._away
