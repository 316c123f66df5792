"""Names of objects, and the places of these among the categories."""

from __future__ import annotations

from typing import Any

import pytest

from vcedge_runtime.errors import OutputError
from vcedge_runtime.video.categories import Categories


def test_several_objects_may_share_a_name_and_the_order_is_the_given_one() -> None:
    categories = Categories({7: "car", 2: "person", 9: "car"})
    assert categories.names == ["car", "person"]
    assert [categories.place_of(i) for i in (9, 2, 7)] == [0, 1, 0]


def test_an_object_without_a_name_is_an_object_once_it_is_seen() -> None:
    categories = Categories({7: "car"})
    assert (categories.name_of(3), categories.names) == ("object", ["car"])
    assert [categories.place_of(i) for i in (3, 7, 4)] == [1, 0, 1]
    assert categories.names == ["car", "object"]
    assert Categories().place_of(255) == 0


@pytest.mark.parametrize("object_id", [0, 256, -1, True, "3", 1.0])
def test_an_id_that_is_no_objects_is_refused(object_id: Any) -> None:
    with pytest.raises(OutputError, match="expected an id from 1 to 255"):
        Categories({object_id: "car"})


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[2J", "x" * 101, None, 3, "caf\udce9"])
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises(OutputError, match="as the name of object 3; expected up to 100 characters"):
        Categories({3: name})
