"""Boxes and clicks as a user types them: ``--box 2=10,20,30,40``, ``--click -5,6``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

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


class _PromptType(click.ParamType):  # type: ignore[type-arg]
    """What is typed as ``pattern`` says; ``expected`` tells it."""

    pattern: ClassVar[re.Pattern[str]]
    expected: ClassVar[str]

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Prompt:
        """Refuse what is none."""
        if isinstance(value, Prompt):
            return value
        found = self.pattern.fullmatch(value)
        object_id = _id_of(found)
        if found is None or object_id is None:
            self.fail(f"received {value!r}; expected {self.expected} (1 to {MAX_ID})")
        return Prompt(object_id, self._read(found))

    def _read(self, found: re.Match[str]) -> tuple[float, ...]:
        return tuple(map(float, found["numbers"].split(",")))


class BoxType(_PromptType):
    """``x,y,w,h``, or ``ID=x,y,w,h``."""

    name = "[ID=]X,Y,W,H"
    pattern = _BOX
    expected = "x,y,width,height in pixels, such as 40,30,120,80, or 2=40,30,120,80 for object 2"


class ClickType(_PromptType):
    """``x,y`` on the object, ``-x,y`` off it, either with ``ID=`` in front."""

    name = "[ID=][+|-]X,Y"
    pattern = _CLICK
    expected = (
        "x,y in pixels, such as 100,70; -100,70 where the object is not; 2=100,70 for object 2"
    )

    def _read(self, found: re.Match[str]) -> tuple[float, ...]:
        return (*super()._read(found), float(found["sign"] != "-"))


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
