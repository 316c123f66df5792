"""A clip that vcedge renders itself, with exact masks: `vcedge demo` works where there is no video.

A fish, a submarine and a starfish move over a sea bed while the camera pans, zooms and rolls; they
pass before each other and behind a strand of kelp. All of it is made of noise and outlines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.demo.sprites import (
    Colour,
    Image,
    Sprite,
    draw_backdrop,
    draw_fish,
    draw_starfish,
    draw_submarine,
    draw_weed,
)
from vcedge_runtime.errors import SourceError

SHORTEST_SIDE = 64
BACKDROP_MARGIN = 0.3
"""How far the backdrop reaches beyond the frame, as a share of it: the camera stays inside."""
SENSOR_NOISE = 2.5
"""Standard deviation of the camera's noise, of 255."""

Mask = NDArray[np.uint8]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Motion:
    """Where an object is in each frame; lengths are shares of the frame, times are in frames.

    Attributes:
        middle_xy: the middle of its path.
        reach_xy: how far it goes to each side of the middle.
        period: frames until it is back.
        phase: where on its path it starts, in turns.
        tilt: largest lean to each side, in degrees.
        spin: degrees that it turns each frame.
        swell: largest change of size, as a share.
    """

    middle_xy: tuple[float, float]
    reach_xy: tuple[float, float]
    period: float
    phase: float = 0.0
    tilt: float = 6.0
    spin: float = 0.0
    swell: float = 0.1

    def matrix(self, time: int, frame_hw: tuple[int, int]) -> Matrix:
        """Return the (3, 3) map from a sprite's pixels, 0 at its centre, to the still camera's."""
        height, width = frame_hw
        turn = 2 * math.pi * (time / self.period + self.phase)
        x = width * (self.middle_xy[0] - self.reach_xy[0] * math.cos(turn))
        y = height * (self.middle_xy[1] + self.reach_xy[1] * math.sin(2 * turn))
        angle = self.spin * time + self.tilt * math.sin(1.6 * turn)
        return _similarity(x, y, angle, 1 - self.swell * math.cos(1.3 * turn))


@dataclass(frozen=True)
class _Role:
    """How an object is drawn, its length as a share of the frame's short side, and its path."""

    draw: Callable[[np.random.Generator, int, Colour], Sprite]
    length: float
    tint: Colour
    motion: Motion


CAST = (
    _Role(draw_fish, 0.5, (24, 104, 236), Motion((0.5, 0.4), (0.28, 0.05), 124)),
    _Role(
        draw_submarine, 0.62, (40, 190, 226),
        Motion((0.6, 0.56), (0.15, 0.03), 150, phase=0.5, tilt=4, swell=0.08),
    ),
    _Role(
        draw_starfish, 0.36, (110, 60, 190),
        Motion((0.2, 0.75), (0.05, 0.03), 90, phase=0.1, tilt=0, spin=2.4),
    ),
    _Role(draw_fish, 0.26, (196, 120, 40), Motion((0.62, 0.2), (0.2, 0.04), 116, phase=0.2)),
    _Role(
        draw_submarine, 0.3, (80, 170, 70), Motion((0.34, 0.22), (0.16, 0.04), 140, phase=0.3)
    ),
    _Role(
        draw_starfish, 0.2, (60, 120, 210),
        Motion((0.76, 0.82), (0.06, 0.02), 80, tilt=0, spin=-3),
    ),
)  # fmt: skip
"""Who appears, the nearest first; object ids count from 1 in this order."""
WEED = Motion((0.54, 0.5), (0.0, 0.0), 80, tilt=2, swell=0.0)


@dataclass(frozen=True)
class _Actor:
    """A sprite on its path; ``label`` is its object id, 0 for what only hides others."""

    sprite: Sprite
    motion: Motion
    label: int
    nearness: float = 1.0


