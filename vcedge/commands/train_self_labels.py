"""``vcedge train self-labels``: masks for videos that nobody labelled, to train SRNet on."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from vcedge.commands.options import open_tracker, tracked
from vcedge.commands.progress import current_builds, progress_bar
from vcedge.commands.tables import make_fact_list, open_console
from vcedge.commands.train_masked import HOLD_OUT, SHORT_SIDE, read_names
from vcedge.commands.train_options import MAX_FRAMES, VIDEOS
from vcedge.training.corpus import find_videos, load_video
from vcedge.training.self_labels import SelfLabels, SelfLabelSettings, label_video
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.files import append_line, explaining, writing_folder, writing_whole
from vcedge_runtime.locking import LOCK_NAME, Lock
from vcedge_runtime.model.bundle import PROMPT_MODEL
from vcedge_runtime.prompts.segmenter import PromptSegmenter
from vcedge_runtime.stopping import finish_first
from vcedge_runtime.telling import make_printable
from vcedge_runtime.video.encoding import VideoEncoder
from vcedge_runtime.video.palette import write_label_png
from vcedge_runtime.video.sinks import DEFAULT_FPS

LABELS_NAME = "labels.csv"
COLUMNS = ("name", "state", "first", "frames", "objects", "agreed")
KEPT, NOTHING, UNREADABLE = "kept", "nothing agreed", "cannot be decoded"


@click.command(name="self-labels")
@VIDEOS
@HOLD_OUT
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("vcedge-out/self-labels"),
    show_default=True,
    help="Where videos/NAME.mp4, masks/NAME/00000.png and labels.csv go.",
)
@click.option("--cache", type=click.Path(path_type=Path), default=Path("vcedge-out/frames"))
@click.option(
    "--first-masks",
    default=PROMPT_MODEL,
    show_default=True,
    help="A shipped model, or the folder of a bundle, that finds what stands out.",
)
@click.option(
    "--sure",
    type=click.FloatRange(0, 1, min_open=True),
    default=SelfLabelSettings.sure,
    show_default=True,
    help="How much an object's pixels must stand out.",
)
@click.option(
    "--agreed",
    type=click.FloatRange(0, 1, min_open=True),
    default=SelfLabelSettings.agreed,
    show_default=True,
    help="Least overlap of an object's mask forward and back.",
)
@MAX_FRAMES
@SHORT_SIDE
@tracked()
def self_labels(
    folders: tuple[Path, ...],
    hold_out: Path | None,
    out: Path,
    cache: Path,
    first_masks: str,
    sure: float,
    agreed: float,
    max_frames: int,
    short_side: int,
    **model: Any,
) -> None:
    """Make masks for videos without any: objects that stand out, followed forward and back.

    What does not come back as it went is left out. `train srnet --masked OUT` learns from what is
    written. Stop it with Ctrl-C; the same command goes on with the videos that are not done.
    """
    console = open_console()
    settings = SelfLabelSettings(sure=sure, agreed=agreed)
    found = _choose_videos(folders, [] if hold_out is None else read_names(hold_out))
    with explaining(out):
        for folder in (out / "videos", out / "masks"):
            folder.mkdir(parents=True, exist_ok=True)
    with (
        Lock(out / LOCK_NAME, out),
        PromptSegmenter.open(first_masks, threads=model["threads"]) as finder,
        open_tracker(**model) as tracker,
        progress_bar(console, "videos/s") as progress,
    ):
        current_builds().bar = progress
        done = set(_read_done(out))
        task = progress.add_task("label", total=len(found), completed=len(done), speed=None)
        for path in found:
            if path.stem in done:
                continue
            video = load_video(path, cache, short_side, max_frames)
            labels = None
            if video is not None:
                frames: NDArray[np.uint8] = np.asarray(video.frames)
                labels = label_video(list(frames), tracker, finder, settings)
            with finish_first():
                if labels is not None:
                    _write_video(out, path.stem, frames, labels)
                _write_row(out, path.stem, UNREADABLE if video is None else NOTHING, labels)
            progress.update(task, advance=1)
        current_builds().bar = None
    _tell(console, out)


def _choose_videos(folders: Sequence[Path], held: Sequence[str]) -> list[Path]:
    found = find_videos(folders)
    names = Counter(path.stem for path in found)
    unknown = sorted(set(held) - set(names))
    twice = sorted(name for name, count in names.items() if count > 1)
    if unknown or twice or not found:
        raise TrainingError(
            f"received {len(found)} videos of {', '.join(map(str, folders))}, {len(unknown)} "
            f"names to hold out that are none of them, and {len(twice)} names twice "
            f"({', '.join([*unknown, *twice][:3])}); expected videos of different names; pass "
            "other --videos, or mend --hold-out"
        )
    return [path for path in found if path.stem not in held]


def _read_rows(out: Path) -> Iterator[dict[str, str]]:
    path = out / LABELS_NAME
    if path.exists():
        with explaining(path), path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)


def _read_done(out: Path) -> Iterator[str]:
    for row in _read_rows(out):
        yield row["name"]


def _write_video(out: Path, name: str, frames: NDArray[np.uint8], labels: SelfLabels) -> None:
    """Write masks first: who trains looks for the videos."""
    height, width = (side // 2 * 2 for side in labels.masks.shape[1:])  # what can be encoded
    kept = frames[labels.first : labels.first + len(labels.masks), :height, :width]
    names = [f"{index:05d}.png" for index in range(len(kept))]
    with writing_folder(out / "masks" / name, _old_masks(out / "masks" / name)) as folder:
        for file, mask in zip(names, labels.masks, strict=True):
            write_label_png(folder / file, np.ascontiguousarray(mask[:height, :width]))
    with writing_whole(out / "videos" / f"{name}.mp4") as place:
        encoder = VideoEncoder(place, DEFAULT_FPS, (height, width))
        try:
            for image in kept:
                encoder.write(np.ascontiguousarray(image))
            encoder.close()
        finally:
            encoder.discard()


def _old_masks(folder: Path) -> list[str]:
    """Of a run that was killed before it wrote the video."""
    return [path.name for path in folder.glob("*.png")] if folder.is_dir() else []


def _write_row(out: Path, name: str, state: str, labels: SelfLabels | None) -> None:
    row = [name, state, 0, 0, 0, 0.0]
    if labels is not None:
        agreed = round(labels.agreed, 3)
        row = [name, KEPT, labels.first, len(labels.masks), labels.objects, agreed]
    path = out / LABELS_NAME
    lines = [row] if path.exists() else [COLUMNS, row]
    for line in lines:
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(line)
        append_line(path, text.getvalue())


def _tell(console: Any, out: Path) -> None:
    rows = list(_read_rows(out))
    kept = [row for row in rows if row["state"] == KEPT]
    frames = sum(int(row["frames"]) for row in kept)
    objects = sum(int(row["objects"]) for row in kept)
    facts = [
        ("kept", f"{len(kept)} of {len(rows)} videos, {frames} frames, {objects} objects"),
        ("written", make_printable(str(out))),
        ("next", f"vcedge train srnet --stage video --masked {make_printable(str(out))} ..."),
    ]
    console.print(make_fact_list(facts))
