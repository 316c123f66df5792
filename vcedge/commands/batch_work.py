"""One video's work, wherever it is done: ``vcedge track``, and the row that it leaves."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from vcedge.commands import track
from vcedge.commands.batch_jobs import PLACES, TAKEN, Job
from vcedge.commands.batch_prompts import read_prompts
from vcedge.commands.errands import Errand, borrow_tracker, own_shelf
from vcedge.commands.options import composed, opened, sized
from vcedge.commands.track_masks import split_index
from vcedge.fleet.contents import Finished, digest_facts, digest_source
from vcedge.fleet.crews import Tell
from vcedge.fleet.manifest import MASK
from vcedge.fleet.packing import PackedBundle, at_hand, digest_bundle
from vcedge.fleet.table import DONE, FAILED, Row
from vcedge_runtime.errors import MaskError, VcedgeError
from vcedge_runtime.model.bundle import PROMPT_MODEL, Bundle, shipped_prompt_models
from vcedge_runtime.telling import tell_cause

TRIAL_HW = (480, 854)
"""Frames that a tracker is tried on to see what it takes (our choice)."""
TRIAL_STEPS = 3


@dataclass(frozen=True)
class Trial:
    """A job that opens the tracker of a model and says what the process then holds.

    Attributes:
        model: a shipped model's name or the folder of a bundle.
        options: words of a command line of ``track``.
    """

    model: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Weight:
    """What a process with its tracker takes.

    Attributes:
        nbytes: the most that it held.
        told: what was said of its engines.
    """

    nbytes: int
    told: list[str]


@dataclass(frozen=True)
class Tracked:
    """What became of a job.

    Attributes:
        row: for the table.
        before: whether an earlier run did it.
    """

    row: Row
    before: bool = False


@dataclass(frozen=True)
class TrackVideos:
    """Tracks videos as ``vcedge track`` does, each into a folder of its own.

    Attributes:
        out: the folder of those folders.
        threads: of an engine.
        resume: take what is done already as done.
        packed: bundles by name or folder, where their folders may not be at hand.
    """

    out: str
    threads: int
    resume: bool = False
    packed: Mapping[str, PackedBundle] = field(default_factory=dict)

    def __call__(self, job: Job | Trial, tell: Tell) -> Tracked | Weight:
        """Do a job; a fault of its video is in its row.

        Returns:
            The row; or of a ``Trial`` what the process holds.

        Raises:
            VcedgeError: the tracker of a ``Trial`` cannot be opened.
        """
        cv2.setNumThreads(self.threads)
        packed = self.packed.get(job.model)
        if isinstance(job, Trial):
            with at_hand(job.model, packed) as model:
                return self._weigh(job, model)
        errand = Errand(own_shelf())
        try:
            with at_hand(job.model, packed) as model:
                return self._track(job, model, errand, tell)
        except VcedgeError as exc:
            message = str(exc)
        except click.ClickException as exc:
            message = exc.format_message()
        except Exception as exc:
            message = tell_cause(exc)
        return Tracked(_make_row(job, errand, FAILED, message))

    def _track(self, job: Job, model: str, errand: Errand, tell: Tell) -> Tracked:
        prompt = job.prompt + (read_prompts(job.prompts) if job.prompts else ())
        if not prompt:
            raise MaskError(
                f"received {job.video} without a mask; expected {Path(job.video).stem}.png beside "
                "it, or a manifest that says what it begins with"
            )
        folder = Path(self.out, job.results)
        words = [job.source, *(f"--{key}={value}" for key, value in prompt), *job.options]
        words += [f"--model={model}", f"--threads={self.threads}", f"--out={folder}", "--overwrite"]
        context = errand.parse(track.command, words)
        digest = _digest(job.source, prompt, model, context.params)
        places = {name: context.params[name] for name in PLACES if context.params[name]}
        finished = Finished(self.out, [*places.values()])
        row = finished.find(digest, _make_row(job, errand)) if self.resume else None
        if row is not None:
            return Tracked(row, before=True)
        context.params.update({name: os.fspath(folder / own) for name, own in places.items()})
        errand.run(context, tell)
        row = _make_row(job, errand)
        finished.note(digest, row)
        return Tracked(row)

    def _weigh(self, trial: Trial, model: str) -> Weight:
        words = [model, *trial.options, f"--threads={self.threads}"]
        errand = Errand(own_shelf())
        errand.run(errand.parse(_try_tracker, words), lambda frames: None)
        return Weight(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, errand.told)


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("model")
@sized
@composed
@opened
def _try_tracker(model: str, **chosen: Any) -> None:
    """Run a tracker on frames in which nothing moves, so that it holds what it will."""
    frame = np.zeros((*TRIAL_HW, 3), np.uint8)
    mask = np.zeros(TRIAL_HW, np.uint8)
    mask[TRIAL_HW[0] // 4 : TRIAL_HW[0] // 2, TRIAL_HW[1] // 4 : TRIAL_HW[1] // 2] = 1
    with borrow_tracker(Bundle.open(model), **chosen) as tracker:
        tracker.start(frame, mask)
        for _ in range(TRIAL_STEPS):
            tracker.step(frame)


def _make_row(job: Job, errand: Errand, state: str = DONE, fault: str = "") -> Row:
    report, sightings = errand.report, errand.sightings
    lost = sightings.describe_lost() if sightings else []
    return Row(
        line=job.line,
        video=job.video,
        results=job.results,
        state=state,
        frames=report.frames,
        seconds=round(report.seconds, 3),
        score=sightings.mean_score if sightings else None,
        message="; ".join(filter(None, (fault, *errand.warnings, *lost))),
    )


def _digest(source: str, prompt: Any, model: str, options: Mapping[str, Any]) -> str:
    """What a video's results hang on; how many threads there were changes nothing in them."""
    asked = {key for key, _ in prompt}
    drawn = bool(asked & {"box", "click"}) and PROMPT_MODEL in shipped_prompt_models()
    return digest_facts(
        {
            "video": digest_source(source),
            "prompt": [(key, _digest_prompt(key, value)) for key, value in prompt],
            "bundle": digest_bundle(model),
            "first masks": digest_bundle(PROMPT_MODEL) if drawn else None,
            "options": {name: options[name] for name in TAKEN},
        }
    )


def _digest_prompt(key: str, value: str) -> str:
    if key not in (MASK, "points"):
        return value
    index, path = split_index(value) if key == MASK else (None, value)
    return f"{'' if index is None else index}:{digest_source(path)}"
