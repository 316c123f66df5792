"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from vcedge_runtime.errors import OutputError
from vcedge_runtime.files import (
    Draft,
    GrowingText,
    append_line,
    list_drafts,
    remove_drafts,
    write_array,
    write_json,
    write_whole,
    writing_folder,
    writing_whole,
)


@pytest.fixture
def limit_files() -> Iterator[Callable[[int], None]]:
    """Let no file grow beyond some bytes, as a disk that is full would not."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, former[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, former)


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


def test_a_value_that_is_no_json_leaves_the_former_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"rows": [1, 2.5, None]})
    before = (tmp_path / "a").read_bytes()
    with pytest.raises(TypeError):
        write_json(tmp_path / "a", {"rows": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == before
    assert json.loads(before) == {"rows": [1, 2.5, None]}
    assert before.endswith(b"}\n")


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
        with writing_folder(tmp_path / "a" / "b", ours={"old"}) as place:
            (place / name).write_text(name)
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b", "new"]


def test_a_folder_that_cannot_take_its_place_leaves_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").touch()
    replace = os.replace

    def fail(path: str, target: str) -> None:
        if Path(path, "new").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(path, target)

    monkeypatch.setattr(os, "replace", fail)
    with (
        pytest.raises(OutputError, match="No space left"),
        writing_folder(tmp_path / "a", ours={"mine"}) as place,
    ):
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


def test_a_folder_that_holds_more_than_is_ours_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("ours", "first.png"):
        (tmp_path / "a" / name).touch()
    with (
        pytest.raises(OutputError, match=r"which holds first\.png, which vcedge did not write"),
        writing_folder(tmp_path / "a", ours={"ours"}) as place,
    ):
        (place / "new").touch()
    assert {path.name for path in tmp_path.rglob("*")} == {"a", "ours", "first.png"}


def test_what_comes_into_a_folder_while_its_successor_is_written_is_not_lost(
    tmp_path: Path,
) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError, match="which holds mine"), writing_folder(tmp_path / "a"):
        (tmp_path / "a" / "mine").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "mine"]


def test_long_names_that_begin_alike_have_drafts_of_their_own(tmp_path: Path) -> None:
    paths = [tmp_path / (100 * "x" + end) for end in ("1.png", "2.png")]
    drafts = [Draft(path).place for path in paths]
    for draft in drafts:
        draft.touch()
    assert [list_drafts(path) for path in paths] == [[draft] for draft in drafts]
    (tmp_path / ".a.part.png").touch()
    remove_drafts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".a.part.png"]


@pytest.mark.parametrize("name", ["null", "full"])
def test_a_device_is_written_to_and_never_replaced(tmp_path: Path, name: str) -> None:
    device = Path("/dev") / name
    if not device.is_char_device():
        pytest.skip(f"the system has no {device}")
    (tmp_path / "link").symlink_to(device)
    for path in (device, tmp_path / "link"):
        for synced in (False, True):
            with pytest.raises(OutputError, match="No space") if name == "full" else nullcontext():
                write_whole(path, b"data", synced=synced)
    assert device.is_char_device()
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_a_pipe_gets_what_is_written(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, b"data")
    reader.join(10)
    assert (read, pipe.is_fifo()) == ([b"data"], True)


def test_a_link_stays_and_leads_to_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real/file")
    for data in (b"old", b"new"):
        write_whole(tmp_path / "link", data)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file").read_bytes() == b"new"


def test_a_text_can_be_followed_line_by_line(tmp_path: Path) -> None:
    text = GrowingText(tmp_path / "a")
    for number in range(3):
        text.write(f"ü{number}\n")
        assert (tmp_path / "a").read_text(encoding="utf-8").count("\n") == number + 1
    text.close()
    append_line(tmp_path / "a", "last")
    assert (tmp_path / "a").read_text(encoding="utf-8").splitlines()[2:] == ["ü2", "last"]


def test_a_line_that_does_not_fit_is_not_begun(
    limit_files: Callable[[int], None], tmp_path: Path
) -> None:
    limit_files(1000)
    text = GrowingText(tmp_path / "a")
    text.write(600 * "x" + "\n")
    with pytest.raises(OutputError, match=r"cannot be written \(File too large\)"):
        text.write(600 * "y" + "\n")
    assert (tmp_path / "a").read_text() == 600 * "x" + "\n"
    text.write("fits\n")
    text.close()
    assert (tmp_path / "a").read_text() == 600 * "x" + "\nfits\n"


@pytest.mark.parametrize("shape", [(4000,), (2000, 2)])
def test_an_array_that_does_not_fit_says_why_and_is_not_left(
    limit_files: Callable[[int], None], tmp_path: Path, shape: tuple[int, ...]
) -> None:
    array = np.arange(4000.0).reshape(shape)
    write_array(tmp_path / "made" / "a.npy", array)
    np.testing.assert_array_equal(np.load(tmp_path / "made" / "a.npy"), array)
    limit_files(1000)
    with pytest.raises(OutputError, match=r"b\.npy cannot be written \(File too large\)"):
        write_array(tmp_path / "b.npy", array)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_an_array_takes_away_what_killed_writers_of_it_left(tmp_path: Path) -> None:
    others = Draft(tmp_path / "b.npy").place
    for left in (Draft(tmp_path / "a.npy").place, others):
        left.write_bytes(b"half")
    write_array(tmp_path / "a.npy", np.arange(3))
    assert sorted(tmp_path.iterdir()) == [others, tmp_path / "a.npy"]


def test_an_array_that_another_process_wrote_meanwhile_is_as_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, there = Draft.keep, [True]

    def come_late(draft: Draft, *, synced: bool) -> None:
        draft.place.unlink()
        if there[0]:
            draft.path.write_bytes(b"theirs")
        keep(draft, synced=synced)

    monkeypatch.setattr(Draft, "keep", come_late)
    write_array(tmp_path / "a.npy", np.arange(3))
    assert (tmp_path / "a.npy").read_bytes() == b"theirs"
    there[0] = False
    with pytest.raises(OutputError, match=r"b\.npy cannot be written \(No such file"):
        write_array(tmp_path / "b.npy", np.arange(3))


def test_a_text_without_a_line_is_no_file(tmp_path: Path) -> None:
    text = GrowingText(tmp_path / "a")
    assert len(list(tmp_path.iterdir())) == 1
    text.close()
    text.close()
    assert not list(tmp_path.iterdir())
