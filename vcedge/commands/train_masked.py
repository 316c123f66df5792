"""Options of the methods that learn from videos with masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from vcedge.training.corpus import find_videos
from vcedge.training.object_sources import MaskedVideo, load_masked_videos
from vcedge_runtime.errors import TrainingError

MASKED = click.option(
    "--masked",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    help="Folder with videos/NAME.mp4 and masks/NAME/00000.png and so on; may be given more than "
    "once.",
)
HOLD_OUT = click.option(
    "--hold-out",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with names of videos that are left out, one a line.",
)
SHORT_SIDE = click.option(
    "--short-side",
    type=click.IntRange(min=32),
    default=480,
    show_default=True,
    help="Larger videos are shrunk to this.",
)


def read_names(path: Path) -> list[str]:
    """Names, one a line; a line that begins with # says something else."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def load_all_masked(
    folders: Sequence[Path], cache: Path, short_side: int, hold_out: Sequence[str]
) -> list[MaskedVideo]:
    """Load the videos of every ``--masked``; see ``load_masked_videos``.

    Raises:
        TrainingError: a name to hold out is in none of them, or see there.
    """
    names = {folder: {path.stem for path in find_videos([folder / "videos"])} for folder in folders}
    unknown = sorted(set(hold_out).difference(*names.values()))
    if unknown and folders:
        raise TrainingError(
            f"received {', '.join(unknown)} to hold out; expected names of videos of "
            f"{', '.join(map(str, folders))}; mend the list"
        )
    videos = []
    for folder, own in names.items():
        held = own.intersection(hold_out)
        videos += load_masked_videos(folder, cache, short_side, hold_out=held)
    return videos
