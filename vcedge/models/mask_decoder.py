"""From an object's features to its mask, with the frame's finer features on the way (STCN)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vcedge.models.srnet_blocks import PreActivationBlock


class Finer(nn.Module):
    """Doubles the resolution and adds the frame's own features there.

    The frame's part is computed once for all objects: it is added after its convolution.
    """

    def __init__(self, skip: int, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.skip = nn.Conv2d(skip, in_channels, kernel, 1, kernel // 2)
        self.block = PreActivationBlock(in_channels, out_channels, kernel)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, K, in, h, w) objects and (B, skip, 2h, 2w) frames to (B, K, out, 2h, 2w)."""
        finer = functional.interpolate(
            x.flatten(0, 1), scale_factor=2.0, mode="bilinear", align_corners=False
        ).unflatten(0, x.shape[:2])
        joined = finer + self.skip(skip)[:, None]
        decoded = self.block(joined.flatten(0, 1))
        found: Tensor = decoded.unflatten(0, x.shape[:2])
        return found


class MaskDecoder(nn.Module):
    """Decodes the mask of each object.

    Args:
        value_dim: Cv, of what was read.
        content_dim: channels of the frame's own content.
        skips: channels of the frame's features at strides 8 and 4.
        widths: channels at strides 16, 8 and 4.
        kernel: side of the kernels of shortcuts and skips, 3 in STCN.
    """

    def __init__(
        self,
        value_dim: int,
        content_dim: int,
        skips: tuple[int, int],
        widths: tuple[int, int, int],
        kernel: int,
    ) -> None:
        super().__init__()
        self.compress = PreActivationBlock(value_dim + content_dim, widths[0], kernel)
        self.up8 = Finer(skips[0], widths[0], widths[1], kernel)
        self.up4 = Finer(skips[1], widths[1], widths[2], kernel)
        self.predict = nn.Conv2d(widths[2], 1, 3, 1, 1)

    def forward(self, x: Tensor, content: Tensor, f8: Tensor, f4: Tensor) -> Tensor:
        """Decode.

        Args:
            x: (B, K, Cv, h, w) features of K objects.
            content: (B, C, h, w) the frame's own.
            f8: (B, C8, 2 h, 2 w) the frame's features at stride 8.
            f4: (B, C4, 4 h, 4 w) the same at stride 4.

        Returns:
            (B, K, 16 h, 16 w) logits of each object's mask.
        """
        shared = content[:, None].expand(-1, x.shape[1], -1, -1, -1)
        start = self.compress(torch.cat([x, shared], 2).flatten(0, 1))
        fine = self.up4(self.up8(start.unflatten(0, x.shape[:2]), f8), f4)
        logits = self.predict(torch.relu(fine.flatten(0, 1)))
        # Objects as channels: ONNX Runtime widens a single channel to 16, also at full size.
        planes = logits.reshape(*x.shape[:2], *logits.shape[2:])
        return functional.interpolate(
            planes, scale_factor=4.0, mode="bilinear", align_corners=False
        )
