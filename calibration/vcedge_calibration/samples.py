"""Samples of what graphs are given, kept in a folder: recorded once, the same for every export."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vcedge_calibration.recording import Sample
from vcedge_runtime.errors import BundleError
from vcedge_runtime.files import write_json, writing_folder
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.telling import tell_cause

FORMAT = 1
FACTS = "calibration.json"


@dataclass(frozen=True)
class Recording:
    """What was recorded, in so many words that the same again gives the same.

    Attributes:
        model: the bundle's name.
        graphs: sha256 of each graph of the bundle.
        clips: label and sha256 of each clip, with its first mask.
        frames: most frames of a clip that were tracked.
        samples: most runs of each graph that were kept.
        size: working size.
        seed: of which runs.
    """

    model: str
    graphs: Mapping[str, str]
    clips: Sequence[tuple[str, str]]
    frames: int
    samples: int
    size: int
    seed: int

    @property
    def key(self) -> str:
        """A short name that differs wherever anything differs."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def save_samples(
    folder: Path, recording: Recording, samples: Mapping[str, Sequence[Sample]]
) -> None:
    """Write samples; the folder appears whole, in place of a former recording.

    Raises:
        OutputError: it cannot be written, or holds something else.
    """
    with writing_folder(folder, ours=_list_files(folder)) as place:
        for graph, runs in samples.items():
            arrays: dict[str, Any] = {
                f"{number}.{name}": array
                for number, run in enumerate(runs)
                for name, array in run.items()
            }
            np.savez(place / f"{graph}.npz", **arrays)
        facts = {"format": FORMAT, **asdict(recording)}
        write_json(place / FACTS, facts)


def load_samples(folder: Path) -> dict[str, list[Sample]]:
    """Read samples, by graph.

    Args:
        folder: as ``save_samples`` wrote it.

    Raises:
        BundleError: it is no such folder.
    """
    try:
        facts: Any = json.loads((folder / FACTS).read_text())
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']}, expected {FORMAT}")
        return {path.stem: _load(path) for path in sorted(folder.glob("*.npz"))}
    # numpy's files fail as zip, as Python's own tokens, and as memory that is asked for.
    except Exception as exc:
        raise BundleError(
            f"{folder} holds no calibration that can be read: {tell_cause(exc)}; "
            "run vcedge calibrate again"
        ) from exc


def find_recording(folder: Path) -> str | None:
    """Key of what a folder holds; None where it holds no recording."""
    try:
        facts = json.loads((folder / FACTS).read_text())
        del facts["format"]
        return Recording(**facts).key
    except Exception:
        return None


def _list_files(folder: Path) -> set[str]:
    """Files that a recording has, as its facts say; none where it has no facts."""
    try:
        graphs = json.loads((folder / FACTS).read_text())["graphs"]
        return {FACTS, *(f"{graph}.npz" for graph in graphs)}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def graphs_of(bundle: Bundle) -> dict[str, str]:
    """sha256 of each graph of a bundle."""
    return {name: graph.sha256 for name, graph in bundle.graphs.items()}


def _load(path: Path) -> list[Sample]:
    runs: dict[int, dict[str, Any]] = {}
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        for key in arrays.files:
            number, _, name = key.partition(".")
            runs.setdefault(int(number), {})[name] = arrays[key]
    return [runs[number] for number in sorted(runs)]
