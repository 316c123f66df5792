"""YouTube-VOS: objects that begin in any frame, and masks for the frames that the meta file lists.

The official folders are read (``JPEGImages``, ``Annotations``, ``meta.json``) and written
(``Annotations/VIDEO/FRAME.png``). The validation set is scored on the official server alone;
``youtube_score`` scores videos held out of the training set.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcedge.evaluation.tracking import MaskTracker
from vcedge_runtime.errors import EvaluationError, MaskError
from vcedge_runtime.settings import NAME, show
from vcedge_runtime.telling import tell_cause
from vcedge_runtime.video.palette import read_label_png
from vcedge_runtime.video.pictures import list_masks
from vcedge_runtime.video.sinks import open_masks
from vcedge_runtime.video.sources import open_source

MAX_ID = 255


@dataclass(frozen=True)
class ListedObject:
    """One object of a video.

    Attributes:
        object_id: its id in the masks, 1 to 255; ids may have gaps.
        category: what it is.
        frames: names of the frames that are listed for it, rising.
    """

    object_id: int
    category: str
    frames: tuple[str, ...]


@dataclass(frozen=True)
class ListedVideo:
    """One video of the meta file.

    Attributes:
        name: the video.
        objects: by rising id; at least one.
    """

    name: str
    objects: tuple[ListedObject, ...]

    @property
    def frames(self) -> frozenset[str]:
        """Names of the frames whose masks are wanted."""
        return frozenset(frame for each in self.objects for frame in each.frames)


def read_meta(root: Path, names: Sequence[str] | None = None) -> list[ListedVideo]:
    """Read ``meta.json``.

    Args:
        root: the folder of a part of the data set, such as ``valid``.
        names: videos; None: all.

    Returns:
        The videos, by rising name or in the order of ``names``.

    Raises:
        EvaluationError: the file cannot be read, is not of the official form, or lacks a video.
    """
    path = root / "meta.json"
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))["videos"]
        listed = {name: _parse_video(name, entry["objects"]) for name, entry in videos.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise EvaluationError(
            f"received {root}, whose meta.json cannot be read ({tell_cause(exc)}); expected"
            " YouTube-VOS's meta.json with videos, their objects and each one's category and frames"
        ) from exc
    chosen = sorted(listed) if names is None else list(names)
    missing = [name for name in chosen if name not in listed]
    if missing or not chosen:
        raise EvaluationError(
            f"received {missing[0] if missing else 'no name'} as a video of {path}; expected some"
            f" of its {len(listed)} videos; name one of these"
        )
    return [listed[name] for name in chosen]


def track_videos(
    root: Path,
    videos: Sequence[ListedVideo],
    tracker: MaskTracker,
    out: Path,
    on_video: Callable[[str], None] = lambda name: None,
    *,
    overwrite: bool = False,
) -> None:
    """Follow the objects of every video and write the masks of the listed frames.

    Args:
        root: see ``read_meta``; images of frames that are not listed are read too.
        videos: what to follow.
        tracker: an open tracker.
        out: where ``Annotations/VIDEO/FRAME.png`` go.
        on_video: called after each video.
        overwrite: remove what an earlier run wrote; see ``OutputFolder``.

    Raises:
        OutputError: a folder holds something else, or cannot be written.
        EvaluationError: images or masks are missing; the folders of all videos are looked at
            before the first is tracked.
    """
    require_folders(root, videos)
    for video in videos:
        track_video(root, video, tracker, out, overwrite=overwrite)
        on_video(video.name)


def require_folders(root: Path, videos: Sequence[ListedVideo]) -> None:
    """Refuse a data set that lacks the folder of a video.

    Raises:
        EvaluationError: it does.
    """
    for video in videos:
        for place in ("JPEGImages", "Annotations"):
            if not (root / place / video.name).is_dir():
                raise EvaluationError(
                    f"received {root}, which lacks {place}/{video.name}; expected the folders of"
                    " every video of meta.json; unpack the data set whole"
                )


def track_video(
    root: Path,
    video: ListedVideo,
    tracker: MaskTracker,
    out: Path,
    on_mask: Callable[[int], None] = lambda masks: None,
    *,
    overwrite: bool = False,
) -> None:
    """Follow the objects of a video and write the masks of its listed frames.

    Args:
        root: see ``read_meta``.
        video: what to follow.
        tracker: an open tracker.
        out: see ``track_videos``.
        on_mask: told how many are written.
        overwrite: see ``track_videos``.

    Raises:
        OutputError: see ``track_videos``.
        EvaluationError: images or masks are missing.
    """
    with open_masks(out / "Annotations" / video.name, overwrite=overwrite) as sink:
        for masks, (name, mask) in enumerate(follow_objects(root, video, tracker), start=1):
            sink.put(name, mask)
            on_mask(masks)


def follow_objects(
    root: Path, video: ListedVideo, tracker: MaskTracker
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Follow the objects of one video, each from the first frame whose mask shows it.

    A new object takes its pixels from what was predicted there (STCN).

    Yields:
        Name and (H, W) uint8 object ids of each listed frame.
    """
    begins = find_first_masks(root, video)
    wanted, begun = set(video.frames), False
    with open_source(root / "JPEGImages" / video.name) as source:
        for frame in source:
            new = begins.get(frame.name)
            if begun:
                mask = tracker.step(frame.image).mask
                if new is not None:
                    _add_objects(tracker, mask, new)
            elif new is not None:
                tracker.start(frame.image, new)
                mask, begun = new.copy(), True
            else:
                wanted.discard(frame.name)
                continue
            if frame.name in wanted:
                wanted.remove(frame.name)
                yield frame.name, mask
            if not wanted:
                return
    if wanted:
        raise EvaluationError(
            f"received no image of frame {min(wanted)} of {video.name}; expected JPEGImages/"
            f"{video.name}/{min(wanted)}.jpg; unpack the data set whole"
        )


