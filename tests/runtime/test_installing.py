"""What a missing part is installed by: what works, from where vcedge itself was installed."""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from vcedge_runtime import installing
from vcedge_runtime.installing import how_to_install

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"pip install [^\n]*\bvcedge\[(?!\w+\] @)")
"""A name that no registry has, and that somebody could claim."""


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as from site-packages."""
    monkeypatch.setattr(installing, "CHECKOUT", tmp_path / "site-packages")


def install_from(direct: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have pip record where vcedge came from."""
    text = direct if isinstance(direct, str) or direct is None else json.dumps(direct)
    found = SimpleNamespace(read_text=lambda name: text if name == "direct_url.json" else None)
    monkeypatch.setattr(installing, "distribution", lambda name: found)


def test_a_checkout_installs_itself() -> None:
    assert how_to_install("cpu") == f'pip install -e "{ROOT}[cpu]"'


@pytest.mark.usefixtures("_installed")
def test_a_wheel_or_a_folder_is_named_while_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "some wheels" / "vcedge-0.1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.write_bytes(b"")
    install_from({"url": wheel.as_uri(), "archive_info": {}}, monkeypatch)
    assert how_to_install("gpu") == f'pip install "{wheel}[gpu]"'
    wheel.unlink()
    assert how_to_install("gpu").startswith('pip install ".[gpu]" in the folder of')


@pytest.mark.usefixtures("_installed")
def test_a_repository_is_named_at_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    vcs = {"vcs": "git", "commit_id": "1234abcd"}
    install_from({"url": "https://example.org/vcedge.git", "vcs_info": vcs}, monkeypatch)
    expected = '"vcedge[eval] @ git+https://example.org/vcedge.git@1234abcd"'
    assert how_to_install("eval") == f"pip install {expected}"


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("direct", [None, "", "{", "[]", {}])
def test_what_is_not_known_names_the_repository(
    direct: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_from(direct, monkeypatch)
    assert how_to_install("cpu") == 'pip install ".[cpu]" in the folder of vcedge\'s repository'


@pytest.mark.usefixtures("_installed")
def test_code_that_was_only_unpacked_names_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    def lack(name: str) -> NoReturn:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(installing, "distribution", lack)
    assert how_to_install("cpu").startswith('pip install ".[cpu]"')


@pytest.mark.parametrize("extra", ["export", "train"])
def test_pytorch_without_a_gpu_is_the_build_for_cpus(
    extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(installing, "GPU_DEVICES", (str(tmp_path / "none"),))
    assert "build for CPUs first, which brings no CUDA" in how_to_install(extra)
    assert "CUDA" not in how_to_install("cpu")
    monkeypatch.setattr(installing, "GPU_DEVICES", (str(tmp_path),))
    assert "CUDA" not in how_to_install(extra)


def test_the_version_that_is_named_is_that_of_the_constraints() -> None:
    [pinned] = re.findall(r"torch==[\d.]+\d", installing.CPU_TORCH)
    assert pinned in (ROOT / "constraints.txt").read_text().splitlines()


def test_no_message_names_a_package_that_no_registry_has() -> None:
    packages = ("vcedge", "export", "runtime", "calibration")
    files = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    assert len(files) > 100
    naming = [str(path) for path in files if NAMED.search(path.read_text(encoding="utf-8"))]
    assert naming == [str(ROOT / "runtime/vcedge_runtime/installing.py")] or naming == []