@dataclass(frozen=True)
class DemoClip:
    """A rendered clip; it draws each frame when it is asked for and holds none.

    Attributes:
        frame_hw: height and width of every frame.
        length: number of frames.
        object_ids: ids in the masks, the nearest object first.
    """

    frame_hw: tuple[int, int]
    length: int
    object_ids: tuple[int, ...]
    _seed: int = field(repr=False)
    _backdrop: NDArray[np.uint8] = field(repr=False, compare=False)
    _actors: tuple[_Actor, ...] = field(repr=False, compare=False)

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], Mask]]:
        return (self.render(time) for time in range(self.length))

    def render(self, time: int) -> tuple[NDArray[np.uint8], Mask]:
        """Draw one frame; the same ``time`` always gives the same frame.

        Args:
            time: number of the frame, 0 the first.

        Returns:
            (H, W, 3) uint8 BGR, and (H, W) uint8: at each pixel the id of the nearest object that
            covers more than half of it, 0 for the background and for what hides an object. Both
            are the caller's own.
        """
        camera = _camera(time, self.frame_hw)
        image = self._draw_backdrop(camera)
        labels = np.zeros(self.frame_hw, np.uint8)
        for actor in self._actors:
            _draw_actor(image, labels, actor, time, camera)
        # The 1 sets these streams apart from the textures'.
        sensor = np.random.default_rng([self._seed, time, 1])
        return _add_sensor_noise(image, sensor), labels

    def _draw_backdrop(self, camera: Matrix) -> Image:
        height, width = self.frame_hw
        place = camera @ _shift(-round(BACKDROP_MARGIN * width), -round(BACKDROP_MARGIN * height))
        warped = cv2.warpAffine(
            self._backdrop, place[:2], (width, height), borderMode=cv2.BORDER_REFLECT
        )
        return warped.astype(np.float32, copy=False)


def render_demo_clip(
    *, frames: int = 60, frame_hw: tuple[int, int] = (480, 854), seed: int = 0, objects: int = 2
) -> DemoClip:
    """Set a clip's scene; its frames are drawn while it is read.

    Args:
        frames: number of frames; how fast things move does not depend on it.
        frame_hw: height and width of a frame, at least 64 each.
        seed: another seed gives other textures on the same paths.
        objects: how many objects, 1 to 6, with ids from 1.

    Raises:
        SourceError: a number is out of its range.
    """
    _check_request(frames, frame_hw, objects)
    # A generator for each part: one more object leaves the others as they are.
    of_weed, of_backdrop, *of_cast = (np.random.default_rng([seed, n]) for n in range(objects + 2))
    height, width = frame_hw
    margin_y, margin_x = (round(BACKDROP_MARGIN * side) for side in frame_hw)
    unit = min(frame_hw)
    backdrop = draw_backdrop(of_backdrop, (height + 2 * margin_y, width + 2 * margin_x), unit)
    cast = tuple(
        _Actor(role.draw(rng, round(role.length * unit), role.tint), role.motion, label)
        for label, (role, rng) in enumerate(zip(CAST, of_cast, strict=False), start=1)
    )
    weed = _Actor(draw_weed(of_weed, round(1.3 * height)), WEED, label=0, nearness=1.5)
    ids = tuple(actor.label for actor in cast)
    return DemoClip(frame_hw, frames, ids, seed, backdrop, (*cast[::-1], weed))


def _camera(time: int, frame_hw: tuple[int, int]) -> Matrix:
    """Return the (3, 3) map from the still camera's pixels to those of the moving one."""
    height, width = frame_hw
    turn = 2 * math.pi * time / 110
    pan = _shift(0.06 * width * math.sin(turn), 0.03 * height * math.sin(1.7 * turn))
    about = _similarity(
        width / 2, height / 2, 2 * math.sin(1.3 * turn), 1.06 - 0.05 * math.cos(turn)
    )
    return pan @ about @ _shift(-width / 2, -height / 2)


