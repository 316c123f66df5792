"""Which frames and which ids of a sequence are scored."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vcedge.evaluation.davis import boundary_accuracy, region_similarity, score_sequence
from vcedge.evaluation.davis_sequence import drop_first_and_last
from vcedge_runtime.errors import EvaluationError

Labels = NDArray[np.uint8]
SIZE = (24, 32)


def frame(*boxes: tuple[int, int, int]) -> Labels:
    """Draw squares of 8 pixels: (id, top, left) each."""
    labels = np.zeros(SIZE, np.uint8)
    for value, top, left in boxes:
        labels[top : top + 8, left : left + 8] = value
    return labels


def clip(seed: int, frames: int, ids: list[int]) -> Labels:
    rng = np.random.default_rng(seed)
    blocks = rng.choice(np.array([0, *ids], np.uint8), (frames, 6, 8))
    return blocks.repeat(4, axis=1).repeat(4, axis=2)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    frames=st.integers(3, 12),
    ids=st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True),
)
def test_each_id_up_to_the_largest_of_the_first_frame_is_an_object(
    seed: int, frames: int, ids: list[int]
) -> None:
    truth, predicted = clip(seed, frames, ids), clip(seed + 1, frames, ids)
    truth[0, :4, :4] = max(ids)
    score = score_sequence(truth, predicted)
    assert [o.object_id for o in score.objects] == list(range(1, max(ids) + 1))
    assert score.frames == frames - 2
    for each in score.objects:
        known, guess = (m[1:-1] == each.object_id for m in (truth, predicted))
        assert each.region.mean == region_similarity(known, guess).mean()
        assert each.boundary.mean == boundary_accuracy(known, guess).mean()


def test_the_first_and_last_frame_do_not_count() -> None:
    truth = [frame((1, 4, 4))] * 4
    predicted = [frame(), frame((1, 4, 4)), frame((1, 4, 4)), frame((9, 0, 0))]
    assert score_sequence(truth, predicted).j_and_f == 1


@pytest.mark.parametrize(("length", "kept"), [(0, []), (1, []), (2, []), (3, [1]), (5, [1, 2, 3])])
def test_dropping_first_and_last_keeps_what_lies_between(length: int, kept: list[int]) -> None:
    assert list(drop_first_and_last(range(length))) == kept


def test_an_id_that_both_leave_out_scores_one_as_in_the_official_code() -> None:
    truth = [frame((1, 0, 0), (3, 8, 8))] * 3
    score = score_sequence(truth, [frame((1, 0, 0))] * 3)
    assert [o.region.mean for o in score.objects] == [1, 1, 0]


def test_an_object_that_appears_late_in_the_truth_is_not_scored() -> None:
    truth = [frame((1, 0, 0)), frame((1, 0, 0), (2, 8, 8)), frame((1, 0, 0), (2, 8, 8))]
    score = score_sequence(truth, [frame((1, 0, 0))] * 3)
    assert [o.object_id for o in score.objects] == [1]
    assert score.j_and_f == 1


def test_swapped_ids_are_wrong() -> None:
    truth = [frame((1, 0, 0), (2, 8, 16))] * 3
    assert score_sequence(truth, [frame((2, 0, 0), (1, 8, 16))] * 3).j_and_f == 0


def test_void_in_a_truth_with_ids_is_background() -> None:
    truth = [frame((1, 0, 0), (255, 8, 16))] * 3
    assert score_sequence(truth, [frame((1, 0, 0))] * 3).j_and_f == 1
    # A prediction on void costs, since the semi-supervised protocol does not mask it out.
    assert score_sequence(truth, [frame((1, 0, 0), (1, 8, 16))] * 3).region.mean == 0.5


@pytest.mark.parametrize("value", [1, 5, 255])
def test_a_truth_of_0_and_255_is_one_object_of_any_value(value: int) -> None:
    truth = [frame((255, 4, 4))] * 3
    score = score_sequence(truth, [frame((value, 4, 4))] * 3)
    assert [o.object_id for o in score.objects] == [1]
    assert score.j_and_f == 1


def test_binary_merges_all_ids_and_leaves_void_out() -> None:
    truth = [frame((1, 0, 0), (2, 8, 8), (255, 16, 16))] * 3
    score = score_sequence(truth, [frame((7, 0, 0), (1, 8, 8))] * 3, binary=True)
    assert len(score.objects) == 1
    assert score.j_and_f == 1


def test_a_truth_that_is_void_alone_has_no_object_when_binary_is_off() -> None:
    truth = [frame((255, 4, 4))] * 3
    with pytest.raises(EvaluationError, match="without any object"):
        score_sequence(truth, truth, binary=False)


def test_a_truth_that_starts_empty_is_refused() -> None:
    truth = [frame(), frame((1, 0, 0)), frame()]
    with pytest.raises(EvaluationError, match="first ground truth of swan without any object"):
        score_sequence(truth, truth, name="swan")


@pytest.mark.parametrize("value", [3, 255])
def test_a_predicted_id_above_the_largest_is_refused(value: int) -> None:
    truth = [frame((1, 0, 0), (2, 8, 8))] * 3
    predicted = [frame(), frame((value, 0, 0)), frame()]
    with pytest.raises(EvaluationError, match=f"id {value} in a prediction of frame 1 of swan"):
        score_sequence(truth, predicted, name="swan")


def test_a_predicted_id_that_was_left_out_below_the_largest_is_an_object() -> None:
    truth = [frame((3, 0, 0))] * 3
    score = score_sequence(truth, [frame((2, 0, 0))] * 3)
    assert [o.region.mean for o in score.objects] == [1, 0, 0]


def test_a_prediction_of_another_size_is_refused() -> None:
    truth = [frame((1, 0, 0))] * 3
    with pytest.raises(EvaluationError, match=r"prediction of frame 1 .*\(12, 16\).*\(24, 32\)"):
        score_sequence(truth, [mask[::2, ::2] for mask in truth])


@pytest.mark.parametrize(("truths", "predictions"), [(4, 3), (3, 4)])
def test_unequal_numbers_of_frames_are_refused(truths: int, predictions: int) -> None:
    mask = frame((1, 0, 0))
    more = "ground truths than predictions" if truths > predictions else "predictions than ground"
    with pytest.raises(EvaluationError, match=f"more {more}.*after 3 frames"):
        score_sequence([mask] * truths, [mask] * predictions)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_sequence_without_a_scored_frame_is_refused(count: int) -> None:
    with pytest.raises(EvaluationError, match="fewer than 3 frames"):
        score_sequence([frame((1, 0, 0))] * count, [frame((1, 0, 0))] * count)


def test_frames_are_taken_one_at_a_time() -> None:
    pulled: list[int] = []

    def truths() -> Iterator[Labels]:
        for index in range(6):
            pulled.append(index)
            yield frame((1, 0, 0))

    predicted = [frame((1, 0, 0)), frame((1, 0, 0))[::2], *[frame((1, 0, 0))] * 4]
    with pytest.raises(EvaluationError, match="frame 1"):
        score_sequence(truths(), predicted)
    # One frame is looked ahead, to know which is the last.
    assert pulled == [0, 1, 2]
