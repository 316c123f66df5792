"""Windows: rectangles of a frame in whole key cells, and what moves between them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge_runtime.frames.windows import LARGE, Window, bring_over, find_box, overlap

GRID = (6, 10)


@st.composite
def windows(draw: st.DrawFn, frame_hw: tuple[int, int] = (480, 854)) -> Window:
    """Any window of a frame."""
    span = (draw(st.integers(GRID[0], 40)), draw(st.integers(GRID[1], 40)))
    at = [draw(st.integers(0, span[axis] - GRID[axis])) for axis in (0, 1)]
    return Window(frame_hw, GRID, span, (at[0], at[1]))


def places(window: Window) -> NDArray[np.float32]:
    """(h, w, 2): the middle of each cell, in pixels."""
    axes = [
        (np.arange(cells) + at + 0.5) * pixels / span
        for pixels, cells, span, at in zip(
            window.frame_hw, window.grid_hw, window.span_hw, window.at, strict=True
        )
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).astype(np.float32)


def moved(array: NDArray[np.float32], former: Window, window: Window) -> NDArray[np.float32]:
    """What another window shows of an array."""
    out = np.empty_like(array)
    bring_over(array, former, window, out)
    return out


@given(windows() | windows((1080, 1920)))
def test_a_window_lies_in_its_frame(window: Window) -> None:
    frame = np.zeros(window.frame_hw, np.uint8)
    part = frame[window.slices]
    for axis in (0, 1):
        # Rounding moves each side by half a pixel at most, by two where frames are large.
        expected = window.frame_hw[axis] * GRID[axis] / window.span_hw[axis]
        assert abs(part.shape[axis] - expected) <= (4 if window.frame_hw[axis] >= LARGE else 1)
    assert window.is_whole == (part.shape == frame.shape)


@given(windows((2160, 3840)))
def test_what_a_window_shows_of_a_large_frame_can_be_halved_twice(window: Window) -> None:
    part = np.zeros(window.frame_hw, np.uint8)[window.slices]
    assert part.shape[0] % 4 == part.shape[1] % 4 == 0


@given(windows(), windows())
def test_what_moves_stays_where_it_is_in_the_frame(former: Window, window: Window) -> None:
    found = moved(places(former), former, window)
    # Beyond the former window its border stands.
    edge = places(former)
    expected = places(window).clip(edge[0, 0], edge[-1, -1])
    # Frames are of hundreds of pixels, in float32.
    np.testing.assert_allclose(found, expected, atol=1e-3 * 854)
    np.testing.assert_allclose(found, expected, atol=0.05)


@given(windows(), st.integers(-3, 3), st.integers(-3, 3))
def test_between_windows_of_one_scale_cells_are_copied(
    former: Window, down: int, right: int
) -> None:
    at = [former.at[0] + down, former.at[1] + right]
    at = [min(max(at[axis], 0), former.span_hw[axis] - GRID[axis]) for axis in (0, 1)]
    window = Window(former.frame_hw, GRID, former.span_hw, (at[0], at[1]))
    values = np.random.default_rng(0).random((*GRID, 2, 3), np.float32)
    rows, columns = (
        (np.arange(GRID[axis]) + at[axis] - former.at[axis]).clip(0, GRID[axis] - 1)
        for axis in (0, 1)
    )
    assert np.array_equal(moved(values, former, window), values[rows][:, columns])


@given(windows() | windows((1080, 1920)))
def test_a_finer_grid_shows_the_same(window: Window) -> None:
    fine = window.in_cells((GRID[0] * 16, GRID[1] * 16))
    assert fine.slices == window.slices
    assert fine.is_whole == window.is_whole


def test_the_box_of_a_mask_leaves_specks_out() -> None:
    mask = np.zeros((100, 200), np.bool_)
    assert find_box(mask) is None
    mask[20:60, 50:90] = True
    mask[95, 190] = mask[1, 3] = True
    assert find_box(mask) == (20, 50, 60, 90)
    assert find_box(mask, trim=0) == (1, 3, 96, 191)


@pytest.mark.parametrize("place", [(0, 0), (99, 199), (40, 7)])
def test_the_box_of_one_pixel_is_one_pixel(place: tuple[int, int]) -> None:
    mask = np.zeros((100, 200), np.bool_)
    mask[place] = True
    assert find_box(mask) == (*place, place[0] + 1, place[1] + 1)


@given(windows(), windows())
def test_the_overlap_is_what_both_windows_show(former: Window, window: Window) -> None:
    found = overlap(former, window)
    cells = np.array([former.frame_hw[axis] / former.span_hw[axis] for axis in (0, 1)])
    first = cells * former.at
    last = first + cells * former.grid_hw
    inside = ((places(window) >= first - 1e-3) & (places(window) < last + 1e-3)).all(axis=-1)
    clear = (np.abs(places(window) - first) > 1e-2).all(-1)
    clear &= (np.abs(places(window) - last) > 1e-2).all(-1)
    np.testing.assert_array_equal(found[clear], inside[clear])
    assert overlap(window, window).all()
