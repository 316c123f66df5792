"""What SRNet trains on, stage by stage."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vcedge.training import srnet_corpus
from vcedge.training.object_clips import VideoClips
from vcedge.training.object_sources import MaskedVideo, Still
from vcedge.training.settings import RunSettings
from vcedge.training.srnet_corpus import SRNetCorpus, SRNetSettings
from vcedge_runtime.errors import TrainingError

RUN = RunSettings("srnet-edge", steps=20, batch=3, sizes=((0.5, 32), (1.0, 48)), seed=5)


def paint(ids: NDArray[np.uint8], *, light: bool) -> NDArray[np.uint8]:
    """Paint the object white on black, or black on white."""
    shown = np.where((ids > 0) == light, np.uint8(255), np.uint8(0))
    return np.repeat(shown[..., None], 3, axis=-1)


@pytest.fixture(scope="module")
def stills() -> list[Still]:
    """Two white discs on black."""
    made = []
    for x in (30, 60):
        ids = np.zeros((60, 90), np.uint8)
        cv2.circle(ids, (x, 30), 12, 1, -1)
        made.append(Still(f"made-{x}", "binary", paint(ids, light=True), ids))
    return made


@pytest.fixture(scope="module")
def videos() -> list[MaskedVideo]:
    """Two videos of a black disc on white that moves right."""
    made = []
    for y in (25, 35):
        masks = np.zeros((20, 60, 90), np.uint8)
        for number, mask in enumerate(masks):
            cv2.circle(mask, (25 + number, y), 12, 1, -1)
        made.append(MaskedVideo(f"made-{y}", paint(masks, light=False), masks))
    return made


# Settings.


@pytest.mark.parametrize(
    "own",
    [
        {"stage": "pictures"},
        {"local": "bent"},
        {"near": 0},
        {"dice": -0.1},
        {"pairs": 1.1},
        {"pairs": -0.1},
        {"mixed": 1.5},
        {"hardest": 0.0},
        {"hardest": 1.1},
        {"bootstrap": (-0.1, 0.5)},
        {"bootstrap": (0.3, 0.3)},
        {"bootstrap": (0.5, 0.2)},
        {"most": 0},
        {"absence": -1.0},
        {"lengths": ((1.0, 1, 3),)},
        {"lengths": ((1.0, 4, 3),)},
        {"lengths": ((0.5, 3, 3),)},
        {"lengths": ((1.0, 3, 3), (0.5, 3, 3))},
        {"lengths": ()},
        {"shrink": 0.0},
        {"pixels": -1},
        {"trunk_rate": 1.5},
        {"skipped": 1.1},
        {"camera": -0.1},
    ],
)
def test_settings_that_cannot_work_are_refused(own: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="expected"):
        SRNetSettings(**own)


@pytest.mark.parametrize("own", [{"mixed": math.nan}, {"dice": math.nan}])
def test_settings_that_are_no_numbers_are_refused(own: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="expected"):
        SRNetSettings(**own)


def test_fewer_and_fewer_pixels_count_until_the_hardest_are_left() -> None:
    settings = SRNetSettings(hardest=0.2, bootstrap=(0.1, 0.5))
    shares = [settings.share_of_pixels(share) for share in (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)]
    assert shares == pytest.approx([1.0, 1.0, 0.8, 0.6, 0.2, 0.2])
    # STCN's: all until step 20k, 15 % from step 70k of 300k on.
    stcn = SRNetSettings()
    assert stcn.share_of_pixels(20 / 300) == pytest.approx(1, abs=0.01)
    assert stcn.share_of_pixels(69 / 300) == pytest.approx(0.15, abs=0.01)


# Drawing.


def drawn_from_stills(clip: Any) -> bool:
    """Tell by whether objects are lighter than the ground, as those of the made stills are."""
    light = clip.images[:, 0]
    return bool(light[clip.ids > 0].mean() > light[clip.ids == 0].mean())


def test_the_first_stage_draws_stills_alone(stills: list[Still]) -> None:
    clips = SRNetCorpus(SRNetSettings(), stills, []).draw(RUN)
    assert len(clips) == 60
    drawn = [clips[index] for index in range(0, 60, 7)]
    assert all(drawn_from_stills(clip) for clip in drawn)


def test_the_second_stage_mixes_stills_in(stills: list[Still], videos: list[MaskedVideo]) -> None:
    for mixed, expected in ((0.0, 0.0), (0.4, 0.4), (1.0, 1.0)):
        settings = SRNetSettings("video", mixed=mixed)
        clips = SRNetCorpus(settings, stills, videos).draw(RUN)
        assert len(clips) == 60
        found = np.mean([drawn_from_stills(clips[index]) for index in range(60)])
        # Sixty draws: a standard deviation of 0.063.
        assert found == pytest.approx(expected, abs=0.2 if 0 < mixed < 1 else 0)


def test_clips_of_a_step_have_as_many_objects_and_one_size(stills: list[Still]) -> None:
    clips = SRNetCorpus(SRNetSettings(pairs=0.5), stills, []).draw(RUN)
    steps = [[clips[3 * step + place] for place in range(3)] for step in range(20)]
    counts = [{int(clip.objects) for clip in clips_of_step} for clips_of_step in steps]
    assert all(len(count) == 1 for count in counts)
    assert {1} in counts
    assert {2} in counts
    sizes = [{clip.images.shape[-1] for clip in clips_of_step} for clips_of_step in steps]
    assert sizes == [{32}] * 10 + [{48}] * 10


@pytest.mark.parametrize(("pairs", "expected"), [(0.0, 1), (1.0, 2)])
def test_all_or_no_steps_may_have_pairs(stills: list[Still], pairs: float, expected: int) -> None:
    clips = SRNetCorpus(SRNetSettings(pairs=pairs), stills, []).draw(RUN)
    assert {int(clips[index].objects) for index in range(0, 60, 3)} == {expected}


def test_a_clip_is_a_function_of_seed_and_index(
    stills: list[Still], videos: list[MaskedVideo]
) -> None:
    settings = SRNetSettings("video", mixed=0.5)
    one, same = (SRNetCorpus(settings, stills, videos).draw(RUN) for _ in range(2))
    for index in (50, 3, 17):
        for part, expected in zip(one[index], same[index], strict=True):
            assert torch.equal(part, expected)
    other = SRNetCorpus(settings, stills, videos).draw(RunSettings("srnet-edge", 20, 3, seed=6))
    assert not torch.equal(other[3].images[..., :32, :32], one[3].images[..., :32, :32])


def test_steps_between_frames_grow_as_stcns_and_the_last_ones_are_near(
    stills: list[Still], videos: list[MaskedVideo], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Callable[[int], int], Any]] = []

    def watch(*arguments: Any) -> VideoClips:
        seen.append((arguments[3], arguments[4]))
        return VideoClips(*arguments)

    monkeypatch.setattr(srnet_corpus, "VideoClips", watch)
    run = RunSettings("srnet-edge", steps=100, batch=10)
    SRNetCorpus(SRNetSettings("video", near=3), stills, videos).draw(run)
    ((gap_at, settings),) = seen
    assert settings.near == 3
    shares = (0, 99, 100, 199, 200, 300, 399, 400, 899, 900, 999)
    expected = [5, 5, 10, 10, 15, 20, 20, 25, 25, 5, 5]
    assert [gap_at(index) for index in shares] == expected


@pytest.mark.parametrize(
    ("own", "with_stills", "with_videos"),
    [
        ({"stage": "stills"}, False, True),
        ({"stage": "video"}, True, False),
        ({"stage": "video"}, False, True),
        ({"stage": "video", "mixed": 0.0}, True, False),
    ],
)
def test_a_corpus_without_what_it_draws_from_is_refused(
    own: dict[str, Any],
    with_stills: bool,
    with_videos: bool,
    stills: list[Still],
    videos: list[MaskedVideo],
) -> None:
    stills, videos = stills if with_stills else [], videos if with_videos else []
    with pytest.raises(
        TrainingError, match=f"{len(stills)} stills and {len(videos)} videos.*{own['stage']!r}"
    ):
        SRNetCorpus(SRNetSettings(**own), stills, videos)


def test_videos_alone_are_enough_where_no_stills_are_mixed_in(videos: list[MaskedVideo]) -> None:
    clips = SRNetCorpus(SRNetSettings("video", mixed=0.0), [], videos).draw(RUN)
    assert not any(drawn_from_stills(clips[index]) for index in range(0, 60, 9))


# What a step is like.

LONG = RunSettings("srnet-lite", steps=200, batch=3, sizes=((0.5, 192), (1.0, 384)), seed=5)
VARIED = SRNetSettings(
    "video",
    pairs=0.5,
    most=4,
    lengths=((0.5, 3, 3), (1.0, 3, 8)),
    shrink=0.5,
    pixels=300_000,
    mixed=0.5,
)


def test_a_steps_size_length_and_objects_vary_within_what_the_run_says() -> None:
    plans = [VARIED.plan_step(LONG, step) for step in range(200)]
    early, late = plans[:100], plans[100:]
    assert {plan.frames for plan in early} == {3}
    assert {plan.frames for plan in late} == {3, 4, 5, 6, 7, 8}
    assert {plan.objects for plan in plans} == {1, 2, 3, 4}
    assert min(plan.size for plan in early) < 120
    assert max(plan.size for plan in early) == 192
    assert max(plan.size for plan in late) > 256
    assert all(plan.size % 16 == 0 for plan in plans)
    # Rounded to whole cells, of the smallest crop a twentieth.
    assert max(plan.frames * plan.size**2 for plan in plans) < 1.12 * 300_000
    assert VARIED.plan_step(LONG, 150) == plans[150]


def test_the_clips_of_a_step_are_alike_and_make_a_batch(
    stills: list[Still], videos: list[MaskedVideo]
) -> None:
    clips = SRNetCorpus(VARIED, stills, videos).draw(LONG)
    for step in (120, 160):
        plan = VARIED.plan_step(LONG, step)
        drawn = [clips[3 * step + place] for place in range(3)]
        shape = (plan.frames, 3, plan.size, plan.size)
        assert {tuple(clip.images.shape) for clip in drawn} == {shape}
        assert {int(clip.objects) for clip in drawn} == {plan.objects}


def test_a_light_network_gets_rgb(stills: list[Still]) -> None:
    run = RunSettings("srnet-lite", steps=20, batch=3, sizes=((1.0, 32),))
    rgb, lab = (
        SRNetCorpus(SRNetSettings(), stills, []).draw(each)[0].images
        for each in (run, replace(run, profile="srnet-edge"))
    )
    # Grey pictures have equal channels in RGB, and none but the first in Lab.
    assert (rgb - rgb[:, :1]).abs().max() < 0.1
    assert lab[:, 1:].abs().max() < 0.1
    assert rgb.abs().max() > 0.5
