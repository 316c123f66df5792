"""ResNet trunks without their last stage."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vcedge.models.encoder import PROFILES, fold_batch_norm
from vcedge.models.network import make_key_encoder
from vcedge.models.trunk import Bottleneck, Trunk

R18, R50 = (2, 2, 2), (3, 4, 6)
# In, blocks, bottleneck; parameters, and multiply-accumulates at 480x864, of the specification.
TRUNKS = [(3, R50, True, 8.54e6, 27.1e9), (5, R18, False, 2.79e6, 12.2e9)]


def make_trunk(in_channels: int = 3, width: int = 16, *, bottleneck: bool) -> Trunk:
    """Make a small trunk in evaluation mode, with statistics as after training."""
    torch.manual_seed(0)
    trunk = Trunk(in_channels, R18, width, bottleneck=bottleneck).eval()
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = 0.1 * torch.randn(module.num_features)
            module.running_var = torch.rand(module.num_features) + 0.5
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return trunk


@pytest.mark.parametrize(("channels", "blocks", "bottleneck", "parameters", "macs"), TRUNKS)
def test_size_and_cost_are_those_of_the_published_networks(
    channels: int, blocks: tuple[int, int, int], bottleneck: bool, parameters: float, macs: float
) -> None:
    trunk = Trunk(channels, blocks, 64, bottleneck=bottleneck)
    assert sum(p.numel() for p in trunk.parameters()) == pytest.approx(parameters, rel=0.01)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        trunk(torch.zeros(1, channels, 64, 64))
    counted = counter.get_total_flops() / 2 * (480 * 864) / 64**2
    assert counted == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize(("bottleneck", "widths"), [(False, (16, 32, 64)), (True, (64, 128, 256))])
def test_features_stand_at_strides_4_8_and_16(
    bottleneck: bool, widths: tuple[int, int, int]
) -> None:
    trunk = make_trunk(5, bottleneck=bottleneck)
    assert trunk.widths == widths
    with torch.inference_mode():
        found = trunk(torch.randn(2, 5, 48, 80))
    for name, stride, width in zip(("f4", "f8", "f16"), (4, 8, 16), widths, strict=True):
        assert getattr(found, name).shape == (2, width, 48 // stride, 80 // stride)


@pytest.mark.parametrize("bottleneck", [False, True])
def test_a_cell_stands_where_its_pixels_stand(bottleneck: bool) -> None:
    trunk = make_trunk(bottleneck=bottleneck)
    lab = torch.zeros(1, 3, 320, 384)
    marked = lab.clone()
    marked[..., 144:160, 224:240] = 1
    with torch.inference_mode():
        for stride, before, after in zip((4, 8, 16), trunk(lab), trunk(marked), strict=True):
            changed = (after - before).square().sum(dim=1)[0]
            changed /= changed.sum()
            rows, columns = (torch.arange(float(length)) for length in changed.shape)
            # Symmetric padding puts the middle of cell i at pixel stride * i; random weights weigh
            # the patch's edges unevenly.
            assert (changed.sum(1) @ rows).item() == pytest.approx(151.5 / stride, abs=1)
            assert (changed.sum(0) @ columns).item() == pytest.approx(231.5 / stride, abs=1)


def test_the_first_stage_is_that_of_the_self_supervised_encoder() -> None:
    torch.manual_seed(0)
    encoder, trunk = (
        make_key_encoder(PROFILES["edge"]).eval(),
        Trunk(3, R18, 64, bottleneck=False).eval(),
    )
    trunk.stem.load_state_dict(encoder.stem.state_dict())
    trunk.stages[0].load_state_dict(encoder.stages[:2].state_dict())
    lab = torch.randn(1, 3, 32, 48)
    with torch.inference_mode():
        assert torch.equal(trunk(lab).f4, encoder.stages[:2](encoder.stem(lab)))


@pytest.mark.parametrize("bottleneck", [False, True])
def test_folding_batch_normalisation_changes_no_feature(bottleneck: bool) -> None:
    trunk = make_trunk(bottleneck=bottleneck)
    folded = fold_batch_norm(trunk)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    lab = torch.randn(1, 3, 48, 64)
    with torch.inference_mode():
        for expected, found in zip(trunk(lab), folded(lab), strict=True):
            # FP32 with the scale inside the convolution rounds differently in each of 19 layers.
            assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_a_bottleneck_whose_last_normalisation_is_zero_is_its_shortcut() -> None:
    torch.manual_seed(0)
    same, wider = Bottleneck(32, 8, 1).eval(), Bottleneck(16, 8, 2).eval()
    assert isinstance(same.shortcut, nn.Identity)
    for block in (same, wider):
        nn.init.zeros_(block.bn3.weight)
    with torch.inference_mode():
        x = torch.randn(2, 32, 6, 4)
        assert torch.equal(same(x), x.relu())
        assert torch.equal(wider(x[:, :16]), wider.shortcut(x[:, :16]).relu())
        assert wider(x[:, :16]).shape == (2, 32, 3, 2)
