"""A training run of a few steps on small made videos."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from vcedge.models.encoder import PROFILES, KeyEncoder
from vcedge.models.weights import load_weights, save_weights
from vcedge.training.base import BaseRun, BaseSettings, Progress
from vcedge.training.corpus import CachedVideo
from vcedge_runtime.errors import TrainingError

SMALL = BaseSettings(steps=6, batch=2, sizes=((0.5, 32), (1.0, 48)), radius=3, seed=1, workers=0)


@pytest.fixture(scope="module")
def videos() -> list[CachedVideo]:
    """Blobs of four colours that move to the right."""
    colours = np.array([[200, 40, 40], [30, 160, 30], [60, 220, 240], [230, 120, 230]], np.uint8)
    noise = np.random.default_rng(3).integers(0, 256, (64, 160), np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 5)
    picture = colours[np.digitize(smooth, np.quantile(smooth, [0.25, 0.5, 0.75]))]
    frames = np.stack([picture[:, 64 - 3 * step : 144 - 3 * step] for step in range(16)])
    return [CachedVideo(Path("made"), frames, 3.0)]


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    """Sum in one order, and leave the other tests denormal numbers and all threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


def train(run: BaseRun, **options: Any) -> list[Progress]:
    seen: list[Progress] = []
    run.train(seen.append, report_every=1, **options)
    return seen


