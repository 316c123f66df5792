"""Feed what reads other people's files with whatever there is: only errors of ours may come out.

    python tests/fuzz.py --seconds 60 manifest masks

Without names, every reader gets its turn. The bytes are random changes of the seeds; with --atheris
(pip install atheris) they follow what code they reach. ``test_fuzz.py`` does a little of the same
in every run of the tests.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).parents[1]
TINY = ROOT / "tests" / "data" / "tiny"
PACKAGES = ("vcedge", "vcedge_export", "vcedge_runtime", "vcedge_calibration")
FRAME_HW = (12, 16)
MOST_MEMORY = 6 << 30
"""Bytes of address space: what asks for more fails, which is a finding."""
MOST_SECONDS = 10.0
"""Of a processor, for one input; more is a finding."""
MOST_PIXELS = 2**20
"""Of a page, in place of the 2**27 of real use."""
MOST_CHARACTERS = 1000
"""Of a message."""
TOKENS = (
    *(b"Infinity", b"NaN", b"1e999", b"-1", b"0", b"true", b"null", b'""', b"{}", b"[]", b"[[[["),
    *(b"99999999999999999999", b"\xff", b"\x00", b"\n", b'"', b"../", b"\\u001b", b"kind", b"size"),
)


@dataclass(frozen=True)
class Reader:
    """What reads a file, and files that it takes.

    Attributes:
        read: given a file's bytes and a folder of its own; raises nothing but a ``VcedgeError``.
        seeds: files.
    """

    read: Callable[[bytes, Path], object]
    seeds: tuple[bytes, ...]


def find_readers() -> dict[str, Reader]:
    """Every reader, by name; those of a library that is not installed are left out."""
    found = {
        "manifest": Reader(_read_manifest, ((TINY / "bundle.json").read_bytes(),)),
        "graphs": Reader(_read_graph, tuple(p.read_bytes() for p in sorted(TINY.glob("*.onnx")))),
        "masks": Reader(_read_mask, _make_images()),
        "points": Reader(
            _read_points, (b"name,x,y\nnose,3,4\n\n'tail',5.5,6\n", b"\xef\xbb\xbfx,y,name\n")
        ),
        "rle": Reader(_read_rle, _make_runs()),
        "calibration": Reader(_read_samples, (_make_calibration(),)),
        "annotations": Reader(_read_annotations, _make_annotations()),
        "videos": Reader(_read_videos, _make_videos()),
        "record": Reader(_read_record, (_make_record(),)),
        "pages": Reader(_read_pages, _make_pages()),
        "uploads": Reader(_read_upload, _make_images()),
        "requests": Reader(_read_request, _make_requests()),
    }
    try:
        found["weights"] = Reader(_read_weights, (_make_weights(),))
        found["published"] = Reader(_read_published, _make_published())
    except ImportError:
        print("PyTorch is not installed, so weights are left out", file=sys.stderr)
    return found


def try_reader(reader: Reader, data: bytes, folder: Path) -> bool:
    """Read once, and say whether the bytes were taken.

    Raises:
        Exception: a finding: whatever is no ``VcedgeError``, or took too long.
    """
    from vcedge_runtime.errors import VcedgeError
    from vcedge_runtime.telling import make_printable

    began = time.process_time()
    try:
        reader.read(data, folder)
    except VcedgeError as exc:
        if make_printable(str(exc)) != str(exc) or len(str(exc)) > MOST_CHARACTERS:
            raise ValueError(f"a message that is long or does not print: {str(exc)!r}") from exc
        return False
    finally:
        if time.process_time() - began > MOST_SECONDS:
            raise TimeoutError(f"{time.process_time() - began:.0f} s")
    return True


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change a file in a few places: bits, bytes, tokens, pieces that go, come twice or move."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at, length = rng.randrange(len(changed) + 1), rng.choice((1, 1, 4, 30, 300))
        piece = changed[at : at + length]
        other = rng.randrange(len(changed) + 1)
        changed[at : at + rng.choice((0, length))] = rng.choice(
            (
                bytes([rng.randrange(256)]),
                rng.choice(TOKENS),
                piece * 2,
                b"",
                changed[other : other + length],
            )
        )
    return bytes(changed)


def _read_manifest(data: bytes, folder: Path) -> None:
    from click.testing import CliRunner

    from vcedge.commands.inspect_bundle import command
    from vcedge_runtime.model.bundle import Bundle

    bundle = folder / "bundle"
    if not bundle.exists():
        shutil.copytree(TINY, bundle)
    (bundle / "bundle.json").write_bytes(data)
    Bundle.open(bundle)
    shown = CliRunner().invoke(command, [str(bundle)])
    if shown.exception is not None and not isinstance(shown.exception, SystemExit):
        raise shown.exception
    if "\x1b" in shown.output:
        raise ValueError("an escape sequence is shown")


def _read_graph(data: bytes, folder: Path) -> None:
    from vcedge_runtime.model.onnx_wire import require_whole

    require_whole(data, "graph.onnx")


def _read_mask(data: bytes, folder: Path) -> None:
    from vcedge_runtime.errors import MaskError
    from vcedge_runtime.video.masks import read_mask

    path = folder / "mask.png"
    path.write_bytes(_repair_png(data) if data[:1] == b"\x89" and len(data) % 2 else data)
    for options in ({}, {"binarize": True}, {"resize": True}):
        try:
            mask = read_mask(path, frame_hw=FRAME_HW, **options)
        except MaskError:
            if options:
                raise
        else:
            assert mask.shape == FRAME_HW
            assert mask.any()


def _repair_png(data: bytes) -> bytes:
    """Let a PNG's checksums be right: else what was changed is refused by them alone."""
    repaired, at = data[:8], 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        repaired += struct.pack(">I", len(body)) + kind + body
        repaired += struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
        at += 12 + length
    return repaired


