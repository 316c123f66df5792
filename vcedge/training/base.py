"""Train the base encoder by colourisation: a frame's hidden colour is copied from neighbours."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vcedge.models.encoder import PROFILES
from vcedge.models.network import KeyNetwork
from vcedge.training.corpus import Clips, ClipSettings
from vcedge.training.losses import clip_keys
from vcedge.training.objective import ColourObjective
from vcedge_runtime.errors import TrainingError


@dataclass(frozen=True)
class BaseSettings:
    """Free choices of the base method.

    Attributes:
        radius: window radius of the reconstruction, in key cells.
        compact: weight of LIIR's compactness prior, 0 for none.
    """

    radius: int = 8
    compact: float = 0.0

    def __post_init__(self) -> None:
        if self.radius < 1 or not self.compact >= 0:
            raise TrainingError(
                "expected a radius of at least 1 and a weight that is not negative, received "
                f"{self.radius}, {self.compact}"
            )


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
        frames = keys.shape[1]
        return self.reconstruction_losses(
            clips.lab[:, :, channel],
            [keys] * frames,
            [self.bias(keys.shape[-1], keys.device)] * frames,
            self.settings.compact,
        )
