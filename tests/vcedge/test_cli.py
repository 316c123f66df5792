"""The command line as a whole: help, usage errors, missing parts, and what ends a command."""

from __future__ import annotations

import importlib
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen
from types import SimpleNamespace
from typing import NoReturn

import click
import pytest

from vcedge.cli import COMMANDS, EXTRAS, main
from vcedge.commands.train_methods import METHODS
from vcedge_runtime.errors import EngineError, VcedgeError
from vcedge_runtime.installing import how_to_install
from vcedge_runtime.model.bundle import Bundle

Run = Callable[..., CompletedProcess[str]]

BLOCK = "import sys; sys.modules[{package!r}] = None"
"""A package that is None there is imported as one that is not installed."""


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException | None], None]:
    """Put a command in the place of ``vcedge doctor`` that ends with an exception."""

    def serve(error: BaseException | None) -> None:
        @click.command()
        def command() -> None:
            if error:
                raise error

        imported = importlib.import_module
        chosen = SimpleNamespace(command=command)
        monkeypatch.setattr(
            importlib,
            "import_module",
            lambda name: chosen if name == "vcedge.commands.doctor" else imported(name),
        )

    return serve


def test_help_lists_every_command_and_imports_none(run: Run) -> None:
    for flag in ("--help", "-h"):
        done = run(flag)
        assert (done.returncode, done.stderr) == (0, "")
        assert re.findall(r"^  ([a-z]+)  ", done.stdout, re.MULTILINE) == list(COMMANDS)


def test_the_package_runs_as_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["-m", "trak"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("vcedge", run_name="__main__")
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("Usage: vcedge ")
    assert "No such command 'trak'" in error


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(run: Run, name: str) -> None:
    done = run(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: vcedge {name}" in done.stdout


EXPLAIN = """
import sys; sys.modules |= dict.fromkeys({blocked!r})
from vcedge.cli import COMMANDS, main
for name in COMMANDS:
    try:
        main([name, "--help"])
    except SystemExit as stop:
        assert stop.code == 0, name
sys.exit()
"""


def test_every_command_explains_itself_where_nothing_heavy_is_installed(
    launch: Callable[..., Popen[str]],
) -> None:
    process = launch(before=EXPLAIN.format(blocked=(*EXTRAS, "tensorrt", "polygraphy", "scipy")))
    said, error = process.communicate(timeout=240)
    assert (process.returncode, error) == (0, "")
    assert re.findall(r"Usage: vcedge ([a-z]+)", said) == list(COMMANDS)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["train", ""], {"base", "mer", "dmp", "srnet", "prompts", "self-labels"}),
        (["export", "--f"], {"--flow-scale", "--fp16", "--frames", "--fusion"}),
        (["verify", "--ba"], {"--backend"}),
    ],
)
def test_a_shell_completes_a_line_where_pytorch_is_missing(
    launch: Callable[..., Popen[str]], line: list[str], words: set[str]
) -> None:
    asked = {"_VCEDGE_COMPLETE": "bash_complete", "COMP_CWORD": str(len(line))}
    asked["COMP_WORDS"] = shlex.join(["vcedge", *line[:-1]]) + f" {line[-1]}"
    block = BLOCK.format(package="torch")
    process = launch(before=f"{block}; import os; os.environ.update({asked!r})")
    said, error = process.communicate(timeout=240)
    assert error == ""
    assert {word.partition(",")[2] for word in said.splitlines()} == words


def test_the_methods_of_training_are_those_that_there_are() -> None:
    pytest.importorskip("torch")
    from vcedge.commands.train import command

    assert list(command.commands) == list(METHODS)


def test_no_command_shows_the_help(run: Run) -> None:
    done = run()
    assert "Commands:" in done.stdout + done.stderr
    assert done.returncode in (0, 2)  # click before 8.2 says 0


@pytest.mark.parametrize(
    ("arguments", "mend"),
    [
        (["trak"], "No such command 'trak'"),
        (["track"], "Missing argument 'SOURCE'"),
        (["train", "mer"], "Missing option '--videos'"),
        (["track", "clip.mp4", "--mask", "a.png", "--frames", "0"], "not in the range x>=1"),
        (["track", "clip.mp4", "--mask", "a.png", "--colour"], "No such option"),
        (["demo", "--objects", "9"], "not in the range 1<=x<=6"),
        (["eval", "coco"], "No such command 'coco'"),
    ],
)
def test_a_usage_error_names_the_mend_and_exits_with_2(
    run: Run, arguments: list[str], mend: str
) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert mend in done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_user_can_mend_is_one_line(
    refuse: Callable[..., str], serve: Callable[..., None]
) -> None:
    serve(VcedgeError("received this; expected that; do so"))
    assert refuse("doctor") == "vcedge: received this; expected that; do so"


