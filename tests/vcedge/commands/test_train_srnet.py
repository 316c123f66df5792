"""``vcedge train srnet``: both stages on small pictures and videos, and what is refused."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch trains; install vcedge[train]")
pytest.importorskip("safetensors", reason="weights are safetensors; install vcedge[train]")

from tests.vcedge.commands.conftest import read_steps, write_video  # noqa: E402
from vcedge.commands import train_running  # noqa: E402
from vcedge.models.efficientnet_lite import EfficientNetLite  # noqa: E402
from vcedge.models.srnet import SRNet  # noqa: E402
from vcedge.models.weights import load_weights, save_weights  # noqa: E402

Run = Callable[..., CompletedProcess[str]]
Refuse = Callable[..., str]
SMALL = ("train", "srnet", "--batch", 2, "--sizes", "1.0:64", "--device", "cpu")
HEIGHT, WIDTH = 72, 96


@pytest.fixture
def data(tmp_path: Path, make_frame: Callable[..., np.ndarray]) -> None:
    """Two pictures with a mask each, and two videos with masks."""
    stills = tmp_path / "stills"
    stills.mkdir()
    with (stills / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "mask", "ids", "kind", "source", "licence"])
        for number in range(2):
            writer.writerow([f"{number}.png", f"{number}_ids.png", 1, "instances", "made", "none"])
            cv2.imwrite(str(stills / f"{number}.png"), make_frame(HEIGHT, WIDTH, 9 * number))
            cv2.imwrite(str(stills / f"{number}_ids.png"), _box(20 + 8 * number))
    (tmp_path / "masked" / "videos").mkdir(parents=True)
    for name in ("a", "b"):
        images = [make_frame(HEIGHT, WIDTH, 2 * step) for step in range(9)]
        write_video(tmp_path / "masked" / "videos" / f"{name}.avi", images)
        masks = tmp_path / "masked" / "masks" / name
        masks.mkdir(parents=True)
        for step in range(9):
            cv2.imwrite(str(masks / f"{step:05d}.png"), 255 * _box(10 + 2 * step))


def _box(left: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[20:52, left : left + 30] = 1
    return mask


@pytest.mark.usefixtures("data", "_in_process")
def test_a_stage_on_stills_is_followed_by_one_on_videos(run: Run, tmp_path: Path) -> None:
    first = run(*SMALL, "--stills", "stills", "--steps", 2, "--out", "one")
    assert first.returncode == 0, first.stderr
    assert "2 stills, 0 videos with masks, 0 frames in all" in first.stdout
    weights = tmp_path / "one" / "weights.safetensors"
    assert f"next: vcedge export {weights.relative_to(tmp_path)}" in first.stdout
    folders = ("--stills", "stills", "--masked", "masked", "--cache", "frames")
    options = (*SMALL, "--stage", "video", *folders, "--steps", 2, "--out", "two")
    second = run(*options, "--from", weights)
    assert second.returncode == 0, second.stderr
    assert "2 stills, 2 videos with masks, 18 frames in all" in second.stdout
    before, after = (load_weights(tmp_path / out / "weights.safetensors") for out in ("one", "two"))
    assert isinstance(after.network, SRNet)
    expected = {"model": "srnet", "profile": "srnet-edge", "stage": "video", "from": weights.name}
    assert {name: after.facts[name] for name in expected} == expected
    ours, theirs = after.network.state_dict(), before.network.state_dict()
    statistics = [name for name in ours if "running" in name]
    # The second stage leaves the statistics of batch normalisation alone, and nothing else.
    assert all(torch.equal(ours[name], theirs[name]) for name in statistics)
    changed = [name for name in ours if "running" not in name and "num_batches" not in name]
    same = [name for name in changed if torch.equal(ours[name], theirs[name])]
    assert len(same) < 0.2 * len(changed)  # two small steps move some tensors less than FP16 shows
    assert read_steps(tmp_path / "two") == [2]


@pytest.mark.usefixtures("data", "_in_process")
def test_an_encoder_without_labels_is_what_it_may_begin_with(run: Run, tmp_path: Path) -> None:
    from tests.conftest import make_weights

    given = make_weights()
    save_weights(given.network, tmp_path / "own.safetensors", {})
    options = ("--stills", "stills", "--steps", 1, "--learning-rate", 1e-9, "--out", "one")
    assert run(*SMALL, *options, "--from", "own.safetensors").returncode == 0
    network = load_weights(tmp_path / "one" / "weights.safetensors").network
    assert isinstance(network, SRNet)
    torch.testing.assert_close(
        network.query.trunk.stem[0].weight,
        given.network.encoder.stem[0].weight,
        rtol=1e-3,
        atol=1e-6,
    )


LITE = ("--profile", "srnet-lite", "--stage", "video", "--stills", "stills", "--masked", "masked")


@pytest.mark.usefixtures("data", "_in_process")
def test_the_light_network_begins_with_published_weights_and_keeps_videos_out(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    given = EfficientNetLite("efficientnet-lite0")
    monkeypatch.setattr(train_running, "load_imagenet", lambda variant: given)
    (tmp_path / "held.txt").write_text("# not for training\na\n\n")
    varied = ("--lengths", "0.5:3-3,1.0:3-4", "--shrink", 0.5, "--pixels", 20000, "--most", 3)
    shares = ("--skipped", 0.5, "--zoomed", 0.3, "--absent", 0.3, "--covered", 0.3)
    shares += ("--twins", 0.3, "--kin", 0.3, "--camera", 0.3, "--absence", 0.3, "--pairs", 1)
    rates = ("--trunk-rate", 0, "--falls-from", 0.5, "--average", 0.5, "--steps", 2)
    options = (*SMALL, *LITE, "--hold-out", "held.txt", "--cache", "frames", *varied, *shares)
    done = run(*options, *rates, "--from", "imagenet", "--out", "one")
    assert done.returncode == 0, done.stderr
    assert "2 stills, 1 videos with masks, 9 frames in all" in done.stdout
    found = load_weights(tmp_path / "one" / "weights.safetensors")
    assert found.facts["held_out"] == ["a"]
    assert found.facts["from"] == "imagenet"
    assert found.facts["clip_frames"] == 4
    # A trunk at rate 0 is as published, its statistics too.
    for name, value in found.network.query.trunk.state_dict().items():
        torch.testing.assert_close(value, given.state_dict()[name], rtol=1e-3, atol=1e-6)


@pytest.mark.usefixtures("data", "_in_process")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--from", "imagenet", "--profile", "srnet-edge"), "no weights are published"),
        ((*LITE, "--hold-out", "held.txt"), "received c to hold out"),
        ((*LITE, "--lengths", "1.0:3"), "received lengths '1.0:3'; expected such as"),
    ],
)
def test_what_the_light_network_cannot_begin_with_is_refused(
    refuse: Refuse, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    (tmp_path / "held.txt").write_text("c\n")
    stills = () if "--stills" in options else ("--stills", "stills")
    assert message in refuse(*SMALL, "--steps", 1, "--cache", "frames", *stills, *options)


@pytest.mark.usefixtures("data", "_in_process")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "received 0 stills and 0 videos with masks for the stage 'stills'"),
        (("--stage", "video", "--masked", "masked"), "received 0 stills and 2 videos"),
        (("--stage", "video", "--stills", "stills"), "received 2 stills and 0 videos"),
        (("--stills", "masked"), "manifest.csv"),
        (("--stills", "stills", "--sizes", "1.0:40"), "multiples of 16"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_in_one_line(
    refuse: Refuse, options: tuple[str, ...], message: str
) -> None:
    assert message in refuse(*SMALL, "--steps", 1, "--cache", "frames", *options)


@pytest.mark.usefixtures("data", "_in_process")
def test_stcns_published_weights_are_what_it_may_begin_with(
    run: Run, refuse: Refuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from tests.published import make_small
    from vcedge.models.published import Published
    from vcedge.models.srnet import SRNET_PROFILES

    given = make_small("stcn").network
    names = ("encoder", "value_width", "value_dim", "decoder_widths")
    size = {name: getattr(given.profile, name) for name in names}
    small = replace(SRNET_PROFILES["srnet-stcn"], **size)
    monkeypatch.setitem(SRNET_PROFILES, "srnet-stcn", small)
    monkeypatch.setattr(
        train_running, "load_published", lambda kind, path: Published(given, {"model": kind})
    )
    options = (*SMALL, "--stills", "stills", "--from", "stcn.pth", "--profile", "srnet-stcn")
    done = run(*options, "--steps", 3, "--learning-rate", 1e-5, "--out", "one")
    assert done.returncode == 0, done.stderr
    after = load_weights(tmp_path / "one" / "weights.safetensors")
    assert isinstance(after.network, SRNet)
    assert (after.facts["profile"], after.facts["from"]) == ("srnet-stcn", "stcn.pth")
    ours, theirs = after.network.state_dict(), given.state_dict()
    for name, tensor in theirs.items():
        # A few small steps; its statistics stay, as where it was trained.
        torch.testing.assert_close(ours[name], tensor, rtol=1e-2, atol=1e-2, msg=name)
    assert all(torch.equal(ours[n], t.half().float()) for n, t in theirs.items() if "running" in n)
    assert after.network.prototypes.gate is not None
    assert after.network.prototypes.gate.any()
