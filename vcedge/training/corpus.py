"""Unlabelled video as random-access frames, and the clips that training draws from it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vcedge_runtime.colour import lab_from_bgr

VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"}


@dataclass(frozen=True)
class CachedVideo:
    """One decoded video.

    Attributes:
        source: the video file.
        frames: (T, H, W, 3) uint8 BGR, mapped from the cache file, read only.
        motion: mean length of the optical flow between neighbours, in percent of the short side.
    """

    source: Path
    frames: NDArray[np.uint8]
    motion: float


def find_videos(folders: Sequence[Path]) -> list[Path]:
    """List the video files below some folders, sorted by path."""
    found = [p for folder in folders for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES]
    return sorted(found)


def load_video(source: Path, cache: Path, short_side: int, max_frames: int) -> CachedVideo | None:
    """Decode a video into the cache once, and map it.

    Returns:
        The video, or None when fewer than two frames can be decoded.
    """
    stamp = f"{source.resolve()}|{source.stat().st_mtime_ns}|{short_side}|{max_frames}"
    name = f"{source.stem[:40]}-{hashlib.sha256(stamp.encode()).hexdigest()[:16]}.npy"
    path = cache / name
    if not path.exists():
        frames = _decode(source, short_side, max_frames)
        if len(frames) < 2:
            return None
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, np.stack(frames))
        np.save(path.with_suffix(".motion.npy"), np.float64(_mean_motion(frames)))
        partial.replace(path)
    mapped = np.load(path, mmap_mode="r")
    return CachedVideo(source, mapped, float(np.load(path.with_suffix(".motion.npy"))))


def _decode(source: Path, short_side: int, max_frames: int) -> list[NDArray[np.uint8]]:
    capture = cv2.VideoCapture(str(source))
    frames: list[NDArray[np.uint8]] = []
    try:
        while len(frames) < max_frames:
            ok, frame = capture.read()
            if not ok or (frames and frame.shape[:2] != first_hw):
                break
            if not frames:
                first_hw = frame.shape[:2]
                scale = min(1.0, short_side / min(first_hw))
                size = (round(first_hw[1] * scale), round(first_hw[0] * scale))
            frames.append(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
    finally:
        capture.release()
    return frames


def _mean_motion(frames: Sequence[NDArray[np.uint8]]) -> float:
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    lengths = []
    for index in range(0, len(frames) - 1, max(1, len(frames) // 20)):
        pair = [cv2.cvtColor(frames[index + k], cv2.COLOR_BGR2GRAY) for k in (0, 1)]
        lengths.append(float(np.linalg.norm(flow.calc(pair[0], pair[1], None), axis=2).mean()))
    return 100 * float(np.mean(lengths)) / min(frames[0].shape[:2])


def sampling_weights(videos: Sequence[CachedVideo]) -> NDArray[np.float64]:
    """Weigh videos for sampling (our choice): longer and livelier ones more, with ceilings.

    A still camera on a desk for minutes teaches little; square root of the length, and the motion
    between 0.1 and 2 % of the short side a frame.
    """
    weights = [
        math.sqrt(min(len(v.frames), 200)) * min(max(v.motion, 0.1), 2.0) ** 0.5 for v in videos
    ]
    return np.asarray(weights) / np.sum(weights)


@dataclass(frozen=True)
class ClipSettings:
    """How a clip is drawn.

    Attributes:
        frames: frames of a clip.
        gaps: steps between neighbouring frames of a clip, drawn uniformly from this range (both ends).
        scale: side of the crop as a share of the frame's short side, drawn log-uniformly.
        jitter: largest change of position, size and angle (radians) between views, as a share of the
            crop; the second view of the first frame changes twice as much.
        light: largest change of the second view's lightness and of its channels' gains.
    """

    frames: int = 3
    gaps: tuple[int, int] = (1, 6)
    scale: tuple[float, float] = (0.4, 1.0)
    jitter: float = 0.1
    light: float = 0.25


class Clip(NamedTuple):
    """A clip, or a batch of them with a leading dimension.

    Attributes:
        views: (T + 1, 3, S, S) float32 normalised Lab: T frames, then the first frame a second time,
            cropped and lit in another way.
        warp: (2, 3) float32, from pixels of the first view to pixels of the last.
    """

    views: Tensor
    warp: Tensor


class ClipDataset(Dataset[Clip]):
    """Clips as a function of (seed, index), so that a run resumes exactly where it stopped.

    Views are ``size_at(index)`` pixels wide and high.
    """

    def __init__(
        self,
        videos: Sequence[CachedVideo],
        length: int,
        size_at: Callable[[int], int],
        settings: ClipSettings,
        seed: int,
    ) -> None:
        self._videos = videos
        self._weights = sampling_weights(videos)
        self._length = length
        self._size_at = size_at
        self._settings = settings
        self._seed = seed

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Clip:
        rng = np.random.default_rng((self._seed, index))
        video = self._videos[rng.choice(len(self._videos), p=self._weights)]
        picked = self._pick_frames(rng, len(video.frames))
        crop = _Crop.draw(rng, video.frames.shape[1:3], self._settings.scale, self._size_at(index))
        jitters = [self._settings.jitter] * len(picked) + [2 * self._settings.jitter]
        warps = [crop.warp(rng, jitter) for jitter in jitters]
        sources = [np.asarray(video.frames[frame]) for frame in (*picked, picked[0])]
        views = [crop.cut(source, warp) for source, warp in zip(sources, warps, strict=True)]
        views[-1] = _relight(rng, views[-1], self._settings.light)
        warp = _compose(warps[-1], cv2.invertAffineTransform(warps[0]))
        stacked = np.stack(views).transpose(0, 3, 1, 2)
        return Clip(torch.from_numpy(stacked.copy()), torch.from_numpy(warp.astype(np.float32)))

    def _pick_frames(self, rng: np.random.Generator, available: int) -> NDArray[np.int64]:
        low, high = self._settings.gaps
        steps = rng.integers(low, high + 1, self._settings.frames - 1)
        offsets = np.concatenate([[0], np.cumsum(steps)])
        if offsets[-1] >= available:
            offsets = np.round(offsets * (available - 1) / offsets[-1]).astype(np.int64)
        picked = offsets + rng.integers(0, available - offsets[-1])
        return picked[::-1] if rng.random() < 0.5 else picked


@dataclass(frozen=True)
class _Crop:
    centre: NDArray[np.float64]
    side: float
    size: int
    flip: bool

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        frame_hw: tuple[int, int],
        scale: tuple[float, float],
        size: int,
    ) -> _Crop:
        side = min(frame_hw) * math.exp(rng.uniform(*np.log(scale)))
        centre = [rng.uniform(side / 2, length - side / 2) for length in frame_hw[::-1]]
        return cls(np.array(centre), side, size, bool(rng.random() < 0.5))

    def warp(self, rng: np.random.Generator, jitter: float) -> NDArray[np.float64]:
        moved = self.centre + rng.uniform(-jitter, jitter, 2) * self.side
        scale = self.size / self.side * math.exp(rng.uniform(-jitter, jitter))
        angle = rng.uniform(-jitter, jitter)
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        linear = np.array([[cos, -sin], [sin, cos]])
        if self.flip:
            linear[0] *= -1
        return np.hstack([linear, (self.size / 2 - linear @ moved)[:, None]])

    def cut(self, source: NDArray[np.uint8], warp: NDArray[np.float64]) -> NDArray[np.float32]:
        size = (self.size, self.size)
        return lab_from_bgr(
            cv2.warpAffine(source, warp, size, borderMode=cv2.BORDER_REFLECT_101)
        )


def _relight(
    rng: np.random.Generator, lab: NDArray[np.float32], light: float
) -> NDArray[np.float32]:
    gains = 1 + rng.uniform(-light, light, 3)
    shift = np.array([rng.uniform(-light, light), 0, 0])
    return (lab * gains + shift).astype(np.float32)


def _compose(outer: NDArray[np.float64], inner: NDArray[np.float64]) -> NDArray[np.float64]:
    linear = outer[:, :2] @ inner[:, :2]
    return np.hstack([linear, outer[:, :2] @ inner[:, 2:] + outer[:, 2:]])
