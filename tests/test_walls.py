"""The floors and walls of the house: who may import whom, and what a device needs."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

from vcedge_runtime.model.bundle import DEFAULT_MODEL

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "vcedge": ROOT / "vcedge",
    "vcedge_export": ROOT / "export" / "vcedge_export",
    "vcedge_runtime": ROOT / "runtime" / "vcedge_runtime",
    "vcedge_calibration": ROOT / "calibration" / "vcedge_calibration",
}
LOWER = {"vcedge_runtime", "vcedge_calibration", "vcedge.models"}
FLOORS: dict[str, set[str]] = {
    "vcedge_runtime": set(),
    "vcedge_calibration": {"vcedge_runtime"},
    "vcedge.models": {"vcedge_runtime"},
    "vcedge.doctor": {"vcedge_runtime"},
    "vcedge.bench": {"vcedge_runtime", "vcedge.doctor"},
    "vcedge.studio": {"vcedge_runtime"},
    "vcedge.fleet": {"vcedge_runtime"},
    # The proof of an export is a score: evaluation is beside it, and knows nobody but the runtime.
    "vcedge_export": LOWER | {"vcedge.evaluation", "vcedge.doctor"},
    "vcedge.training": LOWER,
    "vcedge.evaluation": LOWER,
}
"""What each room may import of ours; the command line, the top floor, may import all of it."""
HEAVY = {
    *("torch", "onnx", "onnxscript", "onnxruntime", "tensorrt", "safetensors", "polygraphy"),
    "ray",
}
CHECKOUT = os.pathsep.join(str(folder.parent) for folder in PACKAGES.values())

TRACK_A_CLIP = """
import importlib, pkgutil, sys
class Wall:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2].split(","):
            raise ImportError(name + " is blocked by the wall test")
sys.meta_path.insert(0, Wall)
import vcedge_runtime
assert vcedge_runtime.__file__.startswith(sys.argv[1]), vcedge_runtime.__file__
for module in pkgutil.walk_packages(vcedge_runtime.__path__, "vcedge_runtime."):
    # TensorRT's engine is imported where there is a TensorRT.
    if not module.name.startswith("vcedge_runtime.engines.tensorrt"):
        importlib.import_module(module.name)
from vcedge_runtime.demo.clip import render_demo_clip
from vcedge_runtime.tracker import Tracker
frames = iter(render_demo_clip(frames=6, frame_hw=(240, 426)))
with Tracker.open(threads=1) as tracker:
    tracker.start(*next(frames))
    for image, labels in frames:
        mask = tracker.step(image).mask
ids = [number for number in range(1, 256) if (labels == number).any()]
same = [((mask == i) & (labels == i)).sum() / ((mask == i) | (labels == i)).sum() for i in ids]
print(min(same))
"""
"""A device; takes the folder that vcedge_runtime must come from, and what is not installed."""

IMPORT_EACH = """
import importlib, sys
for name in sys.argv[1].split(","):
    importlib.import_module(name)
    heavy = sorted(set(sys.argv[2].split(",")) & set(sys.modules))
    if heavy:
        sys.exit(f"importing {name} imported {heavy}")
