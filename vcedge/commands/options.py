"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, wraps
from types import MappingProxyType
from typing import Any, TypeVar, cast

import click

from vcedge.commands.progress import current_builds
from vcedge_runtime.engines.opening import AUTO, BACKENDS
from vcedge_runtime.errors import BundleError
from vcedge_runtime.frames.motion import FLOW_SCALES
from vcedge_runtime.frames.resizing import LARGEST_SIZE
from vcedge_runtime.model import composition
from vcedge_runtime.model.bundle import DEFAULT_LABEL_MODEL, DEFAULT_MODEL, Bundle
from vcedge_runtime.model.composition import KINDS, part_from_text
from vcedge_runtime.model.object_composition import LOCALS
from vcedge_runtime.model.presets import PRESETS
from vcedge_runtime.tracker import MOST_THREADS, Tracker

Command = TypeVar("Command", bound=Callable[..., Any])

_MODEL_HELP = "A shipped model's name or the folder of a bundle"
MODEL = click.option("--model", default=DEFAULT_MODEL, show_default=True, help=f"{_MODEL_HELP}.")
LABEL_MODEL = click.option(
    "--model",
    default=DEFAULT_LABEL_MODEL,
    show_default=True,
    help=f"{_MODEL_HELP}; one that propagates labels, as points need it.",
)
MODEL_OF_TASK = click.option(
    "--model",
    help=f"{_MODEL_HELP}; {DEFAULT_MODEL} by default, and {DEFAULT_LABEL_MODEL} for points.",
)
SIZE = click.option(
    "--size",
    type=click.IntRange(min=16, max=LARGEST_SIZE),
    help="Working size, the short side in pixels (less for frames longer than 8 to 1); the model's "
    "own by default.",
)
FAST = click.option(
    "--fast",
    is_flag=True,
    help="A smaller working size, 256 for the shipped models: srnet-lite is four times as fast "
    "as in 480, and its J&F is 0.869 instead of 0.884.",
)
ACCURATE = click.option(
    "--accurate",
    is_flag=True,
    help="The working size in which the model scored best: its own, 480 for the shipped models, as "
    "without --size.",
)
FAST_SHARE = 256 / 480
"""Of the model's own working size (our choice, of those that were measured)."""
THREADS = click.option(
    "--threads",
    type=click.IntRange(min=0, max=MOST_THREADS),
    default=0,
    show_default=True,
    help="Threads of an engine; 0 lets it choose.",
)


_BACKEND_HELP = "What runs the graphs: ONNX Runtime on the CPU or in CUDA, or TensorRT"
BACKEND = click.option(
    "--backend",
    type=click.Choice([name for name in BACKENDS if name != AUTO]),
    default="cpu",
    show_default=True,
    help=f"{_BACKEND_HELP}.",
)
BACKEND_OF_MACHINE = click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default=AUTO,
    show_default=True,
    help=f"{_BACKEND_HELP}; with auto, the fastest of those that are here.",
)
CUDA_GRAPHS = click.option(
    "--cuda-graphs/--no-cuda-graphs",
    default=None,
    help="Record a GPU's runs and play them again: TensorRT does by default, where shapes come "
    "again; ONNX Runtime does not.",
)
EDGES = click.option(
    "--edges/--no-edges",
    default=None,
    help="Bring masks to the frame's own edges; the model's own choice by default.",
)
MOTION = click.option(
    "--motion/--no-motion",
    default=None,
    help="Add optical flow to the frames (MER); the model's own choice by default.",
)
VALUES = click.option(
    "--values/--no-values",
    "value_extraction",
    default=None,
    help="Refine keys by the value extraction (MER); the model's own choice by default.",
)
POINT_FLOW = click.option(
    "--point-flow/--no-point-flow",
    default=None,
    help="Follow points by optical flow between frames, and by labels alone where that loses them; "
    "the model's own choice by default.",
)
FLOW_SCALE = click.option(
    "--flow-scale",
    type=click.Choice(FLOW_SCALES),
    help="What optical flow is measured in: key cells, the short side, or the frame's largest "
    "motion; as the model was trained by default.",
)
VALUE_FRAMES = click.option(
    "--value-frames",
    type=click.Choice(composition.VALUE_FRAMES),
    help="Whose value map refines a reference (MER, eq. 11): that of the frame that reads it, or "
    "its own; the model's own choice by default.",
)
PRESET = click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="The run-time part as a paper prints it, without what is ours; other options come before.",
)

LOCAL = click.option(
    "--local",
    type=click.Choice(LOCALS),
    help="SRNet's local memory, the frame before: aligned, read as it is, or not read; the model's "
    "own choice by default.",
)
INTERVAL = click.option(
    "--interval",
    type=int,
    help="Distance of SRNet's local memory in frames; the model's own by default.",
)
DOUBT = click.option(
    "--doubt",
    type=float,
    help="Score below which SRNet does not take an object back that was away, 0 to 1; the model's "
    "own by default.",
)
PROTOTYPES = click.option(
    "--prototypes/--no-prototypes",
    default=None,
    help="Run SRNet's prototype transformer; the model's own choice by default.",
)


