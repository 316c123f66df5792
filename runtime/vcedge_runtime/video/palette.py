"""Label images: object ids as the palette indices of a PNG, in the colours of DAVIS and PASCAL VOC.

OpenCV turns a palette PNG into its colours, and the ids are lost. So the file's pixel data is given
to OpenCV under a gray header: the indices come out as gray values, at libpng's own speed.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import MaskError
from vcedge_runtime.files import OnDone, write_whole
from vcedge_runtime.reading import read_bounded
from vcedge_runtime.video.opencv import PNG_SIGNATURE, decode_image

_GRAY, _PALETTE = 0, 3
MOST_BYTES, MOST_CHUNKS = 2**28, 2**16
"""Of a mask's file, and of a PNG's parts (our choice)."""


@lru_cache(maxsize=1)
def davis_palette() -> NDArray[np.uint8]:
    """Compute the palette of DAVIS and PASCAL VOC.

    The id's bits go to R, G, B in turn, the lowest three to the highest bit of each.

    Returns:
        (256, 3) uint8, RGB, 0-255; read-only, shared by all callers.
    """
    ids = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        channel, place = bit % 3, 7 - bit // 3
        palette[:, channel] |= (((ids >> bit) & 1) << place).astype(np.uint8)
    palette.flags.writeable = False
    return palette


def read_label_png(path: str | Path) -> NDArray[np.uint8]:
    """Read a label image and leave its ids as they are.

    Args:
        path: a palette PNG of 1, 2, 4 or 8 bits (indices are ids, whatever the colours), or any
            gray image of 8 bits or fewer (gray values are ids; fewer bits are scaled to 0-255). An
            image whose three channels are equal counts as gray.

    Returns:
        (H, W) uint8, 0-255; owned by the caller.

    Raises:
        MaskError: the file is missing, unreadable, damaged, in colour, or of 16 bits.
    """
    return decode_labels(read_mask_file(path), str(path))


def read_mask_file(path: str | Path) -> bytes:
    """Read a mask's file whole.

    Raises:
        MaskError: the file is missing or cannot be read.
    """
    try:
        return read_bounded(path, MOST_BYTES, piped=True)
    except OSError as exc:
        raise MaskError(
            f"received mask {path}, which cannot be read ({exc.strerror}); expected an image file"
        ) from exc


def holds_palette(data: bytes) -> bool:
    """Tell whether a file's bytes are a palette PNG."""
    return data.startswith(PNG_SIGNATURE) and data[25:26] == bytes([_PALETTE])


