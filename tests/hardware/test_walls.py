"""A device with a GPU has no PyTorch: what is tested there must not need it."""

from __future__ import annotations

import os
import subprocess
import sys

BLOCKED = """
import sys
class Wall:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnxscript"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Wall)
import tests.hardware.test_gpu
from vcedge_export.tensorrt import open_whole
from vcedge_export.verify import TruthClip, verify_bundle
print("imported")
"""


def test_the_hardware_tests_need_no_pytorch() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "imported", done.stderr
