"""What objects are called in the files of other tools: a category for each, one for several."""

from __future__ import annotations

from collections.abc import Mapping

from vcedge_runtime.errors import OutputError
from vcedge_runtime.settings import show

UNNAMED = "object"
"""Category of the objects that have no name."""
LONGEST = 100
"""Characters of a name (our choice)."""


class Categories:
    """Names of objects, and the place of each name among them.

    Args:
        names: by object id; several objects may have one name, and the others are ``object``.

    Attributes:
        names: of every category so far, in an order that stays: those that were given, in theirs,
            and ``object`` once one is seen that has no name.

    Raises:
        OutputError: an id is no object's, or a name is empty, too long or does not print.
    """

    def __init__(self, names: Mapping[int, str] | None = None) -> None:
        given = dict(names or {})
        for object_id, name in given.items():
            _check_name(object_id, name)
        self._given = given
        self.names = list(dict.fromkeys(given.values()))

    def name_of(self, object_id: int) -> str:
        """Name of an object's category."""
        return self._given.get(object_id, UNNAMED)

    def place_of(self, object_id: int) -> int:
        """Place of an object's category among ``names``, from 0."""
        name = self.name_of(object_id)
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)


def _check_name(object_id: object, name: object) -> None:
    if type(object_id) is not int or not 1 <= object_id <= 255:
        raise OutputError(
            f"received a name for object {show(object_id)}; expected an id from 1 to 255"
        )
    if not (isinstance(name, str) and name.strip() and name.isprintable() and len(name) <= LONGEST):
        raise OutputError(
            f"received {show(name)} as the name of object {object_id}; expected up to {LONGEST} "
            "characters that print, such as car"
        )
