"""CUDA through ctypes, on a library that is compiled here and works on the host's memory."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vcedge_runtime.buffers import Block, DeviceArray
from vcedge_runtime.engines import cudart
from vcedge_runtime.engines.cudart import Cuda
from vcedge_runtime.engines.onnxruntime import cuda_of_onnxruntime
from vcedge_runtime.errors import EngineError, MissingExtraError

SOURCE = r"""
#include <stdlib.h>
#include <string.h>
typedef size_t n; typedef void *p;
static int streams = 0, blocks = 0, graphs = 0, launched = 0, locked = 0;
static int capturing = 0, broken = 0, last = 0;
int cudaStreamCreateWithFlags(p *out, unsigned flags) {
    *out = (p)0x51; streams++; return flags == 1 ? broken : 1; }
#ifndef VERSION
#define VERSION 12080
#endif
int cudaRuntimeGetVersion(int *out) { *out = VERSION; return 0; }
int cudaGetLastError(void) { last = 0; return 0; }
int cudaStreamDestroy(p s) { streams--; return s == (p)0x51 ? 0 : 400; }
int cudaStreamSynchronize(p s) { return s == (p)0x51 ? broken : 400; }
int cudaDeviceGetAttribute(int *out, int which, int device) {
    *out = which == 75 ? 8 : which == 76 ? 7 : which == 16 ? 14 : -1; return device ? 101 : 0; }
int cudaMalloc(p *out, n size) {
    if (size > (n)1 << 33) return 2;
    blocks++; *out = malloc(size); return 0; }
int cudaFree(p what) { blocks--; free(what); return 0; }
int cudaHostAlloc(p *out, n size, unsigned flags) {
    if (flags || size > (n)1 << 33) return flags ? 1 : 2;
    locked++; *out = malloc(size); return 0; }
int cudaFreeHost(p what) { locked--; free(what); return 0; }
int cudaMemcpy2DAsync(
    p to, n step, const void *from, n close, n width, n rows, int kind, p s) {
    if (kind != 3 || close < width || step < width) return 21;
    for (n r = 0; r < rows; r++) memcpy((char *)to + r * step, (char *)from + r * close, width);
    return s == (p)0x51 ? 0 : 400; }
int cudaMemcpyAsync(p to, const void *from, n size, int kind, p s) {
    if (kind < 1 || kind > 3) return 21;
    memcpy(to, from, size); return s == (p)0x51 ? 0 : 400; }
int cudaStreamBeginCapture(p s, int mode) {
    if (capturing) return 900;
    capturing = mode == 1; return 0; }
int cudaStreamEndCapture(p s, p *graph) {
    *graph = (p)0x61; return capturing ? (capturing = 0) : 901; }
int cudaGraphInstantiate(p *made, p graph, unsigned long long flags) {
    *made = (p)0x71; graphs++; return graph == (p)0x61 && flags == 0 ? 0 : 1; }
int cudaGraphDestroy(p graph) { return graph == (p)0x61 ? 0 : 1; }
int cudaGraphLaunch(p made, p s) { launched++; return made == (p)0x71 && s == (p)0x51 ? 0 : 1; }
int cudaGraphExecDestroy(p made) { graphs--; return 0; }
const char *cudaGetErrorString(int code) {
    return code == 2 ? "out of memory" : code == 700 ? "an illegal memory access" : "other"; }
int count(int which) {
    return which == 0 ? streams : which == 1 ? blocks : which == 2 ? graphs
        : which == 3 ? launched : locked; }
void break_it(int code) { broken = code; }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler to make a CUDA of; install one as `cc`")
    return str(compile_cuda(tmp_path_factory.mktemp("cuda") / "libcudart.so"))


