"""What is read from memory for some cells, reference by reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EMPTY_LOGIT = np.float32(-5e3)
"""A largest logit below this says that there was no key to read."""


@dataclass(frozen=True)
class Readout:
    """What T tiles of A queries read from each of R references; views, valid until the next read.

    Attributes:
        tiles: (T,) int64, which tiles were read.
        peak: (T, R, A) float32, largest logit.
        total: (T, R, A) float32, sum of exp(logit - peak).
        values: (T, R, A, V) float32, each reference's by its own softmax.
    """

    tiles: NDArray[np.int64]
    peak: NDArray[np.float32]
    total: NDArray[np.float32]
    values: NDArray[np.float32]

    @property
    def empty(self) -> NDArray[np.bool_]:
        """(T, R, A) bool: no key of the reference may be read."""
        return self.peak < EMPTY_LOGIT

    @property
    def lonely(self) -> NDArray[np.bool_]:
        """(T, A) bool: no key of any reference may be read."""
        return np.asarray(self.empty.all(axis=1), np.bool_)

    @property
    def log_total(self) -> NDArray[np.float32]:
        """(T, R, A) float32: logarithm of the sum of exp(logit); -inf where there is no key."""
        return np.where(self.empty, -np.inf, self.peak + np.log(self.total)).astype(np.float32)
