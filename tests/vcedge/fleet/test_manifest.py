"""Manifests and folders: what they give, and what is said of a line that is wrong."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from vcedge.fleet.manifest import Entry, read_entries
from vcedge_runtime.errors import ManifestError


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refuse(path: Path) -> str:
    with pytest.raises(ManifestError) as told:
        list(read_entries(path))
    return str(told.value)


def test_a_csv_gives_an_entry_a_row_with_its_line_and_without_what_is_empty(tmp_path: Path) -> None:
    text = "\ufeffvideo, mask,frames\n\na.mp4, a.png,\n'b c'.mp4,\"b\n.png\",5\nlast.mp4,l.png,7\n"
    assert list(read_entries(write(tmp_path / "list.csv", text))) == [
        Entry(3, "a.mp4", {"mask": "a.png"}),
        Entry(4, "'b c'.mp4", {"mask": "b\n.png", "frames": "5"}),
        Entry(6, "last.mp4", {"mask": "l.png", "frames": "7"}),
    ]


def test_json_lines_give_values_as_they_are(tmp_path: Path) -> None:
    text = '{"video": "a.mp4", "box": [1, 2, 3, 4], "overlay": null}\n\n{"video": "b"}\n'
    expected = [Entry(1, "a.mp4", {"box": [1, 2, 3, 4]}), Entry(3, "b")]
    assert list(read_entries(write(tmp_path / "list.jsonl", text))) == expected
    assert list(read_entries(write(tmp_path / "list", text))) == expected


def test_a_folder_gives_videos_with_the_masks_beside_them(tmp_path: Path) -> None:
    for name in ("b.mp4", "b.png", "a.MKV", "notes.txt", "odd.dat", "odd.png", ".hidden.mp4"):
        write(tmp_path / name, "")
    for name in ("images", "other"):
        (tmp_path / name).mkdir()
    write(tmp_path / "images.png", "")
    assert list(read_entries(tmp_path)) == [
        Entry(1, "a.MKV", {}),
        Entry(2, "b.mp4", {"mask": "b.png"}),
        Entry(3, "images", {"mask": "images.png"}),
        Entry(4, "odd.dat", {"mask": "odd.png"}),
    ]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "film,mask\n", "line 1 of .*: received the columns 'film, mask'"),
        ("a.csv", "film,mask\n", "expected video among them"),
        ("a.csv", "video,mask,mask\n", "the column 'mask' twice"),
        ("a.csv", "video\na.mp4\n\nb.mp4,c.png\n", "line 4 of .*: received 2 cells; expected 1"),
        ("a.csv", "video,mask\n,a.png\n", "line 2 of .*: received None as video"),
        ("a.csv", "", "which is empty; expected a first line of columns"),
        ("a.csv", b"video\na.mp4\n\xff\xfe\n", "line 3 of .*: received the bytes"),
        ("a.csv", "video\n" + "x" * (2**20 + 1), "line 2 of .*: received more than 1,048,576"),
        ("a.csv", "video\n" + "x" * 200_000, "line 2 of .*: received text that is no CSV"),
        ("a.jsonl", '{"video": "a"}\n{"video"\n', "line 2 of .*: received '{\"video\"'"),
        ("a.jsonl", '["a.mp4"]', "line 1 of .*: received .*; expected an object such as"),
        ("a.jsonl", '{"video": 7}', "line 1 of .*: received 7 as video; expected the path"),
        ("a.jsonl", "[" * 100_000, "line 1 of"),
    ],
)
def test_a_line_that_is_wrong_is_named_with_what_was_expected(
    tmp_path: Path, name: str, text: str | bytes, told: str
) -> None:
    with pytest.raises(ManifestError, match=told):
        list(read_entries(write(tmp_path / name, text)))


def test_what_is_neither_a_file_nor_holds_a_video_is_refused(tmp_path: Path) -> None:
    assert "which holds no video" in refuse(tmp_path)
    assert "which is no file" in refuse(tmp_path / "none.csv")
    assert "which is no file" in refuse(Path("/dev/null"))


def test_a_long_manifest_is_never_held(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    with path.open("w") as file:
        file.write("video,mask\n")
        file.writelines(f"video{index}.mp4,mask{index}.png\n" for index in range(20_000))
    tracemalloc.start()
    count = sum(1 for _ in read_entries(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 500_000 < path.stat().st_size