def _read_points(data: bytes, folder: Path) -> None:
    from vcedge_runtime.video.points import read_points

    (folder / "points.csv").write_bytes(data)
    points = read_points(folder / "points.csv", frame_hw=FRAME_HW)
    assert all(name.isprintable() for name in points)


def _read_rle(data: bytes, folder: Path) -> None:
    from vcedge_runtime.errors import MaskError
    from vcedge_runtime.video.rle import decode_rle

    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise MaskError("the line is no JSON") from exc
    mask = decode_rle(record)
    assert mask.shape == tuple(record["size"])


def _read_samples(data: bytes, folder: Path) -> None:
    from vcedge_calibration.samples import FACTS, find_recording, load_samples

    (folder / FACTS).write_bytes(data)
    (folder / "encoder.npz").write_bytes(data)
    find_recording(folder)
    (folder / FACTS).write_text('{"format": 1}')
    load_samples(folder)


def _read_annotations(data: bytes, folder: Path) -> None:
    from vcedge.evaluation.badja import read_annotations
    from vcedge.evaluation.youtube import read_meta
    from vcedge_runtime.errors import EvaluationError

    (folder / "meta.json").write_bytes(data)
    try:
        read_meta(folder)
    except EvaluationError:
        read_annotations(folder / "meta.json")


def _read_videos(data: bytes, folder: Path) -> None:
    """Whatever a manifest says, results lie in folders of their own."""
    from vcedge.commands.batch_jobs import JobList
    from vcedge.commands.batch_prompts import read_prompts
    from vcedge_runtime.errors import ManifestError

    (folder / "manifest").write_bytes(data)
    jobs = JobList(folder / "manifest")
    try:
        jobs.survey()
    except ManifestError:
        read_prompts(str(folder / "manifest"))
        return
    names = [job.results for job in jobs]
    assert len({name.casefold() for name in names}) == len(names) == jobs.videos
    assert all(Path(name).name == name and name[0] != "." for name in names)


def _read_record(data: bytes, folder: Path) -> None:
    """Whatever the record of a run says, files that no run wrote stay."""
    from vcedge_runtime.video.outputs import RECORD_NAME, OutputFolder

    out, own = folder / "out", folder / "own.png"
    (out / "masks").mkdir(parents=True, exist_ok=True)
    for path in (own, out / "first.png", out / "masks" / "00001.png"):
        path.write_bytes(b"mine")
    (out / RECORD_NAME).write_bytes(data)
    with OutputFolder(out, overwrite=True):
        pass
    assert own.exists()
    assert b"first.png" in data or (out / "first.png").exists()


