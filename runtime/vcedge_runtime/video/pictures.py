"""Frames from pictures: one a file, or the pages of one file."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vcedge_runtime.errors import SourceError
from vcedge_runtime.video.frame import Frame, Source
from vcedge_runtime.video.opencv import MOST_PIXELS, decode_image, quiet_pillow

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
)
DepthRange = tuple[int, int]
"""Values of a picture of 16 bits that become black and white."""
NARROW = 0.25
"""Share of 16 bits below which a picture's values leave too few levels of 8 (our choice)."""
_WHITE = 2**16 - 1


class ImageSource(Source):
    """Frames from image files; gray ones and those with alpha become BGR, EXIF turns are applied.

    Args:
        paths: the images in their order, at least one, each of one page.
        label: what the terminal and errors call them.
        depth_range: see ``open_source``.
        left_out: names of files that are none of them.

    Raises:
        SourceError: two images have one stem, or the first cannot be decoded.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        label: str,
        depth_range: DepthRange | str | None = None,
        left_out: Sequence[str] = (),
    ) -> None:
        _require_distinct_stems(paths)
        self.label = label
        self.length = len(paths)
        self.left_out = tuple(left_out)
        self._paths = paths
        self._range, self.narrow = _choose_range(_read_depth(paths[0]), depth_range)
        first = read_picture(paths[0], self._range)
        self.frame_hw = (first.shape[0], first.shape[1])

    def __iter__(self) -> Iterator[Frame]:
        """Yield the images, from the first each time."""
        for index in range(len(self._paths)):
            yield self.read(index)

    def read_span(self, start: int, stop: int) -> list[Frame]:
        """Read images by their places; no other is opened."""
        return [self.read(index) for index in range(start, min(stop, len(self._paths)))]

    def name_frame(self, index: int) -> str:
        """What the outputs of an image are called: its stem."""
        return self._paths[index].stem

    def read(self, index: int) -> Frame:
        """Read an image by its place.

        Raises:
            SourceError: it cannot be read, has several pages, or another size than the first.
        """
        path = self._paths[index]
        if count_pages(path) > 1:
            raise SourceError(
                f"received image {path} of {count_pages(path)} pages among others; expected "
                "pictures of one page; name that file alone, or take it out"
            )
        image = read_picture(path, self._range)
        self._require_size(image, path.name)
        return Frame(index, self.name_frame(index), image, file=path.name)

    def close(self) -> None:
        """Do nothing: no file stays open between two images."""


class PageSource(Source):
    """Frames that are the pages of one file: an animated WebP or PNG, a TIFF.

    Args:
        path: the file.
        depth_range: see ``open_source``.

    Raises:
        SourceError: it cannot be decoded.
    """

    def __init__(self, path: Path, depth_range: DepthRange | str | None = None) -> None:
        self.label = str(path)
        self._path = path
        self._wanted = depth_range
        self.length = count_pages(path)
        first = next(iter(self)).image
        self.frame_hw = (first.shape[0], first.shape[1])

    def __iter__(self) -> Iterator[Frame]:
        """Yield the pages, from the first each time."""
        with _open_picture(self._path) as file:
            picture: Image.Image | None = None
            for index in range(self.length or 0):
                name = f"{index:05d}"
                with quiet_pillow():
                    try:
                        picture = picture or Image.open(file)
                        image = self._read_page(picture, index)
                    # Each of its formats fails in its own way.
                    except Exception as exc:
                        raise SourceError(
                            f"received image {self._path}, of which page {index} cannot be decoded "
                            f"({exc}); expected a sound image"
                        ) from exc
                if index:
                    self._require_size(image, name)
                yield Frame(index, name, image)

    def close(self) -> None:
        """Do nothing: the file is open while it is read alone."""

    def _read_page(self, picture: Image.Image, index: int) -> NDArray[np.uint8]:
        """Bring a page to BGR of 8 bits; those of 16 bits Pillow would cut off at 255."""
        picture.seek(index)
        if picture.width * picture.height > MOST_PIXELS:
            raise ValueError(f"it has {picture.width}x{picture.height} pixels")
        if not picture.mode.startswith("I"):
            return np.ascontiguousarray(np.asarray(picture.convert("RGB"), np.uint8)[..., ::-1])
        deep = np.asarray(picture).clip(0, _WHITE).astype(np.uint16)
        if index == 0:
            self._range, self.narrow = _choose_range(deep, self._wanted)
        return np.asarray(cv2.cvtColor(_reduce_depth(deep, self._range), cv2.COLOR_GRAY2BGR))


def open_pictures(
    found: Iterable[Path],
    path: Path,
    otherwise: str,
    depth_range: DepthRange | str | None,
    masks: Collection[str | Path] = (),
) -> Source:
    """Open the pictures among some files, in the order that people count in.

    Args:
        found: files of a folder, or what a glob finds; only regular files are taken.
        path: the folder or glob.
        otherwise: what it is where there is none.
        depth_range: see ``open_source``.
        masks: likewise.

    Raises:
        SourceError: there is none, or they cannot be listed.
    """
    taken = {Path(mask).resolve() for mask in masks}
    try:
        files = [file for file in found if file.is_file() and not file.name.startswith(".")]
    except OSError as exc:
        raise SourceError(f"received {path}, which cannot be listed: {exc.strerror}") from exc
    pictures = choose_pictures(files, IMAGE_SUFFIXES)
    paths = [file for file in pictures if not (taken and file.resolve() in taken)]
    if not paths:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise SourceError(f"received {path}, {otherwise}; expected files of {suffixes}")
    left_out = sorted({file.name for file in files} - {file.name for file in paths})
    return ImageSource(paths, str(path), depth_range, left_out)


def match_files(pattern: Path) -> list[Path]:
    """Files that a glob finds."""
    return list(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))))


def list_masks(folder: Path) -> list[Path]:
    """List the PNG of a folder in the order that people count in; none where it is no folder.

    Hidden files are none of them, such as those that macOS leaves beside each file.
    """
    return choose_pictures(folder.iterdir(), {".png"}) if folder.is_dir() else []


def choose_pictures(files: Iterable[Path], suffixes: Collection[str]) -> list[Path]:
    """Choose regular files by their suffixes, in lower case, as people count: 2 before 10."""
    chosen = (p for p in files if p.suffix.lower() in suffixes and not p.name.startswith("."))
    return sorted((path for path in chosen if path.is_file()), key=_natural_key)


def count_pages(path: Path) -> int:
    """Count the pages of a picture; 1 where nobody knows."""
    with quiet_pillow():
        try:
            with Image.open(path) as picture:
                return int(getattr(picture, "n_frames", 1))
        # Each of its formats fails in its own way.
        except Exception:
            return 1


def read_picture(path: Path, depth_range: DepthRange | None = None) -> NDArray[np.uint8]:
    """Read a picture.

    Args:
        path: the file.
        depth_range: values of 16 bits that become black and white; None divides them by 256.

    Returns:
        (H, W, 3) uint8, BGR, 0-255; the caller's own.

    Raises:
        SourceError: it cannot be read or decoded.
    """
    flags = cv2.IMREAD_COLOR if depth_range is None else cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    with _open_picture(path) as file:
        image = decode_image(file.read(), flags)
    if image is None:
        raise SourceError(
            f"received image {path}, which cannot be decoded; expected a sound image of 8 or 16 "
            "bits a channel; convert it, or remove it"
        )
    return _reduce_depth(image, depth_range)


@contextmanager
def _open_picture(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as exc:
        raise SourceError(f"received image {path}, which cannot be read: {exc.strerror}") from exc


def _read_depth(path: Path) -> NDArray[Any] | None:
    """A picture's values as they are stored; None where it cannot be read."""
    try:
        return decode_image(path.read_bytes(), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except OSError:
        return None


def _reduce_depth(image: NDArray[Any], depth_range: DepthRange | None) -> NDArray[np.uint8]:
    """Bring a picture to 8 bits."""
    if image.dtype == np.uint8:
        return np.asarray(image, np.uint8)
    if depth_range is None:
        return np.asarray(image // 256, np.uint8)
    low, high = depth_range
    stretched = (image.astype(np.float32) - low) * np.float32(255 / (high - low))
    return np.asarray(np.rint(stretched.clip(0, 255)), np.uint8)


def _choose_range(
    first: NDArray[Any] | None, wanted: DepthRange | str | None
) -> tuple[DepthRange | None, DepthRange | None]:
    """Choose the range of all pictures by the first, and tell its own if that is narrow."""
    if first is None or first.dtype != np.uint16:
        return (None if isinstance(wanted, str) else wanted), None
    low, high = np.percentile(first.astype(np.float32), (0.1, 99.9)).astype(int).tolist()
    own = (low, max(high, low + 1))
    if wanted is None:
        return None, own if own[1] - own[0] < NARROW * _WHITE else None
    return (own if isinstance(wanted, str) else wanted), None


def _natural_key(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort numbers by value: each run of digits, then each run of other characters."""
    runs = re.findall(r"([0-9]+)|([^0-9]+)", str(path))
    return [(int(digits or -1), text.lower()) for digits, text in runs], str(path)


def _require_distinct_stems(paths: Sequence[Path]) -> None:
    """Refuse images whose masks would get one name."""
    seen: dict[str, Path] = {}
    for path in paths:
        if path.stem in seen:
            raise SourceError(
                f"received both {seen[path.stem]} and {path}; expected stems that differ, because "
                "masks are named by them; rename one or narrow the glob"
            )
        seen[path.stem] = path
