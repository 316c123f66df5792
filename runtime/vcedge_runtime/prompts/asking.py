"""What a user says of objects, checked: a box, clicks, or both for each."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vcedge_runtime.errors import MaskError
from vcedge_runtime.prompts.planes import Click, Corners
from vcedge_runtime.settings import as_whole, show
from vcedge_runtime.video.masks import MAX_ID

Boxes = Mapping[int, Sequence[float]]
"""Left, top, width and height in pixels of each object, by its id."""
Clicks = Mapping[int, Sequence[Sequence[float]]]
"""Places of each object, by its id: x, y, and whether it is there (else it is not), in pixels."""


@dataclass(frozen=True)
class Asked:
    """What is said of one object, in a frame's pixels.

    Attributes:
        box: None where there is none.
        clicks: on it and off it.
    """

    box: Corners | None = None
    clicks: tuple[Click, ...] = ()

    @property
    def positive(self) -> tuple[Click, ...]:
        """Those on it."""
        return tuple(click for click in self.clicks if click.positive)


def check_prompts(
    frame_hw: tuple[int, int],
    boxes: Boxes | None,
    clicks: Clicks | None,
    known: Collection[int] = (),
) -> dict[int, Asked]:
    """Bring what is said of objects to one form.

    Args:
        frame_hw: height and width of the frame.
        boxes: by id; a box that reaches beyond the frame is cut off there.
        clicks: by id.
        known: ids of objects whose mask is known: clicks off them alone correct it.

    Returns:
        What is said of each object, in the order of the ids.

    Raises:
        MaskError: nothing is said, or not by id, an id is none, a box has no pixel of the frame, a
            click lies outside, or an object that is not known has neither a box nor a click on it.
    """
    for what, given in (("boxes", boxes), ("clicks", clicks)):
        if given is not None and not isinstance(given, Mapping):
            raise MaskError(
                f"received {what} {show(given)}; expected them by the id of their object, such as "
                f"{{1: {'(40, 30, 120, 80)' if what == 'boxes' else '[(100, 70, True)]'}}}"
            )
    drawn, clicked = dict(boxes or {}), dict(clicks or {})
    if not drawn and not clicked:
        raise MaskError("received no box and no click; expected one at least; draw one")
    asked = {}
    for object_id in sorted({_check_id(each) for each in (*drawn, *clicked)}):
        box = drawn.get(object_id)
        own = tuple(
            _check_click(click, object_id, frame_hw) for click in clicked.get(object_id, ())
        )
        said = Asked(None if box is None else _check_box(box, object_id, frame_hw), own)
        if said.box is None and not said.positive and not (own and object_id in known):
            raise MaskError(
                f"received for object {object_id} clicks off it alone; expected a box, or a click "
                "on it; add one"
            )
        asked[object_id] = said
    return asked


def _check_id(object_id: Any) -> int:
    known = as_whole(object_id)
    if known is None or not 1 <= known <= MAX_ID:
        raise MaskError(
            f"received object id {show(object_id)}; expected 1 to {MAX_ID}, a whole number"
        )
    return known


def _check_box(box: Any, object_id: int, frame_hw: tuple[int, int]) -> Corners:
    numbers = _read_numbers(box, (4,))
    if numbers is None or min(numbers[2:]) <= 0:
        raise MaskError(
            f"received the box {show(box)} of object {object_id}; expected x, y, width and height "
            "in pixels, the latter two above 0"
        )
    x, y, width, height = numbers
    left, top = max(0.0, x), max(0.0, y)
    right, bottom = min(x + width, float(frame_hw[1])), min(y + height, float(frame_hw[0]))
    if right - left < 1 or bottom - top < 1:
        raise MaskError(
            f"received the box {show(box)} of object {object_id}, which has no pixel of the frame; "
            f"expected one within {frame_hw[1]}x{frame_hw[0]} (width x height); draw it there"
        )
    return left, top, right, bottom


def _check_click(click: Any, object_id: int, frame_hw: tuple[int, int]) -> Click:
    numbers = _read_numbers(click, (2, 3))
    if numbers is None:
        raise MaskError(
            f"received the click {show(click)} of object {object_id}; expected x, y and whether "
            "the object is there"
        )
    x, y, *sign = numbers
    if not (-0.5 <= x < frame_hw[1] - 0.5 and -0.5 <= y < frame_hw[0] - 0.5):
        raise MaskError(
            f"received the click {show(click)} of object {object_id}, outside the frame; expected "
            f"one within {frame_hw[1]}x{frame_hw[0]} (width x height); click there"
        )
    return Click(x, y, bool(sign[0]) if sign else True)


def _read_numbers(value: Any, counts: tuple[int, ...]) -> list[float] | None:
    """Finite numbers, as many as wanted; None where it is something else."""
    try:
        numbers = [float(each) for each in value]
    except (TypeError, ValueError):
        return None
    fits = len(numbers) in counts and all(map(math.isfinite, numbers))
    return numbers if fits and not isinstance(value, str) else None