def decode_labels(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode a label image, as ``read_label_png`` does, from the bytes of its file.

    Args:
        data: the file's bytes.
        name: what errors call it.
    """
    if not data.startswith(PNG_SIGNATURE):
        return _decode_gray(data, name)
    header, pixels = _split_png(data, name)
    if header.bits == 16:
        raise MaskError(_too_deep(name, "a PNG of 16 bits"))
    if header.colour_type not in (_GRAY, _PALETTE):
        return _decode_gray(data, name)
    labels = _decode_gray(_join_png(replace(header, colour_type=_GRAY), pixels), name)
    if header.colour_type == _PALETTE and header.bits < 8:
        labels //= np.uint8(
            255 // (2**header.bits - 1)
        )  # OpenCV stretches gray of few bits to 0-255
    return labels


def apply_alpha(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make a mask's transparency background, and the object where its colour does not tell it.

    Where what is seen is of one colour that is no id, black, white or no gray at all, the picture
    was drawn by transparency alone (our choice).

    Args:
        image: (H, W) or (H, W, C) uint8; with 2 or 4 channels, the last one is opacity.

    Returns:
        The same without opacity; (H, W, 1) becomes (H, W).
    """
    if image.ndim == 2 or image.shape[2] in (1, 3):
        return image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    colour, seen = image[..., :-1].copy(), image[..., -1] > 127
    if not seen.all():
        # All is done in place: a list of the pixels of a large picture is gigabytes.
        np.copyto(colour, 0, where=~seen[..., None])
        first = colour.reshape(-1, colour.shape[2])[seen.argmax()]
        others = ((colour[..., c] != first[c]) & seen for c in range(colour.shape[2]))
        alone = seen.any() and not any(other.any() for other in others)
        if alone and (np.ptp(first) or not 0 < first[0] < 255):
            np.copyto(colour, 255, where=seen[..., None])
    return colour[..., 0] if colour.shape[2] == 1 else colour


def encode_label_png(labels: NDArray[np.uint8]) -> bytes:
    """Encode object ids as a palette PNG of 8 bits in the colours of DAVIS.

    Args:
        labels: (H, W) uint8 object ids, 0 the background.

    Returns:
        The bytes of the file.
    """
    height, width = labels.shape
    rows = np.zeros((height, width + 1), np.uint8)  # a row begins with its filter: 0, none
    rows[:, 1:] = labels
    runs = zlib.compressobj(strategy=zlib.Z_RLE)  # labels are runs: smaller and faster than level 1
    pixels = runs.compress(rows.data) + runs.flush()
    return _join_png(_Header(width, height, 8, _PALETTE, interlace=0), pixels)


def write_label_png(
    path: str | Path,
    labels: NDArray[np.uint8],
    *,
    on_done: OnDone = lambda place: None,
) -> None:
    """Write object ids as a palette PNG; the file appears whole or not at all.

    Args:
        path: where the file goes; an older file of that name is replaced.
        labels: (H, W) uint8 object ids, 0 the background.
        on_done: told where the whole file stands right before it gets its name.

    Raises:
        OutputError: the file cannot be written.
    """
    write_whole(path, encode_label_png(labels), on_done=on_done)


@dataclass(frozen=True)
class _Header:
    """What the first chunk of a PNG (IHDR) says."""

    width: int
    height: int
    bits: int
    colour_type: int
    interlace: int

    @classmethod
    def from_chunk(cls, chunk: bytes) -> _Header:
        width, height, bits, colour_type, _, _, interlace = struct.unpack(">IIBBBBB", chunk)
        return cls(width, height, bits, colour_type, interlace)

    def as_chunk(self) -> bytes:
        return struct.pack(
            ">IIBBBBB", self.width, self.height, self.bits, self.colour_type, 0, 0, self.interlace
        )


def _split_png(data: bytes, name: str) -> tuple[_Header, bytes]:
    """Take the header and the compressed pixels out of a PNG, every chunk checked."""
    header, pixels, chunks = b"", [], 0
    kind, at = b"", len(PNG_SIGNATURE)
    while kind != b"IEND":
        chunks += 1
        length, kind = struct.unpack_from(">I4s", data.ljust(at + 8, b"\0"), at)
        body, crc = data[at + 8 : at + 8 + length], data[at + 8 + length : at + 12 + length]
        if crc != _checksum(kind, body) or chunks > MOST_CHUNKS:
            raise MaskError(f"received {name}, a PNG that is truncated or damaged; save it again")
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            pixels.append(body)
        at += 12 + length
    if len(header) != 13:
        raise MaskError(f"received {name}, a PNG without a header; save it again")
    return _Header.from_chunk(header), b"".join(pixels)


def _join_png(header: _Header, pixels: bytes) -> bytes:
    """Put a PNG together from its header and compressed pixels, with our palette if it has one."""
    chunks = [(b"IHDR", header.as_chunk()), (b"IDAT", pixels), (b"IEND", b"")]
    if header.colour_type == _PALETTE:
        chunks.insert(1, (b"PLTE", davis_palette().tobytes()))
    parts = [PNG_SIGNATURE]
    for kind, body in chunks:
        parts += [struct.pack(">I4s", len(body), kind), body, _checksum(kind, body)]
    return b"".join(parts)


def _checksum(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _decode_gray(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode an image that holds gray values of 8 bits."""
    image = decode_image(data, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise MaskError(
            f"received {name}, which is no readable image; expected a palette or gray PNG"
        )
    if image.dtype != np.uint8:
        raise MaskError(_too_deep(name, f"an image of {image.dtype}"))
    if image.ndim == 3:
        image = _gray_channel(image, name)
    return np.ascontiguousarray(image, np.uint8)


def _gray_channel(image: NDArray[np.generic], name: str) -> NDArray[np.generic]:
    """Take one of three equal channels."""
    image = apply_alpha(np.asarray(image, np.uint8))
    if image.ndim == 2:
        return image
    blue, green, red = image[..., 0], image[..., 1], image[..., 2]
    if np.array_equal(blue, green) and np.array_equal(green, red):
        return blue
    raise MaskError(
        f"received {name}, an image in RGB colours; expected object ids as a palette or gray PNG; "
        "save it as one, or pass --binarize if it shows one bright object on black"
    )


def _too_deep(name: str, what: str) -> str:
    return (
        f"received {name}, {what}; expected at most 255 object ids in 8 bits; "
        "save it as a palette PNG of 8 bits"
    )
