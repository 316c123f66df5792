"""Milliseconds of the stages of a step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = (
    "resize",
    "flow",
    "upload",
    "encode",
    "values",
    "memory",
    "sample",
    "align",
    "readout",
    "prototypes",
    "segment",
    "download",
    "remember",
    "upsample",
)
"""What a step does, in order; a model does not need to have all of it."""
Timings = dict[str, float]
"""By stage."""


@contextmanager
def timed(timings: Timings, stage: str) -> Iterator[None]:
    """Add the milliseconds that a block takes to those of its stage."""
    began = time.perf_counter()
    yield
    timings[stage] = timings.get(stage, 0.0) + 1000 * (time.perf_counter() - began)
