"""A training run of a few steps on small made videos, of each method."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from torch import Tensor

from vcedge.models.network import KeyNetwork
from vcedge.models.weights import load_weights, save_weights
from vcedge.training.corpus import ClipSettings, VideoCorpus
from vcedge.training.objective import Objective
from vcedge.training.run import Progress, TrainingRun
from vcedge.training.settings import RunSettings
from vcedge_runtime.errors import TrainingError

METHODS = ["base", "dmp", "mer"]
MakeRun = Callable[..., TrainingRun]


def train(run: TrainingRun, **options: Any) -> list[Progress]:
    seen: list[Progress] = []
    run.train(seen.append, **{"report_every": 1, **options})
    return seen


def read_log(out: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


def curve(seen: list[Progress]) -> list[tuple[int, float, dict[str, float]]]:
    return [(p.step, p.loss, p.parts) for p in seen]


def check_equal(run: TrainingRun, other: TrainingRun) -> None:
    """Every tensor of the method, of its moving average and of the optimiser is the same."""
    for part in ("objective", "average"):
        found = getattr(run, part).state_dict()
        for name, value in getattr(other, part).state_dict().items():
            assert torch.equal(found[name], value), name
    found = run.optimiser.state_dict()["state"]
    for number, moments in other.optimiser.state_dict()["state"].items():
        assert all(torch.equal(found[number][name], value) for name, value in moments.items())


@pytest.mark.parametrize("method", METHODS)
def test_a_few_steps_lower_the_loss(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    # DMP's later loss adds up three predictions, so that the two halves of its run do not compare.
    own = {"dmp": {"plain": 0.0}}.get(method)
    # A crop of one region has a forward prediction that no key makes better.
    side = {"dmp": 64}.get(method, 32)
    run = make_run(tmp_path, method, own, steps=16, batch=2, sizes=((1.0, side),))
    batch = next(iter(run._clips(1)))
    # Clips of so small a run differ more than it learns, so it sees the same ones each time.
    monkeypatch.setattr(run, "_clips", lambda last: [batch] * last)
    losses = [progress.loss for progress in train(run)]
    assert len(losses) == 16
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:2])


@pytest.fixture(scope="module", params=METHODS)
def whole(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory, request: Any) -> Any:
    """A run that was never stopped, what it reported, and its method."""
    run = make_run(tmp_path_factory.mktemp("whole"), request.param)
    return run, train(run), request.param


@pytest.fixture(scope="module")
def finished(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run of the base method."""
    out = tmp_path_factory.mktemp("finished")
    train(make_run(out))
    return out


def test_a_stopped_and_resumed_run_is_the_uninterrupted_one(
    make_run: MakeRun, tmp_path: Path, whole: Any
) -> None:
    uninterrupted, expected, method = whole
    seen: list[Progress] = []
    for stop in (1, 4, 5, None):
        run = make_run(tmp_path, method)
        if seen:
            run.resume()
        seen += train(run, stop_at=stop)
    # Clips and dropped channels are functions of the step, and one thread sums in one order.
    assert curve(seen) == curve(expected)
    check_equal(run, uninterrupted)
    assert read_log(tmp_path) == [(p.step, p.loss) for p in expected]


def test_a_killed_run_goes_on_from_its_last_checkpoint_with_the_same_curve(
    make_run: MakeRun, tmp_path: Path, whole: Any
) -> None:
    uninterrupted, expected, method = whole
    killed = make_run(tmp_path, method)
    train(killed, stop_at=3)
    optimise = killed._optimise

    def kill(clips: object) -> float:
        if killed.step == 5:
            # A signal that cannot be caught leaves a line half written.
            with (tmp_path / "log.jsonl").open("a") as log:
                log.write('[]\n{}\n"x"\n{"step": null}\n{"step": 1e999}\n' + "[" * 9999 + "\n")
                log.write('{"step": 6, "lo')
            raise RuntimeError("killed")
        return optimise(clips)

    killed._optimise = kill
    with pytest.raises(RuntimeError, match="killed"):
        train(killed)
    run = make_run(tmp_path, method)
    run.resume()
    assert run.step == 3
    train(run, stop_at=3)
    assert read_log(tmp_path) == [(p.step, p.loss) for p in expected[:3]]
    assert curve(train(run)) == curve(expected[3:])
    check_equal(run, uninterrupted)
    assert read_log(tmp_path) == [(p.step, p.loss) for p in expected]


