"""Published weights: what is read of a file, what is refused, and what the networks then give."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.published import encode_first, make_clip, make_state, read_golden, read_kept
from vcedge.models.published import Published, load_published
from vcedge.models.stcn import STCN
from vcedge.models.weights import load_weights, save_weights
from vcedge_runtime.errors import BundleError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return make_state("stcn")


@pytest.fixture(scope="module")
def published(
    state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Published:
    path = tmp_path_factory.mktemp("published") / "stcn.pth"
    torch.save(state, path)
    found = load_published("stcn", path)
    path.unlink()
    return found


@pytest.mark.parametrize("name", ["stcn-1", "stcn-2"])
def test_the_first_frame_is_encoded_as_by_the_projects_own_network(
    published: Published, name: str
) -> None:
    golden = read_golden(name)
    found = encode_first(published.network, golden["frames"][0], golden["ids"])
    for part, planes in found.items():
        expected = golden[f"first_{part}"]
        assert np.abs(planes - expected).max() < 1e-4 * np.abs(expected).max(), part


def test_the_first_frame_is_encoded_as_when_that_was_so(published: Published) -> None:
    kept, (frames, mask) = read_kept("stcn"), make_clip(1)
    for part, planes in encode_first(published.network, frames[0], mask).items():
        assert np.abs(planes[:, ::8] - kept[part]).max() < 1e-4 * np.abs(kept[part]).max(), part


def test_the_facts_name_file_licence_and_checksum(published: Published) -> None:
    facts = dict(published.facts)
    assert re.fullmatch("[0-9a-f]{64}", facts.pop("sha256"))
    assert facts == {
        "model": "STCN",
        "published": "hkchengrex/STCN",
        "licence": "MIT",
        "file": "stcn.pth",
        "data": "see the project: its training data have terms of their own",
    }


def test_weights_in_our_format_are_the_same_to_the_last_bit(
    published: Published, tmp_path: Path
) -> None:
    path = tmp_path / "stcn.safetensors"
    save_weights(published.network, path, published.facts, exact=True)
    opened = load_weights(path)
    assert isinstance(opened.network, STCN)
    assert not opened.network.training
    ours, theirs = opened.network.state_dict(), published.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert opened.facts == {**published.facts, "profile": "stcn"}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"network": state, "it": 7, "optimizer": {"state": {}}},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")},
        lambda state: {n: t.half() if t.is_floating_point() else t for n, t in state.items()},
    ],
    ids=["checkpoint", "several GPUs", "no counters", "half"],
)
def test_a_state_dict_is_found_however_it_was_saved(
    wrap: Callable[[dict[str, torch.Tensor]], Any],
    state: dict[str, torch.Tensor],
    published: Published,
    tmp_path: Path,
) -> None:
    path = tmp_path / "saved.pth"
    torch.save(wrap(state), path)
    ours = load_published("stcn", path).network.state_dict()
    path.unlink()
    for name, tensor in published.network.state_dict().items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-3, atol=1e-4)


def test_weights_for_a_single_object_heed_no_others(
    state: dict[str, torch.Tensor], published: Published, tmp_path: Path
) -> None:
    narrow = dict(state)
    name = "value_encoder.conv1.weight"
    narrow[name] = state[name][:, :4]
    path = tmp_path / "single.pth"
    torch.save(narrow, path)
    network = load_published("stcn", path).network
    path.unlink()
    kernel = network.value.trunk.stem[0].weight  # type: ignore[union-attr, index]
    whole = published.network.value.trunk.stem[0].weight  # type: ignore[union-attr, index]
    assert torch.equal(kernel[:, :4], whole[:, :4])
    assert not kernel[:, 4].any()


class Runs:
    """What runs a command where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., int], tuple[str]]:
        return os.system, (f"touch {self._path}",)


def test_a_pickle_that_wants_to_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    path, mark = tmp_path / "evil.pth", tmp_path / "mark"
    torch.save({"key_encoder.conv1.weight": Runs(mark)}, path)
    with pytest.raises(BundleError, match="holds more than tensors") as refused:
        load_published("stcn", path)
    assert "\n" not in str(refused.value)
    path.write_bytes(pickle.dumps(Runs(mark)))
    with pytest.raises(BundleError, match=r"evil\.pth"):
        load_published("stcn", path)
    assert not mark.exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.pth"
    torch.save({"key_comp.weight": torch.zeros(512, 64)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(BundleError, match=r"cut\.pth.*download it again") as refused:
        load_published("stcn", path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({}, "holds no tensors by name"),
        ([torch.zeros(1)], "holds no tensors by name"),
        ({"a": 1}, "in which a is no tensor"),
        ({"network": {"a": "b"}}, "in which a is no tensor"),
        (
            {"encoder.weight": torch.zeros(1)},
            r"of its tensors 1 are foreign \(encoder\.weight\); 332 are missing "
            r"\(decoder\.compress\.conv1\.bias, .*, \.\.\.\); pass what hkchengrex/STCN publishes",
        ),
    ],
)
def test_another_projects_weights_are_refused(tmp_path: Path, held: Any, message: str) -> None:
    path = tmp_path / "other.pth"
    torch.save(held, path)
    with pytest.raises(BundleError, match=message):
        load_published("stcn", path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"key_comp.weight": torch.zeros(512, 1024, 1, 1)},
            r"1 have other shapes \(key_comp\.weight \(512, 1024, 1, 1\), expected",
        ),
        ({"key_comp.bias": torch.full((512,), torch.nan)}, r"1 are not finite \(key_comp\.bias\)"),
    ],
)
def test_weights_that_are_not_quite_the_projects_are_refused(
    state: dict[str, torch.Tensor],
    tmp_path: Path,
    change: dict[str, torch.Tensor],
    message: str,
) -> None:
    path = tmp_path / "changed.pth"
    torch.save({**state, **change}, path)
    with pytest.raises(BundleError, match=message):
        load_published("stcn", path)
    path.unlink()


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none\.pth cannot be read \(No such file"):
        load_published("stcn", tmp_path / "none.pth")
