"""The command line as a user meets it: what it prints, where, and its exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import TYPE_CHECKING

import cv2
import pytest

from vcedge.cli import main
from vcedge_runtime.video.palette import write_label_png

if TYPE_CHECKING:
    from vcedge_export.verify import TruthClip

ROOT = Path(__file__).parents[2]
CHECKOUT = os.pathsep.join(str(ROOT / part) for part in ("", "runtime", "export", "calibration"))
# A shell that runs the tests in the background has its children ignore Ctrl-C, nohup SIGHUP.
# What a test has started ends with it, however that ends (PR_SET_PDEATHSIG, Linux).
HEAR_SIGNALS = (
    "import ctypes, sys; sys.platform == 'linux' and ctypes.CDLL(None).prctl(1, 9); "
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL)"
)
SCRIPT = "from vcedge.cli import main; main()"

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(name="run")
def run_fixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    """Run a command in this process, in ``tmp_path``; what C libraries print is caught too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> CompletedProcess[str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        assert isinstance(stop.value.code, int)
        return CompletedProcess("vcedge", stop.value.code, *capfd.readouterr())

    return run


@pytest.fixture
def refuse(run: Run) -> Callable[..., str]:
    """Run a command that a user can mend: exit code 2 and one line, which is returned."""

    def refuse(*arguments: object) -> str:
        done = run(*arguments)
        assert done.returncode == 2, done
        assert "Traceback" not in done.stdout
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("vcedge: ")
        return lines[0]

    return refuse


@pytest.fixture
def launch(tmp_path: Path) -> Callable[..., Popen[str]]:
    """Start a command in a process of its own, in ``tmp_path``, after some other statements."""

    def launch(*arguments: object, before: str = "") -> Popen[str]:
        command = [
            sys.executable,
            "-c",
            f"{HEAR_SIGNALS}\n{before}\n{SCRIPT}",
            *map(str, arguments),
        ]
        # More threads than cores wait for each other, which tiny arrays pay dearly.
        given = {"PYTHONPATH": CHECKOUT, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        environment = {**os.environ, **given}
        return Popen(command, cwd=tmp_path, env=environment, stdout=-1, stderr=-1, text=True)

    return launch


@pytest.fixture
def truth(tiny_clip: TruthClip, tmp_path: Path) -> tuple[object, ...]:
    """Options that verify on four frames of a folder with their masks."""
    frames, masks = tmp_path / "frames", tmp_path / "masks" / "frames"
    frames.mkdir()
    masks.mkdir(parents=True)
    for index, (image, mask) in enumerate(zip(tiny_clip.frames, tiny_clip.masks, strict=True)):
        cv2.imwrite(str(frames / f"{index:05d}.png"), image)
        write_label_png(masks / f"{index:05d}.png", mask)
    return "--clip", frames, "--truth", masks
