"""The pretrained key encoder: colours, likeness, what it begins with."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import nn

from vcedge.models.efficientnet_lite import EfficientNetLite
from vcedge.models.encoder import PROFILES, FrameEncoder
from vcedge.models.lite_encoder import LEVELS, SHARPNESS, LiteKeyEncoder, rgb_from_lab
from vcedge.models.network import KeyNetwork
from vcedge.models.pyramid import Pyramid
from vcedge.models.srnet import SRNET_PROFILES, SRNet
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.frames.colour import LAB

LITE = PROFILES["lite"]


@pytest.fixture(scope="module")
def encoder() -> LiteKeyEncoder:
    torch.manual_seed(0)
    encoder = LiteKeyEncoder(LITE)
    settle(encoder.trunk)
    return encoder.eval()


def settle(trunk: EfficientNetLite) -> None:
    """Take the statistics of one picture, so that features are about 1 before any training."""
    norms = [module for module in trunk.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        trunk.train()(torch.randn(1, 3, 256, 256))
    trunk.eval()


def bgr_frame(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)


def as_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1).copy())[None]


def test_lab_becomes_the_colours_that_the_trunk_learned() -> None:
    frame = bgr_frame(16, 24)
    # All greys, among them those where sRGB is linear.
    frame[0] = np.arange(24)[:, None]
    found = rgb_from_lab(as_tensor(LAB.convert(frame)), LITE.colour)
    expected = as_tensor(LITE.colour.convert(frame))
    # OpenCV's Lab is interpolated in tables: up to a level of 255, a fourth of one in the mean.
    assert (found - expected).abs().max() * LITE.colour.scale[0] < 1
    assert (found - expected).abs().mean() * LITE.colour.scale[0] < 0.3


def test_what_no_screen_can_show_is_clipped_and_has_a_gradient() -> None:
    lab = torch.tensor([-1.5, 1.0, -1.0])[None, :, None, None].requires_grad_()
    found = rgb_from_lab(lab, LITE.colour)
    levels = found * LITE.colour.scale[0] + LITE.colour.mean[0]
    assert levels.min() >= -1e-3
    assert levels.max() <= 255 + 1e-3
    found.sum().backward()
    assert lab.grad is not None
    assert lab.grad.isfinite().all()


@pytest.mark.parametrize("channel", [1, 2])
def test_frames_that_differ_in_the_hidden_channel_look_alike(
    encoder: LiteKeyEncoder, channel: int
) -> None:
    lab = as_tensor(LAB.convert(bgr_frame(16, 16)))
    other = lab.clone()
    other[:, channel] = 0.3
    assert torch.equal(encoder.hide(lab, channel), encoder.hide(other, channel))
    kept = lab.clone()
    kept[:, channel] = 0
    assert torch.equal(encoder.hide(lab, channel), rgb_from_lab(kept, LITE.colour))


def test_each_stride_has_its_share_of_a_keys_likeness(encoder: LiteKeyEncoder) -> None:
    with torch.inference_mode():
        features = encoder._features(torch.randn(1, 3, 64, 96))
    fine, middle, coarse = features.split(encoder.trunk.widths, 1)
    for part, weight in ((fine, LEVELS[0]), (middle, LEVELS[1])):
        torch.testing.assert_close(part.norm(dim=1), torch.full((1, 8, 12), weight))
    # What is blended of four coarse cells is shorter than they are.
    assert coarse.norm(dim=1).max() <= LEVELS[2] + 1e-5
    assert coarse.norm(dim=1)[0, 0, 0].item() == pytest.approx(LEVELS[2])


def test_what_all_cells_have_is_no_likeness(encoder: LiteKeyEncoder) -> None:
    sides = (8, 4, 2)
    parts = [torch.randn(1, w, n, n) for w, n in zip(encoder.trunk.widths, sides, strict=True)]
    moved = [part + torch.rand(1, part.shape[1], 1, 1) for part in parts]
    found = []
    with torch.inference_mode():
        for frame in (parts, moved):
            with patch.object(encoder.trunk, "forward", return_value=Pyramid(*frame)):
                found.append(encoder(torch.zeros(1, 3, 32, 32)))
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (5, 7), (7, 4)])
def test_any_number_of_cells_has_its_key(encoder: LiteKeyEncoder, rows: int, columns: int) -> None:
    image = torch.zeros(1, 3, 8 * rows, 8 * columns)
    with torch.inference_mode():
        frame = encoder.trunk(image)
    assert frame.f8.shape[2:] == (rows, columns)
    assert frame.f16.shape[2:] == ((rows + 1) // 2, (columns + 1) // 2)
    with torch.inference_mode():
        assert encoder(image).shape == (1, 64, rows, columns)


def test_odd_sides_stand_over_the_same_pixels_as_even_ones() -> None:
    torch.manual_seed(0)
    trunk = EfficientNetLite("efficientnet-lite0")
    settle(trunk)
    picture = torch.randn(1, 3, 512, 512)
    with torch.inference_mode():
        whole = trunk(picture).f16
        less = trunk(picture[..., :504, :504]).f16
    assert less.shape == whole.shape
    # The upper left is far from where they differ.
    assert (less - whole)[..., :8, :8].abs().max() < 1e-4
    assert (less - whole)[..., -1, -1].abs().max() > 0.1


def test_a_gathered_head_keeps_likeness_as_well_as_any(encoder: LiteKeyEncoder) -> None:
    torch.manual_seed(1)
    trained = LiteKeyEncoder(LITE).eval()
    trained.trunk.load_state_dict(encoder.trunk.state_dict())
    images = [torch.randn(2, 3, 32, 48) for _ in range(3)]
    trained.gather(images)
    with torch.inference_mode():
        features = trained._features(images[0]).permute(0, 2, 3, 1).flatten(0, 2)
        keys = trained(images[0]).permute(0, 2, 3, 1).flatten(0, 2)
        others = encoder(images[0]).permute(0, 2, 3, 1).flatten(0, 2)
    wanted = SHARPNESS**2 * features @ features.T
    error = (keys @ keys.T - wanted).square().mean()
    assert error < 0.2 * wanted.square().mean()
    assert error < 0.5 * (others @ others.T - wanted).square().mean()
    rows = trained.head.weight[:, :, 0, 0]
    torch.testing.assert_close(rows @ rows.T, SHARPNESS**2 * torch.eye(64), atol=1e-3, rtol=0)


def test_the_trunk_begins_with_published_weights_and_flow_as_nothing() -> None:
    torch.manual_seed(0)
    trunk = EfficientNetLite("efficientnet-lite0")
    network = KeyNetwork(LITE, motion=True)
    network.take_weights(trunk)
    for name, value in trunk.state_dict().items():
        assert torch.equal(network.state_dict()[f"encoder.trunk.{name}"], value)
    assert network.encoder.alpha is not None
    assert network.encoder.alpha.item() == 0


@pytest.mark.parametrize("profile", ["edge", "paper"])
def test_networks_of_another_encoder_are_refused(profile: str) -> None:
    with pytest.raises(TrainingError, match="nothing fits an encoder that is efficientnet-lite0"):
        KeyNetwork(LITE).take_weights(KeyNetwork(PROFILES[profile]))
    with pytest.raises(TrainingError, match="nothing fits an encoder that is resnet18"):
        KeyNetwork(PROFILES[profile]).take_weights(KeyNetwork(LITE))
    with pytest.raises(TrainingError, match="nothing fits an encoder that is resnet18"):
        KeyNetwork(PROFILES[profile]).take_weights(EfficientNetLite("efficientnet-lite0"))
    with pytest.raises(TrainingError, match="nothing fits an encoder that is efficientnet-lite0"):
        KeyNetwork(LITE).take_weights(EfficientNetLite("efficientnet-lite2"))


def test_it_costs_a_ninth_of_the_other(encoder: LiteKeyEncoder) -> None:
    lengths = {"H": 96, "W": 128}
    share = FrameEncoder(encoder).count_macs(lengths) / FrameEncoder(
        KeyNetwork(PROFILES["edge"]).encoder
    ).count_macs(lengths)
    assert share == pytest.approx(1 / 9, abs=0.03)


def test_srnet_begins_with_the_trunk_and_refuses_that_of_another_encoder() -> None:
    torch.manual_seed(0)
    network = KeyNetwork(LITE)
    taken = SRNet(SRNET_PROFILES["srnet-lite"])
    taken.take_weights(network)
    for name, value in network.encoder.trunk.state_dict().items():
        assert torch.equal(taken.state_dict()[f"query.trunk.{name}"], value)
    with pytest.raises(TrainingError, match="a trunk that is efficientnet-lite0 for srnet-edge"):
        SRNet(SRNET_PROFILES["srnet-edge"]).take_weights(network)
