"""Weights by a rule in the place of those that others published, and what networks make of them.

The rule, and what is in ``data/published``, stand in its README.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcedge.cli import main
from vcedge.models.stcn import STCN
from vcedge.models.weights import Weights
from vcedge.models.xmem import XMem
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.predictors.objects import ObjectPredictor
from vcedge_runtime.tracker import Tracker

HERE = Path(__file__).parent / "data" / "published"
WHOLE = Path(os.environ.get("VCEDGE_GOLDEN", Path(__file__).parents[2] / "shared" / "golden"))
"""What the projects' own networks gave, 16 MB, which are no part of the repository."""
HEIGHT, WIDTH = 96, 160
SMALL = ("--size", HEIGHT, "--frames", 3, "--no-engines")
"""Options of an import that takes seconds."""
MEMORIES = {
    "stcn": "local_global:capacity=21",
    "xmem": "long_term:every=1,least=2,batch=2,prototypes=20,cells=50",
}
"""Under which ours are kept: of STCN its own; of XMem one that is full, and forgets, early."""
Golden = Mapping[str, NDArray[Any]]


def make_state(kind: str) -> dict[str, Tensor]:
    """A state dict as a project saves it, each tensor made from its name alone."""
    shapes: Mapping[str, list[int]] = json.loads((HERE / f"{kind}-state-dict.json").read_text())
    return {name: make_tensor(name, shape) for name, shape in shapes.items()}


def make_tensor(name: str, shape: list[int]) -> Tensor:
    """One of its tensors."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros([], dtype=torch.int64)
    drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    z = torch.from_numpy(drawn.astype(np.float32))
    if name.endswith("running_var"):
        return 1 + 0.1 * z.abs()
    if name.endswith("running_mean"):
        return 0.05 * z
    if len(shape) == 1:
        return 1 + 0.05 * z if name.endswith("weight") else 0.02 * z
    return z * float(np.sqrt(1 / np.prod(shape[1:])))


def make_small(kind: str) -> Weights:
    """New weights of a network of the same parts as a project's, and a hundredth of its size."""
    whole = {"stcn": STCN, "xmem": XMem}[kind]
    small = {"encoder": "resnet18", "value_width": 8, "value_dim": 16}

    class Small(whole):  # type: ignore[misc, valid-type]
        profile = replace(whole.profile, name=f"{kind}-small", decoder_widths=(16, 8, 8), **small)

    torch.manual_seed(0)
    network = Small().eval()
    for head in (network.query.key, network.query.trunk.stem[0]):
        # So that cells differ, and with them what is read of them.
        head.weight.data *= 3
    return Weights(network, {**network.parts, "model": kind})


def make_clip(frames: int) -> tuple[list[NDArray[np.uint8]], NDArray[np.uint8]]:
    """A texture that moves to the right, and a mask of two objects in its first frame."""
    knots = np.random.default_rng(5).integers(0, 256, (13, 41, 3)).astype(float)
    for axis, length in enumerate((HEIGHT, 2 * WIDTH)):
        places = np.arange(length) / 8
        first = places.astype(int)
        share = (places - first).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        low, high = knots.take(first, axis), knots.take(first + 1, axis)
        knots = low + share * (high - low)
    texture = knots.round().astype(np.uint8)
    starts = [WIDTH - 2 * (at % 70) for at in range(frames)]
    clip = [np.ascontiguousarray(texture[:, at : at + WIDTH]) for at in starts]
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[24:72, 40:80], mask[32:88, 80:112] = 1, 2
    return clip, mask


def read_golden(name: str) -> Golden:
    """What a project's own network gave of a clip; skips where it is not here."""
    path = WHOLE / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"needs {path}, which is no part of the repository; {HERE} is, and is tested")
    with np.load(path) as found:
        return dict(found)


def read_kept(name: str) -> Golden:
    """What our network gave of ``make_clip`` when it agreed with the project's own."""
    with np.load(HERE / f"{name}.npz") as found:
        return dict(found)


def encode_first(
    network: STCN | XMem, frame: NDArray[np.uint8], mask: NDArray[np.uint8]
) -> dict[str, NDArray[np.float32]]:
    """What the network makes of the first frame: (1, C, h, w) planes, values (K, Cv, h, w)."""
    image = torch.from_numpy(network.profile.colour.convert(frame)).permute(2, 0, 1)[None]
    ids = np.unique(mask[mask > 0])
    masks = torch.stack([torch.from_numpy(mask == each).float() for each in ids])[None]
    with torch.inference_mode():
        query = network.query(image)
        held = {"image": image, "f16": query.frame.f16}
        value = network.value(held, masks, masks.sum(1, keepdim=True) - masks)[0]
    frame = {n: p for n, p in query._asdict().items() if n != "frame"}
    return {name: planes.numpy() for name, planes in {**frame, "value": value}.items()}


def track_shares(
    bundle: Bundle,
    engines: Mapping[str, Engine],
    frames: list[NDArray[np.uint8]] | NDArray[np.uint8],
    mask: NDArray[np.uint8],
) -> NDArray[np.float32]:
    """Track a clip; what every object has of every pixel, (T - 1, K + 1, H, W), the first left out.

    Args:
        bundle: the model.
        engines: of its graphs; closed.
        frames: of the clip.
        mask: of the first one.
    """
    found = []
    with Tracker(bundle, engines) as tracker:
        tracker.start(frames[0], mask)
        for frame in frames[1:]:
            tracker.step(frame)
            predictor = tracker.video.predictor
            assert isinstance(predictor, ObjectPredictor)
            found.append(predictor._last.shares.host.copy())
    return np.stack(found)


def import_small(kind: str, folder: Path) -> Path:
    """Import weights of a kind, made by the rule, whole and in FP16; returns the folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        torch.save(make_state(kind), f"{kind}.pth")
        for options, codes in (((), {0}), (("--fp16",), {0, 1})):
            with pytest.raises(SystemExit) as stop:
                main(["import", kind, f"{kind}.pth", *map(str, SMALL), *options])
            # Masks of such weights mean nothing, so that rounding may well change their score.
            assert stop.value.code in codes
    finally:
        os.chdir(before)
    return folder


def open_graphs(bundle: Bundle) -> dict[str, Engine]:
    """An engine of one thread for each graph."""
    from vcedge_runtime.engines.onnxruntime import engine_from_bundle

    return {name: engine_from_bundle(bundle, name, threads=1) for name in bundle.graphs}
