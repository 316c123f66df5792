"""What the log uses of Rerun, with its names and rules, for machines that do not have it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO


class Box2DFormat(Enum):
    """How a box is given."""

    XYWH = "xywh"


class _Logged:
    """What was given to one of Rerun's archetypes."""

    def __init__(self, *given: Any, **named: Any) -> None:
        self.given, self.named = given, named


class Image(_Logged):
    """A picture."""

    def compress(self, jpeg_quality: int = 95) -> Image:
        """Stay as it is."""
        assert 0 < jpeg_quality <= 100
        return self


class SegmentationImage(_Logged):
    """Ids of classes."""


class Boxes2D(_Logged):
    """Boxes."""


class Scalars(_Logged):
    """A number."""


class AnnotationContext(_Logged):
    """Names and colours of classes."""


class Clear(_Logged):
    """Nothing any more."""


class ChunkBatcherConfig(_Logged):
    """How much is gathered."""


class RecordingStream:
    """A stream that keeps what it gets, and writes a file of its size."""

    opened: Sequence[RecordingStream] = ()
    unreachable = False

    def __init__(self, application_id: str, *, batcher_config: Any = None) -> None:
        self.logged: list[tuple[dict[str, Any], str, Any]] = []
        self.static: dict[str, Any] = {}
        self.flushed = 0
        self.place: str | None = None
        self._file: BinaryIO | None = None
        self._times: dict[str, Any] = {}
        type(self).opened = (*type(self).opened, self)

    def save(self, path: str, *, write_footer: bool = True) -> None:
        """Begin a file."""
        self.footer = write_footer
        self._file = Path(path).open("wb")  # noqa: SIM115 - closed later
        self._file.write(b"RRF2")

    def connect_grpc(self, url: str | None = None) -> None:
        """Name a viewer; whether it is there shows later."""
        if url is not None and not url.endswith("/proxy"):
            raise RuntimeError(f"invalid endpoint {url!r}")
        self.place = url or "rerun+http://127.0.0.1:9876/proxy"

    def set_time(self, timeline: str, **value: Any) -> None:
        """Say when what follows was."""
        self._times[timeline] = value

    def log(self, entity_path: str, entity: Any, *, static: bool = False) -> None:
        """Keep what is logged."""
        if static:
            self.static[entity_path] = entity
        else:
            if self._file is not None:
                self._file.write(bytes(1000))
            self.logged.append((dict(self._times), entity_path, entity))

    def flush(self, *, timeout_sec: float = 1e38) -> None:
        """Count how often."""
        self.flushed += 1
        if self.unreachable:
            self.disconnect()
            raise RuntimeError("gRPC has been unable to connect")
        if self._file is not None:
            self._file.flush()

    def disconnect(self) -> None:
        """Finish the file."""
        if self._file is not None:
            self._file.close()
