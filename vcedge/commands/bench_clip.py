"""The clip that ``vcedge bench`` runs on: rendered or the user's, or a larger camera's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.demo.clip import DemoClip, render_demo_clip
from vcedge_runtime.errors import MaskError
from vcedge_runtime.video.masks import read_mask
from vcedge_runtime.video.palette import write_label_png
from vcedge_runtime.video.pictures import list_masks
from vcedge_runtime.video.sinks import OverlayVideo
from vcedge_runtime.video.sources import Frame, Source, open_source


@dataclass(frozen=True, eq=False)
class Clip:
    """What is tracked.

    Attributes:
        label: what it is, in words.
        video: the clip; each reading begins anew. Whoever opened it closes it.
        mask: (H, W) uint8 object ids of the first frame.
        truth: mask files of the frames, from the first one on; none where nobody knows them.
    """

    label: str
    video: Source
    mask: NDArray[np.uint8]
    truth: tuple[Path, ...] = ()

    def frames(self, short: int = 0) -> Iterator[Frame]:
        """Read the frames, enlarged until the short side has so many pixels; 0 leaves them."""
        if not short:
            return iter(self.video)
        # A larger camera's frames: what they show is as blurred as what was enlarged.
        return (replace(frame, image=enlarge(frame.image, short)) for frame in self.video)

    def first_mask(self, short: int = 0) -> NDArray[np.uint8]:
        """Give the first frame's mask, enlarged as its frame is."""
        return enlarge(self.mask, short, cv2.INTER_NEAREST) if short else self.mask


def open_clip(
    source: str | None, mask: str | None, truth: Path | None, scratch: Path, frames: int
) -> Clip:
    """Open the user's clip, or render one.

    Args:
        source: the clip; None renders one.
        mask: of its first frame; None with ``source`` alone.
        truth: folder of masks of the frames of ``source``, from the first one on; None for none.
        scratch: folder for what is rendered.
        frames: how many are wanted.

    Raises:
        MaskError: the mask is missing or does not fit, the truth is empty, or either comes without
            a source.
        SourceError: the source cannot be opened.
    """
    if (source is None) != (mask is None):
        raise MaskError("received one of --source and --mask; expected both or neither")
    if source is None or mask is None:
        if truth is not None:
            raise MaskError("received --truth without --source; expected both or neither")
        return _open_demo_clip(render_demo_clip(frames=frames), scratch)
    known = tuple(list_masks(truth)) if truth is not None else ()
    if truth is not None and not known:
        raise MaskError(f"received --truth {truth}, which holds no PNG; expected a mask a frame")
    video = open_source(source, masks=[mask])
    try:
        first = read_mask(mask, frame_hw=video.frame_hw)
    except MaskError:
        video.close()
        raise
    return Clip(video.label, video, first, known)


def _open_demo_clip(clip: DemoClip, scratch: Path) -> Clip:
    """Write the demo clip as a video, so that decoding it is part of the measurement."""
    truth, path = list[Path](), scratch / "demo.mp4"
    with OverlayVideo(path) as writer:
        for index, (image, labels) in enumerate(clip):
            truth.append(scratch / f"{index:05d}.png")
            write_label_png(truth[-1], labels)
            # An overlay without an object is the frame itself.
            writer.write(Frame(index, "", image), np.zeros_like(labels), {})
    return Clip("the demo clip", open_source(path), clip.render(0)[1], tuple(truth))


def enlarge(image: NDArray[np.uint8], short: int, how: int = cv2.INTER_LINEAR) -> NDArray[np.uint8]:
    """Enlarge a picture until its short side has so many pixels, by one of OpenCV's methods."""
    height, width = image.shape[:2]
    scale = short / min(height, width)
    size = (round(width * scale), round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)
