"""STCN (Cheng et al. 2021), the skeleton of SRNet: its published weights run as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from vcedge.models.srnet import (
    QueryEncoder,
    SRNetProfile,
    make_mask_decoder,
    make_value_encoder,
)
from vcedge_runtime.frames.colour import IMAGENET
from vcedge_runtime.memory.local_global import LocalGlobalPolicy

STCN_PROFILE = SRNetProfile(
    "stcn", "resnet50", 64, 512, (512, 256, 256), 3, colour=IMAGENET, shaped=False
)


class STCN(nn.Module):
    """The network: a query encoder, a value encoder and a decoder, with memory between them.

    Its tensors have the names and shapes of an SRNet's, which can begin with them.

    Attributes:
        profile: the size.
        local: there is no local memory.
        uses_prototypes: nor prototypes.
        top_k: cells of memory that take part in a readout.
        composition: what its run-time part has that an SRNet's has not: frames are padded, and
            every fifth is remembered from the next one on. A sequence of DAVIS has 21 such frames
            at most, so that the capacity bounds longer videos alone (our choice: STCN keeps all).
    """

    profile = STCN_PROFILE
    local = "off"
    uses_prototypes = False
    top_k = 20
    composition: ClassVar[Mapping[str, Any]] = {
        "fit": "pad",
        "mixes": False,
        "memory": LocalGlobalPolicy(capacity=21),
    }

    def __init__(self) -> None:
        super().__init__()
        self.query = QueryEncoder(self.profile)
        widths = self.query.trunk.widths
        self.value = make_value_encoder(self.profile, widths)
        self.decoder = make_mask_decoder(self.profile, widths)

    @property
    def parts(self) -> dict[str, str | bool]:
        """What makes such a network again, as plain JSON values."""
        return {"profile": self.profile.name}
