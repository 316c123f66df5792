"""A tracker of SRNet's composition, with graphs written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime.tracker.made import Frame, bytes_beside_engines, iou, same
from tests.runtime.tracker.made_srnet import SPECS, HandMadeGraph, make_engines, open_hand_made
from vcedge_runtime.errors import BundleError, TrackerError
from vcedge_runtime.frames.colour import IMAGENET_LITE, LAB
from vcedge_runtime.frames.resizing import prepare_frame
from vcedge_runtime.memory.dynamic import DynamicMemory, DynamicPolicy
from vcedge_runtime.memory.local_global import LocalGlobalPolicy
from vcedge_runtime.tracker import Tracker

COLOURS = ((40, 200, 60), (200, 60, 30), (230, 220, 40), (90, 20, 160))
HEIGHT, WIDTH, SIDE = 64, 256, 32


def draw(step: int, *objects: int) -> tuple[Frame, Frame]:
    """A frame of squares that move right by a cell every fourth step, and its ids."""
    frame, ids = np.full((HEIGHT, WIDTH, 3), 128, np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    for place, object_id in enumerate(objects):
        top, left = 32 * (place % 2), 64 * (place // 2) + 16 * (step // 4)
        frame[top : top + SIDE, left : left + SIDE] = COLOURS[place]
        ids[top : top + SIDE, left : left + SIDE] = object_id
    return frame, ids


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    with open_hand_made() as opened:
        yield opened


@pytest.mark.parametrize("parts", [{}, {"local": "raw"}, {"local": "off"}, {"prototypes": False}])
@pytest.mark.parametrize("objects", [(7,), (3, 200), (9, 1, 40)])
def test_objects_are_followed_whatever_is_switched_off(
    objects: tuple[int, ...], parts: dict[str, Any]
) -> None:
    with open_hand_made(**parts) as tracker:
        tracker.start(*draw(0, *objects))
        for step in range(1, 12):
            frame, truth = draw(step, *objects)
            result = tracker.step(frame)
    assert tracker.bundle.composition.local == parts.get("local", "fam")
    assert set(result.scores) == set(objects)
    for object_id in objects:
        # Squares of whole cells: the border alone is interpolated.
        assert iou(result.mask == object_id, truth == object_id) > 0.9
        assert result.scores[object_id] > 0.8


def test_what_is_switched_off_does_not_run() -> None:
    engines = make_engines()
    with open_hand_made(engines, local="raw", prototypes=False) as tracker:
        tracker.start(*draw(0, 1))
        timings_ms = tracker.step(draw(1, 1)[0]).timings_ms
    for name in ("feature_alignment", "prototype_transformer"):
        engine = engines[name]
        assert isinstance(engine, HandMadeGraph)
        assert not engine.runs
    assert timings_ms["align"] == 0
    assert min(timings_ms[s] for s in ("encode", "readout", "segment", "remember")) > 0


def test_the_query_encoder_runs_once_a_frame_whatever_the_number_of_objects() -> None:
    engines = make_engines()
    with open_hand_made(engines) as tracker:
        tracker.start(*draw(0, 5, 6, 7))
        for step in range(1, 4):
            tracker.step(draw(step, 5, 6, 7)[0])
    encoder = engines["query_encoder"]
    assert isinstance(encoder, HandMadeGraph)
    assert len(encoder.runs) == 4


@pytest.mark.parametrize("interval", [1, 3])
def test_the_local_memory_is_the_frame_so_many_before(interval: int) -> None:
    engines = make_engines()
    with open_hand_made(engines, interval=interval) as tracker:
        tracker.start(*draw(0, 1))
        for step in range(1, 9):
            tracker.step(draw(step, 1)[0])
    alignment, encoder = engines["feature_alignment"], engines["query_encoder"]
    assert isinstance(alignment, HandMadeGraph)
    assert isinstance(encoder, HandMadeGraph)
    keys = [run["query"] for run in alignment.runs]
    for step, run in enumerate(alignment.runs, start=1):
        before = step - interval
        expected = keys[before - 1] if before > 0 else alignment.runs[0]["key"]
        np.testing.assert_array_equal(run["key"], expected)


def test_prototypes_are_summed_over_global_and_local_memory_once_each() -> None:
    engines = make_engines()
    with open_hand_made(engines) as tracker:
        tracker.start(*draw(0, 1))
        for step in range(1, 8):
            tracker.step(draw(step, 1)[0])
    transformer = engines["prototype_transformer"]
    assert isinstance(transformer, HandMadeGraph)
    cells = (HEIGHT // 16) * (WIDTH // 16)
    # Frame 1 reads frame 0, which is local too; frame 2 reads 0 and 1; frame 7 reads 0, 5 and 6.
    weights = [run["weights"].sum() for run in transformer.runs]
    np.testing.assert_allclose(weights, [cells, *[2 * cells] * 5, 3 * cells], rtol=1e-5)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations([3, 7, 9]), gone=st.sampled_from([3, 7, 9]))
def test_the_order_of_ids_and_objects_that_left_change_nothing_for_the_others(
    order: list[int], gone: int
) -> None:
    frame, ids = draw(0, *order)
    with open_hand_made() as whole, open_hand_made() as fewer:
        whole.start(frame, ids)
        fewer.start(frame, ids)
        fewer.remove_object(gone)
        assert fewer.object_ids == [i for i in (3, 7, 9) if i != gone]
        for step in range(1, 7):
            ours, others = (t.step(draw(step, *order)[0]) for t in (whole, fewer))
        truth = draw(6, *order)[1]
        assert gone not in others.mask
        for object_id in fewer.object_ids:
            assert iou(ours.mask == object_id, truth == object_id) > 0.9
            assert iou(others.mask == object_id, truth == object_id) > 0.9


def test_an_object_is_added_in_mid_video_and_stays(tracker: Tracker) -> None:
    objects = (4, 8)
    frame, ids = draw(0, *objects)
    tracker.start(frame, np.where(ids == 4, ids, 0).astype(np.uint8))
    for step in range(1, 8):
        result = tracker.step(draw(step, *objects)[0])
    assert set(np.unique(result.mask)) == {0, 4}
    tracker.add_object(8, draw(7, *objects)[1] == 8)  # type: ignore[arg-type]
    assert tracker.object_ids == [4, 8]
    for step in range(8, 25):
        frame, truth = draw(step, *objects)
        result = tracker.step(frame)
    for object_id in objects:
        assert iou(result.mask == object_id, truth == object_id) > 0.9


def test_a_corrected_mask_takes_the_place_of_what_was_found(tracker: Tracker) -> None:
    frame, ids = draw(0, 4, 8)
    tracker.start(frame, np.where(ids == 4, ids, 0).astype(np.uint8))
    tracker.step(draw(1, 4, 8)[0])
    tracker.add_object(4, draw(1, 4, 8)[1] == 8)  # type: ignore[arg-type]
    for step in range(2, 6):
        frame, truth = draw(step, 4, 8)
        result = tracker.step(frame)
    assert tracker.object_ids == [4]
    assert iou(result.mask == 4, truth == 8) > 0.9


def test_all_objects_may_leave_and_others_come(tracker: Tracker) -> None:
    tracker.start(*draw(0, 4))
    tracker.step(draw(1, 4)[0])
    tracker.remove_object(4)
    assert tracker.object_ids == []
    assert not tracker.step(draw(2, 4)[0]).mask.any()
    tracker.add_object(9, draw(2, 4)[1] > 0)  # type: ignore[arg-type]
    frame, truth = draw(3, 9)
    assert iou(tracker.step(frame).mask == 9, truth == 9) > 0.9


def test_memory_does_not_grow_and_is_what_is_told(tracker: Tracker) -> None:
    tracker.start(*draw(0, 1, 2))
    before = tracker.memory_bytes
    for step in range(1, 60):
        tracker.step(draw(step % 30, 1, 2)[0])
    assert tracker.memory_bytes == before
    assert bytes_beside_engines(tracker.video) == before


@pytest.mark.parametrize(
    "memory",
    [
        LocalGlobalPolicy(every=2, capacity=3),
        DynamicPolicy(short=2, long=2),
        "references",
    ],
)
def test_other_memories_can_be_chosen(memory: Any) -> None:
    with open_hand_made(memory=memory) as tracker:
        tracker.start(*draw(0, 1, 2))
        for step in range(1, 30):
            frame, truth = draw(step, 1, 2)
            result = tracker.step(frame)
    assert iou(result.mask > 0, truth > 0) > 0.9


@pytest.mark.parametrize("graph", ["query_encoder", "mask_decoder", "value_encoder"])
@pytest.mark.parametrize("memory", [None, DynamicPolicy(short=2, long=2, candidates=4)], ids=str)
def test_where_a_graph_fails_the_last_frame_stays_the_last(
    graph: str, memory: DynamicPolicy | None
) -> None:
    engines = make_engines()
    with (
        open_hand_made(engines, memory=memory) as tracker,
        open_hand_made(memory=memory) as whole,
    ):
        engine = engines[graph]
        assert isinstance(engine, HandMadeGraph)
        for each in (tracker, whole):
            each.start(*draw(0, 1, 2))
        for step in range(1, 16):
            engine.broken = True
            # It shows the objects elsewhere, so that memory would choose otherwise.
            with pytest.raises(RuntimeError, match="on purpose"):
                tracker.step(draw(40 - step, 1, 2)[0])
            engine.broken = False
            if step == 9:
                for each in (tracker, whole):
                    each.add_object(2, draw(step - 1, 1, 2)[1] == 2)  # type: ignore[arg-type]
            frame = draw(step, 1, 2)[0]
            assert same(tracker.step(frame), whole.step(frame))
            ours, theirs = (each.video.predictor.memory for each in (tracker, whole))
            kept = [[memory.keeps(past) for past in range(step)] for memory in (ours, theirs)]
            assert kept[0] == kept[1]


@pytest.mark.parametrize("graph", ["value_encoder", "memory_read"])
@pytest.mark.parametrize("object_id", [2, 7], ids=["known", "new"])
def test_a_mask_that_cannot_be_encoded_changes_nothing(object_id: int, graph: str) -> None:
    engines = make_engines()
    engines["memory_read"] = HandMadeGraph(SPECS["memory_read"], engines["memory_read"].run)
    with open_hand_made(engines) as tracker, open_hand_made() as whole:
        for each in (tracker, whole):
            each.start(*draw(0, 1, 2))
            for step in range(1, 8):
                each.step(draw(step, 1, 2)[0])
        engine = engines[graph]
        assert isinstance(engine, HandMadeGraph)
        engine.broken = True
        with pytest.raises(RuntimeError, match="on purpose"):
            tracker.add_object(object_id, draw(7, 1, 2)[1] == 1)  # type: ignore[arg-type]
        engine.broken = False
        assert tracker.object_ids == [1, 2]
        for step in range(8, 14):
            frame = draw(step, 1, 2)[0]
            found, expected = tracker.step(frame), whole.step(frame)
            for known in (1, 2):
                assert iou(found.mask == known, expected.mask == known) > 0.95
        tracker.remove_object(2)
        tracker.add_object(9, draw(13, 1, 2)[1] == 2)  # type: ignore[arg-type]
        assert tracker.object_ids == [1, 9]


def test_memory_is_told_of_the_places_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    store = DynamicMemory.store

    def watched(self: DynamicMemory, frame: int, key: Any, labels: Any) -> None:
        told.append((frame, labels.shape[-1]))
        store(self, frame, key, labels)

    monkeypatch.setattr(DynamicMemory, "store", watched)
    with open_hand_made(memory=DynamicPolicy(short=2, long=2)) as tracker:
        tracker.start(*draw(0, 1, 2, 3))
        for step in range(1, 6):
            tracker.step(draw(step, 1, 2, 3)[0])
        told.clear()
        tracker.remove_object(2)
        predictor = tracker.video.predictor
        kept = [frame for frame, _ in predictor.bank.stored() if predictor.memory.keeps(frame)]
        # The background and two objects.
        assert sorted(told) == [(frame, 3) for frame in sorted({*kept, 5})]
        frame, truth = draw(6, 1, 2, 3)
        result = tracker.step(frame)
    assert iou(result.mask == 3, truth == 3) > 0.9


def test_a_mask_drawn_after_a_failed_step_belongs_to_the_last_frame() -> None:
    engines = make_engines()
    with open_hand_made(engines) as tracker, open_hand_made() as whole:
        decoder = engines["mask_decoder"]
        assert isinstance(decoder, HandMadeGraph)
        for each in (tracker, whole):
            each.start(*draw(0, 1))
        decoder.broken = True
        with pytest.raises(RuntimeError, match="on purpose"):
            tracker.step(draw(20, 1)[0])
        decoder.broken = False
        for each in (tracker, whole):
            each.add_object(2, draw(0, 1, 2)[1] == 2)  # type: ignore[arg-type]
        last = engines["value_encoder"]
        assert isinstance(last, HandMadeGraph)
        np.testing.assert_array_equal(last.runs[-1]["image"], last.runs[0]["image"])
        frame = draw(1, 1, 2)[0]
        assert same(tracker.step(frame), whole.step(frame))


@pytest.mark.parametrize("together", [1, 2])
def test_objects_are_encoded_and_decoded_in_groups_as_all_at_once(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [draw(step, 9, 1, 40)[0] for step in range(1, 6)]
    mask = draw(0, 9, 1, 40)
    with open_hand_made() as tracker:
        tracker.start(*mask)
        expected = [tracker.step(frame) for frame in frames]
    monkeypatch.setattr("vcedge_runtime.predictors.object_frames.TOGETHER", together)
    engines = make_engines()
    with open_hand_made(engines) as tracker:
        tracker.start(*mask)
        assert all(
            same(tracker.step(frame), one) for frame, one in zip(frames, expected, strict=True)
        )
    encoder = engines["value_encoder"]
    assert isinstance(encoder, HandMadeGraph)
    assert {len(run["masks"]) for run in encoder.runs} == ({1} if together == 1 else {1, 2})
    # Every object is told what all others cover, those of other groups too.
    covered = sum(run["masks"].sum(axis=0) for run in encoder.runs[: -(-3 // together)])
    np.testing.assert_allclose(1 - encoder.runs[0]["background"][0], covered, atol=1e-6)


def test_values_are_made_of_what_their_graph_takes_of_the_frame() -> None:
    mask = draw(0, 9, 1)
    with open_hand_made() as tracker:
        tracker.start(*mask)
        expected = tracker.step(draw(1, 9, 1)[0])
    engines = make_engines()
    encoder = engines["value_encoder"]
    assert isinstance(encoder, HandMadeGraph)
    features = SPECS["query_encoder"].outputs
    taken = tuple(tensor for tensor in features if tensor.name in ("f4", "f8", "f16"))
    encoder.spec = replace(encoder.spec, inputs=(*taken, *encoder.spec.inputs[-2:]))
    with open_hand_made(engines) as tracker:
        tracker.start(*mask)
        assert same(tracker.step(draw(1, 9, 1)[0]), expected)
    assert all(set(run) == {"f4", "f8", "f16", "masks", "background"} for run in encoder.runs)


def test_the_encoder_gets_the_colour_that_the_bundle_says() -> None:
    frame, mask = draw(0, 9)
    images = {}
    for colour in (LAB, IMAGENET_LITE):
        engines = make_engines()
        encoder = engines["query_encoder"]
        assert isinstance(encoder, HandMadeGraph)
        with open_hand_made(engines, colour=colour) as tracker:
            tracker.start(frame, mask)
            tracker.step(frame)
        expected = prepare_frame(frame, (HEIGHT, WIDTH), colour).transpose(2, 0, 1)
        assert len(encoder.runs) == 2
        for run in encoder.runs:
            np.testing.assert_array_equal(run["image"][0], expected)
            images[colour.space] = expected
    assert not np.allclose(images["lab"], images["rgb"])


def test_points_are_refused_with_a_model_that_follows_masks(tracker: Tracker) -> None:
    with pytest.raises(TrackerError, match="hand-made follows masks alone; open a model"):
        tracker.start_points(draw(0, 1)[0], {"nose": (3.0, 4.0)})


def test_frames_of_too_few_cells_are_refused() -> None:
    frame, mask = np.zeros((32, 32, 3), np.uint8), np.ones((32, 32), np.uint8)
    with open_hand_made(size=32, top_k=5) as tracker:
        with pytest.raises(TrackerError, match="2x2 key cells; expected at least 5 cells"):
            tracker.start(frame, mask)
        tracker.start(*draw(0, 1))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"sampler": "window"}, "received sampler for a model that segments each object"),
        ({"motion": True, "fusion": "vote"}, "received fusion, motion"),
        ({"local": "near"}, "received local='near' for .*; expected one of fam"),
        ({"interval": 0}, "received interval=0 for"),
        ({"interval": 2.5}, "received interval=2.5 for"),
        ({"prototypes": 0}, "received prototypes=0 for .*; expected true or false"),
        ({"edges": "vote"}, "received edges='vote' for"),
        ({"memory": True}, "received memory=True for ObjectComposition; expected"),
        ({"memory": "everything"}, "expected one of references, dynamic, local_global"),
    ],
)
def test_parts_that_the_model_lacks_are_refused(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        open_hand_made(**parts)
