"""What belongs to a video that is followed, and what a step through it gives."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.frames.fitting import Fit
from vcedge_runtime.frames.following import State, Windows
from vcedge_runtime.predictors.protocol import Predictor
from vcedge_runtime.predictors.shown import Shown
from vcedge_runtime.propagation.points import PointEstimate
from vcedge_runtime.video.measured import Measured


@dataclass(frozen=True)
class StepResult(Measured):
    """What one step gives.

    Attributes:
        mask: (H, W) uint8 object ids in the frame's own pixels, 0 the background; the caller's own.
        scores: how sure the tracker is of each object, 0 to 1; 0 for one that is not seen.
        timings_ms: milliseconds of each stage of ``timing.STAGES``; 0 for one that the model lacks.
        points: where each point is, if the video began with points.
        states: of each object: ``tracked``; ``lost``, where only a part of the frame was looked at;
            ``absent``, where all of it was.
        held: whether the model gave numbers that are not finite: the mask is then the last frame's,
            scores are 0, points are where they were last and not visible, and nothing of the frame
            is remembered.
    """

    mask: NDArray[np.uint8]
    scores: dict[int, float]
    timings_ms: dict[str, float]
    points: dict[str, PointEstimate] = field(default_factory=dict)
    states: dict[int, State] = field(default_factory=dict)
    held: bool = False


@dataclass(frozen=True)
class Video:
    """What belongs to one video: it is made by ``start`` and replaced by the next ``start``.

    Attributes:
        frame_hw: height and width of its frames.
        fit: how they lie in what is encoded.
        predictor: its state; the tracker leads it, others may look at its facts.
        shown: what stays where the model gives nothing.
        windows: where each frame is looked at.
        frame: (H, W, 3) uint8 BGR, the last one, where another part of it may be looked at; else
            without a pixel.
    """

    frame_hw: tuple[int, int]
    fit: Fit
    predictor: Predictor
    shown: Shown
    windows: Windows
    frame: NDArray[np.uint8]

    @property
    def work_hw(self) -> tuple[int, int]:
        """Height and width in which they are encoded."""
        return self.fit.work_hw
