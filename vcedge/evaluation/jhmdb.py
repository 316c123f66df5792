"""JHMDB: 15 joints of a person, given in the first frame and followed through the test videos.

The official folders are read: ``splits``, ``joint_positions`` and ``Rename_Images``. The protocol
is that of CRW and VFS: frames are stretched to a square, distances are counted in 0.6 of the
diagonal of the box of the joints that were found, and joints that were not found do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcedge.evaluation.pck import PckPool, PckScore, normalised_distances
from vcedge.evaluation.square import stretch_frame, stretch_points
from vcedge.evaluation.tracking import PointTracker, follow_points
from vcedge_runtime.errors import EvaluationError, MissingExtraError
from vcedge_runtime.installing import how_to_install
from vcedge_runtime.video.sources import Source, open_source

JOINTS = (
    *("neck", "belly", "face", "right shoulder", "left shoulder", "right hip", "left hip"),
    *("right elbow", "left elbow", "right knee", "left knee"),
    *("right wrist", "left wrist", "right ankle", "left ankle"),
)
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
SIDE = 320
"""Side of the square that frames are stretched to (CRW, UVC, SPAT)."""
BOX_SHARE = 0.6
"""Share of the box's diagonal that is the unit of distance (CRW, VFS)."""
_TEST = "2"
"""What the split's files write behind a test video; 1 is training, 0 neither."""


@dataclass(frozen=True, eq=False)
class JhmdbScore:
    """PCK of JHMDB in its two usual forms.

    Attributes:
        later: without the first frame of each video (CRW).
        every: with it, where the given joints count as found (VFS).
        videos: how many videos were tracked.
        lost: share of the joints of later frames that were lost or never in the first frame, and so
            do not count.
    """

    later: PckScore
    every: PckScore
    videos: int
    lost: float


def evaluate_jhmdb(
    root: Path,
    tracker: PointTracker,
    *,
    split: int = 1,
    side: int = SIDE,
    on_video: Callable[[str], None] = lambda name: None,
) -> JhmdbScore:
    """Follow the joints of every test video of a split and pool their PCK.

    Args:
        root: the data set's folder.
        tracker: an open tracker.
        split: 1 to 3.
        side: of the square that frames are stretched to.
        on_video: called after each video.

    Raises:
        EvaluationError: something of the data set is missing or cannot be read.
        MissingExtraError: scipy is not installed.
    """
    videos = list_videos(root, split)
    later, every = PckPool(JOINTS, THRESHOLDS), PckPool(JOINTS, THRESHOLDS)
    lost = total = 0
    for name in videos:
        predicted, truth = _follow_joints(root, name, tracker, side)
        found = np.asarray(np.isfinite(predicted).all(axis=-1))
        distances = normalised_distances(predicted, truth, person_scale(truth, found))
        every.add(distances, found)
        later.add(distances[1:], found[1:])
        lost, total = lost + int((~found[1:]).sum()), total + found[1:].size
        on_video(name)
    return JhmdbScore(later.score(), every.score(), len(videos), lost / max(total, 1))


def list_videos(root: Path, split: int = 1) -> list[str]:
    """List the test videos of a split as ``CLASS/VIDEO``, by rising name.

    Raises:
        EvaluationError: the split's files are missing or name no test video.
    """
    suffix = f"_test_split{split}.txt"
    names = []
    for path in sorted((root / "splits").glob(f"*{suffix}")):
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        tests = (row[0] for row in rows if len(row) == 2 and row[1] == _TEST)
        names += [f"{path.name.removesuffix(suffix)}/{Path(test).stem}" for test in tests]
    if not names:
        raise EvaluationError(
            f"received {root}, which names no test video of split {split}; expected JHMDB's"
            f" splits/CLASS{suffix} with lines such as VIDEO.avi 2; unpack splits.zip there"
        )
    return sorted(names)


def read_joints(path: Path) -> NDArray[np.float64]:
    """Read the joints of a video.

    Args:
        path: a ``joint_positions.mat``; MATLAB's first pixel is 1.

    Returns:
        (T, 15, 2) float64 x, y, 0 being the centre of the first pixel; joints may lie outside.

    Raises:
        EvaluationError: the file cannot be read or holds no joints.
        MissingExtraError: scipy is not installed.
    """
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ModuleNotFoundError as exc:
        raise MissingExtraError(
            f"JHMDB's files need scipy, which is not installed; run: {how_to_install('eval')}"
        ) from exc
    try:
        joints = np.asarray(loadmat(path)["pos_img"], np.float64)
    except (OSError, KeyError, ValueError, NotImplementedError, MatReadError) as exc:
        raise EvaluationError(
            f"received {path}, which cannot be read ({exc}); expected a MATLAB file with pos_img"
        ) from exc
    if joints.ndim != 3 or joints.shape[:2] != (2, len(JOINTS)):
        raise EvaluationError(
            f"received {path} with pos_img of {joints.shape}; expected (2, {len(JOINTS)}, T)"
        )
    return joints.transpose(2, 1, 0) - 1


def person_scale(joints: NDArray[np.float64], counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Measure 0.6 of the diagonal of the box of the joints that count (CRW, VFS).

    Args:
        joints: (T, J, 2) float64.
        counted: (T, J) bool.

    Returns:
        (T,) float64 pixels; 0 where fewer than two joints count.
    """
    low = np.where(counted[..., None], joints, np.inf).min(axis=1)
    high = np.where(counted[..., None], joints, -np.inf).max(axis=1)
    some = np.asarray(counted.any(axis=1))[:, None]
    sides = np.subtract(high, low, out=np.zeros_like(low), where=some)
    return np.asarray(BOX_SHARE * np.linalg.norm(sides, axis=-1), np.float64)


def _follow_joints(
    root: Path, name: str, tracker: PointTracker, side: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the joints of a video as predicted, NaN for lost ones, and as they are."""
    truth = read_joints(root / "joint_positions" / name / "joint_positions.mat")
    predicted = np.full_like(truth, np.nan)
    with open_source(_find_images(root, name)) as video:
        height, width = video.frame_hw
        if video.length is not None and video.length < len(truth):
            raise EvaluationError(
                f"received {video.length} images of {name}; expected {len(truth)}, one for each"
                " frame of its joint_positions.mat; unpack Rename_Images whole"
            )
        x, y = truth[0].T
        inside = np.flatnonzero(
            np.all([x >= -0.5, x < width - 0.5, y >= -0.5, y < height - 0.5], axis=0)
        )
        given = stretch_points(truth[0, inside], video.frame_hw, (side, side))
        points = dict(zip([JOINTS[joint] for joint in inside], map(tuple, given), strict=True))
        if points:
            frames = _stretch_frames(video, len(truth), side)
            found = follow_points(tracker, frames, points)
            predicted[:, inside] = stretch_points(found, (side, side), video.frame_hw)
    return predicted, truth


def _stretch_frames(video: Source, count: int, side: int) -> Iterator[NDArray[np.uint8]]:
    for frame in islice(video, count):
        yield stretch_frame(frame.image, side)


def _find_images(root: Path, name: str) -> Path:
    folder = root / "Rename_Images" / name
    if not folder.is_dir():
        raise EvaluationError(
            f"received {root}, which lacks Rename_Images/{name}; expected the images of every test"
            " video; unpack Rename_Images.tar.gz there"
        )
    return folder