def find_first_masks(root: Path, video: ListedVideo) -> dict[str, NDArray[np.uint8]]:
    """Find the frames in which objects are first shown.

    Returns:
        (H, W) uint8 ids of the objects that begin there, by name of the frame; other ids are 0.

    Raises:
        EvaluationError: no mask shows one of the objects, or a mask cannot be read.
    """
    missing = {each.object_id for each in video.objects}
    begins = {}
    for path in list_masks(root / "Annotations" / video.name):
        labels = read_annotation(path)
        new = missing & set(np.unique(labels).tolist())
        if new:
            begins[path.stem] = np.where(np.isin(labels, list(new)), labels, 0).astype(np.uint8)
            missing -= new
        if not missing:
            return begins
    raise EvaluationError(
        f"received no mask of object {min(missing)} of {video.name}; expected one in Annotations/"
        f"{video.name}, in the frame in which the object begins"
    )


def read_annotation(path: Path) -> NDArray[np.uint8]:
    """Read a mask: (H, W) uint8 object ids.

    Raises:
        EvaluationError: it cannot be read.
    """
    try:
        return read_label_png(path)
    except MaskError as exc:
        raise EvaluationError(str(exc)) from exc


def _add_objects(tracker: MaskTracker, mask: NDArray[np.uint8], new: NDArray[np.uint8]) -> None:
    """Add the objects of ``new`` to the tracker and, in place, to the mask."""
    for object_id in np.unique(new[new > 0]).tolist():
        tracker.add_object(object_id, (new == object_id).astype(np.uint8))
    np.copyto(mask, new, where=new > 0)


def _parse_video(name: str, objects: dict[str, dict[str, object]]) -> ListedVideo:
    if not NAME.fits(name):
        raise ValueError(f"a video is named {show(name)}")
    listed = []
    for key, entry in objects.items():
        frames = entry["frames"]
        if not isinstance(frames, list) or not frames or not 1 <= int(key) <= MAX_ID:
            raise ValueError(f"object {key} of {name} has the frames {show(frames)}")
        names = tuple(sorted(map(str, frames)))
        listed.append(ListedObject(int(key), str(entry.get("category", "")), names))
    if not listed:
        raise ValueError(f"{name} has no object")
    return ListedVideo(name, tuple(sorted(listed, key=lambda each: each.object_id)))
