"""Trackers that know the motion, and small data sets that have it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vcedge_runtime.propagation.points import PointEstimate
from vcedge_runtime.video.palette import write_label_png

Image = NDArray[np.uint8]


class MovingPoints:
    """Moves its points by ``shift`` each step; those named in ``lose`` are gone after the first.

    Attributes:
        frames: what it was given, the first included.
        started: the points of each video.
    """

    def __init__(self, shift: tuple[float, float], lose: tuple[str, ...] = ()) -> None:
        self._shift, self._lose = shift, lose
        self.frames: list[Image] = []
        self.started: list[dict[str, tuple[float, float]]] = []

    def start_points(self, frame: Image, points: Mapping[str, tuple[float, float]]) -> None:
        self.frames.append(frame)
        self.started.append(dict(points))
        self._points = dict(points)

    def step(self, frame: Image) -> SimpleNamespace:
        self.frames.append(frame)
        self._points = {
            name: (x + self._shift[0], y + self._shift[1]) for name, (x, y) in self._points.items()
        }
        estimates = {name: PointEstimate(*place, True, 1.0) for name, place in self._points.items()}
        for name in self._lose:
            estimates[name] = PointEstimate(float("nan"), float("nan"), False, 0.0)
        return SimpleNamespace(points=estimates)


class RollingMasks:
    """Rolls its mask to the right by ``shift`` pixels each step.

    Attributes:
        sizes: (H, W) of each frame it was given.
        added: ids that were added after the start, with the number of steps before.
    """

    def __init__(self, shift: int) -> None:
        self._shift = shift
        self.sizes: list[tuple[int, ...]] = []
        self.added: list[tuple[int, int]] = []

    def start(self, frame: Image, mask: Image) -> None:
        assert mask.any()
        assert mask.shape == frame.shape[:2]
        self.sizes.append(frame.shape[:2])
        self._mask, self._steps = mask.copy(), 0

    def step(self, frame: Image) -> SimpleNamespace:
        assert frame.shape[:2] == self._mask.shape
        self.sizes.append(frame.shape[:2])
        self._mask, self._steps = np.roll(self._mask, self._shift, axis=1), self._steps + 1
        return SimpleNamespace(mask=self._mask.copy())

    def add_object(self, object_id: int, mask: Image) -> None:
        assert mask.shape == self._mask.shape
        assert mask.any()
        self.added.append((object_id, self._steps))
        self._mask[mask > 0] = object_id


@pytest.fixture
def moving_points() -> Callable[..., MovingPoints]:
    return MovingPoints


@pytest.fixture
def rolling_masks() -> Callable[..., RollingMasks]:
    return RollingMasks


@pytest.fixture
def write_images() -> Callable[..., None]:
    """Write images as ``NAME.jpg`` or another kind, by name."""

    def write(folder: Path, images: Mapping[str, Image], suffix: str = ".jpg") -> None:
        folder.mkdir(parents=True)
        for name, image in images.items():
            assert cv2.imwrite(str(folder / f"{name}{suffix}"), image)

    return write


@pytest.fixture
def write_masks() -> Callable[..., None]:
    """Write masks as palette PNG, by name."""

    def write(folder: Path, masks: Mapping[str, Image]) -> None:
        folder.mkdir(parents=True)
        for name, mask in masks.items():
            write_label_png(folder / f"{name}.png", mask)

    return write


@pytest.fixture(scope="module")
def scene_root(make_frame: Callable[..., Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DAVIS folder of a dark scene and of an object, a white square; 6 frames of 120 x 200."""
    folder = tmp_path_factory.mktemp("davis")
    for name in ("scene", "object"):
        for kind in ("JPEGImages", "Annotations"):
            (folder / kind / "480p" / name).mkdir(parents=True)
        for index in range(6):
            place, mask = f"480p/{name}/{index:05d}.png", np.zeros((120, 200), np.uint8)
            mask[30:80, 40 + index : 90 + index] = 255
            frame = make_frame(120, 200, index) // 4
            if name == "object":
                frame[mask > 0] = 255
            cv2.imwrite(str(folder / "JPEGImages" / place), frame)
            cv2.imwrite(str(folder / "Annotations" / place), mask)
    return folder
