"""Weights as safetensors; the file's own metadata says what is known of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from vcedge.models.network import KeyNetwork
from vcedge.models.prompts import PROMPT_PROFILES, PromptNetwork
from vcedge.models.srnet import SRNET_PROFILES, SRNet
from vcedge.models.stcn import STCN
from vcedge.models.xmem import XMem
from vcedge_runtime.errors import BundleError
from vcedge_runtime.files import write_whole
from vcedge_runtime.model.composition import KINDS, kind_of, part_from_json
from vcedge_runtime.settings import check_plain
from vcedge_runtime.telling import tell_cause

Network = KeyNetwork | SRNet | STCN | XMem | PromptNetwork
"""What weights are of."""
SHIPPED = Path(__file__).parent.parent / "weights"
NOT_INSTALLED = (
    "; weights for training are not installed with vcedge, they are in vcedge/weights of a clone "
    "of its repository: name a file there, or install the clone with pip install -e"
)
"""What to do where a wheel, which has none, was installed."""


@dataclass(frozen=True)
class Weights:
    """A network and where it came from.

    Attributes:
        network: in evaluation mode, float32.
        facts: plain JSON values: model, profile, data, licences, steps, measured accuracy.
        composition: what of the run-time part its method chooses, by the field of a composition,
            such as DMP's memory; what is not in it is as any model's of its kind.
    """

    network: Network
    facts: Mapping[str, Any]
    composition: Mapping[str, Any] = field(default_factory=dict)


def save_weights(
    network: Network,
    path: Path,
    facts: Mapping[str, Any],
    composition: Mapping[str, Any] | None = None,
    *,
    exact: bool = False,
) -> None:
    """Write a network in FP16 (our choice: half the size, less rounding than training's noise).

    Args:
        network: the trained network.
        path: the file; replaced as a whole.
        facts: plain JSON values; what the network is made of is added.
        composition: as ``Weights`` has it.
        exact: write it as it is instead, for weights that others trained.
    """
    tensors = {
        name: (value.half() if value.is_floating_point() and not exact else value).contiguous()
        for name, value in network.state_dict().items()
    }
    known = {**facts, **network.parts}
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = _write_metadata(known, composition or {})
    write_whole(path, save(tensors, metadata), synced=True)


def load_weights(source: str | Path) -> Weights:
    """Read weights from a file, or shipped ones by name.

    Raises:
        BundleError: no such weights, or a file that vcedge did not write.
    """
    path = Path(source)
    if not path.is_file():
        path = SHIPPED / f"{source}.safetensors"
    if not path.is_file():
        raise BundleError(
            f"no weights {str(source)!r}: expected a .safetensors file"
            + (f" or one of {names}" if (names := shipped_weights()) else NOT_INSTALLED)
        )
    try:
        with safe_open(path, "pt") as file:
            facts, composition = _read_metadata(file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        # Weights to begin with would be made in vain, which may take longer than all else.
        with torch.device("meta"):
            network = _make_network(facts)
        network.load_state_dict(
            {k: v.float() if v.dtype == torch.float16 else v for k, v in tensors.items()},
            assign=True,
        )
    except (
        *(SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError),
        *(RuntimeError, BundleError),
    ) as exc:
        raise BundleError(f"{path} does not hold weights of vcedge: {tell_cause(exc)}") from exc
    return Weights(network.eval(), facts, composition)


def _write_metadata(facts: Mapping[str, Any], composition: Mapping[str, Any]) -> dict[str, str]:
    parts = {
        name: {"kind": kind_of(name, value), **asdict(value)} if name in KINDS else value
        for name, value in composition.items()
    }
    return {"facts": json.dumps(facts), "composition": json.dumps(parts)}


def _read_metadata(metadata: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what ``_write_metadata`` wrote; files that know no composition choose nothing."""
    facts = json.loads(metadata["facts"])
    check_plain("facts", facts)
    composition = json.loads(metadata.get("composition", "{}"))
    parts = {
        name: part_from_json(name, value) if name in KINDS else value
        for name, value in composition.items()
    }
    return facts, parts


def _make_network(facts: Mapping[str, Any]) -> Network:
    for published in (STCN, XMem):
        if facts["profile"] == published.profile.name:
            return published()
    if facts["profile"] in SRNET_PROFILES:
        return SRNet(
            SRNET_PROFILES[facts["profile"]], local=facts["local"], prototypes=facts["prototypes"]
        )
    if facts["profile"] in PROMPT_PROFILES:
        return PromptNetwork(PROMPT_PROFILES[facts["profile"]])
    own = {name: facts[name] for name in ("profile", "motion", "value_extraction")}
    return KeyNetwork.from_parts(**own, value_settings=facts.get("value_settings"))


def shipped_weights() -> list[str]:
    """Names of the weights that are beside the code: all in a clone, none in a wheel."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))
