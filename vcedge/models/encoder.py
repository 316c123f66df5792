"""The key encoders of the trackers that propagate labels."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vcedge.models.graph import GraphModule
from vcedge_runtime.frames.colour import IMAGENET_LITE, LAB, InputColour
from vcedge_runtime.model.spec import GraphSpec, TensorSpec


@dataclass(frozen=True)
class Profile:
    """One working point of the encoder.

    Attributes:
        name: ``edge`` and ``paper`` learn from unlabelled video alone; ``lite`` is pretrained.
        stride: input pixels per key cell, in both directions.
        encoder: ``resnet18``, or one of ``LITE_VARIANTS``.
        colour: what it takes.
        key_dim: channels of a key.
    """

    name: str
    stride: int
    encoder: str = "resnet18"
    colour: InputColour = LAB
    key_dim: int = 64


ALPHA = 0.1
"""Where the weight of optical flow starts (our choice)."""
Module = TypeVar("Module", bound=nn.Module)
PROFILES = {
    "edge": Profile("edge", stride=8),
    "paper": Profile("paper", stride=4),
    "lite": Profile("lite", stride=8, encoder="efficientnet-lite0", colour=IMAGENET_LITE),
}


def make_shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """What a residual block adds to its own: its input, projected where the shapes differ."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(out_channels))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016, the block of ResNet-18)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = make_shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        hidden = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(hidden)) + self.shortcut(x))


class KeyEncoder(nn.Module, ABC):
    """Gives the key of a frame.

    Args:
        profile: the working point.
        motion: whether encoded optical flow is added to the frame, O = I + alpha F with a learned
            alpha (MER, eq. 5).
        alpha: where it starts, also beside weights that were trained without flow; by default
            ``ALPHA``, and 0 beside such weights (our choice).
    """

    def __init__(
        self, profile: Profile, *, motion: bool = False, alpha: float | None = None
    ) -> None:
        super().__init__()
        self.profile = profile
        self._start = alpha
        start = torch.tensor(ALPHA if alpha is None else alpha)
        self.alpha = nn.Parameter(start) if motion else None

    @property
    def pretrained(self) -> nn.Module | None:
        """The part that begins with published weights, None where none does."""
        return None

    @torch.no_grad()
    def quieten(self, new: Callable[[str], bool]) -> None:
        """Let modules that were not trained yet begin as if they were not there.

        Flow is then not added, and is learned from there on (our choice).

        Args:
            new: whether the tensor of a name is new.
        """
        if self.alpha is not None and new("alpha"):
            nn.init.constant_(self.alpha, self._start or 0.0)

    @abstractmethod
    def hide(self, lab: Tensor, channel: int) -> Tensor:
        """What the encoder takes of frames one of whose colour channels is hidden.

        Args:
            lab: (..., 3, H, W) float32, normalised Lab.
            channel: 1 for a, 2 for b.

        Returns:
            (..., 3, H, W) float32 in the profile's colour.
        """

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """The key of frames, to which flow was added; as for ``forward``."""

    def forward(self, image: Tensor, flow: Tensor | None = None) -> Tensor:
        """Encode frames.

        Args:
            image: (B, 3, H, W) float32 in the profile's colour, each channel about [-1, 1]; H and W
                multiples of ``profile.stride``.
            flow: (B, 3, H, W) float32 in [-1, 1], encoded optical flow to the frame before; needed
                with ``motion``, ignored otherwise.

        Returns:
            (B, key_dim, H / stride, W / stride) key; float32 outside autocast.
        """
        if self.alpha is not None and flow is not None:
            image = image + self.alpha * flow
        return self.encode(image)


class ResNetKeyEncoder(KeyEncoder):
    """ResNet-18 trunk with a 3x3 head; arguments as for ``KeyEncoder``.

    Stages follow MAST for stride 4 (no max-pool, four stages with strides 1, 2, 1, 1) and CRW for
    stride 8 (max-pool, three stages with strides 1, 2, 1).
    """

    def __init__(
        self, profile: Profile, *, motion: bool = False, alpha: float | None = None
    ) -> None:
        super().__init__(profile, motion=motion, alpha=alpha)
        stem: list[nn.Module] = [
            nn.Conv2d(3, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
        ]
        widths_strides = [(64, 1), (128, 2), (256, 1)]
        if profile.stride == 8:
            stem.append(nn.MaxPool2d(3, 2, 1))
        else:
            widths_strides.append((256, 1))
        blocks: list[nn.Module] = []
        channels = 64
        for width, stride in widths_strides:
            blocks += [ResidualBlock(channels, width, stride), ResidualBlock(width, width, 1)]
            channels = width
        self.stem = nn.Sequential(*stem)
        self.stages = nn.Sequential(*blocks)
        self.head = nn.Conv2d(channels, profile.key_dim, 3, 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @torch.no_grad()
    def quieten(self, new: Callable[[str], bool]) -> None:
        """See ``KeyEncoder.quieten``.

        A residual block that is new gives what it takes: its input is not negative.
        """
        super().quieten(new)
        for name, block in self.stages.named_children():
            if isinstance(block, ResidualBlock) and new(f"stages.{name}.bn2.weight"):
                nn.init.zeros_(block.bn2.weight)

    def hide(self, lab: Tensor, channel: int) -> Tensor:
        """Zero the channel and scale the rest by 3/2 (MAST)."""
        keep = torch.full((3, 1, 1), 1.5, device=lab.device)
        keep[channel] = 0
        return lab * keep

    def encode(self, image: Tensor) -> Tensor:
        """See ``KeyEncoder.encode``."""
        key: Tensor = self.head(self.stages(self.stem(image)))
        return key


class FrameEncoder(GraphModule):
    """The encoder as it is exported: batch normalisation folded, one frame, keys as rows of cells.

    Cells last-but-channels lets memory hand a patch to the readout as whole rows.
    """

    def __init__(self, encoder: KeyEncoder) -> None:
        super().__init__()
        self.profile = encoder.profile
        self.motion = encoder.alpha is not None
        self._encoder = fold_batch_norm(encoder)

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors."""
        names = ("image", "flow") if self.motion else ("image",)
        return GraphSpec(
            "encoder",
            tuple(TensorSpec(name, "float32", (1, 3, "H", "W")) for name in names),
            (TensorSpec("key", "float32", ("h", "w", self.profile.key_dim)),),
        )

    def forward(self, image: Tensor, flow: Tensor | None = None) -> Tensor:
        """Encode one frame.

        Args:
            image: (1, 3, H, W) float32 in the profile's colour; H and W multiples of the stride.
            flow: (1, 3, H, W) float32 in [-1, 1], encoded optical flow, with ``motion`` alone.

        Returns:
            (h, w, C) float32 key.
        """
        key: Tensor = self._encoder(image, flow)
        return key[0].permute(1, 2, 0).contiguous()


def fold_batch_norm(module: Module) -> Module:
    """Return a copy in evaluation mode whose convolutions carry their batch normalisation."""
    folded = copy.deepcopy(module).float().eval()
    for parent in list(folded.modules()):
        for (before, convolution), (name, norm) in pairwise(list(parent.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, before, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, name, nn.Identity())
    return folded
