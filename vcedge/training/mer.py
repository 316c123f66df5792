"""Train MER: motion enhancement, value extraction, and the fused loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from vcedge.models.affinity import affinity_logits
from vcedge.models.encoder import PROFILES
from vcedge.models.network import KeyNetwork
from vcedge.models.value_extraction import FORMER, Grid, ValueSettings, training_grid
from vcedge.training.clusters import cluster_bias
from vcedge.training.corpus import Clips, ClipSettings
from vcedge.training.losses import clip_keys, others
from vcedge.training.negatives import NegativeBank, contrast_loss
from vcedge.training.objective import ColourObjective
from vcedge.training.values import refine_clip, spread_positions, value_maps
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.memory.references import ReferencePolicy
from vcedge_runtime.model.composition import VALUE_FRAMES
from vcedge_runtime.sampling.clusters import ClusterSettings


@dataclass(frozen=True)
class MerSettings:
    """Free choices of MER; each part of it can be left out.

    Attributes:
        radius: window radius of the reconstruction, in key cells.
        motion: add optical flow to the frames.
        alpha: what flow's weight begins with; see ``KeyEncoder``.
        flow_scale: what flow is measured in; see ``FlowScale``.
        flow_gap: to which frame it is; see ``ClipSettings``.
        value_extraction: refine keys by the value extraction network.
        value_frames: by which frame's value map references are refined: ``target`` (eq. 11) or
            their ``own``, which costs less (our choice).
        value_map: how eq. 7 is read; see ``ValueSettings``.
        omega: likewise.
        dropkey: likewise.
        weight_map: weigh the reconstruction by the value map (eq. 20).
        contrast: weight of the positive-negative loss (eq. 21's gamma), 0 for none.
        temperature: of the positive-negative loss.
        cells: cells of a clip that it looks at, a step.
        negatives: maps of the bank that it looks at, a step.
        bank: maps that the bank keeps.
        clusters: K of the multi-cluster sampler (eqs. 13 to 15), 0 for plain windows.
        reach: cells within which it also reads what is of the same cluster; see
            ``ClusterSettings``.
        compact: weight of LIIR's compactness prior, 0 for none.
    """

    radius: int = 8
    motion: bool = True
    alpha: float | None = None
    flow_scale: str = "cell"
    flow_gap: str = "1"
    value_extraction: bool = True
    value_frames: str = "target"
    value_map: str = "static"
    omega: float = 0.6
    dropkey: float = 0.1
    weight_map: bool = True
    contrast: float = 0.03
    temperature: float = 0.07
    cells: int = 64
    negatives: int = 32
    bank: int = 1600
    clusters: int = 0
    reach: int = ClusterSettings.reach
    compact: float = 0.0

    def __post_init__(self) -> None:
        if self.weight_map and not self.value_extraction:
            raise TrainingError("the weight map is made by the value extraction; keep both or none")
        if self.value_frames not in VALUE_FRAMES:
            raise TrainingError(
                f"received value_frames {self.value_frames!r}; expected one of {VALUE_FRAMES}"
            )
        counts = (
            self.radius,
            self.cells,
            self.negatives,
            self.bank,
            1 + self.clusters,
            1 + self.reach,
        )
        weights = self.contrast >= 0 and self.compact >= 0 and self.temperature > 0
        if min(counts) < 1 or not weights:
            raise TrainingError(f"received MER settings out of range: {self}")
        if self.clusters and self.radius < ClusterSettings.radius_min:
            raise TrainingError(
                f"received clusters and a radius of {self.radius}; expected one of at least "
                f"{ClusterSettings.radius_min}, from which the sampler's windows grow"
            )

    @property
    def values(self) -> ValueSettings:
        """Those of the value extraction."""
        return ValueSettings(self.value_map, self.omega, self.dropkey)


class MerObjective(ColourObjective):
    """The fused loss of MER (eq. 21) on clips with flow."""

    name = "mer"
    # MER's own references, and two more: measured, see vcedge/weights/RUNS.md.
    composition: Mapping[str, Any] = MappingProxyType(
        {"memory": ReferencePolicy(short=(8, 5, 3, 2, 1))}
    )
    former = MappingProxyType(
        {"flow_scale": "side", "value_frames": "own", "value_map": FORMER.reading}
    )
    settings: MerSettings

    def __init__(self, profile: str, settings: MerSettings | None = None) -> None:
        settings = settings or MerSettings()
        network = KeyNetwork(
            PROFILES[profile],
            motion=settings.motion,
            value_extraction=settings.value_extraction,
            values=settings.values,
            alpha=settings.alpha,
        )
        clips = ClipSettings(
            flow=settings.motion, flow_scale=settings.flow_scale, flow_gap=settings.flow_gap
        )
        super().__init__(network, settings, clips)
        self.bank = NegativeBank(network.profile.key_dim, settings.bank)
        self._grids: dict[int, Grid] = {}
        ways = {"flow_scale": settings.motion, "value_frames": settings.value_extraction}
        own = {way: getattr(settings, way) for way, trained in ways.items() if trained}
        self.composition = {**type(self).composition, **own}

    def colour_losses(
        self, clips: Clips, channel: int, share: float, teacher: KeyNetwork
    ) -> dict[str, Tensor]:
        """See ``ColourObjective.colour_losses``."""
        settings = self.settings
        raw = clip_keys(self.network.encoder, clips, channel)
        views, seen = self._extract(raw, clips.place)
        biases = self._biases_of(views)
        weight = _weight_map(seen, share) if settings.weight_map else None
        colour = clips.lab[:, :, channel]
        losses = self.reconstruction_losses(colour, views, biases, settings.compact, weight)
        if settings.contrast > 0:
            contrast = self._contrast(clips, channel, views, biases, teacher)
            losses["contrast"] = settings.contrast * contrast
        return losses

    def _extract(self, raw: Tensor, place: Tensor) -> tuple[list[Tensor], Tensor]:
        """Refine the keys of a clip, each frame as the target by all others.

        Args:
            raw: (B, T, C, h, w) keys as the encoder gives them.
            place: (B, T, 2, 3) as ``Clips`` has it.

        Returns:
            By target, the (B, T, C, h, w) keys of all frames; (B, T, h, w) each frame's value map.
        """
        frames, side = raw.shape[1], raw.shape[-1]
        values = self.network.values
        if values is None:
            return [raw] * frames, raw[:, :, 0] * 0
        if side not in self._grids:
            self._grids[side] = training_grid((side, side), raw.device)
        grid = self._grids[side]
        with torch.autocast(raw.device.type, torch.bfloat16):
            maps = value_maps(values, raw, place, grid)
            where = spread_positions(values, place, side)
            tokens = [
                values.map_tokens(raw[:, t], maps[:, t], where[:, t], grid) for t in range(frames)
            ]
            if self.settings.value_frames == "own":
                own = [
                    values.refine(raw[:, t], tokens[t], where[:, t], grid) for t in range(frames)
                ]
                views = [torch.stack(own, 1).float()] * frames
            else:
                views = [refine_clip(values, raw, target, where, grid).float() for target in tokens]
        return views, grid.spread(maps)

    def _biases_of(self, views: Sequence[Tensor]) -> list[Tensor]:
        """By target, where its cells look: the window, or by clusters."""
        keys, settings = views[0], self.settings
        plain = self.bias(keys.shape[-1], keys.device)
        if settings.clusters == 0:
            return [plain] * len(views)
        sampler = ClusterSettings(
            clusters=settings.clusters, radius_max=settings.radius, reach=settings.reach
        )
        return [cluster_bias(view, target, sampler) for target, view in enumerate(views)]

    def _contrast(
        self,
        clips: Clips,
        channel: int,
        views: Sequence[Tensor],
        biases: Sequence[Tensor],
        teacher: KeyNetwork,
    ) -> Tensor:
        target = int(torch.randint(len(views), ()))
        keys, refs = views[target], others(len(views), target)
        picked = torch.randperm(keys.shape[-1] ** 2)[: self.settings.cells].to(keys.device)
        logits = affinity_logits(keys[:, target], keys[:, refs], biases[target])
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
        one = Clips(
            clips.lab[:, [target]], clips.flow[:, [target]], clips.video, clips.place[:, [target]]
        )
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
