"""The dense affinity that everything else is compared with, against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vcedge.models.affinity import MASKED_LOGIT, reconstruct, window_bias


@pytest.mark.parametrize("radius", [1, 2, 9])
def test_the_window_is_a_square_cut_by_the_image(radius: int) -> None:
    height, width = 4, 6
    bias = window_bias(height, width, radius).numpy()
    for i in range(height * width):
        for j in range(height * width):
            far_y, far_x = abs(i // width - j // width), abs(i % width - j % width)
            assert bias[i, j] == (0 if max(far_y, far_x) <= radius else MASKED_LOGIT)


def test_reconstruction_is_one_softmax_over_all_references() -> None:
    batch, references, channels, height, width = 2, 3, 5, 4, 3
    query = torch.randn(batch, channels, height, width)
    keys = torch.randn(batch, references, channels, height, width)
    values = torch.randn(batch, references, 2, height, width)
    found = reconstruct(query, keys, values, window_bias(height, width, 1))
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                weights, total = 0.0, torch.zeros(2)
                for r in range(references):
                    for ky in range(max(0, y - 1), min(height, y + 2)):
                        for kx in range(max(0, x - 1), min(width, x + 2)):
                            logit = query[b, :, y, x] @ keys[b, r, :, ky, kx] / math.sqrt(channels)
                            weights += math.exp(logit)
                            total += math.exp(logit) * values[b, r, :, ky, kx]
                # FP32 against FP32: 27 terms in another order.
                torch.testing.assert_close(found[b, :, y, x], total / weights, atol=1e-5, rtol=0)


def test_what_all_references_agree_on_is_kept() -> None:
    values = torch.full((1, 2, 3, 5, 5), 0.7)
    found = reconstruct(
        torch.randn(1, 8, 5, 5), torch.randn(1, 2, 8, 5, 5), values, window_bias(5, 5, 2)
    )
    np.testing.assert_allclose(found.numpy(), 0.7, atol=1e-6)


def test_keys_in_half_precision_give_values_in_single() -> None:
    keys = torch.randn(1, 2, 8, 5, 5)
    query = keys[:, 0]
    values = torch.rand(1, 2, 3, 5, 5)
    exact = reconstruct(query, keys, values, window_bias(5, 5, 2))
    found = reconstruct(query.bfloat16(), keys.bfloat16(), values, window_bias(5, 5, 2))
    assert found.dtype == torch.float32
    # bfloat16 has 8 bits: a logit of about 3 is off by up to 0.02, and so is a weight.
    torch.testing.assert_close(found, exact, atol=0.05, rtol=0)
