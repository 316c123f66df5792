"""Files that are put together at a run's end: whole or not there, and never held in memory."""

from __future__ import annotations

import errno
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.runtime.video.made_objects import SCORES, make_frame, make_objects, write_objects
from vcedge_runtime.errors import OutputError
from vcedge_runtime.video.coco import CocoFile
from vcedge_runtime.video.cvat import CvatFile
from vcedge_runtime.video.label_studio import LabelStudioFolder
from vcedge_runtime.video.outputs import OutputFolder
from vcedge_runtime.video.sinks import Labels
from vcedge_runtime.video.spooling import Spool, SpooledFile

MakeSink = Callable[..., SpooledFile]
FILES = [pytest.param(CocoFile, id="coco.json"), pytest.param(CvatFile, id="cvat.xml")]
ALL = [*FILES, pytest.param(LabelStudioFolder, id="studio")]


@pytest.fixture
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return tmp_path / str(request.node.callspec.id)


def count_frames(path: Path) -> int:
    """Frames that a file tells of; it is read by the strictest reader."""
    if path.is_dir():
        return len(json.loads((path / "tasks.json").read_text()))
    if path.suffix == ".json":
        return len(json.loads(path.read_text())["images"])
    return len(ElementTree.parse(path).findall("image"))


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("make", FILES)
def test_nothing_has_the_files_name_before_the_end_and_nothing_lies_beside_it(
    make: MakeSink, path: Path
) -> None:
    with make(path) as sink:
        write_objects(sink, 3)
        assert not list(path.parent.iterdir())
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("make", ALL)
def test_an_interruption_leaves_what_was_written(make: MakeSink, path: Path) -> None:
    def run() -> None:
        with make(path) as sink:
            write_objects(sink, 3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert count_frames(path) == 3


@pytest.mark.parametrize("make", ALL)
def test_without_a_frame_there_is_no_file(make: MakeSink, path: Path) -> None:
    with make(path):
        pass
    assert not files_in(path.parent)


@pytest.mark.parametrize("make", ALL)
def test_closing_twice_does_no_harm(make: MakeSink, path: Path) -> None:
    sink = make(path)
    write_objects(sink, 2)
    sink.close()
    sink.close()
    assert count_frames(path) == 2


@pytest.mark.parametrize("make", ALL)
def test_a_place_that_cannot_be_written_is_an_output_error(make: MakeSink, path: Path) -> None:
    (path.parent / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        make(path.parent / "file" / path.name)


def write_noise(sink: SpooledFile, frames: int) -> None:
    """Write masks that no encoding makes small."""
    noise = np.random.default_rng(0)
    for index in range(frames):
        labels = (noise.random((48, 64)) > 0.5).astype(np.uint8)
        sink.write(make_frame(index), labels, SCORES)


@pytest.mark.parametrize("make", FILES)
def test_a_full_disk_is_noticed_when_it_happens_and_nothing_is_left(
    make: MakeSink, path: Path, limited_files: None
) -> None:
    sink = make(path)
    with pytest.raises(OutputError, match=r"cannot be written \(File too large\)"):
        write_noise(sink, 1_000)
    sink.close()
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("make", FILES)
def test_an_end_that_does_not_fit_leaves_nothing(
    make: MakeSink, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_up(spool: Spool, file: BinaryIO) -> None:
        file.write(b"[")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Spool, "copy_to", fill_up)
    sink = make(path)
    write_objects(sink, 2)
    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\)"):
        sink.close()
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("make", FILES)
def test_a_frame_that_fails_in_the_middle_leaves_no_file_that_lacks_its_objects(
    make: MakeSink, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, calls = Spool.add, iter(range(100))

    def fail_at_last(spool: Spool, text: str) -> None:
        if next(calls) == 3:
            raise OutputError("the disk is full")
        add(spool, text)

    monkeypatch.setattr(Spool, "add", fail_at_last)
    with pytest.raises(OutputError, match="the disk is full"), make(path) as sink:
        write_objects(sink, 10)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("make", FILES)
def test_a_file_of_the_users_own_is_never_replaced(make: MakeSink, path: Path) -> None:
    path.write_text("mine")
    with (
        OutputFolder(path.parent, overwrite=True) as output,
        pytest.raises(OutputError, match="which this run would replace"),
    ):
        make(path, output=output)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("make", FILES)
def test_a_runs_record_tells_of_the_file(make: MakeSink, path: Path) -> None:
    with OutputFolder(path.parent) as output, make(path, output=output) as sink:
        write_objects(sink, 2)
    assert output.written == {path.name: (1, path.stat().st_size)}


def write_long(make: MakeSink, path: Path, frames: int) -> int:
    """Write a long video and give the most memory that it took, in bytes."""
    labels: Labels = make_objects()
    frame = make_frame(0)
    tracemalloc.start()
    with make(path) as sink:
        for _ in range(frames):
            sink.write(frame, labels, SCORES)
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("make", FILES)
def test_memory_does_not_grow_with_the_video(make: MakeSink, path: Path) -> None:
    write_long(make, path, 5)
    few, many = write_long(make, path, 50), write_long(make, path, 500)
    # Held as text alone, the longer one would take ten times the file of the shorter one more.
    assert path.stat().st_size > 200_000
    assert many < few + 20_000
