"""Any frame of a recorded video, in any order, within bounded memory: for who scrubs, or goes back.

A file's packets are listed once, without decoding them, so that a frame is found by its time: the
decoder begins at the key frame before it. Where a container does not tell times, and for pages and
addresses, frames are read from the first one on.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.closing import Closing
from vcedge_runtime.errors import SourceError
from vcedge_runtime.video.decoding import VideoDecoder
from vcedge_runtime.video.frame import Frame, Source
from vcedge_runtime.video.opencv import quiet_opencv
from vcedge_runtime.video.pictures import ImageSource
from vcedge_runtime.video.videos import VideoSource

MOST_BYTES = 2**28
"""Of decoded frames that are kept: 41 of 1920x1080 (our choice)."""
LEAST_KEPT = 4
"""Frames that are kept however large they are."""
NEAR = 16
"""Frames ahead that are decoded rather than sought (our choice)."""
_EARLIER = (0, 1, 4, None)
"""How many key frames further back it is tried, and at last from the beginning: some containers
seek too far."""
Lazy = tuple[int, Callable[[], NDArray[np.uint8]]]
"""A frame's number, and what makes its image: not every frame that is decoded is looked at."""


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """When each frame of a file is shown, in its stream's unit.

    Attributes:
        times: (N,) int64, rising; a frame's place is its number.
        keys: (K,) int64, rising: those of the frames that can be decoded without others.
    """

    times: NDArray[np.int64]
    keys: NDArray[np.int64]

    def key_before(self, number: int, earlier: int) -> int | None:
        """Time of the last key frame up to a frame, or of one that lies further back."""
        at = int(np.searchsorted(self.keys, self.times[number], "right")) - 1 - earlier
        return int(self.keys[at]) if at >= 0 else None


class SeekableVideo(VideoDecoder):
    """Decodes a file from any frame on.

    Attributes:
        index: of its frames; None where the container does not tell their times.

    Raises:
        SourceError: it cannot be opened, or holds no video; the message is the reason alone.
    """

    def __init__(self, target: Path) -> None:
        super().__init__(target)
        self.index = self._list_frames()

    def read_from(self, number: int, earlier: int | None = 0) -> Iterator[Lazy]:
        """Yield the frames from the key frame before one on, those that are damaged too.

        Args:
            number: the frame.
            earlier: how many key frames further back to begin; None from the first frame on.
        """
        if self.index is None:
            raise SourceError("its frames have no times")
        key = None if earlier is None else self.index.key_before(number, earlier)
        try:
            if key is None:
                self.close()
                self._container = self._open()
                self._stream = self._choose_stream()
            else:
                self._container.seek(key, stream=self._stream)
            for packet in self._read_packets():
                for frame in self._decode(packet):
                    if frame.pts is None:
                        continue
                    place = int(np.searchsorted(self.index.times, frame.pts))
                    known = place < len(self.index.times) and self.index.times[place] == frame.pts
                    # What is shown before the key frame may lack what it was made of.
                    whole = key is None or frame.pts >= key or not frame.is_corrupt
                    if known and whole:
                        yield place, partial(self._image_of, frame)
        except self._av.FFmpegError as exc:
            raise SourceError(str(exc)) from None

    def read_span(self, start: int, stop: int, earlier: int) -> list[Frame] | None:
        """Read the frames from one to before another, as they come from the first frame on.

        Args:
            start: the first of them.
            stop: the one after the last of them.
            earlier: as in ``read_from``.

        Returns:
            Those that can be decoded; None where decoding began too late.
        """
        if self.index is None or start >= len(self.index.times):
            return []
        times, unit = self.index.times, self._stream.time_base
        before = max(0, start - 1)
        frames, expected = list[Frame](), None
        for number, make_image in self.read_from(before, earlier):
            if expected is None and number > before:
                return None
            if number >= stop:
                break
            if number >= start:
                time_s = float((times[number] - times[0]) * unit)
                lost = number - (expected or 0)
                name = f"{number:05d}"
                frames.append(Frame(number, name, make_image(), lost, time_s=time_s))
            expected = number + 1
        return None if expected is None else frames

    def _list_frames(self) -> VideoIndex | None:
        """Read every packet once; None where their times do not say which frame is which."""
        times, keys, next_time = list[int](), list[int](), None
        for packet in self._read_packets():
            if not packet.size or packet.is_discard:
                continue
            dropped = self._has_placeholders and next_time not in (None, packet.dts)
            if packet.pts is None or dropped:
                return None
            next_time = (packet.dts or 0) + 1
            times.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
        if not keys or len(set(times)) < len(times):
            return None
        return VideoIndex(np.sort(np.array(times, np.int64)), np.sort(np.array(keys, np.int64)))


