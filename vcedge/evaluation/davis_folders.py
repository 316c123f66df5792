"""Finding the files of a DAVIS evaluation: which sequences, which prediction for which frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vcedge.evaluation.davis_sequence import drop_first_and_last, too_few_frames
from vcedge_runtime.errors import EvaluationError
from vcedge_runtime.video.pictures import list_masks

LISTS = "ImageSets"
"""Folder of DAVIS with a folder a year, and in each a list of the sequences of every part."""


@dataclass(frozen=True)
class MixedParts:
    """Sequences of training and of validation that are scored together.

    Attributes:
        lists: the folder whose lists say so.
        training: how many are of training.
        validation: how many are of validation.
    """

    lists: Path
    training: int
    validation: int


@dataclass(frozen=True)
class SequenceFiles:
    """The masks of one sequence.

    Attributes:
        name: the sequence.
        first: its first ground truth, which says which objects there are.
        scored: ground truth and prediction of each scored frame; at least one.
    """

    name: str
    first: Path
    scored: tuple[tuple[Path, Path], ...]


def list_sequences(truth_root: Path, sequences: Sequence[str] | Path | None = None) -> list[str]:
    """Tell which sequences will be scored, in that order.

    Args:
        truth_root: see ``find_mask_folders``.
        sequences: names; or a list file such as ``ImageSets/2017/val.txt``, as it stands or below
            truth_root, with a name or (DAVIS-2016) a frame's path at the head of each line; or None
            for all in truth_root.

    Raises:
        EvaluationError: there is none, one is not in truth_root, or the list cannot be read.
    """
    folders = find_mask_folders(truth_root)
    if isinstance(sequences, Path):
        sequences = _read_sequence_list(sequences, truth_root)
    names = list(dict.fromkeys(folders if sequences is None else sequences))
    missing = [name for name in names if name not in folders]
    if missing or not names:
        raise EvaluationError(
            f"received {missing[0] if missing else 'no name'} as a sequence of {truth_root};"
            f" expected some of: {', '.join(folders)}; name one of these"
        )
    return names


def find_mixed_parts(truth_root: Path, names: Sequence[str]) -> MixedParts | None:
    """Ask DAVIS's own lists, in or beside a folder, whether sequences are of two parts.

    Args:
        truth_root: see ``find_mask_folders``.
        names: the sequences.

    Returns:
        What the newest lists say; None where all are of one part, or no list is there.

    Raises:
        EvaluationError: a list cannot be read.
    """
    whole = truth_root.resolve()
    places = [folder / LISTS for folder in (whole, *whole.parents[:3])]
    years = [year for place in places for year in sorted(place.glob("*/"), reverse=True)]
    for year in years:
        parts = [year / f"{part}.txt" for part in ("train", "val")]
        if all(path.is_file() for path in parts):
            training, validation = (
                len(set(names) & set(_read_sequence_list(path, whole))) for path in parts
            )
            if training and validation:
                return MixedParts(year, training, validation)
    return None


def pair_files(
    truth_root: Path, predicted_root: Path, sequences: Sequence[str] | Path | None = None
) -> list[SequenceFiles]:
    """Find the ground truth and the prediction of every frame to be scored.

    Frames are matched by the file's name without its suffix. Predictions that have no ground
    truth, and those of the first and last frame, are not looked at. Where the prediction is a
    single folder of PNG and one sequence is scored, the folder's name does not matter.

    Raises:
        EvaluationError: a sequence or a frame has no prediction, or too few frames.
    """
    names = list_sequences(truth_root, sequences)
    truths, predictions = find_mask_folders(truth_root), find_mask_folders(predicted_root)
    if len(names) == 1 and list(predictions.values()) == [predicted_root]:
        predictions = {names[0]: predicted_root}
    missing = [name for name in names if name not in predictions]
    if missing:
        raise EvaluationError(
            f"received no predictions of {missing[0]} below {predicted_root} ({len(missing)} of"
            f" {len(names)} sequences are missing); expected one folder of PNG per sequence; track"
            " it first, or name the sequences to score"
        )
    return [_pair_sequence(name, truths[name], predictions[name]) for name in names]


def find_mask_folders(root: Path) -> dict[str, Path]:
    """Find the folders of PNG of a data set or of a tracker's output.

    Args:
        root: a folder with ``Annotations/480p/SEQUENCE/*.png``, ``Annotations/SEQUENCE/*.png`` or
            ``SEQUENCE/*.png``, or with the PNG of a single sequence.

    Returns:
        Folder by sequence, by rising name.

    Raises:
        EvaluationError: there is no PNG in any of these places.
    """
    for place in (root / "Annotations" / "480p", root / "Annotations", root):
        folders = sorted(place.iterdir()) if place.is_dir() else []
        found = {folder.name: folder for folder in folders if list_masks(folder)}
        if found:
            return found
    if list_masks(root):
        return {root.resolve().name: root}
    raise EvaluationError(
        f"received {root}, which {'holds no masks' if root.is_dir() else 'is no folder'}; expected"
        " Annotations/480p/SEQUENCE/*.png, SEQUENCE/*.png or *.png in it; check the path"
    )


def find_frames(root: Path, name: str) -> Path:
    """Find the folder of a sequence's frames.

    Args:
        root: a folder with ``JPEGImages/480p/SEQUENCE`` or ``JPEGImages/SEQUENCE``.
        name: the sequence.

    Raises:
        EvaluationError: there is none.
    """
    for images in (root / "JPEGImages" / "480p", root / "JPEGImages"):
        if (images / name).is_dir():
            return images / name
    raise EvaluationError(
        f"received {root}, which has no frames of {name}; expected JPEGImages/480p/{name}"
    )


def _pair_sequence(name: str, truth: Path, predicted: Path) -> SequenceFiles:
    masks = list_masks(truth)
    guesses = {path.stem: path for path in list_masks(predicted)}
    scored = list(drop_first_and_last(masks))
    if not scored:
        raise too_few_frames(name)
    missing = [path.stem for path in scored if path.stem not in guesses]
    if missing:
        raise EvaluationError(
            f"received no prediction of frame {missing[0]} of {name} in {predicted} ({len(missing)}"
            f" of {len(scored)} frames are missing); expected a PNG with the name of every ground"
            " truth but the first and last; track the sequence to its end"
        )
    return SequenceFiles(name, masks[0], tuple((path, guesses[path.stem]) for path in scored))


def _read_sequence_list(path: Path, truth_root: Path) -> list[str]:
    places = (path, truth_root / path, truth_root / LISTS / path)
    found = next((place for place in places if place.is_file()), path)
    try:
        lines = found.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise EvaluationError(
            f"received {path} as a list of sequences, which cannot be read; expected a text file"
            " with a name per line, such as ImageSets/2017/val.txt; check the path"
        ) from exc
    heads = [line.split()[0] for line in lines if line.strip()]
    return [Path(head).parent.name if "/" in head else head for head in heads]
