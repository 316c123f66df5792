"""What is missing from a file, by what its container says of itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcedge_runtime.video.containers import find_cut

av = pytest.importorskip("av")


def write(path: Path, **options: str) -> bytes:
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libvpx" if path.suffix == ".webm" else "mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for _ in range(10):
            noise = rng.integers(0, 256, (48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="bgr24")))
        container.mux(stream.encode())
    return path.read_bytes()


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm", "a.avi"])
def test_a_whole_file_lacks_nothing_and_one_byte_less_is_noticed(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    data = write(path, **({"movflags": "faststart"} if name in ("a.mp4", "a.mov") else {}))
    assert find_cut(path) is None
    path.write_bytes(data[: len(data) // 2])
    found = find_cut(path)
    assert found is not None
    assert f"{len(data) // 2} bytes of the {len(data)}" in found


def test_bytes_behind_the_end_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    data = write(path)
    path.write_bytes(data + b"\xff" * 100)
    assert find_cut(path) is None


def test_a_fragmented_file_is_walked_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    data = write(path, movflags="frag_keyframe+empty_moov")
    assert find_cut(path) is None
    path.write_bytes(data[: data.rindex(b"mdat") + 40])
    assert find_cut(path) is not None


def test_a_live_matroska_announces_no_end(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    data = write(path, live="1")
    path.write_bytes(data[:-50])
    assert find_cut(path) is None


@given(
    st.binary(max_size=64), st.sampled_from([b"", b"RIFF", b"\x1a\x45\xdf\xa3", b"\0\0\0\x08ftyp"])
)
def test_any_bytes_are_answered(
    tmp_path_factory: pytest.TempPathFactory, tail: bytes, head: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.bin"
    path.write_bytes(head + tail)
    found = find_cut(path)
    assert found is None or "cut off" in found


def test_a_file_that_is_gone_is_no_answer(tmp_path: Path) -> None:
    assert find_cut(tmp_path / "absent.mp4") is None