class PartType(click.ParamType):  # type: ignore[type-arg]
    """A part of the model: a kind, with settings or without, which stays as the user wrote it.

    Args:
        part: a key of ``KINDS``.
    """

    def __init__(self, part: str) -> None:
        self.name = part

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Show the kinds."""
        return f"[{'|'.join(KINDS[self.name])}][:SETTING=VALUE,...]"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse what cannot be, before a model is opened."""
        try:
            part_from_text(self.name, value)
        except BundleError as exc:
            self.fail(str(exc), param, ctx)
        return value


def _part_option(part: str, about: str) -> Callable[[Command], Command]:
    """Option that exchanges a part of the model for one of another kind."""
    return click.option(
        f"--{part}", type=PartType(part), help=f"{about}; the model's own by default."
    )


MEMORY = _part_option("memory", "Which frames are read")
SAMPLER = _part_option("sampler", "Where in them a cell looks")
FUSION = _part_option("fusion", "How what was read becomes one label")
ALIGNMENT = _part_option("alignment", "Whether windows follow the objects")
WINDOW = _part_option("window", "What is looked at of a frame: all, or what surrounds the objects")

OVERRIDES: dict[str, Callable[[Any], Any]] = {
    "edges": EDGES,
    "prototypes": PROTOTYPES,
    "doubt": DOUBT,
    "interval": INTERVAL,
    "local": LOCAL,
    "value_extraction": VALUES,
    "motion": MOTION,
    "point_flow": POINT_FLOW,
    "flow_scale": FLOW_SCALE,
    "value_frames": VALUE_FRAMES,
    "alignment": ALIGNMENT,
    "fusion": FUSION,
    "sampler": SAMPLER,
    "memory": MEMORY,
    "window": WINDOW,
    "preset": PRESET,
}
"""Switches of the composition, by their keywords; the last one stands first in the help."""


def composed(function: Command) -> Command:
    """Give a command the switches of the composition; it takes one mapping, ``overrides``."""

    @wraps(function)
    def run(**given: Any) -> Any:
        switches = {name: given.pop(name) for name in OVERRIDES}
        changed = {name: value for name, value in switches.items() if value is not None}
        return function(**given, overrides=changed)

    return _give(cast(Command, run), *OVERRIDES.values())


def sized(function: Command) -> Command:
    """Give a command ``--size`` and what stands for a size; it takes ``size`` and ``fast``."""

    @wraps(function)
    def run(size: int | None, fast: bool, accurate: bool, **given: Any) -> Any:
        require_one_size(size, fast=fast, accurate=accurate)
        return function(**given, size=size, fast=fast)

    return _give(cast(Command, run), SIZE, ACCURATE, FAST)


def require_one_size(size: int | None, *, fast: bool, accurate: bool) -> None:
    """Refuse two options that both name the working size."""
    if (size is not None) + fast + accurate > 1:
        raise click.UsageError("pass one of --size, --fast and --accurate")


def tracked(model: Callable[[Any], Any] = MODEL) -> Callable[[Command], Command]:
    """Give a command the options of a tracker; it takes them as keywords for ``open_tracker``.

    Args:
        model: the option that names it.
    """
    return lambda function: _give(composed(opened(function)), SIZE, model)


def open_tracker(
    model: str | Bundle,
    *,
    overrides: Mapping[str, Any] = MappingProxyType({}),
    size: int | None = None,
    fast: bool = False,
    **engines: Any,
) -> Tracker:
    """Open a tracker by what ``tracked``, ``composed``, ``sized`` and ``opened`` give."""
    bundle = model if isinstance(model, Bundle) else Bundle.open(model)
    if fast:
        size = max(2 * bundle.composition.stride, round(FAST_SHARE * bundle.composition.size))
    return Tracker.open(bundle, size=size, overrides=overrides, **engines)


def opened(function: Command) -> Command:
    """Give a command the options of a back-end; it takes them as keywords for ``Tracker.open``.

    They come with ``tell``, which says a thing once, however many trackers a command opens, and
    ``on_progress``; both show engines that are built.
    """

    @wraps(function)
    def run(**given: Any) -> Any:
        builds = current_builds()
        return function(**given, tell=cache(builds.tell), on_progress=builds.advance)

    return _give(cast(Command, run), CUDA_GRAPHS, BACKEND_OF_MACHINE, THREADS)


def _give(function: Command, *options: Callable[[Any], Any]) -> Command:
    """Give a command options; the last one stands first in the help."""
    found: Any = function
    for option in options:
        found = option(found)
    return cast(Command, found)
