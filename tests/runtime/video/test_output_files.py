"""A file that a run writes at a place of its own: the rules are those of its folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vcedge_runtime.errors import OutputError
from vcedge_runtime.files import Draft
from vcedge_runtime.locking import fcntl
from vcedge_runtime.video.outputs import OutputFile, OutputFolder, require_free_file, write_noted

SURROGATE = "caf\udce9"
HOLD = """
import sys
from pathlib import Path
from vcedge_runtime.video.outputs import OutputFile
with OutputFile(Path(sys.argv[1]), overwrite=True):
    print("held", flush=True)
    sys.stdin.read()
"""


def write(path: Path, text: str = "found", *, overwrite: bool = False) -> None:
    """Write what a run writes."""
    require_free_file(path, overwrite=overwrite, option="--coco")
    with OutputFile(path, overwrite=overwrite, option="--coco") as output:
        write_noted(os.fspath(path), text.encode(), output)


def test_a_file_is_written_below_folders_that_are_made(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "out.json")
    assert (tmp_path / "a" / "b" / "out.json").read_text() == "found"


def test_a_file_is_never_replaced_unasked(tmp_path: Path) -> None:
    write(tmp_path / "out.json")
    with pytest.raises(OutputError, match=r"existing file .*--overwrite or choose another --coco"):
        write(tmp_path / "out.json", "again")
    assert (tmp_path / "out.json").read_text() == "found"
    write(tmp_path / "out.json", "again", overwrite=True)
    assert (tmp_path / "out.json").read_text() == "again"


@pytest.mark.parametrize("own", [False, True])
def test_a_file_of_the_users_own_or_that_he_changed_stays(tmp_path: Path, own: bool) -> None:
    if not own:
        write(tmp_path / "out.json")
    (tmp_path / "out.json").write_text("corrected by hand")
    with pytest.raises(OutputError, match=r"out\.json, which this run would replace.*--coco"):
        write(tmp_path / "out.json", overwrite=True)
    assert (tmp_path / "out.json").read_text() == "corrected by hand"


def test_nothing_else_in_its_folder_is_touched(tmp_path: Path) -> None:
    for name in ("mine.json", Draft(tmp_path / "other.json").place.name):
        (tmp_path / name).write_text("mine")
    (tmp_path / ".out.json.vcedge-run.ndjson").write_text('{"file":"mine.json"}\n')
    before = {path: path.read_text() for path in tmp_path.iterdir() if path.suffix == ".json"}
    write(tmp_path / "out.json", overwrite=True)
    assert {path: path.read_text() for path in before} == before


def test_what_a_run_that_was_killed_left_of_it_is_removed(tmp_path: Path) -> None:
    left = Draft(tmp_path / "out.json").place
    left.write_text("half")
    write(tmp_path / "out.json", overwrite=True)
    assert not left.exists()


def test_a_run_that_wrote_nothing_leaves_nothing(tmp_path: Path) -> None:
    with OutputFile(tmp_path / "out.json"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out.json").mkdir()
    for look in (require_free_file, OutputFile):
        with pytest.raises(OutputError, match=r"which is a folder; expected a file's name"):
            look(tmp_path / "out.json", overwrite=True)


def test_a_link_is_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("mine")
    (tmp_path / "out.json").symlink_to(tmp_path / "mine.json")
    with pytest.raises(OutputError, match="which this run would replace"):
        write(tmp_path / "out.json", overwrite=True)
    assert (tmp_path / "mine.json").read_text() == "mine"


def test_a_place_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot be written \(Not a directory\)"):
        OutputFile(tmp_path / "file" / "out.json")


def test_a_name_that_is_no_utf8_is_recorded_too(tmp_path: Path) -> None:
    path = tmp_path / f"{SURROGATE}.json"
    write(path)
    write(path, "again", overwrite=True)
    assert path.read_text() == "again"


def test_a_file_may_lie_in_a_runs_folder(tmp_path: Path) -> None:
    for overwrite in (False, True):
        with OutputFolder(tmp_path / "out", overwrite=overwrite):
            write(tmp_path / "out" / "coco.json", overwrite=overwrite)
    assert (tmp_path / "out" / "coco.json").read_text() == "found"


def test_a_record_that_came_with_a_folder_removes_nothing_below_it(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_text("mine")
    lines = [{"file": "images/a.jpg"}, {"file": "../a"}]
    record = tmp_path / ".out.json.vcedge-run.ndjson"
    record.write_text("\n".join(map(json.dumps, lines)))
    write(tmp_path / "out.json", overwrite=True)
    assert (tmp_path / "images" / "a.jpg").read_text() == "mine"


@pytest.mark.skipif(fcntl is None, reason="the system has no flock")
def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    command = [sys.executable, "-c", HOLD, path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdin=-1, stdout=-1, env=environment) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        for look in (require_free_file, OutputFile):
            with pytest.raises(OutputError, match="which another process is writing to"):
                look(path, overwrite=True)
        first.kill()
        first.wait()
    write(path, overwrite=True)
