"""``vcedge train srnet``: SRNet from masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from vcedge.commands.train_masked import (
    HOLD_OUT,
    MASKED,
    SHORT_SIDE,
    load_all_masked,
    read_names,
)
from vcedge.commands.train_options import (
    NAMES,
    SHARE,
    Request,
    parse_lengths,
    setting,
    takes_request,
)
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


@click.command()
@takes_request(list(SRNET_PROFILES), learning_rate=4e-4)
@click.option(
    "--stills",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of pictures with masks and their manifest.csv.",
)
@MASKED
@setting(
    SRNetSettings,
    "stage",
    click.Choice(STAGES),
    "stills: pictures that move, to begin with; video: real motion, with some stills.",
)
@setting(SRNetSettings, "local", click.Choice(LOCALS))
@setting(
    SRNetSettings,
    "near",
    click.IntRange(min=1),
    "Most steps to the local memory's frame, in half of the video clips.",
)
@click.option("--prototypes/--no-prototypes", default=True, help="The prototype transformer.")
@setting(
    SRNetSettings, "dice", click.FloatRange(min=0), "Weight of the Dice loss; 0 leaves it out."
)
@setting(SRNetSettings, "pairs", SHARE, "Share of the steps whose clips have two objects.")
@setting(SRNetSettings, "mixed", SHARE, "Share of stills among the clips of the stage video.")
@HOLD_OUT
@NAMES
@setting(SRNetSettings, "most", click.IntRange(min=1), "Objects of a clip at most.")
@click.option(
    "--lengths",
    help="Frames of a clip, fewest-most, each with the share of the run at its end, such as "
    "0.5:3-3,1.0:4-8; 3 by default.",
)
@setting(
    SRNetSettings,
    "shrink",
    click.FloatRange(0, 1, min_open=True),
    "Smallest crop of a step, as a share of the run's crop size.",
)
@setting(
    SRNetSettings,
    "pixels",
    click.IntRange(min=0),
    "Pixels of a clip at most, to which crops are shrunk; 0 bounds nothing.",
)
@setting(
    SRNetSettings,
    "absence",
    click.FloatRange(min=0),
    "Weight of the loss of objects that are away.",
)
@setting(
    SRNetSettings,
    "trunk-rate",
    SHARE,
    "Learning rate of the query encoder's trunk, as a share of the run's.",
)
@setting(SRNetSettings, "skipped", SHARE, "Share of the past frames that global memory lacks.")
@setting(
    SRNetSettings,
    "zoomed",
    SHARE,
    "Share of the clips whose crop grows or shrinks, up to four times.",
)
@setting(
    SRNetSettings,
    "absent",
    SHARE,
    "Share of the clips whose objects leave and, perhaps, come back elsewhere.",
)
@setting(
    SRNetSettings,
    "covered",
    SHARE,
    "Share of the clips whose first object is covered in some frames.",
)
@setting(
    SRNetSettings, "twins", SHARE, "Share of the pasted objects that look like the one to follow."
)
@setting(
    SRNetSettings,
    "kin",
    SHARE,
    "Share of the pasted objects that are of the same kind, from stills.",
)
@setting(
    SRNetSettings,
    "camera",
    SHARE,
    "Share of the clips that blur, exposure, noise and compression each befall.",
)
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
