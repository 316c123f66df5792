"""The mask decoder: objects by themselves, the frame's own features for all of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vcedge.models.mask_decoder import MaskDecoder

# The same sums in batches of other sizes, whose convolutions may add in another order: float32.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
GRID = (4, 5)


@pytest.fixture
def decoder() -> MaskDecoder:
    torch.manual_seed(0)
    return MaskDecoder(12, 10, (8, 6), (14, 9, 7), 3).eval()


def make_inputs(objects: int = 3, batch: int = 2) -> tuple[Tensor, ...]:
    """Make features of objects, and content and features of their frames."""
    torch.manual_seed(1)
    height, width = GRID
    f4 = torch.randn(batch, 6, 4 * height, 4 * width)
    f8 = torch.randn(batch, 8, 2 * height, 2 * width)
    return torch.randn(batch, objects, 12, *GRID), torch.randn(batch, 10, *GRID), f8, f4


def decode(decoder: MaskDecoder, x: Tensor, *frame: Tensor) -> Tensor:
    with torch.inference_mode():
        found: Tensor = decoder(x, *frame)
    return found


def test_logits_have_the_frames_size(decoder: MaskDecoder) -> None:
    found = decode(decoder, *make_inputs())
    assert found.shape == (2, 3, 16 * GRID[0], 16 * GRID[1])
    assert found.isfinite().all()


def test_objects_together_are_decoded_as_each_alone(decoder: MaskDecoder) -> None:
    x, *frame = make_inputs()
    together = decode(decoder, x, *frame)
    alone = [decode(decoder, x[:, [k]], *frame) for k in range(3)]
    torch.testing.assert_close(together, torch.cat(alone, 1), **CLOSE)
    assert (together[:, 0] - together[:, 1]).abs().max() > 0.01


def test_frames_of_a_batch_are_decoded_as_each_alone(decoder: MaskDecoder) -> None:
    x, *frame = make_inputs()
    together = decode(decoder, x, *frame)
    for b in range(2):
        alone = decode(decoder, x[[b]], *(part[[b]] for part in frame))
        torch.testing.assert_close(together[[b]], alone, **CLOSE)


@pytest.mark.parametrize("part", ["x", "content", "f8", "f4"])
def test_whatever_it_takes_changes_the_logits_where_it_changes(
    decoder: MaskDecoder, part: str
) -> None:
    x, content, f8, f4 = make_inputs(batch=1)
    parts = {"x": x, "content": content, "f8": f8, "f4": f4}
    before = decode(decoder, x, content, f8, f4)
    height, width = parts[part].shape[-2:]
    # The cell of row 1 and column 3 of the coarsest grid, at the part's own stride.
    rows, columns = (
        slice(at * length // cells, (at + 1) * length // cells)
        for at, length, cells in zip((1, 3), (height, width), GRID, strict=True)
    )
    changed = {name: each.clone() for name, each in parts.items()}
    changed[part][..., rows, columns] += 3
    after = decode(decoder, *changed.values())
    moved = (after - before).square().sum((0, 1))
    assert moved.sum() > 1e-3
    moved /= moved.sum()
    y, x_at = (torch.arange(16.0 * cells) for cells in GRID)
    # The cell's middle in pixels; the receptive field is cut off by the border on its near side,
    # and weights are random: within one cell.
    assert (moved.sum(1) @ y).item() == pytest.approx(16 * 1.5, abs=16)
    assert (moved.sum(0) @ x_at).item() == pytest.approx(16 * 3.5, abs=16)


def test_stcns_decoder_is_as_large_as_stcns() -> None:
    sizes = {
        value_dim: sum(
            parameter.numel()
            for parameter in MaskDecoder(
                value_dim, value_dim, (512, 256), (512, 256, 256), 3
            ).parameters()
        )
        for value_dim in (256, 512)
    }
    assert sizes[256] == pytest.approx(11.8e6, rel=0.01)
    assert sizes[512] == pytest.approx(18.9e6, rel=0.01)


def test_gradients_reach_every_weight(decoder: MaskDecoder) -> None:
    x, *frame = make_inputs(objects=1)
    decoder(x, *frame).square().mean().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
