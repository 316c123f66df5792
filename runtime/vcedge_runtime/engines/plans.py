"""Engines on disk: a plan beside its facts, found again only where every fact is the same.

A plan is a program for the GPU. So only those run that lie where nobody but this user writes.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vcedge_runtime.errors import OutputError
from vcedge_runtime.files import unwritable, write_whole
from vcedge_runtime.model.bundle import Bundle

Facts = Mapping[str, Any]
"""Everything that can make a plan wrong, as plain JSON values: the graph's sha256, TensorRT's
version, the compute capability, precision, sizes and flags."""


class Span(NamedTuple):
    """How far a length of a graph differs from run to run.

    Attributes:
        least: the shortest.
        usual: where the engine shall be fastest.
        most: the longest.
    """

    least: int
    usual: int
    most: int


OWN_LEVELS = 3
"""Folders of the user's cache that are ours: ``vcedge/engines/NAME``."""
Lengths = Mapping[str, int]
"""Every named length of one run of a graph."""
FindSpans = Callable[[Lengths], Mapping[str, Span]]
"""From the lengths of a first run to those that are not the same in each; others may be named."""


@dataclass(frozen=True)
class Found:
    """What a cache has for a graph.

    Attributes:
        plan: the engine; None where it must be built.
        reason: why it must, in words; empty otherwise.
    """

    plan: bytes | None
    reason: str = ""


@dataclass(frozen=True)
class BuildProgress:
    """How far a build is.

    Attributes:
        graph: what is built.
        phase: TensorRT's name of what it does.
        done: steps that are done.
        steps: all of them.
    """

    graph: str
    phase: str
    done: int
    steps: int


def ignore_progress(progress: BuildProgress) -> None:
    """Report nothing."""


class PlanCache:
    """A folder of plans, ``GRAPH.KEY.plan``, each with its facts in ``GRAPH.KEY.json``.

    Args:
        folder: made when the first plan is stored.
        levels: how many folders, this one and those above it, must be the user's alone.
    """

    def __init__(self, folder: Path, levels: int = 1) -> None:
        self.folder = folder
        self._own = [folder, *folder.parents][:levels][::-1]

    def find(self, graph: str, facts: Facts) -> Found:
        """Look for a plan.

        Args:
            graph: its name.
            facts: what it must have been built with.
        """
        foreign = self._find_foreign()
        if foreign:
            return Found(None, foreign)
        plan, beside = self._paths(graph, facts)
        known = _read_facts(beside)
        content = self.read(plan.name)
        if known is not None and content:
            if hashlib.sha256(content).hexdigest() == known.get("sha256"):
                return Found(content)
            return Found(None, f"{plan} is damaged")
        return Found(None, self._explain(graph, facts))

    def store(self, graph: str, facts: Facts, plan: bytes, findings: Mapping[str, Any]) -> Path:
        """Keep a plan; nothing stands under its name before it is whole.

        Args:
            graph: its name.
            facts: what it was built with.
            plan: the engine.
            findings: what else is known of it, for people.

        Returns:
            The plan's file.

        Raises:
            OutputError: the folder cannot be written.
        """
        path, beside = self._paths(graph, facts)
        told = {"facts": dict(facts), "sha256": hashlib.sha256(plan).hexdigest(), **findings}
        self.keep(path.name, plan)
        self.keep(beside.name, (json.dumps(told, indent=1) + "\n").encode())
        return path

    def read(self, name: str) -> bytes:
        """Content of a file of the folder; nothing where it cannot be read, or is not ours."""
        if self._find_foreign():
            return b""
        try:
            return (self.folder / name).read_bytes()
        except OSError:
            return b""

    def keep(self, name: str, content: bytes) -> None:
        """Keep another file beside the plans, whole.

        Raises:
            OutputError: the folder cannot be written, or others may write to it.
        """
        try:
            self._own[0].parent.mkdir(parents=True, exist_ok=True)
            for folder in self._own:
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as exc:
            raise unwritable(self.folder, exc) from exc
        foreign = self._find_foreign()
        if foreign:
            raise OutputError(f"{foreign}; make it yours alone, or set XDG_CACHE_HOME to another")
        write_whole(self.folder / name, content, synced=True)

    def _find_foreign(self) -> str:
        """Say which of our folders others may write to; nothing where none."""
        for folder in self._own:
            try:
                found = folder.lstat()
            except OSError:
                continue
            if not stat.S_ISDIR(found.st_mode):
                return f"{folder} is no folder"
            if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return f"{folder} may be written by others, and an engine is a program"
        return ""

    def _paths(self, graph: str, facts: Facts) -> tuple[Path, Path]:
        text = json.dumps(facts, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self.folder / f"{graph}.{key}.plan", self.folder / f"{graph}.{key}.json"

    def _explain(self, graph: str, facts: Facts) -> str:
        """Say how the nearest plan of the graph differs."""
        differences = []
        for path in sorted(self.folder.glob(f"{graph}.*.json")):
            known = (_read_facts(path) or {}).get("facts")
            if isinstance(known, dict):
                names = sorted(name for name in facts if known.get(name) != facts[name])
                differences.append((len(names), names, known))
        if not differences:
            return "there is none yet"
        _, names, known = min(differences, key=lambda found: found[0])
        told = ", ".join(f"{name} {known.get(name)} instead of {facts[name]}" for name in names)
        return f"the nearest was built for {told}" if told else "its plan is missing"


def choose_folder(bundle: Bundle) -> Path:
    """Where a bundle's engines are kept: in the user's own cache, whoever wrote the bundle."""
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not home.is_absolute():
        try:
            home = Path.home() / ".cache"
        except RuntimeError:
            # A user without a home is one without a cache: what is built is not kept.
            home = Path("/.cache")
    return home / "vcedge" / "engines" / bundle.name


def _read_facts(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
