"""``vcedge train srnet``: SRNet from masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from vcedge.commands.train_masked import (
    HOLD_OUT,
    MASKED,
    SHORT_SIDE,
    load_all_masked,
    read_names,
)
from vcedge.commands.train_options import NAMES, Request, parse_lengths, takes_request
from vcedge.commands.train_running import load_start, train_network
from vcedge.models.efficientnet_lite import EfficientNetLite
from vcedge.models.srnet import SRNET_PROFILES, SRNet
from vcedge.models.stcn import STCN
from vcedge.training.object_sources import load_stills
from vcedge.training.objective import Objective
from vcedge.training.srnet import SRNetObjective
from vcedge.training.srnet_corpus import STAGES, SRNetCorpus, SRNetSettings
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.model.object_composition import LOCALS
from vcedge_runtime.telling import make_printable

Function = TypeVar("Function", bound=Callable[..., None])


def _share(name: str, text: str) -> Callable[[Function], Function]:
    """An option that is a share, at its setting's default."""
    default = getattr(SRNetSettings, name.replace("-", "_"))
    kind = click.FloatRange(0, 1)
    return click.option(f"--{name}", type=kind, default=default, show_default=True, help=text)


@click.command()
@takes_request(list(SRNET_PROFILES), learning_rate=4e-4)
@click.option(
    "--stills",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of pictures with masks and their manifest.csv.",
)
@MASKED
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
@HOLD_OUT
@NAMES
@click.option(
    "--most",
    type=click.IntRange(min=1),
    default=SRNetSettings.most,
    show_default=True,
    help="Objects of a clip at most.",
)
@click.option(
    "--lengths",
    help="Frames of a clip, fewest-most, each with the share of the run at its end, such as "
    "0.5:3-3,1.0:4-8; 3 by default.",
)
@click.option(
    "--shrink",
    type=click.FloatRange(0, 1, min_open=True),
    default=SRNetSettings.shrink,
    show_default=True,
    help="Smallest crop of a step, as a share of the run's crop size.",
)
@click.option(
    "--pixels",
    type=click.IntRange(min=0),
    default=SRNetSettings.pixels,
    show_default=True,
    help="Pixels of a clip at most, to which crops are shrunk; 0 bounds nothing.",
)
@click.option(
    "--absence",
    type=click.FloatRange(min=0),
    default=SRNetSettings.absence,
    show_default=True,
    help="Weight of the loss of objects that are away.",
)
@_share("trunk-rate", "Learning rate of the query encoder's trunk, as a share of the run's.")
@_share("skipped", "Share of the past frames that global memory lacks.")
@_share("zoomed", "Share of the clips whose crop grows or shrinks, up to four times.")
@_share("absent", "Share of the clips whose objects leave and, perhaps, come back elsewhere.")
@_share("covered", "Share of the clips whose first object is covered in some frames.")
@_share("twins", "Share of the pasted objects that look like the one to follow.")
@_share("kin", "Share of the pasted objects that are of the same kind, from stills.")
@_share("camera", "Share of the clips that blur, exposure, noise and compression each befall.")
@SHORT_SIDE
def srnet(
    request: Request,
    stills: Path | None,
    masked: tuple[Path, ...],
    hold_out: Path | None,
    names: Path | None,
    lengths: str | None,
    short_side: int,
    **method: Any,
) -> None:
    """Train SRNet on masks; one stage a run, to OUT/weights.safetensors.

    Begin with `--stage stills --from mer-edge`, go on with `--stage video --from` what came out;
    `srnet-lite` begins with `--stage video --from imagenet`, and `srnet-stcn` with STCN's published
    weights, `--from stcn.pth`.
    Stop it with Ctrl-C and go on with --resume: the curve is the same.
    """
    on_videos = method["stage"] == "video"
    if masked and not on_videos:
        raise TrainingError("received --masked for the stage stills; pass --stage video with it")
    spans = SRNetSettings.lengths if lengths is None else parse_lengths(lengths)
    # Statistics stay as they are where there are some that belong to the whole network; where
    # values are made of features, the trunk alone has any. STCN never trained with others.
    start = load_start(request)
    begun = isinstance(start, (SRNet, EfficientNetLite))
    frozen = isinstance(start, STCN) or (on_videos and begun)
    settings = SRNetSettings(**method, lengths=spans, frozen=frozen)

    held = [] if hold_out is None else read_names(hold_out)
    taken = None if names is None else read_names(names)

    def open_corpus(console: Console, objective: Objective) -> tuple[SRNetCorpus, dict[str, Any]]:
        with console.status("read stills and decode videos"):
            pictures = load_stills(stills) if stills else []
            videos = load_all_masked(masked, request.cache, short_side, held, taken)
        frames = sum(len(video.frames) for video in videos)
        console.print(
            f"{len(pictures)} stills, {len(videos)} videos with masks, {frames} frames in all"
        )
        facts = {
            "stage": settings.stage,
            "stills": len(pictures),
            "videos": len(videos),
            "frames": frames,
            "held_out": [make_printable(name) for name in held],
            "clip_frames": max(most for _, _, most in spans),
        }
        return SRNetCorpus(settings, pictures, videos), facts

    train_network(request, lambda profile: SRNetObjective(profile, settings), open_corpus)
