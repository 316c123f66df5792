"""Where objects with masks come from: videos with masks, and stills."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge.training.corpus import find_videos, load_video, map_cached
from vcedge.training.frame_folders import (
    IMAGES,
    ChosenFrames,
    FolderFrames,
    FolderMasks,
    Frames,
    find_sequences,
    keep_named,
    list_frames,
    pair_masks,
    step_between,
)
from vcedge.training.still_pairs import PairedStill, find_pairs
from vcedge_runtime.errors import MaskError, SourceError, TrainingError
from vcedge_runtime.files import write_array
from vcedge_runtime.settings import show
from vcedge_runtime.video.masks import VOID
from vcedge_runtime.video.palette import read_label_png
from vcedge_runtime.video.pictures import list_masks, read_picture

Picture = NDArray[np.uint8]

_WHOLE, _REGIONS, _MERGED = "one object an id", "each region an object", "all ids one object"
_KINDS = {
    "animal instances": _WHOLE,
    "binary": _WHOLE,
    "components": _MERGED,
    "instances": _WHOLE,
    "one person instance": _WHOLE,
    "parts": _MERGED,
    "regions": _REGIONS,
}
"""What the ids of a still mean, by how its kind begins."""

_SHARES = {_WHOLE: (0.005, 0.85), _REGIONS: (0.02, 0.5), _MERGED: (0.005, 0.85)}
"""Smallest and largest share of a still that a usable object covers (our choice)."""


@dataclass(frozen=True)
class MaskedVideo:
    """Those frames of one video that have a mask.

    Attributes:
        name: the file's name without its suffix, or the folder's.
        frames: (T, H, W, 3) uint8 BGR, mapped from the cache file, read only; or read one by one.
        masks: (T, H, W) uint8 object ids, 0 the background, 255 where nothing is known; likewise.
        every: frames of the footage from one of these to the next: YouTube-VOS has masks of every
            fifth.
    """

    name: str
    frames: Frames
    masks: Frames
    every: int = 1

    @property
    def source(self) -> str:
        """What several videos have in common: the name up to the first underscore."""
        return self.name.partition("_")[0]


@dataclass(frozen=True)
class Still:
    """One picture with objects.

    Attributes:
        name: the picture's file.
        kind: what its manifest calls the kind of its mask.
        image: (H, W, 3) uint8 BGR, 0-255.
        ids: (H, W) uint8, 0 background, 1..N the usable objects.
    """

    name: str
    kind: str
    image: Picture
    ids: Picture


AnyStill = Still | PairedStill
"""A picture with objects, read or to be read."""


def load_masked_videos(
    root: Path,
    cache: Path,
    short_side: int = 480,
    max_frames: int = 1000,
    hold_out: Collection[str] = (),
    names: Sequence[str] | None = None,
) -> list[MaskedVideo]:
    """Load the videos of ``root/videos`` with their masks ``root/masks/NAME/00000.png`` and so on.

    Or, where there is no such folder, the sequences of DAVIS or YouTube-VOS. Of either the frames
    with a mask are taken. Masks are label images, in which 255 is void, or show one object in white
    on black.

    Args:
        root: the folder, or one with ``JPEGImages`` and ``Annotations``.
        cache: where decoded videos and masks are kept.
        short_side: pixels to which larger videos are shrunk.
        max_frames: frames beyond which videos are cut off.
        hold_out: names of videos that are left out.
        names: of those that are taken, such as a data set's own list; all are where None.

    Raises:
        TrainingError: no video is there, or one cannot be decoded.
        TrainingError: fewer than two frames have a mask, or one is unreadable, or of another size
            than its video.
    """
    if _is_of_sequences(root):
        return _load_sequences(root, short_side, max_frames, hold_out, names)
    sources = keep_named(find_videos([root / "videos"]), names)
    unknown = sorted(set(hold_out) - {source.stem for source in sources})
    if unknown:
        raise TrainingError(
            f"received {', '.join(unknown)} to hold out; expected names of videos of {root}; mend "
            "the list"
        )
    videos = []
    for source in sources:
        if source.stem in hold_out:
            continue
        video = load_video(source, cache, short_side, max_frames)
        if video is None:
            raise TrainingError(
                f"received {source}, of which no two frames can be decoded; expected a video; "
                "mend or remove it"
            )
        folder = root / "masks" / source.stem
        numbers, paths = _find_masks(folder, len(video.frames))
        whole = len(paths) == len(video.frames)
        frames: Frames = video.frames if whole else ChosenFrames(video.frames, numbers)
        masks = _load_masks(folder.name, paths, cache, frames.shape[:3], short_side)
        videos.append(MaskedVideo(source.stem, frames, masks, step_between(paths)))
    if not videos:
        raise TrainingError(
            f"received {root}, without a video; expected videos/NAME.mp4 and masks/NAME/00000.png; "
            "give a folder of that layout"
        )
    return videos


def name_masked_videos(root: Path) -> set[str]:
    """Names of the videos that ``load_masked_videos`` loads of a folder."""
    if _is_of_sequences(root):
        return set(find_sequences(root))
    return {path.stem for path in find_videos([root / "videos"])}


def _is_of_sequences(root: Path) -> bool:
    return not (root / "videos").is_dir() and (root / IMAGES).is_dir()


def _load_sequences(
    root: Path,
    short_side: int,
    max_frames: int,
    hold_out: Collection[str],
    names: Sequence[str] | None,
) -> list[MaskedVideo]:
    folders = find_sequences(root)
    kept = keep_named([masks for _, masks in folders.values()], names)
    videos = []
    for name in (path.name for path in kept if path.name not in hold_out):
        images, masked = folders[name]
        pairs = pair_masks(list_frames(images), list_masks(masked), name)
        pictures, masks = zip(*pairs[:max_frames], strict=True)
        frames = FolderFrames(pictures, short_side)
        ids = FolderMasks(masks, frames.frame_hw)
        videos.append(MaskedVideo(name, frames, ids, step_between(pictures)))
    return videos


def _find_masks(folder: Path, count: int) -> tuple[list[int], list[Path]]:
    """Which of so many frames have a mask, and where it is."""
    places = ((index, folder / f"{index:05d}.png") for index in range(count))
    found = {index: path for index, path in places if path.exists()}
    if len(found) < 2:
        raise TrainingError(
            f"received {count} frames of {folder.name}, of which {len(found)} have a mask; expected"
            f" at least two, numbered by frame; add {folder / '00000.png'} and so on"
        )
    return list(found), list(found.values())


def _load_masks(
    name: str, paths: Sequence[Path], cache: Path, shape: tuple[int, ...], short_side: int
) -> NDArray[np.uint8]:
    _, height, width = shape
    stamps = [f"{path.resolve()}|{path.stat().st_mtime_ns}" for path in paths]
    stamp = "|".join([*stamps, f"{height}x{width}"])
    # Of caches from before, 255 was background.
    stamp += "|void"
    name = f"{name[:40]}-{hashlib.sha256(os.fsencode(stamp)).hexdigest()[:16]}.masks.npy"
    target = cache / name
    mapped = map_cached(target)
    if mapped is None or mapped.shape != shape[:3]:
        masks = np.stack([_read_mask(path, (height, width), short_side) for path in paths])
        write_array(target, _name_objects(masks))
        mapped = np.load(target, mmap_mode="r")
    return mapped


def _read_mask(path: Path, frame_hw: tuple[int, int], short_side: int) -> NDArray[np.uint8]:
    mask = _read_labels(path)
    scale = min(1.0, short_side / min(mask.shape))
    if (round(mask.shape[0] * scale), round(mask.shape[1] * scale)) != frame_hw:
        raise TrainingError(
            f"received mask {path} of {mask.shape[1]}x{mask.shape[0]} pixels; expected the size of "
            "its video; save it as large as the video"
        )
    if mask.shape == frame_hw:
        return mask
    shrunk = cv2.resize(mask, frame_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(shrunk, np.uint8)


def _read_labels(path: Path) -> NDArray[np.uint8]:
    try:
        return read_label_png(path)
    except MaskError as exc:
        raise TrainingError(str(exc)) from exc


def _name_objects(masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make 255 the only object's id 1 where it is the only one."""
    alone = not ((masks > 0) & (masks < VOID)).any()
    return np.minimum(masks, np.uint8(1)) if alone else masks


