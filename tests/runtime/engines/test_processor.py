"""Which processors sum up products of bytes exactly, and what ONNX Runtime is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vcedge_runtime.engines import onnxruntime as engine
from vcedge_runtime.engines import processor
from vcedge_runtime.engines.processor import sums_bytes_exactly
from vcedge_runtime.model.bundle import Bundle

CORE = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu sse4_1 avx2{more}\nbugs\t\t: none\n"


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "exact"),
    [
        ("x86_64", CORE.format(more=" avx512_vnni fma"), True),
        ("AMD64", CORE.format(more=" avx_vnni"), True),
        ("x86_64", CORE.format(more=" avx512f avx512bw"), False),
        ("x86_64", CORE.format(more="\nnote: avx_vnni is not here"), False),
        ("x86_64", "", False),
        ("x86_64", None, False),
        ("aarch64", None, True),
        ("arm64", "", True),
    ],
)
def test_a_processor_is_exact_where_its_flags_say_so(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    machine: str,
    cpuinfo: str | None,
    exact: bool,
) -> None:
    if cpuinfo is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(processor.platform, "machine", lambda: machine)
    assert sums_bytes_exactly(tmp_path) is exact


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The options of each session that is opened."""
    onnxruntime = pytest.importorskip("onnxruntime")
    found: list[Any] = []

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc, name-defined]
        def __init__(self, model: bytes, options: object, **others: object) -> None:
            found.append(options)
            super().__init__(model, options, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return found


def open_one(bundle: Bundle) -> None:
    graph = bundle.graphs["encoder"]
    engine.OnnxRuntimeEngine(bundle.read_graph("encoder"), graph.spec, threads=1).close()


@pytest.mark.parametrize("exact", [True, False])
def test_onnxruntime_takes_its_exact_products_where_the_fast_ones_overflow(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Bundle, given: list[Any], exact: bool
) -> None:
    monkeypatch.setattr(processor, "sums_bytes_exactly", lambda: exact)
    open_one(tiny_bundle)
    [options] = given
    chosen = options.get_session_config_entry("session.x64quantprecision")
    assert chosen == ("0" if exact else "1")


@pytest.mark.parametrize(
    ("version", "brief"),
    [
        ("1.25.3", False),
        ("1.26.0", True),
        ("1.31.1", True),
        ("2.0.0", True),
        ("1.26rc1", True),
        ("1.26+cu12", True),
        ("1.24.0.dev20260101", False),
        ("2", False),
        ("", False),
    ],
)
def test_threads_look_for_work_briefly_or_sleep_at_once(
    monkeypatch: pytest.MonkeyPatch,
    tiny_bundle: Bundle,
    given: list[Any],
    version: str,
    brief: bool,
) -> None:
    monkeypatch.setattr("onnxruntime.__version__", version)
    open_one(tiny_bundle)
    [options] = given
    spins = options.get_session_config_entry("session.intra_op.allow_spinning")
    assert spins == ("1" if brief else "0")
    if brief:
        length = options.get_session_config_entry("session.intra_op.spin_duration_us")
        assert int(length) == processor.SPIN_US
