"""The newest item, handed from one thread to others."""

from __future__ import annotations

from threading import Thread

from vcedge_runtime.video.newest import Newest


def test_what_was_not_taken_is_replaced_by_what_is_newer() -> None:
    newest: Newest[str] = Newest()
    newest.put(0, "first")
    newest.put(7, "second")
    assert newest.take_after(-1) == (7, "second")


def test_an_item_is_taken_once_by_each_who_takes() -> None:
    newest: Newest[str] = Newest()
    newest.put(3, "item")
    assert newest.take_after(2) == newest.take_after(-1) == (3, "item")
    assert newest.take_after(3, timeout=0) is None


def test_who_takes_waits_for_who_puts() -> None:
    newest: Newest[str] = Newest()
    found: list[tuple[int, str] | None] = []
    thread = Thread(target=lambda: found.append(newest.take_after(0)))
    newest.put(0, "old")
    thread.start()
    newest.put(1, "new")
    thread.join()
    assert found == [(1, "new")]


def test_what_is_held_at_the_end_can_still_be_taken_and_nothing_after_it() -> None:
    newest: Newest[str] = Newest()
    newest.put(0, "last")
    newest.finish()
    assert newest.finished
    assert newest.take_after(-1) == (0, "last")
    assert newest.take_after(0) is None


def test_who_puts_may_wait_so_that_nothing_is_replaced() -> None:
    newest: Newest[int] = Newest()

    def put() -> None:
        for number in range(100):
            newest.put(number, number, wait=True)
        newest.finish()

    thread = Thread(target=put)
    thread.start()
    taken, last = list[int](), -1
    while (found := newest.take_after(last)) is not None:
        last = found[0]
        taken.append(found[1])
    thread.join()
    assert taken == list(range(100))


def test_who_waits_to_put_goes_on_when_nothing_is_taken_any_more() -> None:
    newest: Newest[str] = Newest()
    newest.put(0, "first")
    thread = Thread(target=lambda: newest.put(1, "second", wait=True))
    thread.start()
    newest.finish()
    thread.join()
    assert newest.take_after(-1) == (1, "second")
