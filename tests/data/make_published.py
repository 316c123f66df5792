"""Write ``published/*.npz``: what our networks make of weights by a rule.

Run it where ``tests/vcedge/models/test_published.py`` finds the projects' own results and passes.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from tests.published import (
    HEIGHT,
    HERE,
    MEMORIES,
    encode_first,
    make_clip,
    make_state,
    track_shares,
)
from vcedge.models.published import load_published
from vcedge.models.weights import Weights
from vcedge_export.plan import ExportOptions
from vcedge_export.planning import open_modules, plan_export
from vcedge_runtime.model.bundle import Bundle

FRAMES = {"stcn": 13, "xmem": 16}


def main() -> None:
    """Write the files."""
    for kind, frames in FRAMES.items():
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"{kind}.pth"
            torch.save(make_state(kind), path)
            published = load_published(kind, path)
        network = published.network
        facts = {**published.facts, **network.parts}
        options = ExportOptions(size=HEIGHT, overrides={"memory": MEMORIES[kind]})
        model = plan_export(Weights(network, facts), options)
        clip, mask = make_clip(frames)
        bundle = Bundle(Path(), kind, model.profile, model.composition, {})
        first = encode_first(network, clip[0], mask)
        shares = track_shares(bundle, open_modules(model), clip, mask)
        kept = {name: planes[:, ::8] for name, planes in first.items()}
        np.savez_compressed(HERE / f"{kind}.npz", **kept, shares=shares[..., ::8, ::8])


if __name__ == "__main__":
    main()
