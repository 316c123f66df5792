"""The DAVIS palette, and label images that keep their ids."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from vcedge_runtime.errors import MaskError, OutputError
from vcedge_runtime.video.palette import (
    apply_alpha,
    davis_palette,
    decode_labels,
    encode_label_png,
    read_label_png,
    write_label_png,
)

Labels = NDArray[np.uint8]
any_labels = hnp.arrays(np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24)))


def save_with_pillow(path: Path, labels: Labels, bits: int, palette: list[int]) -> None:
    image = pytest.importorskip("PIL.Image").fromarray(labels, "L").convert("P")
    image.putpalette(palette)
    image.paste(pytest.importorskip("PIL.Image").fromarray(labels, "L"), (0, 0))
    image.save(path, bits=bits)


def make_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))


def test_the_palette_begins_and_ends_like_that_of_davis() -> None:
    first = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128)]
    assert davis_palette()[:6].tolist() == [list(colour) for colour in first]
    assert davis_palette()[8].tolist() == [64, 0, 0]
    assert davis_palette()[255].tolist() == [224, 224, 192]


def test_all_palette_colours_differ() -> None:
    assert len({tuple(colour) for colour in davis_palette().tolist()}) == 256


@given(any_labels)
def test_any_ids_come_back_from_a_label_png(labels: Labels) -> None:
    np.testing.assert_array_equal(decode_labels(encode_label_png(labels), "labels"), labels)


@given(any_labels)
def test_pillow_reads_our_label_png_as_a_palette_image_with_the_same_ids(labels: Labels) -> None:
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(encode_label_png(labels)))
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), labels)
    assert image.getpalette() == davis_palette().ravel().tolist()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(5, 7), (16, 16), (1, 1), (3, 9)])
def test_palette_pngs_of_any_bit_depth_give_their_indices(
    tmp_path: Path, bits: int, size: tuple[int, int]
) -> None:
    labels = (np.arange(size[0] * size[1]) % 2**bits).astype(np.uint8).reshape(size)
    save_with_pillow(tmp_path / "m.png", labels, bits, davis_palette().ravel().tolist())
    np.testing.assert_array_equal(read_label_png(tmp_path / "m.png"), labels)


def test_indices_are_ids_even_when_the_palette_is_a_gray_ramp(tmp_path: Path) -> None:
    labels = np.array([[0, 1], [2, 7]], np.uint8)
    ramp = np.repeat(np.arange(256)[::-1], 3).tolist()
    save_with_pillow(tmp_path / "m.png", labels, 8, ramp)
    np.testing.assert_array_equal(read_label_png(tmp_path / "m.png"), labels)


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4])
def test_every_row_filter_is_undone(kind: int) -> None:
    rng = np.random.default_rng(kind)
    labels = rng.integers(0, 256, (9, 13), np.uint8)
    header = struct.pack(">IIBBBBB", 13, 9, 8, 3, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + make_chunk(b"IHDR", header) + make_chunk(b"PLTE", bytes(768))
    pixels = zlib.compress(filter_rows(labels.astype(int), kind))
    data += make_chunk(b"tRNS", b"\0") + make_chunk(b"IDAT", pixels[:9])
    data += make_chunk(b"IDAT", pixels[9:]) + make_chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode_labels(data, "labels"), labels)


def filter_rows(labels: NDArray[np.int_], kind: int) -> bytes:
    """Filter as the PNG specification says, section 9.2, pixel by pixel."""
    padded = np.pad(labels, ((1, 0), (1, 0)))
    rows = []
    for y in range(1, padded.shape[0]):
        rows.append(kind)
        for x in range(1, padded.shape[1]):
            left, up, corner = padded[y, x - 1], padded[y - 1, x], padded[y - 1, x - 1]
            paeth = min((left, up, corner), key=lambda v: abs(left + up - corner - v))
            guess = [0, left, up, (left + up) // 2, paeth][kind]
            rows.append(int(padded[y, x] - guess) % 256)
    return bytes(rows)


def test_an_interlaced_palette_png_gives_its_indices() -> None:
    labels = np.array([[5]], np.uint8)  # of one pixel, the first of seven passes holds all
    header = struct.pack(">IIBBBBB", 1, 1, 8, 3, 0, 0, 1)
    data = b"\x89PNG\r\n\x1a\n" + make_chunk(b"IHDR", header) + make_chunk(b"PLTE", bytes(768))
    data += make_chunk(b"IDAT", zlib.compress(b"\0\5")) + make_chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode_labels(data, "labels"), labels)


def test_gray_values_of_a_png_are_ids(tmp_path: Path) -> None:
    labels = np.array([[0, 3], [200, 255]], np.uint8)
    cv2.imwrite(str(tmp_path / "m.png"), labels)
    np.testing.assert_array_equal(read_label_png(tmp_path / "m.png"), labels)


def test_gray_of_one_bit_is_black_and_white(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image").fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    image.save(tmp_path / "m.png")
    assert read_label_png(tmp_path / "m.png").tolist() == [[0, 255]]


def test_a_gray_jpeg_gives_its_gray_values(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "m.jpg"), np.full((16, 16), 7, np.uint8))
    assert np.unique(read_label_png(tmp_path / "m.jpg")).tolist() == [7]


def test_three_equal_channels_count_as_gray(tmp_path: Path) -> None:
    labels = np.array([[0, 4], [4, 9]], np.uint8)
    cv2.imwrite(str(tmp_path / "m.png"), np.dstack([labels] * 3))
    np.testing.assert_array_equal(read_label_png(tmp_path / "m.png"), labels)


def test_colours_are_refused_with_both_ways_out(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "m.png"), np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    with pytest.raises(MaskError, match=r"RGB colours.*palette.*--binarize"):
        read_label_png(tmp_path / "m.png")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    cv2.imwrite(str(path), np.array([[0, 300]], np.uint16))
    with pytest.raises(MaskError, match="at most 255 object ids"):
        read_label_png(path)


@given(st.integers(0, 100))
def test_a_png_that_is_cut_anywhere_is_refused(cut: int) -> None:
    data = encode_label_png(np.eye(40, dtype=np.uint8))
    with pytest.raises(MaskError):
        decode_labels(data[: len(data) * cut // 101], "labels")


def test_a_png_with_a_flipped_bit_is_refused() -> None:
    data = bytearray(encode_label_png(np.eye(40, dtype=np.uint8)))
    data[-30] ^= 1
    with pytest.raises(MaskError, match="truncated or damaged"):
        decode_labels(bytes(data), "labels")


def test_text_is_no_label_image(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_text("no image")
    with pytest.raises(MaskError, match="no readable image"):
        read_label_png(tmp_path / "m.png")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match=r"absent\.png.*No such file"):
        read_label_png(tmp_path / "absent.png")


def test_a_written_file_replaces_the_older_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    write_label_png(path, np.zeros((4, 4), np.uint8))
    write_label_png(path, np.full((4, 4), 9, np.uint8))
    assert np.unique(read_label_png(path)).tolist() == [9]
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_label_png(tmp_path / "file" / "m.png", np.zeros((4, 4), np.uint8))


def test_a_failed_rename_leaves_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match="No space left"):
        write_label_png(tmp_path / "m.png", np.zeros((4, 4), np.uint8))
    assert not list(tmp_path.iterdir())


def test_the_transparency_of_a_picture_takes_no_more_memory_than_the_picture() -> None:
    picture = np.zeros((512, 512, 4), np.uint8)
    picture[100:200, 100:200] = (255, 255, 255, 255)
    tracemalloc.start()
    try:
        shown = apply_alpha(picture)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2 * picture.nbytes
    assert (shown == 255 * (picture[..., 3:] > 0)).all()
