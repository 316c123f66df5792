"""``vcedge train``: encoders from unlabelled video."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
from rich.console import Console

from vcedge.commands.progress import progress_bar
from vcedge.models.encoder import PROFILES
from vcedge.models.weights import save_weights
from vcedge.training.base import BaseRun, BaseSettings, Progress, default_device
from vcedge.training.corpus import VIDEO_SUFFIXES, CachedVideo, find_videos, load_video
from vcedge_runtime.errors import OutputError, TrainingError


@click.group(name="train")
def command() -> None:
    """Train an encoder on unlabelled video."""


@command.command()
@click.option(
    "--videos",
    "folders",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    required=True,
    help="A folder of videos, searched to the bottom; may be given more than once.",
)
@click.option("--profile", type=click.Choice(sorted(PROFILES)), default="edge", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("vcedge-out/train-base"))
@click.option("--steps", type=click.IntRange(min=1), default=BaseSettings.steps, show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=BaseSettings.batch, show_default=True)
@click.option(
    "--sizes",
    default=",".join(f"{share}:{size}" for share, size in BaseSettings.sizes),
    show_default=True,
    help="Crop sizes, each with the share of the run at its end.",
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    default=BaseSettings.learning_rate,
    show_default=True,
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", help="cpu, cuda, cuda:1; a GPU by default where there is one.")
@click.option("--cache", type=click.Path(path_type=Path), default=Path("vcedge-out/frames"))
@click.option(
    "--max-frames",
    type=click.IntRange(min=2),
    default=400,
    show_default=True,
    help="Frames kept of one video.",
)
@click.option("--resume", is_flag=True, help="Take up the run that --out holds.")
def base(
    folders: tuple[Path, ...],
    profile: str,
    out: Path,
    steps: int,
    batch: int,
    sizes: str,
    learning_rate: float,
    seed: int,
    device: str | None,
    cache: Path,
    max_frames: int,
    resume: bool,
) -> None:
    """Train the base encoder by colourisation and write its weights to OUT/weights.safetensors.

    Stop it with Ctrl-C and go on with --resume: the curve is the same.
    """
    console = Console()
    settings = BaseSettings(
        profile=profile,
        steps=steps,
        batch=batch,
        sizes=_parse_sizes(sizes),
        learning_rate=learning_rate,
        seed=seed,
    )
    device = _usable_device(device or default_device())
    _make_folders(out, cache)
    videos = _load_videos(console, folders, cache, max_frames)
    run = BaseRun(settings, videos, out, device)
    _begin_or_resume(run, resume)
    try:
        _train(console, run)
    except KeyboardInterrupt:
        run.save()
        console.print(f"stopped at step {run.step}; go on with --resume")
        raise
    facts = {
        "model": "base",
        "steps": run.step,
        "batch": batch,
        "sizes": sizes,
        "seed": seed,
        "hours": round(run.seconds / 3600, 2),
        "videos": len(videos),
        "frames": sum(len(video.frames) for video in videos),
    }
    path = out / "weights.safetensors"
    save_weights(run.averaged_encoder(), path, facts)
    console.out(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)", highlight=False)
    console.out(f"next: vcedge export {shlex.quote(str(path))}", highlight=False)


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
            loaded.append(load_video(path, cache, short_side=256, max_frames=max_frames))
            progress.update(task, advance=1, speed=progress.tasks[0].speed or 0.0)
    videos = [video for video in loaded if video is not None]
    console.print(
        f"{len(videos)} of {len(found)} videos hold at least two frames, "
        f"{sum(len(v.frames) for v in videos)} frames in all"
    )
    return videos


def _begin_or_resume(run: BaseRun, resume: bool) -> None:
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


def _train(console: Console, run: BaseRun) -> None:
    with progress_bar(console, "images/s") as progress:
        task = progress.add_task("train", total=run.settings.steps, completed=run.step, speed=0.0)

        def report(state: Progress) -> None:
            progress.update(
                task,
                completed=state.step,
                speed=state.images_per_second,
                description=f"loss {state.loss:.4f}",
            )

        run.train(report)
