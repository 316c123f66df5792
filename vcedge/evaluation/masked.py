"""Masked videos as a set to choose on: dealt to two halves, read as clips, and scored."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vcedge.evaluation.davis_score import SequenceScore
from vcedge.evaluation.davis_sequence import score_sequence
from vcedge.evaluation.tracking import MaskTracker, follow_masks
from vcedge_runtime.errors import EvaluationError
from vcedge_runtime.video.masks import VOID
from vcedge_runtime.video.palette import read_label_png
from vcedge_runtime.video.videos import VideoSource

Picture = NDArray[np.uint8]


class MaskedClip(NamedTuple):
    """The beginning of a masked video.

    Attributes:
        name: of the video.
        frames: (H, W, 3) uint8, BGR.
        masks: (H, W) uint8 object ids of each, without void.
    """

    name: str
    frames: list[Picture]
    masks: list[Picture]


def deal_halves(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Two halves of the names; those of a source, up to the first underscore, are in both."""

    def place(name: str) -> tuple[str, str]:
        source = name.partition("_")[0] if "_" in name else ""
        return source, hashlib.sha256(name.encode()).hexdigest()

    dealt = sorted(names, key=place)
    return dealt[::2], dealt[1::2]


def tell_gain(scores: Sequence[float], before: Sequence[float]) -> str:
    """Mean gain of paired scores, such as ``+0.012 (0.004)``, with its standard error."""
    gains = np.subtract(scores, before)
    error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else 0.0
    return f"{gains.mean():+.3f} ({error:.3f})"


def list_videos(root: Path, wanted: Sequence[str] | None, most: int) -> list[str]:
    """Names of the videos whose first mask shows an object, and no more than so many.

    Raises:
        EvaluationError: a wanted one is not there.
    """
    there = sorted(path.stem for path in (root / "videos").glob("*.mp4"))
    missing = sorted(set(wanted or ()) - set(there))
    if missing:
        raise EvaluationError(f"received videos {missing}; {root} has {there}")
    counts = {name: len(np.unique(read_ids(root, name, 0))) - 1 for name in wanted or there}
    return [name for name, count in counts.items() if 1 <= count <= most]


def read_ids(root: Path, name: str, index: int) -> Picture:
    """Ids of a frame, (H, W) uint8; a mask in white on black has id 1, and void is background."""
    labels = read_label_png(root / "masks" / name / f"{index:05d}.png")
    alone = not ((labels > 0) & (labels < VOID)).any()
    return np.where(labels == VOID, np.uint8(alone), labels).astype(np.uint8)


def read_clip(root: Path, name: str, most: int) -> MaskedClip:
    """Read the first frames of a video, no more than so many, and their masks."""
    frames: list[Picture] = []
    with VideoSource(root / "videos" / f"{name}.mp4", name) as video:
        for frame in video:
            frames.append(frame.image)
            if len(frames) == most:
                break
    return MaskedClip(name, frames, [read_ids(root, name, at) for at in range(len(frames))])


def score_clip(tracker: MaskTracker, clip: MaskedClip) -> SequenceScore:
    """Track a clip from its first mask, and score it."""
    found = follow_masks(tracker, clip.frames, clip.masks[0])
    return score_sequence(clip.masks, found, name=clip.name, binary=False)
