"""``vcedge models``: the bundles that came with the package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from vcedge.commands.tables import make_table, open_console
from vcedge_runtime.errors import BundleError
from vcedge_runtime.model.bundle import (
    DEFAULT_LABEL_MODEL,
    DEFAULT_MODEL,
    MANIFEST,
    MODELS,
    PROMPT_MODEL,
    Bundle,
    shipped_models,
    shipped_prompt_models,
)
from vcedge_runtime.telling import tell_cause

COLUMNS = ("model", "profile", "precision", "default size", "verified", "accuracy", "MB")


@click.command(name="models")
def command() -> None:
    """List the models that came with vcedge, with what each was measured at."""
    console = open_console()
    names = [*shipped_models(), *shipped_prompt_models()]
    if not names:
        console.print(f"no model came with this installation ({MODELS} holds none)")
        console.print("next: vcedge train base --videos DIR, then vcedge export")
        return
    rows = []
    for bundle in map(Bundle.open, names):
        with reading_facts(bundle):
            rows.append(_row(bundle))
    console.print(make_table(COLUMNS, rows, left=6))
    tasks = ((DEFAULT_MODEL, "follows masks"), (DEFAULT_LABEL_MODEL, "follows points"))
    for name, task in (*tasks, (PROMPT_MODEL, "makes first masks of --box and --click")):
        if name in names:
            console.print(f"{name} {task} where --model is not given")
    tracking = shipped_models()
    if tracking:
        shown = DEFAULT_MODEL if DEFAULT_MODEL in tracking else tracking[0]
        console.print(f"next: vcedge track VIDEO --mask FIRST.png --model {shown}")


@contextmanager
def reading_facts(bundle: Bundle) -> Iterator[None]:
    """Refuse facts and a proof of another shape than ``export`` writes: they are told, not used.

    Raises:
        BundleError: they are.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as exc:
        raise BundleError(
            f"what {bundle.folder / MANIFEST} tells of weights or proof is damaged "
            f"({tell_cause(exc)}); run vcedge verify --save, or export again"
        ) from exc


def megabytes_of(bundle: Bundle) -> float:
    """Size of a bundle's graphs in 10^6 bytes."""
    return sum(bundle.path_of(name).stat().st_size for name in bundle.graphs) / 1e6


def describe_accuracy(weights: Mapping[str, Any]) -> str:
    """Say what a model was measured at; empty where its facts do not say.

    Args:
        weights: a bundle's facts; under ``accuracy`` a text, or ``j_and_f`` (0-1) and ``on``.
    """
    found = weights.get("accuracy")
    if not isinstance(found, Mapping):
        return str(found or "")
    place = f" on {found['on']}" if "on" in found else ""
    return f"J&F {found['j_and_f']:.3f}{place}" if "j_and_f" in found else ""


def describe_verification(verification: Mapping[str, Any]) -> str:
    """Say whether the graphs were shown to be the model."""
    if not verification:
        return "not verified"
    return "yes" if verification.get("passes") else "FAILED"


def _row(bundle: Bundle) -> tuple[str, ...]:
    precisions = sorted({graph.precision for graph in bundle.graphs.values()})
    return (
        bundle.name,
        bundle.profile,
        "+".join(precisions),
        str(bundle.composition.size),
        describe_verification(bundle.verification),
        describe_accuracy(bundle.weights) or "unknown",
        f"{megabytes_of(bundle):.1f}",
    )
