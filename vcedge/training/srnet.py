"""Train SRNet: frame after frame of a clip is segmented from those before it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vcedge.models.aggregation import aggregate_logits, aggregate_softly
from vcedge.models.memory_readout import read_memory
from vcedge.models.prototypes import cover_cells, prototypes_from_sums, sum_features
from vcedge.models.pyramid import Pyramid
from vcedge.models.srnet import SRNET_PROFILES, Query, SRNet
from vcedge.training.object_clips import ObjectClip
from vcedge.training.objective import Objective, keep_statistics, set_apart
from vcedge.training.srnet_corpus import SRNetSettings
from vcedge_runtime.propagation.prototypes import sine_positions
from vcedge_runtime.video.masks import VOID


class SRNetObjective(Objective):
    """Frames 1, 2, ... of a clip from the ones before, of which only frame 0 has its true masks."""

    name = "srnet"
    network: SRNet
    settings: SRNetSettings

    def __init__(self, profile: str, settings: SRNetSettings | None = None) -> None:
        own = settings or SRNetSettings()
        network = SRNet(SRNET_PROFILES[profile], local=own.local, prototypes=own.prototypes)
        super().__init__(network, own)
        # What is left out gets no gradient, for which several processes would wait.
        if self.settings.local != "fam":
            self.network.alignment.requires_grad_(False)
        if not self.settings.prototypes:
            self.network.prototypes.requires_grad_(False)

    @property
    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """The query encoder's trunk, which may be pretrained, apart from all else."""
        return set_apart(self, self.network.query.trunk, self.settings.trunk_rate)

    def train(self, mode: bool = True) -> SRNetObjective:
        """Enter training or evaluation; frozen statistics stay."""
        super().train(mode)
        if self.settings.frozen:
            keep_statistics(self.network)
        return self

    def losses(self, clips: ObjectClip, share: float, teacher: SRNet) -> dict[str, Tensor]:
        """See ``Objective.losses``."""
        masks = split_objects(clips.ids, int(clips.objects.max()))
        with torch.autocast(clips.images.device.type, torch.bfloat16):
            logits = self.unroll(clips.images, masks[:, 0])
        scores = aggregate_logits(logits.float().flatten(0, 1))
        truth, targets = clips.ids[:, 1:].flatten(0, 1).long(), masks[:, 1:].flatten(0, 1)
        pixels = self.settings.share_of_pixels(share)
        losses = {"cross_entropy": bootstrapped_cross_entropy(scores, truth, pixels)}
        shares = torch.softmax(scores, 1)[:, 1:] * (truth != VOID)[:, None]
        if self.settings.dice:
            losses["dice"] = self.settings.dice * dice_loss(shares, targets)
        if self.settings.absence:
            first = masks[:, :1].expand(-1, logits.shape[1], -1, -1, -1).flatten(0, 1)
            losses["absence"] = self.settings.absence * absence_loss(shares, targets, first)
        return losses

    def unroll(self, images: Tensor, masks: Tensor) -> Tensor:
        """Segment a clip.

        Args:
            images: (B, T, 3, S, S) in the network's input colour.
            masks: (B, K, S, S) float32 of the first frame.

        Returns:
            (B, T - 1, K, S, S) logits of each object's own mask.
        """
        batch, frames = images.shape[:2]
        queries = _split_frames(self.network.query(_channels_last(images)), batch)
        memory = [self._remember(images[:, 0], queries[0], masks)]
        found = []
        for frame in range(1, frames):
            logits = self._segment(queries[frame], memory)
            found.append(logits)
            if frame < frames - 1:
                shares = aggregate_softly(logits.float())[:, 1:]
                if len(memory) > 1 and float(torch.rand(())) < self.settings.skipped:
                    del memory[-1]
                memory.append(self._remember(images[:, frame], queries[frame], shares))
        return torch.stack(found, 1)

    def _remember(self, image: Tensor, query: Query, masks: Tensor) -> _Remembered:
        others = masks.sum(1, keepdim=True) - masks
        seen = {"image": image, **query.frame._asdict()}
        values = self.network.value(seen, masks, others)
        objects = masks.shape[:2]
        sums, weights = sum_features(
            values.flatten(0, 1).float(), cover_cells(masks.flatten(0, 1)[:, None].float())
        )
        return _Remembered(
            query.key, values, sums.unflatten(0, objects), weights.unflatten(0, objects)
        )

    def _segment(self, query: Query, memory: list[_Remembered]) -> Tensor:
        """Logits (B, K, S, S) of the next frame: global memory ends before the last one."""
        network, last = self.network, memory[-1]
        past = memory[:-1] or memory
        read = _read(query, [each.key for each in past], [each.values for each in past])
        near, local = read, torch.zeros_like(read)
        if self.settings.local != "off":
            key, local = last.key, last.values
            if self.settings.local == "fam":
                key, local = network.alignment(query.key, key, local)
            near = _read(query, [key], [local])
        mixed = network.mix.join(*(part.flatten(0, 1) for part in (read, near, local)))
        if self.settings.prototypes:
            sums = torch.stack([frame.sums for frame in memory]).sum(0)
            weights = torch.stack([frame.weights for frame in memory]).sum(0)
            places = torch.from_numpy(
                sine_positions((mixed.shape[2], mixed.shape[3]), mixed.shape[1])
            ).to(mixed.device)
            mixed = network.prototypes(
                mixed, prototypes_from_sums(sums, weights).flatten(0, 1), places
            )
        logits: Tensor = network.decoder(
            mixed.unflatten(0, read.shape[:2]), query.content, query.frame.f8, query.frame.f4
        )
        return logits


