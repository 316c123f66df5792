"""The clips that are drawn from videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcedge.training import corpus
from vcedge.training.corpus import CachedVideo, ClipDataset, Clips, ClipSettings
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.frames.colour import lab_from_bgr
from vcedge_runtime.frames.motion import FlowEstimator, FlowScale, flow_from_lab

Frame = NDArray[np.uint8]


def make_frames(count: int, height: int = 48, width: int = 64) -> list[Frame]:
    """Make frames of one gray each, so that a frame tells its number."""
    return [np.full((height, width, 3), 10 * number, np.uint8) for number in range(count)]


def cached(frames: list[Frame], motion: float = 1.0) -> CachedVideo:
    return CachedVideo(Path("made"), np.stack(frames), motion)


def draw_clip(videos: list[CachedVideo], index: int, size: int = 32, **settings: Any) -> Clips:
    return ClipDataset(videos, 1000, lambda _: size, ClipSettings(**settings), seed=3)[index]


def draw(videos: list[CachedVideo], index: int, size: int = 32, **settings: Any) -> Tensor:
    return draw_clip(videos, index, size, **settings).lab


@pytest.fixture
def videos(make_frame: Callable[..., Frame]) -> list[CachedVideo]:
    """Two videos of different sizes."""
    return [
        cached([make_frame(48, 64, 3 * step) for step in range(12)]),
        cached([make_frame(80, 40, step) for step in range(5)]),
    ]


def test_a_clip_is_three_frames_in_normalised_lab(videos: list[CachedVideo]) -> None:
    clip = draw(videos, 0)
    assert clip.shape == (3, 3, 32, 32)
    assert clip.dtype == torch.float32
    assert clip.abs().max() < 1.01
    assert draw(videos, 0, frames=5).shape == (5, 3, 32, 32)


def test_a_clip_is_a_function_of_seed_and_index(videos: list[CachedVideo]) -> None:
    def dataset(seed: int) -> ClipDataset:
        return ClipDataset(videos, 100, lambda index: 16 + 8 * (index % 3), ClipSettings(), seed)

    forward, backward = dataset(5), dataset(5)
    clips = [forward[index] for index in range(12)]
    for index in reversed(range(12)):
        for part, expected in zip(backward[index], clips[index], strict=True):
            assert torch.equal(part, expected)
    assert not torch.equal(dataset(6)[0].lab, clips[0].lab)
    assert not torch.equal(clips[3].lab, clips[0].lab)
    assert [clip.lab.shape[-1] for clip in clips[:3]] == [16, 24, 32]
    assert len(forward) == 100


def frame_numbers(video: CachedVideo, index: int, gaps: tuple[int, int]) -> list[int]:
    """Read the numbers of a clip's frames off their gray, which no crop changes."""
    clip = draw([video], index, gaps=gaps)
    grays = np.stack([np.full((1, 1, 3), 10 * number, np.uint8) for number in range(26)])
    known = np.array([lab_from_bgr(gray)[0, 0, 0] for gray in grays])
    return [int(np.abs(known - value).argmin()) for value in clip[:, 0].mean(dim=(1, 2)).numpy()]


def test_frames_are_as_far_apart_as_wanted_forward_or_backward() -> None:
    video = cached(make_frames(25))
    steps, firsts = set(), set()
    for index in range(60):
        numbers = frame_numbers(video, index, (2, 5))
        assert 0 <= min(numbers) <= max(numbers) < 25
        moves = np.diff(numbers)
        assert (moves > 0).all() or (moves < 0).all()
        steps |= set(moves.tolist())
        firsts.add(numbers[0])
    assert steps == {-5, -4, -3, -2, 2, 3, 4, 5}
    assert len(firsts) > 12


@pytest.mark.parametrize("length", [2, 3, 4])
def test_a_video_shorter_than_a_clip_is_spread_over_it(length: int) -> None:
    video = cached(make_frames(length))
    for index in range(20):
        numbers = frame_numbers(video, index, (4, 6))
        assert {numbers[0], numbers[-1]} == {0, length - 1}
        assert numbers in (sorted(numbers), sorted(numbers, reverse=True))


