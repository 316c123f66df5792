"""Named points drawn into frames."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.propagation.points import PointEstimate
from vcedge_runtime.video.point_overlay import PointOverlay
from vcedge_runtime.video.sinks import NO_STATES, Sink
from vcedge_runtime.video.sources import Frame

GROUND = np.full((120, 160, 3), 90, np.uint8)
SEEN = PointEstimate(80, 70, True, 0.9)
FAINT = PointEstimate(30, 30, False, 0.1)


class Kept(Sink):
    """Keeps the last picture."""

    def write(
        self,
        frame: Frame,
        labels: NDArray[np.uint8],
        scores: Mapping[int, float],
        states: Mapping[int, str] = NO_STATES,
    ) -> None:
        assert not labels.any()
        assert not scores
        self.picture = frame.image

    def close(self) -> None:
        pass


def draw(points: Mapping[str, PointEstimate]) -> NDArray[np.uint8]:
    kept = Kept()
    PointOverlay(kept).write(Frame(0, "00000", GROUND), points)
    return kept.picture


def test_a_point_is_named_above_its_place() -> None:
    rows, columns = np.nonzero((draw({"nose": SEEN}) != GROUND).any(axis=2))
    written = rows < 65
    assert written.sum() > 200
    assert abs(columns[written].mean() - 80) < 3
    assert not np.array_equal(draw({"nose": SEEN}), draw({"tail": SEEN}))


def test_a_point_that_is_not_visible_leaves_the_frame_as_it_is() -> None:
    np.testing.assert_array_equal(draw({"nose": FAINT}), GROUND)
