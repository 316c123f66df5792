"""Settings: what each may be stands in its annotation, and is checked here alone.

A frozen dataclass of settings annotates its fields ``bool``, ``Annotated[int, Bounds(1, 64)]``,
``Annotated[float, Bounds(0, 1)]``, ``Annotated[str, ("this", "that")]``, a class, or a tuple,
mapping or union of these, and calls ``check_settings`` in ``__post_init__``: so the command line,
Python and a bundle are held to the same. What a user writes is read by the same annotations.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from operator import index
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np

from vcedge_runtime.errors import BundleError, TrackerError
from vcedge_runtime.telling import make_printable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Kind = TypeVar("Kind", bound="DataclassInstance")

WORDS = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}
"""How a user may write a bool, in any case."""
NOTHING = ("none", "null")
"""How a user may write None, likewise."""
LEVELS, MOST_FACT = 16, 2**63
"""Values within each other, and magnitude of a whole number, where anything plain may be."""
SHOWN = 60
"""Most characters of a received value that a message repeats."""


@dataclass(frozen=True)
class Bounds:
    """Least and most, both included, of a number; of a tuple, of its length."""

    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.least:.10g} to {self.most:.10g}"


@dataclass(frozen=True)
class Form:
    """What a text must be like.

    Attributes:
        pattern: a regular expression of all of it.
        told: the same in words.
    """

    pattern: str
    told: str

    def __str__(self) -> str:
        return self.told

    def fits(self, text: str) -> bool:
        """Whether a text is like it."""
        return re.fullmatch(self.pattern, text) is not None


NAME = Form(
    r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}",
    "a name of up to 100 letters, digits, _ . + -, which begins with one of the first three",
)
"""What may become part of a path, of a command line or of a line on the terminal."""


class _UnfitError(Exception):
    """A value is not what its annotation says."""


def check_settings(settings: DataclassInstance) -> None:
    """Check every field of a frozen dataclass, and keep it as its annotation has it.

    A list becomes a tuple, a whole number a float where one is wanted, numpy's scalars Python's.

    Raises:
        BundleError: a value of another type, out of bounds, or not finite.
    """
    for name, hint in _hints_of(type(settings)).items():
        value = getattr(settings, name)
        try:
            object.__setattr__(settings, name, _fit(hint, value))
        except _UnfitError:
            raise BundleError(
                f"received {name}={show(value)} for {type(settings).__name__}; "
                f"expected {_describe(hint)}"
            ) from None


def check_plain(name: str, value: Any) -> None:
    """Refuse what is no plain JSON: text that does not print, numbers that are not finite.

    Raises:
        BundleError: it is.
    """
    try:
        _fit_plain(value)
    except _UnfitError:
        raise BundleError(f"received {name}={show(value)}; expected {_describe(Any)}") from None


def settings_from_mapping(kind: type[Kind], given: Any) -> Kind:
    """Make settings of values by name, such as those of a JSON object.

    Args:
        kind: a dataclass that checks its settings.
        given: a mapping; what is left out has its default.

    Raises:
        BundleError: no mapping, a name that is none of the settings, one without a default that is
            left out, or a value that cannot be.
    """
    known = [entry.name for entry in fields(kind)]
    if not isinstance(given, Mapping):
        raise BundleError(f"received {show(given)} for {kind.__name__}; expected its settings")
    for name in given:
        if name not in known:
            raise BundleError(
                f"received {show(name)} for {kind.__name__}; expected "
                f"{', '.join(known) or 'nothing: it has no settings'}"
            )
    try:
        return kind(**given)
    except TypeError as exc:
        raise BundleError(f"received {kind.__name__} without all settings: {exc}") from exc


def parse_setting(kind: type[DataclassInstance], name: str, text: str) -> Any:
    """Read a setting as a user writes it, by its annotation.

    Args:
        kind: the dataclass.
        name: of the field.
        text: such as ``3``, ``0.5``, ``off``, ``none``, ``fifo`` or ``[5,3,1]``.

    Returns:
        The value; the text itself where it is none, which the check of the settings refuses.
    """
    return _parse(_hints_of(kind)[name], text.strip())


def show(value: object) -> str:
    """Repeat a received value in a message: on one line, cut where it is long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        # Such as an int of more digits than Python writes.
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


