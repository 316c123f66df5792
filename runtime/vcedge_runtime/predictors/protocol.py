"""What every predictor is: the state of one video, which the tracker starts, steps and asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.frames.windows import Window
from vcedge_runtime.propagation.labels import Decision
from vcedge_runtime.timing import Timings


class Predictor(Protocol):
    """What is known of one video from frame to frame; it is started once.

    A step that fails leaves the last frame the last. ``draw`` and ``forget`` do everything or
    nothing, whatever fails.
    """

    @property
    def frame(self) -> int:
        """Number of the last frame that is done."""

    @property
    def object_ids(self) -> list[int]:
        """Ids that are followed, in the order they were added."""

    @property
    def point_names(self) -> Sequence[str]:
        """Names of the points that are followed instead of objects; none where masks are."""

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Height and width of the key grid."""

    @property
    def label_hw(self) -> tuple[int, int]:
        """Height and width of what masks are decided from."""

    @property
    def memory_bytes(self) -> int:
        """Bytes of all arrays that outlive a frame, at most; no step changes it."""

    @property
    def readout_macs(self) -> int:
        """Multiply-accumulates of the readouts of all frames so far."""

    def look(self, window: Window) -> None:
        """Take the frames to come through this window of them; what is remembered stays."""

    def look_again(self, image: NDArray[np.float32], window: Window) -> None:
        """See the last frame through another window; its masks move there.

        Args:
            image: (H, W, 3) float32, the window's part of that frame, as in ``step``.
            window: the other one.
        """

    def show(self, image: NDArray[np.float32], mask: NDArray[np.uint8]) -> None:
        """Take the next frame and the mask of all objects in it, which is kept for good.

        Args:
            image: as in ``step``.
            mask: (H', W') uint8 object ids, in the window's own pixels.
        """

    def start(
        self, image: NDArray[np.float32], mask: NDArray[np.uint8], objects: list[int]
    ) -> None:
        """Take the first frame and its mask.

        Args:
            image: (H, W, 3) float32, the encoder's colours, as ``prepare_frame`` gives it.
            mask: (H', W') uint8 object ids, in the window's own pixels.
            objects: ids that are followed.
        """

    def step(self, image: NDArray[np.float32], timings: Timings) -> None:
        """Take the next frame.

        Args:
            image: (H, W, 3) float32, the encoder's colours, as ``prepare_frame`` gives it.
            timings: takes each stage's milliseconds.
        """

    def decide(self, frame: NDArray[np.uint8]) -> Decision:
        """Say which object is where in the last frame, or where each point is.

        Args:
            frame: (H', W', 3) uint8 BGR, the window's part of that frame in its own pixels.
        """

    def draw(self, object_id: int, mask: NDArray[np.uint8]) -> None:
        """Follow an object from the last frame on, or correct its mask there; pin that frame.

        Earlier frames in memory learn of it too, but for those in which it was drawn before.

        Args:
            object_id: 1 to 255.
            mask: (H', W') uint8, 1 where the object is, in the window's own pixels.
        """

    def forget(self, object_id: int) -> None:
        """Follow an object no longer; what it covered becomes background."""


class PointPredictor(Predictor, Protocol):
    """A predictor that can follow named points as well as masks."""

    def start_points(
        self,
        image: NDArray[np.float32],
        points: Mapping[str, tuple[float, float]],
        frame_hw: tuple[int, int],
    ) -> None:
        """Take the first frame and where its points are.

        Args:
            image: (H, W, 3) float32, the encoder's colours, as ``prepare_frame`` gives it.
            points: x and y of each, in the frame's own pixels.
            frame_hw: height and width of the frame.
        """


@contextmanager
def everything_or_nothing(restore: Callable[[], None]) -> Iterator[None]:
    """Put back what a block changed where it fails, whatever it fails by.

    Args:
        restore: puts everything back as it was before the block.
    """
    try:
        yield
    except BaseException:
        restore()
        raise
