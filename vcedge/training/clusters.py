"""MER's Multi-Cluster Sampler on training clips: the run-time sampler's windows as a dense bias."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vcedge.models.affinity import MASKED_LOGIT
from vcedge.training.losses import others
from vcedge_runtime.sampling.clusters import ClusterSettings, ClusterWindows, cluster_windows


@torch.no_grad()
def cluster_bias(keys: Tensor, target: int, settings: ClusterSettings) -> Tensor:
    """What the logits of a clip's target gain by the weights of its clusters (MER, eq. 13 to 15).

    Clustering is the runtime's own, on the host.

    Args:
        keys: (B, T, C, h, w) float32.
        target: number of the frame that is predicted.
        settings: of the sampler; its ``radius_max`` is the radius of the window.

    Returns:
        (B, h * w, R * h * w) float32, for the clip's other frames in order: the logarithm of the
        weight, or ``MASKED_LOGIT`` where there is none.
    """
    height, width = keys.shape[-2:]
    order = [target, *others(keys.shape[1], target)]
    cells = keys[:, order].detach().float().permute(0, 1, 3, 4, 2).cpu().numpy()
    ys, xs = np.divmod(np.arange(height * width), width)
    distance = np.maximum(np.abs(ys[:, None] - ys), np.abs(xs[:, None] - xs))
    found = [
        _weigh_pairs(cluster_windows(list(clip), settings, settings.radius_max), distance, settings)
        for clip in cells
    ]
    weight = torch.from_numpy(np.stack(found)).to(keys.device)
    return torch.where(weight > 0, weight.log(), MASKED_LOGIT)


def _weigh_pairs(
    found: ClusterWindows, distance: np.ndarray, settings: ClusterSettings
) -> np.ndarray:
    """(n, R * n) float32 weights of the exponentials, as ``LabelReadout`` has them."""
    own, *references = (ids.reshape(-1) for ids in found.ids)
    near = (distance <= found.size_origin).astype(np.float32)
    outer = distance <= found.outer.reshape(-1, 1)
    within = distance <= settings.reach
    weights = [
        near + settings.delta * (outer | (within & (own[:, None] == ids))) for ids in references
    ]
    return np.concatenate(weights, 1).astype(np.float32)