def _read_pages(data: bytes, folder: Path) -> None:
    from vcedge_runtime.video import pictures
    from vcedge_runtime.video.sources import open_source

    path = folder / "pages.tif"
    path.write_bytes(data)
    # A page takes as long as its pixels are many: with a low limit, what goes beyond it is found.
    limited = patch.object(pictures, "MOST_PIXELS", MOST_PIXELS)
    with limited, open_source(path, depth_range="auto") as source:
        for frame, _ in zip(source, range(20), strict=False):
            assert frame.image.shape == (*source.frame_hw, 3)


def _read_upload(data: bytes, folder: Path) -> None:
    from vcedge.studio.uploads import mask_from_upload

    repaired = _repair_png(data) if data[:1] == b"\x89" and len(data) % 2 else data
    mask = mask_from_upload(repaired, FRAME_HW)
    assert mask.shape == FRAME_HW
    assert mask.any()


def _read_request(data: bytes, folder: Path) -> None:
    """What a page of others might send: its first byte says to which action."""
    from vcedge.studio.actions import ACTIONS, read_action

    name = sorted(ACTIONS)[data[0] % len(ACTIONS)] if data else "add"
    read_action(name, data[1:])


def _read_weights(data: bytes, folder: Path) -> None:
    from vcedge.models.weights import load_weights

    (folder / "any.safetensors").write_bytes(data)
    load_weights(folder / "any.safetensors")


def _read_published(data: bytes, folder: Path) -> None:
    from vcedge.models.published import load_published

    (folder / "any.pth").write_bytes(data)
    load_published("stcn", folder / "any.pth")


def _make_images() -> tuple[bytes, ...]:
    import cv2
    import numpy as np

    from vcedge_runtime.video.palette import encode_label_png

    labels = np.zeros(FRAME_HW, np.uint8)
    labels[2:8, 3:9] = 3
    kinds = (".png", ".jpg", ".bmp", ".tif", ".webp", ".pgm")
    plain = [cv2.imencode(kind, labels)[1].tobytes() for kind in kinds]
    coloured = cv2.imencode(".png", np.repeat(labels[..., None], 4, axis=2))[1].tobytes()
    return (encode_label_png(labels), coloured, *plain)


def _make_runs() -> tuple[bytes, ...]:
    import numpy as np

    from vcedge_runtime.video.rle import encode_rle

    drawn = np.random.default_rng(0).random((9, 7)) < 0.4
    return tuple(json.dumps(encode_rle(mask)).encode() for mask in (drawn, np.ones((300, 200))))


def _make_calibration() -> bytes:
    from io import BytesIO

    import numpy as np

    file = BytesIO()
    np.savez(file, **{"0.image": np.zeros((1, 2), np.float32), "1.image": np.ones(3, np.int64)})
    return file.getvalue()


def _make_annotations() -> tuple[bytes, ...]:
    videos = {"a": {"objects": {"1": {"category": "cat", "frames": ["00000", "00005"]}}}}
    rows = [{"frame": 0, "xy": [[1.5, 2]], "visible": [1]}]
    joints = {"joint_names": ["nose"], "sequences": {"bear": rows}}
    return tuple(json.dumps(each).encode() for each in ({"videos": videos}, joints))


def _make_videos() -> tuple[bytes, ...]:
    lines = (
        {"video": "a.mp4", "mask": {"0": "a.png", "4": "b.png"}, "size": 256, "overlay": False},
        {"video": "a.avi", "box": {"2": [4, 3, 12, 8]}, "click": [[1, 2], [3, 4, 0]], "from": 3},
        {"video": "b", "points": "p.csv", "depth-range": [28, 34], "results": "c", "model": "m"},
        {"video": "b", "prompts": {"mask": ["a.png"], "box": "1=1,2,3,4"}, "name": {"1": "car"}},
    )
    return (
        b"".join(json.dumps(line).encode() + b"\n" for line in lines),
        b'video,mask,box,click,from,frames\na.mp4,a.png,,,,5\nb,,"1,2,3,4;2=5,6,7,8","-3,4",2,\n',
        b'{"mask": "a.png", "click": {"1": [[3, 4, 1]]}}',
    )


