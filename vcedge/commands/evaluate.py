"""``vcedge eval``: standard protocols, on masks that are there or on a tracker that makes them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich.console import Console

from vcedge.commands.evaluate_jobs import (
    MaskedSequence,
    follow_all,
    follow_and_tell,
    follow_listed,
    follow_sequence,
)
from vcedge.commands.evaluate_rows import (
    count_videos,
    list_badja_rows,
    list_holdout_rows,
    report_rows,
    write_percent,
)
from vcedge.commands.fleet_options import Staff, staffed
from vcedge.commands.options import LABEL_MODEL, open_tracker, tracked
from vcedge.commands.progress import session_bar
from vcedge.commands.tables import make_table, open_console, warn_on
from vcedge.evaluation import badja as badja_protocol
from vcedge.evaluation import jhmdb as jhmdb_protocol
from vcedge.evaluation import vip as vip_protocol
from vcedge.evaluation.davis import evaluate_folders
from vcedge.evaluation.davis_folders import (
    find_frames,
    find_mask_folders,
    find_mixed_parts,
    list_sequences,
)
from vcedge.evaluation.davis_score import ROW_HEADINGS
from vcedge.evaluation.youtube import ListedVideo, read_meta, require_folders, track_videos
from vcedge.evaluation.youtube_score import read_categories, score_holdout
from vcedge_runtime.errors import EvaluationError, OutputError
from vcedge_runtime.session import SessionReport
from vcedge_runtime.video.outputs import require_free
from vcedge_runtime.video.pictures import list_masks

FOLDER = click.Path(path_type=Path)


def _require_folder(ctx: click.Context, param: click.Parameter, csv: Path | None) -> Path | None:
    """Refuse before minutes of tracking what would fail after them."""
    if csv is not None and not csv.parent.is_dir():
        raise OutputError(f"received --csv {csv}, whose folder does not exist; make it first")
    return csv


CSV = click.option(
    "--csv", type=FOLDER, callback=_require_folder, help="Write every row to a CSV file."
)
SEQUENCES = click.option(
    "--sequences",
    help="Names, separated by commas, or a list file such as ImageSets/2017/val.txt, as it stands "
    "or below the data set; all by default.",
)
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace masks that --out holds.")


@click.group(name="eval")
def command() -> None:
    """Score a tracker, or masks, by a standard protocol."""


@command.command()
@click.option("--gt", type=FOLDER, help="Ground truth: a folder per sequence.")
@click.option("--pred", type=FOLDER, help="Predicted masks, laid out likewise.")
@click.option(
    "--root",
    type=FOLDER,
    help="A DAVIS folder (JPEGImages, Annotations): track its sequences, then score them.",
)
@tracked()
@SEQUENCES
@click.option("--out", type=FOLDER, help="With --root: keep the masks here.")
@CSV
@click.option("--per-object", is_flag=True, help="One row an object.")
@OVERWRITE
@staffed
def davis(
    gt: Path | None,
    pred: Path | None,
    root: Path | None,
    sequences: str | None,
    out: Path | None,
    csv: Path | None,
    per_object: bool,
    overwrite: bool,
    staff: Staff,
    **chosen: Any,
) -> None:
    """J and F of DAVIS (semi-supervised protocol, 2016 and 2017).

    Either --gt and --pred, or --root, which runs the tracker itself.
    """
    console = open_console()
    if (root is None) == (gt is None) or (gt is None) != (pred is None):
        raise EvaluationError("pass either --gt and --pred, or --root")
    if (out is not None or staff) and root is None:
        given = "--out" if out is not None else "--workers or --ray"
        raise EvaluationError(f"received {given} without --root; masks are made with --root alone")
    _require_shared(staff, out)
    with ExitStack() as stack:
        truth = gt if root is None else root
        assert truth is not None
        names = list_sequences(truth, _read_names(sequences))
        _tell_mixed_parts(console, truth, names)
        if root is not None:
            pred = out or Path(stack.enter_context(TemporaryDirectory()))
            _track_all(root, names, pred, overwrite, console, staff, chosen)
        assert pred is not None
        score = evaluate_folders(truth, pred, names)
    console.print(make_table(ROW_HEADINGS, list(score.rows(objects=per_object))))
    if score.j_and_f_shown is not None:
        count = sum(len(sequence.unshown) for sequence in score.sequences)
        warn_on(
            console,
            f"{count} of these objects are ids that are left out below the largest one: as in the "
            "official code they count, mostly as 1. J&F of the objects that are there: "
            f"{score.j_and_f_shown:.3f}",
        )
    if csv is not None:
        score.write_csv(csv)
        console.out(f"wrote {csv}", highlight=False)


@command.command()
@click.option("--root", type=FOLDER, required=True, help="A DAVIS folder with the sequences.")
@click.option("--joints", type=FOLDER, required=True, help="JSON with the sequences' joints.")
@tracked(LABEL_MODEL)
@SEQUENCES
@click.option("--baseline", is_flag=True, help="Also chain the points through DIS optical flow.")
@CSV
def badja(
    root: Path,
    joints: Path,
    sequences: str | None,
    baseline: bool,
    csv: Path | None,
    **chosen: Any,
) -> None:
    """PCK of BADJA: joints of animals, correct within 0.2 of the root of the animal's area."""
    console = open_console()
    truths = badja_protocol.read_annotations(joints)
    given = _read_names(sequences)
    names = list_sequences(root, given) if isinstance(given, Path) else given or list(truths)
    missing = [name for name in names if name not in truths]
    if missing:
        raise EvaluationError(
            f"received {missing[0]} as a sequence of {joints}; expected some of: "
            f"{', '.join(truths)}; name one of these"
        )
    with open_tracker(**chosen) as tracker:
        methods = {Path(chosen["model"]).name: badja_protocol.follow_with_tracker(tracker)}
        if baseline:
            methods["DIS flow"] = badja_protocol.follow_with_flow()
        rows = []
        for method, follow in methods.items():
            scores = [badja_protocol.evaluate_sequence(root, truths[n], follow) for n in names]
            rows += list_badja_rows(method, scores)
    columns = ("method", "sequence", "points", "PCK@0.1", "PCK@0.2", "joint mean", "with first")
    report_rows(console, (*columns, "median error"), rows, csv, left=2)


