"""What an image's trunk gives: features at three strides."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Pyramid(NamedTuple):
    """Features of one image at three strides.

    Attributes:
        f4: (B, C4, H / 4, W / 4).
        f8: (B, C8, H / 8, W / 8).
        f16: (B, C16, H / 16, W / 16).
    """

    f4: Tensor
    f8: Tensor
    f16: Tensor
