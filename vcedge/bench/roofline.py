"""How long the graphs of a frame would take on boards that are not here: a roofline.

A graph takes as long as its arithmetic or its traffic with memory, whichever is longer, at a share
of what the board's data sheet says (Williams, Waterman, Patterson: Roofline, 2009).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vcedge.bench.work import BYTES_OF, GraphWork
from vcedge_runtime.model.bundle import QUANTISED

COMPUTE_SHARE = 0.4
"""Share of the dense peak that a graph is taken to reach (our choice: convolutions of a batch of
one, with few channels, seldom reach half)."""
MEMORY_SHARE = 0.7
"""Share of the memory's bandwidth, likewise (our choice)."""
LIMITS = (
    "predicted, not measured: no vcedge has run on these boards for this table. Each graph takes "
    f"its arithmetic at {COMPUTE_SHARE:.0%} of the board's dense peak or its traffic at "
    f"{MEMORY_SHARE:.0%} of the memory's bandwidth, whichever is longer. Not in it: the start of "
    "each kernel, what passes between the layers of a graph through memory, softmax, sorting and "
    "sampling, other programs, heat; FP32 is without TF32; INT8 is encoders and decoder, the rest "
    "FP16."
)


@dataclass(frozen=True)
class Board:
    """A board by its data sheet, in its fastest power mode.

    Attributes:
        name: the module's.
        fp32_tflops: 10^12 operations a second of its CUDA cores; a multiply-accumulate is two.
        fp16_tflops: of its tensor cores, dense, likewise.
        int8_tops: of its tensor cores, dense, likewise; without its DLA.
        memory_gbs: 10^9 bytes a second from and to memory.
    """

    name: str
    fp32_tflops: float
    fp16_tflops: float
    int8_tops: float
    memory_gbs: float

    def predict_ms(self, graph: GraphWork, precision: str) -> float | None:
        """Milliseconds that a graph takes for a frame; None where its work is not known.

        Args:
            graph: its work.
            precision: ``fp32``, ``fp16``, or ``int8``, which some graphs have.
        """
        if graph.macs is None:
            return None
        own = "fp16" if precision == "int8" and graph.name not in QUANTISED else precision
        peaks = {"fp32": self.fp32_tflops, "fp16": self.fp16_tflops, "int8": self.int8_tops}
        compute_ms = 2 * graph.macs / (peaks[own] * COMPUTE_SHARE) / 1e9
        return max(
            compute_ms, graph.values * BYTES_OF[own] / (self.memory_gbs * MEMORY_SHARE) / 1e6
        )


def ampere(name: str, cores: int, ghz: float, memory_gbs: float) -> Board:
    """Make a board with Orin's GPU: data sheets give its cores, its clock, and sparse INT8 alone.

    A multiprocessor has 128 CUDA cores, each a multiply-accumulate a clock, and 4 tensor cores,
    each 256 of FP16 and 512 of INT8, dense: 2048 sparse operations of INT8 a clock and tensor core
    are what 64 of them at 1.3 GHz need for AGX Orin's 170 sparse TOPS. Beside that stand the 33
    dense TOPS and 17 FP16 TFLOPS of Orin Nano Super, and the 19 FP16 TFLOPS of Orin NX.

    Args:
        name: the module's.
        cores: CUDA cores.
        ghz: the GPU's highest clock.
        memory_gbs: 10^9 bytes a second from and to memory.
    """
    tensor_cores = cores // 32
    return Board(
        name,
        fp32_tflops=2 * cores * ghz / 1000,
        fp16_tflops=2 * 256 * tensor_cores * ghz / 1000,
        int8_tops=2 * 512 * tensor_cores * ghz / 1000,
        memory_gbs=memory_gbs,
    )


BOARDS = (
    # NVIDIA, Jetson Orin Nano Super Developer Kit (data sheet, 2024): 1024 cores, 1020 MHz,
    # 102 GB/s, 67 sparse TOPS.
    ampere("Orin Nano Super", 1024, 1.02, 102.0),
    # NVIDIA, Jetson Orin NX Series (data sheet 1.7) and JetPack 6.2, mode MAXN_SUPER: 1024 cores,
    # 1173 MHz (918 MHz before), 102.4 GB/s.
    ampere("Orin NX 16GB", 1024, 1.173, 102.4),
    # NVIDIA, Jetson AGX Orin Series (technical brief 1.2): 2048 cores, 1.3 GHz, 204.8 GB/s, 5.3
    # FP32 TFLOPS, 170 sparse TOPS of the GPU.
    ampere("AGX Orin 64GB", 2048, 1.3, 204.8),
    # NVIDIA, Jetson Thor (data sheet, 2025): 2560 cores, 1.57 GHz, 273 GB/s, 2070 sparse TFLOPS of
    # FP4. Dense it is half of that, in FP8 a quarter, in FP16 an eighth; INT8 is taken to be as
    # fast as FP8, as on other GPUs of its family.
    Board("Thor T5000", 2 * 2560 * 1.57 / 1000, 2070 / 8, 2070 / 4, 273.0),
)


@dataclass(frozen=True)
class Prediction:
    """One board at one precision.

    Attributes:
        board: what is predicted for.
        precision: of the graphs.
        graphs_ms: milliseconds a frame, by graph; None where its work is not known.
    """

    board: Board
    precision: str
    graphs_ms: dict[str, float | None]

    @property
    def total_ms(self) -> float:
        """All graphs that are known, one after the other."""
        return sum(each for each in self.graphs_ms.values() if each is not None)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "board": asdict(self.board),
            "precision": self.precision,
            "predicted_graphs_ms": self.graphs_ms,
            "predicted_total_ms": self.total_ms,
        }


def predict(graphs: Sequence[GraphWork], board: Board, precision: str) -> Prediction:
    """Predict the graphs of a frame.

    Args:
        graphs: what they take.
        board: where they would run.
        precision: ``fp32``, ``fp16`` or ``int8``.
    """
    return Prediction(
        board, precision, {graph.name: board.predict_ms(graph, precision) for graph in graphs}
    )
