"""Write a bundle whole: its files in the precision that was asked for, and the proof."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial as bind
from pathlib import Path
from typing import Protocol

from vcedge_calibration.recording import CalibrationClip
from vcedge_export.int8 import Quantiser
from vcedge_export.plan import ExportOptions
from vcedge_export.precision import lower_precision, name_dearest
from vcedge_export.proof import OpenEngines, prove
from vcedge_export.verify import TruthClip
from vcedge_runtime.errors import ExportError, OutputError
from vcedge_runtime.files import writing_folder
from vcedge_runtime.model.bundle import MANIFEST, Bundle

ENGINES = "engines"
"""Folder of TensorRT's engines in a bundle's."""


class OnStage(Protocol):
    """Told what begins, and how far it is where that is known."""

    def __call__(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Take note."""


def ignore_stage(stage: str, done: int = 0, total: int = 0) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class UnprovenBundle:
    """A bundle in FP32 that is not proven yet.

    Attributes:
        bundle: whose files are written.
        whole: the same with everything switched on that it has: it is what is proven.
        open_source: opens an engine for each graph, of what it must be equal to.
    """

    bundle: Bundle
    whole: Bundle
    open_source: OpenEngines


def write_bundle(
    folder: Path,
    draft: Callable[[Path], UnprovenBundle],
    clip: TruthClip,
    options: ExportOptions,
    on_stage: OnStage = ignore_stage,
) -> Bundle:
    """Write a bundle and prove it.

    Nothing stands under the folder's name before the whole bundle is written.

    Args:
        folder: the bundle's folder.
        draft: writes the files in FP32 into a folder that is given.
        clip: what to verify on.
        options: the run-time choices.
        on_stage: told what begins, and how far it is.

    Raises:
        OutputError: the folder exists and may not be overwritten, is no bundle, holds what is not
            a bundle's, cannot be written, or another process writes it.
        ExportError: a graph cannot be rewritten, or INT8 loses more than the options allow.
        EngineError: an engine cannot be built; the bundle stands.
    """
    _require_free(folder, options.overwrite)
    with writing_folder(folder, ours=_list_files(folder)) as place:
        # Another export may have ended meanwhile.
        _require_free(folder, options.overwrite)
        made = draft(place)
        on_stage("precision")
        first = CalibrationClip(clip.label, clip.frames, clip.masks[0])
        bundle, quantisers = lower_precision(made.bundle, options, first)
        on_stage("verify")
        whole = replace(made.whole, graphs=bundle.graphs)
        found = prove(
            whole,
            made.open_source,
            clip,
            max_drop=options.max_drop,
            on_frame=bind(on_stage, "verify"),
        )
        proven = replace(bundle, verification=found)
        _refuse_loss(proven, quantisers, options.max_drop)
        proven.save()
    proven = replace(proven, folder=folder)
    if options.engines is None:
        return proven
    return _prove_engines(proven, replace(whole, folder=folder), made, clip, options, on_stage)


def _prove_engines(
    bundle: Bundle,
    whole: Bundle,
    made: UnprovenBundle,
    clip: TruthClip,
    options: ExportOptions,
    on_stage: OnStage,
) -> Bundle:
    """Build the engines of a bundle that stands, and write into it whether they are the model.

    Its own verdict stays: it is of the files, which other machines run.
    """
    assert options.engines is not None
    on_stage("engines")
    found = prove(
        whole,
        made.open_source,
        clip,
        max_drop=options.max_drop,
        on_frame=bind(on_stage, "verify engines"),
        open_exported=bind(options.engines, whole),
    )
    proven = replace(bundle, verification={**bundle.verification, "tensorrt": found})
    proven.save()
    return proven


def _require_free(folder: Path, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not overwrite:
        raise OutputError(f"{folder} exists; pass --overwrite or choose another --out")
    if not (folder / MANIFEST).is_file():
        raise OutputError(f"{folder} exists and is no bundle; remove it or choose another --out")


def _list_files(folder: Path) -> set[str]:
    """What of a bundle's folder is the bundle's own, by its manifest; its engines are."""
    own = {MANIFEST, ENGINES}
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        graphs = json.loads((folder / MANIFEST).read_text())["graphs"].values()
        own |= {str(graph["file"]) for graph in graphs}
    return own


def _refuse_loss(bundle: Bundle, quantisers: Mapping[str, Quantiser], max_drop: float) -> None:
    before, after = (bundle.verification[side] for side in ("score_model", "score_exported"))
    if quantisers and before - after > max_drop:
        raise ExportError(
            f"INT8 takes J&F from {before:.4f} to {after:.4f} on {bundle.verification['clip']}; "
            f"expected to lose {max_drop:.4f} at most. These layers cost most: "
            f"{name_dearest(quantisers)}. Keep some of them (--keep-layer), calibrate on more "
            "video or by another method, or allow more"
        )
