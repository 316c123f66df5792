"""Weights that other projects published: read without running anything, renamed, checked."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from vcedge.models.stcn import STCN
from vcedge.models.xmem import XMem
from vcedge_runtime.errors import BundleError
from vcedge_runtime.reading import read_bounded
from vcedge_runtime.telling import tell_cause

MOST_BYTES = 2**31
"""Of a file (our choice): the published ones have 218 and 249 MB; checkpoints with an optimiser's
state three times as many."""
HOLDERS = ("network", "state_dict", "model")
"""Under which a checkpoint holds the network's tensors, beside others."""
WRAPPER = "module."
"""What comes before every name where several GPUs trained."""
TOLD, MOST_SHOWN = 2, 80
"""Names that a refusal lists of each kind, and letters of each that it shows."""

Tensors = dict[str, Tensor]
_STAGES = ((r"res2|layer1", "stages.0"), (r"layer2", "stages.1"), (r"layer3", "stages.2"))
_BLOCKS = (
    *((rf"^(query|value)\.trunk\.({old})\.", rf"\1.trunk.{new}.") for old, new in _STAGES),
    (r"^(query|value)\.trunk\.conv1\.", r"\1.trunk.stem.0."),
    (r"^(query|value)\.trunk\.bn1\.", r"\1.trunk.stem.1."),
    (r"\.downsample\.", ".shortcut."),
    (r"\.attention\.ChannelGate\.mlp\.1\.", ".gate.channel.0."),
    (r"\.attention\.ChannelGate\.mlp\.3\.", ".gate.channel.2."),
    (r"\.attention\.SpatialGate\.spatial\.conv\.", ".gate.place."),
    (r"^decoder\.up_16_8\.", "decoder.up8."),
    (r"^decoder\.up_8_4\.", "decoder.up4."),
    (r"\.skip_conv\.", ".skip."),
    (r"\.out_conv\.", ".block."),
    (r"^decoder\.pred\.", "decoder.predict."),
)
_PARTS = (
    (r"^key_encoder\.", "query.trunk."),
    (r"^value_encoder\.fuser\.", "value.fuser."),
    (r"^value_encoder\.hidden_reinforce\.", "reinforce."),
    (r"^value_encoder\.", "value.trunk."),
    (r"^key_proj\.key_proj\.", "query.key."),
    (r"^key_proj\.d_proj\.", "query.shrinkage."),
    (r"^key_proj\.e_proj\.", "query.selection."),
    (r"^key_comp\.", "query.content."),
)


@dataclass(frozen=True)
class Project:
    """Another project whose weights are imported.

    Attributes:
        name: as it calls itself.
        repository: where it lies.
        licence: of its weights and its code.
        network: the class of ours that computes the same.
        names: what its names become, as patterns and replacements that are applied in turn.
        frame_first: of ours, kernels that see the frame's features behind the object's, which the
            project has before them.
    """

    name: str
    repository: str
    licence: str
    network: type[STCN | XMem]
    names: Sequence[tuple[str, str]]
    frame_first: Sequence[str] = ()


PROJECTS = {
    "stcn": Project("STCN", "hkchengrex/STCN", "MIT", STCN, (*_PARTS, *_BLOCKS)),
    "xmem": Project(
        "XMem",
        "hkchengrex/XMem",
        "MIT",
        XMem,
        (*_PARTS, *_BLOCKS),
        tuple(f"value.fuser.block1.{part}.weight" for part in ("conv1", "shortcut")),
    ),
}
"""By the name that the command line has for them."""


@dataclass(frozen=True)
class Published:
    """A network with published weights.

    Attributes:
        network: in evaluation mode, float32.
        facts: plain JSON values: the project, its licence, the file and its sha256.
    """

    network: STCN | XMem
    facts: Mapping[str, Any]


def load_published(kind: str, path: Path) -> Published:
    """Read a file of published weights.

    Args:
        kind: a key of ``PROJECTS``.
        path: a state dict that PyTorch saved, alone or within a checkpoint.

    Raises:
        BundleError: the file cannot be read, wants to run code, or does not hold such weights.
    """
    project = PROJECTS[kind]
    data = _read(path)
    tensors = _find_tensors(_unpickle(data, path), path)
    # Weights to begin with would be made in vain, which takes longer than all else.
    with torch.device("meta"):
        network = project.network()
    own = network.state_dict()
    origins = {rename(name, project.names): name for name in tensors}
    renamed = {ours: tensors[theirs] for ours, theirs in origins.items()}
    _fold_biases(renamed, own)
    _widen_masks(renamed, own)
    _turn_frames(renamed, own, project)
    faults = _find_faults(renamed, own, origins)
    if faults:
        raise BundleError(
            f"received {path}, which does not hold the weights of {project.name}: of its tensors "
            f"{'; '.join(faults)}; pass what {project.repository} publishes"
        )
    counters = {name: torch.zeros((), dtype=torch.int64) for name in own if _counts(name)}
    known = {**renamed, **counters}
    network.load_state_dict({name: known[name].to(own[name].dtype) for name in own}, assign=True)
    facts = {
        "model": project.name,
        "published": project.repository,
        "licence": project.licence,
        "file": path.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "data": "see the project: its training data have terms of their own",
    }
    return Published(network.eval(), facts)