def test_videos_are_drawn_by_their_weight() -> None:
    still = cached([np.full((32, 32, 3), 0, np.uint8)] * 50, motion=0.1)
    lively = cached([np.full((32, 32, 3), 255, np.uint8)] * 50, motion=1.6)
    lit = [bool(draw([still, lively], index, size=8)[0, 0].mean() > 0) for index in range(200)]
    # Weights of 1 to 4; a binomial of 200 draws has a standard deviation of 0.03.
    assert np.mean(lit) == pytest.approx(0.8, abs=0.1)


def make_ramps(height: int, width: int) -> CachedVideo:
    """Make a still video whose blue grows to the right and whose green grows downwards."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0] = np.arange(width)[None]
    frame[..., 1] = np.arange(height)[:, None]
    return cached([frame] * 12)


def read_ramps(monkeypatch: pytest.MonkeyPatch, clip: Callable[[], Tensor]) -> NDArray[np.float64]:
    """Draw a clip without its colour conversion: where each pixel was in the video, x and y."""
    with monkeypatch.context() as patch:
        patch.setattr(corpus, "lab_from_bgr", lambda frame: frame.astype(np.float32))
        return clip()[:, :2].numpy().astype(np.float64)


def local_scales(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure video pixels per clip pixel in the middle of each frame, where none is mirrored."""
    inner = places[:, :, 12:-12, 12:-12]
    along_x = np.diff(inner, axis=3).mean(axis=(2, 3))
    along_y = np.diff(inner, axis=2).mean(axis=(2, 3))
    return np.sqrt(np.abs(along_x[:, 0] * along_y[:, 1] - along_x[:, 1] * along_y[:, 0]))


def test_a_crop_is_zoomed_as_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    video = make_ramps(200, 250)
    zooms = []
    for index in range(40):
        places = read_ramps(monkeypatch, lambda i=index: draw([video], i, 48, jitter=0.0))
        assert np.ptp(places, axis=0).max() == 0
        zooms.append(1 / local_scales(places)[0])
    # Steps of whole ramp values average to within 3 %.
    assert 0.97 < min(zooms) < 1.15
    assert 1.9 < max(zooms) < 2.27


def test_a_key_cell_of_stride_4_shows_as_much_as_one_of_stride_8(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = ClipSettings().at_stride(4).zoom
    assert wanted == (0.5, 1.1)
    assert ClipSettings(zoom=wanted, frames=5, flow=True).at_stride(8).zoom == wanted
    video = make_ramps(240, 250)
    zooms = []
    for index in range(20):
        settings = {"jitter": 0.0, "zoom": wanted}
        places = read_ramps(monkeypatch, lambda i=index, s=settings: draw([video], i, 48, **s))
        zooms.append(1 / local_scales(places)[0])
    assert 0.49 < min(zooms) < 0.6
    assert 0.9 < max(zooms) < 1.13


def test_a_crop_that_shrinks_the_frame_does_not_alias() -> None:
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2] = 255
    video = cached([stripes, stripes])
    shrunk = draw([video], 0, 40, frames=2, jitter=0.0, zoom=(0.5, 0.5))
    # Stripes of one pixel in a crop of half their size: gray, where sampling alone keeps contrast.
    assert shrunk[:, 0].std() < 0.05
    assert draw([video], 0, 40, frames=2, jitter=0.0, zoom=(1.0, 1.0))[:, 0].std() > 0.3


def test_a_crop_never_exceeds_a_small_video(monkeypatch: pytest.MonkeyPatch) -> None:
    video = make_ramps(40, 90)
    for index in range(20):
        places = read_ramps(monkeypatch, lambda i=index: draw([video], i, 64, jitter=0.0))
        assert local_scales(places)[0] <= 40 / 64 * 1.05
        spans = np.ptp(places, axis=(2, 3))
        # The crop's outermost pixels stand half a pixel inside it.
        assert spans.max() <= 40
        assert spans.min() > 15


