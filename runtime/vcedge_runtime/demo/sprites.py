"""What swims in the demo clip: textures and shapes, drawn from noise (all of it our choice)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Colour = tuple[float, float, float]

SUPERSAMPLING = 4
"""Outlines are filled at this many times the sprite's size and averaged down: coverage is exact."""
LIGHT_XY = (-0.5, -0.85)
"""Where the light comes from, in the picture's axes."""


@dataclass(frozen=True)
class Sprite:
    """A picture with an outline.

    Attributes:
        colour: (h, w, 3) float32, BGR, 0-255, defined beyond the outline too, so that a soft edge
            has the body's colour and not black.
        coverage: (h, w) float32, 0-1, how much of each pixel lies inside the outline.
        sway: how far its waving end swings, as a share of its length.
        waves_along_x: whether it waves along its length (a fish) or its height (a weed).
    """

    colour: Image
    coverage: Image
    sway: float = 0.0
    waves_along_x: bool = True


def fractal_noise(rng: np.random.Generator, size_hw: tuple[int, int], cell: float) -> Image:
    """Sum octaves of smooth noise, each half as large and half as strong as the one before.

    Args:
        rng: where the noise comes from.
        size_hw: height and width.
        cell: pixels of the largest feature.

    Returns:
        (H, W) float32, 0-1, its mean near 0.5.
    """
    height, width = size_hw
    total: Image = np.zeros(size_hw, np.float32)
    weight = 1.0
    while cell >= 2:
        coarse = rng.random((int(height / cell) + 3, int(width / cell) + 3), np.float32)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        total += weight * smooth.astype(np.float32, copy=False)
        cell, weight = cell / 2, weight / 2
    low, high = np.percentile(total, [1, 99])
    noise: Image = np.clip((total - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    return noise


def colour_ramp(values: Image, *stops: Colour) -> Image:
    """Map (H, W) float32 of 0-1 to (H, W, 3) float32 BGR along evenly spaced colours."""
    places = np.linspace(0, 1, len(stops))
    channels = [np.interp(values, places, channel) for channel in zip(*stops, strict=True)]
    return np.stack(channels, axis=-1).astype(np.float32)


def smooth_step(values: Image, low: float, high: float) -> Image:
    """Go from 0 at ``low`` to 1 at ``high``, flat at both ends."""
    t: Image = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


def mix(below: Image, above: Image | Sequence[float], share: Image) -> Image:
    """Lay ``above`` over ``below`` where ``share`` (H, W) is 1, and between where it is less."""
    top = np.asarray(above, np.float32)
    return below + (top - below) * share[..., None]


def draw_backdrop(
    rng: np.random.Generator, size_hw: tuple[int, int], unit: float
) -> NDArray[np.uint8]:
    """Draw a sea bed: water above, rock and sand below, pebbles and rippling light.

    Args:
        rng: where its texture comes from.
        size_hw: height and width of the canvas.
        unit: pixels of one frame's short side.

    Returns:
        (H, W, 3) uint8, BGR.
    """
    down = np.linspace(0, 1, size_hw[0], dtype=np.float32)[:, None]
    water = colour_ramp(
        0.75 * fractal_noise(rng, size_hw, unit / 2) + 0.25 * (1 - down),
        (62, 44, 14), (96, 78, 28), (128, 118, 52), (164, 160, 92),
    )  # fmt: skip
    sand = colour_ramp(
        fractal_noise(rng, size_hw, unit / 5), (62, 88, 96), (96, 134, 148), (142, 178, 192)
    )
    rock = colour_ramp(
        fractal_noise(rng, size_hw, unit / 9), (34, 40, 34), (62, 78, 66), (96, 112, 116)
    )
    relief = fractal_noise(rng, size_hw, unit / 1.6)
    reef = smooth_step(0.6 * relief + 2 * down, 1.3, 1.34)
    ground = smooth_step(down + 0.16 * (fractal_noise(rng, size_hw, unit / 1.4) - 0.5), 0.56, 0.6)
    scene = mix(mix(water, rock, reef), sand, ground)
    ripple = 1 - np.abs(2 * fractal_noise(rng, size_hw, unit / 4) - 1)
    scene *= (0.9 + (0.06 + 0.2 * ground) * ripple**5)[..., None]
    return _draw_pebbles(rng, np.clip(scene, 0, 255).astype(np.uint8), unit)


def _draw_pebbles(
    rng: np.random.Generator, scene: NDArray[np.uint8], unit: float
) -> NDArray[np.uint8]:
    """Strew pebbles over the lower part of a picture, in place, the farthest and smallest first."""
    height, width = scene.shape[:2]
    for depth in np.sort(rng.random(round(60 * height * width / unit**2))):
        size = unit * (0.006 + 0.026 * depth) * rng.uniform(0.5, 1.2)
        place = np.array([width * rng.random(), height * (0.6 + 0.4 * depth)])
        colour = rng.uniform(60, 165) * np.array([0.85, rng.uniform(0.9, 1), rng.uniform(0.9, 1.1)])
        angle = rng.uniform(-25, 25)
        for shift, share, tone in ((0.35, 1.0, 0.4), (0.0, 1.0, 0.85), (-0.25, 0.55, 1.1)):
            x, y = np.round(16 * (place + shift * size * np.array([0.5, 1]))).astype(int)
            axes = (round(16 * share * size), round(16 * share * 0.65 * size))
            paint = tuple(float(c) for c in np.clip(tone * colour, 0, 255))
            cv2.ellipse(scene, (x, y), axes, angle, 0, 360, paint, -1, cv2.LINE_AA, shift=4)
    return scene


def draw_fish(rng: np.random.Generator, length: int, tint: Colour) -> Sprite:
    """Draw a fish that looks to the right, with bands, fins, scales and an eye."""
    size_hw = (round(0.62 * length), length)
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    body = np.stack([0.12 + 0.36 * np.cos(turn), 0.2 * np.sin(turn) * (1 + 0.25 * np.cos(turn))], 1)
    tail = np.array(
        [[-0.2, 0.05], [-0.34, 0.09], [-0.47, 0.24], [-0.42, 0.0], [-0.47, -0.24], [-0.34, -0.09],
         [-0.2, -0.05]]
    )  # fmt: skip
    back_fin = np.array([[0.24, -0.14], [0.06, -0.27], [-0.12, -0.25], [-0.16, -0.08]])
    belly_fin = np.array([[0.16, 0.16], [0.02, 0.28], [-0.08, 0.25], [-0.04, 0.1]])
    coverage = fill_outlines(size_hw, body, tail, back_fin, belly_fin)
    x, y = _unit_axes(size_hw)
    noise = fractal_noise(rng, size_hw, length / 6)
    colour = colour_ramp(0.65 * noise + 0.35 * (0.5 - y), *_tones(tint))
    bands = np.sin(15 * (x + 0.06 * np.cos(9 * y)) + 1.5 * noise)
    colour = mix(colour, (226, 236, 240), smooth_step(bands, 0.72, 0.86))
    fins = 1 - fill_outlines(size_hw, 0.97 * body)
    rays = 0.5 + 0.5 * np.sin(90 * (y + 0.4 * x))
    colour = mix(colour, tuple(0.5 * c for c in tint), (fins * (0.35 + 0.3 * rays)).astype("f4"))
    colour *= (0.92 + 0.08 * np.sin(95 * (x + y)) * np.sin(95 * (x - y)))[..., None]
    colour = _shade(colour, coverage)
    for radius, paint in ((0.042, (235, 240, 240)), (0.027, (20, 16, 14))):
        colour = mix(colour, paint, _disk(size_hw, 0.34, -0.05, radius))
    return Sprite(colour, coverage, sway=0.07)


def draw_submarine(rng: np.random.Generator, length: int, tint: Colour) -> Sprite:
    """Draw a rounded vessel that goes to the left, with a tower, portholes and a screw."""
    size_hw = (round(0.6 * length), length)
    turn = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    hull = np.stack(
        [0.4 * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.75 - 0.02,
         0.06 + 0.155 * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** 0.8], 1
    )  # fmt: skip
    tower = np.array([[-0.16, -0.05], [-0.13, -0.2], [0.07, -0.2], [0.12, -0.05]])
    scope = np.array([[-0.03, -0.18], [-0.03, -0.27], [-0.09, -0.27], [-0.09, -0.245],
                      [-0.055, -0.245], [-0.055, -0.18]])  # fmt: skip
    rudder = np.array([[0.28, 0.02], [0.4, -0.12], [0.46, -0.12], [0.43, 0.06], [0.46, 0.24],
                       [0.4, 0.24], [0.28, 0.1]])  # fmt: skip
    coverage = fill_outlines(size_hw, hull, tower, scope, rudder)
    x, y = _unit_axes(size_hw)
    wear = fractal_noise(rng, size_hw, length / 8)
    colour = colour_ramp(wear, *_tones(tint))
    colour = mix(colour, (58, 52, 120), smooth_step(y + 0.02 * wear, 0.135, 0.15))
    seams = np.maximum(np.cos(38 * x), 0.0) ** 60
    colour = mix(colour, tuple(0.45 * c for c in tint), (0.55 * seams).astype("f4"))
    rust = smooth_step(wear, 0.72, 0.9) * 0.6
    colour = _shade(mix(colour, (44, 66, 104), rust.astype("f4")), coverage)
    for place in (-0.26, -0.1, 0.06, 0.22):
        colour = mix(colour, (70, 76, 84), _disk(size_hw, place, 0.04, 0.05))
        colour = mix(colour, (205, 196, 150), _disk(size_hw, place, 0.04, 0.035))
        colour = mix(colour, (248, 246, 236), _disk(size_hw, place - 0.01, 0.028, 0.011))
    return Sprite(colour, coverage)


def draw_starfish(rng: np.random.Generator, length: int, tint: Colour) -> Sprite:
    """Draw a five-armed star with rounded arms and rows of knobs."""
    size_hw = (length, length)
    turn = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    radius = 0.14 + 0.33 * (0.5 + 0.5 * np.cos(5 * turn)) ** 1.6
    star = np.stack([radius * np.sin(turn), -radius * np.cos(turn)], 1)
    coverage = fill_outlines(size_hw, star)
    x, y = _unit_axes(size_hw)
    noise = fractal_noise(rng, size_hw, length / 7)
    distance = np.sqrt(x * x + y * y)
    colour = colour_ramp(np.clip(0.7 * noise + 0.5 * distance, 0, 1), *_tones(tint))
    colour = _shade(colour, coverage)
    for arm in range(5):
        for step in range(1, 7):
            along, angle = 0.06 * step, 2 * np.pi * arm / 5
            place = (along * np.sin(angle), -along * np.cos(angle))
            knob = _disk(size_hw, *place, 0.02 - 0.0018 * step)
            colour = mix(colour, (190, 214, 236), (0.8 * knob).astype("f4"))
    return Sprite(colour, coverage, sway=0.015)


def draw_weed(rng: np.random.Generator, height: int) -> Sprite:
    """Draw a strand of kelp, taller than the frame: what objects swim behind."""
    size_hw = (height, round(0.25 * height))
    y = np.linspace(-0.5, 0.5, 60)
    stem = 0.012 * np.sin(16 * y)
    sides = [np.stack([stem + side * 0.009, y], 1) for side in (-1, 1)]
    leaves = [_leaf(rng, place, side) for side in (-1, 1) for place in np.arange(-0.46, 0.5, 0.07)]
    coverage = fill_outlines(size_hw, np.concatenate([sides[0], sides[1][::-1]]), *leaves)
    noise = fractal_noise(rng, size_hw, height / 12)
    colour = colour_ramp(noise, (18, 42, 22), (30, 84, 52), (52, 128, 92), (84, 164, 138))
    return Sprite(_shade(colour, coverage), coverage, sway=0.03, waves_along_x=False)


def _leaf(rng: np.random.Generator, place: float, side: int) -> NDArray[np.float64]:
    """Outline of one leaf at ``place`` along the stem, pointing up and to ``side``."""
    along = np.linspace(0, 1, 16)
    breadth = 0.017 * np.sin(np.pi * along**0.8) * rng.uniform(0.8, 1.2)
    lift, reach = rng.uniform(0.04, 0.08), rng.uniform(0.05, 0.08)
    middle = np.stack([side * reach * along, place + 0.03 * side - lift * along**1.5], 1)
    across = np.stack([np.zeros(16), breadth], 1)
    return np.concatenate([middle - across, (middle + across)[::-1]])


def fill_outlines(size_hw: tuple[int, int], *outlines: NDArray[np.float64]) -> Image:
    """Fill outlines with exact coverage.

    Args:
        size_hw: height and width of the picture.
        outlines: each (n, 2) of x, y in shares of the longer side, 0 at the picture's centre.

    Returns:
        (H, W) float32, 0-1.
    """
    height, width = (SUPERSAMPLING * side for side in size_hw)
    fine = np.zeros((height, width), np.uint8)
    for outline in outlines:
        points = outline * max(height, width) + (width / 2, height / 2)
        cv2.fillPoly(fine, [np.round(points).astype(np.int32)], 255)
    coarse = cv2.resize(fine, size_hw[::-1], interpolation=cv2.INTER_AREA)
    return coarse.astype(np.float32) / np.float32(255)


def _unit_axes(size_hw: tuple[int, int]) -> tuple[Image, Image]:
    """Return x and y of each pixel in shares of the longer side, 0 at the picture's centre."""
    height, width = size_hw
    y, x = np.mgrid[:height, :width].astype(np.float32)
    longer = max(height, width)
    return (x + 0.5 - width / 2) / longer, (y + 0.5 - height / 2) / longer


def _disk(size_hw: tuple[int, int], x: float, y: float, radius: float) -> Image:
    turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    outline = np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], 1)
    return fill_outlines(size_hw, outline)


def _tones(tint: Colour) -> tuple[Colour, Colour, Colour]:
    dark, light = (tuple(float(c + s * (e - c)) for c in tint) for e, s in ((0, 0.4), (255, 0.35)))
    return dark, tint, light  # type: ignore[return-value]


def _shade(colour: Image, coverage: Image) -> Image:
    """Light a flat picture as if its outline were a pillow's."""
    inside = (coverage > 0.5).astype(np.uint8)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    reach = max(float(depth.max()), 1.0)
    height = cv2.GaussianBlur(np.sqrt(depth / reach).astype(np.float32), (0, 0), 0.12 * reach + 0.5)
    slope_x, slope_y = (cv2.Sobel(height, cv2.CV_32F, *axis, ksize=3) for axis in ((1, 0), (0, 1)))
    light = -(slope_x * LIGHT_XY[0] + slope_y * LIGHT_XY[1]) * reach / 8
    shaded: Image = np.clip(colour * (1 + 0.5 * np.clip(light, -1, 1))[..., None], 0, 255)
    return shaded
