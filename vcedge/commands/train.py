"""``vcedge train``: encoders from unlabelled video, SRNet from masks."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from vcedge.commands.progress import progress_bar
from vcedge.commands.train_options import (
    MAX_FRAMES,
    VIDEOS,
    Request,
    takes_request,
    write_sizes,
)
from vcedge.models.encoder import PROFILES
from vcedge.models.srnet import SRNet
from vcedge.models.weights import load_weights, save_weights
from vcedge.training.base import BaseObjective
from vcedge.training.corpus import (
    VIDEO_SUFFIXES,
    CachedVideo,
    VideoCorpus,
    find_videos,
    load_video,
)
from vcedge.training.dmp import DmpObjective, DmpSettings
from vcedge.training.mer import MerObjective, MerSettings
from vcedge.training.object_clip_settings import ObjectClipSettings
from vcedge.training.object_sources import load_masked_videos, load_stills
from vcedge.training.objective import ColourObjective, Objective
from vcedge.training.processes import join_processes
from vcedge.training.run import Corpus, Progress, ScalarWriter, TrainingRun
from vcedge.training.srnet import SRNetObjective
from vcedge.training.srnet_corpus import STAGES, SRNetCorpus, SRNetSettings
from vcedge_runtime.errors import MissingExtraError, OutputError, TrainingError
from vcedge_runtime.model.object_composition import LOCALS

Method = TypeVar("Method", bound=Objective)


@click.group(name="train")
def command() -> None:
    """Train on unlabelled video (base, mer, dmp) or on masks (srnet).

    Several processes train together when started by torchrun.
    """


@command.command()
@takes_request(sorted(PROFILES))
@VIDEOS
@MAX_FRAMES
def base(request: Request, folders: tuple[Path, ...], max_frames: int) -> None:
    """Train the base encoder by colourisation and write its weights to OUT/weights.safetensors.

    Stop it with Ctrl-C and go on with --resume: the curve is the same.
    """
    _run_on_videos(request, BaseObjective, folders, max_frames)


@command.command()
@takes_request(sorted(PROFILES))
@VIDEOS
@MAX_FRAMES
@click.option("--motion/--no-motion", default=True, help="Optical flow added to the frames.")
@click.option("--values/--no-values", default=True, help="Keys refined by value extraction.")
@click.option("--weight-map/--no-weight-map", default=True, help="Loss weighted by the value map.")
@click.option(
    "--contrast",
    type=click.FloatRange(min=0),
    default=MerSettings.contrast,
    show_default=True,
    help="Weight of the positive-negative loss; 0 leaves it out.",
)
def mer(
    request: Request,
    folders: tuple[Path, ...],
    max_frames: int,
    motion: bool,
    values: bool,
    weight_map: bool,
    contrast: float,
) -> None:
    """Train MER: motion enhancement, value extraction, fused loss; to OUT/weights.safetensors.

    Stop it with Ctrl-C and go on with --resume: the curve is the same.
    """
    settings = MerSettings(
        motion=motion,
        value_extraction=values,
        weight_map=weight_map and values,
        contrast=contrast,
    )
    _run_on_videos(request, lambda profile: MerObjective(profile, settings), folders, max_frames)


@command.command()
@takes_request(sorted(PROFILES))
@VIDEOS
@MAX_FRAMES
@click.option(
    "--plain",
    type=click.FloatRange(0, 1),
    help="Share of the run that is colourisation alone; 0.4, or 0 with --from, by default.",
)
@click.option("--beta", type=click.FloatRange(0, 1), default=DmpSettings.beta, show_default=True)
@click.option("--gamma", type=click.FloatRange(0, 1), default=DmpSettings.gamma, show_default=True)
def dmp(
    request: Request,
    folders: tuple[Path, ...],
    max_frames: int,
    plain: float | None,
    beta: float,
    gamma: float,
) -> None:
    """Train DMP: gated memory, three fused predictions; to OUT/weights.safetensors.

    Stop it with Ctrl-C and go on with --resume: the curve is the same.
    """
    if plain is None:
        plain = 0.0 if request.start else DmpSettings.plain
    settings = DmpSettings(plain=plain, beta=beta, gamma=gamma)
    _run_on_videos(request, lambda profile: DmpObjective(profile, settings), folders, max_frames)


@command.command()
@takes_request(["srnet-edge", "srnet"], learning_rate=4e-4)
@click.option(
    "--stills",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of pictures with masks and their manifest.csv.",
)
@click.option(
    "--masked",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with videos/NAME.mp4 and masks/NAME/00000.png and so on.",
)
@click.option(
    "--stage",
    type=click.Choice(STAGES),
    default=SRNetSettings.stage,
    show_default=True,
    help="stills: pictures that move, to begin with; video: real motion, with some stills.",
)
@click.option("--local", type=click.Choice(LOCALS), default=SRNetSettings.local, show_default=True)
@click.option(
    "--near",
    type=click.IntRange(min=1),
    default=SRNetSettings.near,
    show_default=True,
    help="Most steps to the local memory's frame, in half of the video clips.",
)
@click.option("--prototypes/--no-prototypes", default=True, help="The prototype transformer.")
@click.option(
    "--dice",
    type=click.FloatRange(min=0),
    default=SRNetSettings.dice,
    show_default=True,
    help="Weight of the Dice loss; 0 leaves it out.",
)
@click.option(
    "--pairs",
    type=click.FloatRange(0, 1),
    default=SRNetSettings.pairs,
    show_default=True,
    help="Share of the steps whose clips have two objects.",
)
@click.option(
    "--mixed",
    type=click.FloatRange(0, 1),
    default=SRNetSettings.mixed,
    show_default=True,
    help="Share of stills among the clips of the stage video.",
)
@click.option(
    "--short-side",
    type=click.IntRange(min=32),
    default=480,
    show_default=True,
    help="Larger videos are shrunk to this.",
)
def srnet(
    request: Request, stills: Path | None, masked: Path | None, short_side: int, **method: Any
) -> None:
    """Train SRNet on masks; one stage a run, to OUT/weights.safetensors.

    Begin with `--stage stills --from mer-edge`, go on with `--stage video --from` what came out.
    Stop it with Ctrl-C and go on with --resume: the curve is the same.
    """
    on_videos = method["stage"] == "video"
    if masked and not on_videos:
        raise TrainingError("received --masked for the stage stills; pass --stage video with it")
    # Statistics stay as they are where there are some that belong to the whole network.
    begun = request.start is not None and isinstance(load_weights(request.start).network, SRNet)
    settings = SRNetSettings(**method, frozen=on_videos and begun)

    def open_corpus(console: Console, objective: Objective) -> tuple[SRNetCorpus, dict[str, Any]]:
        with console.status("read stills and decode videos"):
            pictures = load_stills(stills) if stills else []
            videos = []
            if masked and on_videos:
                videos = load_masked_videos(masked, request.cache, short_side)
        frames = sum(len(video.frames) for video in videos)
        console.print(
            f"{len(pictures)} stills, {len(videos)} videos with masks, {frames} frames in all"
        )
        facts = {
            "stage": settings.stage,
            "stills": len(pictures),
            "videos": len(videos),
            "frames": frames,
            "clip_frames": ObjectClipSettings.frames,
        }
        return SRNetCorpus(settings, pictures, videos), facts

    _run(request, lambda profile: SRNetObjective(profile, settings), open_corpus)


def _run_on_videos(
    request: Request,
    make_objective: Callable[[str], ColourObjective],
    folders: tuple[Path, ...],
    max_frames: int,
) -> None:
    def open_corpus(
        console: Console, objective: ColourObjective
    ) -> tuple[VideoCorpus, dict[str, Any]]:
        videos = _load_videos(console, folders, request.cache, max_frames)
        facts = {
            "clip_frames": objective.clip_settings.frames,
            "videos": len(videos),
            "frames": sum(len(video.frames) for video in videos),
        }
        return VideoCorpus(videos, objective.clip_settings), facts

    _run(request, make_objective, open_corpus)


def _run(
    request: Request,
    make_objective: Callable[[str], Method],
    open_corpus: Callable[[Console, Method], tuple[Corpus, dict[str, Any]]],
) -> None:
    import torch

    with ExitStack() as stack:
        processes, device = stack.enter_context(join_processes(_usable_device(request.device)))
        console = Console(quiet=not processes.first)
        _make_folders(request.out, request.cache)
        start = load_weights(request.start).network if request.start else None
        torch.manual_seed(request.run.seed)
        objective = make_objective(request.run.profile)
        corpus, facts = open_corpus(console, objective)
        run = TrainingRun(request.run, objective, corpus, request.out, device, processes)
        if start is not None:
            run.start_from(start)
        _begin_or_resume(run, request.resume)
        scalars = _open_tensorboard(run, request, stack) if request.tensorboard else None
        try:
            _train(console, run, scalars)
        except KeyboardInterrupt:
            run.save()
            console.print(f"stopped at step {run.step}; go on with --resume")
            raise
        if processes.first:
            _deliver(console, run, request, facts)


def _deliver(console: Console, run: TrainingRun, request: Request, corpus: dict[str, Any]) -> None:
    facts = {
        "model": run.objective.name,
        "steps": run.step,
        "batch": request.run.batch,
        "sizes": write_sizes(request.run.sizes),
        "seed": request.run.seed,
        "hours": round(run.seconds / 3600, 2),
        **corpus,
        # Where a file lay is the user's own business.
        "from": request.start and Path(request.start).name,
    }
    path = request.out / "weights.safetensors"
    save_weights(run.delivered, path, facts, run.objective.composition)
    console.out(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)", highlight=False)
    console.out(f"next: vcedge export {shlex.quote(str(path))}", highlight=False)


def _open_tensorboard(run: TrainingRun, request: Request, stack: ExitStack) -> ScalarWriter | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as exc:
        raise MissingExtraError(
            "TensorBoard is not installed; run: pip install tensorboard, or leave --tensorboard out"
        ) from exc
    if not run.processes.first:
        return None
    # What a killed run wrote after its checkpoint is written again.
    writer: ScalarWriter = stack.enter_context(
        SummaryWriter(request.out / "tensorboard", purge_step=run.step + 1)
    )
    return writer


def _usable_device(device: str) -> str:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as exc:
        reason = str(exc).splitlines()[0]
        raise TrainingError(
            f"received --device {device}, which PyTorch cannot use here ({reason}); pass cpu or "
            "leave it out"
        ) from exc
    return device


def _make_folders(*folders: Path) -> None:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise OutputError(
                f"received {folder}, which cannot be made ({exc.strerror}); expected a folder of "
                "your own; choose another --out or --cache"
            ) from exc


def _load_videos(
    console: Console, folders: tuple[Path, ...], cache: Path, max_frames: int
) -> list[CachedVideo]:
    found = find_videos(folders)
    if not found:
        raise TrainingError(
            f"received {', '.join(map(str, folders))} without a video; expected files of "
            f"{' '.join(sorted(VIDEO_SUFFIXES))}; pass another --videos"
        )
    loaded = []
    with progress_bar(console, "videos/s") as progress:
        task = progress.add_task("decode", total=len(found), speed=0.0)
        for path in found:
            loaded.append(load_video(path, cache, 256, max_frames))
            progress.update(task, advance=1, speed=progress.tasks[0].speed or 0.0)
    videos = [video for video in loaded if video is not None]
    console.print(
        f"{len(videos)} of {len(found)} videos hold at least two frames, "
        f"{sum(len(v.frames) for v in videos)} frames in all"
    )
    return videos


def _begin_or_resume(run: TrainingRun, resume: bool) -> None:
    if resume and not run.checkpoint_path.exists():
        raise TrainingError(
            f"received --resume, but {run.checkpoint_path} does not exist; leave --resume out to "
            "begin a run, or pass the --out of the one to go on with"
        )
    if resume:
        run.resume()
    elif run.checkpoint_path.exists():
        raise TrainingError(
            f"{run.checkpoint_path} exists; pass --resume to go on with it or choose another --out"
        )


def _train(console: Console, run: TrainingRun, scalars: ScalarWriter | None) -> None:
    with progress_bar(console, "images/s") as progress:
        task = progress.add_task("train", total=run.settings.steps, completed=run.step, speed=0.0)

        def report(state: Progress) -> None:
            progress.update(
                task,
                completed=state.step,
                speed=state.images_per_second,
                description=f"loss {state.loss:.4f}",
            )

        run.train(report, scalars=scalars)