def _make_record() -> bytes:
    names = ("masks/00000.png", "first.png", "masks/00001.png")
    lines = [{"file": name, "size": 4, "mtime_ns": 0} for name in names]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _make_pages() -> tuple[bytes, ...]:
    from io import BytesIO

    import numpy as np
    from PIL import Image

    found = []
    for form, dtype in (("TIFF", np.uint8), ("TIFF", np.uint16), ("WEBP", np.uint8)):
        pages = [Image.fromarray(np.full(FRAME_HW, 90 * n, dtype)) for n in range(3)]
        file = BytesIO()
        pages[0].save(file, form, save_all=True, append_images=pages[1:])
        found.append(file.getvalue())
    return tuple(found)


def _make_requests() -> tuple[bytes, ...]:
    from vcedge.studio.actions import ACTIONS

    points = [[1, 2.5], [-3, 4]]
    given = {
        "add": {"name": "cat"},
        "box": {"frame": 3, "object": 1, "box": [1, 2, 30.5, 40]},
        "click": {"frame": 3, "object": 1, "at": [5, 6], "positive": False},
        "stroke": {"frame": 3, "object": 1, "points": points, "radius": 4, "erase": True},
        "track": {"frame": 3, "backward": True, "steps": 7},
    }
    places = {name: bytes([place]) for place, name in enumerate(sorted(ACTIONS))}
    return tuple(places[name] + json.dumps(each).encode() for name, each in given.items())


def _make_weights() -> bytes:
    """A header of ours over few tensors: networks of megabytes would be changed in vain."""
    import torch
    from safetensors.torch import save

    facts = json.dumps({"profile": "edge", "motion": False, "value_extraction": False, "steps": 3})
    parts = json.dumps({"memory": {"kind": "dynamic", "short": 3}})
    return save({"a": torch.zeros(2, 3)}, {"facts": facts, "composition": parts})


def _make_published() -> tuple[bytes, ...]:
    """A few tensors in both formats of PyTorch's files."""
    import io

    import torch

    held = {"key_comp.bias": torch.zeros(512), "key_comp.weight": torch.zeros(2, 3)}
    files = []
    for newer in (True, False):
        file = io.BytesIO()
        torch.save({"network": held}, file, _use_new_zipfile_serialization=newer)
        files.append(file.getvalue())
    return tuple(files)


def _run_with_atheris(name: str, folder: Path, seconds: int) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=list(PACKAGES)):
        reader = find_readers()[name]
        for seed in reader.seeds:
            try_reader(reader, seed, folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(reader.seeds):
        (corpus / str(number)).write_bytes(seed)
    limits = [
        f"-artifact_prefix={folder}/",
        f"-max_total_time={seconds}",
        "-rss_limit_mb=6000",
        "-max_len=65536",
        f"-timeout={12 * MOST_SECONDS:.0f}",
    ]
    atheris.Setup(
        [sys.argv[0], *limits, str(corpus)], lambda data: try_reader(reader, data, folder)
    )
    atheris.Fuzz()


def _run_with_changes(name: str, reader: Reader, folder: Path, seconds: int, seed: int) -> None:
    rng, began, taken, tried = random.Random(seed), time.monotonic(), 0, 0
    while time.monotonic() - began < seconds:
        data = rng.choice(reader.seeds)
        for _ in range(rng.choice((1, 1, 3))):
            data = mutate(data, rng)
        tried += 1
        try:
            taken += try_reader(reader, data, folder)
        except BaseException:
            kept = Path(tempfile.gettempdir()) / f"vcedge-fuzz-{name}"
            kept.write_bytes(data)
            print(f"{name}: a finding after {tried} inputs, kept in {kept}", file=sys.stderr)
            raise
    print(f"{name}: {tried} inputs in {seconds} s, {taken} of them taken, no finding", flush=True)


def main() -> None:
    """Fuzz for a time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", help="names; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="for each reader")
    parser.add_argument("--seed", type=int, default=0, help="of the random changes")
    parser.add_argument("--atheris", action="store_true", help="one reader, led by coverage")
    arguments = parser.parse_args()
    sys.path[:0] = [str(ROOT / part) for part in (".", "export", "runtime", "calibration")]
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    if arguments.atheris:
        _run_with_atheris(arguments.readers[0], Path(tempfile.mkdtemp()), arguments.seconds)
    readers = find_readers()
    for name in arguments.readers or readers:
        with tempfile.TemporaryDirectory() as folder:
            _run_with_changes(name, readers[name], Path(folder), arguments.seconds, arguments.seed)


if __name__ == "__main__":
    main()
