"""Train the base encoder by colourisation: a frame's hidden colour is copied from neighbours."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vcedge.models.encoder import PROFILES
from vcedge.models.network import KeyNetwork
from vcedge.training.corpus import Clips, ClipSettings
from vcedge.training.losses import clip_keys, colourisation_loss
from vcedge.training.objective import ColourObjective
from vcedge_runtime.errors import TrainingError


@dataclass(frozen=True)
class BaseSettings:
    """Free choices of the base method.

    Attributes:
        radius: window radius of the reconstruction, in key cells.
    """

    radius: int = 8

    def __post_init__(self) -> None:
        if self.radius < 1:
            raise TrainingError(f"radius must be at least 1, received {self.radius}")


class BaseObjective(ColourObjective):
    """Each frame of a clip reconstructed from the others."""

    name = "base"
    settings: BaseSettings

    def __init__(self, profile: str, settings: BaseSettings | None = None) -> None:
        super().__init__(KeyNetwork(PROFILES[profile]), settings or BaseSettings(), ClipSettings())

    def colour_losses(
        self, clips: Clips, channel: int, share: float, teacher: KeyNetwork
    ) -> dict[str, Tensor]:
        """See ``ColourObjective.colour_losses``."""
        keys = clip_keys(self.network.encoder, clips, channel)
        bias = self.bias(keys.shape[-1], keys.device)
        stride = self.network.profile.stride
        return {"colour": colourisation_loss(keys, clips.lab[:, :, channel], bias, stride)}
