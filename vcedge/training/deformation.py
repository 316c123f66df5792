"""Changes that make the frames of a clip: motion, bending, colour, and objects pasted in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import TrainingError

Picture = NDArray[np.uint8]
Matrix = NDArray[np.float64]
Box = tuple[slice, slice]
"""Rows and columns of a crop."""

_ALL = (slice(None), slice(None))
_CONTROLS = 4
_GRID = 16
_SHRINK = 1.5
"""Source pixels per crop pixel up to which sampling alone does not alias (our choice)."""


@dataclass(frozen=True)
class MotionRange:
    """How far neighbouring frames of a clip are apart; each step is drawn uniformly within.

    The steps add up. So the first and the third frame differ as two that STCN draws independently
    from the same ranges, and neighbours differ less.

    Attributes:
        angle: largest rotation, degrees.
        scale: largest change of the logarithm of the size.
        shear: largest shear, degrees.
        shift: largest shift along each axis, as a share of the crop.
        bend: standard deviation of the thin-plate spline's control points, as a share of the crop.
        bend_share: share of the frames that are bent.
    """

    angle: float = 20.0
    scale: float = 0.1
    shear: float = 10.0
    shift: float = 0.12
    bend: float = 0.02
    bend_share: float = 1 / 3

    def __post_init__(self) -> None:
        """Check the ranges."""
        if min(self.angle, self.scale, self.shear, self.shift, self.bend, self.bend_share) < 0:
            raise TrainingError(f"received {self}; expected no negative value")
        if self.shear >= 45 or self.bend > 0.1 or self.bend_share > 1:
            raise TrainingError(
                f"received {self}; expected shear below 45, bend up to 0.1, bend_share up to 1"
            )


@dataclass(frozen=True)
class ColourRange:
    """Changes of colour, as torchvision's ColorJitter names them.

    Attributes:
        brightness: largest relative change.
        contrast: largest relative change, about mid-gray.
        saturation: largest relative change.
        hue: largest turn, as a share of the circle.
        grey: share of the pictures that lose their colour.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        values = (self.brightness, self.contrast, self.saturation, self.hue, self.grey)
        if min(values) < 0 or max(values) > 1:
            raise TrainingError(f"received {self}; expected values from 0 to 1")


