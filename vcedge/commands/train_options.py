"""The options that every method of training shares, gathered in one request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from vcedge.commands.train_recipe import parse_shares
from vcedge.training.run import default_device
from vcedge.training.settings import RunSettings, default_sizes
from vcedge_runtime.errors import TrainingError

Function = TypeVar("Function", bound=Callable[..., Any])
SHARE = click.FloatRange(0, 1)


def setting(
    settings: type, name: str, kind: click.ParamType[Any], text: str | None = None
) -> Callable[[Function], Function]:
    """An option that is a field of some settings, at its default.

    Args:
        settings: a dataclass.
        name: as the command line has it.
        kind: what it may be.
        text: its help.
    """
    default = getattr(settings, name.replace("-", "_"))
    return click.option(f"--{name}", type=kind, default=default, show_default=True, help=text)


VIDEOS = click.option(
    "--videos",
    "folders",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    required=True,
    help="A folder of videos, or of folders of frames below JPEGImages, searched to the bottom; "
    "may be given more than once.",
)
NAMES = click.option(
    "--list",
    "names",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the names of the videos to take, one a line, such as DAVIS's own "
    "ImageSets/2017/train.txt; all by default.",
)
MAX_FRAMES = click.option(
    "--max-frames",
    type=click.IntRange(min=2),
    default=400,
    show_default=True,
    help="Frames kept of one video.",
)


@dataclass(frozen=True)
class Request:
    """What every method of training is told on the command line.

    Attributes:
        run: of the run.
        out: the run's folder.
        device: as the user named it.
        cache: folder of decoded frames.
        start: name or file of weights to begin with.
        tensorboard: whether to write a TensorBoard log.
        resume: take up the run in ``out``.
        epochs: instead of the run's steps, how often each frame is drawn; None for the steps.
    """

    run: RunSettings
    out: Path
    device: str
    cache: Path
    start: str | None
    tensorboard: bool
    resume: bool
    epochs: float | None = None


def write_sizes(sizes: Sequence[tuple[float, int]]) -> str:
    """Write crop sizes as ``parse_sizes`` reads them."""
    return ",".join(f"{share}:{size}" for share, size in sizes)


_OPTIONS = (
    click.option(
        "--out", type=click.Path(path_type=Path), help="vcedge-out/train-METHOD by default."
    ),
    setting(RunSettings, "steps", click.IntRange(min=1)),
    setting(RunSettings, "batch", click.IntRange(min=1)),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True),
    setting(
        RunSettings,
        "falls-from",
        click.FloatRange(0, 1, max_open=True),
        "Share of the run from which on the learning rate falls.",
    ),
    setting(
        RunSettings,
        "average",
        click.FloatRange(0, 1, max_open=True),
        "How much of the moving average of the weights stays at each step.",
    ),
    setting(
        RunSettings,
        "workers",
        click.IntRange(min=0),
        "Processes that make clips, and threads that decode videos at the beginning.",
    ),
    click.option("--device", help="cpu, cuda, cuda:1; a GPU by default where there is one."),
    click.option("--cache", type=click.Path(path_type=Path), default=Path("vcedge-out/frames")),
    click.option(
        "--from",
        "start",
        help="Begin with these weights, a shipped name or a .safetensors file, all that fit; or "
        "`imagenet`, the published ones of the encoder of lite profiles, or a .pth file of STCN's.",
    ),
    click.option("--tensorboard", is_flag=True, help="Write a TensorBoard log to OUT/tensorboard."),
    click.option("--resume", is_flag=True, help="Take up the run that --out holds."),
)


_AS_TYPED = ("steps", "batch", "learning_rate", "seed", "falls_from", "average", "workers")
"""Options whose values are fields of the run's settings as they are."""


def takes_request(
    profiles: Sequence[str], learning_rate: float = RunSettings.learning_rate
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of every method, gathered in a ``Request``.

    Args:
        profiles: the command's own, the default first.
        learning_rate: its default.
    """
    own_options = (
        click.option(
            "--profile", type=click.Choice(profiles), default=profiles[0], show_default=True
        ),
        click.option(
            "--learning-rate",
            type=click.FloatRange(min=0, min_open=True),
            default=learning_rate,
            show_default=True,
        ),
        click.option(
            "--sizes",
            help="Crop sizes, each with the share of the run at its end; by default "
            f"{'; '.join(f'{p} {write_sizes(default_sizes(p))}' for p in profiles)}.",
        ),
    )

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        def gathered(**given: Any) -> None:
            request = _take_request(function.__name__, given)
            function(request, **given)

        gathered.__name__, gathered.__doc__ = function.__name__, function.__doc__
        decorated: Callable[..., None] = gathered
        for option in reversed((*own_options, *_OPTIONS)):
            decorated = option(decorated)
        # Options that the method added itself.
        decorated.__click_params__ += getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        return decorated

    return decorate


def _take_request(method: str, given: dict[str, Any]) -> Request:
    """Take what makes a request out of what a command of that name was given."""
    take = given.pop
    profile, sizes, epochs = take("profile"), take("sizes"), take("epochs", None)
    run = RunSettings(
        profile=profile,
        sizes=default_sizes(profile) if sizes is None else parse_sizes(sizes),
        halved=parse_shares(take("halve_at", None)),
        **{name: take(name) for name in _AS_TYPED},
    )
    return Request(
        run,
        out=take("out") or Path("vcedge-out") / f"train-{method}",
        device=take("device") or default_device(),
        # A recipe's epochs give way to steps that the user passed.
        epochs=epochs if _choose_epochs() else None,
        **{name: take(name) for name in ("cache", "start", "tensorboard", "resume")},
    )


def _choose_epochs() -> bool:
    """Whether a run's length is told in epochs.

    Raises:
        click.UsageError: the user passed both.
    """
    context = click.get_current_context()
    steps, epochs = (context.get_parameter_source(name) for name in ("steps", "epochs"))
    passed = click.core.ParameterSource.COMMANDLINE
    if steps is epochs is passed:
        raise click.UsageError("pass one of --steps and --epochs")
    return steps is not passed


def parse_sizes(text: str) -> tuple[tuple[float, int], ...]:
    """Read crop sizes.

    Raises:
        TrainingError: they are something else.
    """
    try:
        pairs = [part.split(":") for part in text.split(",")]
        return tuple((float(share), int(size)) for share, size in pairs)
    except ValueError as exc:
        raise TrainingError(f"received sizes {text!r}; expected such as 0.7:128,1.0:192") from exc


def parse_lengths(text: str) -> tuple[tuple[float, int, int], ...]:
    """Read clips' lengths, (share of the run at its end, fewest, most frames).

    Raises:
        TrainingError: they are something else.
    """
    try:
        parts = [part.replace("-", ":").split(":") for part in text.split(",")]
        return tuple((float(share), int(fewest), int(most)) for share, fewest, most in parts)
    except ValueError as exc:
        raise TrainingError(f"received lengths {text!r}; expected such as 0.5:3-3,1.0:4-8") from exc
