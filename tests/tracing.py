"""Graphs that PyTorch traced before in this run of the tests, whichever process did."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcedge.models.graph import GraphModule

Trace = Callable[["GraphModule", Mapping[str, int], Path], None]


class TracedOnce:
    """Writes a graph as ``export_onnx`` does, which is asked once for each network and lengths.

    Args:
        trace: ``export_onnx``.
        folder: where traced graphs are kept; several processes may share it.
    """

    def __init__(self, trace: Trace, folder: Path) -> None:
        self._trace = trace
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, module: GraphModule, lengths: Mapping[str, int], path: Path) -> None:
        """Write one graph."""
        kept = self._folder / f"{fingerprint(module, lengths)}.onnx"
        if not kept.exists():
            self._trace(module, lengths, path)
            draft = kept.with_suffix(f".{os.getpid()}")
            shutil.copyfile(path, draft)
            draft.replace(kept)
        shutil.copyfile(kept, path)


def fingerprint(module: GraphModule, lengths: Mapping[str, int]) -> str:
    """Everything that a traced graph follows from: parts, their settings and weights, lengths."""
    import torch

    found = sha256(repr((module.spec, sorted(lengths.items()))).encode())
    of_torch = vars(torch.nn.Module()).keys()
    for name, part in module.named_modules():
        settings = {key: value for key, value in vars(part).items() if key not in of_torch}
        found.update(repr((name, type(part).__qualname__, settings)).encode())
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        found.update(repr((name, tensor.dtype, tensor.shape)).encode())
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()
