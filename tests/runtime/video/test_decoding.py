"""Every frame that is in a file, by its number, as its container and its colours say."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge_runtime.errors import SourceError
from vcedge_runtime.video import decoding
from vcedge_runtime.video.decoding import Decoded, VideoDecoder
from vcedge_runtime.video.sources import open_source

av = pytest.importorskip("av")

HW = (48, 64)
STEP = 10
"""Levels of gray between two frames: more than a codec loses."""


def draw_level(index: int) -> NDArray[np.uint8]:
    return np.full((*HW, 3), 20 + STEP * index, np.uint8)


def draw_corners() -> NDArray[np.uint8]:
    """A picture of which no turn is another's: red at the top left, green at the bottom right."""
    image = np.full((*HW, 3), 128, np.uint8)
    image[:16, :16] = (0, 0, 255)
    image[-16:, -32:] = (0, 255, 0)
    return image


def write_video(
    path: Path,
    images: list[NDArray[np.uint8]],
    *,
    codec: str = "mpeg4",
    pixels: str = "yuv420p",
    times: list[int] | None = None,
    rotation: int = 0,
    options: dict[str, str] | None = None,
    colours: tuple[int, int] | None = None,
    **container_options: Any,
) -> Path:
    """Write a video of 25 frames a second, or with the times that are given."""
    with av.open(str(path), "w", **container_options) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *HW, pixels
        if colours is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = colours
        if rotation:
            stream.set_display_rotation(rotation)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts = index if times is None else times[index]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decode(path: Path) -> tuple[VideoDecoder, list[Decoded]]:
    decoder = VideoDecoder(path)
    frames = list(decoder)
    decoder.close()
    return decoder, frames


def levels_of(frames: list[Decoded]) -> list[int]:
    """Indices of the frames by how much brighter they are than the first."""
    means = [float(frame.image.mean()) for frame in frames]
    return [round((mean - means[0]) / STEP) for mean in means]


def spoil_packets(path: Path, numbers: list[int]) -> Path:
    """Write zeros over packets of an MP4."""
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for number in numbers:
        place, size = places[number]
        data[place : place + size] = bytes(size)
    path.write_bytes(data)
    return path


def drop_avi_chunks(path: Path, numbers: set[int]) -> Path:
    """Empty chunks of an AVI, as a recorder leaves them that could not keep up."""
    data = path.read_bytes()
    begin = place = data.index(b"movi") + 4
    chunks = []
    while data[place + 2 : place + 4] in (b"dc", b"db"):
        (size,) = struct.unpack_from("<I", data, place + 4)
        chunks.append((data[place : place + 4], data[place + 8 : place + 8 + size]))
        place += 8 + size + size % 2
    movi, index = b"movi", b""
    for number, (kind, body) in enumerate(chunks):
        kept = b"" if number in numbers else body
        index += kind + struct.pack("<III", 16, len(movi), len(kept))
        movi += kind + struct.pack("<I", len(kept)) + kept + bytes(len(kept) % 2)
    tail = b"LIST" + struct.pack("<I", len(movi)) + movi
    tail += b"idx1" + struct.pack("<I", len(index)) + index
    head = data[: begin - 12]
    size = len(head) + len(tail) - 8
    path.write_bytes(head[:4] + struct.pack("<I", size) + head[8:] + tail)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "ts", "avi", "mov"])
def test_all_frames_come_in_order_whatever_the_container(tmp_path: Path, suffix: str) -> None:
    codec = "libvpx" if suffix == "webm" else "mpeg4"
    path = write_video(tmp_path / f"a.{suffix}", [draw_level(i) for i in range(20)], codec=codec)
    decoder, frames = decode(path)
    assert levels_of(frames) == [frame.number for frame in frames] == list(range(20))
    assert decoder.lost == []
    assert decoder.damage is None
    assert decoder.fps == 25


def test_frames_that_are_stored_out_of_order_are_shown_in_order(tmp_path: Path) -> None:
    images = [draw_level(i) for i in range(20)]
    path = write_video(tmp_path / "a.mp4", images, codec="libx264", options={"bf": "3"})
    _, frames = decode(path)
    assert levels_of(frames) == [frame.number for frame in frames] == list(range(20))


def test_interlaced_frames_are_what_was_drawn(tmp_path: Path) -> None:
    options = {"flags": "+ildct+ilme", "top": "1"}
    images = [draw_corners()] * 8
    path = write_video(tmp_path / "a.mpg", images, codec="mpeg2video", options=options)
    _, frames = decode(path)
    assert len(frames) == 8
    for frame in frames:
        assert np.abs(frame.image[4, 4].astype(int) - (0, 0, 255)).max() < 30
        assert np.abs(frame.image[-4, -4].astype(int) - (0, 255, 0)).max() < 30


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_picture_is_turned_as_its_container_says(tmp_path: Path, rotation: int) -> None:
    path = write_video(tmp_path / "a.mp4", [draw_corners()] * 3, rotation=rotation)
    _, frames = decode(path)
    expected = np.rot90(draw_corners(), rotation // 90)
    assert frames[0].image.shape == expected.shape
    assert frames[0].image.flags.c_contiguous
    assert np.abs(frames[0].image.astype(int) - expected).mean() < 6
    with open_source(path) as source:
        assert source.frame_hw == expected.shape[:2]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("matrix", "red"), [(1, 0.2126), (6, 0.299), (9, 0.2627)])
