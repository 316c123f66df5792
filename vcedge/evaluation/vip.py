"""VIP: parts of people, given in the first frame and followed through the validation videos.

The official folders of VIP_Fine are read. The protocol is that of CRW and UVC: frames are stretched
to a square, one confusion matrix over all frames and videos, and the mean IoU over the classes that
the ground truth or the prediction shows at all. Pixels marked 255 do not count (VFS).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcedge.evaluation.square import stretch_frame, stretch_ids
from vcedge.evaluation.tracking import MaskTracker
from vcedge_runtime.errors import EvaluationError, MaskError
from vcedge_runtime.settings import NAME, show
from vcedge_runtime.video.palette import read_label_png
from vcedge_runtime.video.sinks import open_masks
from vcedge_runtime.video.sources import Frame, open_source

CLASSES = (
    *("background", "hat", "hair", "sun-glasses", "upper-clothes", "dress", "coat", "socks"),
    *("pants", "gloves", "scarf", "skirt", "torso-skin", "face", "right-arm", "left-arm"),
    *("right-leg", "left-leg", "right-shoe", "left-shoe"),
)
SIDE = 560
"""Side of the square that frames are stretched to (CRW, UVC, SPAT)."""
IGNORED = 255
_LABEL_FOLDERS = ("Category_ids", "Annotations/Category_ids")


@dataclass(frozen=True, eq=False)
class VipScore:
    """Mean IoU over classes.

    Attributes:
        later: (20, 20) int64 pixels, true class by predicted class, without the first frames.
        every: the same with the first frames, where the given parts are right.
        videos: how many videos were tracked.
        frames: how many frames of ``every`` were scored.
    """

    later: NDArray[np.int64]
    every: NDArray[np.int64]
    videos: int
    frames: int


def evaluate_vip(
    root: Path,
    tracker: MaskTracker,
    *,
    side: int = SIDE,
    out: Path | None = None,
    overwrite: bool = False,
    on_video: Callable[[str], None] = lambda name: None,
) -> VipScore:
    """Follow the parts of every validation video and count their pixels.

    Args:
        root: VIP_Fine's folder.
        tracker: an open tracker.
        side: of the square that frames are stretched to.
        out: where predictions go as palette PNG, a folder per video; None: nowhere.
        overwrite: remove what an earlier run wrote there; see ``OutputFolder``.
        on_video: called after each video.

    Raises:
        OutputError: a folder holds something else, or cannot be written.
        EvaluationError: something of the data set is missing or cannot be read.
    """
    names = list_videos(root)
    labels = find_labels(root)
    counts = np.zeros((2, len(CLASSES), len(CLASSES)), np.int64)
    frames = 0
    for name in names:
        with ExitStack() as stack:
            sink = out and stack.enter_context(open_masks(out / name, overwrite=overwrite))
            for frame, mask in _follow_parts(root / "Images" / name, labels / name, tracker, side):
                if sink:
                    sink.put(frame.name, mask)
                path = labels / name / f"{frame.name}.png"
                if path.is_file():
                    table = count_pixels(_read_ids(path, frame.image.shape[:2]), mask)
                    counts[: 1 if frame.index == 0 else 2] += table
                    frames += 1
        on_video(name)
    return VipScore(later=counts[1], every=counts[0], videos=len(names), frames=frames)


def count_pixels(truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count pixels by true and predicted class.

    Args:
        truth: (H, W) uint8 classes; what is no class does not count.
        predicted: (H, W) uint8 classes.

    Returns:
        (20, 20) int64, true class by predicted class.

    Raises:
        EvaluationError: the sizes differ, or the prediction holds no class.
    """
    classes = len(CLASSES)
    if truth.shape != predicted.shape or predicted.max(initial=0) >= classes:
        raise EvaluationError(
            f"received a prediction of {predicted.shape} with classes up to"
            f" {predicted.max(initial=0)}; expected {truth.shape} and at most {classes - 1}"
        )
    known = truth < classes
    pairs = truth[known].astype(np.int64) * classes + predicted[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_ious(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Measure IoU per class: diagonal over row plus column minus diagonal; NaN where absent."""
    both = np.diag(counts)
    either = counts.sum(axis=0) + counts.sum(axis=1) - both
    return np.asarray(both / np.where(either > 0, either, np.nan), np.float64)


def mean_iou(counts: NDArray[np.int64]) -> float:
    """Average the IoU of the classes that occur, the background among them; NaN without any."""
    ious = class_ious(counts)
    present = ious[~np.isnan(ious)]
    return float(present.mean()) if present.size else float("nan")


def list_videos(root: Path) -> list[str]:
    """List the validation videos, in the order of ``lists/val_videos.txt``.

    Raises:
        EvaluationError: the list is missing or empty, or the images of a video are.
    """
    path = root / "lists" / "val_videos.txt"
    names = path.read_text(encoding="utf-8").split() if path.is_file() else []
    if not names:
        raise EvaluationError(
            f"received {root}, which names no validation video; expected VIP_Fine's"
            " lists/val_videos.txt with a name per line; check the path"
        )
    foreign = [name for name in names if not NAME.fits(name)]
    if foreign:
        raise EvaluationError(
            f"received {path}, which names a video {show(foreign[0])}; expected {NAME}; mend it"
        )
    missing = [name for name in names if not (root / "Images" / name).is_dir()]
    if missing:
        raise EvaluationError(
            f"received {root}, which lacks Images/{missing[0]} ({len(missing)} of {len(names)}"
            " videos are missing); expected the images of every validation video"
        )
    return names


def find_labels(root: Path) -> Path:
    """Find the folder of the part ids.

    Raises:
        EvaluationError: there is none.
    """
    for place in _LABEL_FOLDERS:
        if (root / place).is_dir():
            return root / place
    raise EvaluationError(
        f"received {root}, which has no part ids; expected {' or '.join(_LABEL_FOLDERS)}"
    )


def _follow_parts(
    images: Path, labels: Path, tracker: MaskTracker, side: int
) -> Iterator[tuple[Frame, NDArray[np.uint8]]]:
    """Yield each frame and its parts, at the frame's own size; the first frame's are given."""
    with open_source(images) as video:
        follows = False
        for frame in video:
            square = stretch_frame(frame.image, side)
            if frame.index == 0:
                mask = _read_ids(labels / f"{frame.name}.png", video.frame_hw)
                mask[mask == IGNORED] = 0
                follows = bool(mask.any())
                if follows:
                    tracker.start(square, stretch_ids(mask, (side, side)))
            elif follows:
                mask = stretch_ids(tracker.step(square).mask, video.frame_hw)
            else:
                mask = np.zeros(video.frame_hw, np.uint8)
            yield frame, mask


def _read_ids(path: Path, frame_hw: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        ids = read_label_png(path)
    except MaskError as exc:
        raise EvaluationError(str(exc)) from exc
    if ids.shape != frame_hw:
        raise EvaluationError(f"received {path} of {ids.shape}; expected {frame_hw} like its image")
    return ids
