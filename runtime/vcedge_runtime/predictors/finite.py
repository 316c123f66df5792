"""Numbers of the graphs that are none: they are refused before memory or a mask is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import EngineError


class NotFiniteError(EngineError):
    """A graph gave a NaN or an infinity; the frame can be passed over."""


def require_finite(array: NDArray[Any], what: str) -> None:
    """Refuse an array that holds a NaN or an infinity; a sum is enough to tell.

    Args:
        array: float32, of numbers whose sum float32 can hold.
        what: what the error calls it.

    Raises:
        NotFiniteError: it does.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        total = array.sum()
    if not np.isfinite(total):
        raise NotFiniteError(
            f"received {what} of the model that are not finite; expected numbers: a graph overflows"
            " in its precision, or the bundle is damaged; `vcedge verify` tells where; try another"
            " --backend"
        )
