"""Unlabelled video as random-access frames, and the clips that training draws from it."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vcedge.training.frame_folders import FolderFrames, Frames, list_frames
from vcedge.training.settings import RunSettings
from vcedge_runtime.errors import SourceError, TrainingError
from vcedge_runtime.files import write_array
from vcedge_runtime.frames.colour import lab_from_bgr
from vcedge_runtime.frames.motion import FLOW_SCALES, FlowScale, encode_flow, flow_from_lab
from vcedge_runtime.video.sources import VIDEO_SUFFIXES
from vcedge_runtime.video.videos import VideoSource

PRINTED_GAPS = ((2, 0.4), (5, 0.4), (8, 0.2))
"""Steps between frames of a clip of whole frames, each with its share (MAST)."""
FLOW_GAPS = ("1", "drawn")
"""To which frame a clip's flow is; see ``ClipSettings``."""
MOTION_PAIRS = 4
"""Pairs of frames by which a folder's motion is measured, of which each must be read."""


@dataclass(frozen=True)
class CachedVideo:
    """One video, decoded or in a folder of pictures.

    Attributes:
        source: the video file, or the folder.
        frames: (T, H, W, 3) uint8 BGR, mapped from the cache file, read only; or read one by one.
        motion: mean length of the optical flow between neighbours, in percent of the short side.
    """

    source: Path
    frames: Frames
    motion: float


def find_videos(folders: Sequence[Path]) -> list[Path]:
    """List the video files below some folders, sorted by path."""
    found = [
        p for folder in folders for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES
    ]
    return sorted(found)


def load_video(source: Path, cache: Path, short_side: int, max_frames: int) -> CachedVideo | None:
    """Decode a video into the cache once, and map it.

    A file of the cache that cannot be read, such as one that was cut off, is made anew.

    Returns:
        The video, or None when fewer than two frames can be decoded.

    Raises:
        OutputError: the cache cannot be written.
    """
    stamp = f"{source.resolve()}|{source.stat().st_mtime_ns}|{short_side}|{max_frames}"
    name = f"{source.stem[:40]}-{hashlib.sha256(os.fsencode(stamp)).hexdigest()[:16]}.npy"
    path = cache / name
    mapped, motion = map_cached(path), map_cached(path.with_suffix(".motion.npy"))
    if mapped is None or motion is None:
        frames = _decode(source, short_side, max_frames)
        if len(frames) < 2:
            return None
        # The frames come last: where they are, another process may read both.
        motion = np.asarray(_mean_motion(frames))
        write_array(path.with_suffix(".motion.npy"), motion)
        write_array(path, np.stack(frames))
        mapped = np.load(path, mmap_mode="r")
    return CachedVideo(source, mapped, float(motion))


def load_folder(folder: Path, cache: Path, short_side: int, max_frames: int) -> CachedVideo | None:
    """Open a folder of pictures as a video, which is read when a clip asks.

    The cache keeps its mean motion alone.

    Returns:
        The video, or None where it has fewer than two pictures.

    Raises:
        SourceError: one that is looked at cannot be read.
        OutputError: the cache cannot be written.
    """
    paths = list_frames(folder)[:max_frames]
    if len(paths) < 2:
        return None
    frames = FolderFrames(paths, short_side)
    stamp = f"{folder.resolve()}|{len(paths)}|{paths[-1].stat().st_mtime_ns}|{short_side}"
    name = f"{folder.name[:40]}-{hashlib.sha256(os.fsencode(stamp)).hexdigest()[:16]}.motion.npy"
    motion = map_cached(cache / name)
    if motion is None:
        motion = np.asarray(_mean_motion(frames, MOTION_PAIRS))
        write_array(cache / name, motion)
    return CachedVideo(folder, frames, float(motion))


def map_cached(path: Path) -> NDArray[Any] | None:
    """Map an array of the cache, read only; None where there is none that can be read."""
    try:
        mapped: NDArray[Any] = np.load(path, mmap_mode="r")
    except (OSError, EOFError, ValueError):
        return None
    return mapped


def _decode(source: Path, short_side: int, max_frames: int) -> list[NDArray[np.uint8]]:
    """Decode up to where a video's frames change size, or cannot be decoded on."""
    frames: list[NDArray[np.uint8]] = []
    # What was decoded before an error is whole.
    with suppress(SourceError), VideoSource(source, str(source)) as video:
        scale = min(1.0, short_side / min(video.frame_hw))
        size = (round(video.frame_hw[1] * scale), round(video.frame_hw[0] * scale))
        for frame in video:
            # A frame that is lost shows the one before it, so that masks stay with their frames.
            frames += frames[-1:] * frame.lost
            resized = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
            frames.append(np.asarray(resized, np.uint8))
            if len(frames) >= max_frames:
                break
    return frames[:max_frames]


