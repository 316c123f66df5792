"""Which part of each frame is looked at: all of it, or what surrounds the objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.frames.windows import Box, Window, find_box
from vcedge_runtime.settings import Bounds, check_settings

State = Literal["tracked", "lost", "absent"]
"""Of an object: it was found; it was not, where alone was looked; it was not in the whole frame."""
ZOOM_STEP = 2**0.25
"""Ratio of one scale to the next (our choice)."""
GROWTH = 1.5
"""How many times ``cells`` an object may have before its window is left (our choice)."""


@dataclass(frozen=True)
class FullWindow:
    """Every frame is looked at whole."""

    moves: ClassVar[bool] = False

    def begin(self, frame_hw: tuple[int, int], grid_hw: tuple[int, int], stride: int) -> Windows:
        """Make the windows of one video; see ``FollowingWindow``."""
        return Windows(frame_hw, grid_hw)


@dataclass(frozen=True)
class FollowingWindow:
    """A window of one shape follows the objects (our choice, measured).

    It is cut from the frame before that is resized, so that what is looked at costs the same
    whatever the camera. It lies in whole key cells, and has scales in steps. The first frame is
    remembered whole besides: what comes into a window from beyond it would look like nothing else.

    Attributes:
        room: sides of a new window, in those of the box of all objects, 1 to 16.
        least: those below which a window is left for another, 1 to 16.
        cells: key cells that the longest object's longer side may have where a window is finer than
            the frame's own pixels, 1 to 64. Of an object of fewer, a model sees little of its
            shape; of one of more, it sees no more in a finer window, and less of what is around it.
        finest: least pixels of the frame to one of the working size, 0.1 to 1.
        sure: score below which an object is taken for lost, 0 to 1: below 0.7 six of seven masks
            of `srnet-lite` were wrong (see `docs/results.md`).
        search: frames from one look at the whole frame to the next while an object is lost, 1 to
            1,000.
        check: those while none is, 1 to 1,000,000.
    """

    room: Annotated[float, Bounds(1, 16)] = 1.4
    least: Annotated[float, Bounds(1, 16)] = 1.12
    cells: Annotated[float, Bounds(1, 64)] = 6.0
    finest: Annotated[float, Bounds(0.1, 1)] = 0.5
    sure: Annotated[float, Bounds(0, 1)] = 0.7
    search: Annotated[int, Bounds(1, 1000)] = 4
    check: Annotated[int, Bounds(1, 10**6)] = 10**6
    moves: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(self)

    def begin(self, frame_hw: tuple[int, int], grid_hw: tuple[int, int], stride: int) -> Windows:
        """Make the windows of one video.

        Args:
            frame_hw: height and width of its frames.
            grid_hw: key cells of a window.
            stride: pixels of the working size per key cell.
        """
        return Following(self, frame_hw, grid_hw, stride)


class Windows:
    """The windows of one video, each the whole frame.

    Args:
        frame_hw: height and width of the frames.
        grid_hw: key cells of a window.

    Attributes:
        moves: whether a window may be another one than that of the frame before.
        whole: the window that shows everything.
        last: that of the last frame.
        states: of every object, in the last frame.
    """

    moves = False

    def __init__(self, frame_hw: tuple[int, int], grid_hw: tuple[int, int]) -> None:
        self.whole = self.last = Window(frame_hw, grid_hw, grid_hw)
        self.states: dict[int, State] = {}

    def begin(self, mask: NDArray[np.uint8], objects: Sequence[int]) -> Window:
        """Choose the first window, around everything that a mask of the whole frame shows."""
        self.states = dict.fromkeys(objects, "tracked")
        return self.whole

    def choose(self) -> Window:
        """Choose the window of the next frame."""
        return self.whole

    def see(self, window: Window, mask: NDArray[np.uint8], scores: Mapping[int, float]) -> None:
        """Take what was found in the next frame, which becomes the last.

        Args:
            window: of the frame.
            mask: (H', W') uint8 object ids, of the window alone.
            scores: of every object that is followed; 0 for one that is nowhere.
        """
        self.last = window
        missing: State = "absent" if window.is_whole else "lost"
        self.states = {i: "tracked" if score > 0 else missing for i, score in scores.items()}

    def include(self, object_id: int, mask: NDArray[np.uint8]) -> Window:
        """Choose the window of the last frame anew, for an object that is drawn there.

        Args:
            object_id: its id.
            mask: (H, W) uint8 of the whole frame, not 0 where it is.

        Returns:
            The one that it had where that shows the object.
        """
        self.states[object_id] = "tracked"
        return self.last

    def forget(self, object_id: int) -> None:
        """Follow an object no longer."""
        self.states.pop(object_id, None)


class Following(Windows):
    """The windows of one video, which follow its objects.

    Args:
        policy: how.
        frame_hw: height and width of the frames.
        grid_hw: key cells of a window.
        stride: pixels of the working size per key cell.
    """

    moves = True

    def __init__(
        self,
        policy: FollowingWindow,
        frame_hw: tuple[int, int],
        grid_hw: tuple[int, int],
        stride: int,
    ) -> None:
        super().__init__(frame_hw, grid_hw)
        self._policy = policy
        self._stride = stride
        coarsest = min(frame_hw[axis] / (grid_hw[axis] * stride) for axis in (0, 1))
        zooms = [ZOOM_STEP**step for step in range(64)]
        self._spans = [
            (round(grid_hw[0] * zoom), round(grid_hw[1] * zoom))
            for zoom in zooms
            if zoom == 1 or zoom <= coarsest / policy.finest
        ]
        self._held = self.whole
        self._boxes: dict[int, Box] = {}
        self._awaited: dict[int, Box] = {}
        self._since = 0

    def begin(self, mask: NDArray[np.uint8], objects: Sequence[int]) -> Window:
        """See ``Windows``."""
        super().begin(mask, objects)
        for object_id in objects:
            self._place(object_id, mask == object_id)
        self.last = self._held = self._around(self._wanted(self._policy.room))
        return self.last

    def choose(self) -> Window:
        """See ``Windows``."""
        self._since += 1
        policy = self._policy
        lost = len(self._boxes) < len(self.states)
        if not self._boxes or self._since % (policy.search if lost else policy.check) == 0:
            return self.whole
        best = self._around(self._wanted(policy.room))
        least = _within(self._wanted(policy.least), self.whole.box)
        kept = _holds(self._held.box, least) and self._suits(self._held.span_hw, GROWTH)
        if not kept or best.span_hw > self._held.span_hw:
            self._held = best
        return self._held

    def see(self, window: Window, mask: NDArray[np.uint8], scores: Mapping[int, float]) -> None:
        """See ``Windows``."""
        super().see(window, mask, scores)
        for object_id, score in scores.items():
            box = find_box(mask == object_id) if score >= self._policy.sure else None
            if box is None:
                self._lose(object_id)
            else:
                self._move(object_id, _shift(box, window.box))

    def include(self, object_id: int, mask: NDArray[np.uint8]) -> Window:
        """See ``Windows``."""
        super().include(object_id, mask)
        self._place(object_id, mask > 0)
        if not _holds(self.last.box, self._boxes[object_id]):
            self.last = self._held = self._around(self._wanted(self._policy.room))
        return self.last

    def forget(self, object_id: int) -> None:
        """See ``Windows``."""
        super().forget(object_id)
        self._lose(object_id)

    def _lose(self, object_id: int) -> None:
        """Await an object nowhere."""
        self._boxes.pop(object_id, None)
        self._awaited.pop(object_id, None)

    def _place(self, object_id: int, mask: NDArray[np.bool_]) -> None:
        """Take where an object was drawn, all of it."""
        box = find_box(mask, trim=0)
        assert box is not None
        self._boxes[object_id] = self._awaited[object_id] = box

    def _move(self, object_id: int, box: Box) -> None:
        """Take where an object was found; in the next frame, it is awaited as far again.

        One that shrank by more than a half, as of a mask that was cut off, is awaited where it is.
        """
        former = self._boxes.get(object_id, box)
        self._boxes[object_id] = box
        top, left, bottom, right = (2 * now - then for now, then in zip(box, former, strict=True))
        shrank = top >= bottom or left >= right
        self._awaited[object_id] = box if shrank else (top, left, bottom, right)

    def _wanted(self, room: float) -> Box:
        """What all objects together need to have around them in the next frame."""
        tops, lefts, bottoms, rights = zip(*self._awaited.values(), strict=True)
        top, left, bottom, right = min(tops), min(lefts), max(bottoms), max(rights)
        down, across = (room - 1) * (bottom - top) / 2, (room - 1) * (right - left) / 2
        return top - down, left - across, bottom + down, right + across

    def _suits(self, span_hw: tuple[int, int], growth: float = 1.0) -> bool:
        """Whether a scale is none of those that are too fine for the objects."""
        scale = min(self.whole.frame_hw[axis] / span_hw[axis] / self._stride for axis in (0, 1))
        sides = [max(box[2] - box[0], box[3] - box[1]) for box in self._boxes.values()]
        return scale >= 1 or max(sides) <= growth * self._policy.cells * self._stride * scale

    def _around(self, wanted: Box) -> Window:
        """The finest window that holds a box; the whole frame where none does."""
        whole = self.whole
        wanted = _within(wanted, whole.box)
        for span in filter(self._suits, reversed(self._spans)):
            at = []
            for axis in (0, 1):
                cell = whole.frame_hw[axis] / span[axis]
                first, last, cells = (
                    wanted[axis] / cell,
                    wanted[2 + axis] / cell,
                    whole.grid_hw[axis],
                )
                if last - first > cells:
                    break
                middle = round((first + last - cells) / 2)
                at.append(min(max(middle, 0), span[axis] - cells))
            else:
                return Window(whole.frame_hw, whole.grid_hw, span, (at[0], at[1]))
        return whole


def _within(box: Box, bounds: Box) -> Box:
    """The part of a box that lies in another one."""
    (top, left), (bottom, right) = map(max, box[:2], bounds[:2]), map(min, box[2:], bounds[2:])
    return top, left, bottom, right


def _shift(box: Box, window: Box) -> Box:
    """The box of the frame that one of a window is."""
    top, left, bottom, right = box
    return top + window[0], left + window[1], bottom + window[0], right + window[1]


def _holds(outer: Box, inner: Box) -> bool:
    """Whether a box holds another one, but for a pixel."""
    first = all(a <= b + 1 for a, b in zip(outer[:2], inner[:2], strict=True))
    return first and all(a >= b - 1 for a, b in zip(outer[2:], inner[2:], strict=True))
