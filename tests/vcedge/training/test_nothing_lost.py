"""Training on a full disk or over a damaged cache: what was written stays whole."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vcedge.training import corpus, object_sources
from vcedge.training.corpus import load_video
from vcedge.training.object_sources import load_masked_videos
from vcedge.training.run import TrainingRun
from vcedge_runtime.errors import OutputError, TrainingError
from vcedge_runtime.video.palette import write_label_png

MakeRun = Callable[..., TrainingRun]
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda data: b"",
    "in its header": lambda data: data[:40],
    "after its header": lambda data: data[:128],
    "half way": lambda data: data[: len(data) // 2],
    "at its last byte": lambda data: data[:-1],
    "overwritten": lambda data: bytes(len(data)),
}


@pytest.fixture
def limit_files() -> Iterator[Callable[[int], None]]:
    """Let no file grow beyond some bytes, as a disk that is full would not."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, former[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, former)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A video of five frames with masks, as SRNet trains on it."""
    folder = tmp_path / "root"
    (folder / "videos").mkdir(parents=True)
    (folder / "masks" / "made").mkdir(parents=True)
    code = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(folder / "videos" / "made.avi"), code, 10, (64, 48))
    for index in range(5):
        writer.write(np.full((48, 64, 3), 10 * index, np.uint8))
        labels = np.zeros((48, 64), np.uint8)
        labels[8:24, 8 + index : 24 + index] = 1
        write_label_png(folder / "masks" / "made" / f"{index:05d}.png", labels)
    writer.release()
    return folder


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", ["", ".motion", ".masks"])
def test_a_file_of_the_cache_that_was_cut_off_is_made_anew(
    root: Path, tmp_path: Path, kind: str, damage: str
) -> None:
    (first,) = load_masked_videos(root, tmp_path / "cache")
    frames, masks = first.frames.copy(), first.masks.copy()
    [path] = [
        path
        for path in (tmp_path / "cache").iterdir()
        if path.name.endswith(f"{kind}.npy") and (kind or path.name.count(".") == 1)
    ]
    whole = path.read_bytes()
    path.unlink()  # what is mapped keeps what it was
    path.write_bytes(DAMAGE[damage](whole))
    (again,) = load_masked_videos(root, tmp_path / "cache")
    np.testing.assert_array_equal(again.frames, frames)
    np.testing.assert_array_equal(again.masks, masks)
    assert path.read_bytes() == whole


def test_a_cache_on_a_full_disk_is_one_line_and_keeps_nothing_half(
    root: Path, tmp_path: Path, limit_files: Callable[[int], None]
) -> None:
    limit_files(1000)
    with pytest.raises(OutputError, match=r"\.npy cannot be written \(File too large\)"):
        load_video(root / "videos" / "made.avi", tmp_path / "cache", 256, 100)
    assert [path.name.partition(".")[2] for path in (tmp_path / "cache").iterdir()] == [
        "motion.npy"
    ]
    with pytest.raises(OutputError, match="File too large"):
        load_masked_videos(root, tmp_path / "cache")


@pytest.mark.parametrize("name", ["12:30.avi", "caf\udce9.avi"])
def test_a_video_of_any_name_is_decoded(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(root / "videos")
    Path("made.avi").rename(name)
    video = load_video(Path(name), tmp_path / "cache", 256, 100)
    assert video is not None
    assert len(video.frames) == 5


def test_a_still_whose_name_is_no_utf8_is_read(tmp_path: Path) -> None:
    for name, image in (("picture", np.zeros((32, 32, 3))), ("mask", np.eye(32))):
        data = cv2.imencode(".png", (255 * image).astype(np.uint8))[1].tobytes()
        (tmp_path / f"{name}\udce9.png").write_bytes(data)
    row = {"file": "picture\udce9.png", "mask": "mask\udce9.png", "kind": "binary"}
    assert object_sources._read_still(tmp_path, row) is not None


def test_a_checkpoint_on_a_full_disk_is_one_line_and_the_former_stands(
    make_run: MakeRun, tmp_path: Path, limit_files: Callable[[int], None]
) -> None:
    run = make_run(tmp_path / "run")
    run.save()
    former = run.checkpoint_path.read_bytes()
    limit_files(len(former) // 2)
    with pytest.raises(OutputError, match=r"checkpoint\.pt cannot be written \(File too large\)"):
        run.save()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint.pt"]
    assert run.checkpoint_path.read_bytes() == former
    run.resume()


def test_a_log_on_a_full_disk_is_told_at_the_step_and_has_whole_lines(
    make_run: MakeRun, tmp_path: Path, limit_files: Callable[[int], None]
) -> None:
    run = make_run(tmp_path)
    run.train(lambda progress: None, report_every=1, stop_at=1)
    line = (tmp_path / "log.jsonl").stat().st_size
    limit_files(round(2.5 * line))
    with pytest.raises(OutputError, match=r"log\.jsonl cannot be written"):
        run.train(lambda progress: None, report_every=1)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    assert run.step == 3


def test_scalars_on_a_full_disk_are_told(make_run: MakeRun, tmp_path: Path) -> None:
    class FullWriter:
        def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
            raise OSError(28, "No space left on device")

    run: Any = make_run(tmp_path)
    with pytest.raises(OutputError, match=r"tensorboard cannot be written \(No space left"):
        run.train(lambda progress: None, report_every=1, scalars=FullWriter())


def test_a_damaged_checkpoint_is_told_with_a_mend_that_works(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run(tmp_path)
    run.save()
    run.checkpoint_path.write_bytes(run.checkpoint_path.read_bytes()[:1000])
    with pytest.raises(TrainingError, match="remove it and start without --resume"):
        run.resume()


def test_the_cache_is_on_the_disk_before_it_has_its_name(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[Path, bool]] = []
    monkeypatch.setattr(
        "vcedge_runtime.files.Draft.keep",
        lambda draft, *, synced=False: (
            written.append((draft.path, synced)),
            draft.place.replace(draft.path),
        ),
    )
    corpus.load_video(root / "videos" / "made.avi", tmp_path / "cache", 256, 100)
    assert [synced for _, synced in written] == [True, True]