def test_colours_are_those_of_the_videos_own_matrix_and_range(
    tmp_path: Path, matrix: int, red: float, full: bool
) -> None:
    # Y and Cr of one flat picture; R = Y + 2 (1 - Kr) Cr (ITU-R BT.601, 709, 2020).
    luma, cr = 100, 160
    images = []
    for _ in range(3):
        frame = av.VideoFrame(HW[1], HW[0], "yuv420p")
        for plane, value in zip(frame.planes, (luma, 128, cr), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        images.append(frame)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = *HW, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, 2 if full else 1
        for index, frame in enumerate(images):
            frame.colorspace, frame.color_range, frame.pts = matrix, 2 if full else 1, index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    _, frames = decode(path)
    y = luma / 255 if full else (luma - 16) / 219
    v = (cr - 128) / (255 if full else 224)
    assert frames[0].image[20, 20, 2] == pytest.approx(255 * (y + 2 * (1 - red) * v), abs=3)


def test_a_bad_packet_costs_its_frame_and_no_other_its_number(tmp_path: Path) -> None:
    options = {"bf": "0", "g": "1"}
    images = [draw_level(i) for i in range(20)]
    path = write_video(tmp_path / "a.mp4", images, codec="libx264", options=options)
    decoder, frames = decode(spoil_packets(path, [7, 12]))
    assert levels_of(frames) == [frame.number for frame in frames]
    assert [frame.number for frame in frames] == [i for i in range(20) if i not in (7, 12)]
    assert decoder.lost == [7, 12]
    assert decoder.damage is None


def test_a_source_says_how_many_frames_are_lost_and_before_which(tmp_path: Path) -> None:
    options = {"bf": "0", "g": "1"}
    images = [draw_level(i) for i in range(20)]
    path = write_video(tmp_path / "a.mp4", images, codec="libx264", options=options)
    with open_source(spoil_packets(path, [7, 8])) as source:
        frames = list(source)
    assert source.lost == 2
    assert [(frame.index, frame.name) for frame in frames if frame.lost] == [(9, "00009")]
    assert source.ended_early is None


def test_a_video_whose_rest_is_lost_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MOST_FAILURES", 5)
    options = {"bf": "0", "g": "1"}
    images = [draw_level(i) for i in range(20)]
    path = write_video(tmp_path / "a.mp4", images, codec="libx264", options=options)
    spoil_packets(path, list(range(3, 20)))
    with open_source(path) as source, pytest.raises(SourceError, match="packets in a row"):
        list(source)


def test_times_that_are_far_apart_are_no_damage(tmp_path: Path) -> None:
    times = [0, 1, 2, 30, 31, 75]
    path = write_video(tmp_path / "a.mkv", [draw_level(i) for i in range(6)], times=times)
    decoder, frames = decode(path)
    assert [frame.number for frame in frames] == list(range(6))
    assert decoder.damage is None


def test_placeholders_of_an_avi_show_the_frame_before_again(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", [draw_level(i) for i in range(12)], codec="mjpeg",
                       pixels="yuvj420p")  # fmt: skip
    decoder, frames = decode(drop_avi_chunks(path, {4, 5, 9}))
    assert [frame.number for frame in frames] == list(range(12))
    assert levels_of(frames) == [0, 1, 2, 3, 3, 3, 6, 7, 8, 8, 10, 11]
    assert not np.shares_memory(frames[3].image, frames[4].image)
    assert decoder.damage is None


@pytest.mark.parametrize("name", ["12:30:05.mp4", "http:clip.mp4", "50%.mp4", "a b'c\".mp4"])
def test_a_files_name_may_be_anything(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / "a.mp4", [draw_level(i) for i in range(4)])
    path = path.rename(tmp_path / name)
    assert len(decode(path)[1]) == 4


def test_a_name_that_is_no_utf8_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", [draw_level(i) for i in range(4)])
    path = path.rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")))
    assert len(decode(path)[1]) == 4
    monkeypatch.chdir(tmp_path)
    with open_source(path.name) as source:
        assert len(list(source)) == 4


def test_a_sound_files_cover_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(SourceError, match="holds no video"):
        open_source(path)


def test_a_gap_in_the_times_of_a_file_is_told(tmp_path: Path) -> None:
    images = [draw_level(index) for index in range(12)]
    times = [*range(6), *range(20, 26)]
    with open_source(write_video(tmp_path / "a.mkv", images, times=times)) as source:
        assert len(list(source)) == 12
        (doubt,) = source.doubts
    assert doubt.startswith("between its frames 5 and 6 lie 0.6 s: if it is damaged there")
    with open_source(
        write_video(tmp_path / "b.mkv", images, times=[2 * i for i in range(12)])
    ) as b:
        assert len(list(b)) == 12
        assert b.doubts == ()


def test_a_matroska_file_that_loses_its_rest_is_doubted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (*HW, 3)).astype(np.uint8) for _ in range(60)]
    path = write_video(tmp_path / "a.mkv", images, options={"g": "5"})
    data = bytearray(path.read_bytes())
    begin, end = len(data) // 3, len(data) - 400
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)
    with open_source(path) as source:
        assert len(list(source)) < 50
        assert any("it announces 2.4 s, and its last frame" in doubt for doubt in source.doubts)


def test_a_file_whose_times_do_not_begin_at_0_is_not_doubted(tmp_path: Path) -> None:
    images = [draw_level(index % 20) for index in range(50)]
    path = write_video(tmp_path / "a.mkv", images, times=list(range(125, 175)))
    with open_source(path) as source:
        assert len(list(source)) == 50
        assert source.doubts == ()
