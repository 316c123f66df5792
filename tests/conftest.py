"""What many tests share: one small model, exported once, and small videos."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from tests.tracing import TracedOnce
from vcedge_runtime.model.bundle import DEFAULT_MODEL, Bundle

if TYPE_CHECKING:
    from torch import Tensor

    from vcedge.models.srnet import SRNet
    from vcedge.models.weights import Weights
    from vcedge_export.verify import TruthClip

TINY = Path(__file__).parent / "data" / "tiny"
"""A bundle of a few kB, which ``data/make_tiny.py`` wrote."""
KEY_SPREAD = 1.0
"""Standard deviation of a key's channels: a cell then matches itself, as after training."""

Frame = NDArray[np.uint8]

# An example's time says how busy the machine is, not whether the code is right.
settings.register_profile("vcedge", deadline=None)
settings.load_profile("vcedge")

TESTS = Path(__file__).parent
SLOW_PLACES = (
    *("benchmarks", "contract", "export", "hardware", "vcedge/training"),
    *("runtime/engines/test_tensorrt_tracking.py", "runtime/tracker/test_changes.py"),
    *(f"vcedge/commands/test_{name}.py" for name in ("calibrate", "export_bundle")),
    *(f"vcedge/commands/test_{name}.py" for name in ("train", "train_srnet")),
    *(f"vcedge/commands/test_{name}.py" for name in ("cases", "nothing_lost", "secrets")),
)
"""Those of tests that export, train, fail in many places, or run scripts and whole commands."""
SLOW_FIXTURES = frozenset({"traced_once", "wheel"})
"""On which those stand that export a model, or build vcedge itself."""

collect_ignore = [] if find_spec("torch") else ["export", "vcedge/models", "vcedge/training"]


def pytest_configure() -> None:
    """Where several processes test, each has a core: more threads would wait for each other."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_report_header() -> list[str]:
    """Say what is left out."""
    return (
        [f"PyTorch is not installed, so not collected: {collect_ignore}"] if collect_ignore else []
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, and try more or fewer examples of each property."""
    for item in items:
        if _is_slow(item):
            item.add_marker(pytest.mark.slow)
    _multiply_examples(items, float(os.environ.get("VCEDGE_EXAMPLES", "1")))


def _is_slow(item: pytest.Item) -> bool:
    """Whether a test exports, trains or runs scripts; other slow ones say so themselves."""
    place = item.path.relative_to(TESTS)
    if any(place.is_relative_to(slow) for slow in SLOW_PLACES):
        return True
    return not SLOW_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


def _multiply_examples(items: list[pytest.Item], more: float) -> None:
    """Try as many times more examples of each property, or fewer."""
    properties = {item.obj for item in items if hasattr(getattr(item, "obj", None), "hypothesis")}
    for test in properties if more != 1 else ():
        own = test._hypothesis_internal_use_settings
        examples = max(1, round(more * own.max_examples))
        test._hypothesis_internal_use_settings = settings(own, max_examples=examples)


def make_frame(height: int, width: int, shift: int = 0) -> Frame:
    """Make a smooth colour texture that moves to the right by ``shift`` pixels."""
    noise = np.random.default_rng(3).integers(0, 256, (height, width + 64, 3), np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    return np.ascontiguousarray(texture[:, 64 - shift : 64 - shift + width], np.uint8)


def make_mask(height: int, width: int, *ids: int) -> Frame:
    """Make a mask of bars side by side, one per id, with background above and below them."""
    mask = np.zeros((height, width), np.uint8)
    edges = np.linspace(0, width, 2 * len(ids) + 2).astype(int)
    for position, object_id in enumerate(ids):
        left, right = edges[2 * position + 1], edges[2 * position + 2]
        mask[height // 4 : -(height // 4), left:right] = object_id
    return mask


def whole_frames(clips: int, frames: int) -> Tensor:
    """Make places of clips whose crops are whole frames: (B, T, 2, 3)."""
    import torch

    return torch.eye(2, 3).expand(clips, frames, -1, -1)


@pytest.fixture(name="make_frame", scope="session")
def make_frame_fixture() -> Callable[..., Frame]:
    return make_frame


@pytest.fixture(name="make_mask", scope="session")
def make_mask_fixture() -> Callable[..., Frame]:
    return make_mask


def make_weights(*, motion: bool = False, value_extraction: bool = False) -> Weights:
    """Make an ``edge`` network before training, with a fixed seed and keys that differ by cell."""
    torch = pytest.importorskip("torch", reason="PyTorch makes the tiny model")
    from vcedge.models.encoder import PROFILES
    from vcedge.models.network import KeyNetwork
    from vcedge.models.weights import Weights
    from vcedge_runtime.frames.colour import lab_from_bgr

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(7)
        parts = {"motion": motion, "value_extraction": value_extraction}
        network = KeyNetwork(PROFILES["edge"], **parts).eval()
        encoder = network.encoder
        lab = torch.from_numpy(lab_from_bgr(make_frame(192, 256))).permute(2, 0, 1)[None]
        keys = encoder(lab)[0].flatten(1)
        mean = keys.mean(1)
        variances, axes = torch.linalg.eigh(torch.cov(keys))
        whiten = axes * KEY_SPREAD / variances.clamp_min(1e-3 * variances.max()).sqrt() @ axes.T
        encoder.head.bias.copy_(whiten @ (encoder.head.bias - mean))
        encoder.head.weight.copy_(torch.einsum("oc,cikl->oikl", whiten, encoder.head.weight))
        if network.values is not None:
            network.values.to_out.reset_parameters()
            network.values.gate.fill_(0.3)
    return Weights(network, {"data": "none", "steps": 0})


def make_srnet(profile: str) -> SRNet:
    """Make a small SRNet in which nothing stands where it began: no offset or bias is zero."""
    import torch
    from torch import nn

    from vcedge.models.srnet import SRNET_PROFILES, SRNet

    torch.manual_seed(0)
    network = SRNet(SRNET_PROFILES[profile]).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = 0.1 * torch.randn(module.num_features)
            module.running_var = torch.rand(module.num_features) + 0.5
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    for head in (network.alignment.to_offsets, network.alignment.to_modulation):
        nn.init.normal_(head.weight, std=0.5)
    nn.init.normal_(network.mix.weight, std=0.05)
    return network


@pytest.fixture(scope="session")
def tiny_weights() -> Weights:
    """The plain network of ``make_weights``."""
    return make_weights()


@pytest.fixture(scope="session")
def tiny_clip() -> TruthClip:
    """Four frames of a texture that moves to the right with two objects on it."""
    from vcedge_export.verify import TruthClip

    frames = [make_frame(64, 96, 4 * step) for step in range(4)]
    mask = make_mask(64, 96, 1, 2)
    masks = [np.ascontiguousarray(np.roll(mask, 4 * step, axis=1)) for step in range(4)]
    return TruthClip("moving texture", frames, masks)


@pytest.fixture(scope="session")
def tiny_bundle() -> Bundle:
    """A bundle for small frames that needs no PyTorch; tests must not change its folder."""
    return Bundle.open(TINY)


@pytest.fixture(scope="session")
def traced_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TracedOnce]:
    """Let an export take a graph that an earlier one traced of the same network."""
    pytest.importorskip("onnxscript", reason="it exports the model")
    from vcedge_export import bundle

    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    traced = TracedOnce(bundle.export_onnx, shared / "traced")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "export_onnx", traced)
        yield traced


