"""Train MER: motion enhancement, value extraction, and the fused loss."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from vcedge.models.affinity import affinity_logits
from vcedge.models.encoder import PROFILES
from vcedge.models.network import KeyNetwork
from vcedge.models.value_extraction import Grid, training_grid
from vcedge.training.corpus import Clips, ClipSettings
from vcedge.training.losses import clip_keys, colourisation_loss, others
from vcedge.training.negatives import NegativeBank, contrast_loss
from vcedge.training.objective import ColourObjective
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.memory.references import ReferencePolicy


@dataclass(frozen=True)
class MerSettings:
    """Free choices of MER; each part of it can be left out.

    Attributes:
        radius: window radius of the reconstruction, in key cells.
        motion: add optical flow to the frames.
        value_extraction: refine keys by the value extraction network.
        weight_map: weigh the reconstruction by the value map (eq. 20).
        contrast: weight of the positive-negative loss (eq. 21's gamma), 0 for none.
        temperature: of the positive-negative loss.
        cells: cells of a clip that it looks at, a step.
        negatives: maps of the bank that it looks at, a step.
        bank: maps that the bank keeps.
    """

    radius: int = 8
    motion: bool = True
    value_extraction: bool = True
    weight_map: bool = True
    contrast: float = 0.03
    temperature: float = 0.07
    cells: int = 64
    negatives: int = 32
    bank: int = 1600

    def __post_init__(self) -> None:
        if self.weight_map and not self.value_extraction:
            raise TrainingError("the weight map is made by the value extraction; keep both or none")
        counts = (self.radius, self.cells, self.negatives, self.bank)
        if min(counts) < 1 or self.contrast < 0 or self.temperature <= 0:
            raise TrainingError(f"received MER settings out of range: {self}")


class MerObjective(ColourObjective):
    """The fused loss of MER (eq. 21) on clips with flow."""

    name = "mer"
    # MER's own references, and two more: measured, see vcedge/weights/RUNS.md.
    composition = MappingProxyType({"memory": ReferencePolicy(short=(8, 5, 3, 2, 1))})
    settings: MerSettings

    def __init__(self, profile: str, settings: MerSettings | None = None) -> None:
        settings = settings or MerSettings()
        network = KeyNetwork(
            PROFILES[profile],
            motion=settings.motion,
            value_extraction=settings.value_extraction,
        )
        super().__init__(network, settings, ClipSettings(flow=settings.motion))
        self.bank = NegativeBank(network.profile.key_dim, settings.bank)
        self._grids: dict[int, Grid] = {}

    def colour_losses(
        self, clips: Clips, channel: int, share: float, teacher: KeyNetwork
    ) -> dict[str, Tensor]:
        """See ``ColourObjective.colour_losses``."""
        raw = clip_keys(self.network.encoder, clips, channel)
        keys, seen = self._extract(raw)
        bias = self.bias(keys.shape[-1], keys.device)
        weight = _weight_map(seen, share) if self.settings.weight_map else None
        stride = self.network.profile.stride
        colour = colourisation_loss(keys, clips.lab[:, :, channel], bias, stride, weight)
        if self.settings.contrast == 0:
            return {"colour": colour}
        contrast = self._contrast(clips, channel, keys, bias, teacher)
        return {"colour": colour, "contrast": self.settings.contrast * contrast}

    def _extract(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, C, h, w) refined keys and (B, T, h, w) value maps, each frame by all others."""
        if self.network.values is None:
            return raw, raw[:, :, 0] * 0
        frames, side = raw.shape[1], raw.shape[-1]
        if side not in self._grids:
            self._grids[side] = training_grid((side, side), raw.device)
        grid = self._grids[side]
        refs = torch.stack([raw[:, others(frames, target)] for target in range(frames)], 1)
        valid = raw.new_ones(raw.shape[0] * frames, frames - 1)
        with torch.autocast(raw.device.type, torch.bfloat16):
            found = self.network.values(raw.flatten(0, 1), refs.flatten(0, 1), valid, grid)
        seen = grid.spread(found.value_map[:, None])[:, 0]
        return found.key.float().reshape(raw.shape), seen.reshape(*raw.shape[:2], side, side)

    def _contrast(
        self, clips: Clips, channel: int, keys: Tensor, bias: Tensor, teacher: KeyNetwork
    ) -> Tensor:
        target = int(torch.randint(keys.shape[1], ()))
        refs = others(keys.shape[1], target)
        picked = torch.randperm(keys.shape[-1] ** 2)[: self.settings.cells].to(keys.device)
        logits = affinity_logits(keys[:, target], keys[:, refs], bias)
        # The rows of the picked cells alone are read.
        features = keys[:, refs].permute(0, 1, 3, 4, 2).flatten(1, 3)
        query = torch.matmul(torch.softmax(logits[:, picked], -1), features)
        own = self._momentum_keys(clips, channel, target, teacher)
        positive = own.flatten(2)[:, :, picked].transpose(1, 2)
        maps, videos = self.bank.draw(self.settings.negatives)
        foreign = videos[None] != clips.video[:, None]
        self.bank.push(own, clips.video)
        return contrast_loss(query, positive, maps, foreign, self.settings.temperature)

    @torch.no_grad()
    def _momentum_keys(
        self, clips: Clips, channel: int, target: int, teacher: KeyNetwork
    ) -> Tensor:
        """(B, C, h, w) keys of one frame of each clip by the moving average of the encoder."""
        teacher.eval()
        one = Clips(clips.lab[:, [target]], clips.flow[:, [target]], clips.video)
        return clip_keys(teacher.encoder, one, channel)[:, 0]


def _weight_map(seen: Tensor, share: float) -> Tensor:
    """Weights |rho - omega| with rho from 0 to 2 over the run (MER, eq. 20), mean 1 in a batch.

    The mean is our choice: otherwise the middle of a run would hardly learn.

    Args:
        seen: (B, T, h, w) value maps in [0, 1].
        share: how much of the run is done, 0 to 1.
    """
    weight = (2 * share - 2 * seen.detach().float()).abs()
    return weight / weight.mean().clamp(min=1e-6)
