"""Frames of bytes alone: what they become, and where they end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from threading import Thread

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge_runtime.errors import SourceError
from vcedge_runtime.video.raw import PIXEL_FORMATS, RawFormat, RawSource

HW = (6, 8)


def draw_frame(level: int) -> NDArray[np.uint8]:
    """A frame whose channels and halves differ."""
    image = np.zeros((*HW, 3), np.uint8)
    image[:, :4] = (level, 120, 60)
    image[:, 4:] = (30, 90, 200)
    return image


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)


def send(writing: int, data: bytes) -> Thread:
    """Write bytes in pieces that fit no frame, and close."""

    def write() -> None:
        for at in range(0, len(data), 50):
            os.write(writing, data[at : at + 50])
        os.close(writing)

    thread = Thread(target=write)
    thread.start()
    return thread


def test_frames_come_one_after_the_other_however_they_are_cut_into_pieces(
    pipe: tuple[int, int],
) -> None:
    images = [draw_frame(level) for level in range(5)]
    thread = send(pipe[1], b"".join(image.tobytes() for image in images))
    with RawSource(RawFormat(HW, fps=20), pipe[0]) as source:
        frames = list(source)
    thread.join()
    assert source.live
    assert (source.frame_hw, source.fps, source.ended_early) == (HW, 20, None)
    np.testing.assert_array_equal([frame.image for frame in frames], images)
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


def test_an_end_within_a_frame_is_told(pipe: tuple[int, int]) -> None:
    thread = send(pipe[1], 2 * draw_frame(0).tobytes() + b"half")
    with RawSource(RawFormat(HW), pipe[0]) as source:
        assert [frame.time_s for frame in source] == [None, None]
    thread.join()
    assert source.ended_early == "it ended after 4 of the 144 bytes of a frame"


def test_nothing_at_all_is_an_error(pipe: tuple[int, int]) -> None:
    send(pipe[1], b"").join()
    with pytest.raises(SourceError, match=r"without a whole frame of 144 bytes"):
        RawSource(RawFormat(HW), pipe[0])


def test_a_handle_that_cannot_be_read_is_an_error(pipe: tuple[int, int]) -> None:
    with pytest.raises(SourceError, match=r"cannot be read"):
        RawSource(RawFormat(HW), pipe[1])
    os.close(pipe[1])


def encode(image: NDArray[np.uint8], pixels: str) -> bytes:
    """Bytes of a frame in another format, by FFmpeg itself."""
    av = pytest.importorskip("av")
    if pixels == "uyvy422":
        swapped = np.frombuffer(encode(image, "yuyv422"), np.uint8).reshape(-1, 2)[:, ::-1]
        return swapped.tobytes()
    frame = av.VideoFrame.from_ndarray(image, format="bgr24")
    given = frame.reformat(format=pixels, dst_colorspace="ITU601", dst_color_range="MPEG")
    return bytes(given.to_ndarray().tobytes())


@pytest.mark.parametrize("pixels", [name for name in PIXEL_FORMATS if name != "gray"])
def test_every_format_becomes_the_bgr_that_ffmpeg_made_it_of(pixels: str) -> None:
    image = cv2.resize(draw_frame(200), (64, 48), interpolation=cv2.INTER_NEAREST)
    form = RawFormat((48, 64), pixels)
    data = bytearray(encode(np.asarray(image, np.uint8), pixels))
    assert len(data) == form.frame_bytes
    found = form.image_from_bytes(data)
    assert (found.shape, found.dtype) == ((48, 64, 3), np.uint8)
    # Conversions to YCbCr and back are a few levels off.
    np.testing.assert_allclose(found.astype(int), image, atol=6)


def test_gray_becomes_bgr() -> None:
    form = RawFormat(HW, "gray")
    data = bytearray(range(48))
    assert form.frame_bytes == 48
    expected = np.repeat(np.arange(48).reshape(6, 8, 1), 3, axis=2)
    np.testing.assert_array_equal(form.image_from_bytes(data), expected)


@pytest.mark.parametrize(
    ("frame_hw", "pixels", "fps", "told"),
    [
        ((0, 8), "bgr24", None, "at least one pixel"),
        ((2**14, 2**14), "gray", None, "at most"),
        ((6, 8), "p010", None, "expected one of bgr24, rgb24"),
        ((6, 7), "yuyv422", None, "expected even sides"),
        ((5, 8), "nv12", None, "expected even sides"),
        ((6, 8), "bgr24", 0.0, "0 raw frames a second"),
    ],
)
def test_frames_that_cannot_be_are_refused(
    frame_hw: tuple[int, int], pixels: str, fps: float | None, told: str
) -> None:
    with pytest.raises(SourceError, match=told):
        RawFormat(frame_hw, pixels, fps)


def test_frames_of_odd_height_may_share_colours_side_by_side() -> None:
    assert RawFormat((5, 8), "yuyv422").frame_bytes == 80
    assert PIXEL_FORMATS["nv12"].rows == Fraction(3, 2)
