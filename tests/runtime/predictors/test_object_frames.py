"""What SRNet's graphs leave to each other: logits that are none are noticed wherever they lie."""

from __future__ import annotations

import numpy as np
import pytest

from tests.runtime.engines.fake_cuda import FakeCuda
from vcedge_runtime.buffers import DeviceArray
from vcedge_runtime.predictors.finite import NotFiniteError
from vcedge_runtime.predictors.object_frames import LOOK_EVERY, FoundObjects

SHAPE = (2, 32, 48)


def make_found(device: FakeCuda | None) -> FoundObjects:
    return FoundObjects(2, SHAPE[1:], (2, 3), 16, device)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_of_the_host_are_looked_at_in_every_frame(value: float) -> None:
    found, scratch = make_found(None), np.zeros(SHAPE, np.float32)
    assert isinstance(found.logits, np.ndarray)
    for frame in (1, 2, 3):
        found.require_finite_logits(frame, scratch)
    found.logits[1, 16, 24] = value
    for frame in (1, 2, 3):
        with pytest.raises(NotFiniteError, match="logits of the model that are not finite"):
            found.require_finite_logits(frame, scratch)


def test_those_of_a_device_cross_now_and_then_alone() -> None:
    device = FakeCuda()
    found, scratch = make_found(device), np.zeros(SHAPE, np.float32)
    assert isinstance(found.logits, DeviceArray)
    bad = np.zeros(SHAPE, np.float32)
    bad[1, 16, 24] = np.nan
    found.logits.write(bad)
    device.synchronize()
    device.copied_out.clear()
    noticed = []
    for frame in range(1, 2 * LOOK_EVERY + 1):
        try:
            found.require_finite_logits(frame, scratch)
        except NotFiniteError:
            noticed.append(frame)
    assert noticed == [1, 1 + LOOK_EVERY]
    assert device.copied_out == 2 * [bad.nbytes]
