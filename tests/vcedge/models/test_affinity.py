"""The dense affinity that everything else is compared with, against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vcedge.models.affinity import (
    MASKED_LOGIT,
    affinity_logits,
    read_values,
    reconstruct,
    window_bias,
)


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


@pytest.mark.parametrize("references", [1, 3])
def test_rows_of_the_affinity_sum_to_1_over_all_references(references: int) -> None:
    torch.manual_seed(0)
    keys = torch.randn(2, references, 8, 5, 4)
    logits = affinity_logits(torch.randn(2, 8, 5, 4), keys, window_bias(5, 4, 1))
    assert logits.shape == (2, 20, references * 20)
    # Each cell of memory carries a channel of its own, so that what is read is the affinity.
    carried = torch.eye(references * 20).reshape(references, 5, 4, -1).permute(0, 3, 1, 2)
    rows = read_values(logits, carried.expand(2, -1, -1, -1, -1))
    torch.testing.assert_close(rows.sum(1), torch.ones(2, 5, 4))
    affinity = torch.softmax(logits, -1).transpose(1, 2).reshape(rows.shape)
    torch.testing.assert_close(rows, affinity, atol=1e-6, rtol=0)


def test_what_each_reference_gives_alone_merges_to_the_joint_softmax() -> None:
    torch.manual_seed(0)
    query, keys = torch.randn(1, 8, 4, 5), torch.randn(1, 3, 8, 4, 5)
    values, bias = torch.rand(1, 3, 2, 4, 5), window_bias(4, 5, 2)
    logits = affinity_logits(query, keys, bias).unflatten(-1, (3, 20))
    totals = torch.softmax(torch.logsumexp(logits, -1), -1)[0].T.reshape(3, 1, 4, 5)
    alone = [reconstruct(query, keys[:, [r]], values[:, [r]], bias)[0] for r in range(3)]
    joint = reconstruct(query, keys, values, bias)[0]
    torch.testing.assert_close((totals * torch.stack(alone)).sum(0), joint, atol=1e-6, rtol=0)


def test_identical_frames_with_distinct_cells_hand_values_on_unchanged() -> None:
    keys = 20 * torch.eye(20).reshape(1, 20, 4, 5)
    values = torch.rand(1, 1, 3, 4, 5)
    found = reconstruct(keys, keys[:, None], values, window_bias(4, 5, 9))
    # The own cell's logit is 89, the others' 0.
    torch.testing.assert_close(found, values[:, 0], atol=1e-6, rtol=0)