@command.command()
@click.option("--root", type=FOLDER, required=True, help="JHMDB's folder.")
@tracked(LABEL_MODEL)
@click.option("--split", type=click.IntRange(1, 3), default=1, show_default=True)
@click.option("--per-joint", is_flag=True, help="One row a joint.")
@CSV
def jhmdb(root: Path, split: int, per_joint: bool, csv: Path | None, **chosen: Any) -> None:
    """PCK of JHMDB: 15 joints of a person, on frames of 320x320 (or of --size)."""
    console = open_console()
    chosen["size"] = side = chosen["size"] or jhmdb_protocol.SIDE
    names = jhmdb_protocol.list_videos(root, split)
    with open_tracker(**chosen) as tracker:
        score = jhmdb_protocol.evaluate_jhmdb(
            root, tracker, split=split, side=side, on_video=count_videos(console, len(names))
        )
    rows = [
        ("without the first frames", str(score.later.points), *write_percent(score.later.mean)),
        ("with the first frames", str(score.every.points), *write_percent(score.every.mean)),
    ]
    if per_joint:
        cells = zip(score.later.joints, score.later.counted, score.later.rates, strict=True)
        rows += [(f"  {name}", str(count), *write_percent(rates)) for name, count, rates in cells]
    heads = [f"PCK@{threshold}" for threshold in jhmdb_protocol.THRESHOLDS]
    report_rows(console, (f"{score.videos} videos", "points", *heads), rows, csv)
    console.out(f"not counted, being lost or not in the first frame: {100 * score.lost:.1f} %")


@command.command()
@click.option("--root", type=FOLDER, required=True, help="VIP_Fine's folder.")
@tracked()
@click.option("--out", type=FOLDER, help="Keep the masks here, a folder a video.")
@click.option("--per-class", is_flag=True, help="One row a class.")
@CSV
@OVERWRITE
def vip(
    root: Path, out: Path | None, per_class: bool, csv: Path | None, overwrite: bool, **chosen: Any
) -> None:
    """Mean IoU of VIP: parts of people, on frames of 560x560 (or of --size)."""
    console = open_console()
    chosen["size"] = side = chosen["size"] or vip_protocol.SIDE
    names = vip_protocol.list_videos(root)
    if out is not None:
        for name in names:
            require_free(out / name, overwrite=overwrite, beside=True)
    with open_tracker(**chosen) as tracker:
        score = vip_protocol.evaluate_vip(
            root,
            tracker,
            side=side,
            out=out,
            overwrite=overwrite,
            on_video=count_videos(console, len(names)),
        )
    rows = [
        ("without the first frames", *write_percent([vip_protocol.mean_iou(score.later)])),
        ("with the first frames", *write_percent([vip_protocol.mean_iou(score.every)])),
    ]
    if per_class:
        ious = vip_protocol.class_ious(score.later)
        rows += [
            (f"  {n}", *write_percent([i])) for n, i in zip(vip_protocol.CLASSES, ious, strict=True)
        ]
    report_rows(console, (f"{score.videos} videos, {score.frames} frames", "mIoU"), rows, csv)


