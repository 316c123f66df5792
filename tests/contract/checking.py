"""The contract: what a file uses of TensorRT exists, with that signature, in a version of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MYPY = (
    sys.executable,
    "-m",
    "mypy",
    "--config-file=",
    "--strict",
    "--explicit-package-bases",
    "--follow-imports=silent",
    "--no-pretty",
    "--no-error-summary",
    # All that is installed is Any: NumPy's own types would take most of the time.
    "--no-site-packages",
    "--ignore-missing-imports",
    "--allow-subclassing-any",
    "--no-warn-return-any",
    # Where TensorRT is Any, its user needs what is superfluous here.
    "--no-warn-unused-ignores",
    "--no-warn-redundant-casts",
)


def check_contract(source: Path, stubs: Path) -> list[str]:
    """Check a file against the stubs of one TensorRT version.

    The file is clean where TensorRT is Any, which the project's own mypy run holds; so whatever is
    found with the stubs concerns TensorRT.

    Args:
        source: a Python file.
        stubs: what ``generate_stubs`` wrote; mypy's cache is kept beside it.

    Returns: one line a complaint, ``line: error: ... [code]``; none when the contract holds.

    Raises:
        RuntimeError: mypy itself failed.
    """
    if not (stubs / "tensorrt").is_dir():
        raise RuntimeError(f"received {stubs} without stubs; expected what generate_stubs wrote")
    path = os.pathsep.join(str(folder) for folder in (stubs, ROOT / "runtime"))
    done = subprocess.run(
        [*MYPY, f"--cache-dir={stubs.parent / 'mypy'}", source.resolve()],
        cwd=stubs,
        env=os.environ | {"MYPYPATH": path},
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"mypy failed: {done.stdout}{done.stderr}")
    lines = [line.partition(f"{source.name}:") for line in done.stdout.splitlines()]
    return [complaint for _, _, complaint in lines if ": error: " in complaint]
