"""XMem (Cheng and Schwing 2022): STCN with weighted likeness and a state of each object."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vcedge.models.mask_decoder import Finer
from vcedge.models.pyramid import Pyramid
from vcedge.models.srnet import SRNetProfile, make_trunk, make_value_encoder
from vcedge.models.srnet_blocks import Fuser
from vcedge_runtime.frames.colour import IMAGENET
from vcedge_runtime.memory.long_term import LongTermPolicy, packed_length

KEY_DIM, HIDDEN_DIM = 64, 64
"""Channels of a key, and of an object's state."""
XMEM_PROFILE = SRNetProfile(
    "xmem",
    "resnet50",
    64,
    512,
    (512, 256, 256),
    3,
    colour=IMAGENET,
    shaped=False,
    key_dim=packed_length(KEY_DIM),
)


class XMemQuery(NamedTuple):
    """What a frame gives before any object is known.

    Attributes:
        key: (B, Ck, h, w).
        shrinkage: (B, 1, h, w) from 1 up: how fast the likeness with a remembered cell falls.
        selection: (B, Ck, h, w) from 0 to 1: how much each channel counts for this frame's cells.
        frame: finer features.
    """

    key: Tensor
    shrinkage: Tensor
    selection: Tensor
    frame: Pyramid


class XMemQueryEncoder(nn.Module):
    """The trunk with heads for keys and for what weighs them (XMem's KeyProjection)."""

    def __init__(self, profile: SRNetProfile) -> None:
        super().__init__()
        self.trunk = make_trunk(profile.encoder)
        deep = self.trunk.widths[2]
        self.key = nn.Conv2d(deep, KEY_DIM, 3, 1, 1)
        self.shrinkage = nn.Conv2d(deep, 1, 3, 1, 1)
        self.selection = nn.Conv2d(deep, KEY_DIM, 3, 1, 1)

    def forward(self, image: Tensor) -> XMemQuery:
        """(B, 3, H, W) in the profile's input colour; H and W multiples of 16."""
        frame = self.trunk(image)
        shrinkage = self.shrinkage(frame.f16).square() + 1
        selection = torch.sigmoid(self.selection(frame.f16))
        return XMemQuery(self.key(frame.f16), shrinkage, selection, frame)


