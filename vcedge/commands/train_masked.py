"""Options of the methods that learn from videos with masks."""

from __future__ import annotations

from pathlib import Path

import click

MASKED = click.option(
    "--masked",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with videos/NAME.mp4 and masks/NAME/00000.png and so on; or with JPEGImages and "
    "Annotations, as DAVIS and YouTube-VOS come.",
)
HOLD_OUT = click.option(
    "--hold-out",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with names of masked videos that are left out, one a line.",
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
