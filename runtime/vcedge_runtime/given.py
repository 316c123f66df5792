"""Masks that are given in mid-video, and a video that is followed both ways from them.

A file is decoded again for what lies before: backwards, a bounded number of frames at a time.
"""

from __future__ import annotations

import json
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.closing import Closing
from vcedge_runtime.errors import MaskError, SourceError
from vcedge_runtime.followed import StepResult
from vcedge_runtime.frames.following import State
from vcedge_runtime.session import SessionReport, follow_frames, tell_sinks
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.seeking import SpanReader
from vcedge_runtime.video.sinks import Sink
from vcedge_runtime.video.sources import Frame, Source

Masks = Mapping[int, NDArray[np.uint8]]
"""(H, W) uint8 object ids, by the index of their frame."""
CHUNK_BYTES = 2**28
"""Of frames that are held to be followed backwards (our choice)."""


def track_given(
    tracker: Tracker,
    frames: Iterable[Frame],
    given: Masks,
    sinks: Sequence[Sink],
    report: SessionReport,
    on_frame: Callable[[SessionReport], None] = lambda report: None,
) -> None:
    """Track a video forward, and take over each given mask in its frame; the caller closes sinks.

    What a mask shows appears there, or is corrected; other objects stay.

    Args:
        tracker: an open tracker.
        frames: the video.
        given: the masks; one is of the first frame.
        sinks: where results go.
        report: filled on the way.
        on_frame: called after each frame.

    Raises:
        MaskError: a mask does not fit, or the video ends before its frame; what was tracked is
            written.
        SourceError: the video has no frame, or breaks off; what was tracked is written.
        EngineError: no frame after the first could be tracked.
    """
    reached = [-1]

    def step(frame: Frame) -> StepResult:
        _require_none_between(given, reached[0], frame.index)
        reached[0] = frame.index
        return take_frame(tracker, frame, given, begins=report.frames == 0)

    follow_frames(frames, step, tell_sinks(sinks), report, on_frame)
    _require_reached(given, reached[0])


def track_both_ways(
    tracker: Tracker,
    source: Source,
    frames: Iterable[Frame],
    given: Masks,
    sinks: Sequence[Sink],
    report: SessionReport,
    on_frame: Callable[[SessionReport], None] = lambda report: None,
    on_back: Callable[[int, int], None] = lambda done, frames: None,
) -> None:
    """Track a video from given masks to its end and to its beginning; the caller closes the sinks.

    First from the last mask back to frame 0, then from the first one on, each time through every
    mask on the way. Of each object, a frame takes what comes from the nearest mask that shows it.

    Args:
        tracker: an open tracker.
        source: a video that can be read again.
        frames: the same from its beginning on, such as ``prefetch`` reads it; begun once the way
            back is done.
        given: the masks, one at least.
        sinks: where results go, in the video's order.
        report: filled on the way; its seconds have the way back in them.
        on_frame: called after each frame that is written.
        on_back: told how many frames of the way back are done, and how many there are.

    Raises:
        SourceError: a stream, which cannot be read again; or see ``track_given``.
        MaskError: a mask does not fit, or the video ends before its frame.
        EngineError: no frame after the first could be tracked.
    """
    require_rereadable(source)
    first, last = min(given), max(given)
    began = time.perf_counter()
    with ResultStore() as back:
        former = last + 1
        for number, frame in enumerate(read_backwards(source, last)):
            _require_none_between(given, frame.index, former)
            former = frame.index
            back.put(frame.index, take_frame(tracker, frame, given, begins=number == 0))
            on_back(number + 1, last + 1)
        _require_none_between(given, -1, former)
        spent = time.perf_counter() - began

        def step(frame: Frame) -> StepResult:
            if frame.index < first:
                return back.take(frame.index)
            onward = take_frame(tracker, frame, given, begins=frame.index == first)
            if frame.index >= last:
                return onward
            return merge_results(onward, back.take(frame.index), frame.index, given)

        follow_frames(frames, step, tell_sinks(sinks), report, on_frame)
    report.seconds += spent


def require_rereadable(source: Source) -> None:
    """Refuse a source whose frames come once.

    Raises:
        SourceError: it is a camera or a stream.
    """
    if source.live:
        raise SourceError(
            f"received {source.label}, whose frames come once, to follow backwards; expected a "
            "file or pictures; record it first, or leave --from out"
        )


def take_frame(tracker: Tracker, frame: Frame, given: Masks, *, begins: bool) -> StepResult:
    """Track a frame, and take over its given mask where there is one."""
    mask = given.get(frame.index)
    if begins:
        if mask is None:
            raise MaskError(
                f"received no mask of frame {frame.index}, where tracking begins; expected one; "
                "give it, or pass --from with the frame of the earliest mask"
            )
        tracker.start(frame.image, mask)
        return StepResult(mask, dict.fromkeys(tracker.object_ids, 1.0), {})
    result = tracker.step(frame.image)
    return result if mask is None else _draw(tracker, result, mask)


