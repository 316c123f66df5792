"""Which frame a full memory drops."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import combinations

RULES = ("fifo", "fid_query", "fid_redundant", "fifo_fid")


def choose_dropped(
    rule: str,
    frames: Sequence[int],
    kept: Collection[int],
    distance_to_current: Callable[[int], float],
    distance: Callable[[int, int], float],
) -> int:
    """Choose the frame that a full memory drops; the oldest of equals.

    DMP prunes by "FIFO + FID"; what is compared with what is our choice:
    ``fifo`` drops the oldest; ``fid_query`` the least like the current frame; ``fid_redundant`` the
    younger of the two most alike; ``fifo_fid`` the least like the current frame of the older half.

    Args:
        rule: one of ``RULES``.
        frames: frame numbers in memory, at least one of which is not in ``kept``.
        kept: frames that are never dropped.
        distance_to_current: how unlike the current frame a frame is.
        distance: how unlike two frames are.
    """
    free = sorted(set(frames) - set(kept))
    if rule == "fid_query":
        return max(free, key=distance_to_current)
    if rule == "fifo_fid":
        return max(free[: -(-len(free) // 2)], key=distance_to_current)
    if rule == "fid_redundant":
        pairs = [pair for pair in combinations(sorted(frames), 2) if not set(pair) <= set(kept)]
        if pairs:
            older, younger = min(pairs, key=lambda pair: distance(*pair))
            return older if younger in kept else younger
    return free[0]
