"""Sequences of a data set that are tracked, here or by a crew, before they are scored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vcedge.commands.errands import own_shelf
from vcedge.commands.fleet_options import Staff
from vcedge.evaluation.youtube import ListedVideo, track_video
from vcedge.fleet.crews import Tell
from vcedge.fleet.packing import PackedBundle, at_hand, pack_bundle
from vcedge_runtime.errors import EvaluationError
from vcedge_runtime.model.bundle import MANIFEST, Bundle
from vcedge_runtime.session import SessionReport, track_frames
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.masks import read_mask
from vcedge_runtime.video.prefetch import prefetch
from vcedge_runtime.video.sinks import open_masks
from vcedge_runtime.video.sources import Source, open_source

OnFrame = Callable[[SessionReport], None]
Watch = Callable[[Source], AbstractContextManager[OnFrame]]
"""Shows how far the tracking of a source is."""
Follow = Callable[[Tracker, Any, Tell], Any]
"""Tracks a video; what it gives is kept."""


@dataclass(frozen=True)
class MaskedSequence:
    """A sequence to be tracked.

    Attributes:
        name: the sequence.
        frames: folder of its frames.
        mask: of the first one.
        out: folder of the masks.
    """

    name: str
    frames: Path
    mask: Path
    out: Path


def follow_sequence(
    tracker: Tracker, job: MaskedSequence, watch: Watch, *, overwrite: bool = False
) -> SessionReport:
    """Track a sequence and write its masks.

    Args:
        tracker: an open tracker.
        job: the sequence.
        watch: shows how far it is.
        overwrite: replace masks that are there; see ``open_masks``.

    Raises:
        VcedgeError: see ``track_frames``.
    """
    report = SessionReport()
    masks = open_masks(job.out, overwrite=overwrite)
    with open_source(job.frames) as video, masks as sink:
        first = read_mask(job.mask, frame_hw=video.frame_hw)
        with watch(video) as on_frame:
            track_frames(tracker, prefetch(video), first, [sink], report, on_frame)
    return report


def follow_and_tell(
    tracker: Tracker, job: MaskedSequence, tell: Tell, *, overwrite: bool = False
) -> SessionReport:
    """Track a sequence where nobody looks; see ``follow_sequence``."""

    def watch(video: Source) -> AbstractContextManager[OnFrame]:
        return nullcontext(lambda report: tell(report.frames))

    return follow_sequence(tracker, job, watch, overwrite=overwrite)


def follow_listed(
    root: Path, out: Path, tracker: Tracker, video: ListedVideo, tell: Tell, *, overwrite: bool
) -> None:
    """Track a video of YouTube-VOS; see ``track_video``."""
    track_video(root, video, tracker, out, tell, overwrite=overwrite)


@dataclass(frozen=True)
class WithTracker:
    """Work for which each process keeps a tracker open.

    Attributes:
        follow: does a job with it.
        model: a shipped model's name or the folder of a bundle.
        chosen: keywords of ``open_tracker``.
        packed: the bundle, where its folder may not be at hand.
    """

    follow: Follow
    model: str
    chosen: Mapping[str, Any] = field(default_factory=dict)
    packed: PackedBundle | None = None

    def __call__(self, job: Any, tell: Tell) -> Any:
        """Do a job."""
        with (
            at_hand(self.model, self.packed) as model,
            own_shelf().lend(Bundle.open(model), dict(self.chosen)) as tracker,
        ):
            return self.follow(tracker, job, tell)


def follow_all(
    staff: Staff,
    follow: Follow,
    jobs: Iterable[Any],
    on_done: Callable[[Any, Any], None],
    *,
    model: str,
    **chosen: Any,
) -> None:
    """Let a crew track videos with a tracker a process.

    Args:
        staff: who works.
        follow: does a job with a tracker.
        jobs: each with a ``name``.
        on_done: told each job and what it gave.
        model: see ``WithTracker``.
        **chosen: likewise; threads are those that were asked for, or a share of the cores.

    Raises:
        EvaluationError: a job could not be done; the others are ended.
    """
    plain = {name: value for name, value in chosen.items() if not callable(value)}
    share = staff.share(plain["threads"] or None)
    packed = pack_bundle(Bundle.open(model)) if staff.ray else None
    named = os.fspath(Path(model).absolute()) if (Path(model) / MANIFEST).is_file() else model
    work = WithTracker(follow, named, {**plain, "threads": share.threads}, packed)
    with staff.open(work, share.workers) as crew:
        for done in crew.run(jobs):
            if done.fault:
                raise EvaluationError(f"{done.job.name}: {done.fault}")
            on_done(done.job, done.result)