def test_a_run_begun_anew_reports_nothing_of_one_killed_before_its_first_checkpoint(
    make_run: MakeRun, tmp_path: Path
) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.0}\n{"st')
    run = make_run(tmp_path)
    reported = train(run)
    assert read_log(tmp_path) == [(p.step, p.loss) for p in reported]


def test_checkpoints_on_the_way_stand_where_reports_stand(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    saved: list[int] = []
    monkeypatch.setattr(run, "save", lambda: saved.append(run.step))
    train(run, report_every=4, save_every_s=0)
    assert saved == [4, 6, 6]


@pytest.mark.parametrize("flushed", [False, True])
def test_denormal_numbers_are_flushed_while_it_trains(
    make_run: MakeRun, tmp_path: Path, flushed: bool
) -> None:
    def are_flushed() -> bool:
        return (torch.tensor(1e-40) * 2).item() == 0

    seen: list[bool] = []
    torch.set_flush_denormal(flushed)
    try:
        make_run(tmp_path).train(lambda progress: seen.append(are_flushed()), stop_at=1)
        assert seen == [True]
        assert are_flushed() is flushed
    finally:
        torch.set_flush_denormal(False)


def test_ctrl_c_waits_for_the_end_of_the_step(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Any
) -> None:
    uninterrupted, expected, method = whole
    run = make_run(tmp_path, method)
    losses = run.objective.losses

    def interrupted(*arguments: Any) -> dict[str, Tensor]:
        found = losses(*arguments)
        if run.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return found

    # A shell that runs the tests in the background has them ignore Ctrl-C.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(run.objective, "losses", interrupted)
            with pytest.raises(KeyboardInterrupt):
                train(run)
    finally:
        signal.signal(signal.SIGINT, former)
    assert run.step == 3
    run.save()
    resumed = make_run(tmp_path, method)
    resumed.resume()
    assert curve(train(resumed)) == curve(expected[3:])
    check_equal(resumed, uninterrupted)


def test_what_is_reported_is_logged(whole: Any) -> None:
    run, seen, _ = whole
    out = run.checkpoint_path.parent
    assert read_log(out) == [(p.step, p.loss) for p in seen]
    assert [p.step for p in seen] == [1, 2, 3, 4, 5, 6]
    assert all(p.images_per_second > 0 for p in seen)
    assert all(sum(p.parts.values()) == pytest.approx(p.loss) for p in seen)
    assert run.seconds > 0


def test_a_report_is_the_mean_since_the_last_one(
    make_run: MakeRun, tmp_path: Path, finished: Path
) -> None:
    seen = train(make_run(tmp_path), report_every=4)
    losses = [loss for _, loss in read_log(finished)]
    assert [p.step for p in seen] == [4, 6]
    assert [p.loss for p in seen] == pytest.approx([np.mean(losses[:4]), np.mean(losses[4:])])


class FakeWriter:
    """What TensorBoard would get."""

    def __init__(self) -> None:
        self.scalars: dict[str, list[tuple[int, float]]] = {}

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        self.scalars.setdefault(tag, []).append((global_step, scalar_value))


def test_the_loss_and_its_parts_are_written_as_scalars(
    make_run: MakeRun, tmp_path: Path, whole: Any
) -> None:
    _, expected, method = whole
    writer = FakeWriter()
    seen = train(make_run(tmp_path, method), scalars=writer)
    assert writer.scalars["loss"] == [(p.step, p.loss) for p in expected]
    assert writer.scalars["images_per_second"] == [(p.step, p.images_per_second) for p in seen]
    for name in expected[-1].parts:
        values = [(p.step, p.parts[name]) for p in expected if name in p.parts]
        assert writer.scalars[name] == values


def test_training_moves_all_weights_and_keeps_their_average_near(
    make_objective: Callable[..., Objective], whole: Any
) -> None:
    run, _, method = whole
    fresh = dict(make_objective(method).network.named_parameters())
    average = dict(run.delivered.named_parameters())
    # A softmax does not see what all keys share.
    unmoved = {"values.to_key.bias"}
    # A scalar that turned back is nearer to where it began than its mean is.
    turned = {"encoder.alpha"}
    for name, weight in run.objective.network.named_parameters():
        moved = (weight - fresh[name]).abs().max()
        assert moved > 0 or name in unmoved, name
        nearer = (average[name] - fresh[name]).abs().max() < moved
        assert nearer or name in unmoved | turned, name


def test_what_a_run_delivers_can_be_saved_and_loaded(whole: Any, tmp_path: Path) -> None:
    run, _, method = whole
    save_weights(run.delivered, tmp_path / "run.safetensors", {"steps": run.step})
    loaded = load_weights(tmp_path / "run.safetensors")
    parts = {"motion": method == "mer", "value_extraction": method == "mer"}
    assert loaded.facts == {"steps": 6, **run.delivered.parts}
    assert {name: loaded.facts[name] for name in parts} == parts
    with torch.inference_mode():
        assert loaded.network.encoder(torch.zeros(1, 3, 32, 32)).isfinite().all()


def test_a_finished_run_resumes_to_nothing(
    make_run: MakeRun, finished: Path, tmp_path: Path
) -> None:
    run = make_run(finished)
    run.resume()
    assert run.step == 6
    run._out = tmp_path
    assert train(run) == []


@pytest.mark.parametrize("method", METHODS)
def test_fine_tuning_begins_with_the_given_weights(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    torch.manual_seed(8)
    given = KeyNetwork.from_parts("edge", motion=False, value_extraction=False)
    run = make_run(tmp_path, method)
    optimise, first = run._optimise, {}

    def watch(clips: Any) -> float:
        first.update({k: v.clone() for k, v in run.objective.network.state_dict().items()})
        run._optimise = optimise
        return optimise(clips)

    run._optimise = watch
    run.start_from(given)
    for name, value in given.state_dict().items():
        assert torch.equal(run.delivered.state_dict()[name], value), name
    (begun,) = train(run, stop_at=1)
    for name, value in given.state_dict().items():
        assert torch.equal(first[name], value), name
    (anew,) = train(make_run(tmp_path / "anew", method), stop_at=1)
    assert begun.loss != anew.loss
    if method == "mer":
        assert first["encoder.alpha"].item() == 0
        assert not first["values.to_out.weight"].any()
    resumed = make_run(tmp_path, method)
    resumed.resume()
    whole = make_run(tmp_path / "whole", method)
    whole.start_from(given)
    assert curve([begun, *train(resumed)]) == curve(train(whole))
    check_equal(resumed, whole)


@pytest.mark.parametrize("method", METHODS)
def test_training_goes_on_from_weights_of_the_same_method(
    make_run: MakeRun, tmp_path: Path, method: str
) -> None:
    former = make_run(tmp_path / "former", method)
    train(former, stop_at=3)
    save_weights(former.delivered, tmp_path / "former.safetensors", {})
    given = load_weights(tmp_path / "former.safetensors").network
    run = make_run(tmp_path / "run", method)
    run.start_from(given)
    for name, value in given.state_dict().items():
        assert torch.equal(run.objective.network.state_dict()[name], value), name
        assert torch.equal(run.delivered.state_dict()[name], value), name
    assert run.step == 0
    assert all(np.isfinite(p.loss) for p in train(run, stop_at=2))


def test_a_rate_that_is_halved_does_not_fall_otherwise() -> None:
    settings = RunSettings(steps=100, halved=(0.5, 0.75))
    shares = [settings.learning_rate_share(step) for step in (10, 49, 50, 74, 75, 99)]
    assert shares == [1, 1, 0.5, 0.5, 0.25, 0.25]
    with pytest.raises(TrainingError, match="shares between 0 and 1 at which the rate is halved"):
        RunSettings(halved=(0.5, 1.0))


def test_a_checkpoint_from_before_is_gone_on_with_as_it_was_trained(
    make_run: MakeRun, tmp_path: Path
) -> None:
    def forget(out: Path, method: str, own: dict[str, Any]) -> TrainingRun:
        """A run whose checkpoint names none of the settings that came later."""
        run = make_run(out, method, own)
        run.train(lambda progress: None, stop_at=1)
        state = torch.load(run.checkpoint_path, weights_only=True)
        later = ("value_map", "value_frames", "flow_scale", "halved", "whole", "clusters")
        for name in later:
            state["settings"].pop(name, None)
        torch.save(state, run.checkpoint_path)
        return make_run(out, method, own)

    former = {"value_map": "own", "value_frames": "own", "flow_scale": "side"}
    forget(tmp_path / "former", "mer", former).resume()
    with pytest.raises(
        TrainingError, match=r"other settings \(flow_scale, value_frames, value_map"
    ):
        forget(tmp_path / "new", "mer", {}).resume()


@pytest.mark.parametrize(
    ("changed", "own", "named"),
    [
        ({"seed": 2}, {}, "seed"),
        ({"steps": 8}, {}, "steps"),
        ({"batch": 3}, {"radius": 4}, "batch, radius"),
        ({"sizes": ((1.0, 48),)}, {}, "sizes"),
        ({"learning_rate": 1e-4}, {}, "learning_rate"),
        ({"profile": "paper"}, {}, "profile, zoom"),
    ],
)
def test_a_run_with_other_settings_is_not_resumed(
    make_run: MakeRun, finished: Path, changed: dict[str, Any], own: dict[str, Any], named: str
) -> None:
    run = make_run(finished, "base", own, **changed)
    with pytest.raises(TrainingError, match=rf"trained with other settings \({named}\)"):
        run.resume()


def test_a_checkpoint_from_before_zoom_was_kept_is_resumed(
    make_run: MakeRun, finished: Path, tmp_path: Path
) -> None:
    state = torch.load(finished / "checkpoint.pt", weights_only=True)
    del state["settings"]["zoom"]
    torch.save(state, tmp_path / "checkpoint.pt")
    run = make_run(tmp_path)
    run.resume()
    assert run.step == 6


def test_a_setting_that_a_checkpoint_did_not_know_is_at_its_default(
    make_run: MakeRun, finished: Path, tmp_path: Path
) -> None:
    state = torch.load(finished / "checkpoint.pt", weights_only=True)
    for name in ("falls_from", "average"):
        del state["settings"][name]
    torch.save(state, tmp_path / "checkpoint.pt")
    run = make_run(tmp_path)
    run.resume()
    assert run.step == 6
    with pytest.raises(TrainingError, match=r"other settings \(falls_from\)"):
        make_run(tmp_path, falls_from=0.5).resume()


def test_a_run_of_another_method_is_not_resumed(make_run: MakeRun, finished: Path) -> None:
    run = make_run(finished, "dmp")
    with pytest.raises(TrainingError, match=r"other settings \(.*method.*\); resume with the same"):
        run.resume()


def test_the_number_of_workers_may_change(make_run: MakeRun, finished: Path) -> None:
    run = make_run(finished, workers=2)
    run.resume()
    assert run.step == 6


def test_a_checkpoint_of_another_network_is_named(make_run: MakeRun, finished: Path) -> None:
    run = make_run(finished)
    run.objective.network.register_parameter("new", torch.nn.Parameter(torch.zeros(3)))
    with pytest.raises(TrainingError, match=r"checkpoint\.pt is of another network"):
        run.resume()


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint"])
def test_a_checkpoint_that_cannot_be_read_is_named(
    make_run: MakeRun, tmp_path: Path, content: bytes | None
) -> None:
    run = make_run(tmp_path)
    if content is not None:
        run.checkpoint_path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt cannot be read"):
        run.resume()


@pytest.mark.parametrize("content", [{"step": 3}, [1, 2]], ids=["a dictionary", "a list"])
def test_a_file_of_others_is_no_checkpoint(
    make_run: MakeRun, tmp_path: Path, content: object
) -> None:
    run = make_run(tmp_path)
    torch.save(content, run.checkpoint_path)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt is no checkpoint of vcedge"):
        run.resume()


def test_a_save_that_is_killed_leaves_the_former_checkpoint(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    run.save()

    def stop(state: object, file: BinaryIO) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            run.save()
    run.resume()


def test_without_videos_there_is_no_run() -> None:
    with pytest.raises(TrainingError, match="no video with at least two frames"):
        VideoCorpus([], ClipSettings())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"profile": "wide"},
            r"profile 'wide' is unknown; choose from \['edge', 'lite', 'paper', 'prompts",
        ),
        ({"steps": 0}, "at least 1"),
        ({"batch": 0}, "at least 1"),
        ({"learning_rate": 0.0}, "learning rate above 0"),
        ({"workers": -1}, "no negative workers"),
        ({"sizes": ()}, "rising shares"),
        ({"sizes": ((0.5, 32),)}, "rising shares"),
        ({"sizes": ((0.5, 32), (0.5, 48), (1.0, 64))}, "rising shares"),
        ({"sizes": ((1.0, 64), (0.5, 32))}, "rising shares"),
        ({"sizes": ((1.0, 60),)}, "multiples of 8"),
        ({"sizes": ((1.0, 0),)}, "multiples of 8"),
        ({"profile": "paper", "sizes": ((1.0, 62),)}, "multiples of 4"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    small: RunSettings, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        replace(small, **changed)


def test_crops_grow_and_the_learning_rate_falls_as_the_settings_say() -> None:
    settings = RunSettings(steps=100, sizes=((0.7, 128), (1.0, 192)))
    assert [settings.size_at(step) for step in (0, 69, 70, 99)] == [128, 128, 192, 192]
    shares = [settings.learning_rate_share(step) for step in range(100)]
    assert shares[0] == pytest.approx(0.5)
    assert max(shares) == shares[1] == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(np.diff(shares[1:]), -0.0098)
    assert shares[-1] == pytest.approx(0.03, abs=0.001)


def test_the_learning_rate_may_stay_before_it_falls() -> None:
    settings = RunSettings(steps=100, falls_from=0.6)
    shares = [settings.learning_rate_share(step) for step in range(100)]
    assert shares[0] == pytest.approx(0.5)
    assert shares[1:61] == [1] * 60
    np.testing.assert_allclose(np.diff(shares[60:]), -0.98 / 40)


def test_groups_of_weights_have_their_own_rates(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path, learning_rate=1e-2)
    first, *rest = run.objective.parameters()
    groups = [(rest, 1.0), ([first], 0.25)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(run.objective), "groups", property(lambda self: groups))
        slow = make_run(tmp_path, learning_rate=1e-2)
    slow.train(lambda progress: None, stop_at=1)
    rates = [group["lr"] for group in slow.optimiser.param_groups]
    assert rates[1] == pytest.approx(0.25 * rates[0])
