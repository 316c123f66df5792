"""Settings at their bounds track a video, and beyond them open no tracker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest

from tests.runtime.tracker.made import HEIGHT, WIDTH, MakeFrame, square
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.errors import BundleError, TrackerError
from vcedge_runtime.model.bundle import Bundle, shipped_models
from vcedge_runtime.model.composition import KINDS, LABEL_PARTS
from vcedge_runtime.sampling.regions import RegionSettings
from vcedge_runtime.sampling.sampling import MOST_REGIONS, open_sampler
from vcedge_runtime.settings import Bounds
from vcedge_runtime.tracker import Tracker

BESIDE: dict[tuple[str, float], dict[str, float]] = {
    ("candidates", 2): {"short": 1},
    ("short", 32): {"candidates": 128},
    ("radius_min", 64): {"radius_max": 64},
    ("radius_max", 2): {"radius_min": 2},
}
"""What a setting at its bound needs of another."""


def bounds_of(kind: type[Any]) -> Iterator[tuple[str, Any]]:
    """Every numeric setting with its least and its most, and every choice of the others."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        plain, *limits = get_args(hint)[:2] if get_origin(hint) is Annotated else (hint,)
        if plain in (int, float):
            (bounds,) = limits
            assert isinstance(bounds, Bounds)
            yield from ((name, plain(value)) for value in (bounds.least, bounds.most))
        elif plain is bool:
            yield from ((name, value) for value in (False, True))
        elif plain is str:
            yield from ((name, value) for value in limits[0])


SETTINGS = [
    pytest.param(part, name, setting, value, id=f"{name}-{setting}-{value}")
    for part, kinds in KINDS.items()
    for name, kind in kinds.items()
    for setting, value in bounds_of(kind)
] + [
    pytest.param("memory", "references", "long", [0, *range(1, 32)], id="references-long"),
    pytest.param("memory", "references", "short", [*range(1, 32), 128], id="references-short"),
]
MODELS = ("mer-edge", "srnet-lite")
Models = Mapping[str, tuple[Bundle, Mapping[str, Engine]]]


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    """A shipped model of each family, its graphs loaded once."""
    pytest.importorskip("onnxruntime", reason="onnxruntime runs the graphs; install vcedge[cpu]")
    from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine

    if not set(MODELS) <= set(shipped_models()):
        pytest.skip(f"{MODELS} are not there: `vcedge export` writes them")
    opened = {
        bundle.name: (
            bundle,
            {
                name: OnnxRuntimeEngine(bundle.read_graph(name), graph.spec, threads=1)
                for name, graph in bundle.graphs.items()
            },
        )
        for bundle in map(Bundle.open, MODELS)
    }
    yield opened
    for _, engines in opened.values():
        for engine in engines.values():
            engine.close()


@pytest.fixture
def track(models: Models, make_frame: MakeFrame) -> Callable[..., None]:
    """Track a short video with a second object from its middle on; the engines stay open."""

    def run(model: str, radius: int | None = None, **parts: Any) -> None:
        bundle, engines = models[model]
        composition = bundle.composition.exchange(**parts)
        if radius is not None:
            composition = replace(composition, radius=radius)
        tracker = Tracker(replace(bundle, composition=composition), engines, size=64)
        tracker.start(make_frame(HEIGHT, WIDTH), square(24, 30))
        held = tracker.memory_bytes
        for step in range(1, 7):
            if step == 4:
                assert tracker.memory_bytes == held
                tracker.add_object(2, square(8, 80))
            result = tracker.step(make_frame(HEIGHT, WIDTH, 3 * step))
            assert result.mask.shape == (HEIGHT, WIDTH)
            assert all(0 <= score <= 1 for score in result.scores.values())

    return run


@pytest.mark.parametrize(("part", "kind", "setting", "value"), SETTINGS)
def test_a_video_is_tracked_with_every_setting_at_its_bounds(
    track: Callable[..., None], part: str, kind: str, setting: str, value: Any
) -> None:
    beside = BESIDE.get((setting, value), {}) if not isinstance(value, list) else {}
    # What only models that segment objects have is zoom.
    of_labels = part in LABEL_PARTS and setting != "zoom"
    model = "mer-edge" if of_labels else "srnet-lite"
    track(model, **{part: {"kind": kind, setting: value, **beside}})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("memory", "local_global:capacity=2"),
        ("memory", "local_global:every=1,capacity=128"),
        ("memory", "dynamic:short=32,candidates=128,long=32"),
        ("local", "off"),
        ("local", "raw"),
        ("interval", 64),
        ("prototypes", False),
        ("edges", True),
    ],
)
def test_a_video_is_tracked_with_srnets_settings_at_their_bounds(
    track: Callable[..., None], setting: str, value: Any
) -> None:
    track("srnet-lite", **{setting: value})


@pytest.mark.parametrize("radius", [1, 64])
def test_a_video_is_tracked_with_windows_at_their_bounds(
    track: Callable[..., None], radius: int
) -> None:
    track("mer-edge", radius=radius)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"memory": "dynamic:short=3.5"},
            r"received short='3\.5' for DynamicPolicy; expected",
        ),
        ({"memory": "local_global:every=2.5"}, r"received every='2\.5' for LocalGlobalPolicy"),
        ({"alignment": "objects:reach=1000000"}, "received reach=1000000 .* 1 to 256"),
        ({"alignment": "objects:spread=1e308"}, "received spread=1e.308 .* 0.1 to 10000"),
        ({"sampler": "clusters:theta=nan"}, "received theta=nan"),
        ({"edges": "maybe"}, "received edges='maybe' for Composition; expected true or false"),
        ({"edges": 3}, "received edges=3 for Composition; expected true or false"),
        ({"memory": True}, "received memory=True for Composition; expected ReferencePolicy or"),
        ({"sampler": {"kind": "regions", "step": 2**70}}, "received step=1180591620717411303424"),
    ],
)
def test_what_cannot_be_is_refused_before_a_graph_is_loaded(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    bundle = Bundle.open("mer-edge")
    # Nothing can be loaded from here.
    with pytest.raises(BundleError, match=message):
        Tracker.open(replace(bundle, folder=tmp_path), overrides=given)


def test_what_a_user_writes_is_what_a_program_gives() -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime runs the graphs; install vcedge[cpu]")
    given = {"memory": "dynamic:adaptive=False", "edges": "off"}
    with Tracker.open("mer-edge", overrides=given) as tracker:
        parts = tracker.bundle.composition
    assert parts == Bundle.open("mer-edge").composition.exchange(memory="dynamic", edges=False)
    given = {"local": "raw", "interval": "2", "prototypes": "no"}
    with Tracker.open("srnet-lite", overrides=given) as tracker:
        parts = tracker.bundle.composition
    own = Bundle.open("srnet-lite").composition
    assert parts == replace(own, local="raw", interval=2, prototypes=False)


def test_more_regions_than_can_be_compared_are_refused() -> None:
    settings = RegionSettings(step=1)
    assert open_sampler(settings, 1, 1, (60, 108), 1).nbytes > 0
    with pytest.raises(TrackerError, match=f"which are 20000; expected at most {MOST_REGIONS}"):
        open_sampler(settings, 1, 1, (100, 200), 1)
