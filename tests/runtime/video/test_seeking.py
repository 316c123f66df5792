"""Any frame in any order is the frame that reading from the beginning gives."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge_runtime.errors import SourceError
from vcedge_runtime.video.frame import Frame, Source
from vcedge_runtime.video.seeking import LEAST_KEPT, FrameReader, Lazy, SeekableVideo, SpanReader
from vcedge_runtime.video.sources import open_source

av = pytest.importorskip("av")

HW = (48, 64)
FRAMES = 60
FRAME_BYTES = 3 * HW[0] * HW[1]
CONTAINERS = {
    "b.mp4": ("libx264", {"g": "20", "bf": "2"}),
    "b.mkv": ("libx264", {"g": "20", "bf": "2"}),
    "b.ts": ("libx264", {"g": "20", "bf": "2"}),
    "m.avi": ("mpeg4", {"g": "12"}),
    "m.mov": ("mpeg4", {"g": "12", "bf": "2"}),
    "v.webm": ("libvpx", {"g": "30"}),
}


def draw(index: int) -> NDArray[np.uint8]:
    image = np.full((*HW, 3), 40, np.uint8)
    image[:, : index + 2] = (60, 200 - 2 * index, 3 * index)
    return image


def write(path: Path) -> Path:
    codec, options = CONTAINERS[path.name]
    if codec not in av.codecs_available:
        pytest.skip(f"FFmpeg here has no {codec}")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *HW, "yuv420p"
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(draw(index), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def break_packet(path: Path, number: int, *, spared: float = 0) -> None:
    """Overwrite a packet but for the share at its beginning."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    place, size = packets[number].pos, packets[number].size
    data = bytearray(path.read_bytes())
    kept = int(spared * size)
    data[place + kept : place + size] = bytes(size - kept)
    path.write_bytes(data)


def read_all(spec: Path) -> list[NDArray[np.uint8]]:
    with open_source(spec) as source:
        return [frame.image for frame in source]


def assert_same_in_any_order(reader: FrameReader, truth: list[NDArray[np.uint8]]) -> None:
    rng = random.Random(0)
    last = len(truth) - 1
    order = [
        0,
        last,
        *range(last, -1, -1),
        *(rng.randint(0, last) for _ in range(40)),
        *range(last),
    ]
    for index in order:
        frame = reader.read(index)
        assert frame.index == index
        np.testing.assert_array_equal(frame.image, truth[index])


