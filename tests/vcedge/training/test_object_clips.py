"""Clips with masks that are drawn from stills and videos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from vcedge.training.deformation import ColourRange, MotionRange
from vcedge.training.object_clip_settings import ObjectClipSettings, VideoClipSettings
from vcedge.training.object_clips import (
    ClipPlan,
    MixedClips,
    ObjectClip,
    ObjectClips,
    StillClips,
    VideoClips,
)
from vcedge.training.object_sources import MaskedVideo, Still
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.frames.colour import IMAGENET_LITE, LAB, InputColour
from vcedge_runtime.video.masks import VOID

SIZE = 48
NO_COLOUR: dict[str, Any] = {"colour": ColourRange(), "frame_colour": ColourRange()}
ALONE: dict[str, Any] = {"composite": 0.0, "distractor": 0.0, **NO_COLOUR}
COLOURS = np.array([[40, 40, 40], [20, 30, 230], [30, 220, 30], [230, 30, 20]], np.uint8)
"""Of the background and ids 1, 2, 3."""


def paint(ids: NDArray[np.uint8], shift: int = 0) -> NDArray[np.uint8]:
    """Give each id a colour of its own; ``shift`` exchanges the objects' colours."""
    colours = COLOURS.copy()
    colours[1:] = np.roll(colours[1:], shift, axis=0)
    return colours[ids]


def make_still(*discs: tuple[int, int], shift: int = 0) -> Still:
    """Discs of radius 14, ids from 1, on 80x100 pixels."""
    ids = np.zeros((80, 100), np.uint8)
    for number, middle in enumerate(discs, 1):
        cv2.circle(ids, middle, 14, number, -1)
    return Still("made", "binary", paint(ids, shift), ids)


def make_video(length: int = 40, shift: int = 0) -> MaskedVideo:
    """A disc with id 1 that moves right by a pixel a frame."""
    masks = np.zeros((length, 80, 100), np.uint8)
    for number, mask in enumerate(masks):
        cv2.circle(mask, (25 + number, 40), 14, 1, -1)
    return MaskedVideo("made", np.stack([paint(mask, shift) for mask in masks]), masks)


def make_plan(objects: int = 1, frames: int = 3, takes: InputColour = LAB) -> ClipPlan:
    return ClipPlan(lambda _: SIZE, lambda _: objects, lambda _: frames, takes)


def from_stills(
    stills: list[Still],
    objects: int = 1,
    seed: int = 3,
    frames: int = 3,
    takes: InputColour = LAB,
    **own: Any,
) -> StillClips:
    settings = ObjectClipSettings(**own)
    return StillClips(stills, 100, make_plan(objects, frames, takes), settings, seed)


def from_videos(
    videos: list[MaskedVideo],
    objects: int = 1,
    gap: int = 9,
    seed: int = 3,
    frames: int = 3,
    takes: InputColour = LAB,
    **own: Any,
) -> VideoClips:
    settings = VideoClipSettings(**own)
    plan = make_plan(objects, frames, takes)
    return VideoClips(videos, 100, plan, lambda _: gap, settings, seed)


@pytest.fixture
def stills() -> list[Still]:
    return [make_still((45, 40)), make_still((25, 30), (70, 50)), make_still((50, 30), shift=1)]


@pytest.fixture
def videos() -> list[MaskedVideo]:
    return [make_video(), make_video(30, shift=1)]


@pytest.fixture(params=["stills", "videos"])
def make_clips(
    request: pytest.FixtureRequest, stills: list[Still], videos: list[MaskedVideo]
) -> Callable[..., ObjectClips]:
    """Make the same dataset from stills and from videos."""
    if request.param == "stills":
        return lambda **own: from_stills(stills, **own)
    return lambda **own: from_videos(videos, **own)


