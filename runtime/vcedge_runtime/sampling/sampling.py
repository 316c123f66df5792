"""Where the cells of a frame may look in its references: windows, MER's clusters, DMP's regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import TrackerError
from vcedge_runtime.sampling.alignment import ObjectShifts
from vcedge_runtime.sampling.clusters import ClusterSettings, cluster_windows
from vcedge_runtime.sampling.regions import (
    Regions,
    RegionSettings,
    cluster_regions,
    count_regions,
    match_regions,
)

MOST_REGIONS = 8192
"""Most regions of a frame: all are compared with all of another, in 1 GB (our choice)."""
RegionMatch = tuple[NDArray[np.bool_], NDArray[np.int32], NDArray[np.int32]]
"""(Sa, Sb) which regions of one frame look into which of another, and both frames' region ids."""


@dataclass(frozen=True)
class RegionMatches:
    """Which regions of the references each region of the current frame may look into.

    Attributes:
        allowed: per reference, (Sq, Sk) bool.
        query_ids: (h, w) int32, region of each cell of the current frame.
        key_ids: per reference, (h, w) int32.
    """

    allowed: list[NDArray[np.bool_]]
    query_ids: NDArray[np.int32]
    key_ids: list[NDArray[np.int32]]

    def of_queries(self) -> list[RegionMatch]:
        """Per reference, the matches as the current frame's cells look back."""
        pairs = zip(self.allowed, self.key_ids, strict=True)
        return [(allowed, self.query_ids, ids) for allowed, ids in pairs]

    def of_references(self) -> list[RegionMatch]:
        """Per reference, the matches as its own cells look ahead."""
        return [(allowed.T, ids, own) for allowed, own, ids in self.of_queries()]


@dataclass(frozen=True)
class Groups:
    """Cells of the current frame and of its references, grouped together.

    Attributes:
        query_ids: (h, w) int32, group of each cell of the current frame.
        key_ids: per reference, (h, w) int32.
        reach: cells within which a group is read beyond the window.
    """

    query_ids: NDArray[np.int32]
    key_ids: list[NDArray[np.int32]]
    reach: float


@dataclass(frozen=True)
class Sampling:
    """Where the cells of one frame may look.

    Attributes:
        inner: window radius in cells of every cell.
        outer: (h, w) float32 second radius of each cell (MER, size^+), or None.
        delta: weight of the second window (MER, eq. 15).
        groups: what the second window also holds, or None for nothing.
        matches: regions that may be looked into (DMP), or None for all.
        shifts: how far windows follow the objects into each reference, or None for not at all.
        regions: of the current frame, and their matches, by which branches of a prediction are
            enhanced or restricted; None where none is.
    """

    inner: float
    outer: NDArray[np.float32] | None = None
    delta: float = 0.0
    groups: Groups | None = None
    matches: RegionMatches | None = None
    shifts: ObjectShifts | None = None
    regions: RegionMatches | None = None

    @property
    def unmatched(self) -> Sampling:
        """The same windows without a restriction to regions."""
        return replace(self, matches=None)


@dataclass(frozen=True)
class WindowSettings:
    """The plain sampler: the same square window for every cell; it has no settings."""


SamplerSettings = WindowSettings | ClusterSettings | RegionSettings


class Sampler(Protocol):
    """Chooses where the cells of one video's frames look."""

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept."""

    def look(self, slot: int, key: NDArray[np.float32]) -> None:
        """Take the current frame's key, (h, w, C) float32, which stands in a slot of memory."""

    def sample(self, slot: int, references: Sequence[int], keys: NDArray[np.float32]) -> Sampling:
        """Say where the current frame's cells look in the frames of some slots.

        Args:
            slot: of the current frame.
            references: slots, in their order.
            keys: (S, h, w, C) float32 of all slots.
        """

    def keep(self) -> None:
        """Note that the current frame is done; one that is not may be looked at again."""


class WindowSampler:
    """The same window for every cell.

    Args:
        radius: in cells.
    """

    nbytes = 0

    def __init__(self, radius: int) -> None:
        self._sampling = Sampling(radius)

    def look(self, slot: int, key: NDArray[np.float32]) -> None:
        """Windows hang on no key."""

    def sample(self, slot: int, references: Sequence[int], keys: NDArray[np.float32]) -> Sampling:
        """Return the window."""
        return self._sampling

    def keep(self) -> None:
        """Windows hang on no frame."""