def _mean_motion(frames: Frames | Sequence[NDArray[np.uint8]], pairs: int = 20) -> float:
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    lengths = []
    for index in range(0, len(frames) - 1, max(1, len(frames) // pairs)):
        pair = [cv2.cvtColor(frames[index + k], cv2.COLOR_BGR2GRAY) for k in (0, 1)]
        # OpenCV takes None for "allocate it"; its stub does not.
        moved = flow.calc(pair[0], pair[1], None)  # type: ignore[call-overload]
        lengths.append(float(np.linalg.norm(moved, axis=2).mean()))
    return 100 * float(np.mean(lengths) / min(frames[0].shape[:2]))


def sampling_weights(videos: Sequence[CachedVideo]) -> NDArray[np.float64]:
    """Weigh videos for sampling (our choice): longer and livelier ones more, with ceilings.

    A still camera on a desk for minutes teaches little; square root of the length, and the motion
    between 0.1 and 2 % of the short side a frame.
    """
    weights = np.array(
        [math.sqrt(min(len(v.frames), 200) * min(max(v.motion, 0.1), 2.0)) for v in videos]
    )
    return np.asarray(weights / weights.sum(), np.float64)


@dataclass(frozen=True)
class ClipSettings:
    """How a clip is drawn.

    Attributes:
        frames: frames of a clip.
        gaps: steps between neighbouring frames of a clip, drawn uniformly from this range (both
            ends).
        zoom: pixels of the crop per pixel of the video, drawn log-uniformly; a crop never exceeds
            the frame, so that small videos are zoomed more. The default is that of stride 8.
        jitter: largest change of position, size and angle (radians) between frames of a clip, as a
            share of the crop: still clips move too.
        flow: whether each frame comes with its encoded optical flow.
        flow_scale: what it is measured in; see ``FlowScale``.
        flow_gap: to which frame it is: ``1``, the video's frame before, as at run time; ``drawn``,
            as far back as the clip's neighbour is away (MER's g).
        stride: pixels of a key cell.
        whole: whether clips are whole frames, brought to the crop's size whatever their ratio, with
            gaps of ``PRINTED_GAPS`` and no other change (MAST, MER); zoom and jitter are then none.
    """

    frames: int = 3
    gaps: tuple[int, int] = (1, 6)
    zoom: tuple[float, float] = (1.0, 2.2)
    jitter: float = 0.1
    flow: bool = False
    flow_scale: str = "cell"
    flow_gap: str = "1"
    stride: int = 8
    whole: bool = False

    def __post_init__(self) -> None:
        if self.flow_scale not in FLOW_SCALES or self.flow_gap not in FLOW_GAPS:
            raise TrainingError(
                f"received flow of scale {self.flow_scale!r} and gap {self.flow_gap!r}; expected "
                f"one of {FLOW_SCALES} and one of {FLOW_GAPS}"
            )

    def at_stride(self, stride: int) -> ClipSettings:
        """The same for keys of another stride: a key cell shows as much of the video.

        No crop exceeds the frame: of a video of 256 pixels, crops of up to 128 reach every zoom of
        stride 4.
        """
        low, high = (zoom * stride / 8 for zoom in self.zoom)
        return replace(self, zoom=(low, high), stride=stride)


class Clips(NamedTuple):
    """One clip, or a batch of B clips with a leading axis.

    Attributes:
        lab: (T, 3, S, S) float32 normalised Lab.
        flow: (T, 3, S, S) float32 in [-1, 1], encoded optical flow; (T, 0, S, S) where none is
            wanted.
        video: () int64, number of the clip's video.
        place: (T, 2, 3) float32, by which a place (x, y, 1) of each crop becomes one of its video's
            frame, both as shares of their sides.
    """

    lab: Tensor
    flow: Tensor
    video: Tensor
    place: Tensor


class ClipDataset(Dataset[Clips]):
    """Clips as a function of (seed, index), so that a run resumes exactly where it stopped.

    S is ``size_at(index)``.
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

    def __getitem__(self, index: int) -> Clips:
        rng = np.random.default_rng((self._seed, index))
        video = int(rng.choice(len(self._videos), p=self._weights))
        frames = self._videos[video].frames
        settings, size = self._settings, self._size_at(index)
        crop = (
            _Crop.whole(frames.shape, size)
            if settings.whole
            else _Crop.draw(rng, frames.shape, settings.zoom, size)
        )
        labs, flows, places = [], [], []
        numbers = self._pick_frames(rng, len(frames)).tolist()
        for number, before in zip(numbers, self._frames_before(numbers), strict=True):
            warp = crop.warp(rng, 0.0 if settings.whole else settings.jitter)
            cut = crop.cut(np.asarray(frames[number]), warp)
            labs.append(cut.transpose(2, 0, 1))
            flows.append(self._flow(np.asarray(frames[before]), crop, warp, cut))
            places.append(crop.place(warp, frames.shape[1:3]))
        lab, flow, place = (torch.from_numpy(np.stack(each)) for each in (labs, flows, places))
        return Clips(lab, flow, torch.tensor(video), place)

    def _frames_before(self, numbers: Sequence[int]) -> list[int]:
        """The frame to which the flow of each of a clip's frames is."""
        gaps = [1] * len(numbers)
        if self._settings.flow_gap == "drawn":
            away = [abs(b - a) for a, b in pairwise(numbers)]
            gaps = [away[0], *away] if away else gaps
        return [max(0, number - gap) for number, gap in zip(numbers, gaps, strict=True)]

    def _flow(
        self,
        before: NDArray[np.uint8],
        crop: _Crop,
        warp: NDArray[np.float64],
        lab: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        settings = self._settings
        if not settings.flow:
            return np.zeros((0, *lab.shape[:2]), np.float32)
        scale = FlowScale(settings.flow_scale, settings.stride)
        return encode_flow(flow_from_lab(lab, crop.cut(before, warp)), scale)

    def _pick_frames(self, rng: np.random.Generator, available: int) -> NDArray[np.int64]:
        (low, high), count = self._settings.gaps, self._settings.frames - 1
        if self._settings.whole:
            gaps, shares = zip(*PRINTED_GAPS, strict=True)
            steps = rng.choice(gaps, count, p=shares)
        else:
            steps = rng.integers(low, high + 1, count)
        offsets = np.concatenate([[0], np.cumsum(steps)])
        if offsets[-1] >= available:
            offsets = np.round(offsets * (available - 1) / offsets[-1]).astype(np.int64)
        picked = np.asarray(offsets + rng.integers(0, available - offsets[-1]), np.int64)
        return picked[::-1] if not self._settings.whole and rng.random() < 0.5 else picked


@dataclass(frozen=True)
class _Crop:
    centre: NDArray[np.float64]
    side: float
    size: int
    flip: bool
    stretch: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def whole(cls, shape: tuple[int, ...], size: int) -> _Crop:
        """All of a frame, whatever its ratio."""
        height, width = shape[1:3]
        side = max(height, width)
        # Pixels' numbers are at their middles.
        centre = np.array([width, height]) * (0.5 + 0.5 / size) - 0.5
        return cls(centre, side, size, False, (side / width, side / height))

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        shape: tuple[int, ...],
        zoom: tuple[float, float],
        size: int,
    ) -> _Crop:
        frame_hw = shape[1:3]
        side = min(*frame_hw, size / math.exp(rng.uniform(*np.log(zoom))))
        centre = [rng.uniform(side / 2, length - side / 2) for length in frame_hw[::-1]]
        return cls(np.array(centre), side, size, bool(rng.random() < 0.5))

    def warp(self, rng: np.random.Generator, jitter: float) -> NDArray[np.float64]:
        moved = self.centre + rng.uniform(-jitter, jitter, 2) * self.side
        scale = self.size / self.side * math.exp(rng.uniform(-jitter, jitter))
        angle = rng.uniform(-jitter, jitter)
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        linear = np.array([[cos, -sin], [sin, cos]])
        linear *= np.array(self.stretch)
        if self.flip:
            linear[0] *= -1
        return np.hstack([linear, (self.size / 2 - linear @ moved)[:, None]])

    def place(self, warp: NDArray[np.float64], frame_hw: tuple[int, ...]) -> NDArray[np.float32]:
        """(2, 3) from places of the crop to those of the frame, as ``Clips`` has it."""
        back = np.linalg.inv(warp[:, :2])
        sides = np.array(frame_hw[::-1])[:, None]
        # A pixel's middle is half a pixel past its number, on both sides.
        offset = back @ (-0.5 - warp[:, 2:]) + 0.5
        return np.hstack([back * self.size / sides, offset / sides]).astype(np.float32)

    def cut(self, source: NDArray[np.uint8], warp: NDArray[np.float64]) -> NDArray[np.float32]:
        # One that shrinks the frame is averaged from one twice as fine, so that it does not alias.
        fine = 2 if self.side > self.size else 1
        size = (fine * self.size, fine * self.size)
        finer = fine * warp + [[0, 0, (fine - 1) / 2]]
        cut = cv2.warpAffine(source, finer, size, borderMode=cv2.BORDER_REFLECT_101)
        if fine > 1:
            cut = cv2.resize(cut, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return lab_from_bgr(np.asarray(cut, np.uint8))


class VideoCorpus:
    """Unlabelled videos as a run draws from them.

    Args:
        videos: at least one.
        settings: how clips are drawn.

    Raises:
        TrainingError: there is no video.
    """

    def __init__(self, videos: Sequence[CachedVideo], settings: ClipSettings) -> None:
        if not videos:
            raise TrainingError("no video with at least two frames to train on")
        self._videos = videos
        self._settings = settings

    def count_steps(self, epochs: float, batch: int) -> int:
        """Steps after which each frame was drawn so often, on average."""
        frames = sum(len(video.frames) for video in self._videos)
        return max(1, round(epochs * frames / (self._settings.frames * batch)))

    def draw(self, settings: RunSettings) -> ClipDataset:
        """All clips of a run."""
        return ClipDataset(
            self._videos,
            length=settings.steps * settings.batch,
            size_at=lambda index: settings.size_at(index // settings.batch),
            settings=self._settings,
            seed=settings.seed,
        )
