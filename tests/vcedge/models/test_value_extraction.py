"""MER's value extraction: its map, its attention, and its exported form."""

from __future__ import annotations

import io
import logging
import math
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vcedge.models.value_extraction import (
    READINGS,
    FrameValues,
    Grid,
    ValueExtraction,
    ValueSettings,
    training_grid,
)
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.sampling.tokens import TOKENS, WINDOWS, token_grid

KEY_DIM = 16
OPSET = 19


def make_network(gate: float = 0.7, **own: Any) -> ValueExtraction:
    """Make a network whose gate is open and whose position map is not blank."""
    torch.manual_seed(0)
    network = ValueExtraction(KEY_DIM, ValueSettings(**own)).eval()
    with torch.no_grad():
        network.to_out.reset_parameters()
        network.gate.fill_(gate)
        network.position.normal_()
    return network


def draw(grid_hw: tuple[int, int], references: int = 3, batch: int = 2) -> tuple[Tensor, ...]:
    """Draw keys of frames and references, all of them valid."""
    torch.manual_seed(1)
    x = torch.randn(batch, KEY_DIM, *grid_hw)
    refs = torch.randn(batch, references, KEY_DIM, *grid_hw)
    return x, refs, torch.ones(batch, references)


# The gate and the drop.


@pytest.mark.parametrize("training", [False, True])
def test_a_closed_gate_leaves_keys_as_they_are(training: bool) -> None:
    network = make_network(gate=0.0).train(training)
    x, refs, valid = draw((12, 12))
    assert torch.equal(network(x, refs, valid, training_grid((12, 12))).key, x)
    fresh = ValueExtraction(KEY_DIM).train(training)
    assert torch.equal(fresh(x, refs, valid, training_grid((12, 12))).key, x)
    assert fresh.gate.item() == 1


def test_keys_are_dropped_in_training_alone() -> None:
    network, grid = make_network(dropkey=0.5), training_grid((12, 12))
    inputs = (*draw((12, 12)), grid)
    with torch.no_grad():
        calm = network(*inputs).key
        assert torch.equal(network(*inputs).key, calm)
        network.train()
        dropped = [network(*inputs).key for _ in range(2)]
        assert not torch.equal(dropped[0], dropped[1])
        without = make_network(dropkey=0.0).train()
        assert torch.equal(without(*inputs).key, calm)


@pytest.mark.parametrize("dropkey", [-0.1, 1.0])
def test_a_share_of_keys_that_leaves_none_is_refused(dropkey: float) -> None:
    with pytest.raises(TrainingError, match=r"dropkey must be in \[0, 1\)"):
        ValueSettings(dropkey=dropkey)


# The value map (eqs. 7, 8).


def plain_value_map(
    tokens: np.ndarray, references: np.ndarray, reading: str, omega: float
) -> np.ndarray:
    """Count eq. 7 with loops: (C, ty, tx) and (R, C, ty, tx) to (8, 8)."""

    def cut(plane: np.ndarray) -> list[np.ndarray]:
        height, width = plane.shape[1] // WINDOWS, plane.shape[2] // WINDOWS
        return [
            plane[:, y * height : (y + 1) * height, x * width : (x + 1) * width].ravel()
            for y in range(WINDOWS)
            for x in range(WINDOWS)
        ]

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    own = cut(tokens)
    theirs = [cut(reference) for reference in references]
    expected = [
        {
            "static": [cosine(window, reference[place]) for reference in theirs],
            "own": [cosine(window, other) for other in own],
            "literal": [1.0],
        }[reading]
        for place, window in enumerate(own)
    ]
    values = [
        np.mean([cosine(window, other) for reference in theirs for other in reference])
        - omega * np.mean(likeness)
        for window, likeness in zip(own, expected, strict=True)
    ]
    stretched = (np.array(values) - min(values)) / (max(values) - min(values))
    return stretched.reshape(WINDOWS, WINDOWS)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("omega", [0.0, 0.6, 1.0])
def test_the_value_map_is_the_likeness_of_windows(reading: str, omega: float) -> None:
    torch.manual_seed(2)
    tokens, references = torch.randn(1, 5, 16, 8), torch.randn(3, 5, 16, 8)
    found = make_network(reading=reading, omega=omega).value_map(
        tokens, references, torch.ones(1, 3)
    )
    expected = plain_value_map(tokens[0].numpy(), references.numpy(), reading, omega)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-4)


