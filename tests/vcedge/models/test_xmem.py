"""XMem's parts in PyTorch: weighted likeness as one product, and states that are gated."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from vcedge.models.memory_readout import read_logits
from vcedge.models.xmem import KEY_DIM, PyramidUpdate, StateUpdate, compare_weighted
from vcedge.models.xmem_graphs import XMemReadGraph
from vcedge_runtime.errors import ExportError
from vcedge_runtime.memory.long_term import packed_length


def draw_keys(cells: int, seed: int) -> torch.Tensor:
    """Packed keys: of any sign, shrinkage from 1 up, selection from 0 to 1."""
    keys = torch.randn(cells, packed_length(KEY_DIM), generator=torch.Generator().manual_seed(seed))
    keys[:, KEY_DIM] = 1 + keys[:, KEY_DIM].square()
    keys[:, KEY_DIM + 1 :] = torch.sigmoid(keys[:, KEY_DIM + 1 :])
    return keys


def compare_plainly(query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """XMem, eq. 3, as it is written, in float64."""
    query, keys = query.double(), keys.double()
    differences = query[:, None, :KEY_DIM] - keys[None, :, :KEY_DIM]
    weighed = (query[:, None, KEY_DIM + 1 :] * differences.square()).sum(2)
    return -keys[None, :, KEY_DIM] * weighed / KEY_DIM**0.5


def test_likeness_is_the_weighted_distance() -> None:
    query, keys = draw_keys(12, 1), draw_keys(30, 2)
    found = compare_weighted(query, keys, torch.zeros(30))
    # Sums of squares of up to 30, which cancel.
    torch.testing.assert_close(found.double(), compare_plainly(query, keys), rtol=1e-4, atol=1e-4)


def test_a_cell_that_is_not_there_is_not_read_and_exactly_k_are() -> None:
    graph = XMemReadGraph(packed_length(KEY_DIM), 5)
    keys = draw_keys(24, 3).reshape(2, 3, 4, -1)
    values = torch.randn(2, 3, 4, 2, 7, generator=torch.Generator().manual_seed(4))
    query = draw_keys(12, 5).reshape(3, 4, -1)
    valid = torch.ones(2, 3, 4)
    valid[1, 1:] = 0
    found, weights, cells = graph(query, keys, values, torch.tensor([0, 1]), valid)
    there = valid.reshape(-1).bool()
    logits = compare_plainly(query.reshape(12, -1), keys.reshape(24, -1))
    logits = logits.masked_fill(~there, -torch.inf)
    largest, places = logits.topk(5, dim=1)
    expected = torch.softmax(largest, 1)
    torch.testing.assert_close(weights.reshape(12, 5).double(), expected, rtol=1e-3, atol=1e-5)
    assert torch.equal(cells.reshape(12, 5), places)
    rows = values.reshape(24, 14).double()
    content = (expected[:, :, None] * rows[places]).sum(1).reshape(3, 4, 2, 7)
    torch.testing.assert_close(found.double(), content.permute(2, 3, 0, 1), rtol=1e-3, atol=1e-4)


def test_equal_cells_do_not_widen_what_is_read() -> None:
    logits, values = torch.zeros(1, 9), torch.arange(9.0)[:, None]
    plain = read_logits(logits, values, 4)
    assert plain.weights.count_nonzero() == 4
    spared = read_logits(logits, values, 4, 3)
    assert spared.weights.count_nonzero() == 7


def test_a_state_forgets_after_the_new_value_is_made() -> None:
    update = StateUpdate(3, 2)
    seen, hidden = torch.randn(1, 3, 4, 5), torch.randn(1, 2, 4, 5)
    forget, gate, new = update.transform(torch.cat([seen, hidden], 1)).chunk(3, 1)
    kept = torch.sigmoid(forget) * hidden * (1 - torch.sigmoid(gate))
    expected = kept + torch.sigmoid(gate) * torch.tanh(new)
    torch.testing.assert_close(update(seen, hidden), expected)


def test_features_of_three_strides_are_averaged_over_cells() -> None:
    update = PyramidUpdate((2, 3, 4), 5, 2)
    g16, g8, g4 = torch.randn(1, 2, 3, 4), torch.randn(1, 3, 6, 8), torch.randn(1, 4, 12, 16)
    small = [functional.interpolate(each, (3, 4), mode="area") for each in (g8, g4)]
    expected = update.g16_conv(g16) + update.g8_conv(small[0]) + update.g4_conv(small[1])
    torch.testing.assert_close(update.join(g16, g8, g4), expected)


@pytest.mark.parametrize("top_k", [None, 65])
def test_more_than_is_gathered_is_refused(top_k: int | None) -> None:
    with pytest.raises(ExportError, match=f"received top_k={top_k} for XMem; expected 1 to 64"):
        XMemReadGraph(packed_length(KEY_DIM), top_k)
