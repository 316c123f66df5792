"""``vcedge verify``: whether a bundle is the model that it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from vcedge.commands.inspect_bundle import difference_table
from vcedge.commands.options import BACKEND
from vcedge.commands.progress import Stages
from vcedge.commands.proof_clip import describe_proof, describe_verdict, proven_on
from vcedge.commands.tables import open_console
from vcedge_export.differences import find_worst, read_outputs
from vcedge_export.tensorrt import open_whole
from vcedge_export.verify import TruthClip
from vcedge_runtime.buffers import Device
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.opening import BACKENDS
from vcedge_runtime.errors import BundleError, ExportError
from vcedge_runtime.files import write_json
from vcedge_runtime.model.bundle import MANIFEST, Bundle, shipped_models

if TYPE_CHECKING:
    from vcedge.models.weights import Weights
    from vcedge_export.dump import Dump


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
    """Compare BUNDLE with its source on each graph and over a clip; exit with 1 if it differs.

    On a back-end with a device, a tracker whose memory is there is run over the clip as well.
    """
    from vcedge_export.proof import prove, switch_on

    opened, console = Bundle.open(bundle), open_console()
    source = _find_source(opened, against, backend)
    kept = None if dump is None else _open_dump(dump)
    with Stages(console, "verify").shown() as stages:
        found = prove(
            switch_on(opened),
            _engines_of(opened, source),
            clip(),
            max_drop=max_drop / 100,
            on_run=None if kept is None else kept.add,
            on_frame=partial(stages, "frames"),
            open_exported=(
                None if backend == "cpu" else partial(_open_on, console, stages, opened, backend)
            ),
        )
    told = f"{source.folder}" if isinstance(source, Bundle) else against or "its weights"
    describe_proof(console, found, told)
    console.print(difference_table(found))
    if report is not None:
        write_json(report, found)
        console.out(f"wrote {report}", highlight=False)
    if save:
        before = opened.verification
        others = {each: before[each] for each in BACKENDS if each in before}
        proof = {**before, backend: found} if backend != "cpu" else {**found, **others}
        replace(opened, verification=proof).save()
        console.out(f"wrote {opened.folder / MANIFEST}", highlight=False)
    if kept is not None:
        _write_dump(console, kept, opened, found, source)
    what = f"{opened.folder}" + f" on {backend}" * (backend != "cpu")
    console.out(describe_verdict(found, what), highlight=False)
    if not found["passes"]:
        raise click.exceptions.Exit(1)


def _open_dump(folder: Path) -> Dump:
    from vcedge_export.dump import Dump

    return Dump(folder)


def _write_dump(
    console: Console,
    kept: Dump,
    bundle: Bundle,
    found: Mapping[str, Any],
    source: Bundle | Weights,
) -> None:
    files = kept.write()
    console.out(f"wrote {len(files)} files to {kept.folder}", highlight=False)
    worst = find_worst(read_outputs(found))
    console.out(f"to bisect {worst.tensor}, whose error is nearest to its bound or beyond:")
    exported = source if isinstance(source, Bundle) else None
    console.out(kept.command_for(bundle, worst, exported), highlight=False)


def _open_on(
    console: Console, stages: Stages, bundle: Bundle, backend: str
) -> tuple[Mapping[str, Engine], Device | None]:
    tell = partial(console.out, highlight=False)
    return open_whole(bundle, backend, tell=tell, on_progress=stages.advance)


def _find_source(bundle: Bundle, against: str | None, backend: str) -> Bundle | Weights:
    """What a bundle must be equal to: another one, or weights, which need PyTorch.

    Without PyTorch the shipped bundle of the same weights stands for them, unless it is to prove
    itself.
    """
    if against is not None and Path(against).is_dir():
        return Bundle.open(against)
    if find_spec("torch") is None:
        for name in shipped_models():
            shipped = Bundle.open(name)
            same = _origin_of(shipped.weights) == _origin_of(bundle.weights)
            itself = shipped.graphs == bundle.graphs and backend == "cpu"
            if same and against in (None, name) and not itself and shipped.precision == "fp32":
                return shipped
    from vcedge.models.weights import load_weights

    return _find_shipped(bundle) if against is None else load_weights(against)


def _engines_of(bundle: Bundle, source: Bundle | Weights) -> Callable[[], dict[str, Engine]]:
    if not isinstance(source, Bundle):
        from vcedge_export.planning import open_modules, plan_bundle

        model = plan_bundle(source, bundle)
        return lambda: open_modules(model)
    from vcedge_export.precision import open_engines

    specs, others = (
        {name: graph.spec for name, graph in each.graphs.items()} for each in (bundle, source)
    )
    if specs != others or source.precision != "fp32":
        raise BundleError(
            f"{source.folder} ({source.profile}, {source.precision}) cannot prove {bundle.folder} "
            f"({bundle.profile}); expected a bundle in FP32 with the same graphs"
        )
    return lambda: open_engines(source, source.graphs)


def _find_shipped(bundle: Bundle) -> Weights:
    from vcedge.models.weights import NOT_INSTALLED, load_weights, shipped_weights

    names = shipped_weights()
    if not names:
        raise ExportError(f"received {bundle.folder} without --against{NOT_INSTALLED}")
    for name in names:
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
