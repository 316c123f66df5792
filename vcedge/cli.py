"""The command line: one verb a command, each opened when it is needed."""

from __future__ import annotations

import errno
import importlib
import io
import signal
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import click

from vcedge.standard_output import forget_unwritten, told_output
from vcedge_runtime.errors import MissingExtraError, VcedgeError
from vcedge_runtime.installing import how_to_install
from vcedge_runtime.stopping import Stopped, stoppable
from vcedge_runtime.telling import hide_secrets, make_printable

COMMANDS = {
    "track": ("track", "Follow objects through a video from the mask of its first frame."),
    "batch": ("batch", "Follow objects through many videos, on one machine or on many."),
    "studio": ("studio", "Draw, follow, correct and export objects, on a page in the browser."),
    "mask": ("mask", "Make the mask of a frame from boxes and clicks."),
    "demo": ("demo", "Render a clip, track it and score the result: the first minute."),
    "models": ("models", "List the models that came with vcedge."),
    "inspect": ("inspect_bundle", "Show what a bundle holds."),
    "doctor": ("doctor", "Tell what this machine can do and what is missing."),
    "bench": ("bench", "Measure the speed of every stage."),
    "eval": ("evaluate", "Score masks by a standard protocol."),
    "export": ("export", "Write a bundle: ONNX graphs that are proven to be the model."),
    "import": ("import_weights", "Make a bundle of weights that others published."),
    "verify": ("verify", "Compare a bundle with the model that it came from."),
    "calibrate": ("calibrate", "Record what an INT8 export needs, while video is tracked."),
    "train": ("train_methods", "Train a model, on unlabelled video or on masks."),
}
"""Each command's module in ``vcedge.commands``, which holds it under the name ``command``."""
EXTRAS = {
    "torch": "train",
    "safetensors": "train",
    "onnx": "rewrite",
    "onnxscript": "export",
    "onnxruntime": "cpu",
    "polygraphy": "export",
    "starlette": "studio",
    "uvicorn": "studio",
    "ray": "cluster",
}
"""What to install when a package is missing."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        try:
            loaded = importlib.import_module(f"vcedge.commands.{module}")
        except ImportError as exc:
            raise _missing_extra(cmd_name, exc) from exc
        command: click.Command = loaded.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named; what it misses when it begins is told."""
        try:
            return super().invoke(ctx)
        except ImportError as exc:
            raise _missing_extra(str(ctx.invoked_subcommand), exc) from exc

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vcedge")
def app() -> None:
    """Follow objects through video, from one mask, on the machine at the edge."""


def main(arguments: list[str] | None = None) -> None:
    """Run a command; what a user can mend is one line on the error stream and exit code 2.

    Ctrl-C, SIGTERM and SIGHUP end it once what it wrote is finished, with 128 and their number.
    """
    try:
        _run(arguments)
    finally:
        # What nobody could be told changes no exit code.
        forget_unwritten(sys.stderr)


def _run(arguments: list[str] | None) -> NoReturn:
    try:
        with stoppable(), told_output():
            Path.cwd()  # libraries end the process where it is gone
            code = app.main(arguments, prog_name="vcedge", standalone_mode=False)
    except VcedgeError as exc:
        _end(exc.exit_code, str(exc))
    except click.ClickException as exc:
        shown = io.StringIO()
        exc.show(shown)
        with suppress(OSError):
            click.echo(make_printable(hide_secrets(shown.getvalue())), nl=False, err=True)
        sys.exit(exc.exit_code)
    except (click.Abort, KeyboardInterrupt) as exc:
        # Click says Abort for every KeyboardInterrupt.
        stopped = exc.__cause__ if isinstance(exc, click.Abort) else exc
        if isinstance(stopped, Stopped):
            _end(128 + stopped.number, f"stopped by {stopped}")
        _end(128 + signal.SIGINT, "interrupted")
    except OSError as exc:
        told = _explain(exc)
        if told is None:
            raise
        _end(2, told)
    sys.exit(code if isinstance(code, int) else 0)


def _end(code: int, text: str) -> NoReturn:
    """Say in one line why a command ends, as far as anybody listens."""
    with suppress(OSError):
        # A backend says things in several lines.
        click.echo("vcedge: " + " ".join(line.strip() for line in text.splitlines()), err=True)
    sys.exit(code)


def _explain(error: OSError) -> str | None:
    """What the machine lacks, wherever it was noticed; None where the fault is vcedge's own."""
    if error.errno in _FULL:
        place = f"{error.filename} " if error.filename else ""
        return f"{place}cannot be written ({error.strerror}); free the disk and run again"
    try:
        Path.cwd()
    except OSError:
        return "received a working directory that was deleted; change to another and run again"
    return None


def _explain_opencv() -> str | None:
    """Why OpenCV cannot be imported, and what mends it; None where it can."""
    try:
        import cv2  # noqa: F401
    except ImportError as exc:
        return (
            f"OpenCV cannot be imported ({exc}); run: "
            "pip install --force-reinstall --no-deps opencv-python-headless"
        )
    return None


def _missing_extra(command: str, error: ImportError) -> Exception:
    """Say what a command lacks; an error of another kind is returned as it is."""
    package = (error.name or "").split(".")[0]
    if package not in EXTRAS:
        # It is there and cannot be loaded, where a library of the system is missing.
        lacks = _explain_opencv()
        return MissingExtraError(lacks) if lacks else error
    extra = EXTRAS[package]
    if command in ("export", "import", "verify") and (extra == "train" or find_spec("torch")):
        extra = "export"
    return MissingExtraError(
        f"`vcedge {command}` needs {package}, which is not installed; run: {how_to_install(extra)}"
    )