@dataclass(frozen=True)
class Deformation:
    """Where each pixel of a square crop is in its source.

    Attributes:
        matrix: (2, 3) float64, from the crop's x, y to the source's, both in pixels whose centres
            are whole numbers.
        size: side S of the crop in pixels.
        bend: (S, S, 2) float32, added to the crop's x, y first; None where nothing is bent.
    """

    matrix: Matrix
    size: int
    bend: NDArray[np.float32] | None = None

    def cut(
        self, picture: Picture, border: int = cv2.BORDER_REFLECT_101, box: Box = _ALL
    ) -> Picture:
        """Cut the crop out of a picture; where it shrinks, averaged so that it does not alias.

        Args:
            picture: (H, W, 3) or (H, W) uint8, 0-255.
            border: what stands outside the picture, OpenCV's name; a constant is 0.
            box: the part of the crop that is wanted, h x w; the whole is S x S.

        Returns:
            (h, w, 3) or (h, w) uint8, 0-255.
        """
        pixels = math.sqrt(abs(float(np.linalg.det(self.matrix[:, :2]))))
        fine = max(1, math.ceil(pixels / _SHRINK))
        x, y = self._maps(fine, box)
        cut = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=border)
        if fine > 1:
            size = (x.shape[1] // fine, x.shape[0] // fine)
            cut = cv2.resize(cut, size, interpolation=cv2.INTER_AREA)
        return np.asarray(cut, np.uint8)

    def cut_ids(self, ids: Picture) -> Picture:
        """Cut the crop out of object ids, mirrored at the borders as pictures are.

        Args:
            ids: (H, W) uint8.

        Returns:
            (S, S) uint8.
        """
        maps = self._maps(1, _ALL)
        cut = cv2.remap(ids, *maps, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)
        return np.asarray(cut, np.uint8)

    def find_box(self, mask: Picture) -> Box:
        """Find a part of the crop that holds all of an object.

        Args:
            mask: (H, W) uint8, not 0 where the object is.

        Returns:
            Rows and columns of the crop; empty where the object is outside.
        """
        x, y, width, height = cv2.boundingRect(mask)
        corners = np.array([[x + i * width, y + j * height] for i in (0, 1) for j in (0, 1)])
        places = np.linalg.solve(self.matrix[:, :2], (corners - self.matrix[:, 2]).T)
        bent = 0.0 if self.bend is None else float(np.abs(self.bend).max())
        low = np.floor(places.min(axis=1) - bent - 2).clip(0, self.size).astype(int)
        high = np.ceil(places.max(axis=1) + bent + 3).clip(0, self.size).astype(int)
        return slice(low[1], high[1]), slice(low[0], high[0])

    def _maps(self, fine: int, box: Box) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rows, columns = (slice(*part.indices(self.size)) for part in box)
        (a, b, c), (d, e, f) = self.matrix.astype(np.float32)
        across, down = _subpixels(columns, fine)[None], _subpixels(rows, fine)[:, None]
        if self.bend is None:
            return a * across + (b * down + c), d * across + (e * down + f)
        bend = self.bend[rows, columns]
        if fine > 1:
            bend = np.asarray(cv2.resize(bend, (across.size, down.size)), np.float32)
        x, y = across + bend[..., 0], down + bend[..., 1]
        return a * x + b * y + c, d * x + e * y + f


def _subpixels(pixels: slice, fine: int) -> NDArray[np.float32]:
    """Place ``fine`` samples evenly over each pixel."""
    samples = np.arange(pixels.start * fine, pixels.stop * fine)
    return np.asarray((samples + 0.5) / fine - 0.5, np.float32)


@dataclass(frozen=True)
class Placement:
    """How a source lies in a crop before it moves.

    Attributes:
        source_xy: (2,) float64, the point of the source about which it turns.
        crop_xy: (2,) float64, where the crop shows that point.
        pixels: source pixels per crop pixel.
        size: side of the crop in pixels.
        flip: whether left and right are exchanged.
    """

    source_xy: Matrix
    crop_xy: Matrix
    pixels: float
    size: int
    flip: bool = False

    def move(self, step: Matrix, bend: NDArray[np.float32] | None = None) -> Deformation:
        """Move the source about its point.

        Args:
            step: (2, 3) float64, one of ``draw_walk``.
            bend: one of ``draw_bend``.
        """
        linear = self.pixels * step[:, :2]
        shift = self.pixels * step[:, 2]
        if self.flip:
            linear, shift = linear * [[-1], [1]], shift * [-1, 1]
        moved = self.source_xy + shift - linear @ self.crop_xy
        return Deformation(np.hstack([linear, moved[:, None]]), self.size, bend)


def draw_walk(rng: np.random.Generator, motion: MotionRange, frames: int, size: int) -> Matrix:
    """Draw a random walk: rotation, size, shear and shift of each frame against the first.

    Returns:
        (T, 2, 3) float64, from a frame's x, y to the first frame's, both about the point that is
        turned; the first is the identity.
    """
    angle, shear = math.radians(motion.angle), math.radians(motion.shear)
    ends = np.array([angle, motion.scale, shear, motion.shift * size, motion.shift * size])
    steps = rng.uniform(-1, 1, (frames, 5)) * ends
    steps[0] = 0
    walk = np.cumsum(steps, axis=0)
    return np.stack([_affine(*values) for values in walk.tolist()])


def _affine(angle: float, scale: float, shear: float, x: float, y: float) -> Matrix:
    cos, sin = math.cos(angle), math.sin(angle)
    # A walk's shears add up: they are held below one, where a square is a diamond.
    slope = math.tan(max(-0.7, min(shear, 0.7)))
    linear = math.exp(-scale) * np.array([[cos, -sin], [sin, cos]]) @ [[1, slope], [0, 1]]
    return np.hstack([linear, [[x], [y]]])


def draw_bend(
    rng: np.random.Generator, motion: MotionRange, size: int
) -> NDArray[np.float32] | None:
    """Draw a thin-plate spline through randomly moved points of a 4x4 grid.

    Returns:
        (S, S, 2) float32, displacement x, y in pixels; None for frames that are not bent.
    """
    moves = rng.normal(0, motion.bend * size, (_CONTROLS**2, 2))
    if rng.random() >= motion.bend_share or motion.bend == 0:
        return None
    coarse = (_spline_basis() @ moves).reshape(_GRID, _GRID, 2).astype(np.float32)
    dense = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray(dense, np.float32)


@lru_cache(maxsize=1)
def _spline_basis() -> Matrix:
    """Solve the thin-plate spline once: it is linear in its control points' displacements.

    Bookstein 1989: kernel r^2 log r^2 and an affine part, through all control points.

    Returns:
        (256, 16) float64, from the displacements of the control points to those of a grid of 16x16
        cells' centres.
    """
    controls = _lattice(np.linspace(0, 1, _CONTROLS))
    places = _lattice((np.arange(_GRID) + 0.5) / _GRID)
    count = len(controls)
    system = np.zeros((count + 3, count + 3))
    system[:count] = _spline_terms(controls, controls)
    system[count:, :count] = system[:count, count:].T
    wanted = np.vstack([np.eye(count), np.zeros((3, count))])
    return np.asarray(_spline_terms(places, controls) @ np.linalg.solve(system, wanted))


def _lattice(along: Matrix) -> Matrix:
    y, x = np.meshgrid(along, along, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _spline_terms(places: Matrix, controls: Matrix) -> Matrix:
    squared = ((places[:, None] - controls[None]) ** 2).sum(axis=2)
    # The kernel's limit at 0 is 0.
    kernel = squared * np.log(np.maximum(squared, 1e-12))
    return np.hstack([kernel, np.ones((len(places), 1)), places])


def draw_colour(rng: np.random.Generator, colours: ColourRange) -> Matrix:
    """Draw a change of colour, as one affine map (our choice), so that several become one.

    Returns:
        (4, 4) float64, from blue, green, red, 1 (0-255) to the same; products of several apply the
        right one first.
    """
    ends = [colours.brightness, colours.contrast, colours.saturation, colours.hue]
    bright, contrast, saturation, turn = rng.uniform(-1, 1, 4) * ends
    saturation = -1.0 if rng.random() < colours.grey else saturation
    luma = np.tile([0.114, 0.587, 0.299], (3, 1))
    tint = luma + (1 + saturation) * (np.eye(3) - luma) @ _turn_hue(2 * math.pi * turn)
    colour = np.eye(4)
    colour[:3, :3] = (1 + bright) * (1 + contrast) * tint
    colour[:3, 3] = -127.5 * contrast * (1 + bright)
    return colour


def _turn_hue(angle: float) -> Matrix:
    """Rotate colours about the gray axis (Rodrigues' formula); luma is restored later."""
    axis = np.full(3, 1 / math.sqrt(3))
    cross = np.cross(np.eye(3), axis)
    outer = np.outer(axis, axis)
    return np.asarray(
        math.cos(angle) * np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * outer
    )


def change_colour(picture: Picture, colour: Matrix) -> Picture:
    """Apply a change of ``draw_colour``.

    Args:
        picture: (H, W, 3) uint8 BGR.
        colour: (4, 4) float64.

    Returns:
        (H, W, 3) uint8 BGR, clipped to 0-255.
    """
    return np.asarray(cv2.transform(picture, colour[:3]), np.uint8)


class Shape(NamedTuple):
    """An object's shape in a crop.

    Attributes:
        box: the part of the crop that holds it, h x w.
        alpha: (h, w) float32 in [0, 1].
    """

    box: Box
    alpha: NDArray[np.float32]


def cut_shape(mask: NDArray[np.bool_], deformation: Deformation) -> Shape:
    """Cut an object's shape out of its mask, its edge softened inwards by a pixel.

    So the background of the object's own picture does not come along as a halo (our choice).

    Args:
        mask: (H, W) bool; the object ends where its source ends.
        deformation: what its picture is cut with.
    """
    solid = mask.view(np.uint8) * np.uint8(255)
    box = deformation.find_box(solid)
    if any(part.start >= part.stop for part in box):
        return Shape((slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.float32))
    shape = deformation.cut(solid, cv2.BORDER_CONSTANT, box)
    smooth = cv2.blur(shape.astype(np.float32), (3, 3)) * np.float32(3 / 255) - np.float32(1.5)
    return Shape(box, np.asarray(np.clip(smooth, 0, 1), np.float32))


def hide_behind(shape: Shape, ids: Picture) -> Shape:
    """Take the part of a shape away that objects in front of it cover.

    Args:
        shape: the shape.
        ids: (S, S) uint8, the objects in front; a pixel around them keeps its own background.
    """
    if not shape.alpha.size:
        return shape
    cover = cv2.blur((ids[shape.box] > 0).astype(np.float32), (3, 3))
    left = shape.alpha * (1 - np.minimum(3 * cover, 1))
    return Shape(shape.box, np.asarray(left, np.float32))


def paste_object(picture: Picture, ids: Picture, patch: Picture, shape: Shape, label: int) -> None:
    """Put an object over a picture and its ids, in place.

    Args:
        picture: (S, S, 3) uint8 BGR.
        ids: (S, S) uint8.
        patch: (h, w, 3) uint8 BGR, the picture of the object within the shape's box.
        shape: where the object is.
        label: its id; 0 for an object that is not to be followed.
    """
    under = picture[shape.box].astype(np.float32)
    over = under + shape.alpha[..., None] * (patch - under)
    picture[shape.box] = np.rint(over).astype(np.uint8)
    ids[shape.box][shape.alpha >= 0.5] = label