def _draw_actor(image: Image, labels: Mask, actor: _Actor, time: int, camera: Matrix) -> None:
    """Lay an actor over the picture and its id over the labels, in place."""
    frame_hw = (labels.shape[0], labels.shape[1])
    middle = np.array([frame_hw[1] / 2, frame_hw[0] / 2, 1])
    # What is nearer than the objects moves more than they do when the camera pans.
    drift = (actor.nearness - 1) * (camera @ middle - middle)
    place = _shift(drift[0], drift[1]) @ camera @ actor.motion.matrix(time, frame_hw)
    window = _window(actor.sprite, place, frame_hw)
    if window is None:
        return
    rows, columns = window
    map_x, map_y = _sprite_coordinates(actor.sprite, place, rows, columns, time)
    colour = _sample(actor.sprite.colour, map_x, map_y, cv2.BORDER_REPLICATE)
    coverage = _sample(actor.sprite.coverage, map_x, map_y, cv2.BORDER_CONSTANT)
    image[rows, columns] += (colour - image[rows, columns]) * coverage[..., None]
    labels[rows, columns][coverage > 0.5] = actor.label


def _window(sprite: Sprite, place: Matrix, frame_hw: tuple[int, int]) -> tuple[slice, slice] | None:
    """Return the rows and columns of the frame that a placed sprite can touch, None for none."""
    height, width = sprite.coverage.shape
    corners = np.array([[x, y, 1] for x in (-0.5, 0.5) for y in (-0.5, 0.5)]) * (width, height, 1)
    placed = (place @ corners.T)[:2]
    reach = sprite.sway * max(height, width) * math.hypot(place[0, 0], place[1, 0])
    low = np.maximum(np.floor(placed.min(axis=1) - reach), 0).astype(int)
    high = np.minimum(np.ceil(placed.max(axis=1) + reach) + 1, frame_hw[::-1]).astype(int)
    if (low >= high).any():
        return None
    return slice(low[1], high[1]), slice(low[0], high[0])


def _sprite_coordinates(
    sprite: Sprite, place: Matrix, rows: slice, columns: slice, time: int
) -> tuple[Image, Image]:
    """For each pixel of a window, the sprite's pixel that it shows; the sway is undone here."""
    height, width = sprite.coverage.shape
    back = np.linalg.inv(place)
    y, x = np.mgrid[rows, columns].astype(np.float32)
    u = back[0, 0] * x + back[0, 1] * y + back[0, 2]
    v = back[1, 0] * x + back[1, 1] * y + back[1, 2]
    if sprite.waves_along_x:
        v = v - _swing(u / width, time) * sprite.sway * width
    else:
        u = u - _swing(v / height, time) * sprite.sway * height
    return (u + (width - 1) / 2).astype(np.float32), (v + (height - 1) / 2).astype(np.float32)


def _swing(along: Image, time: int) -> Image:
    """How far each part swings, -1 to 1: not at the head (0.5), most at the tail (-0.5)."""
    wave: Image = np.sin(5 * along + 0.32 * time) * np.clip(0.5 - along, 0, 1) ** 2
    return wave


def _sample(picture: Image, map_x: Image, map_y: Image, border: int) -> Image:
    sampled = cv2.remap(picture, map_x, map_y, cv2.INTER_LINEAR, borderMode=border)
    return sampled.astype(np.float32, copy=False)


def _add_sensor_noise(image: Image, rng: np.random.Generator) -> NDArray[np.uint8]:
    noise = rng.standard_normal(image.shape, np.float32)
    noise *= SENSOR_NOISE
    noise += image
    return np.clip(noise, 0, 255, out=noise).round().astype(np.uint8)


def _similarity(x: float, y: float, degrees: float, scale: float) -> Matrix:
    cosine = scale * math.cos(math.radians(degrees))
    sine = scale * math.sin(math.radians(degrees))
    return np.array([[cosine, -sine, x], [sine, cosine, y], [0, 0, 1]])


def _shift(x: float, y: float) -> Matrix:
    return _similarity(x, y, 0, 1)


def _check_request(frames: int, frame_hw: tuple[int, int], objects: int) -> None:
    if frames < 1:
        raise SourceError(f"received frames={frames}; expected at least 1")
    if min(frame_hw) < SHORTEST_SIDE:
        raise SourceError(
            f"received frame_hw={frame_hw}; expected both sides to be at least {SHORTEST_SIDE}"
        )
    if not 1 <= objects <= len(CAST):
        raise SourceError(f"received objects={objects}; expected 1 to {len(CAST)}")