def test_what_a_backend_says_in_several_lines_becomes_one(
    refuse: Callable[..., str], serve: Callable[..., None]
) -> None:
    serve(EngineError("ONNX Runtime cannot load it:\n\tno such operator\n"))
    assert refuse("doctor") == "vcedge: ONNX Runtime cannot load it: no such operator"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interruption_exits_with_130(
    run: Run, serve: Callable[..., None], error: BaseException
) -> None:
    serve(error)
    done = run("doctor")
    assert done.returncode == 130
    assert done.stderr.strip() == "vcedge: interrupted"  # click ends the terminal's ^C line first


def test_a_command_that_ends_well_exits_with_0_and_one_that_judges_with_its_verdict(
    run: Run, serve: Callable[..., None]
) -> None:
    serve(None)
    assert run("doctor").returncode == 0
    serve(click.exceptions.Exit(1))
    assert run("doctor").returncode == 1


def test_a_defect_of_ours_is_not_passed_off_as_a_users_mistake(serve: Callable[..., None]) -> None:
    serve(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])


@pytest.mark.parametrize("package", EXTRAS)
def test_every_package_that_may_be_missing_has_its_extra(
    refuse: Callable[..., str], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    def lack(name: str) -> NoReturn:
        raise ModuleNotFoundError(name=f"{package}.part")

    monkeypatch.setattr(importlib, "import_module", lack)
    assert refuse("doctor").endswith(f"run: {how_to_install(EXTRAS[package])}")
    assert refuse("export").endswith(f"run: {how_to_install('export')}")


def test_a_machine_without_pytorch_is_not_told_to_get_it(
    refuse: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lack(name: str) -> NoReturn:
        raise ModuleNotFoundError(name="onnx")

    monkeypatch.setattr(importlib, "import_module", lack)
    monkeypatch.setitem(sys.modules, "torch", None)
    for command in ("export", "verify"):
        assert refuse(command).endswith(f"run: {how_to_install('rewrite')}")


@pytest.mark.parametrize("reason", ["No module named 'cv2'", "libGL.so.1: cannot open shared"])
def test_an_opencv_that_cannot_be_imported_is_one_line(
    launch: Callable[..., Popen[str]], tmp_path: Path, reason: str
) -> None:
    (tmp_path / "cv2.py").write_text(f"raise ImportError({reason!r})")
    for command in ("doctor", "track"):
        process = launch(command, "clip.mp4", before="import sys; sys.path.insert(0, '')")
        _, error = process.communicate(timeout=120)
        assert process.returncode == 2
        assert error == (
            f"vcedge: OpenCV cannot be imported ({reason}); run: pip install --force-reinstall "
            "--no-deps opencv-python-headless\n"
        )


def test_a_module_of_ours_that_is_missing_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    def lack(name: str) -> NoReturn:
        raise ModuleNotFoundError(name="vcedge.commands.doctor")

    monkeypatch.setattr(importlib, "import_module", lack)
    with pytest.raises(ModuleNotFoundError):
        main(["doctor"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (["train", "base", "--videos", "."], "torch", "train"),
        (["train", "base", "--videos", "."], "safetensors", "train"),
    ],
)
def test_a_missing_extra_names_its_pip_install(
    launch: Callable[..., Popen[str]],
    tmp_path: Path,
    arguments: list[str],
    package: str,
    extra: str,
) -> None:
    process = launch(*arguments, before=BLOCK.format(package=package))
    _, error = process.communicate(timeout=240)
    assert process.returncode == 2, error
    command, *_ = arguments
    assert error == (
        f"vcedge: `vcedge {command}` needs {package}, which is not installed; "
        f"run: {how_to_install(extra)}\n"
    )
    assert not list(tmp_path.iterdir())


def test_tracking_without_onnx_runtime_names_its_pip_install(
    refuse: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tiny_bundle: Bundle
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert refuse("demo", "--model", tiny_bundle.folder).endswith(f"run: {how_to_install('cpu')}")
    assert not list(Path().iterdir())


def test_the_version_is_the_installed_one(run: Run) -> None:
    metadata = pytest.importorskip("importlib.metadata")
    try:
        version = metadata.version("vcedge")
    except metadata.PackageNotFoundError:
        pytest.skip("vcedge is not installed, so that it has no version")
    assert version in run("--version").stdout
