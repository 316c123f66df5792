"""Rooflines by hand, and the boards against their data sheets."""

from __future__ import annotations

import json

import pytest

from vcedge.bench.roofline import (
    BOARDS,
    COMPUTE_SHARE,
    LIMITS,
    MEMORY_SHARE,
    Board,
    ampere,
    predict,
)
from vcedge.bench.work import GraphWork

BOARD = Board("x", fp32_tflops=1.0, fp16_tflops=8.0, int8_tops=16.0, memory_gbs=100.0)


def work(name: str, macs: float | None, values: float) -> GraphWork:
    return GraphWork(name, 1.0, macs, values, 5.0)


def test_a_graph_that_is_all_arithmetic_takes_its_operations_at_a_share_of_the_peak() -> None:
    # 4 GMAC are 8 GFLOP; of 8 TFLOPS, 40 % are 3.2: 2.5 ms. In FP32 it is eight times that.
    graph = work("encoder", 4e9, 0)
    assert COMPUTE_SHARE == 0.4
    assert BOARD.predict_ms(graph, "fp16") == pytest.approx(2.5)
    assert BOARD.predict_ms(graph, "fp32") == pytest.approx(20.0)


def test_a_graph_that_is_all_traffic_takes_its_bytes_at_a_share_of_the_bandwidth() -> None:
    # 70 million values are 140 MB in FP16; of 100 GB/s, 70 % are 70: 2 ms.
    graph = work("label_readout", 1.0, 70e6)
    assert MEMORY_SHARE == 0.7
    assert BOARD.predict_ms(graph, "fp16") == pytest.approx(2.0)
    assert BOARD.predict_ms(graph, "fp32") == pytest.approx(4.0)


def test_int8_is_for_encoders_and_decoders_alone() -> None:
    assert BOARD.predict_ms(work("mask_decoder", 4e9, 0), "int8") == pytest.approx(1.25)
    assert BOARD.predict_ms(work("memory_read", 4e9, 0), "int8") == pytest.approx(2.5)


def test_a_total_is_the_sum_of_the_graphs_that_are_known() -> None:
    graphs = [work("encoder", 4e9, 0), work("label_readout", 1.0, 70e6), work("other", None, 1e9)]
    found = predict(graphs, BOARD, "fp16")
    assert found.graphs_ms["other"] is None
    assert found.total_ms == pytest.approx(4.5)
    value = json.loads(json.dumps(found.to_json()))
    assert value["predicted_total_ms"] == pytest.approx(4.5)
    assert value["board"]["name"] == "x"


@pytest.mark.parametrize(
    ("name", "fp16_tflops", "int8_tops", "memory_gbs"),
    [
        # What NVIDIA says of them, dense: 17 TFLOPS and 33 TOPS; 19 TFLOPS; half of 170 sparse
        # TOPS; an eighth and a quarter of 2070.
        ("Orin Nano Super", 17, 33, 102),
        ("Orin NX 16GB", 19, None, 102.4),
        ("AGX Orin 64GB", None, 85, 204.8),
        ("Thor T5000", 259, 517, 273),
    ],
)
def test_boards_have_what_their_data_sheets_say(
    name: str, fp16_tflops: float | None, int8_tops: float | None, memory_gbs: float
) -> None:
    board = next(board for board in BOARDS if board.name == name)
    assert board.memory_gbs == memory_gbs
    if fp16_tflops is not None:
        assert board.fp16_tflops == pytest.approx(fp16_tflops, rel=0.03)
    if int8_tops is not None:
        assert board.int8_tops == pytest.approx(int8_tops, rel=0.03)


def test_fp32_of_agx_orin_is_that_of_its_cuda_cores() -> None:
    assert ampere("x", 2048, 1.3, 1.0).fp32_tflops == pytest.approx(5.3, rel=0.01)


def test_the_limits_call_it_a_prediction() -> None:
    assert LIMITS.startswith("predicted, not measured")
    assert "40%" in LIMITS
    assert "70%" in LIMITS