"""


def _modules() -> dict[str, Path]:
    """Every module of the four packages, by its dotted name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = (package, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def _room(module: str) -> str:
    first, *rest = module.split(".")
    rooms = [room for room in (".".join([first, *rest[:1]]), first) if room in FLOORS]
    return rooms[0] if rooms else "top"


MODULES = _modules()
GROUND = [module for module in MODULES if _room(module) == "vcedge_runtime"]


def _parse(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def _imports(module: str, nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Dotted names that the import statements among ``nodes`` reach."""
    package = module if MODULES[module].stem == "__init__" else module.rpartition(".")[0]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            members = [f"{base}.{alias.name}" for alias in node.names]
            yield from (member if member in MODULES else base for member in members)


def _run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when the module is imported: no function's body, nothing for type checkers."""
    for node in ast.iter_child_nodes(tree):
        is_typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not is_typing and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            yield from _run_at_import(node)


def _run_python(script: str, *arguments: str, path: str) -> str:
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", [name for name in MODULES if _room(name) != "top"])
def test_floors_an_import_goes_down_and_never_up(module: str) -> None:
    room = _room(module)
    reached = {_room(name) for name in _imports(module, ast.walk(_parse(module))) if _is_ours(name)}
    above = reached - FLOORS[room] - {room}
    assert not above, f"{module} imports {sorted(above)}; {room} may import {sorted(FLOORS[room])}"


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in PACKAGES


@pytest.mark.parametrize("module", GROUND)
def test_floors_the_runtime_imports_a_backend_in_the_engine_file_of_its_name_alone(
    module: str,
) -> None:
    engine = module.removeprefix("vcedge_runtime.engines.").partition("_")[0]
    roots = {name.partition(".")[0] for name in _imports(module, ast.walk(_parse(module)))}
    assert not roots & (HEAVY - ({engine} & {"onnxruntime", "tensorrt"}))


def test_floors_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        module: set(_imports(module, _run_at_import(_parse(module)))) & set(MODULES) - {module}
        for module in MODULES
    }
    assert set(TopologicalSorter(graph).static_order()) == set(MODULES)


def test_floors_no_rooms_of_the_runtime_import_each_other_in_a_circle() -> None:
    rooms: dict[str, set[str]] = {}
    for module in GROUND:
        reached = set(_imports(module, ast.walk(_parse(module)))) & set(GROUND)
        rooms.setdefault(_room_of_runtime(module), set()).update(map(_room_of_runtime, reached))
    graph = {room: reached - {room, "vcedge_runtime"} for room, reached in rooms.items()}
    assert set(TopologicalSorter(graph).static_order()) == set(graph)


def _room_of_runtime(module: str) -> str:
    """The folder of the runtime that a module is in, or the module that stands in none."""
    return ".".join(module.split(".")[:2])


def test_importing_the_face_or_the_command_line_imports_nothing_heavy() -> None:
    heavy = ",".join(HEAVY | {"cv2", "numpy", "scipy"})
    assert not _run_python(IMPORT_EACH, "vcedge,vcedge.cli", heavy, path=CHECKOUT)


def test_importing_what_tracks_or_scores_imports_no_backend_and_no_torch() -> None:
    light = {"vcedge_runtime", "vcedge_calibration", "vcedge.evaluation", "vcedge.fleet"}
    # TensorRT's engine derives classes from TensorRT's, and is imported when one is opened.
    own = "vcedge_runtime.engines.tensorrt"
    names = ",".join(n for n in MODULES if _room(n) in light and not n.startswith(own))
    assert not _run_python(IMPORT_EACH, names, ",".join(HEAVY), path=CHECKOUT)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the source distribution, as an installer would."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel; install vcedge[dev]")
    folder = tmp_path_factory.mktemp("dist")
    _build("sdist", ROOT, folder)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        # Python before 3.11.4, which Debian 12 has, knows no filter; ours holds files alone.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(folder)
    _build("wheel", next(path for path in folder.iterdir() if path.is_dir()), folder)
    return next(folder.glob("*.whl"))


def _build(target: str, source: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_the_wheel_holds_every_file_of_the_packages_but_weights_for_training(wheel: Path) -> None:
    expected = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".safetensors")
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == expected
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


def test_the_wheel_is_small_enough_for_a_device(wheel: Path) -> None:
    # 34.6 MB when this was written: 9.8 MB mer-edge, 2.7 MB mer-lite, 2.7 MB dmp-lite, 10.0 MB
    # srnet-lite, 6.1 MB srnet-lite-int8.
    assert wheel.stat().st_size < 40e6


def test_the_wheels_runtime_tracks_a_clip_where_torch_onnx_and_the_other_packages_are_blocked(
    wheel: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime runs the graphs; install vcedge[cpu]")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    if not (tmp_path / "vcedge_runtime" / "models" / DEFAULT_MODEL).is_dir():
        pytest.skip(
            f"vcedge_runtime/models/{DEFAULT_MODEL} is not there: `vcedge export` writes it"
        )
    blocked = ",".join({*PACKAGES, "torch", "onnx"} - {"vcedge_runtime"})
    overlap = float(_run_python(TRACK_A_CLIP, str(tmp_path), blocked, path=str(tmp_path)))
    # The shipped model reached 0.93 when this was written; the first mask, copied, has 0.49.
    assert overlap > 0.85
