"""SRNet: STCN's skeleton with feature alignment and a prototype transformer, in two sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from vcedge.models.efficientnet_lite import LITE_SPREAD, LITE_VARIANTS, EfficientNetLite
from vcedge.models.feature_alignment import FeatureAlignment
from vcedge.models.mask_decoder import MaskDecoder
from vcedge.models.network import KeyNetwork
from vcedge.models.prototypes import STRIDE, PrototypeTransformer
from vcedge.models.pyramid import Pyramid
from vcedge.models.trunk import Trunk
from vcedge.models.value_encoders import FeatureValueEncoder, PictureValueEncoder, ValueEncoder
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.frames.colour import IMAGENET, IMAGENET_LITE, LAB, InputColour
from vcedge_runtime.memory.local_global import LocalGlobalPolicy

RESNETS = {"resnet18": (2, 2, 2), "resnet50": (3, 4, 6)}
"""Blocks of the ResNets' stages."""


@dataclass(frozen=True)
class SRNetProfile:
    """One size of SRNet.

    Attributes:
        name: ``srnet`` is the paper's, ``srnet-edge`` a small one, ``srnet-lite`` a smaller one on
            a pretrained encoder, ``srnet-stcn`` one that can begin with STCN's weights, whole.
        encoder: of queries, one of ``RESNETS`` or of ``LITE_VARIANTS``.
        value_width: channels of the value encoder's finest stage.
        value_dim: Cv.
        decoder_widths: channels of the decoder at strides 16, 8 and 4.
        kernel: side of the kernels of shortcuts and skips; 3 in STCN.
        joins: whether values are made of the query's features instead of the picture.
        colour: what the query encoder takes.
        shaped: whether values get the mask's shape straight, see ``ValueEncoder``.
        gated: whether the prototype transformer begins as nothing, see ``PrototypeTransformer``.
        follows: whether a window follows the objects, where nothing else is chosen; the paper's
            network looks at whole frames.
        doubt: score below which it does not take an object back that was away: what the reliability
            of its scores says (`docs/results.md`); 0 takes any.
        memory: which frames it reads, where nothing else is chosen.
        key_dim: Ck.
        stride: pixels per key cell.
    """

    name: str
    encoder: str
    value_width: int
    value_dim: int
    decoder_widths: tuple[int, int, int]
    kernel: int
    joins: bool = False
    colour: InputColour = LAB
    shaped: bool = True
    gated: bool = False
    follows: bool = False
    doubt: float = 0.0
    memory: LocalGlobalPolicy = field(default_factory=LocalGlobalPolicy)
    key_dim: int = 64
    stride: int = STRIDE


