"""Where engines lie: in the user's own cache, which neither a bundle nor another user writes."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.runtime.engines import tensorrt_double as double
from tests.runtime.engines.fake_cuda import FakeCuda
from tests.runtime.engines.test_tensorrt import run_encoder
from vcedge_runtime.engines.plans import OWN_LEVELS, PlanCache, choose_folder
from vcedge_runtime.errors import BundleError, OutputError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.predictors.ranges import find_spans
from vcedge_runtime.reading import sha256_of

FACTS = {"graph": "ab", "tensorrt": "10.3.0"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def own(home: Path, tiny_bundle: Bundle) -> PlanCache:
    return PlanCache(choose_folder(tiny_bundle), OWN_LEVELS)


def test_engines_lie_in_the_users_cache_though_the_bundle_may_be_written(
    home: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    bundle = Bundle.open(shutil.copytree(tiny_bundle.folder, tmp_path / "mine"))
    assert choose_folder(bundle) == home / "vcedge" / "engines" / bundle.name


@pytest.mark.parametrize("given", ["", "relative", "../up"])
def test_a_cache_that_is_no_whole_path_is_not_taken(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = tmp_path / ".cache" / "vcedge" / "engines" / tiny_bundle.name
    assert choose_folder(tiny_bundle) == expected


def test_a_user_without_a_home_has_a_folder_that_cannot_be_written(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_none() -> Path:
        raise RuntimeError

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", find_none)
    assert choose_folder(tiny_bundle).is_relative_to("/.cache")


def test_what_is_stored_is_found_and_its_folders_are_the_users_alone(
    own: PlanCache, home: Path
) -> None:
    own.store("encoder", FACTS, b"plan", {})
    assert own.find("encoder", FACTS).plan == b"plan"
    folders = [own.folder, *own.folder.parents][:OWN_LEVELS]
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700] * OWN_LEVELS
    assert folders[-1].parent == home


@pytest.mark.parametrize("level", range(OWN_LEVELS))
@pytest.mark.parametrize("bits", [0o020, 0o002])
def test_an_engine_where_others_may_write_is_neither_run_nor_kept(
    own: PlanCache, level: int, bits: int
) -> None:
    own.store("encoder", FACTS, b"plan", {})
    own.keep("timings", b"timings")
    folder = [own.folder, *own.folder.parents][level]
    folder.chmod(0o700 | bits)
    found = own.find("encoder", FACTS)
    assert found.plan is None
    assert found.reason.startswith(f"{folder} may be written by others")
    assert own.read("timings") == b""
    with pytest.raises(OutputError, match="others, and an engine is a program; make it yours"):
        own.store("encoder", FACTS, b"plan", {})


@pytest.mark.parametrize("level", range(OWN_LEVELS))
def test_a_link_that_stands_for_the_cache_is_not_followed(own: PlanCache, level: int) -> None:
    own.store("encoder", FACTS, b"plan", {})
    folder = [own.folder, *own.folder.parents][level]
    moved = folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(moved, target_is_directory=True)
    assert own.find("encoder", FACTS).reason == f"{folder} is no folder"
    with pytest.raises(OutputError, match="is no folder"):
        own.store("encoder", FACTS, b"plan", {})


def test_a_folder_of_another_user_is_not_taken(
    own: PlanCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.store("encoder", FACTS, b"plan", {})
    monkeypatch.setattr("os.geteuid", lambda: own.folder.stat().st_uid + 1)
    assert own.find("encoder", FACTS).plan is None


def test_an_engine_that_a_bundle_brings_is_not_run(
    engines: ModuleType,
    cuda: FakeCuda,
    tiny_bundle: Bundle,
    home: Path,
    tmp_path: Path,
    told: list[str],
) -> None:
    def open_encoder(bundle: Bundle) -> dict[str, Any]:
        spans = partial(find_spans, bundle.composition)
        names = ["encoder"]
        found: dict[str, Any] = engines.engines_from_bundle(
            bundle, names, cuda, spans, tell=told.append
        )
        return found

    bundle = Bundle.open(shutil.copytree(tiny_bundle.folder, tmp_path / "mine"))
    run_encoder(open_encoder(bundle)["encoder"])
    # What this machine would find, had it built it itself, for a bundle that brings it.
    shutil.copytree(choose_folder(bundle), bundle.folder / "engines")
    shutil.rmtree(home)
    told.clear()
    run_encoder(open_encoder(bundle)["encoder"])
    assert told[0].startswith(f"engines in {bundle.folder} are not run")
    assert told[1].startswith("building an engine of encoder (there is none yet)")
    assert len(double.behaviour.builds) == 2


def test_what_is_built_is_what_was_checked(
    engines: ModuleType, cuda: FakeCuda, tiny_bundle: Bundle, home: Path, tmp_path: Path
) -> None:
    bundle = Bundle.open(shutil.copytree(tiny_bundle.folder, tmp_path / "mine"))
    spans = partial(find_spans, bundle.composition)
    opened = engines.engines_from_bundle(bundle, ["encoder"], cuda, spans)
    shutil.copyfile(bundle.path_of("label_readout"), bundle.path_of("encoder"))
    assert sha256_of(bundle.path_of("encoder")) != bundle.graphs["encoder"].sha256
    with pytest.raises(BundleError, match="was exchanged"):
        run_encoder(opened["encoder"])
    assert not double.behaviour.builds
    assert not home.exists()
