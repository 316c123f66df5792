"""Boxes and clicks as a user types them: ``--box 2=10,20,30,40``, ``--click -5,6``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import click

from vcedge_runtime.video.masks import MAX_ID

Function = TypeVar("Function", bound=Callable[..., Any])
_NUMBER = r"\d+(?:\.\d+)?"
_ID = r"(?:(?P<id>\d+)=)?"
_BOX = re.compile(rf"{_ID}(?P<numbers>{_NUMBER}(?:,{_NUMBER}){{3}})")
_CLICK = re.compile(rf"{_ID}(?P<sign>[+-]?)(?P<numbers>{_NUMBER},{_NUMBER})")


class Prompt(NamedTuple):
    """A box or a click.

    Attributes:
        object_id: whose.
        numbers: x, y, width and height of a box; of a click x, y and 1 on the object, 0 off it.
    """

    object_id: int
    numbers: tuple[float, ...]


class BoxType(click.ParamType):  # type: ignore[type-arg]
    """``x,y,w,h``, or ``ID=x,y,w,h``."""

    name = "[ID=]X,Y,W,H"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Prompt:
        """Refuse what is neither."""
        if isinstance(value, Prompt):
            return value
        found = _BOX.fullmatch(value)
        object_id = _id_of(found)
        if found is None or object_id is None:
            self.fail(
                f"received {value!r}; expected x,y,width,height in pixels, such as 40,30,120,80, "
                f"or 2=40,30,120,80 for object 2 (1 to {MAX_ID})"
            )
        return Prompt(object_id, _numbers_of(found))


class ClickType(click.ParamType):  # type: ignore[type-arg]
    """``x,y`` on the object, ``-x,y`` off it, either with ``ID=`` in front."""

    name = "[ID=][+|-]X,Y"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Prompt:
        """Refuse what is neither."""
        if isinstance(value, Prompt):
            return value
        found = _CLICK.fullmatch(value)
        object_id = _id_of(found)
        if found is None or object_id is None:
            self.fail(
                f"received {value!r}; expected x,y in pixels, such as 100,70; -100,70 where the "
                f"object is not; 2=100,70 for object 2 (1 to {MAX_ID})"
            )
        return Prompt(object_id, (*_numbers_of(found), float(found["sign"] != "-")))


def prompted(function: Function) -> Function:
    """Give a command ``--box`` and ``--click``; it takes ``boxes`` and ``clicks``, by object id."""
    options = (
        click.option(
            "--box",
            "boxes",
            type=BoxType(),
            multiple=True,
            callback=_gather_boxes,
            help="A box around an object: left, top, width, height in pixels; may be given again, "
            "with ID= in front for several objects.",
        ),
        click.option(
            "--click",
            "clicks",
            type=ClickType(),
            multiple=True,
            callback=_gather_clicks,
            help="A place on an object, or off it with - in front; may be given again, likewise. "
            "What does not begin with a digit follows as --click=-5,6.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _gather_boxes(
    ctx: click.Context, param: click.Parameter, given: Sequence[Prompt]
) -> dict[int, tuple[float, ...]]:
    """Boxes by id: one an object."""
    boxes: dict[int, tuple[float, ...]] = {}
    for prompt in given:
        if prompt.object_id in boxes:
            raise click.BadParameter(
                f"received two boxes for object {prompt.object_id}; expected one an object; put "
                f"another id in front, such as {prompt.object_id % MAX_ID + 1}=...",
                ctx,
                param,
            )
        boxes[prompt.object_id] = prompt.numbers
    return boxes


def _gather_clicks(
    ctx: click.Context, param: click.Parameter, given: Sequence[Prompt]
) -> dict[int, list[tuple[float, ...]]]:
    clicks: dict[int, list[tuple[float, ...]]] = {}
    for prompt in given:
        clicks.setdefault(prompt.object_id, []).append(prompt.numbers)
    return clicks


def _id_of(found: re.Match[str] | None) -> int | None:
    """The id that was typed, 1 where none was; None where it is none."""
    object_id = int(found["id"] or 1) if found else 0
    return object_id if 1 <= object_id <= MAX_ID else None


def _numbers_of(found: re.Match[str]) -> tuple[float, ...]:
    return tuple(map(float, found["numbers"].split(",")))
