"""Which processors sum up products of bytes exactly, and what ONNX Runtime is told of it."""

from __future__ import annotations

from pathlib import Path

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


@pytest.mark.parametrize("exact", [True, False])
def test_onnxruntime_takes_its_exact_products_where_the_fast_ones_overflow(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Bundle, exact: bool
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    given = []

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc, name-defined]
        def __init__(self, model: bytes, options: object, **others: object) -> None:
            given.append(options)
            super().__init__(model, options, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(processor, "sums_bytes_exactly", lambda: exact)
    graph = tiny_bundle.graphs["encoder"]
    engine.OnnxRuntimeEngine(tiny_bundle.read_graph("encoder"), graph.spec, threads=1).close()
    [options] = given
    chosen = options.get_session_config_entry("session.x64quantprecision")
    assert chosen == ("0" if exact else "1")
