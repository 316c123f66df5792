"""``vcedge train``: encoders from unlabelled video."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from vcedge.commands.progress import progress_bar
from vcedge.models.encoder import PROFILES
from vcedge.models.weights import load_weights, save_weights
from vcedge.training.base import BaseObjective
from vcedge.training.corpus import VIDEO_SUFFIXES, CachedVideo, find_videos, load_video
from vcedge.training.dmp import DmpObjective, DmpSettings
from vcedge.training.mer import MerObjective, MerSettings
from vcedge.training.objective import Objective
from vcedge.training.processes import join_processes
from vcedge.training.run import (
    Progress,
    RunSettings,
    ScalarWriter,
    TrainingRun,
    default_device,
    default_sizes,
)
from vcedge_runtime.errors import MissingExtraError, OutputError, TrainingError


@dataclass(frozen=True)
class Request:
    """What every method of training is told on the command line.

    Attributes:
        run: of the run.
        folders: with videos.
        out: the run's folder.
        device: as the user named it.
        cache: folder of decoded frames.
        max_frames: kept of one video.
        start: name or file of weights to begin with.
        tensorboard: whether to write a TensorBoard log.
        resume: take up the run in ``out``.
    """

    run: RunSettings
    folders: tuple[Path, ...]
    out: Path
    device: str
    cache: Path
    max_frames: int
    start: str | None
    tensorboard: bool
    resume: bool


def _write_sizes(sizes: Sequence[tuple[float, int]]) -> str:
    """Write crop sizes as ``_parse_sizes`` reads them."""
    return ",".join(f"{share}:{size}" for share, size in sizes)


_OPTIONS = (
    click.option(
        "--videos",
        "folders",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        multiple=True,
        required=True,
        help="A folder of videos, searched to the bottom; may be given more than once.",
    ),
    click.option(
        "--profile", type=click.Choice(sorted(PROFILES)), default="edge", show_default=True
    ),
    click.option(
        "--out", type=click.Path(path_type=Path), help="vcedge-out/train-METHOD by default."
    ),
    click.option(
        "--steps", type=click.IntRange(min=1), default=RunSettings.steps, show_default=True
    ),
    click.option(
        "--batch", type=click.IntRange(min=1), default=RunSettings.batch, show_default=True
    ),
    click.option(
        "--sizes",
        help="Crop sizes, each with the share of the run at its end; by default as many key cells "
        f"in each profile: {'; '.join(f'{p} {_write_sizes(default_sizes(p))}' for p in PROFILES)}.",
    ),
    click.option(
        "--learning-rate",
        type=click.FloatRange(min=0, min_open=True),
        default=RunSettings.learning_rate,
        show_default=True,
    ),
    click.option("--seed", type=int, default=0, show_default=True),
    click.option("--device", help="cpu, cuda, cuda:1; a GPU by default where there is one."),
    click.option("--cache", type=click.Path(path_type=Path), default=Path("vcedge-out/frames")),
    click.option(
        "--max-frames",
        type=click.IntRange(min=2),
        default=400,
        show_default=True,
        help="Frames kept of one video.",
    ),
    click.option(
        "--from",
        "start",
        help="Begin with these weights, a shipped name or a .safetensors file; all that fit.",
    ),
    click.option("--tensorboard", is_flag=True, help="Write a TensorBoard log to OUT/tensorboard."),
    click.option("--resume", is_flag=True, help="Take up the run that --out holds."),
)


def _takes_request(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of every method, gathered in a ``Request``."""

    def gathered(
        folders: tuple[Path, ...],
        out: Path | None,
        device: str | None,
        cache: Path,
        max_frames: int,
        start: str | None,
        tensorboard: bool,
        resume: bool,
        profile: str,
        steps: int,
        batch: int,
        sizes: str | None,
        learning_rate: float,
        seed: int,
        **own: Any,
    ) -> None:
        crops = default_sizes(profile) if sizes is None else _parse_sizes(sizes)
        run = RunSettings(profile, steps, batch, crops, learning_rate, seed)
        place = out or Path("vcedge-out") / f"train-{function.__name__}"
        wanted = device or default_device()
        request = Request(
            run, folders, place, wanted, cache, max_frames, start, tensorboard, resume
        )
        function(request, **own)

    gathered.__name__, gathered.__doc__ = function.__name__, function.__doc__
    decorated: Callable[..., None] = gathered
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    # Options that the method added itself.
    decorated.__click_params__ += getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    return decorated


