"""Videos that are folders of pictures, as DAVIS and YouTube-VOS come: read when a clip asks.

So a data set of many hours needs no cache, which would hold it decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import MaskError, TrainingError
from vcedge_runtime.video.palette import read_label_png
from vcedge_runtime.video.pictures import IMAGE_SUFFIXES, choose_pictures, list_masks, read_picture

IMAGES = "JPEGImages"
"""The folder of DAVIS and YouTube-VOS below which a folder of pictures is a video."""
ANNOTATIONS = "Annotations"
"""Likewise of masks."""
Picture = NDArray[np.uint8]


class Frames(Protocol):
    """Frames that are had one by one: an array of the cache, or files."""

    @property
    def shape(self) -> tuple[int, ...]:
        """T, H, W and, of pictures, 3."""

    def __len__(self) -> int:
        """T."""

    def __getitem__(self, index: Any, /) -> Any:
        """(H, W, 3) uint8 BGR, or (H, W) uint8 ids, of a frame by its place."""


class FolderFrames:
    """The frames of a folder like an array (T, H, W, 3) uint8 BGR, each read when it is asked for.

    Args:
        paths: of the pictures, in order, at least one.
        short_side: pixels to which larger ones are shrunk.

    Raises:
        SourceError: the first cannot be read; so does asking for any other that cannot be.
    """

    def __init__(self, paths: Sequence[Path], short_side: int) -> None:
        self._paths = paths
        height, width = read_picture(paths[0]).shape[:2]
        scale = min(1.0, short_side / min(height, width))
        self.frame_hw = (round(height * scale), round(width * scale))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """T, H, W and 3."""
        return (len(self._paths), *self.frame_hw, 3)

    def __len__(self) -> int:
        """T."""
        return len(self._paths)

    def __getitem__(self, index: int) -> Picture:
        """(H, W, 3) uint8 BGR, the caller's own."""
        picture = read_picture(self._paths[index])
        if picture.shape[:2] == self.frame_hw:
            return picture
        shrunk = cv2.resize(picture, self.frame_hw[::-1], interpolation=cv2.INTER_AREA)
        return np.asarray(shrunk, np.uint8)


