"""How far an output of a graph is from the model's, and how far it may be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from vcedge_runtime.buffers import HostArray
from vcedge_runtime.propagation.readout import EMPTY_LOGIT


@dataclass(frozen=True)
class Bounds:
    """How far an exported graph may be from the model (our choice).

    Attributes:
        largest: error of an output, as a share of its largest magnitude.
        mean: likewise, over all of the output.
        score: J&F over a clip.
    """

    largest: float
    mean: float
    score: float


BOUNDS = {
    # Convolutions sum in another order: 1e-4 is usual, a defect is above 1e-2.
    "fp32": Bounds(1e-3, 1e-3, 0.002),
    # FP16 rounds by 5e-4; measured on the shipped models: 2.3e-3 and 1.6e-4.
    "fp16": Bounds(2e-2, 2e-3, 0.003),
    # A step of 8 bits is 4e-3 of the range; single values may be clipped. Measured: means of 9e-3.
    "int8": Bounds(1.0, 5e-2, 0.01),
}
"""By precision; a bundle's score may differ by what the coarsest of its graphs may."""
SELECTING = {"memory_read.readout": 0.1}
"""Largest error of an output that hangs on which cells are the k nearest, in any precision, as a
share of the magnitude: where two are as near to the last bit, either may be taken. Of k = 20 the
last has a twentieth of the weight at most, and such cells are rare: of the mean error, which was
2e-8, a hundredth of the bound is allowed."""


def bounds_of(tensor: str, precision: str) -> Bounds:
    """How far an output, ``graph.output``, may be off in a precision."""
    bounds = BOUNDS[precision]
    if tensor not in SELECTING:
        return bounds
    return replace(bounds, largest=SELECTING[tensor], mean=bounds.mean / 100)


@dataclass(frozen=True)
class OutputDifference:
    """How far one output of a graph is from the model's, over all frames.

    Attributes:
        tensor: graph and output.
        precision: of the graph.
        largest: error.
        mean: error.
        median: error, of the run where it is largest.
        magnitude: largest of the model's output.
        cosine: of both outputs.
        non_finite: values that are NaN or infinite in either.
    """

    tensor: str
    precision: str
    largest: float
    mean: float
    median: float
    magnitude: float
    cosine: float
    non_finite: int

    @property
    def passes(self) -> bool:
        """Whether the output is the model's."""
        return self.non_finite == 0 and self.share_of_bound <= 1

    @property
    def share_of_bound(self) -> float:
        """Its error over what it may be: of the largest and the mean, the larger share."""
        if self.largest == 0:
            return 0.0
        bounds = bounds_of(self.tensor, self.precision)
        share = max(self.largest / bounds.largest, self.mean / bounds.mean)
        return share / self.magnitude if self.magnitude else float("inf")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, which has no number that is not finite: None stands for it."""
        values = asdict(self).items()
        return {n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in values}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> OutputDifference:
        """Read what ``to_json`` gave."""
        values: dict[str, Any] = {name: row[name] for name in cls.__dataclass_fields__}
        nothing = {name: math.nan for name, value in values.items() if value is None}
        return cls(**{**values, **nothing})


def read_outputs(found: Mapping[str, Any]) -> list[OutputDifference]:
    """Read the outputs of what ``Verification.to_json`` gave, of unrounded graphs too."""
    rows = [OutputDifference.from_json(row) for row in found["outputs"]]
    return rows + (read_outputs(found["unrounded"]) if "unrounded" in found else [])


def find_worst(outputs: Sequence[OutputDifference]) -> OutputDifference:
    """The output whose error is the largest share of what it may be."""
    return max(outputs, key=lambda row: (row.non_finite, row.share_of_bound))


class Difference:
    """Sums up how far one output is from the model's, run by run."""

    def __init__(self, tensor: str, precision: str) -> None:
        self._tensor = tensor
        self._precision = precision
        self._sums = np.zeros(5)
        self._largest = self._magnitude = self._median = 0.0
        self._non_finite = 0

    def add(self, output: HostArray, model_output: HostArray) -> None:
        """Compare; where both are masked logits, their values mean nothing."""
        masked = (output < EMPTY_LOGIT) & (model_output < EMPTY_LOGIT)
        found, expected = (a[~masked].astype(np.float64) for a in (output, model_output))
        error = np.abs(found - expected)
        self._largest = float(error.max(initial=self._largest))
        if error.size:
            self._median = max(self._median, float(np.median(error)))
        self._magnitude = float(np.abs(expected).max(initial=self._magnitude))
        self._non_finite += int((~np.isfinite(error)).sum())
        squares = [(found * expected).sum(), (found**2).sum(), (expected**2).sum()]
        self._sums += [error.sum(), error.size, *squares]

    def result(self) -> OutputDifference | None:
        """Sum up; None for an output that no run wrote."""
        total, count, product, found, expected = self._sums
        if count == 0:
            return None
        return OutputDifference(
            tensor=self._tensor,
            precision=self._precision,
            largest=self._largest,
            mean=total / count,
            median=self._median,
            magnitude=self._magnitude,
            # Of zeros there is no direction: the largest error tells whether both are.
            cosine=product / np.sqrt(found * expected) if found * expected else 1.0,
            non_finite=self._non_finite,
        )
