"""Options of the methods that learn from videos with masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from vcedge.training.object_sources import (
    MaskedVideo,
    load_masked_videos,
    name_masked_videos,
)
from vcedge_runtime.errors import TrainingError

MASKED = click.option(
    "--masked",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    help="Folder with videos/NAME.mp4 and masks/NAME/00000.png and so on, or with JPEGImages and "
    "Annotations, as DAVIS and YouTube-VOS come; may be given more than once.",
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
    """Names, one a line; a line that begins with # says something else.

    Lists of DAVIS-2016 have a line a frame, which begins with its path: its folder is the name.
    """
    lines = (line.strip() for line in path.read_text().splitlines())
    named = [line for line in lines if line and not line.startswith("#")]
    return list(
        dict.fromkeys(
            Path(line.split()[0]).parent.name if line.startswith("/") else line for line in named
        )
    )


def load_all_masked(
    folders: Sequence[Path],
    cache: Path,
    short_side: int,
    hold_out: Sequence[str],
    taken: Sequence[str] | None = None,
) -> list[MaskedVideo]:
    """Load the videos of every ``--masked``; see ``load_masked_videos``.

    Args:
        folders: of the videos.
        cache: likewise.
        short_side: likewise.
        hold_out: names of those that are left out.
        taken: names of those that are taken; all are where None.

    Raises:
        TrainingError: a name to hold out or to take is in none of them, or see there.
    """
    names = {folder: name_masked_videos(folder) for folder in folders}
    unknown = sorted({*hold_out, *(taken or ())}.difference(*names.values()))
    if unknown and folders:
        raise TrainingError(
            f"received {', '.join(unknown)} to hold out or to take; expected names of videos of "
            f"{', '.join(map(str, folders))}; mend the list"
        )
    videos: list[MaskedVideo] = []
    for folder, there in names.items():
        held = there.intersection(hold_out)
        own = None if taken is None else sorted(there.intersection(taken))
        if own != []:
            videos += load_masked_videos(folder, cache, short_side, hold_out=held, names=own)
    return videos