def test_a_few_steps_lower_the_loss(
    videos: list[CachedVideo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SMALL, steps=25, batch=3, sizes=((1.0, 32),))
    run = BaseRun(settings, videos, tmp_path, "cpu")
    batch = next(iter(run._clips(1)))
    # Clips of so small a run differ more than it learns, so it sees the same ones each time.
    monkeypatch.setattr(run, "_clips", lambda last: [batch] * last)
    losses = [progress.loss for progress in train(run)]
    assert len(losses) == 25
    assert np.mean(losses[-8:]) < 0.75 * np.mean(losses[:2])


@pytest.fixture(scope="module")
def whole(videos: list[CachedVideo], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that was never stopped, and what it reported."""
    torch.set_num_threads(1)
    run = BaseRun(SMALL, videos, tmp_path_factory.mktemp("whole"), "cpu")
    return run, train(run)


@pytest.mark.parametrize("stops", [(3,), (1, 4, 5)], ids=["once", "thrice"])
def test_a_stopped_and_resumed_run_is_the_uninterrupted_one(
    videos: list[CachedVideo], tmp_path: Path, whole: Any, stops: tuple[int, ...]
) -> None:
    seen: list[Progress] = []
    for stop in (*stops, None):
        run = BaseRun(SMALL, videos, tmp_path, "cpu")
        if seen:
            run.resume()
        seen += train(run, stop_at=stop)
    uninterrupted, expected = whole
    # Clips and dropped channels are functions of the step, and one thread sums in one order.
    assert [(p.step, p.loss) for p in seen] == [(p.step, p.loss) for p in expected]
    for state in ("encoder", "average"):
        found = getattr(run, state).state_dict()
        for name, value in getattr(uninterrupted, state).state_dict().items():
            assert torch.equal(found[name], value), name
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in logged] == [p.loss for p in expected]


def test_what_is_reported_is_logged(whole: Any) -> None:
    run, seen = whole
    lines = (run.checkpoint_path.parent / "log.jsonl").read_text().splitlines()
    logged = [json.loads(line) for line in lines]
    assert [(line["step"], line["loss"]) for line in logged] == [(p.step, p.loss) for p in seen]
    assert [p.step for p in seen] == [1, 2, 3, 4, 5, 6]
    assert all(p.images_per_second > 0 for p in seen)
    assert run.seconds > 0


def test_a_report_is_the_mean_since_the_last_one(
    videos: list[CachedVideo], tmp_path: Path, whole: Any
) -> None:
    seen: list[Progress] = []
    BaseRun(SMALL, videos, tmp_path, "cpu").train(seen.append, report_every=4)
    losses = [progress.loss for progress in whole[1]]
    assert [p.step for p in seen] == [4, 6]
    assert [p.loss for p in seen] == pytest.approx([np.mean(losses[:4]), np.mean(losses[4:])])


def test_training_moves_all_weights_and_keeps_their_average_near(whole: Any) -> None:
    run, _ = whole
    torch.manual_seed(SMALL.seed)
    fresh = dict(KeyEncoder(PROFILES["edge"]).named_parameters())
    average = dict(run.averaged_encoder().named_parameters())
    for name, weight in run.encoder.named_parameters():
        moved = (weight - fresh[name]).abs().max()
        assert moved > 0, name
        assert (average[name] - fresh[name]).abs().max() < moved


def test_what_a_run_delivers_can_be_saved_and_loaded(whole: Any, tmp_path: Path) -> None:
    run, _ = whole
    save_weights(run.averaged_encoder(), tmp_path / "base.safetensors", {"steps": run.step})
    loaded = load_weights(tmp_path / "base.safetensors")
    assert loaded.facts == {"steps": 6, "profile": "edge"}
    with torch.inference_mode():
        assert loaded.encoder(torch.zeros(1, 3, 32, 32)).isfinite().all()


def test_a_finished_run_resumes_to_nothing(
    videos: list[CachedVideo], whole: Any, tmp_path: Path
) -> None:
    run = BaseRun(SMALL, videos, whole[0].checkpoint_path.parent, "cpu")
    run.resume()
    assert run.step == 6
    run._out = tmp_path
    assert train(run) == []


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 2}, "seed"),
        ({"steps": 8}, "steps"),
        ({"batch": 3, "radius": 4}, "batch, radius"),
        ({"sizes": ((1.0, 48),)}, "sizes"),
        ({"learning_rate": 1e-4}, "learning_rate"),
        ({"profile": "paper"}, "profile"),
    ],
)
def test_a_run_with_other_settings_is_not_resumed(
    videos: list[CachedVideo], whole: Any, changed: dict[str, Any], named: str
) -> None:
    out = whole[0].checkpoint_path.parent
    run = BaseRun(replace(SMALL, **changed), videos, out, "cpu")
    with pytest.raises(TrainingError, match=rf"trained with other settings \({named}\)"):
        run.resume()


def test_the_number_of_workers_may_change(videos: list[CachedVideo], whole: Any) -> None:
    out = whole[0].checkpoint_path.parent
    run = BaseRun(replace(SMALL, workers=2), videos, out, "cpu")
    run.resume()
    assert run.step == 6


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint"])
def test_a_checkpoint_that_cannot_be_read_is_named(
    videos: list[CachedVideo], tmp_path: Path, content: bytes | None
) -> None:
    run = BaseRun(SMALL, videos, tmp_path, "cpu")
    if content is not None:
        run.checkpoint_path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt cannot be read"):
        run.resume()


def test_a_save_that_is_killed_leaves_the_former_checkpoint(
    videos: list[CachedVideo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = BaseRun(SMALL, videos, tmp_path, "cpu")
    run.save()

    def stop(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            run.save()
    run.resume()


def test_without_videos_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no video with at least two frames"):
        BaseRun(SMALL, [], tmp_path, "cpu")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"profile": "wide"}, r"profile 'wide' is unknown; choose from \['edge', 'paper'\]"),
        ({"steps": 0}, "at least 1"),
        ({"batch": 0}, "at least 1"),
        ({"sizes": ()}, "rising shares"),
        ({"sizes": ((0.5, 32),)}, "rising shares"),
        ({"sizes": ((0.5, 32), (0.5, 48), (1.0, 64))}, "rising shares"),
        ({"sizes": ((1.0, 64), (0.5, 32))}, "rising shares"),
        ({"sizes": ((1.0, 60),)}, "multiples of 8"),
        ({"sizes": ((1.0, 0),)}, "multiples of 8"),
        ({"profile": "paper", "sizes": ((1.0, 62),)}, "multiples of 4"),
    ],
)
def test_settings_that_cannot_work_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        replace(SMALL, **changed)


def test_crops_grow_and_the_learning_rate_falls_as_the_settings_say() -> None:
    settings = BaseSettings(steps=100, sizes=((0.7, 128), (1.0, 192)))
    assert [settings.size_at(step) for step in (0, 69, 70, 99)] == [128, 128, 192, 192]
    shares = [settings.learning_rate_share(step) for step in range(100)]
    assert shares[0] == pytest.approx(0.5)
    assert max(shares) == shares[1] == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(np.diff(shares[1:]), -0.0098)
    assert shares[-1] == pytest.approx(0.03, abs=0.001)
