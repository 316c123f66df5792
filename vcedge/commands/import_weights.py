"""``vcedge import``: from weights that others published to weights and a bundle of ours."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vcedge.commands import export
from vcedge.commands.tables import open_console
from vcedge_runtime.errors import OutputError

if TYPE_CHECKING:
    from vcedge.models.published import Published

PROJECTS = ("stcn", "xmem")
"""Whose weights are read; ``vcedge.models.published``, which needs PyTorch, says how."""
FOREIGN = {
    *("source", "out", "radius", "temperature", "deform_conv"),
    *("local", "interval", "prototypes"),
    *("sampler", "fusion", "alignment", "motion", "value_extraction", "point_flow"),
}
"""Options of ``vcedge export`` that such a model has no use for."""


def _like_export(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command those options of ``vcedge export`` that its models have a use for."""
    own = [each for each in export.command.params if each.name not in FOREIGN]
    given: list[click.Parameter] = list(getattr(command, "__click_params__", []))
    command.__click_params__ = own[::-1] + given  # type: ignore[attr-defined]
    return command


@click.command(name="import")
@click.argument("project", type=click.Choice(PROJECTS))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="Of the bundle; the project's by default.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The bundle's folder, vcedge-out/bundles/NAME by default; the weights go beside it.",
)
@_like_export
@click.pass_context
def command(
    context: click.Context,
    /,
    project: str,
    file: Path,
    name: str | None,
    out: Path | None,
    **chosen: Any,
) -> None:
    """Make a bundle of FILE, weights that PROJECT published, and verify it.

    FILE is a state dict that PyTorch saved, alone or within a checkpoint; nothing in it is run, and
    every name and shape is checked before anything is written. NAME.safetensors has the same
    weights, for vcedge train --from, verify --against, and export in other precisions.

    A bundle that is not the model is written all the same, marked so, and the exit code is 1.
    """
    export.require_exporter()
    from vcedge.models.published import load_published

    stem = name or project
    suffix = "-int8" * chosen["int8"] + "-fp16" * chosen["fp16"]
    folder = out or Path("vcedge-out") / "bundles" / f"{stem}{suffix}"
    weights = folder.parent / f"{stem}.safetensors"
    if folder.exists() and not chosen["overwrite"]:
        raise OutputError(f"{folder} exists; pass --overwrite or choose another --out")
    published = load_published(project, file)
    _save(published, weights, overwrite=chosen["overwrite"])
    open_console().out(f"wrote {weights}, {published.facts['model']}'s", highlight=False)
    context.invoke(export.command, source=str(weights), out=folder, **chosen)


def _save(published: Published, path: Path, *, overwrite: bool) -> None:
    """Write the weights in our format, to the last bit.

    Raises:
        OutputError: other weights stand there, or the file cannot be written.
    """
    from vcedge.models.weights import load_weights, save_weights

    if path.exists() and not overwrite:
        origin = load_weights(path).facts.get("sha256")
        if origin != published.facts["sha256"]:
            raise OutputError(
                f"{shlex.quote(str(path))} exists and holds other weights; pass --overwrite or "
                "choose another --name"
            )
        return
    save_weights(published.network, path, published.facts, exact=True)