def load_stills(root: Path, chosen: Callable[[str], bool] | None = None) -> Sequence[AnyStill]:
    """Read the stills that ``root/manifest.csv`` lists and keep those with a usable object.

    The manifest names for each still the file, its mask, and the kind of the mask, which tells what
    its ids are. Where there is none, pictures with a mask beside them are found, and read when they
    are drawn; see ``find_pairs``.

    Args:
        root: the folder.
        chosen: tells by a still's file whether it is read; all are where None.

    Raises:
        TrainingError: the manifest, a file or a usable object is missing.
        TrainingError: a kind is unknown, or a mask does not fit its picture.
    """
    manifest = root / "manifest.csv"
    if not manifest.exists():
        return find_pairs(root, chosen)
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except OSError as exc:
        raise TrainingError(
            f"received {root}, whose manifest.csv cannot be read ({exc.strerror}); expected "
            "columns file, mask, kind; write one"
        ) from exc
    except (UnicodeDecodeError, csv.Error) as exc:
        raise TrainingError(
            f"received {manifest}, which is no CSV text ({exc}); expected columns file, mask, kind"
        ) from exc
    if chosen is not None:
        rows = [row for row in rows if chosen(row.get("file") or "")]
    stills = [still for row in rows if (still := _read_still(root, row))]
    if not stills:
        raise TrainingError(
            f"received {root}, {len(rows)} stills without a usable object; expected objects that "
            "cover 0.5 to 85 % of a picture; give other stills"
        )
    return stills


