"""DMP's memory gates on the frames of a training clip, by colour instead of labels."""

from __future__ import annotations

import torch
from torch import Tensor

from vcedge.models.affinity import affinity_logits, read_values
from vcedge.training.losses import COLOUR_SCALE, others

BINS = 16
"""Classes of a colour from -1 to 1 for the agreement of two reconstructions (our choice)."""
BLUR = 0.02
"""Sigma of the blur before a position is taken, as a share of the longer side (our choice)."""


@torch.no_grad()
def memory_bias(
    keys: Tensor, values: Tensor, target: int, bias: Tensor, beta: float, gamma: float
) -> Tensor:
    """Additive mask of the frames of a clip that its memory holds for one target.

    A frame is in short-term memory if its position is nearer than ``beta`` to the target's, or if
    it is the target's neighbour; another is in long-term memory if what it gives agrees by more
    than ``gamma`` with what short-term memory gives (DMP; the agreement of colours is our choice).

    Args:
        keys: (B, T, C, h, w).
        values: (B, T, 1, h, w) colours times ``COLOUR_SCALE``.
        target: number of the frame that is predicted.
        bias: (h * w, h * w) window mask.
        beta: share of the frame's side.
        gamma: mean IoU of the colours' classes.

    Returns:
        (B, 1, R * h * w) float32, 0 or -1e4, for the clip's other frames in order.
    """
    refs = others(keys.shape[1], target)
    positions = feature_positions(keys)
    near = (positions[:, refs] - positions[:, [target]]).norm(dim=-1) < beta
    near[:, refs.index(target - 1 if target else 1)] = True
    logits = affinity_logits(keys[:, target], keys[:, refs], bias)
    short = read_values(logits + _spread(near, bias), values[:, refs])
    admitted = near.clone()
    for place, ref in enumerate(refs):
        alone = affinity_logits(keys[:, target], keys[:, [ref]], bias)
        far = read_values(alone, values[:, [ref]])
        admitted[:, place] |= colour_agreement(far, short) > gamma
    return _spread(admitted, bias)


def feature_positions(keys: Tensor) -> Tensor:
    """Where each frame's features are strongest after a blur (DMP, as printed).

    Args:
        keys: (B, T, C, h, w).

    Returns:
        (B, T, 2) float32 row and column, as shares of the frame's sides.
    """
    height, width = keys.shape[-2:]
    energy = keys.abs().sum(2).float()
    for axis, length in ((-2, height), (-1, width)):
        place = torch.arange(length, device=keys.device, dtype=torch.float32)
        sigma = BLUR * max(height, width)
        kernel = torch.softmax(-((place[:, None] - place) ** 2) / (2 * sigma**2), -1)
        energy = torch.matmul(kernel, energy) if axis == -2 else torch.matmul(energy, kernel.T)
    best = energy.flatten(2).argmax(-1)
    return torch.stack([(best // width + 0.5) / height, (best % width + 0.5) / width], -1)


def colour_agreement(first: Tensor, second: Tensor) -> Tensor:
    """Mean IoU of the colour classes that either map has.

    Args:
        first: (B, 1, h, w) colours times ``COLOUR_SCALE``.
        second: the same of another reconstruction.

    Returns:
        (B,) float32 in [0, 1].
    """
    classes = [
        torch.nn.functional.one_hot(
            ((m.flatten(1) / COLOUR_SCALE + 1) * BINS / 2).long().clamp(0, BINS - 1), BINS
        ).bool()
        for m in (first, second)
    ]
    both = (classes[0] & classes[1]).sum(1).float()
    either = (classes[0] | classes[1]).sum(1).float()
    present = (either > 0).float()
    return (both / either.clamp(min=1) * present).sum(-1) / present.sum(-1)


def _spread(admitted: Tensor, bias: Tensor) -> Tensor:
    """(B, R) bool to (B, 1, R * h * w) additive mask."""
    mask = (~admitted).float() * -1e4
    return mask.repeat_interleave(bias.shape[0], 1)[:, None]
