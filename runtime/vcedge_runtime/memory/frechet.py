"""How unlike two frames are: the Frechet distance of Gaussians fitted to their keys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLES = 2048
"""Most key cells of one fit (our choice)."""
CELLS_PER_CHANNEL = 2
"""An object's own fit needs this many cells for each key channel (our choice)."""


@dataclass(frozen=True)
class FeatureFit:
    """A Gaussian fitted to the L2-normalised keys of one frame.

    Attributes:
        mean: (C,) float64.
        root: (C, C) float64, R of the thin QR of the centred keys; root.T @ root is the covariance.
    """

    mean: NDArray[np.float64]
    root: NDArray[np.float64]


def fit_features(
    key: NDArray[np.float32], region: NDArray[np.bool_] | None = None, samples: int = SAMPLES
) -> FeatureFit:
    """Fit a Gaussian to the keys of a frame, or of one region of it.

    Args:
        key: (h, w, C) float32.
        region: (h, w) bool, the cells to fit; one of fewer than 2 C cells is not heeded.
        samples: most cells that are used, on a regular grid.
    """
    cells = _sample_cells(key, region, samples).astype(np.float64)
    lengths = np.linalg.norm(cells, axis=1, keepdims=True)
    cells /= np.maximum(lengths, np.finfo(np.float32).tiny)
    mean = cells.mean(axis=0)
    rows = np.linalg.qr(cells - mean, mode="r") / np.sqrt(max(1, len(cells) - 1))
    root = np.zeros((key.shape[-1], key.shape[-1]))
    root[: len(rows)] = rows
    return FeatureFit(mean, root)


def frechet_distance(one: FeatureFit, other: FeatureFit) -> float:
    """Squared Frechet distance of two fits, 0 (the same) to 4.

    Frechet distance of Gaussians (Dowson and Landau, 1982), as in FID (Heusel et al., 2017, eq. 6).
    The trace of the square root of the covariances' product is the nuclear norm of the product of
    their roots (our form), so that singular covariances need no care.
    """
    shift = one.mean - other.mean
    nuclear = np.linalg.svd(one.root @ other.root.T, compute_uv=False).sum()
    spread = np.square(one.root).sum() + np.square(other.root).sum()
    return max(0.0, float(shift @ shift + spread - 2 * nuclear))


def _sample_cells(
    key: NDArray[np.float32], region: NDArray[np.bool_] | None, samples: int
) -> NDArray[np.float32]:
    """Cells to fit, (n, C), n at most ``samples``."""
    height, width, channels = key.shape
    if region is not None and np.count_nonzero(region) >= CELLS_PER_CHANNEL * channels:
        cells = key[region]
        return cells[:: -(-len(cells) // samples)]
    step = 1
    while -(-height // step) * -(-width // step) > samples:
        step += 1
    return key[::step, ::step].reshape(-1, channels)
