"""What ``vcedge track`` begins with: masks, boxes and clicks, of the first frame or another."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, wraps
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import click
import numpy as np
from numpy.typing import NDArray

from vcedge.commands.prompt_options import prompted
from vcedge_runtime.errors import MaskError
from vcedge_runtime.given import require_rereadable, track_both_ways, track_given
from vcedge_runtime.prompts.segmenter import mask_from_prompts
from vcedge_runtime.session import SessionReport, track_frames
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.masks import read_mask
from vcedge_runtime.video.seeking import SpanReader
from vcedge_runtime.video.sinks import Sink
from vcedge_runtime.video.sources import Frame, Source
from vcedge_runtime.video.videos import VideoSource

Function = TypeVar("Function", bound=Callable[..., Any])
Labels = NDArray[np.uint8]
GROUP = ("mask", "boxes", "clicks", "start")
"""Names of the options, for the help."""
TOLD_BACK = 100
"""Frames of the way back between two lines that say how far it is."""
_NUMBERED = re.compile(r"(\d+):(.+)", re.DOTALL)


class Beginning(NamedTuple):
    """What tracking begins with.

    Attributes:
        masks: (H, W) uint8 object ids by the index of their frame.
        frames: what is tracked, from frame 0 on.
        both_ways: whether it is followed backwards too.
    """

    masks: Mapping[int, Labels]
    frames: Iterable[Frame]
    both_ways: bool

    @property
    def earliest(self) -> Labels:
        """The first of the masks."""
        return self.masks[min(self.masks)]

    @property
    def objects(self) -> dict[int, list[int]]:
        """Ids of the objects that each mask shows, likewise."""
        return {index: np.unique(mask[mask > 0]).tolist() for index, mask in self.masks.items()}


@dataclass(frozen=True)
class FirstMasks:
    """What a user gives to begin with.

    Attributes:
        paths: files of masks, each with the index of its frame; None for the first.
        boxes: of the first frame, by object id.
        clicks: likewise.
        start: the first frame; None where nobody named one, which is 0.
        binarize: whether everything bright in a mask is object 1.
        resize: whether a mask of another size is brought to the frame's.
    """

    paths: tuple[tuple[int | None, str], ...] = ()
    boxes: dict[int, Any] = field(default_factory=dict)
    clicks: dict[int, Any] = field(default_factory=dict)
    start: int | None = None
    binarize: bool = False
    resize: bool = False

    def __bool__(self) -> bool:
        return bool(self.paths or self.boxes or self.clicks)

    @property
    def beginning(self) -> int:
        """The frame that all is of which names none."""
        return self.start or 0

    @property
    def files(self) -> list[str]:
        """Files that are read."""
        return [path for _, path in self.paths]

    @property
    def plain(self) -> str | None:
        """The one mask of frame 0, where nothing else is given."""
        others = self.boxes or self.clicks or self.start
        alone = len(self.paths) == 1 and not self.paths[0][0]
        return self.paths[0][1] if alone and not others else None

    @property
    def changed(self) -> bool:
        """Whether what is read of a file is not what it holds."""
        return self.binarize or self.resize

    def begin(
        self, video: Source, tell: Callable[[str], None], most: int | None = None
    ) -> Beginning:
        """Read the masks, and make that of the boxes and clicks.

        Args:
            video: what is tracked.
            tell: told what stands in for the model where it is not there, and what is done to a
                mask.
            most: frames that are tracked, at most.

        Raises:
            MaskError: two masks of one frame, one of a frame that is not tracked, none of frame 0
                without ``--from``, none of the frame that it names, or a mask, box or click that
                cannot be.
            SourceError: a frame cannot be read, or cannot be read again.
        """
        if self.start is not None:
            require_rereadable(video)
        masks = self._read_masks(video.frame_hw, tell)
        frames: Iterable[Frame] = video
        if self.boxes or self.clicks:
            frame, frames = self._take_frame(video)
            known, prompted_ids = masks.get(self.beginning), [*self.boxes, *self.clicks]
            tell_corrected(known, prompted_ids, tell)
            made = mask_from_prompts(frame.image, self.boxes, self.clicks, mask=known, tell=tell)
            if known is not None:  # What was drawn is surer than what a box says.
                others = (known > 0) & ~np.isin(known, prompted_ids)
                made = np.where(others, known, made)
            masks[self.beginning] = made
        self._check_frames(masks, most)
        self._check_last(masks, video)
        return Beginning(masks, frames, both_ways=self.start is not None)

    def _read_masks(
        self, frame_hw: tuple[int, int], tell: Callable[[str], None]
    ) -> dict[int, Labels]:
        masks: dict[int, Labels] = {}
        read = partial(read_mask, binarize=self.binarize, resize=self.resize, tell=tell)
        for index, path in self.paths:
            at = self.beginning if index is None else index
            if at in masks:
                raise MaskError(
                    f"received two masks of frame {at}; expected one a frame; join them, or put "
                    "the index of another frame in front, such as 40:later.png"
                )
            masks[at] = read(path, frame_hw=frame_hw)
        return masks

    def _take_frame(self, video: Source) -> tuple[Frame, Iterable[Frame]]:
        """The frame that boxes and clicks are of, and what is tracked: a stream goes on from it."""
        if video.live:
            images = iter(video)
            frame = next(images)
            return frame, chain([frame], images)
        found = _read_frame(video, self.beginning)
        if not found:
            raise MaskError(
                f"received --from {self.beginning}, a frame that {video.label} does not have; "
                "expected the index of one, which counts from 0"
            )
        return found[0], video

    def _check_last(self, masks: Mapping[int, Labels], video: Source) -> None:
        """Refuse a mask beyond the end before anything is tracked or replaced."""
        last = max(masks, default=0)
        # To list a file's packets takes long: for the way back it is done anyhow.
        within = isinstance(video, VideoSource) and last < (video.length or 0)
        seen = bool(self.boxes or self.clicks) and last == self.beginning
        if last == 0 or video.live or seen or (within and self.start is None):
            return
        if not _read_frame(video, last):
            raise MaskError(
                f"received a mask of frame {last}, which {video.label} does not have, or which "
                "cannot be decoded; expected the index of a frame, which counts from 0"
            )

    def _check_frames(self, masks: Mapping[int, Labels], most: int | None) -> None:
        if self.start is not None and masks and self.start not in masks:
            raise MaskError(
                f"received --from {self.start}, and masks of frames "
                f"{', '.join(map(str, sorted(masks)))}; expected one of frame {self.start}"
            )
        if masks and self.start is None and min(masks) > 0:
            raise MaskError(
                f"received masks of frame {min(masks)} and later ones; expected one of frame 0; "
                f"pass --from {min(masks)} to begin there and follow both ways"
            )
        if masks and most is not None and max(masks) >= most:
            raise MaskError(
                f"received a mask of frame {max(masks)}, and --frames {most}; expected more "
                "frames, or an earlier mask"
            )


def tell_corrected(
    known: Labels | None, prompted_ids: Iterable[int], tell: Callable[[str], None]
) -> None:
    """Tell which objects of a mask boxes and clicks take for theirs."""
    for object_id in sorted(set(prompted_ids)):
        if known is not None and (known == object_id).any():
            tell(
                f"object {object_id} of the mask is corrected by what the box or the clicks say; "
                "put another id and = in front of them for an object besides"
            )


def _read_frame(video: Source, index: int) -> list[Frame]:
    with SpanReader(video) as spans:
        return spans.read(index, index + 1)


def first_masks(function: Function) -> Function:
    """Give a command ``--mask``, ``--box``, ``--click`` and the like; it takes ``first``."""

    @wraps(function)
    def run(
        mask: Sequence[str],
        boxes: dict[int, Any],
        clicks: dict[int, Any],
        start: int | None,
        binarize: bool,
        resize_mask: bool,
        **given: Any,
    ) -> Any:
        paths = tuple(split_index(each) for each in mask)
        first = FirstMasks(paths, boxes, clicks, start, binarize, resize_mask)
        return function(**given, first=first)

    found = click.option(
        "--resize-mask", is_flag=True, help="Bring a mask of another size to the frame's."
    )(run)
    found = click.option(
        "--binarize", is_flag=True, help="Everything bright in the mask is object 1."
    )(found)
    found = click.option(
        "--from",
        "start",
        type=click.IntRange(min=0),
        metavar="N",
        help="Begin at frame N, and follow to the end and to the beginning: --mask, --box and "
        "--click are of that frame. Files and pictures alone.",
    )(found)
    found = prompted(found)
    found = click.option(
        "--mask",
        multiple=True,
        metavar="[N:]FILE",
        help="Mask of the first frame, or of frame N: palette PNG, gray or 0/255; ids may be "
        "parts. May be given again: what a later mask shows appears there, or is corrected.",
    )(found)
    return cast(Function, found)


def track_masks(
    tracker: Tracker,
    video: Source,
    frames: Iterable[Frame],
    beginning: Beginning,
    sinks: Sequence[Sink],
    report: SessionReport,
    on_frame: Callable[[SessionReport], None],
) -> None:
    """Track a video from what was given, whichever way that asks for.

    Args:
        tracker: an open tracker.
        video: what is tracked.
        frames: its frames as they come.
        beginning: what was given.
        sinks: where results go.
        report: filled on the way.
        on_frame: called after each frame.

    Raises:
        VcedgeError: see ``track_frames``, ``track_given`` and ``track_both_ways``.
    """
    masks = beginning.masks
    if beginning.both_ways:
        track_both_ways(tracker, video, frames, masks, sinks, report, on_frame, _tell_back)
    elif len(masks) > 1:
        track_given(tracker, frames, masks, sinks, report, on_frame)
    else:
        track_frames(tracker, frames, masks[0], sinks, report, on_frame)


def _tell_back(done: int, frames: int) -> None:
    """Say now and then how far the way back is: nothing is written on it."""
    if done % TOLD_BACK == 1:
        click.echo(f"back from frame {frames - 1}: {done}/{frames}", err=True)


def split_index(text: str, folder: Path = Path()) -> tuple[int | None, str]:
    """``40:later.png`` as 40 and the file, unless a file in ``folder`` has all of it for a name."""
    found = _NUMBERED.fullmatch(text)
    if found is None or (folder / text).exists():
        return None, text
    return int(found[1]), found[2]
