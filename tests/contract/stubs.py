"""Type stubs of a TensorRT version, read from its bindings' docstrings by pybind11-stubgen.

As a script it reads the bindings that its own process can import: no process can hold two versions.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

BINDINGS = "tensorrt_bindings"
"""The compiled package; ``tensorrt`` hands on its names."""
MAY_FAIL = "build_serialized_network|deserialize_cuda_engine|create_execution_context"
"""Methods that return None when they fail, which their signatures do not say."""
REPAIRS = (
    (rf"\b{BINDINGS}\b", "tensorrt"),
    # The module has a data type of this name, which would hide the builtin.
    (r"\bbool\b(?!: (?:tensorrt\.)?DataType)", "builtins.bool"),
    (r"\A(from __future__ .*\n)", r"\1import builtins\nimport collections.abc\n"),
    # pybind11 takes any bound object for a void pointer, a Logger among them.
    (r"\b(?:typing_extensions\.CapsuleType|capsule)\b", "typing.Any"),
    # What a callback receives is an int; and what old pybind11 took was one.
    (r"\btyping\.Supports(Int|Float)\b", lambda found: found[1].lower()),
    (r"(?<=, )(\w+): Dims(?=[,)])", r"\1: Dims | collections.abc.Sequence[int]"),
    # Names and orders of parameters that Python's grammar refuses.
    (r"(?<=, )in(?=: )", "in_"),
    (r"( = None, \w+: \w+)(?=\))", r"\1 = ..."),
    (r"(?m)^class Dims:", "class Dims(_Iterable):"),
    (r"(?m)^class IHostMemory:", "class IHostMemory(_Buffer):"),
    (rf"(def (?:{MAY_FAIL})\(.*\) -> \w+):", r"\1 | None:"),
)
"""What pybind11's docstrings do not say, and what they say about C++ rather than Python."""
PROTOCOLS = """
class _Iterable:
    def __iter__(self) -> typing.Iterator[int]: ...
class _Buffer:
    def __buffer__(self, flags: int, /) -> memoryview: ...
"""


def generate_stubs(bindings: Path, libraries: Path, folder: Path) -> Path:
    """Write ``tensorrt/*.pyi`` of one version into a folder, in a process of its own.

    Args:
        bindings: where the version was installed.
        libraries: what ``compile_libraries`` wrote.
        folder: where the stubs go.

    Returns: the folder, for MYPYPATH.

    Raises:
        RuntimeError: the bindings cannot be imported or read.
    """
    first = {"LD_LIBRARY_PATH": libraries, "PYTHONPATH": bindings}
    paths = {
        name: os.pathsep.join(filter(None, [str(path), os.environ.get(name)]))
        for name, path in first.items()
    }
    done = subprocess.run(
        [sys.executable, __file__, folder],
        env=os.environ | paths,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"no stubs of {bindings.name}: {done.stdout}{done.stderr}")
    return folder


def write_stubs(folder: Path) -> None:
    """Write the stubs of the bindings that this process can import."""
    import pybind11_stubgen

    class ReadPythonNames(pybind11_stubgen.ExtractSignaturesFromPybind11Docstrings):  # type: ignore[misc]
        """Knows the Python name of a class that was bound after the function that takes it."""

        def parse_annotation_str(self, annotation_str: str) -> Any:
            return super().parse_annotation_str(name_in_python(annotation_str))

    pybind11_stubgen.ExtractSignaturesFromPybind11Docstrings = ReadPythonNames
    pybind11_stubgen.main([BINDINGS, "--output-dir", str(folder), "--ignore-all-errors"])
    stubs = (folder / BINDINGS).rename(folder / "tensorrt")
    for path in stubs.glob("*.pyi"):
        text = path.read_text()
        for pattern, repaired in REPAIRS:
            text = re.sub(pattern, repaired, text)
        path.write_text(text + PROTOCOLS if path.stem == "tensorrt" else text)


def name_in_python(annotation: str) -> str:
    """Replace ``nvinfer1::IBuilder`` by the name of the class in Python, ``Builder``."""
    import tensorrt_bindings.tensorrt as module

    def find_name(found: re.Match[str]) -> str:
        names = [found[1], found[1].removeprefix("I")]
        return next((name for name in names if hasattr(module, name)), found[0])

    return re.sub(r"\bnv\w+::(?:v_\d+_\d+::)?(\w+)", find_name, annotation)


if __name__ == "__main__":
    write_stubs(Path(sys.argv[1]))
