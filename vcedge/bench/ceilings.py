"""What this machine can do at most: the speed of a matrix product and of a copy."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np

from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vcedge_runtime.errors import MissingExtraError
from vcedge_runtime.model.spec import GraphSpec, TensorSpec

PRODUCT_SIDE = 2048
COPY_BYTES = 256 * 10**6
"""Far beyond any cache (our choice); a stage whose data stay in a cache may be faster."""
REPEATS = 5
PRODUCT_SPEC = GraphSpec(
    "product",
    (TensorSpec("left", "float32", ("m", "k")), TensorSpec("right", "float32", ("k", "n"))),
    (TensorSpec("product", "float32", ("m", "n")),),
)
PRODUCT_MODEL = base64.b64decode(
    "CAk6ewoeCgRsZWZ0CgVyaWdodBIHcHJvZHVjdCIGTWF0TXVsEgdwcm9kdWN0WhgKBGxlZnQSEAoOCAESCgoDEgFtCgMS"
    "AWtaGQoFcmlnaHQSEAoOCAESCgoDEgFrCgMSAW5iGwoHcHJvZHVjdBIQCg4IARIKCgMSAW0KAxIBbkIECgAQEw=="
)
"""An ONNX file of one MatMul, opset 19: the runtime has no package that could write it."""
_THREAD_VARIABLES = ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB_MAXIMUM")


@dataclass(frozen=True)
class Ceilings:
    """The machine's best, measured; a stage can be held against it.

    Attributes:
        threads: how many took part.
        matmul_gflops: 10^9 operations a second of a float32 matrix product, in numpy or in ONNX
            Runtime, whichever is faster; a multiply-accumulate is two.
        copy_gbs: 10^9 bytes a second that a copy moves, reading and writing each counted.
    """

    threads: int
    matmul_gflops: float
    copy_gbs: float


def measure_ceilings(
    threads: int, *, side: int = PRODUCT_SIDE, copy_bytes: int = COPY_BYTES
) -> Ceilings:
    """Measure in a process of its own, because numpy takes its threads when it is first imported.

    Args:
        threads: how many take part, at least 1.
        side: of the square matrices.
        copy_bytes: how much is copied.
    """
    limits = {f"{name}_NUM_THREADS": str(threads) for name in _THREAD_VARIABLES}
    arguments = [str(number) for number in (threads, side, copy_bytes)]
    finished = subprocess.run(
        [sys.executable, "-m", "vcedge.bench.ceilings", *arguments],
        env={**os.environ, **limits, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        check=True,
    )
    return Ceilings(**json.loads(finished.stdout))


def _measure_here(threads: int, side: int, copy_bytes: int) -> Ceilings:
    return Ceilings(
        threads,
        matmul_gflops=2 * side**3 / _product_seconds(threads, side) / 1e9,
        copy_gbs=2 * copy_bytes / _copy_seconds(threads, copy_bytes) / 1e9,
    )


def open_product_engine(threads: int) -> OnnxRuntimeEngine:
    """Open a matrix product in ONNX Runtime; its graph is ``PRODUCT_SPEC``.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    return OnnxRuntimeEngine(PRODUCT_MODEL, PRODUCT_SPEC, threads=threads)


def _product_seconds(threads: int, side: int) -> float:
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((side, side), np.float32) for _ in range(2))
    product = np.empty_like(left)
    best = _best_seconds(lambda: np.matmul(left, right, out=product))
    try:
        engine = open_product_engine(threads)
    except MissingExtraError:
        return best
    inputs, out = {"left": left, "right": right}, {"product": product}
    return min(best, _best_seconds(lambda: engine.run(inputs, out)))


def _copy_seconds(threads: int, copy_bytes: int) -> float:
    source, target = (np.ones(copy_bytes, np.uint8) for _ in range(2))
    pieces = [
        (target[piece], source[piece])
        for piece in (
            slice(copy_bytes * i // threads, copy_bytes * (i + 1) // threads)
            for i in range(threads)
        )
    ]
    with ThreadPoolExecutor(threads) as pool:
        return _best_seconds(lambda: list(pool.map(lambda pair: np.copyto(*pair), pieces)))


def _best_seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    print(json.dumps(asdict(_measure_here(*map(int, sys.argv[1:])))))