@pytest.mark.parametrize("name", CONTAINERS)
def test_any_frame_of_a_video_is_read_in_any_order(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    truth = read_all(path)
    with FrameReader(open_source(path), most_bytes=8 * FRAME_BYTES) as reader:
        assert reader.length == len(truth) == FRAMES
        assert_same_in_any_order(reader, truth)


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("broken", [False, True])
def test_a_span_is_what_reading_from_the_beginning_gives(
    tmp_path: Path, name: str, broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / name)
    if broken:
        break_packet(path, 30)
    with open_source(path) as source:
        truth = {frame.index: frame for frame in source}
        decoded: list[int] = []
        read_from = SeekableVideo.read_from

        def count(video: SeekableVideo, number: int, earlier: int | None) -> Iterator[Lazy]:
            for found in read_from(video, number, earlier):
                decoded.append(found[0])
                yield found

        monkeypatch.setattr(SeekableVideo, "read_from", count)
        with SpanReader(source) as spans:
            for start, stop in ((0, 3), (57, 70), (41, 42), (25, 44), (3, 3), (60, 61)):
                found = spans.read(start, stop)
                assert [frame.index for frame in found] == [
                    index for index in truth if start <= index < stop
                ]
                for frame in found:
                    true = truth[frame.index]
                    assert (frame.name, frame.lost) == (true.name, true.lost)
                    assert frame.time_s == pytest.approx(true.time_s, abs=1e-9)
                    np.testing.assert_array_equal(frame.image, true.image)
    if not broken:
        assert 0 < len(decoded) < 3 * FRAMES


@pytest.mark.parametrize("name", ["b.mp4", "b.mkv", "m.avi", "m.mov"])
def test_a_frame_that_is_damaged_in_part_is_there_from_anywhere(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    break_packet(path, 30, spared=0.5)
    with av.open(str(path)) as container:
        assert any(frame.is_corrupt for frame in container.decode(video=0))
    with open_source(path) as source, SpanReader(source) as spans:
        back = [frame.index for start in (45, 30, 15, 0) for frame in spans.read(start, start + 15)]
        assert sorted(back) == [frame.index for frame in source] == list(range(FRAMES))


def test_a_span_of_images_opens_no_others(tmp_path: Path) -> None:
    for index in range(5):
        cv2.imwrite(str(tmp_path / f"shot{index}.png"), draw(index))
    with open_source(tmp_path) as source:
        (tmp_path / "shot1.png").unlink()
        with SpanReader(source) as spans:
            assert [frame.name for frame in spans.read(3, 9)] == ["shot3", "shot4"]


def test_images_of_a_folder_are_read_in_any_order_under_their_names(tmp_path: Path) -> None:
    for index in range(5):
        cv2.imwrite(str(tmp_path / f"shot{index}.png"), draw(index))
    with FrameReader(open_source(tmp_path)) as reader:
        assert_same_in_any_order(reader, read_all(tmp_path))
        assert reader.read(3).name == "shot3"


def test_pages_of_a_picture_are_read_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    assert cv2.imwritemulti(str(path), [draw(index) for index in range(6)])
    with FrameReader(open_source(path), most_bytes=FRAME_BYTES) as reader:
        assert_same_in_any_order(reader, read_all(path))


def test_no_more_frames_are_kept_than_may_be(tmp_path: Path) -> None:
    path = write(tmp_path / "b.mp4")
    with FrameReader(open_source(path), most_bytes=10 * FRAME_BYTES) as reader:
        for index in (*range(FRAMES), *range(FRAMES - 1, -1, -1)):
            reader.read(index)
            kept = sum(reader.find(each) is not None for each in range(FRAMES))
            assert kept <= 10
    with FrameReader(open_source(path), most_bytes=1) as reader:
        for index in range(FRAMES):
            reader.read(index)
        assert sum(reader.find(each) is not None for each in range(FRAMES)) == LEAST_KEPT


def test_who_goes_back_seeks_once_for_all_frames_that_hang_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "b.mp4")
    sought: list[int] = []
    seek = FrameReader._seek

    def count(reader: FrameReader, index: int, wanted: range) -> Frame:
        sought.append(index)
        return seek(reader, index, wanted)

    monkeypatch.setattr(FrameReader, "_seek", count)
    with FrameReader(open_source(path), most_bytes=FRAMES * FRAME_BYTES) as reader:
        for index in range(FRAMES - 1, -1, -1):
            reader.read(index)
    keys = SeekableVideo(path).index.keys
    assert len(keys) < FRAMES / 4
    assert len(sought) <= len(keys) + 2


def test_a_frame_that_is_not_there_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "one.png"), draw(0))
    with FrameReader(open_source(tmp_path)) as reader, pytest.raises(SourceError, match="0 to 0"):
        reader.read(1)


def test_a_live_source_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "one.png"), draw(0))
    source: Source = open_source(tmp_path)
    source.live = True
    with pytest.raises(SourceError, match="no frame comes again"):
        FrameReader(source)


def test_a_frame_that_cannot_be_decoded_shows_the_one_before(tmp_path: Path) -> None:
    path = write(tmp_path / "m.mov")
    break_packet(path, 30)
    with FrameReader(open_source(path)) as reader:
        assert reader.length == FRAMES
        for index in (30, 5, 29, 59):
            assert reader.read(index).image.shape == (*HW, 3)