SRNET_PROFILES = {
    "srnet-edge": SRNetProfile("srnet-edge", "resnet18", 32, 128, (128, 64, 32), 1),
    "srnet-lite": SRNetProfile(
        "srnet-lite",
        "efficientnet-lite0",
        32,
        128,
        (128, 48, 32),
        1,
        joins=True,
        colour=IMAGENET_LITE,
        follows=True,
        doubt=0.7,
        memory=LocalGlobalPolicy(zoom=1.4),
    ),
    "srnet": SRNetProfile("srnet", "resnet50", 64, 256, (512, 256, 256), 3),
    "srnet-stcn": SRNetProfile(
        "srnet-stcn", "resnet50", 64, 512, (512, 256, 256), 3, colour=IMAGENET, gated=True
    ),
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
        self.trunk = make_trunk(profile.encoder)
        self.spread = LITE_SPREAD if profile.encoder in LITE_VARIANTS else 1.0
        deep = self.trunk.widths[2]
        self.key = nn.Conv2d(deep, profile.key_dim, 3, 1, 1)
        self.content = nn.Conv2d(deep, profile.value_dim, 3, 1, 1)
        nn.init.orthogonal_(self.key.weight)
        self.key.register_parameter("bias", nn.Parameter(torch.zeros(profile.key_dim)))

    def forward(self, image: Tensor) -> Query:
        """(B, 3, H, W) in the profile's input colour; H and W multiples of 16."""
        frame = self.trunk(image)
        if self.spread != 1:
            frame = Pyramid(*(features / self.spread for features in frame))
        return Query(self.key(frame.f16), self.content(frame.f16), frame)


def make_trunk(encoder: str) -> Trunk | EfficientNetLite:
    """A query encoder's trunk by its name, with new weights."""
    if encoder in LITE_VARIANTS:
        return EfficientNetLite(encoder)
    return Trunk(3, RESNETS[encoder], 64, bottleneck=encoder == "resnet50")


def make_value_encoder(profile: SRNetProfile, features: tuple[int, int, int]) -> ValueEncoder:
    """A profile's value encoder, for the query encoder's channels at strides 4, 8 and 16."""
    width, dim, kernel = profile.value_width, profile.value_dim, profile.kernel
    if profile.joins:
        return FeatureValueEncoder(width, features, dim, kernel)
    return PictureValueEncoder(width, features[2], dim, kernel, shaped=profile.shaped)


def make_mask_decoder(profile: SRNetProfile, features: tuple[int, int, int]) -> MaskDecoder:
    """A profile's decoder, for the query encoder's channels at strides 4, 8 and 16."""
    dim, skips = profile.value_dim, (features[1], features[0])
    return MaskDecoder(dim, dim, skips, profile.decoder_widths, profile.kernel)


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
        top_k: cells of memory that take part in a readout (STCN).
        composition: what its run-time part has that is not any such model's: nothing.
    """

    top_k = 20
    composition: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self, profile: SRNetProfile, *, local: str = "fam", prototypes: bool = True
    ) -> None:
        super().__init__()
        self.profile = profile
        self.local = local
        self.uses_prototypes = prototypes
        self.query = QueryEncoder(profile)
        widths = self.query.trunk.widths
        self.value = make_value_encoder(profile, widths)
        self.alignment = FeatureAlignment(profile.key_dim, profile.value_dim)
        self.mix = ReadoutMix(profile.value_dim)
        self.prototypes = PrototypeTransformer(profile.value_dim, gated=profile.gated)
        self.decoder = make_mask_decoder(profile, widths)

    @property
    def parts(self) -> dict[str, str | bool]:
        """The arguments that make such a network again, as plain JSON values."""
        return {
            "profile": self.profile.name,
            "local": self.local,
            "prototypes": self.uses_prototypes,
        }

    def take_weights(self, other: nn.Module) -> None:
        """Copy every tensor that fits: of an SRNet, or of a trunk.

        Args:
            other: an ``SRNet``; a network without what that adds, which is then as if it were not
                there (``STCN``); a ``KeyNetwork``, whose trunk and head become the query encoder's;
                or an ``EfficientNetLite``, which becomes its trunk.

        Raises:
            TrainingError: a trunk of another kind than the query encoder's, or one that learned
                other colours.
        """
        known = other.state_dict()
        self._require_colour(other)
        trunk = other.profile.encoder if isinstance(other, KeyNetwork) else None
        if isinstance(other, EfficientNetLite):
            trunk = other.variant
        if trunk not in (None, self.profile.encoder):
            raise TrainingError(
                f"received weights of a trunk that is {trunk} for {self.profile.name}, whose "
                f"encoder is {self.profile.encoder}; begin without --from, or with weights of the "
                "same profile"
            )
        if isinstance(other, KeyNetwork):
            known = {_own_name(name): value for name, value in known.items()}
        elif isinstance(other, EfficientNetLite):
            known = {f"query.trunk.{name}": value for name, value in known.items()}
        own = self.state_dict()
        shared = {k: v for k, v in known.items() if k in own and own[k].shape == v.shape}
        self.load_state_dict({**own, **shared})
        if "decoder.predict.weight" in known and "mix.weight" not in known:
            self._quieten()

    def _require_colour(self, other: nn.Module) -> None:
        profile = getattr(other, "profile", None)
        if not isinstance(profile, SRNetProfile) or profile.encoder != self.profile.encoder:
            return
        if profile.colour != self.profile.colour:
            known = [
                each.name
                for each in SRNET_PROFILES.values()
                if (each.encoder, each.colour) == (profile.encoder, profile.colour)
            ]
            raise TrainingError(
                f"received weights of {profile.name}, whose encoder takes other colours than "
                f"{self.profile.name}'s; pass --profile {' or '.join(known)}"
            )

    @torch.no_grad()
    def _quieten(self) -> None:
        """Let what SRNet adds begin as if it were not there (our choice).

        What was read from global memory goes on to the decoder as it is. Alignment begins as the
        identity of itself, and so do gated prototypes.
        """
        dim = self.profile.value_dim
        nn.init.zeros_(self.mix.weight)
        self.mix.weight[:, :dim, 0, 0] = torch.eye(dim)
        if self.value.shape is not None:
            nn.init.zeros_(self.value.shape.weight)


def _own_name(name: str) -> str:
    """The name of a self-supervised encoder's tensor in the query encoder."""
    part, _, rest = name.removeprefix("encoder.").partition(".")
    if part == "stages":
        block, _, rest = rest.partition(".")
        return f"query.trunk.stages.{int(block) // 2}.{int(block) % 2}.{rest}"
    parts = {"stem": "query.trunk.stem", "trunk": "query.trunk", "head": "query.key"}
    return f"{parts[part]}.{rest}" if part in parts else name