@click.group(name="train")
def command() -> None:
    """Train an encoder on unlabelled video.

    Several processes train together when started by torchrun.
    """


@command.command()
@_takes_request
def base(request: Request) -> None:
    """Train the base encoder by colourisation and write its weights to OUT/weights.safetensors.

    Stop it with Ctrl-C and go on with --resume: the curve is the same.
    """
    _run(request, BaseObjective)


@command.command()
@_takes_request
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
def mer(request: Request, motion: bool, values: bool, weight_map: bool, contrast: float) -> None:
    """Train MER: motion enhancement, value extraction, fused loss; to OUT/weights.safetensors.

    Stop it with Ctrl-C and go on with --resume: the curve is the same.
    """
    settings = MerSettings(
        motion=motion,
        value_extraction=values,
        weight_map=weight_map and values,
        contrast=contrast,
    )
    _run(request, lambda profile: MerObjective(profile, settings))


@command.command()
@_takes_request
@click.option(
    "--plain",
    type=click.FloatRange(0, 1),
    help="Share of the run that is colourisation alone; 0.4, or 0 with --from, by default.",
)
@click.option("--beta", type=click.FloatRange(0, 1), default=DmpSettings.beta, show_default=True)
@click.option("--gamma", type=click.FloatRange(0, 1), default=DmpSettings.gamma, show_default=True)
def dmp(request: Request, plain: float | None, beta: float, gamma: float) -> None:
    """Train DMP: gated memory, three fused predictions; to OUT/weights.safetensors.

    Stop it with Ctrl-C and go on with --resume: the curve is the same.
    """
    if plain is None:
        plain = 0.0 if request.start else DmpSettings.plain
    settings = DmpSettings(plain=plain, beta=beta, gamma=gamma)
    _run(request, lambda profile: DmpObjective(profile, settings))


def _run(request: Request, make_objective: Callable[[str], Objective]) -> None:
    import torch

    with ExitStack() as stack:
        processes, device = stack.enter_context(join_processes(_usable_device(request.device)))
        console = Console(quiet=not processes.first)
        _make_folders(request.out, request.cache)
        start = load_weights(request.start).network if request.start else None
        videos = _load_videos(console, request)
        torch.manual_seed(request.run.seed)
        objective = make_objective(request.run.profile)
        run = TrainingRun(request.run, objective, videos, request.out, device, processes)
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
            _deliver(console, run, request, videos)


def _deliver(
    console: Console, run: TrainingRun, request: Request, videos: list[CachedVideo]
) -> None:
    facts = {
        "model": run.objective.name,
        "steps": run.step,
        "batch": request.run.batch,
        "clip_frames": run.objective.clip_settings.frames,
        "sizes": _write_sizes(request.run.sizes),
        "seed": request.run.seed,
        "hours": round(run.seconds / 3600, 2),
        "videos": len(videos),
        "frames": sum(len(video.frames) for video in videos),
        # Where a file lay is the user's own business.
        "from": request.start and Path(request.start).name,
    }
    path = request.out / "weights.safetensors"
    save_weights(run.delivered, path, facts)
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


def _parse_sizes(text: str) -> tuple[tuple[float, int], ...]:
    try:
        pairs = [part.split(":") for part in text.split(",")]
        return tuple((float(share), int(size)) for share, size in pairs)
    except ValueError as exc:
        raise TrainingError(f"received sizes {text!r}; expected such as 0.7:128,1.0:192") from exc


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


def _load_videos(console: Console, request: Request) -> list[CachedVideo]:
    found = find_videos(request.folders)
    if not found:
        raise TrainingError(
            f"received {', '.join(map(str, request.folders))} without a video; expected files of "
            f"{' '.join(sorted(VIDEO_SUFFIXES))}; pass another --videos"
        )
    loaded = []
    with progress_bar(console, "videos/s") as progress:
        task = progress.add_task("decode", total=len(found), speed=0.0)
        for path in found:
            loaded.append(load_video(path, request.cache, 256, request.max_frames))
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
