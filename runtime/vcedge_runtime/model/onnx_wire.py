"""Whether an ONNX file is whole: weights that it names elsewhere are no part of what was hashed.

ONNX Runtime and TensorRT read such weights from wherever the file says, each version by rules of
its own. So the file's bytes are walked before any of them is given it: as little of protobuf's wire
format as finds every tensor, without ``onnx``, which a device does not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vcedge_runtime.errors import BundleError

HOLDERS: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
}
"""Fields of ONNX's messages, by number, below which a tensor may lie."""
TENSOR, EXTERNAL_DATA, DATA_LOCATION = "TensorProto", 13, 14
OPERATORS, DOMAIN, DOMAINS = "NodeProto", 7, (b"", b"ai.onnx")
"""ONNX's own operators; others may be anything, such as a compiled engine in another file."""
MOST_LEVELS, MOST_FIELDS = 100, 2**20
"""Messages within each other, as protobuf itself has it, and fields, which are a second of ours."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_Field = tuple[int, int, int, int]
"""Number, wire type, and from where to where its content lies; of a varint, its value and 0."""


class _WireError(Exception):
    """The bytes are no protobuf."""


def require_whole(model: bytes, name: str) -> None:
    """Refuse a graph that needs more than its own bytes.

    Args:
        model: an ONNX file's bytes.
        name: what the error calls it.

    Raises:
        BundleError: a tensor's values lie elsewhere, an operator is none of ONNX's own, or the
            bytes are no ONNX.
    """
    try:
        for message, number, kind, begin, end in _walk(model):
            elsewhere = number == EXTERNAL_DATA or (number == DATA_LOCATION and begin != 0)
            if message == TENSOR and elsewhere:
                raise BundleError(
                    f"received {name}, whose weights lie in another file; expected all of them in "
                    "this one, whose sha256 the bundle holds; export the bundle again"
                )
            if message == OPERATORS and number == DOMAIN and kind == _BYTES:
                _require_own(model[begin:end], name)
    except _WireError as exc:
        raise BundleError(
            f"received {name}, which is no ONNX file ({exc}); export the bundle again"
        ) from exc


def _require_own(domain: bytes, name: str) -> None:
    if domain not in DOMAINS:
        raise BundleError(
            f"received {name} with an operator of the domain {domain[:40]!r}; expected ONNX's own; "
            "export the bundle again"
        )


def _walk(model: bytes) -> Iterator[tuple[str, int, int, int, int]]:
    """Every field of every message that holds tensors, and of the tensors."""
    seen, levels = 0, [("ModelProto", _read_fields(model, 0, len(model)))]
    while levels:
        message, fields = levels[-1]
        for number, kind, begin, end in fields:
            seen += 1
            yield message, number, kind, begin, end
            inner = HOLDERS.get(message, {}).get(number)
            if kind == _BYTES and inner is not None:
                levels.append((inner, _read_fields(model, begin, end)))
                break
        else:
            levels.pop()
        if len(levels) > MOST_LEVELS or seen > MOST_FIELDS:
            raise _WireError("it is endless")


def _read_fields(model: bytes, at: int, end: int) -> Iterator[_Field]:
    while at < end:
        tag, at = _read_varint(model, at, end)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 2**29:
            raise _WireError(f"a field of number {number}")
        if kind == _VARINT:
            value, at = _read_varint(model, at, end)
            yield number, kind, value, 0
            continue
        length = {_FIXED64: 8, _FIXED32: 4}.get(kind)
        if kind == _BYTES:
            length, at = _read_varint(model, at, end)
        if length is None:
            raise _WireError(f"a field of kind {kind}")
        if length > end - at:
            raise _WireError("it is cut off")
        yield number, kind, at, at + length
        at += length


def _read_varint(model: bytes, at: int, end: int) -> tuple[int, int]:
    """Read a number of up to 64 bits, and where it ends."""
    value = shift = 0
    while at < end and shift < 70:
        byte = model[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise _WireError("a number has no end")
