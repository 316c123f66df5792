"""Pictures with masks as salient-object data sets come (DUTS, FSS-1000, ECSSD): pairs of files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import SourceError, TrainingError
from vcedge_runtime.video.pictures import IMAGE_SUFFIXES, choose_pictures, read_picture

Picture = NDArray[np.uint8]
TWINS = (
    ("Image", "Mask"),
    ("images", "masks"),
    ("images", "mask"),
    ("images", "ground_truth_mask"),
    ("imgs", "gt"),
)
"""What a folder of pictures is called, and that of their masks."""
LIT = 128
"""Brightness from which on a mask shows the object."""


@dataclass(frozen=True)
class PairedStill:
    """One picture with one object, read when it is asked for; see ``Still``.

    Attributes:
        path: of the picture.
        mask: of its mask, in which the object is white.
    """

    path: Path
    mask: Path
    kind: str = "binary"

    @property
    def name(self) -> str:
        """The picture's file, with its folder: classes number theirs alike."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def image(self) -> Picture:
        """(H, W, 3) uint8 BGR, 0-255.

        Raises:
            TrainingError: it cannot be read.
        """
        return _read(self.path)

    @property
    def ids(self) -> Picture:
        """(H, W) uint8, 1 the object.

        Raises:
            TrainingError: it cannot be read, or is not as large as the picture.
        """
        ids = np.asarray(_read(self.mask).max(axis=2) >= LIT, np.uint8)
        if ids.shape != self.frame_hw:
            raise TrainingError(
                f"received mask {self.mask} of {ids.shape[1]}x{ids.shape[0]} pixels; expected "
                f"{self.frame_hw[1]}x{self.frame_hw[0]}, as {self.path.name}; take the pair out"
            )
        return ids

    @cached_property
    def frame_hw(self) -> tuple[int, int]:
        """Height and width of the picture."""
        height, width = self.image.shape[:2]
        return height, width


def find_pairs(root: Path, chosen: Callable[[str], bool] | None = None) -> list[PairedStill]:
    """Find pictures that have a mask beside them, or in the folder's twin.

    A mask is a PNG of the picture's own stem: ``abacus/1.jpg`` and ``abacus/1.png`` (FSS-1000), or
    ``DUTS-TR-Image/a.jpg`` and ``DUTS-TR-Mask/a.png`` (DUTS). Nothing is read.

    Args:
        root: searched to the bottom.
        chosen: tells by a picture's name whether it is kept; all are where None.

    Raises:
        TrainingError: there is no pair.
    """
    pictures = choose_pictures(root.rglob("*"), IMAGE_SUFFIXES - {".png"})
    found = [PairedStill(path, mask) for path in pictures if (mask := _find_mask(path)) is not None]
    if chosen is not None:
        found = [still for still in found if chosen(still.name)]
    if not found:
        raise TrainingError(
            f"received {root}, which has neither a manifest.csv nor a picture with a mask; "
            "expected 1.jpg beside 1.png, or folders such as DUTS-TR-Image and DUTS-TR-Mask"
        )
    return found


def _find_mask(path: Path) -> Path | None:
    name, folder = f"{path.stem}.png", path.parent
    twins = [folder.with_name(folder.name.replace(*twin)) for twin in TWINS]
    places = [folder / name, *(twin / name for twin in twins if twin != folder)]
    return next((place for place in places if place.is_file()), None)


def _read(path: Path) -> Picture:
    try:
        return read_picture(path)
    except SourceError as exc:
        raise TrainingError(f"{exc}; or take it out") from exc