class ClusterSampler:
    """Two windows by clusters of the current frame and its references (MER, eqs. 13 to 15).

    K-means begins with the centres of the frame before.

    Args:
        settings: of the clusters.
        radius: of the first window at most, in cells.
        slots: frames in memory.
        grid_hw: height and width of the key grid.
        key_dim: C.
    """

    def __init__(
        self,
        settings: ClusterSettings,
        radius: int,
        slots: int,
        grid_hw: tuple[int, int],
        key_dim: int,
    ) -> None:
        self._settings = settings
        self._radius = radius
        self._former, self._found = np.zeros((2, settings.clusters, key_dim + 2), np.float32)
        self._former_count = self._found_count = 0
        self._outer = np.zeros(grid_hw, np.float32)
        self._ids = np.zeros((slots, *grid_hw), np.int32)

    @property
    def nbytes(self) -> int:
        """Bytes of the centres of two frames, of second radii, and of the clusters of all slots."""
        tables = (self._former, self._found, self._outer, self._ids)
        return sum(table.nbytes for table in tables)

    def look(self, slot: int, key: NDArray[np.float32]) -> None:
        """A frame is clustered with its references."""

    def sample(self, slot: int, references: Sequence[int], keys: NDArray[np.float32]) -> Sampling:
        """Cluster the frames; return the windows of the current one."""
        former = self._former[: self._former_count].copy() if self._former_count else None
        frames = [keys[slot], *(keys[reference] for reference in references)]
        found = cluster_windows(frames, self._settings, self._radius, former)
        self._found_count = len(found.centres)
        self._found[: self._found_count] = found.centres
        self._outer[:] = found.outer
        for place, ids in zip((slot, *references), found.ids, strict=True):
            self._ids[place] = ids
        groups = Groups(
            self._ids[slot], [self._ids[r] for r in references], float(self._settings.reach)
        )
        return Sampling(found.size_origin, self._outer, self._settings.delta, groups)

    def keep(self) -> None:
        """Let the next frame's clusters begin where this one's are."""
        self._former[:], self._former_count = self._found, self._found_count


class RegionSampler:
    """One window, within it the regions that match (DMP, Frame Region Clustering).

    Args:
        settings: of the regions.
        radius: of the window, in cells.
        slots: frames in memory.
        grid_hw: height and width of the key grid.
        key_dim: C.
    """

    def __init__(
        self,
        settings: RegionSettings,
        radius: int,
        slots: int,
        grid_hw: tuple[int, int],
        key_dim: int,
    ) -> None:
        self._settings = settings
        self._radius = radius
        count = count_regions(settings, grid_hw)
        self._ids = np.zeros((slots, *grid_hw), np.int32)
        self._features = np.zeros((slots, count, key_dim), np.float32)
        self._positions = np.zeros((slots, count, 2), np.float32)
        self._sizes = np.zeros((slots, count), np.int32)

    @property
    def nbytes(self) -> int:
        """Bytes of the regions of all slots."""
        tables = (self._ids, self._features, self._positions, self._sizes)
        return sum(table.nbytes for table in tables)

    def look(self, slot: int, key: NDArray[np.float32]) -> None:
        """Cut the current frame into regions, and keep them in its slot."""
        found = cluster_regions(key, self._settings)
        self._ids[slot], self._features[slot] = found.ids, found.features
        self._positions[slot], self._sizes[slot] = found.positions, found.sizes

    def regions_of(self, slot: int) -> Regions:
        """Regions of the frame in a slot; views."""
        return Regions(
            self._ids[slot], self._features[slot], self._positions[slot], self._sizes[slot]
        )

    def sample(self, slot: int, references: Sequence[int], keys: NDArray[np.float32]) -> Sampling:
        """Match the current frame's regions with those of its references."""
        return Sampling(self._radius, matches=self.match(slot, references))

    def match(self, slot: int, references: Sequence[int]) -> RegionMatches:
        """Match the regions of the frame in a slot with those of some references."""
        query, others = self.regions_of(slot), [self.regions_of(r) for r in references]
        allowed = [match_regions(query, other, self._radius, self._settings) for other in others]
        return RegionMatches(allowed, query.ids, [other.ids for other in others])

    def keep(self) -> None:
        """Regions are kept by slot; a frame that is not done has none of its own."""


def open_sampler(
    settings: SamplerSettings, radius: int, slots: int, grid_hw: tuple[int, int], key_dim: int
) -> Sampler:
    """Make the sampler of one video.

    Args:
        settings: say which sampler.
        radius: of the largest window, in cells.
        slots: frames in memory.
        grid_hw: height and width of the key grid.
        key_dim: C.

    Raises:
        TrackerError: there would be over ``MOST_REGIONS``.
    """
    if isinstance(settings, ClusterSettings):
        return ClusterSampler(settings, radius, slots, grid_hw, key_dim)
    if isinstance(settings, RegionSettings):
        if count_regions(settings, grid_hw) > MOST_REGIONS:
            raise TrackerError(
                f"received regions of step={settings.step} for {grid_hw[0]}x{grid_hw[1]} key "
                f"cells, which are {count_regions(settings, grid_hw)}; expected at most "
                f"{MOST_REGIONS}; choose a larger step or a smaller working size"
            )
        return RegionSampler(settings, radius, slots, grid_hw, key_dim)
    return WindowSampler(radius)
