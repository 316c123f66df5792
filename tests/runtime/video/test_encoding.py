"""Video as FFmpeg writes it: which codec, which sizes and rates, and what a full disk does."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from vcedge_runtime.errors import OutputError
from vcedge_runtime.video import encoding
from vcedge_runtime.video.encoding import CODECS, VideoEncoder
from vcedge_runtime.video.sources import open_source

av = pytest.importorskip("av", reason="it encodes")


@pytest.fixture(params=[name for name in CODECS if name in av.codecs_available])
def codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name = str(request.param)
    monkeypatch.setattr(encoding, "CODECS", {"none": {}, name: CODECS[name]})
    return name


@pytest.mark.parametrize("fps", [0.01, 1, 23.976, 30000 / 1001, 59.94, 240, 1000])
@pytest.mark.parametrize("frame_hw", [(2, 2), (48, 64), (8000, 2)])
def test_frames_of_any_size_and_rate_come_back(
    tmp_path: Path, codec: str, fps: float, frame_hw: tuple[int, int]
) -> None:
    encoder = VideoEncoder(tmp_path / "a.mp4", fps, frame_hw)
    for level in (0, 100, 200):
        encoder.write(np.full((*frame_hw, 3), level, np.uint8))
    encoder.close()
    with open_source(tmp_path / "a.mp4") as video:
        levels = [frame.image.mean() for frame in video]
        assert video.fps == pytest.approx(fps, rel=1e-4)
        assert video.frame_hw == frame_hw
    assert levels == pytest.approx([0, 100, 200], abs=5)
    with av.open(str(tmp_path / "a.mp4")) as found:
        decoder = found.streams.video[0].codec_context.name
    assert decoder == {"libx264": "h264"}.get(codec, codec)


def test_what_cannot_be_encoded_is_an_error_with_the_reason(tmp_path: Path, codec: str) -> None:
    with pytest.raises(OutputError, match=r"^\w"):
        VideoEncoder(tmp_path / "a.mp4", 25, (70_000, 2))


@pytest.mark.usefixtures("limited_files")
def test_a_full_disk_is_told_by_the_write_and_nothing_is_printed(
    tmp_path: Path, codec: str, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0)

    def fill() -> None:
        for _ in range(300):
            encoder.write(noise.integers(0, 256, (48, 64, 3), np.uint8))

    encoder = VideoEncoder(tmp_path / "a.mp4", 25, (48, 64))
    with pytest.raises(OSError, match="File too large"):
        fill()
    encoder.discard()
    encoder.discard()
    assert capfd.readouterr() == ("", "")


def test_what_is_discarded_is_not_written_on(tmp_path: Path, codec: str) -> None:
    encoder = VideoEncoder(tmp_path / "a.mp4", 25, (48, 64))
    encoder.write(np.zeros((48, 64, 3), np.uint8))
    size = (tmp_path / "a.mp4").stat().st_size
    encoder.discard()
    assert (tmp_path / "a.mp4").stat().st_size - size < 1000


@pytest.mark.parametrize("frames", [1, 3, 40])
def test_what_cannot_be_finished_is_told_and_nothing_is_printed(
    tmp_path: Path, codec: str, capfd: pytest.CaptureFixture[str], frames: int
) -> None:
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    encoder = VideoEncoder(tmp_path / "a.mp4", 25, (48, 64))
    for _ in range(frames):
        encoder.write(np.zeros((48, 64, 3), np.uint8))
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, former[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            encoder.close()
        encoder.discard()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert capfd.readouterr() == ("", "")
