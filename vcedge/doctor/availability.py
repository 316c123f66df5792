"""Which commands and back-ends of vcedge work here, and how to mend what does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vcedge.doctor.nvidia import parse_version
from vcedge.doctor.probing import find_version
from vcedge_runtime.installing import LEAST_TENSORRT, how_to_install

COMMANDS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("track, mask, demo, bench, eval, calibrate", "cpu", ("onnxruntime",)),
    ("studio", "studio", ("onnxruntime", "starlette", "uvicorn")),
    ("export, verify: from a bundle", "rewrite", ("onnx",)),
    (
        "export, verify: from weights",
        "export",
        ("torch", "onnx", "onnxscript", "onnxruntime", "safetensors"),
    ),
    ("train", "train", ("torch", "safetensors")),
)
"""Commands, the extra that installs what they need, and what that is."""
CUDA_PROVIDER = "CUDAExecutionProvider"
NO_GPU = "an NVIDIA GPU with its driver"
JETSON_TENSORRT = "sudo apt install python3-libnvinfer (comes with JetPack; pip has none for it)"
JETSON_CUDA = "pip has no onnxruntime-gpu for Jetson; track on TensorRT"


@dataclass(frozen=True)
class Ability:
    """Whether some commands work here.

    Attributes:
        commands: their names, or a back-end's.
        missing: what is not installed or cannot be imported; empty where they work.
        install: the command line that mends it, or why there is none; empty where there is
            nothing to install.
    """

    commands: str
    missing: tuple[str, ...]
    install: str

    @property
    def works(self) -> bool:
        """Nothing is missing."""
        return not self.missing


@dataclass(frozen=True)
class BackEnds:
    """What was found of the ways to run a graph.

    Attributes:
        providers: ONNX Runtime's; empty where it cannot be imported.
        tensorrt: version of TensorRT's Python package.
        gpu: whether there is an NVIDIA GPU with its driver.
        jetson: whether it is a Jetson's.
    """

    providers: Sequence[str]
    tensorrt: str | None
    gpu: bool
    jetson: bool


def check_parts(found: BackEnds) -> tuple[Ability, ...]:
    """Check every command, and the back-ends for a GPU behind the first."""
    track, *others = (
        _check_commands(commands, extra, needs, found) for commands, extra, needs in COMMANDS
    )
    return (track, _check_cuda(found), _check_tensorrt(found), *others)


def _check_commands(commands: str, extra: str, needs: tuple[str, ...], found: BackEnds) -> Ability:
    missing = tuple(
        name
        for name in needs
        if not (found.providers if name == "onnxruntime" else find_version(name))
    )
    return Ability(commands, missing, how_to_install(extra) if missing else "")


def _check_cuda(found: BackEnds) -> Ability:
    install = how_to_install("gpu")
    if found.providers:
        # The two packages write into one folder; the one for CPUs has to go first.
        install = f"pip uninstall -y onnxruntime && {install}"
    if found.jetson:
        install = JETSON_CUDA
    listed = CUDA_PROVIDER in found.providers
    package = () if listed else (f"ONNX Runtime's {CUDA_PROVIDER}",)
    return Ability(
        "track --backend cuda", (*_lacking_gpu(found), *package), "" if listed else install
    )


def _check_tensorrt(found: BackEnds) -> Ability:
    install = JETSON_TENSORRT if found.jetson else how_to_install("tensorrt")
    package: tuple[str, ...] = ()
    if found.tensorrt is None:
        package = ("tensorrt",)
    elif parse_version(found.tensorrt) < LEAST_TENSORRT:
        package = (f"TensorRT {'.'.join(map(str, LEAST_TENSORRT))} or newer",)
    missing = (*_lacking_gpu(found), *package)
    return Ability("track --backend tensorrt", missing, install if package else "")


def _lacking_gpu(found: BackEnds) -> tuple[str, ...]:
    return () if found.gpu else (NO_GPU,)