@settings(max_examples=25)
@given(first=st.floats(0, 2), second=st.floats(0, 2), seed=st.integers(0, 99))
def test_omega_as_printed_changes_nothing(first: float, second: float, seed: int) -> None:
    torch.manual_seed(seed)
    tokens, references, valid = torch.randn(1, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.ones(1, 2)
    maps = [
        ValueExtraction(4, ValueSettings("literal", omega)).value_map(tokens, references, valid)
        for omega in (first, second)
    ]
    # Subtracting a constant rounds in FP32 before it is taken out again.
    torch.testing.assert_close(maps[0], maps[1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("reading", ["static", "own"])
def test_omega_as_we_read_it_changes_the_map(reading: str) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(1, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.ones(1, 2)
    maps = [
        ValueExtraction(4, ValueSettings(reading, omega)).value_map(*inputs) for omega in (0.3, 0.9)
    ]
    assert (maps[0] - maps[1]).abs().max() > 0.05


def area_under_curve(values: np.ndarray, positive: np.ndarray) -> float:
    """Share of the pairs of a positive and a negative in which the positive is larger."""
    above = values[positive][:, None] - values[~positive]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def test_windows_of_what_moves_stand_out_by_the_static_reading_alone() -> None:
    rng, side, found = np.random.default_rng(0), 32, {reading: [] for reading in READINGS}
    for _ in range(12):
        # A still background that resembles itself, and an object unlike it that moves.
        common, object_key = rng.standard_normal((2, KEY_DIM, 1, 1))
        still = common + rng.standard_normal((KEY_DIM, side, side))
        frames, places = [], []
        for at in ((4, 4), (12, 12), (20, 8)):
            frame, mask = still + 0.3 * rng.standard_normal(still.shape), np.zeros((side, side))
            area = np.s_[at[0] : at[0] + 8, at[1] : at[1] + 8]
            frame[:, area[0], area[1]] = 1.5 * object_key + rng.standard_normal((KEY_DIM, 8, 8))
            mask[area] = 1
            frames.append(torch.from_numpy(frame).float())
            places.append(mask.reshape(WINDOWS, 4, WINDOWS, 4).mean((1, 3)) > 0.5)
        for reading in READINGS:
            network = ValueExtraction(KEY_DIM, ValueSettings(reading))
            seen = network.value_map(frames[0][None], torch.stack(frames[1:]), torch.ones(1, 2))
            found[reading].append(area_under_curve(seen[0].numpy(), places[0]))
    areas = {reading: float(np.mean(each)) for reading, each in found.items()}
    assert areas["static"] > 0.75
    # As printed, and as we read it before, the background is what is seen.
    assert areas["own"] < 0.5
    assert areas["literal"] < 0.5


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"received reading 'other'.*expected one of"):
        ValueSettings("other")
    with pytest.raises(TrainingError, match="Omega that is not negative"):
        ValueSettings(omega=-0.1)


def test_a_map_is_stretched_over_each_frame_and_blank_frames_are_safe() -> None:
    torch.manual_seed(0)
    tokens, references = torch.randn(3, 4, 8, 8), torch.randn(6, 4, 8, 8)
    found = make_network().value_map(tokens, references, torch.ones(3, 2))
    assert found.amin((1, 2)).tolist() == [0, 0, 0]
    assert found.amax((1, 2)).tolist() == pytest.approx([1, 1, 1])
    blank = make_network().value_map(tokens * 0, references, torch.ones(3, 2))
    assert blank.isfinite().all()


def test_an_empty_place_does_not_count() -> None:
    network, grid = make_network(), training_grid((9, 14))
    x, refs, _ = draw((9, 14), references=4)
    valid = torch.tensor([[1.0, 0.0, 1.0, 0.0]]).expand(2, -1)
    with torch.no_grad():
        found = network(x, refs, valid, grid)
        picked = network(x, refs[:, [0, 2]], torch.ones(2, 2), grid)
        torch.testing.assert_close(found, picked)
        none = network(x, refs, torch.zeros(2, 4), grid)
    assert none.key.isfinite().all()
    assert none.value_map.isfinite().all()


# The attention (eqs. 9 to 12).


def test_the_attention_reads_pooled_values_by_pooled_keys() -> None:
    network, grid = make_network(), training_grid((11, 9))
    x, refs, valid = draw((11, 9), batch=1)
    with torch.no_grad():
        found = network(x, refs, valid, grid)
        place = (grid.up_y @ network.position[0, 0] @ grid.up_x)[None, None]
        seen = (grid.up_y @ found.value_map[0] @ grid.up_x)[None, None]
        mapped = network.encode_map(torch.cat([x, seen], 1)) + place
        keys = network.to_key(grid.pool_y @ mapped @ grid.pool_x)[0].flatten(1)
        values = network.to_value(grid.pool_y @ (x + place) @ grid.pool_x)[0].flatten(1)
        query = network.to_query(x + place)[0].flatten(1)
        attention = torch.softmax(query.T @ keys / math.sqrt(KEY_DIM), -1)
        read = (attention @ values.T).T.reshape(x.shape)
        expected = x + 0.7 * network.to_out(read)
    torch.testing.assert_close(found.key, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("side", "tokens"), [(4, 8), (8, 8), (15, 8), (16, 16), (24, 24), (64, 32)]
)
def test_a_small_grid_has_as_many_tokens_as_cells_allow(side: int, tokens: int) -> None:
    grid = training_grid((side, side))
    assert grid.pool(torch.randn(1, 2, side, side)).shape == (1, 2, tokens, tokens)
    assert grid.spread(torch.randn(1, 1, WINDOWS, WINDOWS)).shape == (1, 1, side, side)


def test_all_its_weights_learn() -> None:
    network = make_network().train()
    x, refs, valid = draw((12, 12))
    found = network(x.requires_grad_(), refs, valid, training_grid((12, 12)))
    (found.key**2).sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.any() or name == "to_key.bias", name
    assert x.grad is not None
    assert x.grad.isfinite().all()


# The exported form.


def frame_inputs(
    grid_hw: tuple[int, int], slots: int, picked: list[int], valid: list[float]
) -> dict[str, Tensor]:
    torch.manual_seed(sum(grid_hw))
    tables = Grid.of(token_grid(grid_hw))._asdict()
    return {
        "x": torch.randn(*grid_hw, KEY_DIM),
        "target": torch.randn(*grid_hw, KEY_DIM),
        "keys": torch.randn(slots, *grid_hw, KEY_DIM),
        "slot_index": torch.tensor(picked),
        "slot_valid": torch.tensor(valid),
        **tables,
    }


@pytest.mark.parametrize("grid_hw", [(9, 14), (40, 33)])
def test_a_frames_form_is_the_network_itself(grid_hw: tuple[int, int]) -> None:
    network = make_network()
    frame = FrameValues(network, 3)
    inputs = frame_inputs(grid_hw, 6, [4, 0, 2], [1.0, 1.0, 0.0])
    inputs["target"] = inputs["x"]
    with torch.inference_mode():
        key, value_map = frame(*inputs.values())
        expected = network(
            inputs["x"].permute(2, 0, 1)[None],
            inputs["keys"][[4, 0]].permute(0, 3, 1, 2)[None],
            torch.ones(1, 2),
            Grid.of(token_grid(grid_hw)),
        )
    torch.testing.assert_close(key, expected.key[0].permute(1, 2, 0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(value_map, expected.value_map[0], atol=1e-5, rtol=1e-5)
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    outputs = {"key": key.numpy(), "value_map": value_map.numpy()}
    assert list(arrays) == [tensor.name for tensor in frame.spec.inputs]
    frame.spec.check_arrays({**arrays, **outputs})


def test_a_reference_is_refined_by_the_targets_map_and_tokens() -> None:
    network, grid = make_network(), Grid.of(token_grid((9, 14)))
    inputs = frame_inputs((9, 14), 6, [4, 0, 2], [1.0, 1.0, 0.0])
    with torch.inference_mode():
        key, value_map = FrameValues(network, 3)(*inputs.values())
        frame, target = (inputs[name].permute(2, 0, 1)[None] for name in ("x", "target"))
        refs = inputs["keys"][[4, 0]].permute(0, 3, 1, 2)[None]
        seen = network(target, refs, torch.ones(1, 2), grid)
        place = grid.spread(network.position)
        tokens = network.map_tokens(target, seen.value_map, place, grid)
        expected = network.refine(frame, tokens, place, grid)[0].permute(1, 2, 0)
    torch.testing.assert_close(value_map, seen.value_map[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(key, expected, atol=1e-5, rtol=1e-5)


def test_a_frames_form_leaves_the_network_in_training() -> None:
    network = make_network().train()
    FrameValues(network, 3)
    assert network.training


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as ONNX, exported at one grid with every length dynamic."""
    pytest.importorskip("onnxscript", reason="it exports the graph")
    frame, path = FrameValues(make_network(), 3), tmp_path_factory.mktemp("values") / "values.onnx"
    inputs = frame_inputs((10, 13), 5, [0, 1, 2], [1.0, 1.0, 1.0])
    shapes = tuple(
        {axis: torch.export.Dim.DYNAMIC for axis, dim in enumerate(t.shape) if isinstance(dim, str)}
        for t in frame.spec.inputs
    )
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            frame.eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=[tensor.name for tensor in frame.spec.outputs],
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("grid_hw", "slots"), [((12, 20), 4), ((36, 45), 7)])
def test_onnx_runtime_gives_what_pytorch_gives(
    graph: Path, grid_hw: tuple[int, int], slots: int
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="it runs the graph")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    inputs = frame_inputs(grid_hw, slots, [3, 1, 0], [1.0, 1.0, 0.0])
    found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    with torch.inference_mode():
        expected = FrameValues(make_network(), 3)(*inputs.values())
    # FP32 sums of up to 1024 tokens in another order.
    for array, tensor in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, tensor.numpy(), atol=1e-4)


@pytest.mark.slow
def test_the_graph_has_no_operator_that_does_not_travel(graph: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="it reads the graph")
    model = onnx.load(graph)
    unwanted = {
        "Einsum",
        "ScatterND",
        "ScatterElements",
        "Resize",
        "GatherND",
        "TopK",
        "Loop",
        "If",
    }
    assert not unwanted & {node.op_type for node in model.graph.node}
    lengths = {
        (value.name, axis)
        for value in model.graph.input
        for axis, dim in enumerate(value.type.tensor_type.shape.dim)
        if dim.HasField("dim_param")
    }
    assert {("x", 0), ("x", 1), ("keys", 0), ("pool_y", 1), ("up_y", 0)} <= lengths
    assert TOKENS == 32