@pytest.fixture
def in_bgr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the conversion to Lab."""
    monkeypatch.setattr(InputColour, "convert", lambda self, frame: frame.astype(np.float32))


def colour_masks(clip: ObjectClip) -> NDArray[np.uint8]:
    """Tell by colour what each pixel shows: (T, S, S), 0-3."""
    bgr = clip.images.numpy()[:, None]
    distances = np.abs(bgr - COLOURS[None, :, :, None, None].astype(np.float32)).sum(axis=2)
    return np.asarray(distances.argmin(axis=1), np.uint8)


def test_a_clip_has_the_promised_shapes_types_and_ranges(
    make_clips: Callable[..., ObjectClips],
) -> None:
    for objects in (1, 2):
        clips = make_clips(objects=objects)
        assert len(clips) == 100
        for index in range(10):
            clip = clips[index]
            assert clip.images.shape == (3, 3, SIZE, SIZE)
            assert clip.images.dtype == torch.float32
            assert clip.images.abs().max() < 1.01
            assert clip.ids.shape == (3, SIZE, SIZE)
            assert clip.ids.dtype == torch.uint8
            assert clip.ids.max() <= objects
            assert clip.objects.dtype == torch.int64
            assert clip.objects == objects


def test_a_clip_is_a_function_of_seed_and_index(make_clips: Callable[..., ObjectClips]) -> None:
    forward, backward = make_clips(objects=2), make_clips(objects=2)
    drawn = [forward[index] for index in range(8)]
    for index in reversed(range(8)):
        for part, expected in zip(backward[index], drawn[index], strict=True):
            assert torch.equal(part, expected)
    assert not torch.equal(make_clips(objects=2, seed=4)[0].images, drawn[0].images)
    assert not torch.equal(drawn[1].images, drawn[0].images)


def test_size_length_and_number_of_objects_go_by_the_index(stills: list[Still]) -> None:
    plan = ClipPlan(lambda i: 32 + 16 * (i % 3), lambda i: 1 + i % 2, lambda i: 3 + i % 2)
    clips = StillClips(stills, 9, plan, ObjectClipSettings(), 0)
    drawn = [clips[index] for index in range(4)]
    assert [clip.images.shape[-1] for clip in drawn] == [32, 48, 64, 32]
    assert [int(clip.objects) for clip in drawn] == [1, 2, 1, 2]
    assert [len(clip.ids) for clip in drawn] == [3, 4, 3, 4]


def test_clips_make_batches(make_clips: Callable[..., ObjectClips]) -> None:
    batch = next(iter(DataLoader(make_clips(), batch_size=4)))
    assert isinstance(batch, ObjectClip)
    assert batch.images.shape == (4, 3, 3, SIZE, SIZE)
    assert batch.ids.shape == (4, 3, SIZE, SIZE)
    assert batch.objects.tolist() == [1] * 4


@pytest.mark.usefixtures("in_bgr")
def test_ids_lie_where_the_object_is_seen() -> None:
    sources: list[ObjectClips] = [
        from_stills([make_still((45, 40))], **ALONE),
        from_videos([make_video()], **ALONE),
    ]
    for clips in sources:
        for index in range(15):
            clip = clips[index]
            ids = clip.ids.numpy()
            assert (colour_masks(clip) == ids).mean() > 0.96
            assert (ids[0] == 1).mean() >= 0.01
            assert ids[1:].any()


@pytest.mark.usefixtures("in_bgr")
def test_a_pasted_second_object_is_labelled_where_it_is_seen() -> None:
    sources = [make_still((45, 40)), make_still((45, 40), shift=2)]
    labelled = 0
    for index in range(20):
        clip = from_stills(sources, objects=2, distractor=0.0, **NO_COLOUR)[index]
        shown, ids = colour_masks(clip), clip.ids.numpy()
        # The first still paints its object in colour 1, the second in colour 2.
        own = int(np.bincount(shown[ids == 1], minlength=4)[1:].argmax()) + 1
        assert (shown[ids == 1] == own).mean() > 0.9
        if (ids[0] == 2).any():
            labelled += 1
            other = ids == 2
            assert (shown[other] != own)[erode_masks(other)[other]].all()
        assert (ids[0] == 1).mean() >= 0.01
    assert labelled >= 18


def erode_masks(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Take a pixel off the edges of masks."""
    return np.stack([cv2.erode(m.astype(np.uint8), np.ones((5, 5))) > 0 for m in masks])