class FrameReader(Closing):
    """Gives any frame of a source that is no live one; the last ones read are kept.

    Threads may share it. A frame that cannot be decoded shows the one before it.

    Args:
        source: an open source; closed by the reader.
        most_bytes: of the frames that are kept.
        length: number of frames, where another reader of the same source has counted them.

    Attributes:
        length: number of frames; where nothing tells it for sure, all are decoded once.

    Raises:
        SourceError: the source is live, or cannot be read.
    """

    def __init__(
        self, source: Source, *, most_bytes: int = MOST_BYTES, length: int | None = None
    ) -> None:
        if source.live:
            raise SourceError(
                f"received {source.label}, of which no frame comes again; expected a recorded video"
            )
        self.source = source
        height, width = source.frame_hw
        self._most = max(LEAST_KEPT, most_bytes // (3 * height * width))
        self._kept: OrderedDict[int, Frame] = OrderedDict()
        self._lock = threading.Lock()
        self._video = _open_seekable(source)
        self._frames: Iterator[Lazy] = iter(())
        self._next = self._last = -1
        self.length = self._count_frames() if length is None else length

    def read(self, index: int) -> Frame:
        """Read a frame.

        Args:
            index: 0 to ``length - 1``.

        Returns:
            The frame; its image is shared by all who read it, and only read.

        Raises:
            SourceError: there is no such frame, or it cannot be decoded.
        """
        if not 0 <= index < self.length:
            raise SourceError(
                f"received frame {index} of {self.source.label}; expected 0 to {self.length - 1}"
            )
        with self._lock:
            frame = self._kept.get(index) or self._fetch(index)
            self._last = index
            return frame

    def find(self, index: int) -> Frame | None:
        """A frame that is kept; None where it would have to be decoded."""
        with self._lock:
            return self._kept.get(index)

    def close(self) -> None:
        """Give the file back; closing twice does no harm."""
        with self._lock:
            if self._video is not None:
                self._video.close()
            self.source.close()
            self._kept.clear()

    def _fetch(self, index: int) -> Frame:
        if isinstance(self.source, ImageSource):
            return self.source.read(index)
        # Who goes back wants the frames before this one next.
        back = index == self._last - 1
        wanted = range(index - self._most // 2 if back else index, index + 1)
        if not self._next <= index <= self._next + NEAR:
            return self._seek(index, wanted)
        frame = self._read_up_to(index, wanted)
        return self._seek(index, wanted) if frame is None else frame

    def _seek(self, index: int, wanted: range) -> Frame:
        """Read a frame from a key frame before it on, or from the first one."""
        for earlier in _EARLIER:
            self._begin(index, earlier)
            frame = self._read_up_to(index, wanted)
            if frame is not None:
                return frame
        raise SourceError(f"received {self.source.label}, whose frame {index} cannot be decoded")

    def _begin(self, index: int, earlier: int | None) -> None:
        if self._video is None:
            self._frames = ((frame.index, partial(_image_of, frame)) for frame in self.source)
            self._next = 0
        else:
            self._frames = self._video.read_from(index, earlier)
            self._next = -1

    def _read_up_to(self, index: int, wanted: range) -> Frame | None:
        """Decode on up to a frame, and keep those that are wanted; None where it does not come."""
        before: Callable[[], NDArray[np.uint8]] | None = None
        with quiet_opencv():
            for number, make_image in self._frames:
                self._next = number + 1
                if number > index:
                    break
                before = make_image
                if number == index:
                    return self._keep(index, make_image())
                if number in wanted:
                    self._keep(number, make_image())
        self._next = -1
        return None if before is None else self._keep(index, before())

    def _keep(self, index: int, image: NDArray[np.uint8]) -> Frame:
        frame = self._kept[index] = Frame(index, f"{index:05d}", image)
        self._kept.move_to_end(index)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return frame

    def _count_frames(self) -> int:
        if self._video is not None and self._video.index is not None:
            return len(self._video.index.times)
        if isinstance(self.source, ImageSource) and self.source.length:
            return self.source.length
        with quiet_opencv():
            return 1 + max(frame.index for frame in self.source)


class SpanReader(Closing):
    """Gives frames that follow each other, from anywhere in a source that is no live one.

    Args:
        source: an open source, which stays open.

    Raises:
        SourceError: it cannot be read.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._video = _open_seekable(source)

    def read(self, start: int, stop: int) -> list[Frame]:
        """Read the frames from an index to before another.

        Those that are not there, or cannot be decoded, are left out.

        Raises:
            SourceError: a frame cannot be read.
        """
        if self._video is not None:
            for earlier in _EARLIER[:-1]:
                with suppress(SourceError), quiet_opencv():
                    frames = self._video.read_span(start, stop, earlier)
                    if frames is not None:
                        return frames
        return self._source.read_span(start, stop)

    def close(self) -> None:
        """Give the file back, and leave the source open; closing twice does no harm."""
        if self._video is not None:
            self._video.close()


def _image_of(frame: Frame) -> NDArray[np.uint8]:
    return frame.image


def _open_seekable(source: Source) -> SeekableVideo | None:
    """Open a second decoder of a video file; None where the file cannot be sought in."""
    if not isinstance(source, VideoSource) or not isinstance(source.target, Path):
        return None
    video = SeekableVideo(source.target)
    if video.index is not None:
        return video
    video.close()
    return None
