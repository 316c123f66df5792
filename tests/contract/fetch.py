"""Installs the TensorRT bindings that the contract needs: ``python tests/contract/fetch.py``.

An environment holds one version only, so each has a folder of its own. They are 4 MB in all.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

VERSIONS = {
    "10.3.0": "tensorrt-cu12-bindings",
    "10.16.1.11": "tensorrt-cu12-bindings",
    "11.4.0.106": "tensorrt-cu13-bindings",
}
"""What the TensorRT engine must work with: JetPack 6's version, the last 10 and 11."""
# The compiled module carries no tag of its Python.
FOLDER = Path(__file__).parents[2] / ".bindings" / str(sys.implementation.cache_tag)
COMMAND = "python tests/contract/fetch.py"


def fetch_bindings(version: str) -> bool:
    """Install one version, unless it is there.

    Returns: whether it is there now; a Python or machine without a wheel is no error.
    """
    folder = FOLDER / version
    partial = folder.with_name(f"{version}.partial")
    if folder.is_dir():
        return True
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
    done = subprocess.run(
        [*pip, "--only-binary=:all:", f"--target={partial}", f"{VERSIONS[version]}=={version}"]
    )
    if done.returncode == 0:
        partial.rename(folder)
    return done.returncode == 0


if __name__ == "__main__":
    for wanted in VERSIONS:
        found = "is in" if fetch_bindings(wanted) else "has no wheel for this Python; not in"
        print(f"TensorRT {wanted} {found} {FOLDER}")
