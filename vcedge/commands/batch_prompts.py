"""What a video of a manifest begins with: masks, boxes, clicks or points, in text or in JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from vcedge.commands.prompt_options import BoxType, ClickType
from vcedge.commands.track_masks import split_index
from vcedge.fleet.manifest import MASK
from vcedge_runtime.errors import ManifestError
from vcedge_runtime.reading import read_bounded
from vcedge_runtime.settings import show

PROMPTS = (MASK, "box", "click", "points", "from")
"""What a video begins with, by the names of ``track``'s options."""
MOST_PROMPTS = 2**20
"""Bytes of a file of prompts (our choice)."""
Prompt = tuple[tuple[str, str], ...]
"""Options of ``track`` without their dashes, each with its value."""
Refuse = Callable[[str, str], Any]
"""Refuses what was received; the second text says what was expected."""


def read_prompt(given: Mapping[str, Any], folder: Path, tell: Refuse) -> Prompt:
    """Read what a video begins with.

    Args:
        given: ``mask``, ``box``, ``click``, ``points`` and ``from``, as text (several separated by
            semicolons), or as JSON has them: lists of numbers, or by object id or frame.
        folder: that files are relative to.
        tell: refuses what is none.

    """
    foreign = [key for key in given if key not in PROMPTS]
    if foreign:
        tell(show(foreign[0]), f"one of {', '.join(PROMPTS)}")
    found: list[tuple[str, str]] = []
    for text in _list_texts(given.get(MASK), _join_frame, tell):
        index, path = split_index(text, folder)
        at = "" if index is None else f"{index}:"
        found.append((MASK, at + join_path(folder, path)))
    kinds = (("box", _join_box, BoxType()), ("click", _join_click, ClickType()))
    for key, join, kind in kinds:
        for text in _list_texts(given.get(key), join, tell):
            try:
                kind.convert(text, None, None)
            except click.UsageError as exc:
                tell(f"{show(text)} as {key}", exc.format_message().partition("expected ")[2])
            found.append((key, text))
    points = given.get("points")
    if points:
        if not isinstance(points, str):
            tell(f"{show(points)} as points", "the path of a CSV file with name,x,y")
        found.append(("points", join_path(folder, points)))
    start = str(given.get("from", ""))
    if start and not (start.isascii() and start.isdecimal()):
        tell(f"{show(start)} as from", "the index of a frame, which counts from 0")
    return (*found, *([("from", start)] if start else []))


def read_prompts(path: str) -> Prompt:
    """Read a JSON file of what a video begins with; see ``read_prompt``.

    Raises:
        ManifestError: it cannot be read, or says something else.
    """
    expected = 'an object such as {"mask": "first.png", "box": {"2": [40, 30, 120, 80]}}'

    def tell(received: str, expected: str) -> None:
        raise ManifestError(f"received {received} in {path}; expected {expected}")

    try:
        given = json.loads(read_bounded(path, MOST_PROMPTS))
    except (OSError, ValueError, RecursionError) as exc:
        raise ManifestError(f"received {path}, which cannot be read; expected {expected}") from exc
    if not isinstance(given, dict) or not given:
        tell(show(given), expected)
    return read_prompt(given, Path(path).parent, tell)


def join_path(folder: Path, path: str) -> str:
    """Name a file that a manifest names, from wherever it is looked at."""
    # As text: a path of each of many videos would stay in memory.
    return path if path.startswith(os.sep) else f"{folder.absolute()}{os.sep}{path}"


def _list_texts(value: Any, join: Callable[[str, Any], list[str]], tell: Refuse) -> list[str]:
    """What is said in one of the ways of a manifest, as the command line has it."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [text.strip() for text in value.split(";") if text.strip()]
    try:
        if isinstance(value, Mapping):
            return [text for key, each in value.items() for text in join(f"{key}=", each)]
        return join("", value)
    except (TypeError, ValueError):
        tell(show(value), "text, numbers in a list, or these by object id")
        raise


def _join_frame(key: str, value: Any) -> list[str]:
    if isinstance(value, list):
        return [text for each in value for text in _join_frame(key, each)]
    if not isinstance(value, str):
        raise TypeError
    return [f"{key[:-1]}:{value}" if key else value]


def _join_box(key: str, value: Any) -> list[str]:
    if isinstance(value, str):
        return [key + value]
    if _are_numbers(value):
        return [key + ",".join(map(str, value))]
    return [text for each in value for text in _join_box(key, each)]


def _join_click(key: str, value: Any) -> list[str]:
    if isinstance(value, str):
        return [key + value]
    if _are_numbers(value):
        x, y, *on = value
        return [f"{key}{'-' if on and not on[0] else ''}{x},{y}"]
    return [text for each in value for text in _join_click(key, each)]


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(n, int | float) for n in value)
