"""ResNet trunks without their last stage, which give features at strides 4, 8 and 16."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vcedge.models.encoder import ResidualBlock, make_shortcut
from vcedge.models.pyramid import Pyramid

EXPANSION = 4
"""Channels out of a bottleneck, of those within it."""


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a shortcut (the block of ResNet-50; stride in the 3x3)."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = EXPANSION * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = make_shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, 4 * width, H / stride, W / stride)."""
        hidden = torch.relu(self.bn1(self.conv1(x)))
        hidden = torch.relu(self.bn2(self.conv2(hidden)))
        return torch.relu(self.bn3(self.conv3(hidden)) + self.shortcut(x))


class Trunk(nn.Module):
    """The stem and three stages of a ResNet.

    Args:
        in_channels: of the image.
        blocks: of each of the three stages.
        width: channels of the stem; stages have 1, 2 and 4 times as many.
        bottleneck: whether blocks are those of ResNet-50.
    """

    def __init__(
        self, in_channels: int, blocks: tuple[int, int, int], width: int, *, bottleneck: bool
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        )
        block = Bottleneck if bottleneck else ResidualBlock
        wider = EXPANSION if bottleneck else 1
        channels = width
        stages, widths = [], []
        for index, count in enumerate(blocks):
            own, layers = width * 2**index, []
            for position in range(count):
                layers.append(block(channels, own, 2 if index and not position else 1))
                channels = own * wider
            stages.append(nn.Sequential(*layers))
            widths.append(channels)
        self.stages = nn.ModuleList(stages)
        self.widths = (widths[0], widths[1], widths[2])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Pyramid:
        """(B, in_channels, H, W) to features; H and W multiples of 16."""
        x, found = self.stem(image), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return Pyramid(*found)
