"""The DAVIS evaluation of video object segmentation, with the numbers of the official code.

    score = evaluate_folders("DAVIS", "predictions", Path("2017/val.txt"))
    score.j_and_f

``score_sequence`` does the same for masks in memory. The semi-supervised rules hold: object ids are
matched as they are, and the first and last frame are not scored.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcedge.evaluation.davis_folders import SequenceFiles, list_sequences, pair_files
from vcedge.evaluation.davis_metrics import boundary_accuracy, region_similarity
from vcedge.evaluation.davis_score import DavisScore, ObjectScore, SequenceScore, Statistics
from vcedge.evaluation.davis_sequence import Legend, score_frames, score_object, score_sequence
from vcedge_runtime.errors import EvaluationError, MaskError
from vcedge_runtime.video.palette import read_label_png

__all__ = [
    "DavisScore",
    "ObjectScore",
    "SequenceScore",
    "Statistics",
    "boundary_accuracy",
    "evaluate_folders",
    "list_sequences",
    "region_similarity",
    "score_object",
    "score_sequence",
]


def evaluate_folders(
    truth_root: str | Path,
    predicted_root: str | Path,
    sequences: Sequence[str] | Path | None = None,
    workers: int | None = None,
    on_sequence: Callable[[SequenceScore], None] | None = None,
    *,
    binary: bool | None = None,
) -> DavisScore:
    """Score folders of masks. All files are looked for before the first is read.

    Args:
        truth_root: a folder with ``Annotations/480p/SEQUENCE/*.png`` or ``SEQUENCE/*.png``, or
            with the PNG of a single sequence; palette or gray, values are object ids.
        predicted_root: the same, with a PNG of the same name for every scored ground truth.
        sequences: names, or a list file such as ``ImageSets/2017/val.txt``, see
            ``list_sequences``; None: all in truth_root.
        workers: threads; None: one per processor.
        on_sequence: called after each sequence, in the order of ``list_sequences``.
        binary: score all objects of a sequence as one; None: where its first ground truth holds
            only 0 and 255, as in DAVIS-2016.

    Raises:
        EvaluationError: a missing sequence or frame, a file that is no mask, and what
            ``score_sequence`` raises.
    """
    scores = []
    with ThreadPoolExecutor(max(workers or os.cpu_count() or 1, 1)) as pool:
        for files in pair_files(Path(truth_root), Path(predicted_root), sequences):
            scores.append(_score_files(files, binary, pool))
            if on_sequence:
                on_sequence(scores[-1])
    return DavisScore(tuple(scores))


def _score_files(files: SequenceFiles, binary: bool | None, pool: Executor) -> SequenceScore:
    legend = Legend.from_first_mask(_read_mask(files.first), binary, files.name)
    frames = pool.map(partial(_score_pair, legend, files.name), files.scored)
    return score_frames(files.name, legend, frames)


def _score_pair(legend: Legend, name: str, pair: tuple[Path, Path]) -> NDArray[np.float64]:
    truth, predicted = map(_read_mask, pair)
    return legend.score_frame(truth, predicted, f"frame {pair[0].stem} of {name}")


def _read_mask(path: Path) -> NDArray[np.uint8]:
    try:
        return read_label_png(path)
    except MaskError as exc:
        raise EvaluationError(str(exc)) from exc
