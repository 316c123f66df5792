"""Decoding ahead: the next frames are made in a thread while this one is tracked."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

from vcedge_runtime.video.frame import Source

Item = TypeVar("Item")
_END = object()


def prefetch(items: Iterable[Item], depth: int = 2) -> Iterator[Item]:
    """Hand on the items of an iterable, which is read by a thread that stays ahead.

    OpenCV decodes without the interpreter's lock, so that decoding and tracking overlap. An error
    of the iterable is raised where its item would have come. Leaving the loop early waits for the
    item under way, at most, and ends the thread. A live source, which reads by itself, is handed
    on as it is: frames that lie ready grow old.

    Args:
        items: usually a ``Source``.
        depth: how many items may be ready or under way.

    Yields:
        The items in their order.
    """
    if isinstance(items, Source) and items.live:
        yield from items
        return
    iterator = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="vcedge-decode") as pool:
        ahead = deque(pool.submit(next, iterator, _END) for _ in range(depth))
        try:
            while (item := ahead.popleft().result()) is not _END:
                ahead.append(pool.submit(next, iterator, _END))
                yield cast("Item", item)
        finally:
            pool.shutdown(cancel_futures=True)
