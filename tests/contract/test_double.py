"""The TensorRT of the tests has nothing that the real ones lack."""

from __future__ import annotations

import ast
import enum
import inspect
from pathlib import Path
from types import FunctionType

import pytest

from tests.runtime.engines import tensorrt_double

OWN = {"Behaviour"}
"""What is for tests alone."""
CLASSES = {
    name: found
    for name, found in vars(tensorrt_double).items()
    if isinstance(found, type) and found.__module__ == tensorrt_double.__name__ and name not in OWN
}


@pytest.fixture
def real(stubs: Path) -> dict[str, ast.ClassDef]:
    """Every class of a version, by name."""
    trees = [ast.parse(path.read_text()) for path in (stubs / "tensorrt").glob("*.pyi")]
    return {n.name: n for tree in trees for n in tree.body if isinstance(n, ast.ClassDef)}


def names_of(found: ast.ClassDef) -> set[str]:
    """Methods, properties and members; those of its bases, which the stubs name, are not needed."""
    names = {node.name for node in found.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def parameters_of(found: ast.ClassDef, method: str) -> list[list[str]]:
    """Names of the parameters of each overload."""
    return [
        [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
        for node in found.body
        if isinstance(node, ast.FunctionDef) and node.name == method
    ]


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_exists_with_every_name_and_parameter(
    name: str, real: dict[str, ast.ClassDef]
) -> None:
    assert name in real
    made = CLASSES[name]
    if issubclass(made, enum.Enum):
        assert set(made.__members__) <= names_of(real[name])
        return
    public = {n: value for n, value in vars(made).items() if not n.startswith("_")}
    functions = {n: value for n, value in public.items() if isinstance(value, FunctionType)}
    properties = {n for n, value in public.items() if isinstance(value, property)}
    assert set(functions) | properties <= names_of(real[name])
    for method, function in functions.items():
        taken = list(inspect.signature(function).parameters)
        overloads = parameters_of(real[name], method)
        assert any(overload[: len(taken)] == taken for overload in overloads), (method, overloads)


def test_every_function_exists(stubs: Path) -> None:
    text = (stubs / "tensorrt" / "__init__.pyi").read_text()
    for path in (stubs / "tensorrt").glob("*.pyi"):
        text += path.read_text()
    assert "def init_libnvinfer_plugins(logger" in text
