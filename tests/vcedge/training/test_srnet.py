"""SRNet's training: its losses, and how a clip is unrolled."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vcedge.training.object_clips import ObjectClip
from vcedge.training.srnet import (
    SRNetObjective,
    absence_loss,
    bootstrapped_cross_entropy,
    dice_loss,
    split_objects,
)
from vcedge.training.srnet_corpus import SRNetSettings
from vcedge_runtime.model.object_composition import LOCALS
from vcedge_runtime.video.masks import VOID

SIZE = 64
# The same network on the same numbers; only batches may differ: float32, about 60 layers.
CLOSE = {"rtol": 1e-3, "atol": 1e-3}


def make_clip(frames: int = 3, objects: int = 2, batch: int = 1) -> ObjectClip:
    """Boxes of a colour of their own that move right, on noise."""
    generator = torch.Generator().manual_seed(0)
    lab = 0.4 * torch.rand(batch, frames, 3, SIZE, SIZE, generator=generator) - 0.2
    ids = torch.zeros(batch, frames, SIZE, SIZE, dtype=torch.uint8)
    for frame in range(frames):
        left = 6 + 6 * frame
        for k in range(objects):
            top = 8 + 24 * k
            ids[:, frame, top : top + 20, left : left + 24] = k + 1
            lab[:, frame, k + 1, top : top + 20, left : left + 24] += 0.7
    return ObjectClip(lab, ids, torch.full((batch,), objects))


def make_objective(*, moved: bool = True, **own: Any) -> SRNetObjective:
    """Make an objective in evaluation mode, by default with offsets that are not zero."""
    torch.manual_seed(0)
    objective = SRNetObjective("srnet-edge", SRNetSettings(**own))
    if moved:
        nn.init.normal_(objective.network.alignment.to_offsets.weight, std=1.0)
        nn.init.normal_(objective.network.alignment.to_modulation.weight, std=1.0)
    return objective.eval()


def unroll(objective: SRNetObjective, clip: ObjectClip) -> Tensor:
    masks = split_objects(clip.ids[:, 0], int(clip.objects.max()))
    with torch.no_grad():
        return objective.unroll(clip.images, masks)


# The losses.


def test_ids_become_a_mask_for_each_object() -> None:
    ids = torch.tensor([[0, 2], [1, 2]], dtype=torch.uint8)[None]
    masks = split_objects(ids, 3)
    assert masks.dtype == torch.float32
    expected = [[[0, 0], [1, 0]], [[0, 1], [0, 1]], [[0, 0], [0, 0]]]
    assert masks.tolist() == [expected]
    assert split_objects(ids, 0).shape == (1, 0, 2, 2)


@pytest.mark.parametrize(("share", "count"), [(1.0, 48), (0.5, 24), (0.15, 7), (1e-6, 1)])
def test_the_cross_entropy_is_that_of_each_frames_hardest_pixels(share: float, count: int) -> None:
    torch.manual_seed(0)
    scores, truth = torch.randn(2, 3, 6, 8), torch.randint(0, 3, (2, 6, 8))
    logs = torch.log_softmax(scores, 1).gather(1, truth[:, None]).flatten(1)
    expected = (-logs).sort(1, descending=True).values[:, :count].mean()
    found = bootstrapped_cross_entropy(scores, truth, share)
    # Means of at most 96 numbers in another order.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_a_perfect_mask_has_no_dice_loss_and_a_missed_one_nearly_one() -> None:
    targets = split_objects(make_clip(objects=2).ids[0], 2)
    assert dice_loss(targets, targets) == 0
    # The 1 that is added is one pixel of at least 480.
    assert dice_loss(1 - targets, targets) == pytest.approx(1, abs=1e-3)
    # What is not there is left to the cross-entropy.
    nothing = torch.zeros(1, 1, 8, 8)
    assert dice_loss(nothing + 0.5, nothing) == 0
    assert dice_loss(
        torch.cat([1 - targets, 1 - targets], 1), torch.cat([targets, 0 * targets], 1)
    ) == dice_loss(1 - targets, targets)


def test_dice_is_averaged_over_objects_whatever_their_size() -> None:
    targets = torch.zeros(1, 2, 16, 16)
    targets[0, 0], targets[0, 1, :2, :2] = 1, 1
    shares = targets.clone()
    shares[0, 1] = 0
    # The small one is missed: 1 - 1 / (4 + 1).
    assert dice_loss(shares, targets) == pytest.approx(0.8 / 2)


def test_losses_have_their_weights_and_grow_with_the_share_of_the_run() -> None:
    clip = make_clip()
    both, half, alone = (make_objective(dice=dice) for dice in (1.0, 0.5, 0.0))
    with torch.no_grad():
        whole, weighted, without = (
            each.losses(clip, 0.0, each.network) for each in (both, half, alone)
        )
        late = both.losses(clip, 1.0, both.network)
    assert whole.keys() == weighted.keys() == {"cross_entropy", "dice"}
    assert without.keys() == {"cross_entropy"}
    assert weighted["dice"].item() == pytest.approx(whole["dice"].item() / 2)
    assert weighted["cross_entropy"] == whole["cross_entropy"] == without["cross_entropy"]
    assert late["cross_entropy"] > 1.1 * whole["cross_entropy"]
    assert late["dice"] == whole["dice"]


def test_a_clip_without_the_second_object_has_finite_losses_and_gradients() -> None:
    clip = make_clip(objects=1)._replace(objects=torch.tensor([2]))
    objective = make_objective().train()
    loss = objective(clip, 1.0, objective.network)
    loss.backward()
    assert loss.isfinite()
    assert loss.dtype == torch.float32
    for name, parameter in objective.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


# Unrolling.


@pytest.mark.parametrize("objects", [1, 2])
@pytest.mark.parametrize("frames", [2, 3, 4])
def test_all_frames_but_the_first_have_logits_of_every_object(objects: int, frames: int) -> None:
    found = unroll(make_objective(), make_clip(frames, objects, batch=2))
    assert found.shape == (2, frames - 1, objects, SIZE, SIZE)
    assert found.isfinite().all()


def test_a_clip_of_a_batch_is_unrolled_as_alone() -> None:
    one, other = make_clip(), make_clip()
    other = other._replace(images=other.images.flip(4), ids=other.ids.flip(3))
    objective = make_objective()
    both = ObjectClip(*(torch.cat(parts) for parts in zip(one, other, strict=True)))
    together = unroll(objective, both)
    torch.testing.assert_close(together[:1], unroll(objective, one), **CLOSE)
    torch.testing.assert_close(together[1:], unroll(objective, other), **CLOSE)


@pytest.mark.parametrize("local", ["off", "raw"])
def test_global_memory_ends_before_the_last_frame(local: str) -> None:
    objective = make_objective(local=local, prototypes=False)
    clip = make_clip(frames=4)
    before = unroll(objective, clip)
    for frame in range(4):
        lab = clip.images.clone()
        lab[:, frame] = lab[:, frame].flip(2, 3)
        after = unroll(objective, clip._replace(images=lab))
        for seen in range(1, 4):
            # Frame 3 reads frames 0 and 1, and frame 2 only as the local memory.
            reads = {seen, *range(max(1, seen - 1))} | ({seen - 1} if local == "raw" else set())
            moved = (after[:, seen - 1] - before[:, seen - 1]).abs().max().item()
            assert (moved > 1e-4) == (frame in reads), (frame, seen, moved)


def test_the_second_frame_has_the_first_as_both_memories() -> None:
    clip = make_clip(frames=3)
    raw, off = (unroll(make_objective(local=local), clip) for local in ("raw", "off"))
    torch.testing.assert_close(raw[:, 0], off[:, 0], **CLOSE)
    assert (raw[:, 1] - off[:, 1]).abs().max() > 1e-3


def test_alignment_changes_nothing_at_the_start_and_something_once_it_has_offsets() -> None:
    clip = make_clip(frames=3)
    raw = unroll(make_objective(local="raw"), clip)
    start = unroll(make_objective(moved=False, local="fam"), clip)
    moved = unroll(make_objective(local="fam"), clip)
    torch.testing.assert_close(start, raw, **CLOSE)
    assert (moved - raw).abs().amax((0, 2, 3, 4)).min() > 1e-3


@pytest.mark.parametrize("local", LOCALS)
def test_local_values_are_mixed_in_as_they_are_read(local: str) -> None:
    clip = make_clip(frames=3)
    alone, still = make_objective(local=local), make_objective(local=local, moved=False)
    for objective in (alone, still):
        with torch.no_grad():
            # Nothing of what was read, and the local values as they are.
            objective.network.mix.weight[:, :256] = 0
            objective.network.mix.weight[:, 256:, 0, 0] = torch.eye(128)
    found = unroll(alone, clip)
    lab = clip.images.clone()
    lab[:, 1] = lab[:, 1].flip(2, 3)
    changed = unroll(alone, clip._replace(images=lab))
    without = make_objective(local=local)
    nn.init.zeros_(without.network.mix.weight)
    assert torch.equal(found, unroll(without, clip)) == (local == "off")
    # They are those of the last frame, bent where they are read bent.
    assert (changed[:, 1] - found[:, 1]).abs().max() > 1e-3
    bent = (unroll(still, clip) - found).abs().amax((0, 2, 3, 4)).min()
    assert bent > 1e-3 if local == "fam" else bent == 0


def test_prototypes_are_of_all_frames_the_last_one_included() -> None:
    clip = make_clip(frames=4)
    without = unroll(make_objective(local="off", prototypes=False), clip)
    objective = make_objective(local="off")
    before = unroll(objective, clip)
    assert (before - without).abs().amax((0, 2, 3, 4)).min() > 1e-2
    lab = clip.images.clone()
    lab[:, 2] = lab[:, 2].flip(2, 3)
    after = unroll(objective, clip._replace(images=lab))
    # Frame 3 reads no frame 2, whose objects make its prototypes all the same.
    assert (after[:, 2] - before[:, 2]).abs().max() > 1e-4
    assert torch.equal(after[:, 0], before[:, 0])


# Learning.


def test_gradients_reach_every_weight() -> None:
    objective = make_objective().train()
    objective(make_clip(), 0.0, objective.network).backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_statistics_stay(frozen: bool) -> None:
    objective = make_objective(frozen=frozen).train()
    before = {name: value.clone() for name, value in objective.network.named_buffers()}
    objective(make_clip(), 0.0, objective.network)
    for name, value in objective.network.named_buffers():
        assert torch.equal(value, before[name]) == frozen, name
    assert objective.training
    assert objective.network.decoder.training
    assert not any(module.training for module in objective.eval().modules())


def test_the_loss_falls_on_one_clip() -> None:
    objective = make_objective(moved=False).train()
    optimiser = torch.optim.Adam(objective.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = objective(make_clip(), 0.0, objective.network)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    # It fell from 2.1 to 0.5 when this was written.
    assert losses[-1] < 0.5 * losses[0]
    assert objective.parts.keys() == {"cross_entropy", "dice"}


# What is away, void, long, or skipped.


def test_what_is_seen_of_an_absent_object_costs_beside_its_former_area() -> None:
    first = torch.zeros(1, 3, 16, 16)
    first[0, 0, :4], first[0, 1, :4] = 1, 1
    targets = torch.stack([torch.zeros(16, 16), first[0, 1], torch.zeros(16, 16)])[None]
    shares = torch.zeros(1, 3, 16, 16)
    assert absence_loss(shares, targets, first) == 0
    # As much as there was of the one that left; the last was never shown, the second is there.
    shares[0, :, 8:12] = 1
    assert absence_loss(shares, targets, first) == pytest.approx(64 / 129)
    assert absence_loss(shares, first, first) == 0


def test_void_costs_nothing_whatever_is_found_there(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, objective = make_clip(objects=1), make_objective(absence=1.0)
    ids = clip.ids.clone()
    ids[:, 1:, 30:] = VOID
    logits = unroll(objective, clip)
    other = logits.clone()
    other[..., 30:, :] = 5
    found = []
    for each in (logits, other):
        monkeypatch.setattr(objective, "unroll", lambda images, masks, each=each: each)
        found.append(objective.losses(clip._replace(ids=ids), 0.0, objective.network))
    assert found[0] == found[1]
    assert set(found[0]) == {"cross_entropy", "dice", "absence"}
    assert all(loss.isfinite() for loss in found[0].values())


def test_frames_that_memory_skips_are_read_by_the_next_frame_alone() -> None:
    clip = make_clip(frames=4)
    whole, skipping = (make_objective(skipped=share) for share in (0.0, 1.0))
    before, after = unroll(whole, clip), unroll(skipping, clip)
    # Frames 1 and 2 read frames 0 and 1 alike; frame 3 lacks frame 1.
    assert torch.equal(before[:, :2], after[:, :2])
    assert (before[:, 2] - after[:, 2]).abs().max() > 1e-3


def test_the_trunk_has_its_own_rate_and_nothing_is_trained_twice() -> None:
    objective = make_objective(trunk_rate=0.2)
    (rest, whole), (trunk, slow) = objective.groups
    assert (whole, slow) == (1.0, 0.2)
    own = {id(parameter) for parameter in objective.network.query.trunk.parameters()}
    assert {id(parameter) for parameter in trunk} == own
    assert len(rest) + len(trunk) == len(list(objective.parameters()))
    assert not own & {id(parameter) for parameter in rest}


def test_the_light_profile_learns_from_its_own_colours_and_leaves_its_statistics() -> None:
    torch.manual_seed(0)
    objective = SRNetObjective("srnet-lite", SRNetSettings(frozen=True)).train()
    before = {n: b.clone() for n, b in objective.named_buffers()}
    loss = objective(make_clip(), 1.0, objective.network)
    loss.backward()
    assert loss.isfinite()
    assert all(torch.equal(buffer, before[name]) for name, buffer in objective.named_buffers())
    without = [n for n, p in objective.named_parameters() if p.grad is None]
    assert without == []
