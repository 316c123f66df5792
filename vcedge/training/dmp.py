"""Train DMP: a gated memory within each clip, three predictions that are fused by their loss."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from vcedge.models.affinity import affinity_logits, read_values
from vcedge.models.encoder import PROFILES
from vcedge.models.network import KeyNetwork
from vcedge.training.corpus import Clips, ClipSettings
from vcedge.training.gates import memory_bias
from vcedge.training.losses import (
    COLOUR_SCALE,
    cell_colours,
    clip_keys,
    colourisation_loss,
    others,
)
from vcedge.training.objective import ColourObjective
from vcedge.training.regions import cluster_batch, enhance_batch, match_bias, mix_batch
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.memory.dynamic import DynamicPolicy

LOSS_FLOOR = 1e-3
"""Added to a branch's loss before it is inverted (our choice), for Lab from -1 to 1."""


@dataclass(frozen=True)
class DmpSettings:
    """Free choices of DMP.

    Attributes:
        radius: window radius of the reconstruction, in key cells.
        frames: frames of a clip.
        plain: share of the run, at its beginning, that is colourisation alone: gates and regions
            mean nothing on random features.
        beta: distance of positions below which a frame is in short-term memory.
        gamma: agreement above which a far frame is in long-term memory.
        eta: weight of a region's mean in a key.
        eta_values: the same in the forward prediction.
        enhanced: whose values it is mixed into: those of the ``memory`` that is read, or the
            ``query``'s that are predicted.
        backward: ``column``: the backward prediction is a softmax over the target's cells, rows
            normalised; ``plain``: over the memory's, as the preset ``dmp-as-printed`` reads.
        branch_weight: of the forward and the backward prediction's own losses.
    """

    radius: int = 8
    frames: int = 4
    plain: float = 0.4
    beta: float = 0.15
    gamma: float = 0.85
    eta: float = 0.5
    eta_values: float = 0.2
    enhanced: str = "query"
    backward: str = "column"
    branch_weight: float = 0.5

    def __post_init__(self) -> None:
        shares = (self.plain, self.beta, self.gamma, self.eta_values)
        counts = self.frames >= 3 and self.radius >= 1
        weights = self.eta >= 0 and self.branch_weight >= 0
        if not (counts and weights and all(0 <= share <= 1 for share in shares)):
            raise TrainingError(f"received DMP settings out of range: {self}")
        if self.enhanced not in ("memory", "query"):
            raise TrainingError(f"received enhanced {self.enhanced!r}; expected memory or query")
        if self.backward not in ("column", "plain"):
            raise TrainingError(f"received backward {self.backward!r}; expected column or plain")


class DmpObjective(ColourObjective):
    """Fused, forward and backward reconstruction of the first and the last frame of a clip."""

    name = "dmp"
    # Other gates than in training: measured, see vcedge/weights/RUNS.md.
    composition = MappingProxyType(
        {"memory": DynamicPolicy(beta=0.2, gamma=0.75, long_probe="single")}
    )
    former = MappingProxyType({"enhanced": "memory"})
    settings: DmpSettings

    def __init__(self, profile: str, settings: DmpSettings | None = None) -> None:
        settings = settings or DmpSettings()
        clips = ClipSettings(frames=settings.frames)
        super().__init__(KeyNetwork(PROFILES[profile]), settings, clips)

    def colour_losses(
        self, clips: Clips, channel: int, share: float, teacher: KeyNetwork
    ) -> dict[str, Tensor]:
        """See ``ColourObjective.colour_losses``."""
        keys = clip_keys(self.network.encoder, clips, channel)
        colour = clips.lab[:, :, channel]
        stride = self.network.profile.stride
        bias = self.bias(keys.shape[-1], keys.device)
        if share < self.settings.plain:
            frames = keys.shape[1]
            return {"colour": colourisation_loss([keys] * frames, colour, [bias] * frames, stride)}
        values = cell_colours(colour, stride)
        ends = [self._branches(keys, values, t, bias) for t in (0, keys.shape[1] - 1)]
        fused, forward, backward = (torch.stack(parts).mean() for parts in zip(*ends, strict=True))
        weight = self.settings.branch_weight
        return {"fused": fused, "forward": weight * forward, "backward": weight * backward}

    def _branches(
        self, keys: Tensor, values: Tensor, target: int, bias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Losses of the fused, the forward and the backward prediction of one frame."""
        settings = self.settings
        refs = others(keys.shape[1], target)
        query, memory, carried = keys[:, target], keys[:, refs], values[:, refs]
        regions = cluster_batch(query)
        memory_regions = cluster_batch(memory.flatten(0, 1))
        matched = match_bias(regions, memory_regions, settings.radius)
        admitted = memory_bias(keys, values, target, bias, settings.beta, settings.gamma)
        logits = affinity_logits(query, memory, bias) + admitted
        near = enhance_batch(query, regions, settings.eta)
        far = enhance_batch(memory.flatten(0, 1), memory_regions, settings.eta)
        drawn = affinity_logits(near, far.reshape(memory.shape), bias)
        given = carried
        if settings.enhanced == "memory":
            mixed = mix_batch(carried.flatten(0, 1), memory_regions, settings.eta_values)
            given = mixed.reshape(carried.shape)
        forward = read_values(drawn + admitted + matched, given)
        if settings.enhanced == "query":
            forward = mix_batch(forward, regions, settings.eta_values)
        back = logits + matched
        if settings.backward == "column":
            back = backward_logits(back)
        predictions = [read_values(logits, carried), forward, read_values(back, carried)]
        errors = [nn.functional.smooth_l1_loss(p, values[:, target]) for p in predictions]
        weights = fusion_weights(
            torch.stack([_lab_loss(p, values[:, target]) for p in predictions])
        )
        fused = sum(w * p for w, p in zip(weights, predictions, strict=True))
        assert isinstance(fused, Tensor)
        return nn.functional.smooth_l1_loss(fused, values[:, target]), errors[1], errors[2]


def backward_logits(logits: Tensor) -> Tensor:
    """Logits whose row softmax is the column softmax, rows normalised (DMP, backward prediction).

    Args:
        logits: (B, n, m) of n cells of the target and m of memory, masked ones below -5e3.
    """
    return logits - torch.logsumexp(logits, dim=1, keepdim=True).clamp(min=-5e3)


def fusion_weights(losses: Tensor) -> Tensor:
    """Weights of the branches from their losses, without a gradient (DMP; the guard is ours).

    Args:
        losses: (branches,) photometric losses, of Lab from -1 to 1.

    Returns:
        (branches,) inverse losses, each between 0.05 and 0.9 before their sum is made 1.
    """
    inverse = 1 / (losses.detach() + LOSS_FLOOR)
    clamped = (inverse / inverse.sum()).clamp(0.05, 0.9)
    return clamped / clamped.sum()


def _lab_loss(predicted: Tensor, values: Tensor) -> Tensor:
    return nn.functional.smooth_l1_loss(predicted / COLOUR_SCALE, values / COLOUR_SCALE)