@command.command()
@click.option("--root", type=FOLDER, required=True, help="A part of YouTube-VOS, such as valid.")
@tracked()
@click.option("--videos", help="Names, separated by commas; all of meta.json by default.")
@click.option("--out", type=FOLDER, help="Keep the masks here: Annotations/VIDEO/FRAME.png.")
@click.option("--score", is_flag=True, help="Score videos held out of train: YTVOS-holdout.")
@click.option("--unseen", type=FOLDER, help="With --score: unseen categories, one a line.")
@CSV
@OVERWRITE
@staffed
def youtube(
    root: Path,
    videos: str | None,
    out: Path | None,
    score: bool,
    unseen: Path | None,
    csv: Path | None,
    overwrite: bool,
    staff: Staff,
    **chosen: Any,
) -> None:
    """Masks for YouTube-VOS's server, or with --score the J and F of held-out videos."""
    console = open_console()
    if out is None and not score:
        raise EvaluationError("received neither --out nor --score; pass one or both")
    if (unseen is not None or csv is not None) and not score:
        raise EvaluationError("received --unseen or --csv without --score; pass it too")
    _require_shared(staff, out)
    listed = read_meta(root, _split_names(videos))
    categories = None if unseen is None else read_categories(unseen)
    with ExitStack() as stack:
        place = out or Path(stack.enter_context(TemporaryDirectory()))
        for video in listed:
            require_free(place / "Annotations" / video.name, overwrite=overwrite, beside=True)
        _track_listed(root, listed, place, overwrite, console, staff, chosen)
        found = score_holdout(root, listed, place, categories) if score else None
    if found is not None:
        report_rows(
            console, ("YTVOS-holdout", "objects", "J&F", "J", "F"), list_holdout_rows(found), csv
        )
    if out is not None:
        console.out(f"wrote {out / 'Annotations'}", highlight=False)


def _require_shared(staff: Staff, out: Path | None) -> None:
    if staff.ray is not None and out is None:
        raise EvaluationError(
            "received --ray without --out; expected a folder that every machine of the cluster sees"
        )


def _split_names(text: str | None) -> list[str] | None:
    return [name.strip() for name in (text or "").split(",") if name.strip()] or None


def _read_names(text: str | None) -> list[str] | Path | None:
    """Names, or the file that lists them: a sequence's name is no path."""
    if text is not None and (text.endswith(".txt") or "/" in text):
        return Path(text)
    return _split_names(text)


def _tell_mixed_parts(console: Console, truth: Path, names: Sequence[str]) -> None:
    mixed = find_mixed_parts(truth, names)
    if mixed is not None:
        warn_on(
            console,
            f"sequences of training ({mixed.training}) and of validation ({mixed.validation}) are "
            f"scored together, by the lists in {mixed.lists}: a model may have seen the former, "
            "and no published figure is of both; --sequences takes such a list",
        )


def _track_all(
    root: Path,
    names: list[str],
    out: Path,
    overwrite: bool,
    console: Console,
    staff: Staff,
    chosen: dict[str, Any],
) -> None:
    annotations = find_mask_folders(root)
    # All folders are looked at before the first sequence, which may take minutes.
    for name in names:
        require_free(out / name, overwrite=overwrite, beside=True)
    jobs = [_find_sequence(root, name, annotations[name], out) for name in names]

    def say(job: MaskedSequence, report: SessionReport) -> None:
        console.out(f"{job.name}: {report.frames_per_second:.1f} frames/s", highlight=False)

    if staff:
        follow_all(staff, partial(follow_and_tell, overwrite=overwrite), jobs, say, **chosen)
        return
    watch = lambda video: session_bar(console, video.length)  # noqa: E731
    with open_tracker(**chosen) as tracker:
        for job in jobs:
            say(job, follow_sequence(tracker, job, watch, overwrite=overwrite))


def _find_sequence(root: Path, name: str, masks: Path, out: Path) -> MaskedSequence:
    """A sequence, by paths that are the same from wherever they are looked at."""
    found = (find_frames(root, name), list_masks(masks)[0], out / name)
    return MaskedSequence(name, *(path.absolute() for path in found))


def _track_listed(
    root: Path,
    listed: list[ListedVideo],
    place: Path,
    overwrite: bool,
    console: Console,
    staff: Staff,
    chosen: dict[str, Any],
) -> None:
    """Track the videos of YouTube-VOS, with a tracker of this process or of a crew."""
    count = count_videos(console, len(listed))
    if not staff:
        with open_tracker(**chosen) as tracker:
            track_videos(root, listed, tracker, place, count, overwrite=overwrite)
        return
    require_folders(root, listed)
    follow = partial(follow_listed, root.absolute(), place.absolute(), overwrite=overwrite)
    follow_all(staff, follow, listed, lambda video, _: count(video.name), **chosen)
