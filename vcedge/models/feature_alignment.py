"""SRNet's feature alignment module (FAM): a remembered frame is bent towards the query frame."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vcedge_runtime.errors import TrainingError

STEADINESS = 0.1
"""Factor on offsets and modulation before their bounds (our choice): without it, and with a hard
bound that gives no gradient back, offsets ran against it within a thousand steps and stayed."""
TAPS = 9
"""Places that a 3x3 convolution looks at, row by row."""


class Deformation(NamedTuple):
    """Where a deformable convolution looks, and how much each look counts.

    Attributes:
        offsets: (B, 18 * G, h, w) cells; for each group and tap dy, then dx.
        modulation: (B, 9 * G, h, w), weight of each tap, for each group.
    """

    offsets: Tensor
    modulation: Tensor


class DeformableConv(nn.Module):
    """A modulated deformable 3x3 convolution (Zhu et al. 2019), as grid samples and one product.

    So that every ONNX runtime has it. It starts as the identity (our choice).

    Args:
        channels: C, in and out.
        groups: G groups of channels, each with offsets of its own.

    Attributes:
        native: whether the exporter writes ONNX's own operator instead, which fewer runtimes have;
            then it can only be exported.

    Raises:
        TrainingError: the groups do not divide the channels.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        if groups < 1 or channels % groups:
            raise TrainingError(f"received {groups} groups for {channels} channels")
        self.groups = groups
        self.native = False
        self.weight = nn.Parameter(torch.zeros(channels, TAPS, channels))
        with torch.no_grad():
            self.weight[:, TAPS // 2] = torch.eye(channels)

    def forward(self, x: Tensor, deformation: Deformation) -> Tensor:
        """Convolve; what lies outside of the planes is 0.

        Args:
            x: (B, K, C, h, w): K objects share where is looked.
            deformation: where is looked, of groups as the module has.

        Returns:
            (B, K, C, h, w).
        """
        batch, objects, channels = x.shape[:3]
        if self.native:
            return self._symbolise(x, deformation)
        places = sampling_places(deformation.offsets, self.groups)
        # Objects are channels of their group, and taps rows of one grid: all are sampled at once.
        planes = x.unflatten(2, (self.groups, -1)).transpose(1, 2).flatten(0, 1).flatten(1, 2)
        # In bfloat16 places would be rounded to a tenth of a cell.
        seen = functional.grid_sample(
            planes.float(),
            places.flatten(2, 3).flatten(0, 1),
            padding_mode="zeros",
            align_corners=False,
        )
        height, width = x.shape[3:]
        seen = seen.reshape(batch, self.groups, -1, TAPS, height, width)
        seen = seen * deformation.modulation.unflatten(1, (self.groups, 1, TAPS))
        seen = seen.unflatten(2, (objects, -1)).transpose(1, 2)
        columns = seen.reshape(batch * objects, channels * TAPS, height, width)
        kernel = self.weight.transpose(1, 2).flatten(1)[..., None, None]
        found: Tensor = functional.conv2d(columns, kernel)
        return found.reshape(x.shape)

    def _symbolise(self, x: Tensor, deformation: Deformation) -> Tensor:
        """The same as ONNX's DeformConv, whose result has the right shape and no values."""
        objects, channels = x.shape[1:3]
        planes = x.flatten(0, 1)
        offsets, modulation = (part.repeat_interleave(objects, 0) for part in deformation)
        weight = self.weight.transpose(1, 2).unflatten(2, (3, 3))
        found = torch.onnx.ops.symbolic(
            "DeformConv",
            (planes, weight, offsets, self.weight.new_zeros(channels), modulation),
            {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "offset_group": self.groups},
            dtype=planes.dtype,
            shape=planes.shape,
            version=19,
        )
        shaped: Tensor = found.unflatten(0, x.shape[:2])
        return shaped


def sampling_places(offsets: Tensor, groups: int) -> Tensor:
    """Turn offsets into places of the plane.

    Args:
        offsets: (B, 18 * G, h, w) cells; for each group and tap dy, then dx.
        groups: G.

    Returns:
        (B, G, 9, h, w, 2) float32 places, x then y, the plane's sides from -1 to 1.
    """
    height, width = offsets.shape[-2:]
    moves = offsets.float().unflatten(1, (groups, TAPS, 2))
    tap = torch.arange(TAPS, device=offsets.device)[:, None, None]
    rows = torch.arange(height, device=offsets.device)[:, None] + tap // 3 - 1
    columns = torch.arange(width, device=offsets.device) + tap % 3 - 1
    y, x = rows + moves[..., 0, :, :], columns + moves[..., 1, :, :]
    return torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)


class Aligned(NamedTuple):
    """What the module gives.

    Attributes:
        key: (B, Ck, h, w) the local memory's key where the query has its objects.
        value: (B, K, Cv, h, w) its values, of K objects, likewise.
    """

    key: Tensor
    value: Tensor


class FeatureAlignment(nn.Module):
    """Bends the key and the values of a remembered frame towards the query (SRNet, FAM).

    The paper gives the idea, two features in and a deformable convolution; widths, groups, the
    reach, the bounds and the start are our choice. It sees the direction of keys, not their length,
    and starts as the identity: no offset, and a modulation, from 0 to 2, of 1. All objects share
    the offsets.

    Args:
        key_dim: Ck.
        value_dim: Cv.
        hidden: channels between the features and the offsets.
        groups: groups of channels with offsets of their own.
        reach: largest offset, in cells, in each direction.

    Raises:
        TrainingError: the groups do not divide the channels.
    """

    def __init__(
        self,
        key_dim: int = 64,
        value_dim: int = 256,
        hidden: int = 128,
        groups: int = 4,
        reach: float = 8.0,
    ) -> None:
        super().__init__()
        self.reach = reach
        self.look = nn.Sequential(
            nn.Conv2d(2 * key_dim, hidden, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, 1, 1),
            nn.ReLU(inplace=True),
        )
        self.to_offsets = nn.Conv2d(hidden, 2 * TAPS * groups, 3, 1, 1)
        self.to_modulation = nn.Conv2d(hidden, TAPS * groups, 3, 1, 1)
        for head in (self.to_offsets, self.to_modulation):
            for parameter in head.parameters():
                nn.init.zeros_(parameter)
        self.deform_key = DeformableConv(key_dim, groups)
        self.deform_value = DeformableConv(value_dim, groups)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Aligned:
        """Align a remembered frame.

        Args:
            query: (B, Ck, h, w) key of the current frame.
            key: (B, Ck, h, w) key of the remembered one.
            value: (B, K, Cv, h, w) its values, of K objects.
        """
        both = [functional.normalize(each, dim=1) for each in (query, key)]
        seen = self.look(torch.cat(both, 1) * math.sqrt(query.shape[1]))
        offsets = self.reach * torch.tanh(STEADINESS * self.to_offsets(seen) / self.reach)
        modulation = 2 * torch.sigmoid(STEADINESS * self.to_modulation(seen))
        deformation = Deformation(offsets, modulation)
        return Aligned(
            self.deform_key(key[:, None], deformation)[:, 0], self.deform_value(value, deformation)
        )