class FolderMasks:
    """The masks of a folder like an array (T, H, W) uint8 ids, likewise.

    Args:
        paths: of the masks, in order, at least one.
        frame_hw: to which they are shrunk.

    Raises:
        TrainingError: the first cannot be read; so does asking for any other that cannot be.
    """

    def __init__(self, paths: Sequence[Path], frame_hw: tuple[int, int]) -> None:
        self._paths = paths
        self._hw = frame_hw
        first = self._read(0)
        # An only object may be drawn in white, the value of void.
        self._alone = not ((first > 0) & (first < 255)).any()

    @property
    def shape(self) -> tuple[int, int, int]:
        """T, H and W."""
        return (len(self._paths), *self._hw)

    def __len__(self) -> int:
        """T."""
        return len(self._paths)

    def __getitem__(self, index: int) -> Picture:
        """(H, W) uint8 ids, 255 where nothing is known."""
        mask = self._read(index)
        return np.minimum(mask, np.uint8(1)) if self._alone else mask

    def _read(self, index: int) -> Picture:
        try:
            mask = read_label_png(self._paths[index])
        except MaskError as exc:
            raise TrainingError(str(exc)) from exc
        if mask.shape == self._hw:
            return mask
        shrunk = cv2.resize(mask, self._hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        return np.asarray(shrunk, np.uint8)


class ChosenFrames:
    """Some of the frames of an array (T, ...), in their order.

    Args:
        frames: all of them.
        chosen: places of those that are had, rising.
    """

    def __init__(self, frames: Frames, chosen: Sequence[int]) -> None:
        self._frames = frames
        self._chosen = chosen

    @property
    def shape(self) -> tuple[int, ...]:
        """As the array's, with as many frames as are chosen."""
        return (len(self._chosen), *self._frames.shape[1:])

    def __len__(self) -> int:
        """How many are chosen."""
        return len(self._chosen)

    def __getitem__(self, index: int) -> Picture:
        """A chosen frame by its place among them."""
        frame: Picture = self._frames[self._chosen[index]]
        return frame


def list_frames(folder: Path) -> list[Path]:
    """Pictures of a folder, as people count."""
    return choose_pictures(folder.iterdir(), IMAGE_SUFFIXES)


def find_frame_folders(folders: Sequence[Path]) -> list[Path]:
    """Folders of at least two pictures below a folder ``JPEGImages``, of each name the first.

    DAVIS has every sequence in 480p and in full resolution.

    Args:
        folders: with ``JPEGImages`` in them or above them, each searched to the bottom.

    Returns:
        By rising path.
    """
    found: dict[tuple[str, str], Path] = {}
    for folder in folders:
        for place in sorted(p for p in (folder, *folder.rglob("*")) if p.is_dir()):
            above, images, _ = str(place.resolve()).partition(f"/{IMAGES}/")
            if images and len(list_frames(place)) > 1:
                found.setdefault((above, place.name), place)
    return sorted(found.values())


def find_sequences(root: Path) -> dict[str, tuple[Path, Path]]:
    """Sequences of DAVIS or YouTube-VOS: by name, the folders of their frames and of their masks.

    Args:
        root: with ``JPEGImages/NAME`` and ``Annotations/NAME``, or ``480p/NAME`` in both.

    Raises:
        TrainingError: there is no folder of masks, or one without frames.
    """
    for size in ("480p", "."):
        images, masks = root / IMAGES / size, root / ANNOTATIONS / size
        folders = sorted(masks.iterdir()) if masks.is_dir() else []
        found = {folder.name: folder for folder in folders if list_masks(folder)}
        if found:
            lacking = [name for name in found if not (images / name).is_dir()]
            if lacking:
                raise TrainingError(
                    f"received masks of {lacking[0]} in {masks} without frames ({len(lacking)} "
                    f"sequences lack them); expected {images / lacking[0]}; add it"
                )
            return {name: (images / name, folder) for name, folder in found.items()}
    raise TrainingError(
        f"received {root} without masks; expected {ANNOTATIONS}/480p/NAME/*.png or "
        f"{ANNOTATIONS}/NAME/*.png in it; check the path"
    )


def step_between(paths: Sequence[Path]) -> int:
    """Frames of the footage from one numbered picture to the next; 1 where none is numbered."""
    try:
        numbers = [int(path.stem) for path in paths]
    except ValueError:
        return 1
    return max(1, round(float(np.median(np.diff(numbers))))) if len(numbers) > 1 else 1


def pair_masks(frames: Sequence[Path], masks: Sequence[Path], name: str) -> list[tuple[Path, Path]]:
    """Frames that have a mask, with it; of YouTube-VOS every fifth has one.

    Raises:
        TrainingError: fewer than two have one.
    """
    known = {path.stem: path for path in masks}
    pairs = [(path, known[path.stem]) for path in frames if path.stem in known]
    if len(pairs) < 2:
        raise TrainingError(
            f"received {len(frames)} frames and {len(masks)} masks of {name}, of which "
            f"{len(pairs)} share a name; expected at least two; mend the folders, or leave it out "
            "of the list"
        )
    return pairs


def keep_named(found: Sequence[Path], names: Sequence[str] | None) -> list[Path]:
    """Those whose stem is on a list, all where there is none.

    Raises:
        TrainingError: one of the list is not there.
    """
    if names is None:
        return list(found)
    stem: Callable[[Path], str] = lambda path: path.name if path.is_dir() else path.stem  # noqa: E731
    missing = sorted(set(names) - {stem(path) for path in found})
    if missing:
        raise TrainingError(
            f"received a list of {len(names)} videos, of which {len(missing)} are not there "
            f"({missing[0]}); expected names of files or folders; mend the list"
        )
    return [path for path in found if stem(path) in set(names)]
