"""``vcedge verify``: whether a bundle is the model that it came from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from vcedge.commands.inspect_bundle import difference_table
from vcedge.commands.options import BACKEND
from vcedge.commands.progress import current_builds
from vcedge.commands.proof_clip import describe_proof, proven_on
from vcedge.models.weights import Weights, load_weights, shipped_weights
from vcedge_export.dump import Dump
from vcedge_export.precision import open_engines
from vcedge_export.proof import open_modules, plan_bundle, prove, switch_on
from vcedge_export.tensorrt import open_whole
from vcedge_export.verify import OutputDifference, TruthClip
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.opening import BACKENDS
from vcedge_runtime.errors import BundleError, ExportError
from vcedge_runtime.files import write_whole
from vcedge_runtime.model.bundle import MANIFEST, Bundle


@click.command(name="verify")
@click.argument("bundle")
@click.option(
    "--against",
    help="What it must be equal to: weights (.safetensors or a shipped name), or another bundle of "
    "the model, in FP32. By default the shipped weights that the bundle was exported from.",
)
@proven_on
@BACKEND
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write every figure here.")
@click.option(
    "--dump",
    type=click.Path(path_type=Path),
    help="Folder for inputs and outputs of each graph, which Polygraphy loads.",
)
@click.option("--save", is_flag=True, help="Write the finding into the bundle's manifest.")
def command(
    bundle: str,
    against: str | None,
    clip: Callable[[], TruthClip],
    max_drop: float,
    backend: str,
    report: Path | None,
    dump: Path | None,
    save: bool,
) -> None:
    """Compare BUNDLE with its source on each graph and over a clip; exit with 1 if it differs."""
    opened = Bundle.open(bundle)
    source = None if against is None else _open_bundle(against)
    kept = None if dump is None else Dump(dump)
    open_source = (
        _source_engines(opened, against) if source is None else _engines_of(opened, source)
    )
    found = prove(
        switch_on(opened),
        open_source,
        clip(),
        max_drop=max_drop / 100,
        on_run=None if kept is None else kept.add,
        open_exported=None if backend == "cpu" else partial(_open_on, opened, backend),
    )
    console = Console()
    describe_proof(console, found, against or "its weights")
    console.print(difference_table(found))
    if report is not None:
        write_whole(report, (json.dumps(found, indent=1) + "\n").encode())
        console.out(f"wrote {report}", highlight=False)
    if save:
        before = opened.verification
        others = {each: before[each] for each in BACKENDS if each in before}
        proof = {**before, backend: found} if backend != "cpu" else {**found, **others}
        replace(opened, verification=proof).save()
        console.out(f"wrote {opened.folder / MANIFEST}", highlight=False)
    if kept is not None:
        files = kept.write()
        console.out(f"wrote {len(files)} files to {kept.folder}", highlight=False)
        worst = find_worst(found)
        console.out(f"to bisect {worst.tensor}, whose error is nearest to its bound or beyond:")
        graph = worst.tensor.partition(".")[0]
        path = None if source is None else source.path_of(graph)
        console.out(kept.command_for(opened, worst, path), highlight=False)
    if not found["passes"]:
        console.print(f"[red]{opened.folder} is NOT the model[/red]")
        raise click.exceptions.Exit(1)


def _open_on(bundle: Bundle, backend: str) -> Mapping[str, Engine]:
    builds = current_builds()
    return open_whole(bundle, backend, tell=builds.tell, on_progress=builds.advance)


def find_worst(found: Mapping[str, Any]) -> OutputDifference:
    """The output whose error is the largest share of what it may be."""
    fields = OutputDifference.__dataclass_fields__
    rows = [OutputDifference(**{name: row[name] for name in fields}) for row in found["outputs"]]
    return max(rows, key=lambda row: (row.non_finite, row.share_of_bound))


def _open_bundle(against: str) -> Bundle | None:
    """Open what is named, unless weights are."""
    if Path(against).is_dir():
        return Bundle.open(against)
    return None


def _engines_of(bundle: Bundle, source: Bundle) -> Callable[[], dict[str, Engine]]:
    specs, others = (
        {name: graph.spec for name, graph in each.graphs.items()} for each in (bundle, source)
    )
    if specs != others or source.precision != "fp32":
        raise BundleError(
            f"{source.folder} ({source.profile}, {source.precision}) cannot prove {bundle.folder} "
            f"({bundle.profile}); expected a bundle in FP32 with the same graphs"
        )
    return lambda: open_engines(source, source.graphs)


def _source_engines(bundle: Bundle, against: str | None) -> Callable[[], dict[str, Engine]]:
    weights = _find_shipped(bundle) if against is None else load_weights(against)
    model = plan_bundle(weights, bundle)
    return lambda: open_modules(model)


def _find_shipped(bundle: Bundle) -> Weights:
    for name in shipped_weights():
        weights = load_weights(name)
        if _origin_of(weights.facts) == _origin_of(bundle.weights):
            return weights
    raise ExportError(
        f"{bundle.folder} was not exported from shipped weights; pass --against with its weights, "
        "or with a bundle of it in FP32"
    )


def _origin_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts without the accuracy, which a bundle that was composed otherwise does not claim."""
    return {name: value for name, value in facts.items() if name != "accuracy"}