def _draw(tracker: Tracker, result: StepResult, mask: NDArray[np.uint8]) -> StepResult:
    """Give the tracker every object that a mask shows; what it shows is what is there.

    Where the frame was held, the tracker takes the mask for one of the frame before, the last that
    it knows.
    """
    objects, seen = np.unique(mask[mask > 0]).tolist(), dict[int, State]()
    for object_id in objects:
        tracker.add_object(object_id, mask == object_id)
        seen[object_id] = "tracked"
    others = np.where(np.isin(result.mask, objects), np.uint8(0), result.mask)
    return replace(
        result,
        mask=np.where(mask > 0, mask, others),
        scores={**result.scores, **dict.fromkeys(objects, 1.0)},
        states={**result.states, **seen},
        held=result.held and not result.scores.keys() <= seen.keys(),
    )


def read_backwards(source: Source, last: int, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Frame]:
    """Read a video's frames from one back to the first, a bounded number at a time.

    Args:
        source: a video that can be read again.
        last: index of the frame to begin with.
        chunk_bytes: of the frames that are held, at most; one at least is.

    Yields:
        The frames, the last first; those that cannot be decoded are left out.

    Raises:
        MaskError: the video ends before that frame, or it cannot be decoded.
    """
    height, width = source.frame_hw
    count = max(1, chunk_bytes // (3 * height * width))
    stop = last + 1
    with SpanReader(source) as spans:
        while stop > 0:
            chunk = spans.read(max(0, stop - count), stop)
            if stop == last + 1:
                _require_reached({last: None}, chunk[-1].index if chunk else -1)
            while chunk:
                yield chunk.pop()
            stop -= count


def _require_none_between(given: Iterable[int], first: int, last: int) -> None:
    """Refuse masks of frames that were passed over."""
    passed = sorted(index for index in given if first < index < last)
    if passed:
        raise MaskError(
            f"received a mask of frame {passed[0]}, which did not come: a live source dropped it, "
            "or it cannot be decoded; give the mask of another frame, or pass --no-drop"
        )


def _require_reached(given: Mapping[int, object], reached: int) -> None:
    beyond = sorted(index for index in given if index > reached)
    if beyond:
        raise MaskError(
            f"received a mask of frame {beyond[0]}, which the video does not have: its last one "
            f"is {reached}; expected the index of a frame, which counts from 0"
        )


def merge_results(onward: StepResult, back: StepResult, index: int, given: Masks) -> StepResult:
    """Take each object from the way whose given mask is nearer.

    Args:
        onward: from the masks before.
        back: from those after.
        index: of the frame.
        given: the masks.

    Returns:
        A result with the objects of both; where they overlap, the nearer one is seen.
    """
    mask, scores, states = np.zeros_like(onward.mask), {}, {}
    chosen = []
    for object_id in sorted({*onward.scores, *back.scores}):
        shown = [at for at, labels in given.items() if (labels == object_id).any()]
        before = min((index - at for at in shown if at <= index), default=None)
        after = min((at - index for at in shown if at >= index), default=None)
        backward = before is None or (after is not None and after < before)
        distance = after if backward else before
        chosen.append((distance or 0, object_id, back if backward else onward))
    for _, object_id, result in sorted(chosen, key=lambda each: -each[0]):
        mask[result.mask == object_id] = object_id
        scores[object_id] = result.scores.get(object_id, 0.0)
        if object_id in result.states:
            states[object_id] = result.states[object_id]
    held = onward.held and back.held
    return replace(onward, mask=mask, scores=scores, states=states, held=held)


class ResultStore(Closing):
    """Results that wait in a file without a name for the frames before them."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close
        self._places: dict[int, tuple[int, int]] = {}

    def put(self, index: int, result: StepResult) -> None:
        """Keep the result of a frame; its points and timings are left out."""
        facts = {
            "hw": result.mask.shape,
            "scores": result.scores,
            "states": result.states,
            "held": result.held,
        }
        told = json.dumps(facts).encode()
        packed = zlib.compress(len(told).to_bytes(4, "big") + told + result.mask.tobytes(), 1)
        self._places[index] = (self._file.seek(0, 2), len(packed))
        self._file.write(packed)

    def take(self, index: int) -> StepResult:
        """Give the result of a frame.

        Raises:
            SourceError: the way back had no such frame.
        """
        if index not in self._places:
            raise SourceError(
                f"frame {index} did not come on the way back: the video changed meanwhile, or is "
                "damaged there; encode it again"
            )
        at, length = self._places.pop(index)
        self._file.seek(at)
        packed = zlib.decompress(self._file.read(length))
        begin = 4 + int.from_bytes(packed[:4], "big")
        facts = json.loads(packed[4:begin])
        mask = np.frombuffer(packed, np.uint8, offset=begin).reshape(facts["hw"]).copy()
        scores, states = (
            {int(object_id): value for object_id, value in facts[name].items()}
            for name in ("scores", "states")
        )
        return StepResult(mask, scores, {}, states=states, held=facts["held"])

    def close(self) -> None:
        """Give the file back."""
        self._file.close()
