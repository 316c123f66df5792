"""The blocks that STCN builds its fuser and its decoder of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class BlockConv(nn.Conv2d):
    """A linear map of squares of pixels: a 1x1 convolution after ``pixel_unshuffle``, in one.

    Its weights are those of the 1x1 convolution. Moving pixels to channels takes a CPU several
    times as long as the convolution.

    Args:
        in_channels: of the pixels.
        out_channels: channels out.
        side: pixels of a square's side.
        bias: whether there is one.
    """

    def __init__(self, in_channels: int, out_channels: int, side: int, *, bias: bool) -> None:
        super().__init__(in_channels * side**2, out_channels, 1, bias=bias)
        self._side = side

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, side h, side w) to (B, out_channels, h, w)."""
        weight = self.weight.reshape(self.out_channels, -1, self._side, self._side)
        return functional.conv2d(x, weight, self.bias, stride=self._side)


class PreActivationBlock(nn.Module):
    """Two 3x3 convolutions after rectifiers, without normalisation (STCN's ResBlock).

    Args:
        in_channels: channels in.
        out_channels: channels out.
        shortcut: side of the shortcut's kernel where the widths differ, 3 in STCN.
    """

    def __init__(self, in_channels: int, out_channels: int, shortcut: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, 1, 1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, shortcut, 1, shortcut // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, out_channels, h, w)."""
        hidden = self.conv2(torch.relu(self.conv1(torch.relu(x))))
        found: Tensor = hidden + self.shortcut(x)
        return found


class ChannelSpatialGate(nn.Module):
    """CBAM (Woo et al. 2018): a gate for each channel, then one for each place.

    Args:
        channels: C.
        reduction: how much narrower the channel gate is within.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.channel = nn.Sequential(
            nn.Linear(channels, channels // reduction),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels),
        )
        self.place = nn.Conv2d(2, 1, 7, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same, gated."""
        strength = self.channel(x.mean((2, 3))) + self.channel(x.amax((2, 3)))
        x = x * torch.sigmoid(strength)[..., None, None]
        planes = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.place(planes))


class Fuser(nn.Module):
    """Joins an object's features with the frame's (STCN's FeatureFusionBlock).

    Args:
        in_channels: of both together.
        out_channels: of the value.
        shortcut: see ``PreActivationBlock``.
    """

    def __init__(self, in_channels: int, out_channels: int, shortcut: int) -> None:
        super().__init__()
        self.block1 = PreActivationBlock(in_channels, out_channels, shortcut)
        self.gate = ChannelSpatialGate(out_channels)
        self.block2 = PreActivationBlock(out_channels, out_channels, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, out_channels, h, w)."""
        x = self.block1(x)
        fused: Tensor = self.block2(x + self.gate(x))
        return fused
