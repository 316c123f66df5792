"""The network of the first mask: from a picture, boxes and clicks to one object's mask."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vcedge.models.efficientnet_lite import LITE_SPREAD, STEM, EfficientNetLite
from vcedge.models.mask_decoder import MaskDecoder
from vcedge.models.pyramid import Pyramid
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.frames.colour import IMAGENET_LITE, InputColour
from vcedge_runtime.model.prompt_composition import PLANES

STRIDE = 16
"""Pixels per cell of the deepest features."""


@dataclass(frozen=True)
class PromptProfile:
    """One size of the network.

    Attributes:
        name: ``prompts-lite``.
        encoder: one of ``LITE_VARIANTS``.
        width: channels of the cells that look at each other.
        rounds: how often they do.
        heads: of each attention.
        decoder_widths: channels of the decoder at strides 16, 8 and 4.
        colour: what the encoder takes.
    """

    name: str
    encoder: str
    width: int
    rounds: int
    heads: int
    decoder_widths: tuple[int, int, int]
    colour: InputColour = IMAGENET_LITE


PROMPT_PROFILES = {
    "prompts-lite": PromptProfile("prompts-lite", "efficientnet-lite0", 128, 2, 4, (96, 48, 32)),
}


class CellAttention(nn.Module):
    """Every cell looks at all cells, then each on its own (Vaswani et al. 2017, pre-norm).

    So a click is heard by the whole object. Both parts begin so that they change nothing.

    Args:
        channels: C.
        heads: that share them.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.joint = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.own_norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, 2 * channels)
        self.narrow = nn.Linear(2 * channels, channels)
        for last in (self.out, self.narrow):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, cells: Tensor) -> Tensor:
        """(B, N, C) to the same."""
        cells = cells + self._look(self.norm(cells))
        own: Tensor = self.narrow(torch.relu(self.widen(self.own_norm(cells))))
        return cells + own

    def _look(self, cells: Tensor) -> Tensor:
        split = self.joint(cells).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)
        logits = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        weights = torch.softmax(logits.float(), -1).to(value.dtype)
        found: Tensor = self.out((weights @ value).transpose(1, 2).flatten(2))
        return found


class PromptNetwork(nn.Module):
    """A window of a frame and what is said of an object, to its mask.

    What is said enters beside the picture, so that the whole encoder works on the object that is
    meant (RITM, Sofiiuk et al. 2021); attention between the coarsest cells carries a click over the
    object. With nothing said, it finds what stands out.

    Args:
        profile: the size.
    """

    def __init__(self, profile: PromptProfile) -> None:
        super().__init__()
        self.profile = profile
        self.trunk = EfficientNetLite(profile.encoder)
        self.hints = nn.Conv2d(len(PLANES), STEM, 4, 2, 1)
        c4, c8, c16 = self.trunk.widths
        self.enter = nn.Conv2d(c16, profile.width, 1)
        self.rounds = nn.ModuleList(
            CellAttention(profile.width, profile.heads) for _ in range(profile.rounds)
        )
        self.decoder = MaskDecoder(profile.width, c16, (c8, c4), profile.decoder_widths, 1)

    def forward(self, image: Tensor, prompts: Tensor) -> Tensor:
        """Segment.

        Args:
            image: (B, 3, H, W) in the profile's input colour; H and W multiples of 16.
            prompts: (B, P, H, W) float32, 0 to 1, the planes that ``PLANES`` names.

        Returns:
            (B, H, W) logits of the mask.
        """
        found = self.trunk(image, self.hints(prompts))
        frame = Pyramid(*(features / LITE_SPREAD for features in found))
        entered = self.enter(frame.f16)
        cells = entered.flatten(2).transpose(1, 2)
        for attention in self.rounds:
            cells = attention(cells)
        deep = cells.transpose(1, 2).unflatten(2, entered.shape[2:])
        logits: Tensor = self.decoder(deep[:, None], frame.f16, frame.f8, frame.f4)
        return logits[:, 0]

    @property
    def parts(self) -> dict[str, str | bool]:
        """The arguments that make such a network again, as plain JSON values."""
        return {"profile": self.profile.name}

    def take_weights(self, other: nn.Module) -> None:
        """Copy every tensor that fits: of such a network, or of its trunk.

        Raises:
            TrainingError: weights of another kind of network, or of another trunk.
        """
        if isinstance(other, PromptNetwork):
            known = other.state_dict()
        elif isinstance(other, EfficientNetLite) and other.variant == self.profile.encoder:
            known = {f"trunk.{name}": value for name, value in other.state_dict().items()}
        else:
            raise TrainingError(
                f"received weights of which nothing fits {self.profile.name}; begin with "
                f"`--from imagenet` ({self.profile.encoder}), or with weights of train prompts"
            )
        own = self.state_dict()
        shared = {k: v for k, v in known.items() if k in own and own[k].shape == v.shape}
        self.load_state_dict({**own, **shared})
