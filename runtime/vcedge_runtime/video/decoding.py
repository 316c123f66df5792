"""Video decoded by FFmpeg through PyAV: every frame that its decoder gives, in order, numbered."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.errors import SourceError
from vcedge_runtime.video.containers import find_cut
from vcedge_runtime.video.ffmpeg import import_av, tell_reason

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

MOST_FAILURES = 300
"""Packets in a row that may fail, ten seconds of a usual video, before it is given up (ours)."""
TIMEOUT_SECONDS = (15.0, 15.0)
"""What a stream may take to answer, and to give its next packet (our choice)."""
FAR_S, FAR_FRAMES = 0.25, 8.0
"""Seconds and frames without a frame that are told: more than both (our choice)."""
_MOST_FPS = 1000
_MOST_FRAMES = 10**8
"""An announced number of frames beyond this is noise."""


class Decoded(NamedTuple):
    """One decoded frame.

    Attributes:
        number: its place in the video, from 0; frames that cannot be decoded keep theirs.
        image: (H, W, 3) uint8, BGR, 0-255, upright as the container says, by the video's own colour
            matrix and range; the receiver's own.
        time_s: when it is shown, in seconds by the container; None where it does not say.
    """

    number: int
    image: NDArray[np.uint8]
    time_s: float | None


class VideoDecoder:
    """Decodes the frames of a file or a stream from where it begins, once.

    A frame has as many frames before it as packets with an earlier time were sent to the decoder;
    a packet counts where a picture came of it, or where the decoder complained. An AVI's
    placeholders of frames that were dropped when it was recorded show the frame before them again,
    as players do.

    Args:
        target: a file, or a stream's address.

    Attributes:
        fps: frames a second, on the average; None where nothing says.
        length: frames as the container announces them, an estimate; None where it does not.
        lost: numbers of the frames that could not be decoded, so far.
        damage: after the last frame, why the video ends before its end; None otherwise.

    Raises:
        SourceError: it cannot be opened, or holds no video; the message is the reason alone.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, target: Path | str) -> None:
        self._av = import_av()
        self._target = target
        self._file: Any = None
        self.lost: list[int] = []
        self.damage: str | None = None
        self._container = self._open()
        self._stream = self._choose_stream()
        self._has_placeholders = self._container.format.name == "avi"
        # A frame would set up its own for itself, which takes as long as to decode it.
        self._converter = self._av.video.reformatter.VideoReformatter()
        self._sent: list[tuple[int, bool]] = []
        self._next_time: int | None = None
        self._number = self._failures = self._complaints = 0
        self._shown: NDArray[np.uint8] | None = None
        self._shown_s = self._end_s = -math.inf
        self._leap: tuple[int, float] | None = None
        self._leaps = 0
        self.fps = _fps_of(self._stream)
        self.length = _length_of(self._container, self._stream, self.fps)

    def __iter__(self) -> Iterator[Decoded]:
        """Yield the frames in their order of presentation.

        Raises:
            SourceError: too many packets in a row cannot be decoded.
        """
        for packet in self._read_packets():
            self._note_packet(packet)
            for frame in self._decode(packet):
                yield from self._number_frame(frame)
        self._count_missing(len(self._sent))
        if self.damage is None and isinstance(self._target, Path):
            self.damage = find_cut(self._target)

    def list_doubts(self) -> list[str]:
        """What the times of the frames so far say of damage; a recording may have such gaps too."""
        doubts = []
        if self._leap is not None:
            number, seconds = self._leap
            more = f", and {self._leaps - 1} more such gaps" if self._leaps > 1 else ""
            doubts.append(
                f"between its frames {number - 1} and {number} lie {seconds:.1f} s{more}: if it is "
                "damaged there, later frames have lower numbers than they should"
            )
        announced = self._announce_seconds()
        if announced is not None and announced - self._end_s > self._far:
            doubts.append(
                f"it announces {announced:.1f} s, and its last frame ends at {self._end_s:.1f} s: "
                "the rest may be damaged"
            )
        if self.lost and self._stream.frames > self._number:
            doubts.append(f"it announces {self._stream.frames} frames, and gave {self._number}")
        return doubts

    def close(self) -> None:
        """Give the file or stream back; closing twice does no harm."""
        self._container.close()
        if self._file is not None:
            self._file.close()

    def _open(self) -> InputContainer:
        """Open a stream, or a file by a name that FFmpeg takes for a file's whatever is in it."""
        name: Any = self._target
        streamed = isinstance(name, str)
        options = _options_of(name) if streamed else {}
        try:
            if not streamed:
                name = f"file:{self._target}"
                if not _is_utf8(name):  # FFmpeg then reads what Python opened
                    name = self._file = Path(self._target).open("rb")  # noqa: SIM115
            timeout = TIMEOUT_SECONDS if streamed else None
            return self._av.open(name, options=options, timeout=timeout)  # type: ignore[no-any-return]
        except (self._av.FFmpegError, OSError, ValueError) as exc:
            if self._file is not None:
                self._file.close()
            # FFmpeg's own error repeats the address, and the password in it.
            raise SourceError(tell_reason(exc)) from None

    def _choose_stream(self) -> VideoStream:
        """The first video that is no cover picture of a sound file."""
        cover = self._av.stream.Disposition.attached_pic
        for stream in self._container.streams.video:
            if not stream.disposition & cover and stream.codec_context is not None:
                # Threads that take a frame each give it as many frames later as they are.
                endless = isinstance(self._target, str) and self._container.duration is None
                stream.thread_type = "SLICE" if endless else "AUTO"
                chosen: VideoStream = stream
                return chosen
        self.close()
        raise SourceError("it holds no video that can be decoded")

    def _read_packets(self) -> Iterator[Packet[Any]]:
        """Yield packets; the last one, empty, drains the decoder. Damaged ones are passed over."""
        failures = 0
        packets = self._container.demux(self._stream)
        while failures <= MOST_FAILURES:
            try:
                packet = next(packets)
            except (StopIteration, self._av.EOFError):
                return
            except self._av.FFmpegError as exc:
                failures += 1
                self._complaints += 1
                packets = self._container.demux(self._stream)
                if not isinstance(exc, self._av.InvalidDataError) or failures > MOST_FAILURES:
                    self.damage = tell_reason(exc)
                    break
                continue
            failures = 0
            yield packet
        yield self._av.Packet()

    def _note_packet(self, packet: Packet[Any]) -> None:
        """Remember when what is sent to the decoder is shown, and an AVI's placeholders."""
        if not packet.size or packet.is_discard or packet.pts is None:
            return
        heapq.heappush(self._sent, (packet.pts, False))
        if self._has_placeholders and packet.dts is not None:
            for time in range(self._next_time or packet.dts, packet.dts):
                heapq.heappush(self._sent, (time, True))
            self._next_time = packet.dts + 1

    def _decode(self, packet: Packet[Any]) -> list[VideoFrame]:
        try:
            frames: list[VideoFrame] = self._stream.decode(packet if packet.size else None)
        except self._av.EOFError:
            return []
        except self._av.FFmpegError as exc:
            self._failures += 1
            self._complaints += 1
            if self._failures > MOST_FAILURES:
                raise SourceError(
                    f"after frame {self._number - 1} {self._failures} packets in a row cannot be "
                    f"decoded: {tell_reason(exc)}"
                ) from None
            return []
        if frames:
            self._failures = 0
        return frames

    def _number_frame(self, frame: VideoFrame) -> Iterator[Decoded]:
        """Give a frame its number, after the placeholders before it."""
        missing = 0
        while frame.pts is not None and self._sent and self._sent[0][0] <= frame.pts:
            time, placeholder = heapq.heappop(self._sent)
            if placeholder and self._shown is not None:
                missing = self._count_missing(missing)
                yield self._show(self._shown.copy(), time)
            else:
                missing += time < frame.pts
        self._count_missing(missing)
        if frame.pts is not None and self._stream.time_base is not None:
            ends = frame.pts + (frame.duration or 0)
            self._end_s = max(self._end_s, float(ends * self._stream.time_base))
        self._shown = self._image_of(frame)
        # A placeholder may need it again, and the receiver may draw in it.
        image = self._shown.copy() if self._has_placeholders else self._shown
        yield self._show(image, frame.pts)

    def _show(self, image: NDArray[np.uint8], time: int | None) -> Decoded:
        base = self._stream.time_base
        seconds = None if time is None or base is None else float(time * base)
        if seconds is not None:
            apart = seconds - self._shown_s
            if self._far < apart < math.inf and self.lost[-1:] != [self._number - 1]:
                self._leap, self._leaps = self._leap or (self._number, apart), self._leaps + 1
            self._shown_s = seconds
        self._number += 1
        return Decoded(self._number - 1, image, seconds)

    @property
    def _far(self) -> float:
        """Seconds between two frames that are a gap."""
        return FAR_S if self.fps is None else max(FAR_S, FAR_FRAMES / self.fps)

    def _announce_seconds(self) -> float | None:
        """How long a Matroska file says that its video is; others list their packets."""
        if "matroska" not in self._container.format.name:
            return None
        told = self._stream.metadata.get("DURATION", "")
        with suppress(ValueError):
            hours, minutes, seconds = told.split(":")
            return 3600 * float(hours) + 60 * float(minutes) + float(seconds)
        alone = len(self._container.streams) == 1
        duration = self._container.duration
        return duration / 1e6 if alone and duration else None

    def _count_missing(self, missing: int) -> int:
        """Number packets of which no picture came, as far as the decoder complained of some.

        Without a complaint they hold no frame of their own, but a second field, say.
        """
        lost = min(missing, self._complaints)
        self._complaints -= lost
        self.lost += range(self._number, self._number + lost)
        self._number += lost
        return 0

    def _image_of(self, frame: VideoFrame) -> NDArray[np.uint8]:
        converted = self._converter.reformat(frame, format="bgr24")
        image = np.asarray(converted.to_ndarray(), np.uint8)
        turns = round(frame.rotation / 90)
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _options_of(address: str) -> dict[str, str]:
    """What FFmpeg is told of a stream: RTSP through firewalls, UDP that outlives a full buffer."""
    scheme = address.partition(":")[0].lower()
    if scheme in ("rtsp", "rtsps"):
        return {"rtsp_transport": "tcp", "fflags": "nobuffer"}
    return {"overrun_nonfatal": "1"} if scheme == "udp" else {}


def _fps_of(stream: VideoStream) -> float | None:
    rate: Fraction | None = stream.average_rate or stream.guessed_rate
    return float(rate) if rate and 0 < rate <= _MOST_FPS else None


def _length_of(container: InputContainer, stream: VideoStream, fps: float | None) -> int | None:
    length = stream.frames
    if not length and fps and container.duration:
        length = round(container.duration / 1e6 * fps)
    return length if 0 < length < _MOST_FRAMES else None


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
