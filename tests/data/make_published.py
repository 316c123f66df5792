"""Write ``published/*.npz``: what our networks make of weights by a rule.

Run it where ``tests/vcedge/models/test_published.py`` finds the projects' own results and passes.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from tests.published import HERE, make_clip, make_state, track_shares
from vcedge.models.published import load_published
from vcedge.models.weights import Weights
from vcedge_export.plan import ExportOptions
from vcedge_export.planning import open_modules, plan_export
from vcedge_runtime.model.bundle import Bundle

FRAMES = 13


def main() -> None:
    """Write the file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "stcn.pth"
        torch.save(make_state("stcn"), path)
        published = load_published("stcn", path)
    facts = {**published.facts, **published.network.parts}
    model = plan_export(Weights(published.network, facts), ExportOptions(size=96))
    frames, mask = make_clip(FRAMES)
    bundle = Bundle(Path(), "stcn", model.profile, model.composition, {})
    first = encode_first(published.network, frames[0], mask)
    shares = track_shares(bundle, open_modules(model), frames, mask)
    np.savez_compressed(HERE / "stcn.npz", **first, shares=shares[..., ::8, ::8])


if __name__ == "__main__":
    main()
