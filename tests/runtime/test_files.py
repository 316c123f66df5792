"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from vcedge_runtime.errors import OutputError
from vcedge_runtime.files import (
    Draft,
    GrowingText,
    list_drafts,
    write_whole,
    writing_folder,
    writing_whole,
)


def fail_while_writing(path: Path, error: BaseException) -> None:
    with writing_whole(path) as place:
        place.write_bytes(b"ha")
        raise error


@pytest.mark.parametrize(
    "name",
    ["a.png", "n" * 251 + ".png", "ü" * 125 + ".png", "a." + "b" * 253, ".hidden", "[x]*?.npy"],
)
def test_a_file_of_any_name_replaces_the_former_one(tmp_path: Path, name: str) -> None:
    for data in (b"old", b"new"):
        write_whole(tmp_path / name, data)
    with writing_whole(tmp_path / name, synced=True) as place:
        # What writes pictures, arrays and videos goes by the suffix.
        assert place.suffix == Path(name).suffix or place.suffix == ".part"
        place.write_bytes(b"newest")
        assert (tmp_path / name).read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"newest"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_block_that_fails_leaves_the_former_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    write_whole(tmp_path / "a", b"old")
    with pytest.raises(error):
        fail_while_writing(tmp_path / "a", error())
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as found:
        fail_while_writing(tmp_path / "a", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert str(found.value) == (
        f"{tmp_path / 'a'} cannot be written (No space left on device); free the place or choose "
        "another"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", [".", "..", "/", "absent/a", "folder"])
def test_what_is_no_place_for_a_file_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_whole(Path(path), b"")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "mine"]


def test_two_who_write_the_same_file_do_not_meet(tmp_path: Path) -> None:
    with writing_whole(tmp_path / "a") as one, writing_whole(tmp_path / "a") as other:
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("synced", [False, True])
def test_what_is_synced_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: bool
) -> None:
    named: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda handle: named.append((tmp_path / "a").exists()))
    write_whole(tmp_path / "a", b"data", synced=synced)
    assert named == ([False] if synced else [])


def test_a_folder_takes_the_place_of_the_former_one(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with writing_folder(tmp_path / "a" / "b") as place:
            (place / name).write_text(name)
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b", "new"]


def test_a_folder_that_cannot_take_its_place_leaves_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").touch()
    replace = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if (path / "new").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match="No space left"), writing_folder(tmp_path / "a") as place:
        (place / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "mine"]


def test_what_a_run_that_was_killed_left_is_found_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a.png", "[a].png", "a.mp4"):
        for _ in range(2):
            Draft(tmp_path / name).place.touch()
        (tmp_path / name).touch()
    assert len(list_drafts(tmp_path / "a.png")) == len(list_drafts(tmp_path / "[a].png")) == 2
    Draft(tmp_path / "b").place.mkdir()
    with writing_folder(tmp_path / "b"):
        assert len(list_drafts(tmp_path / "b")) == 1
    assert (tmp_path / "b").is_dir()
    assert not list_drafts(tmp_path / "b")


def test_a_text_without_a_line_is_no_file(tmp_path: Path) -> None:
    text = GrowingText(tmp_path / "a")
    assert len(list(tmp_path.iterdir())) == 1
    text.close()
    text.close()
    assert not list(tmp_path.iterdir())
