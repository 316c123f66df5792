"""``vcedge inspect``: what a bundle holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click
from rich.table import Table

from vcedge.commands.models import (
    describe_accuracy,
    describe_verification,
    megabytes_of,
    reading_facts,
)
from vcedge.commands.tables import make_fact_list, make_table, open_console
from vcedge_runtime.frames.colour import InputColour
from vcedge_runtime.memory.references import ReferencePolicy
from vcedge_runtime.model.bundle import DEFAULT_MODEL, Bundle, read_manifest
from vcedge_runtime.model.composition import LABEL_PARTS, Composition, Part, kind_of
from vcedge_runtime.model.object_composition import ObjectComposition
from vcedge_runtime.model.prompt_composition import PromptComposition
from vcedge_runtime.predictors.requirements import takes_flow


@click.command(name="inspect")
@click.argument("bundle", default=DEFAULT_MODEL)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as it is written.")
def command(bundle: str, as_json: bool) -> None:
    """Show what BUNDLE (a folder or a shipped model's name) holds.

    Every file is compared with its sha256 first.
    """
    opened = Bundle.open(bundle)
    if as_json:
        click.echo(json.dumps(read_manifest(opened.folder), indent=1))
        return
    console = open_console()
    with reading_facts(opened):
        tables = (
            ("", make_fact_list(_facts(opened))),
            ("graphs", _graph_table(opened)),
            ("tensors", _tensor_table(opened)),
            ("weights", make_fact_list(_plain_facts(opened.weights))),
            ("verification", make_fact_list(_verification_facts(opened.verification))),
            ("", difference_table(opened.verification)),
            ("layers in FP32", island_table(opened)),
        )
    for title, table in tables:
        if title:
            console.print(f"\n[bold underline]{title}[/]")
        if table.row_count:
            console.print(table)
        elif title:
            console.print("all" if title == "layers in FP32" else "nothing is recorded")


def _facts(bundle: Bundle) -> list[tuple[str, str]]:
    return [
        ("model", f"{bundle.name}, profile {bundle.profile}"),
        ("folder", f"{bundle.folder} ({megabytes_of(bundle):.1f} MB)"),
        ("sha256", f"all {len(bundle.graphs)} files are what was exported"),
        ("accuracy", describe_accuracy(bundle.weights) or "unknown"),
        ("verified", describe_verification(bundle.verification)),
        ("working size", f"{bundle.composition.size} pixels, the short side"),
        ("input", _describe_colour(bundle.composition.colour)),
        *_own_facts(bundle),
    ]


def _own_facts(bundle: Bundle) -> list[tuple[str, str]]:
    if isinstance(bundle.composition, PromptComposition):
        return _prompt_facts(bundle.composition)
    parts = bundle.tracking
    own = _label_facts(bundle, parts) if isinstance(parts, Composition) else _object_facts(parts)
    return [
        ("key", f"{parts.key_dim} channels, one each {parts.stride}x{parts.stride} pixels"),
        ("top-k", "all" if parts.top_k is None else str(parts.top_k)),
        ("edges", "masks are brought to the frame's own" if parts.edges else "interpolated"),
        ("slots", _describe_slots(parts)),
        *own,
    ]


def _describe_slots(parts: Composition | ObjectComposition) -> str:
    views = len(parts.scales) if isinstance(parts, ObjectComposition) else 0
    read = f"{parts.slots} frames held, {parts.memory.references - views} read at most"
    return f"{read}, and {views} views of the first" if views else read


def _describe_colour(colour: InputColour) -> str:
    mean, scale = (" ".join(f"{x:g}" for x in row) for row in (colour.mean, colour.scale))
    return f"{colour.space}, less {mean}, divided by {scale}"


def _label_facts(bundle: Bundle, parts: Composition) -> list[tuple[str, str]]:
    window = 2 * parts.radius + 1
    return [
        ("window", f"{window}x{window} cells (radius {parts.radius}) of each reference"),
        ("temperature", f"{parts.temperature:g}"),
        *((part, _describe_part(part, getattr(parts, part))) for part in LABEL_PARTS),
        ("optical flow", _describe_switch(parts.motion, takes_flow(bundle.graphs["encoder"].spec))),
        (
            "value extraction",
            _describe_switch(parts.value_extraction, "value_extraction" in bundle.graphs),
        ),
        ("points follow flow", _describe_switch(parts.point_flow, True)),
    ]


def _describe_switch(on: bool, there: bool) -> str:
    return "yes" if on else "can be switched on" if there else "no"


def _object_facts(parts: ObjectComposition) -> list[tuple[str, str]]:
    local = {
        "fam": "aligned to the current one",
        "raw": "read as it is",
        "off": "not read on its own",
    }
    before = f"the frame {parts.interval} before, {local[parts.local]}"
    return [
        ("value", f"{parts.value_dim} channels"),
        ("memory", _describe_part("memory", parts.memory)),
        ("window", _describe_part("window", parts.window)),
        (
            "frames",
            "in a border of whole cells" if parts.fit == "pad" else "resized to whole cells",
        ),
        ("local memory", before if parts.mixes else "none"),
        ("prototypes", _describe_switch(parts.prototypes, parts.mixes)),
        ("state", f"{parts.hidden_dim} channels of each object" if parts.hidden_dim else "none"),
    ]


def _prompt_facts(parts: PromptComposition) -> list[tuple[str, str]]:
    return [
        ("makes", "first masks, of boxes and clicks"),
        ("window", f"a box and {parts.margin:.0%} of its longer side around it"),
        ("click", f"a disc of {parts.disc} pixels' radius"),
    ]


def _describe_part(part: str, settings: Part) -> str:
    if isinstance(settings, ReferencePolicy):
        long, short = (", ".join(map(str, frames)) for frames in (settings.long, settings.short))
        return f"references: frames {long}, and {short} before the current one"
    kind, values = kind_of(part, settings), asdict(settings)
    given = ", ".join(f"{name} {value}" for name, value in values.items())
    return f"{kind}: {given}" if given else kind


def _graph_table(bundle: Bundle) -> Table:
    rows = [
        (
            name if graph.file == f"{name}.onnx" else f"{name} ({graph.file})",
            graph.precision,
            f"{bundle.path_of(name).stat().st_size / 1e6:.2f}",
            f"{graph.macs_per_pixel:,.0f}" if graph.macs_per_pixel else "",
            f"{graph.macs_per_object:,.0f}" if graph.macs_per_object else "",
            graph.sha256[:12],
        )
        for name, graph in bundle.graphs.items()
    ]
    columns = ("graph", "precision", "MB", "MAC/pixel", "and object", "sha256")
    return make_table(columns, rows, left=2)


def _tensor_table(bundle: Bundle) -> Table:
    rows = [
        (name, side, tensor.name, tensor.dtype, ", ".join(map(str, tensor.shape)))
        for name, graph in bundle.graphs.items()
        for side, tensors in (("in", graph.spec.inputs), ("out", graph.spec.outputs))
        for tensor in tensors
    ]
    return make_table(("graph", "", "tensor", "dtype", "shape"), rows, left=5)


def _plain_facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, value if isinstance(value, str) else json.dumps(value))
        for name, value in facts.items()
    ]


def _verification_facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    return _describe_proof(found) if found else []


def _describe_proof(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    mean, lowest = found["mask_iou"]
    return [
        ("passes", describe_verification(found)),
        ("clip", f"{found['clip']}, {found['frames']} frames"),
        ("J&F", f"{found['score_exported']:.4f} exported, {found['score_model']:.4f} the model"),
        ("mask IoU", f"mean {mean:.5f}, lowest {lowest:.5f}"),
    ]


def difference_table(found: Mapping[str, Any]) -> Table:
    """Lay out how far each output is from the model's, as verification found it."""
    rows = [
        (
            str(row["tensor"]),
            *(_figure(row[name], ".2e") for name in ("largest", "mean")),
            _figure(row.get("median"), ".2e"),
            _figure(row["magnitude"], ".2e"),
            _figure(row["cosine"], ".8f"),
            str(row["non_finite"]),
        )
        for row in found.get("outputs", ())
    ]
    columns = ("output", "max error", "mean error", "median", "max value", "cosine", "NaN, inf")
    return make_table(columns, rows)


def _figure(value: float | None, form: str) -> str:
    """Write a figure; None is one that is not finite, or that nobody measured."""
    return "nan" if value is None else format(value, form)


def island_table(bundle: Bundle) -> Table:
    """Lay out what computes in FP32 in a bundle of a lower precision, and why."""
    rows = [
        (name, reason, str(len(nodes)))
        for name, graph in bundle.graphs.items()
        for reason, nodes in graph.islands.items()
    ]
    return make_table(("graph", "stays in FP32", "nodes"), rows, left=2)
