"""Empty libraries in place of TensorRT's own: enough to import its bindings."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "getBuilderPluginRegistry",
    "initLibNvInferPlugins",
)
"""What the bindings of 10.3 to 11.4 link to."""
NAMES = ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser")
MAJORS = (10, 11)


def compile_libraries(folder: Path) -> Path:
    """Write the libraries into a folder, under the names that the bindings look for.

    Returns: the folder, for LD_LIBRARY_PATH.

    Raises:
        FileNotFoundError: there is no C compiler.
        subprocess.CalledProcessError: it failed.
    """
    source, library = folder / "empty.c", folder / "empty.so"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in FUNCTIONS))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    for name in NAMES:
        for major in MAJORS:
            shutil.copy(library, folder / f"{name}.so.{major}")
    return folder