def compile_cuda(path: Path, version: int = 12080) -> Path:
    """Make a run time of a version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.with_suffix(".c")
    source.write_text(SOURCE)
    command = ["cc", "-shared", "-fPIC", "-w", f"-DVERSION={version}", "-o", path, source]
    subprocess.run(command, check=True)
    return path


@pytest.fixture
def cuda(library: str) -> Iterator[Cuda]:
    opened = Cuda([library])
    yield opened
    opened._library.break_it(0)


def counts(cuda: Cuda) -> list[int]:
    """Streams, blocks of memory and graphs that are held, and launches so far."""
    return [cuda._library.count(which) for which in range(4)]


def test_arrays_go_to_the_device_and_come_back(cuda: Cuda) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    pointer = cuda.allocate(array.nbytes)
    cuda.copy_in(array, pointer)
    back = np.zeros_like(array)
    cuda.copy_out(pointer, back)
    cuda.synchronize()
    np.testing.assert_array_equal(back, array)
    cuda.free(pointer)
    assert counts(cuda)[1] == 0


def test_addresses_of_64_bits_stay_whole(cuda: Cuda) -> None:
    pointer = cuda.allocate(1 << 26)
    assert pointer > 1 << 32
    cuda.free(pointer)


def test_rows_are_spread_on_the_device(cuda: Cuda) -> None:
    target, source = (DeviceArray(cuda, (4, 3, 2)) for _ in range(2))
    target.write(np.zeros((4, 3, 2), np.float32))
    rows = np.arange(8, dtype=np.float32).reshape(4, 1, 2)
    part = DeviceArray(cuda, rows.shape)
    part.write(rows)
    target.put_columns(1, part)
    np.testing.assert_array_equal(target.read()[:, 1], rows[:, 0])
    assert not target.read()[:, ::2].any()
    del target, source, part
    assert counts(cuda)[1] == 0


def test_a_block_holds_page_locked_memory_until_the_last_array_of_it_goes(cuda: Cuda) -> None:
    block = Block((3, 4), cuda)
    kept = block.host[1:]
    assert (cuda._library.count(4), counts(cuda)[1]) == (1, 1)
    del block
    kept[...] = 7
    assert (cuda._library.count(4), counts(cuda)[1]) == (1, 0)
    del kept
    assert cuda._library.count(4) == 0


def test_the_device_is_described(cuda: Cuda) -> None:
    assert (cuda.compute_capability, cuda.multiprocessors) == ((8, 7), 14)


def test_a_recording_is_launched_and_dropped(cuda: Cuda) -> None:
    before, worked = counts(cuda), []
    graph = cuda.record(lambda: worked.append(1))
    assert worked == [1]
    cuda.launch(graph)
    cuda.launch(graph)
    assert counts(cuda)[2:] == [before[2] + 1, before[3] + 2]
    cuda.drop(graph)
    assert counts(cuda)[2] == before[2]


def test_work_that_fails_while_it_is_recorded_ends_the_recording(cuda: Cuda) -> None:
    def fail() -> None:
        raise EngineError("cannot be queued")

    for _ in range(2):
        with pytest.raises(EngineError, match="cannot be queued"):
            cuda.record(fail)
    cuda.drop(cuda.record(lambda: None))


def test_the_stream_goes_with_the_last_user(library: str) -> None:
    cuda = Cuda([library])
    held = counts(cuda)[0]
    other = cuda.share()
    cuda.close()
    assert counts(cuda)[0] == held
    other.close()
    assert counts(cuda)[0] == held - 1


def test_too_little_memory_comes_with_its_mend(cuda: Cuda) -> None:
    with pytest.raises(EngineError, match=r"cudaMalloc failed: out of memory.*lower --size"):
        cuda.allocate(1 << 40)


def test_an_error_that_comes_late_is_told(cuda: Cuda) -> None:
    cuda._library.break_it(700)
    with pytest.raises(EngineError, match="an illegal memory access"):
        cuda.synchronize()


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cudart, "_find_installed", lambda: ())
    with pytest.raises(MissingExtraError, match=r"libno\.so.*it comes with JetPack"):
        Cuda(["libno.so"])


def test_every_function_that_is_called_is_declared(cuda: Cuda) -> None:
    source = Path(cudart.__file__).read_text()
    called = set(re.findall(r'_call\(\s*"(cuda\w+)"|_?library\.(cuda\w+)', source))
    names = {one or other for one, other in called}
    assert {"cudaMalloc", "cudaFree", "cudaGetErrorString"} <= names
    for name in names:
        assert len(getattr(cuda._library, name).argtypes) == len(cudart.FUNCTIONS[name])
    with pytest.raises(ctypes.ArgumentError):
        cuda._library.cudaFree(1.5)


@pytest.mark.parametrize(("generation", "expected"), [(None, 12), (12, 12), (13, 13)])
def test_the_run_time_is_that_which_its_other_user_was_built_with(
    library: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    generation: int | None,
    expected: int,
) -> None:
    for each in (12, 13):
        compile_cuda(tmp_path / f"nvidia/cu{each}/lib/libcudart.so.{each}", 1000 * each)
    monkeypatch.syspath_prepend(tmp_path)
    cuda = Cuda([], generation=generation)
    version = ctypes.c_int()
    cuda._library.cudaRuntimeGetVersion(ctypes.byref(version))
    assert version.value == 1000 * expected
    cuda.close()


def test_a_run_time_that_is_too_old_is_refused(library: str, tmp_path: Path) -> None:
    old = str(compile_cuda(tmp_path / "libcudart.so.11.0", 11040))
    with pytest.raises(MissingExtraError, match=r"libcudart\.so\.11\.0 is version 11"):
        Cuda([old])
    found = Cuda([old, library])
    found.close()


def test_a_library_without_a_function_is_no_run_time(library: str, tmp_path: Path) -> None:
    (tmp_path / "none.c").write_text("int nothing;")
    other = tmp_path / "libcudart.so"
    subprocess.run(["cc", "-shared", "-o", other, tmp_path / "none.c"], check=True)
    with pytest.raises(MissingExtraError, match="cudaRuntimeGetVersion"):
        Cuda([str(other)])


@pytest.mark.parametrize(
    ("installed", "expected"), [((), None), ((12,), 12), ((13,), 13), ((12, 13), None)]
)
def test_tensorrts_package_says_its_cuda(
    monkeypatch: pytest.MonkeyPatch, installed: tuple[int, ...], expected: int | None
) -> None:
    names = {f"tensorrt-cu{each}-bindings" for each in installed}
    monkeypatch.setattr(cudart, "_is_installed", lambda package: package in names)
    assert cudart.cuda_of_tensorrt() == expected


@pytest.mark.parametrize(("told", "expected"), [("12.8", 12), ("13.0", 13), ("", None)])
def test_onnx_runtime_says_its_cuda(
    monkeypatch: pytest.MonkeyPatch, told: str, expected: int | None
) -> None:
    monkeypatch.setattr("onnxruntime.cuda_version", told)
    assert cuda_of_onnxruntime() == expected


def test_a_library_that_pip_installed_is_found(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "nvidia" / "cuda_runtime" / "lib"
    folder.mkdir(parents=True)
    shutil.copy(library, folder / "libcudart.so.12")
    monkeypatch.syspath_prepend(tmp_path)
    found = Cuda(["libno.so"])
    assert found.compute_capability == (8, 7)
    found.close()