def _read_still(root: Path, row: Mapping[str, str]) -> Still | None:
    """Read one still, or None where no object of it is usable."""
    try:
        name, mask, kind = (row[column] or "" for column in ("file", "mask", "kind"))
    except KeyError as exc:
        raise TrainingError(
            f"received {root / 'manifest.csv'} without column {exc}; expected file, mask, kind; "
            "add it"
        ) from exc
    try:
        image = read_picture(root / name)
    except SourceError as exc:
        raise TrainingError(
            f"received {root / name}, which cannot be read; expected a picture; mend it or take it "
            "out of the manifest"
        ) from exc
    labels = _read_labels(root / mask)
    if labels.shape != image.shape[:2]:
        raise TrainingError(
            f"received mask {root / mask} of {labels.shape[1]}x{labels.shape[0]} pixels; expected "
            f"{image.shape[1]}x{image.shape[0]}, as {name}; save it as large as its picture"
        )
    ids = _usable_objects(labels, _meaning(kind))
    return Still(name, kind, image, ids) if ids.any() else None


def _meaning(kind: str) -> str:
    for beginning, meaning in _KINDS.items():
        if kind.startswith(beginning):
            return meaning
    raise TrainingError(
        f"received a still of kind {show(kind)}; expected one that begins with one of "
        f"{', '.join(_KINDS)}; mend the manifest"
    )


def _usable_objects(labels: NDArray[np.uint8], meaning: str) -> NDArray[np.uint8]:
    """Number the usable objects from 1; all else becomes background."""
    if meaning == _MERGED:
        labels = (labels > 0).astype(np.uint8)
    shares = np.bincount(labels.ravel(), minlength=256) / labels.size
    low, high = _SHARES[meaning]
    usable = (shares >= low) & (shares <= high)
    usable[0] = False
    numbers = np.zeros(256, np.uint8)
    numbers[usable] = np.arange(1, usable.sum() + 1)
    return numbers[labels]
