"""What a camera does to a clip's pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vcedge.training.camera import Camera, CameraRange, Picture
from vcedge_runtime.errors import TrainingError

NOTHING: dict[str, Any] = {"blur": 0, "defocus": 0, "exposure": 0, "noise": 0, "quality": 95}


def make_edge() -> Picture:
    """Dark on the left and light on the right, (64, 64, 3) BGR."""
    picture = np.full((64, 64, 3), 60, np.uint8)
    picture[:, 32:] = 180
    return picture


def photograph(seed: int = 0, share: float = 1.0, **own: Any) -> Picture:
    rng = np.random.default_rng(seed)
    return Camera(rng, CameraRange(share=share, **{**NOTHING, **own})).take(make_edge())


def test_a_good_camera_gives_the_very_picture() -> None:
    picture = make_edge()
    camera = Camera(np.random.default_rng(0), CameraRange(share=0))
    assert camera.take(picture) is picture


@pytest.mark.parametrize("own", [{"blur": 0.3}, {"defocus": 0.1}])
def test_blur_softens_an_edge_and_leaves_the_mean(own: dict[str, float]) -> None:
    taken = [photograph(seed, **own) for seed in range(8)]
    soft = [((picture > 65) & (picture < 175)).any(axis=0).sum() for picture in taken]
    assert max(soft) > 6
    assert all(abs(float(picture.mean()) - 120) < 4 for picture in taken)


def test_exposure_makes_a_clips_frames_lighter_and_darker() -> None:
    camera = Camera(np.random.default_rng(0), CameraRange(**{**NOTHING, "exposure": 0.5}, share=1))
    means = [camera.take(make_edge()).mean() / 120 for _ in range(12)]
    assert min(means) < 0.85
    assert max(means) > 1.15
    # exp(0.5), and the lightest grey levels end at 255.
    assert max(means) < 1.66


def test_noise_has_at_most_the_deviation_that_was_given() -> None:
    deviations = [float(photograph(seed, noise=20)[:, :28].std()) for seed in range(10)]
    assert max(deviations) < 22
    assert max(deviations) > 10


def test_a_low_quality_shows() -> None:
    texture = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    errors = []
    for seed in range(12):
        camera = Camera(
            np.random.default_rng(seed), CameraRange(share=1, **{**NOTHING, "quality": 1})
        )
        errors.append(np.abs(camera.take(texture).astype(int) - texture).mean())
    assert max(errors) > 1.2 * min(errors)
    assert min(errors) > 1


def test_each_fault_befalls_its_share_of_the_clips() -> None:
    noisy = [not np.array_equal(photograph(s, 0.3, noise=40), make_edge()) for s in range(200)]
    # A standard deviation of 0.03.
    assert np.mean(noisy) == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize(
    "wrong", [{"blur": -1.0}, {"share": 1.1}, {"quality": 0}, {"quality": 96}, {"noise": -0.1}]
)
def test_ranges_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match="expected"):
        CameraRange(**wrong)  # type: ignore[arg-type]
