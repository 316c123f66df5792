"""``vcedge batch``: many videos of a manifest or a folder, on one machine or on many."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console

from vcedge.commands import track
from vcedge.commands.batch_jobs import MODEL, SIZES, TAKEN, Job, JobList, Options, check_places
from vcedge.commands.batch_report import BatchReport
from vcedge.commands.batch_work import TRIAL_HW, Tracked, TrackVideos, Trial, Weight
from vcedge.commands.fleet_options import OPTIONS as STAFF
from vcedge.commands.fleet_options import Staff, staffed
from vcedge.commands.grouped import RESEARCH, GroupedCommand, typed_options
from vcedge.commands.options import require_one_size
from vcedge.commands.progress import progress_bar
from vcedge.commands.tables import open_console
from vcedge.commands.track_exports import HEADING
from vcedge.commands.track_exports import OPTIONS as EXPORTS
from vcedge.commands.track_files import default_output
from vcedge.doctor.machine import read_memory
from vcedge.fleet.contents import STORE_NAME
from vcedge.fleet.crews import STOPPED, Crew, Done
from vcedge.fleet.packing import pack_bundle
from vcedge.fleet.sharing import Share, fit_memory
from vcedge.fleet.table import FAILED, TABLE_NAME, Row, Table
from vcedge_runtime.engines.choosing import rank_backends
from vcedge_runtime.engines.opening import AUTO
from vcedge_runtime.errors import EngineError, OutputError
from vcedge_runtime.files import explaining, make_folder
from vcedge_runtime.locking import LOCK_NAME, Lock
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.stopping import finish_first
from vcedge_runtime.tracker import MOST_THREADS

GROUPS = {
    "What most people need": (*("out", "resume", "overwrite", MODEL, *SIZES, "window", "backend"),),
    "Who works": (*STAFF, "threads"),
    "Input and output": (
        *("binarize", "resize_mask", "depth_range", "frames", "masks", "overlay", "log"),
    ),
    HEADING: tuple(name for name in EXPORTS if name in TAKEN),
    "Engines": ("cuda_graphs",),
    RESEARCH: track.GROUPS[RESEARCH],
}
CPU = "cpu"


@click.command(name="batch", cls=GroupedCommand, groups=GROUPS)
@click.argument("manifest", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder; vcedge-out/MANIFEST by default."
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with what --out holds: what was done with the same video, prompt, model and "
    "options is not done again, whatever its name.",
)
@click.option("--overwrite", is_flag=True, help="Do all of it again over what --out holds.")
@click.option("--model", help="A shipped model's name or the folder of a bundle, for all videos.")
@staffed
@click.option(
    "--threads",
    type=click.IntRange(min=1, max=MOST_THREADS),
    help="Threads of each tracker's engines; the cores are shared out by default.",
)
def command(
    manifest: Path,
    out: Path | None,
    resume: bool,
    overwrite: bool,
    model: str | None,
    staff: Staff,
    threads: int | None,
    **options: Any,
) -> None:
    """Track the videos of MANIFEST, each as vcedge track does, into a folder of its own.

    MANIFEST is a CSV or JSON Lines file with a video a line (video, and mask, box, click, points
    or prompts; options of track where they differ), or a folder in which NAME.png lies beside
    NAME.mp4. results.csv in --out has a row for each. A fault stays with its video. --coco and the
    like name a file or folder in that of each video. Exit code 1: some videos failed.
    """
    console, ctx = open_console(), click.get_current_context()
    require_one_size(options["size"], fast=options["fast"], accurate=options["accurate"])
    typed = read_typed(ctx)
    check_places(typed)
    jobs = JobList(manifest, typed, model)
    jobs.survey()
    bundles = {name: Bundle.open(name) for name in jobs.models}
    folder = out or default_output(os.fspath(manifest.absolute()))
    require_batch(folder, resume=resume, overwrite=overwrite)
    on_gpu = any(runs_on_gpu(bundle, options["backend"]) for bundle in bundles.values())
    share = staff.share(threads, on_gpu=on_gpu)
    packed = {name: pack_bundle(b) for name, b in bundles.items()} if staff.ray else {}
    work = TrackVideos(os.fspath(folder.absolute()), share.threads, resume, packed)
    make_folder(folder / STORE_NAME)
    report: BatchReport | None = None
    try:
        with ExitStack() as stack:
            with explaining(folder):
                stack.enter_context(Lock(folder / STORE_NAME / LOCK_NAME, folder))
            crew = stack.enter_context(staff.open(work, share.workers))
            if share.workers:
                trial = Trial(jobs.models[0], tuple(w for words in typed.values() for w in words))
                weight = weigh(crew, trial)
                say_memory(console, crew, weight, share, staff)
            table = stack.enter_context(Table(folder / TABLE_NAME, keep=resume))
            bar = stack.enter_context(progress_bar(console, "frames/s"))
            report = BatchReport(console, bar, jobs.videos)
            work_through(crew, jobs, table, report)
    finally:
        if report is not None:
            for line in (*report.describe(), f"wrote {folder / TABLE_NAME}"):
                console.out(line, highlight=False)
    ctx.exit(int(report.states[FAILED] > 0))


def work_through(crew: Crew, jobs: Iterable[Job], table: Table, report: BatchReport) -> None:
    """Do all jobs; an interruption ends those that run, which have rows too.

    Whatever happens, the table is left with one row a video.
    """

    def settle(done: Done) -> None:
        # A video stands in the table and in the counts, or in neither.
        with finish_first():
            tracked = done.result or Tracked(_describe_loss(done))
            table.add(tracked.row)
            report.add(tracked)

    try:
        for done in crew.run(jobs, report.tick):
            settle(done)
        report.tick(0)
    except KeyboardInterrupt:
        for done in crew.stop():
            settle(done)
        raise
    finally:
        table.settle(through=report.through)


def weigh(crew: Crew, trial: Trial) -> Weight:
    """Open a tracker in one of a crew's processes and ask what it takes.

    Raises:
        EngineError: it cannot be opened.
    """
    (done,) = crew.run([trial])
    if done.fault:
        raise EngineError(f"a tracker of {trial.model} cannot be opened: {done.fault}")
    found: Weight = done.result
    return found


def say_memory(console: Console, crew: Crew, weight: Weight, share: Share, staff: Staff) -> None:
    """Say what the trackers will hold; where nobody said how many, take no more than fit."""
    height, width = TRIAL_HW
    each = f"about {weight.nbytes / 1e6:.0f} MB each for an object in {width}x{height}"
    for text in weight.told:
        console.out(text, highlight=False)
    if staff.ray is not None:
        console.out(f"a task a video, threads: {share.threads}, {each}", highlight=False)
        return
    _, free = read_memory()
    fitting = fit_memory(share, weight.nbytes, free)
    if staff.workers is None:
        share = fitting
        crew.reduce(share.workers)
    total = f"{share.workers * weight.nbytes / 1e6:.0f} MB in all"
    known = "" if free is None else f" of {free / 1e6:.0f} that are free"
    told = f"trackers: {share.workers}, threads of each: {share.threads}; {each}, {total}{known}"
    console.out(told, highlight=False)
    if share.workers > fitting.workers:
        told = f"the memory may not do for {share.workers} --workers; {fitting.workers} would fit"
        console.print(told, style="yellow", markup=False, soft_wrap=True)


def require_batch(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that would lose something; change nothing.

    Raises:
        OutputError: it holds results and nobody said what becomes of them, or something else.
    """
    if resume and overwrite:
        raise OutputError("received --resume and --overwrite; expected one of them")
    with explaining(folder):
        store = folder / STORE_NAME
        held = [path for path in folder.iterdir() if path != store] if folder.is_dir() else []
    if held and not store.is_dir():
        raise OutputError(
            f"received an existing folder {folder}, which is not empty and holds no batch; choose "
            "another --out"
        )
    if held and not (resume or overwrite):
        raise OutputError(
            f"received {folder}, which holds an earlier batch; pass --resume to go on with it, "
            "--overwrite to do it again, or choose another --out"
        )


def read_typed(ctx: click.Context) -> Options:
    """Options of ``track`` that were typed, as a command line has them."""
    typed = Options()
    for param in ctx.command.params:
        given = ctx.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE
        if param.name in TAKEN and isinstance(param, click.Option) and given:
            words = typed_options([param.name])
            pairs = zip(words[::2], words[1::2], strict=False)
            joined = tuple("=".join(pair) for pair in pairs)
            typed[str(param.name)] = tuple(words) if param.is_flag else joined
    return typed


def runs_on_gpu(bundle: Bundle, backend: str) -> bool:
    """Whether a bundle's graphs would run on a GPU here."""
    return (rank_backends(bundle)[0].backend if backend == AUTO else backend) != CPU


def _describe_loss(done: Done) -> Row:
    """The row of a job that gave none."""
    state = STOPPED if done.fault == STOPPED else FAILED
    told = "broken off; --resume does it again" if state == STOPPED else done.fault
    return Row(done.job.line, done.job.video, done.job.results, state, message=told)


# The same options, spelled, checked and told in the same way.
command.params += [param for param in track.command.params if param.name in TAKEN]
