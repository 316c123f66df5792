"""How far objects moved between a reference and the current frame, so that windows follow them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.settings import Bounds, check_settings

Shift = tuple[int, int]
"""Rows and columns, in key cells, from a reference to the current frame."""


@dataclass(frozen=True)
class NoAlignment:
    """Windows stay in place; there are no settings."""


@dataclass(frozen=True)
class AlignmentSettings:
    """How objects are found again (our choice; no paper aligns windows).

    Attributes:
        reach: cells around the expected place that are searched, in each direction, 1 to 256.
        cells: of an object that are compared, at most, 3 to 512.
        spread: cells from the expected place at which ``doubt`` / 2 of a cosine is lost, 0.1 to
            10,000.
        doubt: price of distance from the expected place, 0 to 100.
        sure: mean cosine, -1 to 1, that an object which was lost must reach to be looked for
            elsewhere.
    """

    reach: Annotated[int, Bounds(1, 256)] = 24
    cells: Annotated[int, Bounds(3, 512)] = 96
    spread: Annotated[float, Bounds(0.1, 10_000)] = 12.0
    doubt: Annotated[float, Bounds(0, 100)] = 0.1
    sure: Annotated[float, Bounds(-1, 1)] = 0.4

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Template:
    """An object in a reference.

    Attributes:
        cells: (M, 2) int64 rows and columns, evenly thinned.
        keys: (M, C) float32 unit keys.
    """

    cells: NDArray[np.int64]
    keys: NDArray[np.float32]


@dataclass(frozen=True)
class ObjectShifts:
    """How far the objects moved from each of R references to the current frame.

    Attributes:
        found: for each reference, an object's cells there and its shift, for all that are seen.
    """

    found: tuple[tuple[tuple[NDArray[np.int64], Shift], ...], ...]

    def of_queries(self, centres: NDArray[np.float64]) -> NDArray[np.int64]:
        """Shifts by which tiles of the current frame look back.

        Args:
            centres: (N, 2) row and column of each tile's middle.

        Returns:
            (N, R, 2) int64, those of the object that is expected nearest to the tile.
        """
        return self._nearest(centres, moved=True)

    def of_references(self, centres: NDArray[np.float64]) -> NDArray[np.int64]:
        """Shifts by which tiles of the references are seen: as ``of_queries``, from there."""
        return self._nearest(centres, moved=False)

    def _nearest(self, centres: NDArray[np.float64], *, moved: bool) -> NDArray[np.int64]:
        chosen = np.zeros((len(centres), len(self.found), 2), np.int64)
        for reference, objects in enumerate(self.found):
            if len(objects) == 1:
                # The only one is the nearest, wherever a tile is.
                chosen[:, reference] = objects[0][1]
                continue
            nearest = np.full(len(centres), np.inf)
            for cells, shift in objects:
                places = cells + np.array(shift) if moved else cells
                distance = np.abs(centres[:, None] - places[None]).max(axis=2).min(axis=1)
                closer = distance < nearest
                chosen[closer, reference] = shift
                nearest[closer] = distance[closer]
        return chosen


class ObjectAligner:
    """Finds the objects of remembered frames again in the current one.

    An object's cells in a reference are a template; the shift with the largest mean cosine wins,
    less a price for distance from where it is expected. The last reference tells where that is. An
    object that the last reference lacks is lost: it is looked for in the whole frame, and believed
    to be elsewhere only above ``sure``.

    Args:
        settings: of the search.
        slots: frames in memory.
        grid_hw: height and width of the key grid.
        key_dim: C.
        joined: all label channels move as one body, such as its named points, each of which is
            too small to be found alone.
    """

    def __init__(
        self,
        settings: AlignmentSettings,
        slots: int,
        grid_hw: tuple[int, int],
        key_dim: int,
        *,
        joined: bool = False,
    ) -> None:
        self._settings = settings
        self._joined = joined
        self._means = np.zeros((slots, key_dim), np.float32)
        self._query = np.zeros((*grid_hw, key_dim), np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept."""
        return self._means.nbytes + self._query.nbytes

    def look(self, slot: int, key: NDArray[np.float32]) -> None:
        """Take the current frame's key, (h, w, C) float32, which stands in a slot of memory."""
        np.divide(key, _length(key), out=self._query)
        self._means[slot] = self._query.mean(axis=(0, 1))
        self._query -= self._means[slot]
        self._query /= _length(self._query)

    def align(
        self, references: Sequence[int], keys: NDArray[np.float32], labels: NDArray[np.float32]
    ) -> ObjectShifts:
        """Find every object of the references in the frame that was looked at last.

        Args:
            references: slots, in order of time; the last one is the frame before.
            keys: (S, h, w, C) float32.
            labels: (S, h, w, L) float32 soft labels, channel 0 the background.
        """
        found: list[list[tuple[NDArray[np.int64], Shift]]] = [[] for _ in references]
        shares = [_join(labels[s]) if self._joined else labels[s, ..., 1:] for s in references]
        for channel in range(shares[-1].shape[-1]):
            templates = [
                self._template(slot, keys[slot], share[..., channel])
                for slot, share in zip(references, shares, strict=True)
            ]
            for place, (template, shift) in enumerate(
                zip(templates, self._align_object(templates), strict=True)
            ):
                if template is not None:
                    found[place].append((template.cells, shift))
        return ObjectShifts(tuple(tuple(objects) for objects in found))

    def _template(
        self, slot: int, key: NDArray[np.float32], share: NDArray[np.float32]
    ) -> Template | None:
        """Cells that an object owns, and their unit keys; None below three."""
        cells = np.argwhere(share > 0.5)
        if len(cells) < 3:
            return None
        kept = min(self._settings.cells, len(cells))
        cells = cells[np.linspace(0, len(cells) - 1, kept).astype(int)]
        picked = key[cells[:, 0], cells[:, 1]]
        picked = picked / _length(picked) - self._means[slot]
        return Template(cells, picked / _length(picked))

    def _align_object(self, templates: Sequence[Template | None]) -> list[Shift]:
        last = templates[-1]
        if last is None:
            return [self._search_frame(template) for template in templates]
        step = self._search(last, (0, 0))
        place = last.cells.mean(axis=0) + step
        shifts = [
            (0, 0) if template is None else self._search(template, _towards(place, template))
            for template in templates[:-1]
        ]
        return [*shifts, step]

    def _search(self, template: Template, expected: Shift) -> Shift:
        settings, reach = self._settings, self._settings.reach
        score = mean_cosines(self._query, template, expected, (reach, reach))
        apart = np.arange(-reach, reach + 1) ** 2
        score -= settings.doubt / (2 * settings.spread**2) * (apart[:, None] + apart)
        row, column = np.unravel_index(score.argmax(), score.shape)
        return int(row) - reach + expected[0], int(column) - reach + expected[1]

    def _search_frame(self, template: Template | None) -> Shift:
        if template is None:
            return 0, 0
        reach = (self._query.shape[0] - 1, self._query.shape[1] - 1)
        score = mean_cosines(self._query, template, (0, 0), reach)
        if score.max() < self._settings.sure:
            return 0, 0
        row, column = np.unravel_index(score.argmax(), score.shape)
        return int(row) - reach[0], int(column) - reach[1]


