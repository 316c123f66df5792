"""SRNet: STCN's skeleton with feature alignment and a prototype transformer, in two sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vcedge.models.feature_alignment import FeatureAlignment
from vcedge.models.mask_decoder import MaskDecoder
from vcedge.models.network import KeyNetwork
from vcedge.models.prototypes import STRIDE, PrototypeTransformer
from vcedge.models.srnet_blocks import Fuser
from vcedge.models.trunk import Pyramid, Trunk
from vcedge_runtime.errors import TrainingError

FINEST = 4
"""Pixels per cell of the finest shape that a value gets straight from its mask."""


@dataclass(frozen=True)
class SRNetProfile:
    """One size of SRNet.

    Attributes:
        name: ``srnet`` is the paper's, ``srnet-edge`` a small one.
        bottleneck: whether the query encoder is a ResNet-50 instead of a ResNet-18.
        blocks: of the query encoder's stages.
        value_width: channels of the value encoder's stem, 64 in a ResNet-18.
        value_dim: Cv.
        decoder_widths: channels of the decoder at strides 16, 8 and 4.
        kernel: side of the kernels of shortcuts and skips; 3 in STCN.
        key_dim: Ck.
        stride: pixels per key cell.
    """

    name: str
    bottleneck: bool
    blocks: tuple[int, int, int]
    value_width: int
    value_dim: int
    decoder_widths: tuple[int, int, int]
    kernel: int
    key_dim: int = 64
    stride: int = STRIDE


SRNET_PROFILES = {
    "srnet": SRNetProfile("srnet", True, (3, 4, 6), 64, 256, (512, 256, 256), 3),
    "srnet-edge": SRNetProfile("srnet-edge", False, (2, 2, 2), 32, 128, (128, 64, 32), 1),
}


class Query(NamedTuple):
    """What a frame gives before any object is known.

    Attributes:
        key: (B, Ck, h, w).
        content: (B, Cv, h, w), what the decoder sees of the frame itself.
        frame: finer features.
    """

    key: Tensor
    content: Tensor
    frame: Pyramid


class QueryEncoder(nn.Module):
    """The trunk with a head for keys and one for content (STCN's key_proj and key_comp)."""

    def __init__(self, profile: SRNetProfile) -> None:
        super().__init__()
        self.trunk = Trunk(3, profile.blocks, 64, bottleneck=profile.bottleneck)
        deep = self.trunk.widths[2]
        self.key = nn.Conv2d(deep, profile.key_dim, 3, 1, 1)
        self.content = nn.Conv2d(deep, profile.value_dim, 3, 1, 1)
        nn.init.orthogonal_(self.key.weight)
        self.key.register_parameter("bias", nn.Parameter(torch.zeros(profile.key_dim)))

    def forward(self, lab: Tensor) -> Query:
        """(B, 3, H, W) normalised Lab; H and W multiples of 16."""
        frame = self.trunk(lab)
        return Query(self.key(frame.f16), self.content(frame.f16), frame)


class ValueEncoder(nn.Module):
    """Encodes an object's mask together with the frame (STCN).

    Beside STCN's way through a trunk and the fuser, the mask's shape at stride 4 is added to the
    value by one linear map (our choice: values hold the shape from the first step on).
    """

    def __init__(self, profile: SRNetProfile, deep: int) -> None:
        super().__init__()
        self.trunk = Trunk(5, (2, 2, 2), profile.value_width, bottleneck=False)
        self.fuser = Fuser(deep + self.trunk.widths[2], profile.value_dim, profile.kernel)
        self.cells = profile.stride // FINEST
        self.shape = nn.Conv2d(2 * self.cells**2, profile.value_dim, 1, bias=False)

    def forward(self, lab: Tensor, deep: Tensor, masks: Tensor, others: Tensor) -> Tensor:
        """Encode.

        Args:
            lab: (B, 3, H, W) normalised Lab.
            deep: (B, C16, h, w), the query encoder's ``f16``.
            masks: (B, K, H, W) float32, 0 to 1, of K objects.
            others: (B, K, H, W) float32, what all other objects cover, likewise.

        Returns:
            (B, K, Cv, h, w).
        """
        objects = masks.shape[1]
        seen = torch.stack([masks, others], 2)
        image = lab[:, None].expand(-1, objects, -1, -1, -1)
        found = self.trunk(torch.cat([image, seen], 2).flatten(0, 1)).f16
        shared = deep[:, None].expand(-1, objects, -1, -1, -1).flatten(0, 1)
        fused = self.fuser(torch.cat([found, shared], 1))
        fine = functional.avg_pool2d(seen.flatten(0, 1), FINEST)
        value = fused + self.shape(functional.pixel_unshuffle(fine, self.cells))
        values: Tensor = value.unflatten(0, (-1, objects))
        return values


class ReadoutMix(nn.Conv2d):
    """Makes one of what was read from global memory, from the local one, and of the latter itself.

    The local memory's values, which lie where the query's objects are once they are aligned, tell
    the decoder where an object was (our choice: what is read by likeness alone does not). It starts
    as the mean of both readouts.

    Args:
        value_dim: Cv.
    """

    def __init__(self, value_dim: int) -> None:
        super().__init__(3 * value_dim, value_dim, 1, bias=False)
        half = torch.eye(value_dim) / 2
        with torch.no_grad():
            self.weight.copy_(torch.cat([half, half, 0 * half], 1)[..., None, None])

    def join(self, readout: Tensor, local_readout: Tensor, local_value: Tensor) -> Tensor:
        """(N, Cv, h, w) each, of N objects, to the same."""
        mixed: Tensor = self(torch.cat([readout, local_readout, local_value], 1))
        return mixed


class SRNet(nn.Module):
    """The whole network; ``vcedge.training.srnet`` unrolls it, ``srnet_graphs`` exports its parts.

    Args:
        profile: the size.
        local: what becomes of the local memory, one of ``LOCALS``.
        prototypes: whether the prototype transformer is used.

    Attributes:
        local: as it is trained: another can be run, but for alignment that was not.
        uses_prototypes: likewise.
    """

    def __init__(
        self, profile: SRNetProfile, *, local: str = "fam", prototypes: bool = True
    ) -> None:
        super().__init__()
        self.profile = profile
        self.local = local
        self.uses_prototypes = prototypes
        self.query = QueryEncoder(profile)
        widths = self.query.trunk.widths
        self.value = ValueEncoder(profile, widths[2])
        self.alignment = FeatureAlignment(profile.key_dim, profile.value_dim)
        self.mix = ReadoutMix(profile.value_dim)
        self.prototypes = PrototypeTransformer(profile.value_dim)
        self.decoder = MaskDecoder(
            profile.value_dim,
            profile.value_dim,
            (widths[1], widths[0]),
            profile.decoder_widths,
            profile.kernel,
        )

    @property
    def parts(self) -> dict[str, str | bool]:
        """The arguments that make such a network again, as plain JSON values."""
        return {
            "profile": self.profile.name,
            "local": self.local,
            "prototypes": self.uses_prototypes,
        }

    def take_weights(self, other: nn.Module) -> None:
        """Copy every tensor that fits: of an SRNet, or of a self-supervised encoder's trunk.

        Args:
            other: an ``SRNet``, or a ``KeyNetwork``, whose trunk and head become the query
                encoder's.

        Raises:
            TrainingError: a ``KeyNetwork`` for a query encoder that is no ResNet-18.
        """
        known = other.state_dict()
        if isinstance(other, KeyNetwork):
            if self.profile.bottleneck:
                raise TrainingError(
                    f"received weights of a ResNet-18 for {self.profile.name}, whose encoder is a "
                    "ResNet-50; begin without --from, or with weights of the same profile"
                )
            known = {_own_name(name): value for name, value in known.items()}
        own = self.state_dict()
        shared = {k: v for k, v in known.items() if k in own and own[k].shape == v.shape}
        self.load_state_dict({**own, **shared})


def _own_name(name: str) -> str:
    """The name of a self-supervised encoder's tensor in the query encoder."""
    part, _, rest = name.removeprefix("encoder.").partition(".")
    if part == "stages":
        block, _, rest = rest.partition(".")
        return f"query.trunk.stages.{int(block) // 2}.{int(block) % 2}.{rest}"
    return {"stem": f"query.trunk.stem.{rest}", "head": f"query.key.{rest}"}.get(part, name)
