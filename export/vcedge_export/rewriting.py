"""From a bundle in FP32 to one in a lower precision, without PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vcedge_export.plan import ExportOptions
from vcedge_export.precision import open_engines
from vcedge_export.proof import switch_on
from vcedge_export.verify import TruthClip
from vcedge_export.writing import OnStage, UnprovenBundle, ignore_stage, write_bundle
from vcedge_runtime.errors import ExportError
from vcedge_runtime.model.bundle import Bundle, name_after
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.object_composition import ObjectComposition

TRACED = ("radius", "top_k", "temperature", "deform_conv")
"""Options that are written into the graphs when PyTorch traces them, or belong to those."""


def rewrite_bundle(
    source: Bundle,
    folder: Path,
    clip: TruthClip,
    options: ExportOptions,
    on_stage: OnStage = ignore_stage,
) -> Bundle:
    """Write a bundle in a lower precision and prove it against the one that it is made of.

    Args:
        source: in FP32.
        folder: the new bundle's folder.
        clip: what to verify on.
        options: the precision, and changes of the run-time part.
        on_stage: told what begins, and how far it is.

    Raises:
        OutputError: the folder exists and may not be overwritten, is no bundle, or cannot be
            written.
        ExportError: the source is no bundle in FP32, the options need PyTorch or ask for nothing,
            a graph cannot be rewritten, or INT8 loses more than the options allow.
        EngineError: an engine cannot be built; the bundle stands.
        BundleError: the options cannot be.
    """
    if folder.resolve() == source.folder.resolve():
        raise ExportError(
            f"received {folder} as the bundle to read and to write; choose another --out"
        )
    composition = recompose_bundle(source, options)
    facts = dict(source.weights)
    if options.int8 or composition != source.composition:
        facts.pop("accuracy", None)

    def draft(partial: Path) -> UnprovenBundle:
        for name, graph in source.graphs.items():
            (partial / graph.file).write_bytes(source.read_graph(name))
        bundle = Bundle(
            partial, name_after(folder), source.profile, composition, source.graphs, weights=facts
        )
        return UnprovenBundle(
            bundle, switch_on(bundle), lambda: open_engines(source, source.graphs)
        )

    return write_bundle(folder, draft, clip, options, on_stage)


def recompose_bundle(source: Bundle, options: ExportOptions) -> Composition | ObjectComposition:
    """Choose the run-time part of a bundle that is rewritten.

    Raises:
        ExportError: the source is no bundle in FP32, or the options need PyTorch or ask for
            nothing.
        BundleError: the options cannot be.
    """
    if source.precision != "fp32":
        raise ExportError(
            f"received {source.folder}, a bundle in {source.precision}; expected one in FP32"
        )
    if not (options.fp16 or options.int8):
        raise ExportError(
            f"received the bundle {source.folder} without --fp16 or --int8; pass one of them, or "
            "weights, which PyTorch exports"
        )
    traced = [name for name in TRACED if getattr(options, name)]
    if traced:
        raise ExportError(
            f"received {', '.join(traced)} for the bundle {source.folder}, whose graphs hold it; "
            "leave it out, or export weights, which needs PyTorch"
        )
    composition = source.tracking.exchange(**options.overrides)
    return composition if options.size is None else replace(composition, size=options.size)