def mean_cosines(
    query: NDArray[np.float32], template: Template, expected: Shift, reach: Shift
) -> NDArray[np.float32]:
    """Mean cosine of a template at every shift; cells that leave the frame count as 0.

    Args:
        query: (h, w, C) float32 unit keys.
        template: what is looked for.
        expected: the shift in the middle of the search.
        reach: how far from it, in rows and columns.

    Returns:
        (2 * reach[0] + 1, 2 * reach[1] + 1) float32.
    """
    rows, columns = (2 * r + 1 for r in reach)
    total = np.zeros((rows, columns), np.float32)
    starts = template.cells + np.array(expected) - np.array(reach)
    # No cell of the frame but these is compared with any of the template's.
    first = np.clip(starts.min(axis=0), 0, query.shape[:2])
    last = np.clip(starts.max(axis=0) + total.shape, first, query.shape[:2])
    seen = query[first[0] : last[0], first[1] : last[1]]
    (height, width), starts = seen.shape[:2], starts - first
    cosines = template.keys @ seen.reshape(-1, query.shape[2]).T
    cosines = cosines.reshape(len(template.keys), height, width)
    for cosine, (top, left) in zip(cosines, starts.tolist(), strict=True):
        a, b = max(0, -top), min(rows, height - top)
        c, d = max(0, -left), min(columns, width - left)
        if a < b and c < d:
            total[a:b, c:d] += cosine[top + a : top + b, left + c : left + d]
    total /= len(template.cells)
    return total


def _join(labels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(h, w, 1) float32: the strongest of all labels but channel 0, each as a share of its peak."""
    shares = labels[..., 1:]
    peaks = np.maximum(shares.max(axis=(0, 1)), 1e-6)
    return np.asarray((shares / peaks).max(axis=-1, keepdims=True), np.float32)


def _towards(place: NDArray[np.float64], template: Template) -> Shift:
    row, column = np.rint(place - template.cells.mean(axis=0)).astype(int).tolist()
    return row, column


def _length(key: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.sqrt((key * key).sum(axis=-1, keepdims=True))
    return np.asarray(np.maximum(length, 1e-6), np.float32)
