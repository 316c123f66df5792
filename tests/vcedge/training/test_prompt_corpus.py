"""What the network of first masks trains on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from vcedge.training.object_sources import MaskedVideo, Still
from vcedge.training.prompt_corpus import (
    LEAST,
    PromptCorpus,
    PromptSample,
    PromptSettings,
    is_held_out,
    weigh_still,
)
from vcedge.training.settings import RunSettings
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.model.prompt_composition import PLANES
from vcedge_runtime.video.masks import VOID

RUN = RunSettings("prompts-lite", steps=20, batch=3, sizes=((0.5, 64), (1.0, 96)), seed=5)
BOX, POSITIVE, NEGATIVE, PRIOR = (PLANES.index(name) for name in PLANES)


def make_still(name: str, kind: str = "instances", objects: int = 2) -> Still:
    """White discs on black."""
    ids = np.zeros((90, 120), np.uint8)
    for number in range(objects):
        cv2.circle(ids, (30 + 50 * number, 40), 14, number + 1, -1)
    image = np.repeat((ids > 0).astype(np.uint8)[..., None] * 255, 3, axis=2)
    return Still(name, kind, image, ids)


def draw(settings: PromptSettings, stills: list[Still], count: int = 30) -> list[PromptSample]:
    samples = PromptCorpus(settings, stills).draw(RUN)
    return [samples[index] for index in range(count)]


@pytest.fixture(scope="module")
def stills() -> list[Still]:
    return [make_still(f"made-{number}.jpg") for number in range(6)]


def test_about_one_still_in_eighteen_is_held_out_and_always_the_same() -> None:
    names = [f"animal_{number:04d}.jpg" for number in range(4000)]
    held = [name for name in names if is_held_out(name)]
    assert 150 < len(held) < 300
    assert held[:2] == ["animal_0028.jpg", "animal_0070.jpg"]


def test_stills_that_are_held_out_are_never_drawn(stills: list[Still]) -> None:
    corpus = PromptCorpus(PromptSettings(), [make_still("animal_0028.jpg"), *stills])
    assert corpus.stills == stills
    with pytest.raises(TrainingError, match="none of which is for training"):
        PromptCorpus(PromptSettings(), [make_still("animal_0028.jpg")])


def test_a_sample_hangs_on_seed_and_index_alone(stills: list[Still]) -> None:
    first, second = draw(PromptSettings(), stills, 12), draw(PromptSettings(), stills, 12)
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(first[0].images, first[1].images)


def test_samples_have_the_size_of_their_step_and_show_their_object(stills: list[Still]) -> None:
    samples = PromptCorpus(PromptSettings(), stills).draw(RUN)
    for index, side in ((0, 64), (29, 64), (30, 96), (59, 96)):
        sample = samples[index]
        assert sample.images.shape == (1, 3, side, side)
        assert sample.truth.shape == (side, side)
        assert sample.planes.shape == (len(PLANES), side, side)
        assert int((sample.truth == 1).sum()) >= LEAST
        assert set(sample.truth.unique().tolist()) <= {0, 1, VOID}
    assert len(samples) == 60


def test_a_box_is_about_the_object_and_a_first_click_on_it(stills: list[Still]) -> None:
    boxes = draw(PromptSettings(boxes=1, clicks=0, silent=0), stills)
    for sample in boxes:
        truth, box = sample.truth == 1, sample.planes[BOX] > 0
        assert (truth & box).sum() > 0.75 * truth.sum()
        assert box.sum() < 3 * truth.sum()
        assert not sample.planes[POSITIVE:].any()
    clicks = draw(PromptSettings(boxes=0, clicks=1, silent=0), stills)
    for sample in clicks:
        assert not sample.planes[[BOX, PRIOR]].any()
        clicked = sample.planes[POSITIVE] > 0
        assert (clicked & (sample.truth == 1)).any()
    assert any(sample.planes[NEGATIVE].any() for sample in clicks)


def test_where_nothing_is_said_all_that_stands_out_is_wanted(stills: list[Still]) -> None:
    silent = draw(PromptSettings(boxes=0, clicks=0, silent=1), stills)
    assert not any(sample.planes.any() for sample in silent)
    parts = Counter(
        cv2.connectedComponents((sample.truth == 1).numpy().astype(np.uint8))[0] - 1
        for sample in silent
    )
    assert parts[2] > 0.8 * len(silent)


def test_of_pictures_with_unlabelled_objects_something_is_always_said() -> None:
    people = [make_still("a.jpg", "one person instance (others unlabelled)")]
    assert all(each.planes.any() for each in draw(PromptSettings(0, 0, 1), people))


def test_videos_are_drawn_from_with_what_is_void(stills: list[Still]) -> None:
    masks = np.zeros((3, 90, 120), np.uint8)
    masks[:, 30:60, 40:80] = 1
    masks[:, :, 80:] = VOID
    video = MaskedVideo("made_1", np.full((3, 90, 120, 3), 128, np.uint8), masks)
    samples = PromptCorpus(PromptSettings(videos=1), stills, [video]).draw(RUN)
    shown = [samples[index] for index in range(10)]
    assert all(bool((sample.truth == VOID).any()) for sample in shown)


def test_stills_of_many_objects_are_drawn_more_often_and_regions_hardly_ever() -> None:
    one, four = make_still("a.jpg", objects=1), make_still("b.jpg", objects=2)
    assert weigh_still(four) == pytest.approx(2**0.5 * weigh_still(one))
    assert weigh_still(make_still("c.jpg", "regions", 1)) < 0.5 * weigh_still(one)


@pytest.mark.parametrize(
    "wrong",
    [
        {"boxes": 0.9, "clicks": 0.9},
        {"silent": -0.1},
        {"dice": -1},
        {"corrections": (0.5, 0.2)},
        {"corrections": ()},
        {"camera": 2},
        {"pasted": 1.5},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(TrainingError, match="expected"):
        PromptSettings(**wrong)  # type: ignore[arg-type]


def test_a_pasted_object_is_beside_what_is_asked_for_or_asked_for_itself() -> None:
    white = make_still("white.jpg", objects=1)
    grey = Still("grey.jpg", "instances", white.image // 3, white.ids)
    own = PromptSettings(boxes=1, clicks=0, silent=0, camera=0)
    kernel, beside = np.ones((9, 9), np.uint8), []
    for sample in draw(replace(own, pasted=1), [white, grey], 40):
        light, truth = sample.images[0].mean(0).numpy(), (sample.truth == 1).numpy()
        inside = cv2.erode(truth.astype(np.uint8), kernel) > 0
        near = cv2.dilate(truth.astype(np.uint8), kernel) > 0
        # What is asked for is of one brightness, whichever it is: no black, nothing of the other.
        assert not inside.any() or np.ptp(np.percentile(light[inside], (10, 90))) < 0.3
        beside.append((light[~near] > light.min() + 0.2).sum() > LEAST)
    assert 10 < sum(beside) < 40