def rename(name: str, names: Sequence[tuple[str, str]]) -> str:
    """Our name of a project's tensor; what has no other name keeps its own."""
    for pattern, replacement in names:
        name = re.sub(pattern, replacement, name)
    return name


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, MOST_BYTES)
    except OSError as exc:
        raise BundleError(
            f"{path} cannot be read ({exc.strerror}); expected a file of published weights"
        ) from exc


def _unpickle(data: bytes, path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        raise BundleError(
            f"received {path}, which holds more than tensors, or is cut short; nothing of it was "
            "run; expected a state dict that torch.save wrote; download it again"
        ) from exc
    # A damaged file makes an unpickler raise whatever there is.
    except Exception as exc:
        raise BundleError(
            f"received {path}, which PyTorch cannot read ({tell_cause(exc)}); expected a state "
            "dict that torch.save wrote; download it again"
        ) from exc


def _find_tensors(held: Any, path: Path) -> Tensors:
    """The network's tensors by name, wherever a checkpoint holds them."""
    for holder in HOLDERS:
        if isinstance(held, Mapping) and isinstance(held.get(holder), Mapping):
            held = held[holder]
            break
    if not isinstance(held, Mapping) or not held:
        raise BundleError(
            f"received {path}, which holds no tensors by name; expected a state dict, alone or as "
            f"{', '.join(HOLDERS)} of a checkpoint"
        )
    strange = [str(n) for n, v in held.items() if not (isinstance(n, str) and torch.is_tensor(v))]
    if strange:
        raise BundleError(
            f"received {path}, in which {_tell(strange)} is no tensor; expected a state dict"
        )
    prefix = WRAPPER if all(name.startswith(WRAPPER) for name in held) else ""
    return {name[len(prefix) :]: tensor for name, tensor in held.items()}


def _fold_biases(tensors: Tensors, own: Mapping[str, Tensor]) -> None:
    """Move biases of convolutions that ours lack into the mean of the normalisation behind them.

    It subtracts that from what the convolution gives, so that this changes nothing.
    """
    for name in [name for name in tensors if name.endswith(".bias") and name not in own]:
        layer = name.removesuffix(".bias")
        norm = re.sub(r"conv(\d)$", r"bn\1", layer)
        norm = re.sub(r"\.0$", ".1", norm) if norm == layer else norm
        mean = f"{norm}.running_mean"
        if mean in tensors and tensors[mean].shape == tensors[name].shape:
            tensors[mean] = tensors[mean].double() - tensors.pop(name).double()


def _widen_masks(tensors: Tensors, own: Mapping[str, Tensor]) -> None:
    """Let weights that take one object's mask alone take the others' too, and heed them not."""
    name = "value.trunk.stem.0.weight"
    if name in tensors and tensors[name].shape[1:2] == (4,):
        kernel = tensors[name]
        wider = torch.cat([kernel, torch.zeros_like(kernel[:, :1])], 1)
        if wider.shape == own[name].shape:
            tensors[name] = wider


def _turn_frames(tensors: Tensors, own: Mapping[str, Tensor], project: Project) -> None:
    """Bring the channels of kernels into our order: the object's features, then the frame's."""
    for name in set(project.frame_first) & set(tensors):
        if tensors[name].shape == own[name].shape:
            frame = own["query.key.weight"].shape[1]
            tensors[name] = tensors[name].roll(-frame, 1)


def _find_faults(
    tensors: Tensors, own: Mapping[str, Tensor], origins: Mapping[str, str]
) -> list[str]:
    """Hold every name and shape to the network's, and every number to being one.

    Args:
        tensors: by our names.
        own: the network's.
        origins: the file's name of each of ours.
    """
    names = {name for name in own if not _counts(name)}
    given = {name for name in tensors if not _counts(name)}
    both, faults = names & given, []
    if given - names:
        faults.append(f"{len(given - names)} are foreign ({_tell(given - names, origins)})")
    if names - given:
        faults.append(f"{len(names - given)} are missing ({_tell(names - given, origins)})")
    shapes = {name for name in both if tensors[name].shape != own[name].shape}
    for first in sorted(shapes)[:1]:
        wanted, found = (tuple(each[first].shape) for each in (own, tensors))
        told = f"{origins[first]} {found}, expected {wanted}"
        faults.append(f"{len(shapes)} have other shapes ({told})")
    broken = {name for name in both - shapes if not torch.isfinite(tensors[name]).all()}
    if broken:
        faults.append(f"{len(broken)} are not finite ({_tell(broken, origins)})")
    return faults


def _counts(name: str) -> bool:
    """Whether a tensor counts the batches of training, which no network needs that runs."""
    return name.endswith("num_batches_tracked")


def _tell(names: Iterable[str], origins: Mapping[str, str] = MappingProxyType({})) -> str:
    shown = sorted(origins.get(name, name)[:MOST_SHOWN] for name in names)
    return ", ".join(shown[:TOLD]) + (", ..." if len(shown) > TOLD else "")
