"""What tests of written files share."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from vcedge_runtime.video import live


@pytest.fixture
def limited_files() -> Iterator[None]:
    """No file grows beyond 150 kB, as on a disk that is full."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, former[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, former)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams are opened again at once."""
    monkeypatch.setattr(live, "growing_pauses", lambda: iter(lambda: 0.0, 1.0))