@pytest.mark.usefixtures("in_bgr")
def test_an_occluder_takes_the_objects_ids_away() -> None:
    sources = [make_still((45, 40)), make_still((45, 40), shift=2)]
    own = {"copied": 0.0, "behind": 0.0, "distractor": 1.0, "composite": 0.0, **NO_COLOUR}
    bare = {**own, "distractor": 0.0}
    occluded = 0
    for index in range(30):
        clip, without = (from_stills(sources, **some)[index] for some in (own, bare))
        shown = colour_masks(clip)
        # Both draw the same crop first: all that differs is the occluder.
        gone = (without.ids.numpy() == 1) & (clip.ids.numpy() == 0)
        occluded += bool(gone.any())
        main = int(np.bincount(shown[clip.ids.numpy() == 1], minlength=4).argmax())
        assert (shown[gone] == main).sum() <= 0.15 * gone.sum()
        assert clip.ids.max() == 1
        kept = (clip.ids[0] == 1).sum() / (without.ids[0] == 1).sum()
        assert kept >= 0.4
    assert occluded > 8


def test_a_distractor_behind_leaves_all_ids_as_they_are(stills: list[Still]) -> None:
    changed = 0
    for index in range(15):
        own = {"behind": 1.0, "composite": 0.0, **NO_COLOUR}
        clip = from_stills(stills, distractor=1.0, **own)[index]
        without = from_stills(stills, distractor=0.0, **own)[index]
        assert torch.equal(clip.ids, without.ids)
        changed += not torch.equal(clip.images, without.images)
    assert changed > 8


def test_a_stills_own_objects_come_first() -> None:
    still = make_still((30, 40), (62, 40))
    both = [from_stills([still], objects=2, distractor=0.0)[index].ids[0] for index in range(20)]
    assert sum(bool((ids == 2).any()) for ids in both) > 10
    assert all((ids == 1).float().mean() >= 0.01 for ids in both)
    alone = [from_stills([still], objects=1, distractor=0.0)[index].ids for index in range(20)]
    assert max(int(ids.max()) for ids in alone) == 1


def test_one_source_gives_clips_without_composites() -> None:
    for clips in (
        from_stills([make_still((45, 40))], objects=2, copied=0.0),
        from_videos([make_video()], objects=2, composite=1.0),
    ):
        for index in range(5):
            assert clips[index].ids.max() == 1
            assert clips[index].objects == 2


def test_a_source_without_objects_gives_background() -> None:
    empty = make_video()
    video = MaskedVideo("empty", empty.frames, np.zeros_like(empty.masks))
    assert not from_videos([video], objects=2)[0].ids.any()


def picked_frames(
    monkeypatch: pytest.MonkeyPatch, length: int, gap: int, **own: Any
) -> list[list[int]]:
    """Watch which frames of a video clips are made of."""
    picked: list[list[int]] = []
    pick = VideoClips._pick_frames

    def watched(*arguments: Any) -> NDArray[np.int64]:
        numbers = pick(*arguments)
        picked.append(numbers.tolist())
        return numbers

    monkeypatch.setattr(VideoClips, "_pick_frames", watched)
    clips = from_videos([make_video(length)], gap=gap, **{**ALONE, **own})
    for index in range(60):
        clips[index]
    return picked


def test_frames_are_in_order_or_reversed_and_no_farther_apart_than_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picked = picked_frames(monkeypatch, 60, 12)
    steps = np.diff(picked, axis=1)
    assert (np.sign(steps[:, 0]) == np.sign(steps[:, 1])).all()
    assert 0.25 < (steps[:, 0] > 0).mean() < 0.75
    assert np.abs(steps).min() >= 1
    assert 10 <= np.abs(steps).max() <= 12
    assert np.min(picked) >= 0
    assert np.max(picked) < 60


