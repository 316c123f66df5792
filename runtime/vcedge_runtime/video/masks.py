"""Masks from outside: a file or an array becomes object ids in the frame's own pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import MaskError
from vcedge_runtime.video.opencv import decode_image
from vcedge_runtime.video.palette import (
    apply_alpha,
    decode_labels,
    holds_palette,
    read_mask_file,
)

MAX_ID = 255
VOID = 255
"""Marks pixels of a file with other ids that belong to nobody (DAVIS, PASCAL VOC)."""
_SAME_ASPECT = 0.05
"""Logarithm of what two aspect ratios may differ by to be the same (our choice)."""
_JPEG = b"\xff\xd8"
_WHITE = 250
"""From here on a gray value is taken for white, so that a JPEG's white counts."""
_MANY = 32
"""More gray values than this are suspected of being shades (our choice)."""
_FLAT = 0.25
"""Share of in-between pixels that lie in flat areas, below which they are shades (our choice)."""


def read_mask(
    path: str | Path,
    *,
    frame_hw: tuple[int, int],
    binarize: bool = False,
    resize: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> NDArray[np.uint8]:
    """Read the mask of a frame.

    Args:
        path: a palette PNG (indices are ids) or a gray image (gray values are ids). Where 0 and
            255 are the only values, 255 is read as object 1; beside other ids it is void, and
            background. Where a picture is of one colour, its transparency shows the object.
        frame_hw: height and width of the frame.
        binarize: everything bright (a channel over 127; in a palette PNG, every id) becomes
            object 1.
        resize: bring a mask of another size to the frame's, nearest pixel.
        tell: told of a mask that had another shape too, and is stretched.

    Returns:
        (H, W) uint8 object ids, 0 the background, gaps kept; owned by the caller.

    Raises:
        MaskError: the mask is missing, unreadable, in colour, anti-aliased, a JPEG of ids, of
            another size, turned, or without an object.
    """
    data = read_mask_file(path)
    ids = _binarize(data, str(path)) if binarize else _read_ids(data, str(path))
    if resize and ids.shape != frame_hw:
        drawn_hw = ids.shape
        ids = _resize_ids(ids, frame_hw, str(path))
        if _compare_aspects(drawn_hw, frame_hw) > _SAME_ASPECT:
            tell(
                f"{path} of {_size(drawn_hw)} (height x width) is stretched to the frame's "
                f"{_size(frame_hw)}: look whether it shows all of the frame"
            )
    _require_size(ids, frame_hw, str(path), " or pass --resize-mask")
    if binarize and not ids.any():
        raise MaskError(
            f"received {path} without an object: nothing in it is brighter than 127; leave "
            "--binarize out where its values are ids"
        )
    _require_object(ids, str(path))
    return ids


def check_mask(mask: NDArray[np.generic], frame_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Check a mask that was handed over as an array.

    Args:
        mask: (H, W) of bool or any integer type, object ids 0 to 255, 0 the background; True is
            id 1.
        frame_hw: height and width of the frame.

    Returns:
        (H, W) uint8 object ids, contiguous; the same array where it is that already.

    Raises:
        MaskError: another size, another type, ids out of range, or no object.
    """
    kind = mask.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
    if not isinstance(mask, np.ndarray) or mask.dtype.kind not in "bui":
        raise MaskError(
            f"received a mask of {kind}; expected a numpy array of object ids, integers or bool; "
            "threshold it or convert it with astype(np.uint8)"
        )
    _require_size(mask, frame_hw, "a mask", " with nearest-neighbour interpolation")
    if mask.size and (mask.min() < 0 or mask.max() > MAX_ID):
        raise MaskError(
            f"received a mask with ids {mask.min()} to {mask.max()}; expected 0 to {MAX_ID}; "
            "renumber them"
        )
    ids = np.ascontiguousarray(mask, np.uint8)
    _require_object(ids, "a mask")
    return ids


def _read_ids(data: bytes, name: str) -> NDArray[np.uint8]:
    ids = decode_labels(data, name)
    values = np.flatnonzero(np.bincount(ids.ravel(), minlength=256))
    if values[-1] == VOID and values.size <= 2:
        return np.asarray(ids == VOID, np.uint8)
    if data.startswith(_JPEG) and values[-1] > 0:
        raise MaskError(
            f"received {name}, a JPEG, which does not keep ids ({values.size} gray values); "
            "expected a PNG; save it as one, or pass --binarize for one bright object"
        )
    if not holds_palette(data) and _looks_shaded(ids, values):
        raise MaskError(
            f"received {name}, an anti-aliased or shaded image ({values.size} gray values); "
            "expected one value per object; pass --binarize for one bright object, "
            "or save a palette PNG"
        )
    return np.where(ids == VOID, np.uint8(0), ids)


def _looks_shaded(ids: NDArray[np.uint8], values: NDArray[np.intp]) -> bool:
    """Tell shades from ids: an object has an inside, a shade lies on an edge or in a gradient.

    A choice of ours: only images that reach white or hold many values are suspected, and an image
    is shaded when few of its in-between pixels equal all eight neighbours.
    """
    if values[-1] < _WHITE and values.size <= _MANY:
        return False
    whites = values[values >= _WHITE].size
    if whites > 1 and whites + np.count_nonzero(values <= MAX_ID - _WHITE) == values.size:
        return True  # almost black and almost white alone: a JPEG of a binary mask
    between = (ids > 0) & (ids < values[-1])
    kernel = np.ones((3, 3), np.uint8)
    inside = cv2.dilate(ids, kernel) == cv2.erode(ids, kernel)
    return bool(np.count_nonzero(between & inside) < _FLAT * np.count_nonzero(between))


def _binarize(data: bytes, name: str) -> NDArray[np.uint8]:
    if holds_palette(data):
        return np.asarray(decode_labels(data, name) > 0, np.uint8)
    image = decode_image(data, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise MaskError(f"received {name}, which is no readable image; expected a PNG or JPEG")
    shown = np.asarray(image if image.dtype == np.uint8 else image // 256, np.uint8)
    bright = np.atleast_3d(apply_alpha(shown)).max(axis=2) > 127
    return np.asarray(bright, np.uint8)


def _resize_ids(ids: NDArray[np.uint8], frame_hw: tuple[int, int], name: str) -> NDArray[np.uint8]:
    _require_upright(ids, frame_hw, name)
    height, width = frame_hw
    resized = cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    lost = np.setdiff1d(ids, resized)
    if lost.any():
        raise MaskError(
            f"received {name}, whose objects {lost[lost > 0].tolist()} are too small to be resized "
            f"from {_size(ids.shape)} to {_size(frame_hw)}; draw the mask on the frame itself"
        )
    return np.asarray(resized, np.uint8)


def _require_size(
    ids: NDArray[np.generic], frame_hw: tuple[int, int], name: str, offer: str
) -> None:
    if ids.shape != tuple(frame_hw):
        _require_upright(ids, frame_hw, name)
        raise MaskError(
            f"received {name} of {_size(ids.shape)} (height x width); expected {_size(frame_hw)} "
            f"like the frame; resize it{offer}"
        )


def _compare_aspects(mask_hw: tuple[int, ...], frame_hw: tuple[int, int]) -> float:
    """Logarithm of how many times wider for its height the one is than the other; 0 for as wide."""
    return abs(math.log(mask_hw[1] / mask_hw[0] * frame_hw[0] / frame_hw[1]))


def _require_upright(ids: NDArray[np.generic], frame_hw: tuple[int, int], name: str) -> None:
    """Refuse a mask that fits the frame once it is turned: no resize makes it right."""
    if ids.ndim != 2 or 0 in ids.shape:
        return
    turned = _compare_aspects(ids.shape[::-1], frame_hw)
    if turned < _SAME_ASPECT < _compare_aspects(ids.shape, frame_hw):
        raise MaskError(
            f"received {name} of {_size(ids.shape)} (height x width), which lies on its side; "
            f"expected {_size(frame_hw)} like the frame as players show it; turn the mask, or draw "
            "it on a frame of this video"
        )


def _require_object(ids: NDArray[np.uint8], name: str) -> None:
    if not ids.any():
        raise MaskError(
            f"received {name} without an object; expected an id over 0 in some pixels; draw one"
        )


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(str(extent) for extent in shape)
