"""``vcedge mask``: from boxes and clicks to the mask of a picture or of a video's frame."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from vcedge.commands.options import BACKEND, THREADS
from vcedge.commands.prompt_options import prompted
from vcedge.commands.tables import open_console
from vcedge.commands.track_masks import tell_corrected
from vcedge_runtime.errors import MaskError, OutputError, SourceError
from vcedge_runtime.files import make_folder, write_whole
from vcedge_runtime.model.bundle import PROMPT_MODEL
from vcedge_runtime.prompts.segmenter import GRABCUT, mask_from_prompts
from vcedge_runtime.telling import hide_secrets
from vcedge_runtime.video.frame import Frame
from vcedge_runtime.video.masks import read_mask
from vcedge_runtime.video.overlay import draw_overlay
from vcedge_runtime.video.palette import write_label_png
from vcedge_runtime.video.seeking import SpanReader
from vcedge_runtime.video.sources import open_source

PNG = (".png",)
PREVIEWS = (*PNG, ".jpg", ".jpeg")
"""What a preview's name may end in."""
_NUMBERED = re.compile(r"(.+):(\d+)", re.DOTALL)


@click.command(name="mask")
@click.argument("source")
@prompted
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("first.png"),
    show_default=True,
    help="The palette PNG.",
)
@click.option(
    "--preview",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the frame with its objects drawn in to this PNG or JPEG too.",
)
@click.option(
    "--add-to",
    type=click.Path(exists=True, dir_okay=False),
    help="A mask of the frame: its other objects stay, and one that is named is corrected.",
)
@click.option(
    "--model",
    default=PROMPT_MODEL,
    show_default=True,
    help=f"A shipped model's name or the folder of a bundle that makes masks; or {GRABCUT}.",
)
@BACKEND
@THREADS
@click.option("--overwrite", is_flag=True, help="Replace what --out and --preview name.")
def command(
    source: str,
    boxes: dict[int, Any],
    clicks: dict[int, Any],
    out: Path,
    preview: Path | None,
    add_to: str | None,
    overwrite: bool,
    **chosen: Any,
) -> None:
    """Make the mask of a frame of SOURCE from boxes and clicks, as track takes it.

    SOURCE is a picture, a video (its first frame), or VIDEO:N (its frame N).
    """
    console = open_console()
    if not boxes and not clicks:
        raise MaskError(
            "received no box and no click; expected one at least; pass --box or --click"
        )
    _require_free(out, PNG, overwrite=overwrite)
    if preview is not None:
        _require_free(preview, PREVIEWS, overwrite=overwrite)
        if preview.resolve() == out.resolve():
            raise OutputError(f"received {out} for both --out and --preview; expected two names")
    named, frame = read_frame(source, [add_to] if add_to else [])
    for path in filter(None, (out, preview)):
        _refuse_among_frames(path, named)
    known = read_mask(add_to, frame_hw=frame.image.shape[:2]) if add_to else None
    tell = lambda text: console.print(text, markup=False, soft_wrap=True)  # noqa: E731
    tell_corrected(known, [*boxes, *clicks], tell)
    mask = mask_from_prompts(frame.image, boxes, clicks, mask=known, tell=tell, **chosen)
    make_folder(out.parent)
    write_label_png(out, mask)
    for object_id in np.unique(mask[mask > 0]).tolist():
        share = float((mask == object_id).mean())
        console.out(f"object {object_id}: {share:.1%} of the frame", highlight=False)
    console.out(f"wrote {out}", highlight=False)
    if preview is not None:
        _, coded = cv2.imencode(preview.suffix, draw_overlay(frame.image, mask))
        make_folder(preview.parent)
        write_whole(preview, coded.tobytes())
        console.out(f"wrote {preview}", highlight=False)
    beginning = ["--from", str(frame.index)] if frame.index else []
    step = ["vcedge", "track", hide_secrets(named), "--mask", str(out), *beginning]
    console.out("next:", shlex.join(step), highlight=False)


def read_frame(spec: str, masks: Sequence[str] = ()) -> tuple[str, Frame]:
    """Read the frame that a user names: of ``VIDEO:N`` the frame N, else the first.

    Args:
        spec: what the user typed.
        masks: files that are no frames, though they may lie among them.

    Returns:
        The source's name without the index, and the frame.

    Raises:
        SourceError: it cannot be read.
        MaskError: it has no such frame.
    """
    found = None if Path(spec).exists() else _NUMBERED.fullmatch(spec)
    name, index = (spec, 0) if found is None else (found[1], int(found[2]))
    with open_source(name, masks=masks) as source:
        if source.live:
            if index:
                raise SourceError(
                    f"received frame {index} of {source.label}, whose frames come once; expected a "
                    "file, or no index"
                )
            return name, next(iter(source))
        with SpanReader(source) as spans:
            frames = spans.read(index, index + 1)
    if not frames:
        raise MaskError(
            f"received frame {index} of {source.label}, which it does not have; expected the index "
            "of one, which counts from 0"
        )
    return name, frames[0]


def _refuse_among_frames(path: Path, source: str) -> None:
    """Refuse a file that would replace the source, or be taken for one of its frames."""
    place, frames = path.resolve(), Path(source).resolve()
    if place == frames:
        raise OutputError(f"received {path}, which is the source; expected another name")
    globbed = not frames.exists() and place.match(str(frames))
    if globbed or (frames.is_dir() and place.parent == frames):
        raise OutputError(
            f"received {path} among the frames of {source}, of which it would be one; expected a "
            "place elsewhere; pass another -o or --preview"
        )


def _require_free(path: Path, endings: Sequence[str], *, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; pass --overwrite or another name")
    if path.suffix.lower() not in endings:
        raise OutputError(
            f"received {path} to be written; expected a name that ends in {' or '.join(endings)}"
        )