class _Remembered(NamedTuple):
    key: Tensor
    values: Tensor
    sums: Tensor
    weights: Tensor


def split_objects(ids: Tensor, objects: int) -> Tensor:
    """(..., S, S) ids to (..., K, S, S) float32 masks of objects 1 to K."""
    numbers = torch.arange(1, objects + 1, device=ids.device)[:, None, None]
    return (ids[..., None, :, :] == numbers).float()


def bootstrapped_cross_entropy(scores: Tensor, truth: Tensor, share: float) -> Tensor:
    """Cross-entropy over the hardest pixels of each frame (STCN, after Pohlen et al. 2017).

    Args:
        scores: (B, K + 1, H, W) float32 log-odds, the background first.
        truth: (B, H, W) int64, 0 to K; what is void costs nothing.
        share: of the pixels that count, above 0 up to 1.

    Returns:
        () float32.
    """
    each = functional.cross_entropy(scores, truth, reduction="none", ignore_index=VOID).flatten(1)
    count = max(1, round(share * each.shape[1]))
    return torch.topk(each, count, dim=1, sorted=False).values.mean()


def dice_loss(shares: Tensor, targets: Tensor) -> Tensor:
    """One minus the Dice coefficient, averaged over objects that are there (Milletari et al. 2016).

    One is added to both sides of the fraction. Of an object that is not there, which the
    cross-entropy sees, the coefficient would be 0 for any trace of it (our choice).

    Args:
        shares: (B, K, H, W) float32, 0 to 1.
        targets: (B, K, H, W) float32, 0 or 1.

    Returns:
        () float32.
    """
    both = (shares * targets).sum((2, 3))
    area = targets.sum((2, 3))
    losses = 1 - (2 * both + 1) / (shares.sum((2, 3)) + area + 1)
    return losses[area > 0].sum() / (area > 0).sum().clamp_min(1)


def absence_loss(shares: Tensor, targets: Tensor, first: Tensor) -> Tensor:
    """How much is seen of objects that are not there, averaged over those (our choice).

    What is seen counts beside the area that the object had when it was shown: as much of it costs a
    half, and any trace a little.

    Args:
        shares: (B, K, H, W) float32, 0 to 1.
        targets: (B, K, H, W) float32, 0 or 1.
        first: (B, K, H, W) float32 mask of each object in its clip's first frame; what that does
            not show is not asked for.

    Returns:
        () float32.
    """
    seen, shown = shares.sum((2, 3)), first.sum((2, 3))
    away = (targets.sum((2, 3)) == 0) & (shown > 0)
    return (seen / (seen + shown + 1))[away].sum() / away.sum().clamp_min(1)


def _read(query: Query, keys: list[Tensor], values: list[Tensor]) -> Tensor:
    """Read T frames, (B, Ck, h, w) keys and (B, K, Cv, h, w) values, to (B, K, Cv, h, w)."""
    objects, channels, height, width = values[0].shape[1:]
    cells = torch.stack(values, 1).permute(0, 1, 4, 5, 2, 3).flatten(1, 3).flatten(2)
    rows = torch.stack(keys, 1).permute(0, 1, 3, 4, 2).flatten(1, 3)
    found = read_memory(query.key.flatten(2).transpose(1, 2), rows, cells)
    planes = found.transpose(1, 2)
    return planes.reshape(-1, objects, channels, height, width)


def _split_frames(queries: Query, batch: int) -> list[Query]:
    """Queries of B clips of T frames, by frame."""
    key, content = (part.unflatten(0, (batch, -1)).unbind(1) for part in queries[:2])
    finer = zip(*(part.unflatten(0, (batch, -1)).unbind(1) for part in queries.frame), strict=True)
    return [Query(k, c, Pyramid(*frame)) for k, c, frame in zip(key, content, finer, strict=True)]


def _channels_last(images: Tensor) -> Tensor:
    return images.flatten(0, 1).contiguous(memory_format=torch.channels_last)