class StateUpdate(nn.Module):
    """XMem's gated recurrent unit, whose new value is made before anything is forgotten.

    Args:
        in_channels: of what the state learns.
        hidden_dim: Ch.
    """

    def __init__(self, in_channels: int, hidden_dim: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(in_channels + hidden_dim, 3 * hidden_dim, 3, 1, 1)

    def forward(self, seen: Tensor, hidden: Tensor) -> Tensor:
        """(N, in_channels, h, w) and (N, Ch, h, w) to the next state, (N, Ch, h, w)."""
        forget, update, new = self.transform(torch.cat([seen, hidden], 1)).chunk(3, 1)
        forget, update = torch.sigmoid(forget), torch.sigmoid(update)
        found: Tensor = forget * hidden * (1 - update) + update * torch.tanh(new)
        return found


class PyramidUpdate(StateUpdate):
    """The same of the decoder's features at three strides.

    Args:
        widths: channels at strides 16, 8 and 4.
        middle: channels that they are brought to.
        hidden_dim: Ch.
    """

    def __init__(self, widths: tuple[int, int, int], middle: int, hidden_dim: int) -> None:
        super().__init__(middle, hidden_dim)
        self.g16_conv, self.g8_conv, self.g4_conv = (
            nn.Conv2d(width, middle, 1) for width in widths
        )

    def join(self, g16: Tensor, g8: Tensor, g4: Tensor) -> Tensor:
        """(N, C, h, w), (N, C, 2h, 2w) and (N, C, 4h, 4w) to (N, middle, h, w)."""
        coarse = self.g8_conv(functional.avg_pool2d(g8, 2))
        joined: Tensor = self.g16_conv(g16) + coarse + self.g4_conv(functional.avg_pool2d(g4, 4))
        return joined


class StateDecoder(nn.Module):
    """Decodes each object's mask of what was read, of the frame, and of its state.

    Args:
        profile: the size.
        skips: channels of the frame's features at strides 16, 8 and 4.
        hidden_dim: Ch.
    """

    def __init__(self, profile: SRNetProfile, skips: tuple[int, int, int], hidden_dim: int) -> None:
        super().__init__()
        widths, kernel = profile.decoder_widths, profile.kernel
        self.fuser = Fuser(skips[0] + profile.value_dim + hidden_dim, widths[0], kernel)
        self.up8 = Finer(skips[1], widths[0], widths[1], kernel)
        self.up4 = Finer(skips[2], widths[1], widths[2], kernel)
        self.predict = nn.Conv2d(widths[2], 1, 3, 1, 1)
        # The logits are seen with the finest features.
        self.hidden_update = PyramidUpdate((*widths[:2], widths[2] + 1), widths[2], hidden_dim)

    def forward(self, x: Tensor, hidden: Tensor, frame: Pyramid) -> tuple[Tensor, Tensor]:
        """Decode one frame.

        Args:
            x: (K, Cv, h, w) what was read of K objects.
            hidden: (K, Ch, h, w) their states.
            frame: features of the frame, (1, C, ., .) each.

        Returns:
            (K, 16 h, 16 w) logits of each object's mask, and the states after the frame.
        """
        shared = frame.f16.expand(x.shape[0], -1, -1, -1)
        g16 = self.fuser(torch.cat([shared, x, hidden], 1))
        g8 = self.up8(g16[None], frame.f8)
        g4 = self.up4(g8, frame.f4)[0]
        logits = self.predict(torch.relu(g4))
        seen = self.hidden_update.join(g16, g8[0], torch.cat([g4, logits], 1))
        # Objects as channels, see ``MaskDecoder``.
        planes = functional.interpolate(
            logits[:, 0][None], scale_factor=4.0, mode="bilinear", align_corners=False
        )
        return planes[0], self.hidden_update(seen, hidden)


class XMem(nn.Module):
    """The network: encoders, a decoder and two updates of states, with memory between them.

    Attributes:
        profile: the size; a key is stored with what weighs it, see ``packed_length``.
        hidden_dim: channels of an object's state.
        local: there is no local memory.
        uses_prototypes: nor prototypes.
        top_k: cells of memory that take part in a readout.
        composition: what its run-time part has that an SRNet's has not.
    """

    profile = XMEM_PROFILE
    hidden_dim = HIDDEN_DIM
    local = "off"
    uses_prototypes = False
    top_k = 30
    composition: ClassVar[Mapping[str, Any]] = {
        "fit": "pad",
        "mixes": False,
        "hidden_dim": HIDDEN_DIM,
        "memory": LongTermPolicy(),
    }

    def __init__(self) -> None:
        super().__init__()
        self.query = XMemQueryEncoder(self.profile)
        c4, c8, c16 = self.query.trunk.widths
        self.value = make_value_encoder(self.profile, (c4, c8, c16))
        self.reinforce = StateUpdate(self.profile.value_dim, HIDDEN_DIM)
        self.decoder = StateDecoder(self.profile, (c16, c8, c4), HIDDEN_DIM)

    @property
    def parts(self) -> dict[str, str | bool]:
        """What makes such a network again, as plain JSON values."""
        return {"profile": self.profile.name}


def compare_weighted(query: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
    """Likeness of packed keys (XMem, eq. 3): -shrinkage * sum of selection (k - q)^2 / sqrt(Ck).

    As one product of longer rows: what is squared, and what is added, are columns of their own.

    Args:
        query: (n, 2 Ck + 1) packed keys of the frame.
        keys: (m, 2 Ck + 1) those of memory.
        bias: (m,) added to all logits of a cell.

    Returns:
        (n, m) logits.
    """
    key, selection = query[:, :KEY_DIM], query[:, KEY_DIM + 1 :]
    scale = 1 / math.sqrt(KEY_DIM)
    weighed = selection * key
    own = (weighed * key).sum(1, keepdim=True)
    asked = torch.cat([2 * weighed, -selection, -own], 1) * scale
    known, shrinkage = keys[:, :KEY_DIM], keys[:, KEY_DIM : KEY_DIM + 1]
    rows = torch.cat([shrinkage * known, shrinkage * known.square(), shrinkage], 1)
    # Rows of 136, as vector units like them.
    added = functional.pad(asked, (0, 7), value=1.0)
    held = torch.cat([rows, (bias / 7)[:, None].expand(-1, 7)], 1)
    return added @ held.t()
