"""What a self-supervised method trains: the key encoder and, for MER, its value extraction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from vcedge.models.efficientnet_lite import LITE_VARIANTS, EfficientNetLite
from vcedge.models.encoder import PROFILES, KeyEncoder, Profile, ResNetKeyEncoder
from vcedge.models.lite_encoder import LiteKeyEncoder
from vcedge.models.value_extraction import FORMER, ValueExtraction, ValueSettings
from vcedge_runtime.errors import TrainingError


class KeyNetwork(nn.Module):
    """Gives the key of a frame.

    Args:
        profile: of the encoder.
        motion: whether the encoder takes optical flow (MER, eq. 5).
        value_extraction: whether keys are refined by the value extraction (MER, eqs. 6 to 12).
        values: its settings.
        alpha: what that of optical flow begins with; see ``KeyEncoder``.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        motion: bool = False,
        value_extraction: bool = False,
        values: ValueSettings | None = None,
        alpha: float | None = None,
    ) -> None:
        super().__init__()
        self.encoder = make_key_encoder(profile, motion=motion, alpha=alpha)
        self.values = ValueExtraction(profile.key_dim, values) if value_extraction else None

    @property
    def profile(self) -> Profile:
        """Working point of the encoder."""
        return self.encoder.profile

    @property
    def parts(self) -> dict[str, Any]:
        """The arguments that make such a network again, as plain JSON values."""
        own = {} if self.values is None else {"value_settings": asdict(self.values.settings)}
        return {
            "profile": self.profile.name,
            "motion": self.encoder.alpha is not None,
            "value_extraction": self.values is not None,
            **own,
        }

    @classmethod
    def from_parts(
        cls,
        profile: str,
        motion: bool,
        value_extraction: bool,
        value_settings: Mapping[str, Any] | None = None,
    ) -> KeyNetwork:
        """Make a network of the same parts, with new weights; ``FORMER`` where no settings are."""
        return cls(
            PROFILES[profile],
            motion=motion,
            value_extraction=value_extraction,
            values=FORMER if value_settings is None else ValueSettings(**value_settings),
        )

    def take_weights(self, other: nn.Module) -> None:
        """Copy every tensor that both networks have in the same shape; the rest keeps its own.

        A profile may so begin with another's weights, and MER with those of ``base``: modules that
        the other network lacks (residual blocks, optical flow, the value extraction) begin so
        that they change nothing.

        Args:
            other: a ``KeyNetwork`` with an encoder of the same kind, or the ``EfficientNetLite`` of
                the profile, which becomes its trunk.

        Raises:
            TrainingError: the other is no such network.
        """
        kind = self.profile.encoder
        known = other.state_dict()
        if isinstance(other, EfficientNetLite) and other.variant == kind:
            known = {f"encoder.trunk.{name}": value for name, value in known.items()}
        elif not isinstance(other, KeyNetwork) or other.profile.encoder != kind:
            raise TrainingError(
                "received weights of another kind of network, of which nothing fits an encoder "
                f"that is {kind}; begin with those of base, mer or dmp with the profile "
                f"{self.profile.name}"
            )
        own = self.state_dict()
        shared = {k: v for k, v in known.items() if k in own and own[k].shape == v.shape}
        self.load_state_dict({**own, **shared})
        self.encoder.quieten(lambda name: f"encoder.{name}" not in known)


def make_key_encoder(
    profile: Profile, *, motion: bool = False, alpha: float | None = None
) -> KeyEncoder:
    """The encoder of a profile, with new weights; arguments as for ``KeyEncoder``."""
    kind = LiteKeyEncoder if profile.encoder in LITE_VARIANTS else ResNetKeyEncoder
    return kind(profile, motion=motion, alpha=alpha)
