"""``vcedge train prompts``: the network of first masks, from pictures and videos with masks."""

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
from vcedge.commands.train_options import NAMES, SHARE, Request, setting, takes_request
from vcedge.commands.train_running import train_network
from vcedge.models.prompts import PROMPT_PROFILES
from vcedge.training.object_sources import load_stills
from vcedge.training.objective import Objective
from vcedge.training.prompt_corpus import PromptCorpus, PromptSettings
from vcedge.training.prompts import PromptObjective
from vcedge_runtime.telling import make_printable


@click.command()
@takes_request(sorted(PROMPT_PROFILES), learning_rate=5e-4)
@click.option(
    "--stills",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder of pictures with masks and their manifest.csv; about one of 18 is held out.",
)
@MASKED
@HOLD_OUT
@NAMES
@setting(
    PromptSettings,
    "silent",
    SHARE,
    "Share of the samples of which nothing is said: what stands out is wanted.",
)
@setting(
    PromptSettings,
    "pasted",
    SHARE,
    "Share of the samples into whose picture another still's object is pasted.",
)
@SHORT_SIDE
def prompts(
    request: Request,
    stills: Path,
    masked: tuple[Path, ...],
    hold_out: Path | None,
    names: Path | None,
    silent: float,
    pasted: float,
    short_side: int,
) -> None:
    """Train the network that makes a first mask of boxes and clicks; to OUT/weights.safetensors.

    Begin with `--from imagenet`. Stop it with Ctrl-C and go on with --resume: the curve is the
    same.
    """
    settings = PromptSettings(silent=silent, pasted=pasted)
    held = [] if hold_out is None else read_names(hold_out)
    taken = None if names is None else read_names(names)

    def open_corpus(console: Console, objective: Objective) -> tuple[PromptCorpus, dict[str, Any]]:
        with console.status("read stills and decode videos"):
            pictures = load_stills(stills)
            videos = load_all_masked(masked, request.cache, short_side, held, taken)
        corpus = PromptCorpus(settings, pictures, videos)
        held_stills = len(pictures) - len(corpus.stills)
        console.print(
            f"{len(corpus.stills)} stills, {held_stills} held out, {len(videos)} videos with masks"
        )
        facts = {
            "stills": len(corpus.stills),
            "held_out_stills": held_stills,
            "videos": len(videos),
            "held_out": [make_printable(name) for name in held],
        }
        return corpus, facts

    train_network(request, lambda profile: PromptObjective(profile, settings), open_corpus)