@cache
def _hints_of(kind: type[DataclassInstance]) -> Mapping[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {entry.name: hints[entry.name] for entry in fields(kind)}


def _open_hint(hint: Any) -> tuple[Any, Any]:
    """The annotated type, and what limits it: ``Bounds``, choices, or None."""
    return get_args(hint)[:2] if get_origin(hint) is Annotated else (hint, None)


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


def _fit(hint: Any, value: Any) -> Any:
    """Return the value as its annotation has it, or raise ``_UnfitError``."""
    kind, limits = _open_hint(hint)
    if isinstance(value, np.generic):
        value = value.item()
    if kind in (int, float):
        return _fit_number(kind, limits, value)
    if _is_union(kind):
        return _fit_any(get_args(kind), value)
    if get_origin(kind) is tuple:
        return _fit_tuple(get_args(kind)[0], limits, value)
    if get_origin(kind) is Mapping:
        return _fit_mapping(get_args(kind), value)
    if kind is Any:
        return _fit_plain(value)
    if not isinstance(value, kind) or (kind is str and not _is_text(value, limits)):
        raise _UnfitError
    return value


def _is_text(value: str, limits: Form | Sequence[str] | None) -> bool:
    if isinstance(limits, Form):
        return limits.fits(value)
    # What does not print would break the line of a message, or of a file.
    return value.isprintable() if limits is None else value in limits


def _fit_plain(value: Any, levels: int = LEVELS) -> Any:
    """Return a JSON value: text that prints, finite numbers, and what holds them."""
    if levels == 0:
        raise _UnfitError
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {_fit(str, name): _fit_plain(entry, levels - 1) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_fit_plain(entry, levels - 1) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise _UnfitError
    return _fit_simple(value)


def _fit_simple(value: Any) -> Any:
    if value is not None and not isinstance(value, str | bool | int | float):
        raise _UnfitError
    # Blanks of every kind stand in names of files.
    if isinstance(value, str) and (value != make_printable(value) or not _is_line(value)):
        raise _UnfitError
    if isinstance(value, int) and abs(value) > MOST_FACT:
        raise _UnfitError
    return value


def _fit_number(kind: type[int | float], bounds: Bounds, value: Any) -> int | float:
    accepted = int if kind is int else (int, float)
    # True is an int to Python; NaN is within no bounds.
    if not isinstance(value, accepted) or isinstance(value, bool):
        raise _UnfitError
    if not bounds.least <= value <= bounds.most:
        raise _UnfitError
    return kind(value)


def _fit_any(options: tuple[Any, ...], value: Any) -> Any:
    for option in options:
        try:
            return _fit(option, value)
        except _UnfitError:
            continue
    raise _UnfitError


def _fit_tuple(hint: Any, length: Bounds | None, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _UnfitError
    if length is not None and not length.least <= len(value) <= length.most:
        raise _UnfitError
    return tuple(_fit(hint, entry) for entry in value)


def _fit_mapping(hints: tuple[Any, Any], value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _UnfitError
    return {_fit(hints[0], name): _fit(hints[1], entry) for name, entry in value.items()}


def _parse(hint: Any, text: str) -> Any:
    kind, _ = _open_hint(hint)
    if _is_union(kind):
        read = (_parse(option, text) for option in get_args(kind))
        return next((value for value in read if not isinstance(value, str)), text)
    if get_origin(kind) is tuple and text[:1] + text[-1:] == "[]":
        entries = text[1:-1].split(",") if text[1:-1].strip() else []
        return tuple(_parse(get_args(kind)[0], entry.strip()) for entry in entries)
    if kind is bool:
        return WORDS.get(text.lower(), text)
    if kind is NoneType:
        return None if text.lower() in NOTHING else text
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    return text.strip('"') if kind is str else text


def _is_line(text: str) -> bool:
    return "\n" not in text and "\t" not in text


def _describe_text(limits: Form | Sequence[str] | None) -> str:
    if isinstance(limits, Form):
        return str(limits)
    return "text that prints" if limits is None else f"one of {', '.join(limits)}"


def _describe(hint: Any) -> str:
    kind, limits = _open_hint(hint)
    if _is_union(kind):
        return " or ".join(_describe(option) for option in get_args(kind))
    if get_origin(kind) is tuple:
        count = "" if limits is None else f" of {limits}"
        return f"a list{count}, each {_describe(get_args(kind)[0])}"
    if get_origin(kind) is Mapping:
        return f"names, each with {_describe(get_args(kind)[1])}"
    if kind is str:
        return _describe_text(limits)
    plain = {
        bool: "true or false",
        NoneType: "none",
        int: "a whole number",
        float: "a number",
        Any: "plain values: text that prints, finite numbers",
    }
    name = plain[kind] if kind in plain else getattr(kind, "__name__", str(kind))
    return name if limits is None else f"{name}, {limits}"


def as_whole(value: object) -> int | None:
    """A whole number of whatever library as Python's own; None where it is something else."""
    try:
        return None if isinstance(value, bool | np.bool_) else index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def check_overrides(overrides: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Parts by name, none where there is None.

    Raises:
        TrackerError: it is something else.
    """
    if overrides is None:
        return {}
    if not isinstance(overrides, Mapping) or not all(isinstance(part, str) for part in overrides):
        raise TrackerError(
            f"received overrides {show(overrides)}; expected a mapping of parts by name, such as "
            '{"memory": "dynamic"}'
        )
    return overrides
