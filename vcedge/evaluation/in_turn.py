"""Several trackers on one clip, frame by frame in turn, so that a noisy machine is fair to all."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from vcedge.evaluation.davis_metrics import region_similarity
from vcedge_runtime.frames.windows import Window
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.palette import encode_label_png

HELD = 0.5
"""Overlap from which on a tracker holds an object (our choice)."""
LONG = 10
"""Frames from which on a window has left one (our choice)."""


@dataclass
class Followed:
    """What one tracker found in a clip.

    Attributes:
        masks: of each frame, the given one first, as PNG of ids: those of a large camera would
            not fit in memory.
        milliseconds: of each step, from the decoded frame to the full-size mask.
        windows: where each of them looked.
        memory_bytes: what the tracker held at the end.
    """

    masks: list[bytes] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    memory_bytes: int = 0


def follow_in_turn(
    trackers: Mapping[str, Tracker], frames: Iterable[NDArray[np.uint8]], first: NDArray[np.uint8]
) -> dict[str, Followed]:
    """Track a clip with several trackers; which of them comes first changes with every frame.

    Args:
        trackers: open ones, by name.
        frames: (H, W, 3) uint8, BGR; at least one.
        first: (H, W) uint8 object ids of the first one.
    """
    found = {name: Followed() for name in trackers}
    names = list(trackers)
    for index, frame in enumerate(frames):
        for name in names if index % 2 else reversed(names):
            tracker, own = trackers[name], found[name]
            if index == 0:
                tracker.start(frame, first)
                own.masks.append(encode_label_png(first))
                continue
            began = time.perf_counter()
            mask = tracker.step(frame).mask
            own.milliseconds.append(1000 * (time.perf_counter() - began))
            own.masks.append(encode_label_png(mask))
            own.windows.append(tracker.video.windows.last)
            own.memory_bytes = tracker.memory_bytes
    return found


def count_runaways(
    truth: Iterable[NDArray[np.uint8]],
    whole: Iterable[NDArray[np.uint8]],
    windows: Iterable[Window],
) -> int:
    """Count the times that a window left an object that stayed in sight.

    An object is in sight where whole frames show it to the tracker: its mask meets the true one by
    ``HELD``. A window left it that shows less than half of it for ``LONG`` frames or more.

    Args:
        truth: (H, W) uint8 object ids of each frame, the given one first.
        whole: masks of the same model that looked at whole frames, as many.
        windows: where it looked instead, from the second frame on.
    """
    times, since = 0, dict[int, int]()
    for true, held, window in zip(
        islice(truth, 1, None), islice(whole, 1, None), windows, strict=True
    ):
        ids: list[int] = np.unique(true[true > 0]).tolist()
        left = {i for i in ids if _is_left(true == i, held == i, window)}
        since = {i: since.get(i, 0) + 1 for i in left}
        times += sum(frames == LONG for frames in since.values())
    return times


def _is_left(true: NDArray[np.bool_], held: NDArray[np.bool_], window: Window) -> bool:
    if region_similarity(true, held) < HELD:
        return False
    return bool(2 * true[window.slices].sum() < true.sum())
