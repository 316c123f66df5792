"""The shipped models on a real GPU; nothing here runs without one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from vcedge.doctor.nvidia import find_tensorrt
from vcedge_runtime.demo.clip import render_demo_clip
from vcedge_runtime.engines.cudart import Cuda
from vcedge_runtime.engines.onnxruntime import CUDA, engine_from_bundle, require_provider
from vcedge_runtime.errors import MissingExtraError, VcedgeError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.tracker import Tracker

if TYPE_CHECKING:
    from vcedge_export.verify import TruthClip

FRAMES = 30
"""From the 22nd on, SRNet reads as many frames as it ever does."""
BACKENDS = [
    pytest.param("cuda", marks=pytest.mark.gpu),
    pytest.param("tensorrt", marks=pytest.mark.tensorrt),
]
MODELS = ["mer-lite", "dmp-lite", "mer-edge", "srnet-lite"]


@pytest.fixture
def require(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Skip where a back-end is not there."""

    def require(backend: str) -> None:
        try:
            if backend == "tensorrt" and find_tensorrt() is None:
                raise MissingExtraError("there is no TensorRT")
            if backend == "cuda":
                require_provider(CUDA)
            Cuda().close()
        except VcedgeError as exc:
            if backend in os.environ.get("VCEDGE_REQUIRE", "").split(","):
                pytest.fail(str(exc))
            pytest.skip(str(exc))

    return require


@pytest.fixture(scope="module")
def clip() -> TruthClip:
    from vcedge_export.verify import TruthClip

    rendered = list(render_demo_clip(frames=FRAMES, frame_hw=(240, 432)))
    frames, masks = [list(column) for column in zip(*rendered, strict=True)]
    return TruthClip("demo clip", frames, masks)


@pytest.fixture
def bundle(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Bundle:
    """A shipped model, for which no engines are kept yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Bundle.open(request.param)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bundle", MODELS, indirect=True)
def test_every_graph_gives_on_the_device_what_it_gives_on_the_host(
    bundle: Bundle, clip: TruthClip, require: Callable[[str], None], backend: str
) -> None:
    require(backend)
    from vcedge_export.tensorrt import open_whole
    from vcedge_export.verify import verify_bundle

    on_host = {name: engine_from_bundle(bundle, name) for name in bundle.graphs}
    found = verify_bundle(bundle, open_whole(bundle, backend), on_host, clip)
    assert found.passes, found


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bundle", MODELS, indirect=True)
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_a_clip_with_memory_on_the_device_is_tracked_to_nearly_the_same_masks(
    bundle: Bundle,
    clip: TruthClip,
    require: Callable[[str], None],
    backend: str,
    cuda_graphs: bool,
) -> None:
    require(backend)
    small = replace(bundle, composition=replace(bundle.composition, size=256))
    masks = []
    for options in ({}, {"backend": backend, "cuda_graphs": cuda_graphs}):
        found = []
        with Tracker.open(small, **options) as tracker:  # type: ignore[arg-type]
            for _ in range(2):  # A second video finds other arrays than the first.
                tracker.start(clip.frames[0], clip.masks[0])
                found += [tracker.step(frame).mask for frame in clip.frames[1:-6]]
                tracker.add_object(9, clip.masks[-7] == 1)  # type: ignore[arg-type]
                found += [tracker.step(frame).mask for frame in clip.frames[-6:-3]]
                tracker.remove_object(9)
                found += [tracker.step(frame).mask for frame in clip.frames[-3:]]
        masks.append(np.stack(found))
    # Sums in another order move a pixel at an edge now and then.
    assert (masks[0] != masks[1]).mean() < 0.002