def test_frames_of_a_clip_move_against_each_other_and_are_flipped_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    video = make_ramps(200, 250)
    flips = set()
    for index in range(30):
        places = read_ramps(monkeypatch, lambda i=index: draw([video], i, 48))
        directions = np.sign(np.diff(places[:, 0, 12:-12, 12:-12], axis=2).mean(axis=(1, 2)))
        assert len(set(directions)) == 1
        flips.add(directions[0])
        assert not np.array_equal(places[0], places[1])
        middles = places[:, :, 24, 24]
        side = 48 * local_scales(places).mean()
        # Each frame is moved by at most a tenth of the crop, so two by at most two.
        assert np.abs(middles - middles[0]).max() <= 0.2 * side * 1.1 + 1
    assert flips == {-1, 1}


def test_a_clip_names_its_video(videos: list[CachedVideo]) -> None:
    numbers = [int(draw_clip(videos, index).video) for index in range(30)]
    assert set(numbers) == {0, 1}
    alone = [int(draw_clip(videos[:1], index).video) for index in range(5)]
    assert alone == [0] * 5


def test_a_clip_says_where_in_the_frame_its_crops_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    height, width, size = 160, 200, 48
    video = make_ramps(height, width)
    middles = (np.arange(size) + 0.5) / size
    for index in range(20):
        clip = draw_clip([video], index, size)
        places = read_ramps(monkeypatch, lambda i=index: draw([video], i, size))
        xs, ys = np.meshgrid(middles, middles)
        told = np.einsum("tdc,cyx->tdyx", clip.place.numpy(), [xs, ys, np.ones_like(xs)])
        told *= np.array([width, height])[:, None, None]
        # A ramp's grey is the number of a pixel, whose middle is half a pixel further.
        inside = np.s_[:, :, 12:-12, 12:-12]
        np.testing.assert_allclose(told[inside] - 0.5, places[inside], atol=1)
    whole = draw_clip([make_ramps(48, 48)], 0, 48, jitter=0.0, zoom=(1.0, 1.0)).place[0]
    assert whole[:, :2].abs().tolist() == pytest.approx(np.eye(2))
    flipped = whole[0, 0] < 0
    # A crop is flipped about the middle of a pixel.
    np.testing.assert_allclose(whole[:, 2], [49 / 48 if flipped else 0.0, 0.0], atol=1e-6)


