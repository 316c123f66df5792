"""The bank of negatives, and the loss that uses it."""

from __future__ import annotations

import math
from collections import deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vcedge.training.negatives import BANK_SIDE, NegativeBank, contrast_loss


def make_keys(*values: float, channels: int = 2, side: int = BANK_SIDE) -> torch.Tensor:
    """Make one map a value, filled with it."""
    return torch.tensor(values)[:, None, None, None].expand(-1, channels, side, side)


@settings(max_examples=25)
@given(capacity=st.integers(1, 7), batches=st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_the_bank_is_first_in_first_out(capacity: int, batches: list[int]) -> None:
    bank, expected, number = NegativeBank(2, capacity), deque[int](maxlen=capacity), 0
    for size in batches:
        numbers = range(number, number + size)
        bank.push(make_keys(*map(float, numbers)), torch.tensor(list(numbers)))
        expected.extend(numbers)
        number += size
    maps, videos = bank.draw(100)
    assert sorted(videos.tolist()) == list(expected)
    # A map stays beside its video; small whole numbers are exact in FP16.
    assert maps[:, 0, 0, 0].tolist() == videos.tolist()


def test_as_many_maps_are_drawn_as_are_wanted_and_none_twice() -> None:
    bank = NegativeBank(2, 8)
    assert len(bank.draw(3)[0]) == 0
    bank.push(make_keys(*map(float, range(6))), torch.arange(6))
    torch.manual_seed(0)
    draws = [bank.draw(3)[1].tolist() for _ in range(30)]
    assert all(len(set(drawn)) == 3 for drawn in draws)
    assert {video for drawn in draws for video in drawn} == set(range(6))


def test_maps_are_averaged_to_one_size_and_carry_no_gradient() -> None:
    bank = NegativeBank(1, 4)
    keys = torch.arange(32.0).expand(1, 1, 32, 32).clone().requires_grad_()
    bank.push(keys, torch.tensor([5]))
    (stored,), videos = bank.draw(1)
    assert stored.shape == (1, BANK_SIDE, BANK_SIDE)
    assert not stored.requires_grad
    torch.testing.assert_close(stored[0, 3], torch.arange(0.5, 32, 2))
    assert videos.tolist() == [5]


def test_the_bank_is_part_of_the_checkpoint() -> None:
    bank, other = NegativeBank(2, 4), NegativeBank(2, 4)
    bank.push(make_keys(1.0, 2.0, 3.0), torch.tensor([7, 8, 9]))
    other.load_state_dict(bank.state_dict())
    for pushed in (bank, other):
        pushed.push(make_keys(4.0, 5.0), torch.tensor([10, 11]))
    assert other.videos.tolist() == [11, 8, 9, 10]
    for name, value in bank.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_the_loss_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    query, positive = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    maps, foreign = torch.randn(5, 4, 2, 2), torch.tensor([[True] * 5, [True, False] * 2 + [True]])
    total = 0.0
    for b in range(2):
        for p in range(3):
            q = query[b, p]
            likenesses = [torch.cosine_similarity(q, positive[b, p], dim=0).item()]
            cells = maps[foreign[b]].flatten(2).transpose(1, 2)
            # Eq. 16: one softmax over the cells of all maps.
            affinity = torch.exp(cells @ q / math.sqrt(4))
            affinity /= affinity.sum()
            unit = torch.nn.functional.normalize(cells, dim=-1)
            for share, cell in zip(affinity, unit, strict=True):
                rebuilt = share @ cell
                likenesses.append((q @ rebuilt / q.norm()).item())
            weights = [math.exp(likeness / 0.1) for likeness in likenesses]
            total -= math.log(weights[0] / sum(weights))
    found = contrast_loss(query, positive, maps, foreign, 0.1)
    # FP32 sums in another order, of cosines that are divided by 0.1.
    assert found.item() == pytest.approx(total / 6, rel=1e-4)


def test_a_map_that_holds_nothing_alike_is_no_negative() -> None:
    query, positive = torch.tensor([[[8.0, 0.0]]]), torch.tensor([[[1.0, 0.0]]])
    alike, unlike = make_keys(8.0, side=2), -make_keys(8.0, side=2)
    both = torch.cat([alike, unlike])
    one, two = (
        contrast_loss(query, positive, maps, torch.ones(1, len(maps), dtype=torch.bool), 0.07)
        for maps in (alike, both)
    )
    # Beside a map that is alike it adds exp(0), not exp of its own likeness.
    own, other = 1 / 0.07, math.cos(math.pi / 4) / 0.07
    expected = math.log1p(math.exp(other - own) + math.exp(-own))
    assert two.item() == pytest.approx(expected, rel=1e-3)
    assert one.item() == pytest.approx(math.log1p(math.exp(other - own)), rel=1e-3)


def test_maps_of_the_own_video_do_not_count() -> None:
    torch.manual_seed(0)
    query, positive, maps = torch.randn(1, 6, 4), torch.randn(1, 6, 4), torch.randn(3, 4, 2, 2)
    foreign = torch.tensor([[True, False, True]])
    found = contrast_loss(query, positive, maps, foreign, 0.07)
    without = contrast_loss(query, positive, maps[[0, 2]], foreign[:, [0, 2]], 0.07)
    assert found.item() == pytest.approx(without.item(), rel=1e-6)
    maps[1] = 50.0
    assert contrast_loss(query, positive, maps, foreign, 0.07).item() == found.item()
    assert contrast_loss(query, positive, maps, ~foreign & False, 0.07).item() == 0


def test_without_negatives_there_is_no_loss_but_a_gradient_of_zero() -> None:
    query = torch.randn(1, 3, 4, requires_grad=True)
    loss = contrast_loss(query, torch.randn(1, 3, 4), torch.zeros(0, 4, 2, 2), torch.zeros(1, 0), 1)
    loss.backward()
    assert loss.item() == 0
    assert query.grad is not None
    assert not query.grad.any()


def test_the_loss_pulls_towards_the_own_feature_and_not_into_the_bank() -> None:
    torch.manual_seed(0)
    query, positive = torch.randn(1, 4, 8, requires_grad=True), torch.randn(1, 4, 8)
    maps, foreign = torch.randn(6, 8, 2, 2, requires_grad=True), torch.ones(1, 6, dtype=torch.bool)
    loss = contrast_loss(query, positive, maps.detach(), foreign, 0.1)
    (gradient,) = torch.autograd.grad(loss, query)
    with torch.no_grad():
        stepped = query - 0.1 * gradient
        assert contrast_loss(stepped, positive, maps, foreign, 0.1) < loss
        before = torch.cosine_similarity(query, positive, dim=-1).mean()
        assert torch.cosine_similarity(stepped, positive, dim=-1).mean() > before
