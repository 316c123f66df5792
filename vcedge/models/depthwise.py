"""Depthwise convolutions whose gradients a CPU finds in float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class DepthwiseConv(nn.Conv2d):
    """A convolution of each channel on its own; it has a bias once normalisation is folded into it.

    In bfloat16 the gradients of PyTorch 2.13 on a CPU take up to ten times as long as in float32;
    forward, bfloat16 is the faster. Results and graphs are those of ``nn.Conv2d``.

    Args:
        channels: C, in and out.
        kernel: side of the kernel.
        stride: of the convolution.
        padding: rows and columns of zeros on each side.
    """

    def __init__(self, channels: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__(channels, channels, kernel, stride, padding, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H', W')."""
        trained = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        if not trained or self.bias is not None or x.device.type != "cpu":
            return super().forward(x)
        found: Tensor = _Convolve.apply(x, self.weight, self.stride[0], self.padding[0])  # type: ignore[no-untyped-call]
        return found


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.lengths = stride, padding
        return functional.conv2d(x, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        stride, padding = ctx.lengths
        wanted = [*ctx.needs_input_grad[:2], False]
        whole = gradients[0].float().contiguous(memory_format=torch.channels_last)
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            whole,
            x.float(),
            weight.float(),
            None,
            [stride, stride],
            [padding, padding],
            [1, 1],
            False,
            [0, 0],
            len(weight),
            wanted,
        )
        return (
            of_x.to(x.dtype) if wanted[0] else None,
            of_weight.to(weight.dtype) if wanted[1] else None,
            None,
            None,
        )
