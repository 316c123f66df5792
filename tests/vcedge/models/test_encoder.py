"""The encoder's shapes, sizes and folding."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from vcedge.models.encoder import (
    PROFILES,
    FrameEncoder,
    KeyEncoder,
    ResNetKeyEncoder,
    fold_batch_norm,
)
from vcedge.models.network import make_key_encoder

# Trunk parameters of the ResNet-18 variants, and their multiply-accumulates at 480x864.
TRUNKS = [("edge", 2.78e6, 21.8e9), ("paper", 5.14e6, 145.4e9)]


@pytest.fixture(scope="module", params=sorted(PROFILES))
def encoder(request: pytest.FixtureRequest) -> KeyEncoder:
    """An encoder whose batch normalisation has statistics as after training."""
    torch.manual_seed(0)
    encoder = make_key_encoder(PROFILES[request.param]).eval()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features)
            module.running_var = torch.rand(module.num_features) + 0.5
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return encoder


@pytest.mark.parametrize(("profile", "parameters", "_macs"), TRUNKS)
def test_the_trunk_has_the_published_number_of_parameters(
    profile: str, parameters: float, _macs: float
) -> None:
    encoder = ResNetKeyEncoder(PROFILES[profile])
    trunk = [*encoder.stem.parameters(), *encoder.stages.parameters()]
    assert sum(p.numel() for p in trunk) == pytest.approx(parameters, rel=0.01)


@pytest.mark.parametrize(("profile", "_parameters", "macs"), TRUNKS)
def test_the_trunk_costs_what_is_published(profile: str, _parameters: float, macs: float) -> None:
    encoder = FrameEncoder(make_key_encoder(PROFILES[profile]))
    height, width = 96, 128
    cells = height * width // encoder.profile.stride**2
    head = 256 * encoder.profile.key_dim * 9 * cells
    counted = encoder.count_macs({"H": height, "W": width}) - head
    assert counted * 480 * 864 / (height * width) == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize(("profile", "stride"), [("edge", 8), ("paper", 4), ("lite", 8)])
def test_a_key_has_one_cell_per_stride(profile: str, stride: int) -> None:
    encoder = make_key_encoder(PROFILES[profile]).eval()
    assert (encoder.profile.stride, encoder.profile.key_dim) == (stride, 64)
    with torch.inference_mode():
        key = encoder(torch.zeros(2, 3, 5 * stride, 3 * stride))
    assert key.shape == (2, 64, 5, 3)
    assert key.dtype == torch.float32


def test_a_cell_stands_where_its_pixels_stand(encoder: KeyEncoder) -> None:
    stride = encoder.profile.stride
    lab = torch.zeros(1, 3, 32 * stride, 32 * stride)
    lab[..., 16 * stride : 17 * stride, 20 * stride : 21 * stride] = 1
    with torch.inference_mode():
        changed = (encoder(lab) - encoder(torch.zeros_like(lab))).abs().sum(dim=1)[0]
    weights = changed**2 / (changed**2).sum()
    rows, columns = torch.arange(32.0), torch.arange(32.0)
    # Strided convolutions with symmetric padding see half a pixel more on one side, stage by stage.
    assert (weights.sum(1) @ rows).item() == pytest.approx(16, abs=1)
    assert (weights.sum(0) @ columns).item() == pytest.approx(20, abs=1)


def test_folding_changes_nothing_but_the_batch_normalisation(encoder: KeyEncoder) -> None:
    folded = fold_batch_norm(encoder)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
    lab = torch.randn(1, 3, 40, 56)
    with torch.inference_mode():
        expected, found = encoder(lab), folded(lab)
    # FP32 with the scale inside the convolution rounds differently in each of up to 17 layers.
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_folding_uses_the_statistics_whatever_the_mode(encoder: KeyEncoder) -> None:
    training = copy.deepcopy(encoder).train()
    lab = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        expected, found = fold_batch_norm(encoder)(lab), fold_batch_norm(training)(lab)
    torch.testing.assert_close(found, expected, atol=0, rtol=0)
    assert training.training


def test_a_frame_is_encoded_as_rows_of_cells(encoder: KeyEncoder) -> None:
    frame_encoder = FrameEncoder(encoder).eval()
    stride = encoder.profile.stride
    lab = torch.randn(1, 3, 4 * stride, 6 * stride)
    with torch.inference_mode():
        key, expected = frame_encoder(lab), encoder(lab)
    assert key.shape == (4, 6, 64)
    assert key.is_contiguous()
    assert (key.permute(2, 0, 1) - expected[0]).abs().max() < 1e-4 * expected.abs().max()
    frame_encoder.spec.check_arrays({"image": lab.numpy(), "key": key.numpy()})


@pytest.mark.parametrize("channel", [1, 2])
def test_a_hidden_channel_is_zero_and_the_rest_half_as_much_again(channel: int) -> None:
    lab = torch.randn(2, 4, 3, 5, 6)
    hidden = make_key_encoder(PROFILES["edge"]).hide(lab, channel)
    other = 3 - channel
    assert not hidden[:, :, channel].any()
    assert torch.equal(hidden[:, :, [0, other]], 1.5 * lab[:, :, [0, other]])
    assert lab[:, :, channel].abs().min() > 0


# Motion (MER, eq. 5).


@pytest.fixture(scope="module")
def moved() -> KeyEncoder:
    torch.manual_seed(0)
    return make_key_encoder(PROFILES["edge"], motion=True).eval()


def test_flow_is_added_to_the_frame_by_alpha(moved: KeyEncoder) -> None:
    lab, flow = torch.randn(2, 1, 3, 32, 32)
    assert moved.alpha is not None
    assert moved.alpha.item() == pytest.approx(0.1)
    with torch.inference_mode():
        assert torch.equal(moved(lab, flow), moved(lab + moved.alpha * flow))
        assert not torch.equal(moved(lab, flow), moved(lab))
        # A frame at rest is a frame without flow.
        assert torch.equal(moved(lab, torch.zeros_like(flow)), moved(lab))


def test_alpha_learns() -> None:
    encoder = make_key_encoder(PROFILES["edge"], motion=True)
    lab, flow = torch.randn(2, 2, 3, 32, 32)
    encoder(lab, flow).square().mean().backward()
    assert encoder.alpha is not None
    assert encoder.alpha.grad is not None
    assert encoder.alpha.grad.isfinite()
    assert encoder.alpha.grad != 0


def test_an_encoder_without_motion_ignores_flow(encoder: KeyEncoder) -> None:
    lab, flow = torch.randn(2, 1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(encoder(lab, flow), encoder(lab))
    assert [tensor.name for tensor in FrameEncoder(encoder).spec.inputs] == ["image"]


def test_an_exported_encoder_with_motion_takes_flow_as_well(moved: KeyEncoder) -> None:
    frame_encoder = FrameEncoder(moved).eval()
    assert [tensor.name for tensor in frame_encoder.spec.inputs] == ["image", "flow"]
    lab, flow = torch.randn(2, 1, 3, 32, 48)
    with torch.inference_mode():
        key, expected = frame_encoder(lab, flow), moved(lab, flow)
    assert (key.permute(2, 0, 1) - expected[0]).abs().max() < 1e-4 * expected.abs().max()
    arrays = {"image": lab.numpy(), "flow": flow.numpy(), "key": key.numpy()}
    frame_encoder.spec.check_arrays(arrays)
    plain = FrameEncoder(make_key_encoder(PROFILES["edge"]))
    lengths = {"H": 32, "W": 48}
    assert frame_encoder.count_macs(lengths) == plain.count_macs(lengths)
