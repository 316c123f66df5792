"""A tracker on DAVIS sequences: its score, and where its time went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcedge.evaluation.davis_folders import find_frames, find_mask_folders
from vcedge.evaluation.davis_score import DavisScore, SequenceScore
from vcedge.evaluation.davis_sequence import score_sequence
from vcedge_runtime.session import SessionReport, track_frames
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.masks import read_mask
from vcedge_runtime.video.palette import read_label_png
from vcedge_runtime.video.pictures import list_masks
from vcedge_runtime.video.sinks import MaskList
from vcedge_runtime.video.sources import open_source

ChangeMask = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.uint8]]
"""From a frame, (H, W, 3) uint8 BGR, and its (H, W) uint8 ids to other ids."""


@dataclass(frozen=True)
class TrackedScore:
    """A tracker on some sequences.

    Attributes:
        score: of all sequences.
        reports: each sequence's, with the milliseconds of every stage and frame.
        memory_bytes: the most that the tracker held.
    """

    score: DavisScore
    reports: tuple[SessionReport, ...]
    memory_bytes: int


def track_and_score(
    root: Path,
    names: Sequence[str],
    tracker: Tracker,
    on_sequence: Callable[[SequenceScore], None] = lambda score: None,
    change_first: ChangeMask | None = None,
) -> TrackedScore:
    """Track sequences from their first masks, one frame after the other, and score them.

    Args:
        root: a DAVIS folder with JPEGImages and Annotations.
        names: of its sequences.
        tracker: an open tracker.
        on_sequence: told each sequence's score.
        change_first: makes another mask of a first frame and its true one, to begin with.

    Raises:
        EvaluationError: frames or masks of a sequence are missing, or do not fit.
    """
    folders = find_mask_folders(root)
    scores: list[SequenceScore] = []
    reports: list[SessionReport] = []
    held = 0
    for name in names:
        truth = list_masks(folders[name])
        found, report = MaskList(), SessionReport()
        with open_source(find_frames(root, name)) as video:
            first = read_mask(truth[0], frame_hw=video.frame_hw)
            if change_first is not None:
                first = change_first(next(iter(video)).image, first)
            track_frames(tracker, video, first, [found], report)
        scores.append(score_sequence(map(read_label_png, truth), found.masks, name=name))
        reports.append(report)
        held = max(held, tracker.memory_bytes)
        on_sequence(scores[-1])
    return TrackedScore(DavisScore(tuple(scores)), tuple(reports), held)
