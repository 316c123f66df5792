"""A pretrained key encoder, the profile ``lite``: features of an EfficientNet-Lite as keys."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from vcedge.models.efficientnet_lite import LITE_SPREAD, EfficientNetLite
from vcedge.models.encoder import KeyEncoder, Profile
from vcedge_runtime.frames.colour import LAB, InputColour

LEVELS = (1.0, 1.0, 1.5)
"""Weights of a pretrained trunk's features at strides 4, 8 and 16 in a key: measured, see
``vcedge/weights/RUNS.md``."""
SHARPNESS = 8.0
"""Length of what such a key begins with, likewise."""
RGB_FROM_XYZ = (
    (3.240479 * 0.950456, -1.53715, -0.498535 * 1.088754),
    (-0.969256 * 0.950456, 1.875991, 0.041556 * 1.088754),
    (0.055648 * 0.950456, -0.204043, 1.057311 * 1.088754),
)
"""Linear sRGB of XYZ over the white."""


class LiteKeyEncoder(KeyEncoder):
    """A pretrained EfficientNet-Lite, whose features at three strides make a key (our choice).

    Of each stride the frame's mean is taken off and a cell's features are brought to one length, so
    that each has its share in the likeness of two cells, whatever lies in the frame; a projection
    gathers them, see ``gather``. Arguments as for ``KeyEncoder``.
    """

    def __init__(
        self, profile: Profile, *, motion: bool = False, alpha: float | None = None
    ) -> None:
        super().__init__(profile, motion=motion, alpha=alpha)
        self.trunk = EfficientNetLite(profile.encoder)
        self.head = nn.Conv2d(sum(self.trunk.widths), profile.key_dim, 1, bias=False)
        gain = SHARPNESS * (self.head.in_channels / self.head.out_channels) ** 0.5
        nn.init.orthogonal_(self.head.weight, gain)

    @property
    def pretrained(self) -> EfficientNetLite:
        """The trunk."""
        return self.trunk

    def hide(self, lab: Tensor, channel: int) -> Tensor:
        """Zero the channel and show what is left in the colours that the trunk learned."""
        keep = torch.ones((3, 1, 1), device=lab.device)
        keep[channel] = 0
        return rgb_from_lab(lab * keep, self.profile.colour)

    @torch.no_grad()
    def gather(self, images: Iterable[Tensor]) -> None:
        """Let the projection keep as much of the likeness of cells as its channels can.

        Its rows are the principal directions of the features, about 0, so that the products of two
        cells' keys come as near as can be to those of their features, times ``SHARPNESS`` squared.

        Args:
            images: at least one, as for ``forward``.
        """
        found = (self._features(image).transpose(0, 1).flatten(1).double() for image in images)
        products = sum(each @ each.T for each in found)
        assert isinstance(products, Tensor)
        _, directions = torch.linalg.eigh(products)
        rows = directions[:, -self.profile.key_dim :].T
        self.head.weight.copy_(SHARPNESS * rows[:, :, None, None])

    def encode(self, image: Tensor) -> Tensor:
        """See ``KeyEncoder.encode``."""
        key: Tensor = self.head(self._features(image))
        return key

    def _features(self, image: Tensor) -> Tensor:
        frame = self.trunk(image)
        # The exporter sees that this has the sides of f8, as it is padded alike; no cell of it is
        # made of what is padded.
        fine = functional.avg_pool2d(functional.pad(frame.f4, (0, 1, 0, 1)), 2)
        rows, columns = fine.shape[2:]
        parts = [_level(x, w) for x, w in zip((fine, frame.f8, frame.f16), LEVELS, strict=True)]
        coarse = functional.interpolate(parts[2], scale_factor=2, mode="bilinear")
        return torch.cat([*parts[:2], coarse[:, :, :rows, :columns]], 1)


def rgb_from_lab(lab: Tensor, colour: InputColour) -> Tensor:
    """Normalised Lab in the colours of sRGB (IEC 61966-2-1, white D65), as OpenCV has both.

    Args:
        lab: (..., 3, H, W) float32, as ``LAB`` has it; what no screen can show is clipped.
        colour: the mean and scale of the RGB that is given.

    Returns:
        (..., 3, H, W) float32.
    """
    lightness, a, b = (lab * lab.new_tensor(LAB.scale)[:, None, None]).unbind(-3)
    y = (lightness + LAB.mean[0] + 16) / 116
    bent = torch.stack([y + a / 500, y, y - b / 200], -3)
    linear = torch.where(bent > 6 / 29, bent**3, 3 * (6 / 29) ** 2 * (bent - 4 / 29))
    light = torch.einsum("rx,...xhw->...rhw", lab.new_tensor(RGB_FROM_XYZ), linear).clamp(0, 1)
    power = 1.055 * light.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    shown = 255 * torch.where(light > 0.0031308, power, 12.92 * light)
    mean, scale = (lab.new_tensor(x)[:, None, None] for x in (colour.mean, colour.scale))
    return (shown - mean) / scale


def _level(features: Tensor, weight: float) -> Tensor:
    # Divided, so that a sum of squares is far from FP16's largest number too.
    centred = (features - features.mean((2, 3), keepdim=True)) / LITE_SPREAD
    return weight * functional.normalize(centred, dim=1)
