"""``vcedge eval``: standard protocols, on masks that are there or on a tracker that makes them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import Console

from vcedge.commands.options import EDGES, MODEL, SIZE, THREADS
from vcedge.commands.progress import session_bar
from vcedge.evaluation.davis import evaluate_folders
from vcedge.evaluation.davis_folders import find_mask_folders, list_sequences
from vcedge_runtime.errors import EvaluationError
from vcedge_runtime.session import SessionReport, track_frames
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.masks import read_mask
from vcedge_runtime.video.prefetch import prefetch
from vcedge_runtime.video.sinks import MaskFolder, prepare_output
from vcedge_runtime.video.sources import open_source


@click.group(name="eval")
def command() -> None:
    """Score masks by a standard protocol."""


@command.command()
@click.option("--gt", type=click.Path(path_type=Path), help="Ground truth: a folder per sequence.")
@click.option("--pred", type=click.Path(path_type=Path), help="Predicted masks, laid out likewise.")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    help="A DAVIS folder (JPEGImages, Annotations): track its sequences, then score them.",
)
@MODEL
@SIZE
@EDGES
@THREADS
@click.option("--sequences", help="Names, separated by commas; all by default.")
@click.option("--out", type=click.Path(path_type=Path), help="With --root: keep the masks here.")
@click.option("--csv", type=click.Path(path_type=Path), help="Write every row to a CSV file.")
@click.option("--per-object", is_flag=True, help="One row an object.")
@click.option("--overwrite", is_flag=True, help="Replace masks that --out holds.")
def davis(
    gt: Path | None,
    pred: Path | None,
    root: Path | None,
    model: str,
    size: int | None,
    edges: bool | None,
    threads: int,
    sequences: str | None,
    out: Path | None,
    csv: Path | None,
    per_object: bool,
    overwrite: bool,
) -> None:
    """J and F of DAVIS (semi-supervised protocol, 2016 and 2017).

    Either --gt and --pred, or --root, which runs the tracker itself.
    """
    console = Console()
    names = [name for name in (sequences or "").split(",") if name] or None
    if (root is None) == (gt is None) or (gt is None) != (pred is None):
        raise EvaluationError("pass either --gt and --pred, or --root")
    if out is not None and root is None:
        raise EvaluationError("received --out without --root; masks are made with --root alone")
    with ExitStack() as stack:
        if root is not None:
            gt, names = root, list_sequences(root, names)
            pred = out or Path(stack.enter_context(TemporaryDirectory()))
            tracker = Tracker.open(model, size=size, edges=edges, threads=threads)
            _track_all(root, names, pred, tracker, overwrite, console)
        assert gt is not None
        assert pred is not None
        score = evaluate_folders(gt, pred, names)
    console.print(score.table(objects=per_object))
    if csv is not None:
        score.write_csv(csv)
        console.out(f"wrote {csv}", highlight=False)


def _track_all(
    root: Path, names: list[str], out: Path, tracker: Tracker, overwrite: bool, console: Console
) -> None:
    annotations = find_mask_folders(root)
    # All folders are looked at before the first sequence, which may take minutes.
    places = {
        name: (_find_frames(root, name), prepare_output(out / name, overwrite=overwrite))
        for name in names
    }
    with tracker:
        for name, (frames, folder) in places.items():
            with open_source(frames) as video, MaskFolder(folder) as sink:
                first = read_mask(min(annotations[name].glob("*.png")), frame_hw=video.frame_hw)
                report = SessionReport()
                with session_bar(console, video.length) as on_frame:
                    track_frames(tracker, prefetch(video), first, [sink], report, on_frame)
                console.out(f"{name}: {report.frames_per_second:.1f} frames/s", highlight=False)


def _find_frames(root: Path, name: str) -> Path:
    for images in (root / "JPEGImages" / "480p", root / "JPEGImages"):
        if (images / name).is_dir():
            return images / name
    raise EvaluationError(
        f"received {root}, which has no frames of {name}; expected JPEGImages/480p/{name}"
    )
