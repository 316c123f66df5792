"""What the suite sets for all of its tests."""

from __future__ import annotations

from hypothesis import settings


def test_no_property_has_a_deadline() -> None:
    """A busy machine makes an example slow, which says nothing of the code."""
    assert settings().deadline is None
