"""FFmpeg through PyAV, opened when it is needed, without its noise on the terminal."""

from __future__ import annotations

from types import ModuleType

from vcedge_runtime.errors import MissingExtraError


def import_av() -> ModuleType:
    """Import PyAV, silent.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import av
        import av.logging
    except ImportError as exc:
        raise MissingExtraError(
            f"PyAV, which decodes and encodes video, cannot be imported ({exc}); install av"
        ) from exc
    av.logging.set_level(None)
    return av


def tell_reason(exc: Exception) -> str:
    """What FFmpeg says, without its numbers and names of functions."""
    return str(getattr(exc, "strerror", None) or exc).lower()