def test_whole_frames_are_brought_to_the_crops_size_whatever_their_ratio(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    height, width, size = 90, 160, 40
    video = make_ramps(height, width)
    for index in range(6):
        places = read_ramps(monkeypatch, lambda i=index: draw([video], i, size, whole=True))
        clip = draw_clip([video], index, size, whole=True)
        # The blue ramp runs over all of the width, the green one over all of the height.
        wide = (np.arange(size) + 0.5) * width / size - 0.5
        np.testing.assert_allclose(places[0, 0], np.tile(wide, (size, 1)), atol=1)
        high = (np.arange(size) + 0.5) * height / size - 0.5
        np.testing.assert_allclose(places[0, 1], np.tile(high[:, None], (1, size)), atol=1)
        np.testing.assert_array_equal(places[0], places[2])
        np.testing.assert_allclose(clip.place, np.eye(2, 3)[None].repeat(3, 0), atol=1e-5)


def test_whole_frames_are_two_five_or_eight_steps_apart() -> None:
    video = cached(make_frames(25))
    clips = [ClipDataset([video], 1000, lambda _: 8, ClipSettings(whole=True), 0)] * 300
    rng, steps = np.random.default_rng(0), []
    for clip in clips:
        steps += np.diff(clip._pick_frames(rng, 25)).tolist()
    assert set(steps) == {2, 5, 8}
    shares = [steps.count(step) / len(steps) for step in (2, 5, 8)]
    # 600 draws: a standard deviation of 0.02.
    assert shares == pytest.approx([0.4, 0.4, 0.2], abs=0.08)


# Flow.


def test_flow_comes_only_where_it_is_wanted(videos: list[CachedVideo]) -> None:
    without, with_flow = (draw_clip(videos, 0, flow=flow) for flow in (False, True))
    assert without.flow.shape == (3, 0, 32, 32)
    assert with_flow.flow.shape == (3, 3, 32, 32)
    assert with_flow.flow.dtype == torch.float32
    assert with_flow.flow.abs().max() <= 1
    # Flow draws nothing, so that the pictures are the same.
    assert torch.equal(with_flow.lab, without.lab)
    assert torch.equal(with_flow.video, without.video)


def test_flow_points_to_where_the_frame_before_has_it(make_frame: Callable[..., Frame]) -> None:
    video = cached([make_frame(96, 128, 3 * step) for step in range(16)])
    signs = set()
    for index in range(12):
        clip = draw_clip([video], index, 64, flow=True, jitter=0.0, zoom=(1.0, 1.0))
        flow = clip.flow[:, :, 16:48, 16:48].median(-1).values.median(-1).values
        for frame, (along_x, along_y, length) in enumerate(flow.tolist()):
            if along_x == along_y == length == 0:
                assert frame in (0, 2)  # the video's first frame has none before it
                continue
            # What moves 3 px to the right was 3 px to the left; a flipped crop turns it round.
            assert abs(along_x) == pytest.approx(3 / 20, rel=0.1)
            assert along_y == pytest.approx(0, abs=0.05)
            assert length == pytest.approx(abs(along_x), rel=0.1)
            signs.add(along_x > 0)
    assert signs == {True, False}


def test_flow_may_be_to_as_far_back_as_the_clips_frames_are_apart(
    make_frame: Callable[..., Frame],
) -> None:
    video = cached([make_frame(96, 128, 2 * step) for step in range(30)])
    settings = {"flow": True, "jitter": 0.0, "zoom": (1.0, 1.0), "gaps": (3, 3)}
    for index in range(8):
        near, far = (
            draw_clip([video], index, 64, flow_gap=gap, **settings) for gap in ("1", "drawn")
        )
        assert torch.equal(near.lab, far.lab)
        moved = [
            clip.flow[:, 2, 16:48, 16:48].median(-1).values.median(-1).values
            for clip in (near, far)
        ]
        ratios = (moved[1] / moved[0])[moved[0] > 0].tolist()
        # The video's first frames have fewer before them.
        assert sorted(ratios)[-1] == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("own", [{"flow_scale": "other"}, {"flow_gap": "2"}])
def test_flow_that_cannot_be_is_refused(own: dict[str, str]) -> None:
    with pytest.raises(TrainingError, match="expected one of"):
        ClipSettings(**own)


def test_a_videos_first_frame_has_no_flow(make_frame: Callable[..., Frame]) -> None:
    video = cached([make_frame(64, 64), make_frame(64, 64, 4)])
    clip = draw_clip([video], 0, flow=True, frames=2)
    still = [not flow.any() for flow in clip.flow]
    assert sorted(still) == [False, True]


@pytest.mark.parametrize("stride", [4, 8])
def test_flow_is_that_of_the_crop_as_at_run_time(
    make_frame: Callable[..., Frame], monkeypatch: pytest.MonkeyPatch, stride: int
) -> None:
    video = cached([make_frame(64, 64, 3 * step) for step in range(8)])
    cuts: list[NDArray[np.float32]] = []
    cut = corpus._Crop.cut

    def watched(*arguments: Any) -> NDArray[np.float32]:
        cuts.append(cut(*arguments))
        return cuts[-1]

    monkeypatch.setattr(corpus._Crop, "cut", watched)
    settings = ClipSettings(flow=True).at_stride(stride)
    clip = ClipDataset([video], 1000, lambda _: 48, settings, seed=3)[3]
    for frame, (lab, before) in enumerate(zip(cuts[::2], cuts[1::2], strict=True)):
        np.testing.assert_array_equal(clip.lab[frame].numpy(), lab.transpose(2, 0, 1))
        run_time = FlowEstimator(FlowScale("cell", stride))
        run_time.step(before)
        np.testing.assert_array_equal(clip.flow[frame], run_time.step(lab))
        # 2.5 key cells of motion are 1.
        pixels = flow_from_lab(lab, before).transpose(2, 0, 1)
        expected = np.clip(pixels / (2.5 * stride), -1, 1)
        np.testing.assert_allclose(clip.flow[frame, :2], expected, atol=1e-6)
    assert 0.1 < clip.flow[:, 2].median() < 0.9