@pytest.fixture(scope="session")
def exported_bundle(
    tiny_weights: Weights,
    tiny_clip: TruthClip,
    traced_once: TracedOnce,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundle:
    """A bundle of ``tiny_weights``, for small frames; tests must not change its folder."""
    from vcedge_export.bundle import export_bundle
    from vcedge_export.plan import ExportOptions

    folder: Path = tmp_path_factory.mktemp("bundles") / "tiny"
    options = ExportOptions(size=64, radius=4, temperature=0.5)
    return export_bundle(tiny_weights, folder, tiny_clip, options)


@pytest.fixture(scope="session")
def mer_bundle(
    tiny_clip: TruthClip, traced_once: TracedOnce, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """MER's whole composition, not trained, for small frames; tests must not change its folder."""
    from vcedge_export.bundle import export_bundle
    from vcedge_export.plan import ExportOptions

    folder: Path = tmp_path_factory.mktemp("bundles") / "mer"
    weights = make_weights(motion=True, value_extraction=True)
    parts = {"sampler": "clusters", "fusion": "vote"}
    options = ExportOptions(size=64, radius=4, overrides=parts)
    return export_bundle(weights, folder, tiny_clip, options)


@pytest.fixture(scope="session")
def srnet_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The shipped SRNet for small frames; tests must not change its folder."""
    shipped = Bundle.open(DEFAULT_MODEL)
    folder = Path(shutil.copytree(shipped.folder, tmp_path_factory.mktemp("bundles") / "srnet"))
    small = replace(shipped.composition, size=96)
    replace(shipped, folder=folder, name="srnet", composition=small).save()
    return Bundle.open(folder)


@pytest.fixture(scope="session")
def xmem_bundle(
    tiny_clip: TruthClip, traced_once: TracedOnce, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """XMem's parts, not trained, for small frames; tests must not change its folder."""
    from tests.published import make_small
    from vcedge_export.bundle import export_bundle
    from vcedge_export.plan import ExportOptions

    folder: Path = tmp_path_factory.mktemp("bundles") / "xmem"
    # Frames are consolidated, and cells forgotten, within a few frames.
    parts = {"memory": "long_term:every=1,least=2,batch=2,prototypes=9,cells=30"}
    options = ExportOptions(size=64, top_k=6, overrides=parts)
    return export_bundle(make_small("xmem"), folder, tiny_clip, options)


@pytest.fixture(scope="session")
def exported_srnet_bundle(
    traced_once: TracedOnce, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """The shipped SRNet, exported and proven on 60 small frames; tests must not change its folder.

    Untrained masks would hang on the last bit of a logit.
    """
    from vcedge.models.weights import load_weights
    from vcedge_export.bundle import export_bundle
    from vcedge_export.plan import ExportOptions
    from vcedge_export.verify import TruthClip
    from vcedge_runtime.demo.clip import render_demo_clip

    rendered = list(render_demo_clip(frames=60, frame_hw=(96, 160)))
    frames, masks = [list(column) for column in zip(*rendered, strict=True)]
    folder: Path = tmp_path_factory.mktemp("bundles") / "srnet"
    clip = TruthClip("demo clip", frames, masks)
    return export_bundle(load_weights(DEFAULT_MODEL), folder, clip, ExportOptions(size=96))
