"""Makes ``tiny``: a bundle that propagates labels, small enough to lie beside the tests.

Its encoder is a mean and a convolution: trackers are tested where they run, without PyTorch.
From the repository's root: ``python -m tests.data.make_tiny``.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tests.conftest import TINY, make_frame, make_mask
from vcedge.models.graph import GraphModule
from vcedge.models.readout import ColumnTotal, JointReadout, LabelReadout
from vcedge_export.onnx import export_onnx
from vcedge_export.proof import prove
from vcedge_export.torch_engine import TorchEngine
from vcedge_export.verify import TruthClip
from vcedge_runtime.frames.colour import lab_from_bgr
from vcedge_runtime.model.bundle import Bundle, GraphFile
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.spec import GraphSpec, TensorSpec
from vcedge_runtime.reading import sha256_of
from vcedge_runtime.sampling.alignment import AlignmentSettings

STRIDE, KEY_DIM, TEMPERATURE = 8, 64, 0.5
FOLDED = 4
"""Pixels of a side that become one before the convolution: it then has few weights."""
LENGTHS = {
    **{"H": 56, "W": 72, "h": 7, "w": 9, "slots": 8, "channels": 4, "references": 2},
    **{"tiles": 3, "queries": 12, "columns": 12, "patch": 40},
}


class TinyEncoder(GraphModule):
    """A projection of what lies around each cell, whose channels are uncorrelated on a texture."""

    def __init__(self) -> None:
        super().__init__()
        # A mean, as a layer that INT8 can take: the one that gives keys is never quantised.
        self._pool = nn.Conv2d(3, 3, FOLDED, FOLDED, groups=3, bias=False)
        self._project = nn.Conv2d(3, KEY_DIM, 6, STRIDE // FOLDED, padding=2)
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            self._pool.weight.fill_(1 / FOLDED**2)
            drawn = torch.randn(self._project.weight.shape, generator=generator)
            self._project.weight.copy_(drawn)
            self._project.bias.zero_()
            lab = torch.from_numpy(lab_from_bgr(make_frame(192, 256))).permute(2, 0, 1)[None]
            keys = self._project(self._pool(lab))[0].flatten(1)
            variances, axes = torch.linalg.eigh(torch.cov(keys))
            # The faintest directions are noise: they are not brought up as far.
            scales = variances.clamp_min(1e-3 * variances.max()).rsqrt()
            whiten = axes * scales @ axes.T
            self._project.bias.copy_(-whiten @ keys.mean(1))
            self._project.weight.copy_(torch.einsum("oc,cikl->oikl", whiten, drawn))

    @property
    def spec(self) -> GraphSpec:
        """The graph's tensors."""
        image = TensorSpec("image", "float32", (1, 3, "H", "W"))
        return GraphSpec("encoder", (image,), (TensorSpec("key", "float32", ("h", "w", KEY_DIM)),))

    def forward(self, image: Tensor) -> Tensor:
        """Encode one frame; see ``FrameEncoder``."""
        key: Tensor = self._project(self._pool(image))
        return key[0].permute(1, 2, 0).contiguous()


def make_tiny(folder: Path) -> Bundle:
    """Write the bundle."""
    modules: dict[str, GraphModule] = {
        "encoder": TinyEncoder(),
        "label_readout": LabelReadout(KEY_DIM, None, TEMPERATURE),
        "cluster_readout": LabelReadout(KEY_DIM, None, TEMPERATURE, second_window=True),
        "column_total": ColumnTotal(KEY_DIM, TEMPERATURE),
        "joint_readout": JointReadout(KEY_DIM, None, TEMPERATURE),
    }
    folder.mkdir(parents=True)
    graphs = {}
    for name, module in modules.items():
        path = folder / f"{name}.onnx"
        export_onnx(module.eval(), LENGTHS, path)
        graphs[name] = GraphFile(module.spec, path.name, sha256_of(path), "fp32")
    lengths = {**LENGTHS, "H": 64, "W": 96}
    macs = modules["encoder"].count_macs(lengths) / (64 * 96)
    graphs["encoder"] = replace(graphs["encoder"], macs_per_pixel=macs)
    parts = Composition(
        STRIDE, KEY_DIM, size=64, radius=4, temperature=TEMPERATURE, alignment=AlignmentSettings()
    )
    bundle = Bundle(folder, "tiny", "edge", parts, graphs, {"data": "none", "steps": 0})
    frames = [make_frame(64, 96, 4 * step) for step in range(4)]
    masks = [np.roll(make_mask(64, 96, 1, 2), 4 * step, axis=1) for step in range(4)]
    engines = {name: TorchEngine(module, module.spec) for name, module in modules.items()}
    found = prove(bundle, lambda: engines, TruthClip("moving texture", frames, masks))
    proven = replace(bundle, verification=found)
    proven.save()
    return proven


if __name__ == "__main__":
    shutil.rmtree(TINY, ignore_errors=True)
    print(make_tiny(TINY).verification["passes"])
