"""The blocks of STCN's fuser and decoder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vcedge.models.srnet_blocks import BlockConv, ChannelSpatialGate, Fuser, PreActivationBlock

# Sums of at most 300 products in float32, in another order.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def convolve(layer: nn.Conv2d, x: Tensor) -> Tensor:
    return functional.conv2d(x, layer.weight, layer.bias, padding=layer.kernel_size[0] // 2)


@pytest.mark.parametrize("bias", [True, False])
def test_squares_of_pixels_are_mapped_as_if_they_were_channels(bias: bool) -> None:
    block, x = BlockConv(2, 5, 4, bias=bias), torch.randn(3, 2, 8, 12)
    unshuffled = functional.pixel_unshuffle(x, 4)
    expected = functional.conv2d(unshuffled, block.weight, block.bias)
    torch.testing.assert_close(block(x), expected, **CLOSE)


@pytest.mark.parametrize(("out_channels", "kernel"), [(6, 3), (9, 1), (9, 3)])
def test_a_block_rectifies_before_each_convolution_and_adds_its_shortcut(
    out_channels: int, kernel: int
) -> None:
    block = PreActivationBlock(6, out_channels, kernel)
    x = torch.randn(2, 6, 5, 7)
    shortcut = block.shortcut
    if out_channels == 6:
        assert isinstance(shortcut, nn.Identity)
        added = x
    else:
        assert isinstance(shortcut, nn.Conv2d)
        assert shortcut.kernel_size == (kernel, kernel)
        # The shortcut sees what is negative too.
        added = convolve(shortcut, x)
    expected = convolve(block.conv2, convolve(block.conv1, x.relu()).relu()) + added
    with torch.no_grad():
        torch.testing.assert_close(block(x), expected, **CLOSE)


def test_a_gate_is_a_factor_of_the_channel_times_one_of_the_place() -> None:
    gate = ChannelSpatialGate(16, reduction=4)
    x = torch.randn(2, 16, 5, 6)
    with torch.no_grad():
        factors = (gate(x) / x).double()
    assert factors.min() > 0
    assert factors.max() < 1
    logs = factors.log()
    by_channel, by_place = logs.mean((2, 3), keepdim=True), logs.mean(1, keepdim=True)
    # The logarithm of a product is a sum of both; float32 quotients of products.
    expected = by_channel + by_place - logs.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(logs, expected, rtol=0, atol=1e-5)
    # Neither factor is constant.
    assert by_channel.std(1).min() > 0.01
    assert by_place.flatten(1).std(1).min() > 0.01


def test_a_gate_is_that_of_cbam() -> None:
    gate = ChannelSpatialGate(16)
    x = torch.randn(2, 16, 9, 8)
    down, _, up = gate.channel
    hidden = torch.stack([x.mean((2, 3)), x.flatten(2).max(2).values])
    strengths = (hidden @ down.weight.T + down.bias).relu() @ up.weight.T + up.bias
    assert down.weight.shape == (1, 16)
    channelled = x * strengths.sum(0).sigmoid()[..., None, None]
    planes = torch.stack([channelled.max(1).values, channelled.mean(1)], 1)
    expected = channelled * convolve(gate.place, planes).sigmoid()
    with torch.no_grad():
        torch.testing.assert_close(gate(x), expected, **CLOSE)


def test_a_gate_without_weights_takes_half_twice() -> None:
    gate = ChannelSpatialGate(16)
    for parameter in gate.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(1, 16, 3, 3)
    assert torch.equal(gate(x), x / 4)


def test_a_fuser_adds_the_gated_to_what_is_gated() -> None:
    fuser = Fuser(20, 16, 1)
    x = torch.randn(2, 20, 4, 5)
    with torch.no_grad():
        joined = fuser.block1(x)
        torch.testing.assert_close(fuser(x), fuser.block2(joined + fuser.gate(joined)), **CLOSE)
        assert (fuser(x) - fuser.block2(joined)).abs().max() > 1e-2


@pytest.mark.parametrize(("width", "parameters"), [(256, 7.7e6), (512, 18.9e6)])
def test_a_fuser_of_stcns_widths_is_as_large_as_stcns(width: int, parameters: float) -> None:
    count = sum(parameter.numel() for parameter in Fuser(1280, width, 3).parameters())
    assert count == pytest.approx(parameters, rel=0.01)
