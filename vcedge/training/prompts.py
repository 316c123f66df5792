"""Train the network of first masks: boxes and clicks as users draw them, then corrections."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vcedge.models.prompts import PROMPT_PROFILES, PromptNetwork
from vcedge.training.objective import Objective, keep_statistics, set_apart
from vcedge.training.prompt_corpus import DISC, PromptSample, PromptSettings
from vcedge.training.srnet import dice_loss
from vcedge_runtime.model.prompt_composition import PLANES
from vcedge_runtime.prompts.drawing import find_correction
from vcedge_runtime.prompts.planes import draw_click
from vcedge_runtime.video.masks import VOID

PRIOR = PLANES.index("prior")
KEPT = 0.75
"""Share of the corrected samples whose former mask is shown to the network too."""


class PromptObjective(Objective):
    """The mask of a window from what is said of it, then from clicks in the largest error."""

    name = "prompts"
    network: PromptNetwork
    settings: PromptSettings

    def __init__(self, profile: str, settings: PromptSettings | None = None) -> None:
        super().__init__(PromptNetwork(PROMPT_PROFILES[profile]), settings or PromptSettings())

    @property
    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """The pretrained trunk apart from all else."""
        return set_apart(self, self.network.trunk, self.settings.trunk_rate)

    def train(self, mode: bool = True) -> PromptObjective:
        """Enter training or evaluation; the trunk's statistics stay ImageNet's."""
        super().train(mode)
        keep_statistics(self.network)
        return self

    def losses(
        self, clips: PromptSample, share: float, teacher: PromptNetwork
    ) -> dict[str, Tensor]:
        """See ``Objective.losses``."""
        images = clips.images[:, 0].contiguous(memory_format=torch.channels_last)
        planes = clips.planes
        weights = torch.tensor(self.settings.corrections)
        for _ in range(int(torch.multinomial(weights, 1))):
            planes = self._correct(images, planes, clips.truth)
        logits = self._segment(images, planes)
        known = clips.truth != VOID
        target = (clips.truth == 1).float()
        each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        shares = torch.sigmoid(logits) * known
        return {
            "cross_entropy": (each * known).sum() / known.sum().clamp_min(1),
            "dice": self.settings.dice * dice_loss(shares[:, None], target[:, None]),
        }

    def _segment(self, images: Tensor, planes: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            logits: Tensor = self.network(images, planes)
        return logits.float()

    def _correct(self, images: Tensor, planes: Tensor, truth: Tensor) -> Tensor:
        """Planes with one more click in each sample of which something is said."""
        with torch.no_grad():
            found = torch.sigmoid(self._segment(images, planes))
        kept, corrected = torch.rand(len(planes)) < KEPT, planes.clone()
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        for at, own in enumerate(corrected):
            if not bool(own.any()):
                continue
            own[PRIOR] = found[at] if kept[at] else 0
            click = find_correction((found[at] > 0.5).cpu().numpy(), truth[at].cpu().numpy(), rng)
            if click is not None:
                drawn = own.cpu().numpy()
                draw_click(drawn, click, DISC)
                own.copy_(torch.from_numpy(drawn))
        return corrected
