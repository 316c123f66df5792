"""The folder of a run: what others wrote stays, and one process at a time writes there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vcedge_runtime.errors import OutputError
from vcedge_runtime.files import Draft
from vcedge_runtime.locking import LOCK_NAME, fcntl
from vcedge_runtime.video.outputs import RECORD_NAME, OutputFolder, prepare_output, require_free
from vcedge_runtime.video.sinks import MaskFolder, ObjectLog, OverlayVideo, open_masks
from vcedge_runtime.video.sources import Frame

LABELS = np.full((16, 16), 3, np.uint8)
SURROGATE = "caf\udce9"
HOLD = """
import sys
from vcedge_runtime.video.outputs import OutputFolder
with OutputFolder(sys.argv[1], overwrite=True, beside=sys.argv[2] == "beside"):
    print("held", flush=True)
    sys.stdin.read()
"""


def track(folder: Path, frames: int = 2, *, overwrite: bool = False, prefix: str = "") -> None:
    """Write what a run writes."""
    with (
        OutputFolder(folder, overwrite=overwrite) as output,
        MaskFolder(folder / "masks", output) as masks,
        OverlayVideo(folder / "overlay.mp4", 25, output) as overlay,
        ObjectLog(folder / "objects.ndjson", output) as log,
    ):
        for index in range(frames):
            frame = Frame(index, f"{prefix}{index}", np.zeros((16, 16, 3), np.uint8))
            for sink in (masks, overlay, log):
                sink.write(frame, LABELS, {3: 1.0})


def files_in(folder: Path) -> set[str]:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return found - {RECORD_NAME}


def test_what_a_run_wrote_is_removed_and_nothing_else(tmp_path: Path) -> None:
    track(tmp_path, 3)
    foreign = {"first.png", "masks/my_label.png", "masks/notes.txt", "holiday.mp4", "a/0.png"}
    for name in foreign:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    track(tmp_path, 1, overwrite=True)
    assert files_in(tmp_path) == {"masks/0.png", "overlay.mp4", "objects.ndjson", *foreign}
    assert {(tmp_path / name).read_text() for name in foreign} == {"mine"}


def test_a_file_that_was_changed_since_is_the_users_own(tmp_path: Path) -> None:
    track(tmp_path, 3)
    (tmp_path / "masks" / "2.png").write_text("corrected by hand")
    track(tmp_path, 1, overwrite=True)
    assert (tmp_path / "masks" / "2.png").read_text() == "corrected by hand"
    with pytest.raises(OutputError, match=r"2\.png, which this run would replace"):
        track(tmp_path, 3, overwrite=True)
    assert (tmp_path / "masks" / "2.png").read_text() == "corrected by hand"


@pytest.mark.parametrize("name", ["masks/0.png", "overlay.mp4", "objects.ndjson"])
def test_a_file_of_the_users_own_is_never_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=f"{name}, which this run would replace"):
        track(tmp_path, overwrite=True)
    assert (tmp_path / name).read_text() == "mine"


def test_without_a_record_nothing_is_removed(tmp_path: Path) -> None:
    track(tmp_path)
    (tmp_path / RECORD_NAME).unlink()
    before = files_in(tmp_path)
    prepare_output(tmp_path, overwrite=True)
    assert files_in(tmp_path) == before


def test_what_a_run_that_was_killed_left_is_removed(tmp_path: Path) -> None:
    output = OutputFolder(tmp_path)
    log = ObjectLog(tmp_path / "objects.ndjson", output)
    MaskFolder(tmp_path / "masks", output).put("0", LABELS)
    log.write(Frame(0, "0", np.zeros((16, 16, 3), np.uint8)), LABELS, {})
    for name in ("overlay.mp4", "masks/1.png"):
        Draft(tmp_path / name).place.touch()
    with (tmp_path / RECORD_NAME).open("a") as record:
        record.write('{"file":"mas')
    output._stack.close()  # as the system does where a process is killed
    log._text._file.close()
    track(tmp_path, 1, overwrite=True, prefix="b")
    assert files_in(tmp_path) == {"masks/b0.png", "overlay.mp4", "objects.ndjson"}


@pytest.mark.parametrize(
    "name", ["../outside.txt", "/etc/hostname", "a/inside.txt", "masks/../notes.txt", "masks"]
)
def test_a_record_leads_to_nothing_outside(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    for place in (tmp_path / "outside.txt", out / "a" / "inside.txt", out / "notes.txt"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("mine")
    (out / "masks").mkdir()
    (out / "masks" / "mine").touch()
    lines = [{"file": name}, {"file": 3}, [], "text", {"name": "notes.txt"}]
    (out / RECORD_NAME).write_text("\n".join([*map(json.dumps, lines), "{", "\0"]))
    before = {path for path in tmp_path.rglob("*") if path.is_file()} - {out / RECORD_NAME}
    prepare_output(out, overwrite=True)
    assert {path for path in before if not path.exists()} == set()


def test_names_that_are_no_utf8_or_hold_a_colon_are_recorded_too(tmp_path: Path) -> None:
    folder = tmp_path / f"12:30 {SURROGATE}"
    track(folder, 2, prefix=f"12:30 {SURROGATE} ")
    assert len(files_in(folder)) == 4
    track(folder, 1, overwrite=True)
    assert files_in(folder) == {"masks/0.png", "overlay.mp4", "objects.ndjson"}


def test_a_name_as_long_as_the_disk_takes_is_written(tmp_path: Path) -> None:
    track(tmp_path, 1, prefix=250 * "x")
    assert f"masks/{250 * 'x'}0.png" in files_in(tmp_path)


@pytest.mark.parametrize("given", ["masks", "masks/*.png", "masks/0.png", "overlay.mp4", "link"])
def test_an_input_that_would_be_removed_is_refused(tmp_path: Path, given: str) -> None:
    out = tmp_path / "out"
    track(out)
    (tmp_path / "link").symlink_to(out / "overlay.mp4")
    source = tmp_path / given if given == "link" else out / given
    before = files_in(out)
    for look in (require_free, OutputFolder):
        with pytest.raises(OutputError, match=r"of the output folder .*choose another --out"):
            look(out, overwrite=True, inputs=["rtsp://a/b", source])
    assert files_in(out) == before


def test_other_inputs_may_lie_in_the_folder(tmp_path: Path) -> None:
    track(tmp_path)
    for name in ("clip.mp4", "a.png"):
        (tmp_path / name).write_text("mine")
    inputs = ["0", "rtsp://host/a", tmp_path / "clip.mp4", tmp_path / "a.png", tmp_path / "absent"]
    require_free(tmp_path, overwrite=True, inputs=inputs, names=["overlay.mp4"])
    with OutputFolder(tmp_path, overwrite=True, inputs=inputs):
        assert files_in(tmp_path) - {LOCK_NAME} == {"clip.mp4", "a.png"}


def test_what_is_written_is_told_before_a_run(tmp_path: Path) -> None:
    (tmp_path / "overlay.mp4").write_text("mine")
    require_free(tmp_path, overwrite=True, names=["objects.ndjson"])
    with pytest.raises(OutputError, match=r"overlay\.mp4, which this run would replace"):
        require_free(tmp_path, overwrite=True, names=["objects.ndjson", "overlay.mp4"])


def test_a_run_that_wrote_nothing_leaves_nothing_and_its_folder_is_free(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out") as output:
        ObjectLog(tmp_path / "out" / "objects.ndjson", output).close()
    assert not list((tmp_path / "out").iterdir())
    require_free(tmp_path / "out")


def test_a_run_that_fails_before_its_first_frame_leaves_a_folder_that_is_free(
    tmp_path: Path,
) -> None:
    for below in (("masks",), ("images", "labels")):
        with OutputFolder(tmp_path / "out", below=below):
            for name in below:
                MaskFolder(tmp_path / "out" / name)
        assert not list((tmp_path / "out").iterdir())


def test_a_folder_of_masks_holds_masks_alone(tmp_path: Path) -> None:
    for overwrite in (False, True):
        with open_masks(tmp_path / "a", overwrite=overwrite) as sink:
            sink.put("0", LABELS)
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["0.png"]
    with pytest.raises(OutputError, match="--overwrite"), open_masks(tmp_path / "a"):
        pass


@pytest.mark.skipif(fcntl is None, reason="the system has no flock")
@pytest.mark.parametrize("place", ["in", "beside"])
def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path, place: str) -> None:
    beside = place == "beside"
    command = [sys.executable, "-c", HOLD, tmp_path / "out", place]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdin=-1, stdout=-1, env=environment) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        for look in (require_free, OutputFolder):
            with pytest.raises(OutputError, match="which another process is writing to"):
                look(tmp_path / "out", overwrite=True, beside=beside)
        first.kill()
        first.wait()
    with OutputFolder(tmp_path / "out", beside=beside):
        pass
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system forks no process")
def test_a_child_that_outlives_a_run_does_not_keep_others_out(tmp_path: Path) -> None:
    output = OutputFolder(tmp_path)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)  # until the parent is done
        output.close()  # which must take no other's lock away
        os._exit(0)
    output.close()
    with OutputFolder(tmp_path):
        os.close(write)
        os.waitpid(child, 0)
        with pytest.raises(OutputError, match="another process"):
            require_free(tmp_path)
    os.close(read)


def test_a_record_that_came_with_a_folder_removes_nothing_behind_a_link(tmp_path: Path) -> None:
    photographs, folder = tmp_path / "photographs", tmp_path / "out"
    photographs.mkdir()
    folder.mkdir()
    for name in ("a.png", Draft(photographs / "b.png").place.name):
        (photographs / name).write_text("mine")
    (folder / "masks").symlink_to(photographs)
    (folder / RECORD_NAME).write_text('{"file":"masks/a.png"}\n' + "[" * 100_000 + "\n")
    prepare_output(folder, overwrite=True)
    assert len(list(photographs.iterdir())) == 2
