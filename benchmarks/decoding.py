"""Whether videos decode to the same frames as by OpenCV, and as fast.

Each video is decoded and brought to the working size by both, one after the other, in turn.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vcedge.commands.tables import make_table, open_console
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.files import write_json
from vcedge_runtime.frames.resizing import working_size
from vcedge_runtime.video.opencv import quiet_opencv
from vcedge_runtime.video.videos import VideoSource

Image = NDArray[np.uint8]
STRIDE = 16
ROUNDING = 3
"""Levels by which two conversions from YCbCr to BGR may differ."""


@dataclass(frozen=True)
class Comparison:
    """One video, decoded twice.

    Attributes:
        video: the file.
        frames: how many PyAV gives, and OpenCV.
        differing: frames of both in which a channel differs by more than ``ROUNDING`` levels.
        largest: difference of a channel, in levels.
        seconds: to decode all frames and bring them to the working size, by PyAV and by OpenCV.
    """

    video: str
    frames: tuple[int, int]
    differing: int
    largest: int
    seconds: tuple[float, float]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", nargs="+", type=Path, help="files")
    parser.add_argument("--size", type=int, default=480, help="working size, the short side")
    parser.add_argument("--json", type=Path, default=Path("decoding.json"))
    return parser.parse_args()


def decode_by_pyav(path: Path) -> Iterator[Image]:
    """Every frame as ``vcedge track`` gets it."""
    with VideoSource(path, str(path)) as source:
        for frame in source:
            yield frame.image


def decode_by_opencv(path: Path) -> Iterator[Image]:
    """Every frame as OpenCV's own reader gives it."""
    with quiet_opencv():
        capture = cv2.VideoCapture(str(path))
        while (read := capture.read())[0]:
            yield np.asarray(read[1], np.uint8)
        capture.release()


def time_decoding(decode: Callable[[Path], Iterator[Image]], path: Path, size: int) -> float:
    """Seconds until every frame is decoded and has the working size."""
    began = time.perf_counter()
    for image in decode(path):
        height, width = working_size((image.shape[0], image.shape[1]), size, STRIDE)
        method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
        cv2.resize(image, (width, height), interpolation=method)
    return time.perf_counter() - began


def compare_video(path: Path, size: int, *, first: bool) -> Comparison:
    """Decode a video both ways; ``first`` lets PyAV begin, so that neither always reads anew."""
    ways = (decode_by_pyav, decode_by_opencv)
    seconds = [0.0, 0.0]
    for way in (0, 1) if first else (1, 0):
        seconds[way] = time_decoding(ways[way], path, size)
    counts, differing, largest = [0, 0], 0, 0
    for pair in zip_longest(*(way(path) for way in ways)):
        for way, image in enumerate(pair):
            counts[way] += image is not None
        if any(image is None for image in pair):
            continue
        same = pair[0].shape == pair[1].shape
        difference = int(cv2.absdiff(*pair).max()) if same else 255
        differing, largest = differing + (difference > ROUNDING), max(largest, difference)
    counted, spent = (counts[0], counts[1]), (seconds[0], seconds[1])
    return Comparison(str(path), counted, differing, largest, spent)


def main() -> None:
    """Run the benchmark."""
    arguments = parse_arguments()
    found = []
    for index, path in enumerate(arguments.videos):
        found.append(compare_video(path, arguments.size, first=index % 2 == 0))
        print(f"{index + 1}/{len(arguments.videos)} {path}", file=sys.stderr)
    rows = [
        (each.video, *map(str, each.frames), str(each.differing), str(each.largest))
        for each in found
        if each.differing or each.frames[0] != each.frames[1]
    ]
    ours, theirs = (sum(each.seconds[way] for each in found) for way in (0, 1))
    frames = sum(each.frames[0] for each in found)
    rows.append((f"all {len(found)}", str(frames), str(sum(e.frames[1] for e in found)), "", ""))
    console = open_console(markdown=True)
    columns = ("video", "frames, PyAV", "OpenCV", "frames that differ", "levels at most")
    console.print(make_table(columns, rows, markdown=True))
    console.print(f"decoded and resized to {arguments.size}: PyAV takes {ours / theirs:.3f} of")
    console.print(f"OpenCV's time ({1e3 * ours / frames:.2f} ms a frame)")
    value = {"ratio": ours / theirs, "videos": [asdict(each) for each in found]}
    write_json(arguments.json, value)


if __name__ == "__main__":
    try:
        main()
    except VcedgeError as exc:
        sys.exit(f"decoding.py: {exc}")
