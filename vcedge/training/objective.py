"""What a training method is: a network, the clips it wants, and a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vcedge.models.affinity import window_bias
from vcedge.models.efficientnet_lite import EfficientNetLite
from vcedge.models.lite_encoder import LiteKeyEncoder, rgb_from_lab
from vcedge.models.network import KeyNetwork
from vcedge.models.prompts import PromptNetwork
from vcedge.models.srnet import SRNet
from vcedge.training.corpus import Clips, ClipSettings
from vcedge.training.losses import colourisation_loss, compactness_loss

Trainable = KeyNetwork | SRNet | PromptNetwork
"""What a method trains."""
BEGINNING = 64
"""Clips of which what a pretrained trunk lacks is made, at most (our choice)."""
TRUNK_RATE = 0.5
"""Of a pretrained encoder's trunk, of the learning rate (our choice)."""


class Objective(nn.Module, ABC):
    """Base of the methods; calling it gives the loss of a batch.

    Attributes:
        name: of the method.
        network: what is trained and delivered.
        settings: the method's own, a dataclass of plain values.
        parts: the last loss's parts by name, detached scalars.
        composition: what of the run-time part belongs to the method; see ``Weights``.
        former: settings that checkpoints from before did not name, as they then were.
    """

    name: str
    composition: Mapping[str, Any] = MappingProxyType({})
    former: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, network: Trainable, settings: Any) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.parts: dict[str, Tensor] = {}

    @property
    def identity(self) -> dict[str, Any]:
        """What a run must share with its checkpoint, as plain values."""
        return {"method": self.name, **asdict(self.settings)}

    def begin(self, start: nn.Module, clips: Dataset[Any]) -> None:
        """Begin with weights that were trained before: all those that fit.

        Args:
            start: a network that the own one takes weights of.
            clips: of the run that begins.

        Raises:
            TrainingError: nothing of it fits.
        """
        self.network.take_weights(start)

    @property
    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """What is trained, in groups, each with its share of the learning rate."""
        return [([p for p in self.parameters() if p.requires_grad], 1.0)]

    def forward(self, clips: Any, share: float, teacher: Any) -> Tensor:
        """Loss of a batch.

        Args:
            clips: B clips on the network's device, of the kind that the method takes.
            share: how much of the run is done, 0 to 1.
            teacher: the moving average of the network; no gradient goes through it.

        Returns:
            () float32.
        """
        losses = self.losses(clips, share, teacher)
        self.parts = {name: loss.detach() for name, loss in losses.items()}
        return torch.stack(list(losses.values())).sum()

    @abstractmethod
    def losses(self, clips: Any, share: float, teacher: Any) -> dict[str, Tensor]:
        """Parts of the loss by name, weighted, to be added up; arguments as for ``forward``."""


class ColourObjective(Objective):
    """Base of the self-supervised methods: a hidden colour channel is reconstructed.

    Attributes:
        clip_settings: what its clips are like, at the network's stride.
    """

    network: KeyNetwork

    def __init__(self, network: KeyNetwork, settings: Any, clip_settings: ClipSettings) -> None:
        super().__init__(network, settings)
        self.clip_settings = clip_settings.at_stride(network.profile.stride)
        self._biases: dict[int, Tensor] = {}

    def begin(self, start: nn.Module, clips: Dataset[Any]) -> None:
        """See ``Objective.begin``; what a pretrained trunk lacks is made of the first clips."""
        super().begin(start, clips)
        encoder = self.network.encoder
        if isinstance(encoder, LiteKeyEncoder) and isinstance(start, EfficientNetLite):
            # The clips of every corpus are counted.
            count = min(BEGINNING, len(clips))  # type: ignore[arg-type]
            device = encoder.head.weight.device
            labs = (clips[index].lab.to(device) for index in range(count))
            self.eval()
            encoder.gather(rgb_from_lab(lab, encoder.profile.colour) for lab in labs)

    @property
    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """What is pretrained, apart from all else."""
        pretrained = self.network.encoder.pretrained
        return super().groups if pretrained is None else set_apart(self, pretrained, TRUNK_RATE)

    def train(self, mode: bool = True) -> ColourObjective:
        """Enter training or evaluation; beside what is pretrained all statistics stay."""
        super().train(mode)
        if self.network.encoder.pretrained is not None:
            keep_statistics(self.network)
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """See ``Objective.identity``."""
        clips = {"zoom": self.clip_settings.zoom, "whole": self.clip_settings.whole}
        return {**clips, **super().identity}

    def losses(self, clips: Clips, share: float, teacher: KeyNetwork) -> dict[str, Tensor]:
        """Parts of the loss, of a channel that is drawn."""
        return self.colour_losses(clips, int(torch.randint(1, 3, ())), share, teacher)

    @abstractmethod
    def colour_losses(
        self, clips: Clips, channel: int, share: float, teacher: KeyNetwork
    ) -> dict[str, Tensor]:
        """Parts of the loss by name, weighted, to be added up.

        Args:
            clips: as for ``forward``.
            channel: the colour channel that is hidden and reconstructed, 1 or 2.
            share: as for ``forward``.
            teacher: as for ``forward``.
        """

    def reconstruction_losses(
        self,
        colour: Tensor,
        views: Sequence[Tensor],
        biases: Sequence[Tensor],
        compact: float,
        weight: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The loss of the hidden channel, and LIIR's prior where it has a weight.

        Args:
            colour: (B, T, S, S) float32, the hidden channel.
            views: as for ``colourisation_loss``.
            biases: likewise.
            compact: weight of the prior.
            weight: likewise.
        """
        stride = self.network.profile.stride
        found = {"colour": colourisation_loss(views, colour, biases, stride, weight)}
        if compact > 0:
            found["compact"] = compact * compactness_loss(views, biases)
        return found

    def bias(self, side: int, device: torch.device) -> Tensor:
        """Window mask of a square key grid of this side."""
        if side not in self._biases:
            self._biases[side] = window_bias(side, side, self.settings.radius).to(device)
        return self._biases[side]


def set_apart(
    objective: Objective, part: nn.Module, rate: float
) -> list[tuple[list[nn.Parameter], float]]:
    """Groups of parameters, as ``Objective.groups``, of which a part has a rate of its own."""
    own = list(part.parameters())
    known = {id(parameter) for parameter in own}
    rest = [p for p in objective.parameters() if p.requires_grad and id(p) not in known]
    return [(rest, 1.0), (own, rate)]


def keep_statistics(network: nn.Module) -> None:
    """Let batch normalisation neither use nor learn the statistics of a batch."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
