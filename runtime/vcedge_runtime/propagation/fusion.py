"""How what each reference says of a cell becomes one soft label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import BundleError
from vcedge_runtime.propagation.readout import Readout
from vcedge_runtime.settings import Bounds, check_settings

BRANCHES = ("normal", "forward", "backward")
"""The readings of bidirectional prediction."""
Share = Annotated[float, Bounds(0, 1)]
"""A share of 1."""
LEAST_MASS = np.float32(np.log(1e-6))
"""Below this logarithm a backward row has no weight to speak of (our choice)."""


@dataclass(frozen=True)
class JointFusion:
    """One softmax over the keys of all references (MAST).

    Attributes:
        column_weight: how much of the logarithm of its column's sum each logit loses, so that a
            cell that everything resembles counts less (our choice), 0 to 1; 0 for the plain
            softmax.
    """

    column_weight: Share = 0.0

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class MeanFusion:
    """The mean of what the references say, each by its own softmax."""


@dataclass(frozen=True)
class VoteFusion:
    """The label that most references vote for (MER, eq. 3)."""


@dataclass(frozen=True)
class BidirectionalFusion:
    """Bidirectional Target Prediction: three readings, weighted by how well they show the frame.

    DMP names the branches and the loss weighting; formulas and values are our choice.

    Attributes:
        branches: which readings there are, some of ``BRANCHES``; ``normal`` always.
        weights: ``scalar``: one weight a branch and frame; ``pixel``: one a cell.
        backward: ``column``: by column softmax; ``plain``: by regions that match alone.
        column_weight: of the column sums, 0 to 1; 1 is the column softmax itself.
        candidates: where the backward branch may look: ``sampler``, where the others do;
            ``regions``, in regions of its own that match, whatever the sampler.
        enhanced: whose labels the forward branch mixes with their regions' mean: ``memory``, those
            that are read; ``query``, those that it predicts.
        eta: weight of the region's mean in the forward branch's keys, 0 to 100.
        eta_labels: share of the region's mean in the forward branch's labels, 0 to 1.
        epsilon: added to a branch's loss before it is inverted, 1e-9 to 1,000.
        least: smallest weight of a branch, before the weights are made to add up to 1, 1e-6 to 1/3.
        most: largest, likewise, 1/3 to 1.
    """

    branches: Annotated[tuple[Annotated[str, BRANCHES], ...], Bounds(1, 3)] = BRANCHES
    weights: Annotated[str, ("scalar", "pixel")] = "scalar"
    backward: Annotated[str, ("column", "plain")] = "column"
    column_weight: Share = 1.0
    candidates: Annotated[str, ("sampler", "regions")] = "sampler"
    enhanced: Annotated[str, ("memory", "query")] = "query"
    eta: Annotated[float, Bounds(0, 100)] = 0.5
    eta_labels: Share = 0.2
    epsilon: Annotated[float, Bounds(1e-9, 1000)] = 1e-3
    least: Annotated[float, Bounds(1e-6, 1 / 3)] = 0.05
    most: Annotated[float, Bounds(1 / 3, 1)] = 0.9

    def __post_init__(self) -> None:
        check_settings(self)
        if "normal" not in self.branches:
            raise BundleError(f"received branches={self.branches}; expected normal among them")

    @property
    def needs_regions(self) -> bool:
        """Whether frames are cut into regions, whatever the sampler."""
        backward = "backward" in self.branches and self.candidates == "regions"
        return backward or "forward" in self.branches


Fusion = JointFusion | MeanFusion | VoteFusion | BidirectionalFusion


def reads_columns(fusion: Fusion) -> bool:
    """Whether a fusion needs the sums of the columns, and so the graph ``column_total``."""
    if isinstance(fusion, BidirectionalFusion):
        columns = "backward" in fusion.branches and fusion.backward == "column"
        return columns and fusion.column_weight > 0
    return isinstance(fusion, JointFusion) and fusion.column_weight > 0


def fuse_joint(readout: Readout) -> NDArray[np.float32]:
    """Merge the references' softmaxes into one over all their keys, exactly.

    Returns:
        (T, A, V) float32; 0 where no reference has a key.
    """
    share = share_references(readout.log_total)
    fused: NDArray[np.float32] = (share[..., None] * readout.values).sum(axis=1)
    return fused


def share_references(log_total: NDArray[np.float32]) -> NDArray[np.float32]:
    """Share of each reference in the joint softmax.

    Args:
        log_total: (T, R, A) float32; -inf for a reference without a key.

    Returns:
        (T, R, A) float32, sums to 1 over R; 0 where no reference has a key.
    """
    highest = log_total.max(axis=1, keepdims=True)
    weight = np.exp(log_total - np.where(np.isfinite(highest), highest, 0))
    total = weight.sum(axis=1, keepdims=True)
    return np.asarray(weight / np.where(total > 0, total, 1), np.float32)


def fuse_mean(readout: Readout) -> NDArray[np.float32]:
    """Average over the references that have a key: (T, A, V) float32."""
    return _average(readout.values, ~readout.empty)


def fuse_votes(readout: Readout) -> NDArray[np.float32]:
    """Let each reference vote for its largest label, and average those that voted for the winner.

    The most frequent vote wins (MER, eq. 3); of equal ones, that with the largest sum of soft
    labels (our choice).

    Returns:
        (T, A, L) float32; 0 where no reference has a key.
    """
    may_vote = ~readout.empty
    votes = readout.values.argmax(axis=-1)
    channels = readout.values.shape[-1]
    ballots = (votes[..., None] == np.arange(channels)) & may_vote[..., None]
    soft = (readout.values * may_vote[..., None]).sum(axis=1)
    # Soft labels add up to at most R, so that they decide between equal counts alone.
    winner = (ballots.sum(axis=1) * np.float32(readout.values.shape[1] + 1) + soft).argmax(axis=-1)
    return _average(readout.values, may_vote & (votes == winner[:, None]))


def weigh_branches(
    losses: NDArray[np.float64], settings: BidirectionalFusion
) -> NDArray[np.float64]:
    """Weight branches by their losses, bounded, so that none near 0 takes all (DMP).

    Args:
        losses: (B, ...) float64, not below 0.
        settings: epsilon and bounds.

    Returns:
        (B, ...) float64, sums to 1 over B.
    """
    inverse = 1 / (losses + settings.epsilon)
    share = inverse / inverse.sum(axis=0)
    bounded = np.clip(share, settings.least, settings.most)
    weights: NDArray[np.float64] = bounded / bounded.sum(axis=0)
    return weights


def _average(values: NDArray[np.float32], counts: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Average (T, R, A, V) values over the references that count, (T, R, A) bool."""
    weight = counts.astype(np.float32)
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1)
    mean: NDArray[np.float32] = (weight[..., None] * values).sum(axis=1)
    return mean
