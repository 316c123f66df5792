"""The tables that average a key grid to tokens and spread a map of windows over it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcedge_runtime.sampling.tokens import TOKENS, WINDOWS, token_grid

LENGTHS = st.integers(1, 130)


@settings(max_examples=60)
@given(height=LENGTHS, width=LENGTHS, tokens=st.sampled_from([8, 16, 24, 32]))
def test_averages_and_interpolations_keep_a_constant(height: int, width: int, tokens: int) -> None:
    grid = token_grid((height, width), tokens)
    assert grid.pool_y.shape == (tokens, height)
    assert grid.pool_x.shape == (width, tokens)
    assert grid.up_y.shape == (height, WINDOWS)
    assert grid.up_x.shape == (WINDOWS, width)
    # Rows of at most 130 shares in FP32.
    for rows in (grid.pool_y, grid.pool_x.T, grid.up_y, grid.up_x.T):
        np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
        assert rows.min() >= 0
        assert rows.dtype == np.float32
    for table in vars(grid).values():
        assert table.flags.c_contiguous


@settings(max_examples=40)
@given(length=st.integers(8, 130), tokens=st.sampled_from([8, 32]))
def test_every_cell_has_the_same_share_in_all_tokens(length: int, tokens: int) -> None:
    shares = token_grid((length, length), tokens).pool_y.sum(axis=0)
    np.testing.assert_allclose(shares, tokens / length, rtol=1e-4)


@pytest.mark.parametrize(("length", "cells"), [(64, 2), (96, 3)])
def test_a_multiple_is_cut_into_equal_parts(length: int, cells: int) -> None:
    expected = np.kron(np.eye(TOKENS), np.full(cells, 1 / cells)).astype(np.float32)
    np.testing.assert_allclose(token_grid((length, length)).pool_y, expected, atol=1e-7)


def test_a_token_takes_part_of_a_cell_by_its_overlap() -> None:
    # Twelve cells to eight tokens: each spans a cell and a half.
    pooled = token_grid((12, 12), 8).pool_y
    np.testing.assert_allclose(pooled[0, :3], [2 / 3, 1 / 3, 0], atol=1e-6)
    np.testing.assert_allclose(pooled[1, :4], [0, 1 / 3, 2 / 3, 0], atol=1e-6)


def test_a_grid_smaller_than_its_tokens_is_stretched() -> None:
    plane = np.arange(16.0).reshape(4, 4)
    grid = token_grid((4, 4), 8)
    pooled = grid.pool_y @ plane @ grid.pool_x
    np.testing.assert_allclose(pooled, plane.repeat(2, 0).repeat(2, 1), atol=1e-5)


def test_tokens_are_what_pytorchs_average_is_where_both_cut_alike() -> None:
    torch = pytest.importorskip("torch", reason="its average pooling is compared with")
    plane = np.random.default_rng(0).standard_normal((64, 96)).astype(np.float32)
    grid = token_grid((64, 96))
    expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(plane)[None], TOKENS)[0]
    np.testing.assert_allclose(grid.pool_y @ plane @ grid.pool_x, expected, atol=1e-5)


@pytest.mark.parametrize("grid_hw", [(12, 20), (60, 107), (8, 8), (5, 3)])
def test_a_map_is_spread_as_pytorch_resizes_it(grid_hw: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch", reason="its interpolation is compared with")
    windows = np.random.default_rng(0).standard_normal((WINDOWS, WINDOWS)).astype(np.float32)
    grid = token_grid(grid_hw)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(windows)[None, None], grid_hw, mode="bilinear", align_corners=False
    )[0, 0]
    np.testing.assert_allclose(grid.up_y @ windows @ grid.up_x, expected, atol=1e-5)
