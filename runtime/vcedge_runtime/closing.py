"""The ``with`` protocol of everything that must be closed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

Own = TypeVar("Own", bound="Closing")


class Closing(ABC):
    """Leaving the ``with`` closes it, after an interruption too."""

    @abstractmethod
    def close(self) -> None:
        """Finish, and give everything back; closing twice does no harm."""

    def __enter__(self: Own) -> Own:
        """Return the thing itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()