@pytest.mark.parametrize(("every", "most"), [(1, 24), (5, 4), (30, 1)])
def test_gaps_are_of_the_footage_where_not_every_frame_has_a_mask(every: int, most: int) -> None:
    video = replace(make_video(60), every=every)
    clips, rng = from_videos([video], gap=24, **ALONE), np.random.default_rng(0)
    picked = [clips._pick_frames(rng, index, 60, video.every) for index in range(80)]
    assert np.abs(np.diff(picked, axis=1)).max() == most
    # Near ones are at most five frames of the footage apart.
    near = from_videos([video], gap=24, **{**ALONE, "near_share": 1.0})
    picked = [near._pick_frames(rng, index, 60, video.every) for index in range(80)]
    assert np.abs(np.diff(picked, axis=1))[:, 1].max() == max(1, 5 // every)


def test_the_last_two_frames_of_a_clip_are_near_in_half_of_the_clips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = np.abs(np.diff(picked_frames(monkeypatch, 60, 25), axis=1))
    # Half of the clips and a fifth of the others, forward and backward alike.
    assert (steps[:, 1] <= 5).mean() == pytest.approx(0.6, abs=0.2)
    assert (steps[:, 0] <= 5).mean() < 0.4
    always = np.abs(np.diff(picked_frames(monkeypatch, 60, 25, near_share=1.0), axis=1))
    assert always[:, 1].max() <= 5


@pytest.mark.parametrize("length", [2, 3, 5])
def test_a_video_shorter_than_a_clip_is_spread_over_it(
    monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    for numbers in picked_frames(monkeypatch, length, 8, near_share=0.0):
        assert min(numbers) >= 0
        assert max(numbers) < length
        assert numbers in (sorted(numbers), sorted(numbers, reverse=True))


def test_a_mixture_takes_each_clip_from_one_of_both(
    stills: list[Still], videos: list[MaskedVideo]
) -> None:
    main, other = from_videos(videos), from_stills(stills)
    mixed = MixedClips(main, other, 0.3, seed=1)
    assert len(mixed) == 100
    from_other = []
    for index in range(60):
        lab = mixed[index].images
        from_other.append(torch.equal(lab, other[index].images))
        assert from_other[-1] or torch.equal(lab, main[index].images)
    assert np.mean(from_other) == pytest.approx(0.3, abs=0.2)
    assert torch.equal(MixedClips(main, other, 0.3, seed=1)[7].images, mixed[7].images)


def test_a_mixture_of_unequal_lengths_or_shares_is_refused(stills: list[Still]) -> None:
    clips = from_stills(stills)
    short = StillClips(stills, 5, make_plan(), ObjectClipSettings(), 0)
    with pytest.raises(TrainingError, match="100 and 5 clips; expected"):
        MixedClips(clips, short, 0.5, seed=0)
    with pytest.raises(TrainingError, match=r"share of 1\.5"):
        MixedClips(clips, clips, 1.5, seed=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"side": (0.0, 1.0)},
        {"side": (2.0, 1.0)},
        {"behind": -0.1},
        {"ratio": 0.5},
        {"absent": 1.1},
        {"covered": -0.1},
        {"zoomed": 2.0},
        {"twins": -1.0},
        {"kin": 1.5},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    for settings in (ObjectClipSettings, VideoClipSettings):
        with pytest.raises(TrainingError, match="expected"):
            settings(**wrong)


def test_video_settings_out_of_range_are_refused() -> None:
    with pytest.raises(TrainingError, match="near at least 1"):
        VideoClipSettings(near=0)
    with pytest.raises(TrainingError, match="near_share in 0-1"):
        VideoClipSettings(near_share=1.1)


# What leaves, grows, is covered or has no known id.


@pytest.mark.usefixtures("in_bgr")
def test_an_object_that_leaves_is_away_from_some_frames_and_the_scenes_own_have_no_id(
    make_clips: Callable[..., ObjectClips],
) -> None:
    clips = make_clips(frames=5, absent=1.0, distractor=0.0, **NO_COLOUR)
    away, back = 0, 0
    for index in range(30):
        seen = (clips[index].ids.numpy() == 1).any(axis=(1, 2))
        assert seen[0]
        away += not seen.all()
        gone = int(np.argmin(seen))
        back += bool(seen[gone:].any()) and not seen.all()
    assert away == 30
    assert 4 < back < 26


@pytest.mark.usefixtures("in_bgr")
def test_a_cover_hides_the_object_in_some_later_frames(
    make_clips: Callable[..., ObjectClips],
) -> None:
    plain, covered = (
        make_clips(frames=4, covered=share, **ALONE, motion=MotionRange(0, 0, 0, 0, 0, 0))
        for share in (0.0, 1.0)
    )
    hidden = 0
    for index in range(20):
        before, after = (clips[index].ids.numpy() == 1 for clips in (plain, covered))
        np.testing.assert_array_equal(before[0], after[0])
        assert not (after & ~before).any()
        hidden += (after.sum(axis=(1, 2)) < 0.7 * before.sum(axis=(1, 2))).any()
    assert hidden > 8


def test_a_zoomed_clip_shows_the_object_in_sizes_that_differ_by_two_and_more(
    make_clips: Callable[..., ObjectClips],
) -> None:
    clips = make_clips(frames=4, zoomed=1.0, **ALONE)
    ratios = []
    for index in range(30):
        areas = (clips[index].ids.numpy() == 1).sum(axis=(1, 2))
        assert areas.min() > 0
        ratios.append(areas.max() / areas.min())
    assert np.median(ratios) > 2


def test_void_stays_void_and_is_no_object() -> None:
    ids = np.full((80, 100), VOID, np.uint8)
    cv2.circle(ids, (45, 40), 20, 0, -1)
    cv2.circle(ids, (45, 40), 12, 1, -1)
    pictures = paint(np.where(ids == VOID, 0, ids).astype(np.uint8))
    video = MaskedVideo("made", np.stack([pictures] * 5), np.stack([ids] * 5))
    clips = from_videos([video, make_video()], objects=2, composite=1.0, distractor=1.0)
    found = [clips[index].ids for index in range(20)]
    assert any((each == VOID).any() for each in found)
    assert {int(n) for each in found for n in each.unique()} == {0, 1, 2, VOID}


def test_videos_of_one_source_share_their_weight() -> None:
    videos = [make_video() for _ in range(5)]
    names = ("table_a", "table_b", "table_c", "table_d", "boat")
    videos = [MaskedVideo(name, v.frames, v.masks) for name, v in zip(names, videos, strict=True)]
    clips, rng = from_videos(videos), np.random.default_rng(0)
    drawn = np.bincount([clips._draw_source(rng) for _ in range(3000)], minlength=5) / 3000
    # Four of 1/2 and one of 1; three standard deviations.
    np.testing.assert_allclose(drawn, [1 / 6] * 4 + [1 / 3], atol=0.026)


def test_distractors_of_the_same_kind_are_drawn_where_asked_for() -> None:
    stills = [
        Still(f"{number}", kind, *paint_disc())
        for number, kind in enumerate(["horse", "person", "horse", "mug", "mug"])
    ]
    clips, rng = from_stills(stills, kin=1.0), np.random.default_rng(0)
    assert {clips._draw_other(rng, 0, 0)[0].images[0] is stills[2].image for _ in range(9)} == {
        True
    }
    # Where there is no other of the kind, any other.
    others = {id(clips._draw_other(rng, 0, 1)[0].images[0]) for _ in range(60)}
    assert others == {id(still.image) for still in stills} - {id(stills[1].image)}


def paint_disc() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    still = make_still((45, 40))
    return still.image, still.ids


def test_a_clip_is_in_the_colour_that_the_network_takes(stills: list[Still]) -> None:
    rgb, lab = (from_stills(stills, takes=takes, **ALONE)[3] for takes in (IMAGENET_LITE, LAB))
    assert torch.equal(rgb.ids, lab.ids)
    levels = (rgb.images * 128 + 127).round().to(torch.uint8).numpy().transpose(0, 2, 3, 1)
    back = np.stack([LAB.convert(np.ascontiguousarray(frame[..., ::-1])) for frame in levels])
    np.testing.assert_array_equal(back.transpose(0, 3, 1, 2), lab.images.numpy())
