"""Recording: what graphs are given while a tracker runs, a bounded and fair number of it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from vcedge_calibration.recording import (
    CalibrationClip,
    RecordingEngine,
    Reservoir,
    Sample,
    record_inputs,
)
from vcedge_calibration.samples import (
    FACTS,
    Recording,
    find_recording,
    load_samples,
    save_samples,
)
from vcedge_runtime.buffers import Buffer
from vcedge_runtime.errors import BundleError, OutputError, SourceError
from vcedge_runtime.frames.resizing import prepare_frame
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.spec import GraphSpec, TensorSpec

if TYPE_CHECKING:
    from vcedge_export.verify import TruthClip


@pytest.fixture
def clip(tiny_clip: TruthClip) -> CalibrationClip:
    return CalibrationClip("moving texture", tiny_clip.frames, tiny_clip.masks[0])


def offered(size: int, count: int, seed: int = 0) -> list[int]:
    reservoir = Reservoir(size, seed)
    for number in range(count):
        reservoir.offer({"x": np.array(number)})
    return [int(sample["x"]) for sample in reservoir.samples]


def test_a_reservoir_keeps_all_of_a_short_stream() -> None:
    assert offered(5, 3) == [0, 1, 2]


def test_a_reservoir_is_bounded_and_the_same_again() -> None:
    found = offered(8, 1000)
    assert len(found) == len(set(found)) == 8
    assert found == offered(8, 1000)
    assert found != offered(8, 1000, seed=1)


def test_a_reservoir_is_fair_to_early_and_late() -> None:
    kept = np.concatenate([offered(10, 100, seed) for seed in range(200)])
    counts = np.histogram(kept, bins=4, range=(0, 100))[0]
    # 2,000 draws in quarters: 500 each, with a standard deviation below 20.
    assert np.abs(counts - 500).max() < 80


def test_what_is_offered_is_copied() -> None:
    reservoir, array = Reservoir(1, 0), np.zeros(3)
    reservoir.offer({"x": array})
    array[:] = 7
    assert not reservoir.samples[0]["x"].any()


class Doubling:
    """Doubles its input."""

    spec = GraphSpec(
        "double", (TensorSpec("x", "float32", ("n",)),), (TensorSpec("y", "float32", ("n",)),)
    )

    def __init__(self) -> None:
        self.closed = False

    def run(self, inputs: Mapping[str, Buffer], out: Mapping[str, Buffer]) -> None:
        out["y"][:] = 2 * inputs["x"]

    def close(self) -> None:
        self.closed = True


def test_a_recording_engine_is_the_engine() -> None:
    inner, reservoir = Doubling(), Reservoir(1, 0)
    engine, y = RecordingEngine(inner, reservoir), np.zeros(2, np.float32)
    engine.run({"x": np.ones(2, np.float32)}, {"y": y})
    engine.close()
    assert engine.spec is Doubling.spec
    assert y.tolist() == [2, 2]
    assert reservoir.samples[0]["x"].tolist() == [1, 1]
    assert inner.closed


def test_a_tracked_clip_gives_the_frames_that_it_encoded(
    tiny_bundle: Bundle, tiny_clip: TruthClip, clip: CalibrationClip
) -> None:
    found = record_inputs(tiny_bundle, [clip], samples=9)
    assert list(found) == ["encoder"]
    assert len(found["encoder"]) == len(tiny_clip.frames)
    for sample, frame in zip(found["encoder"], tiny_clip.frames, strict=True):
        expected = prepare_frame(frame, (64, 96)).transpose(2, 0, 1)[None]
        np.testing.assert_array_equal(sample["image"], expected)


def test_samples_are_bounded_over_all_clips(tiny_bundle: Bundle, clip: CalibrationClip) -> None:
    found = record_inputs(tiny_bundle, [clip, clip], samples=3)
    assert len(found["encoder"]) == 3


def test_own_masks_and_memory_are_recorded(srnet_bundle: Bundle, clip: CalibrationClip) -> None:
    small = replace(clip, frames=clip.frames[:3])
    found = record_inputs(srnet_bundle, [small], samples=9, size=64)
    assert set(found) == {"query_encoder", "value_encoder", "feature_alignment", "mask_decoder"}
    masks = [sample["masks"] for sample in found["value_encoder"]]
    # The first are the user's own, the later ones the tracker's.
    assert set(np.unique(masks[0])) <= {0, 1}
    assert all(((mask > 0) & (mask < 1)).any() for mask in masks[1:])


def test_a_clip_without_a_frame_is_refused(tiny_bundle: Bundle, clip: CalibrationClip) -> None:
    with pytest.raises(SourceError, match="moving texture has no frame"):
        record_inputs(tiny_bundle, [replace(clip, frames=[])], samples=3)


RECORDING = Recording("tiny", {"encoder": "ab"}, [("clip", "cd")], 60, 24, 64, 0)


def make_samples() -> dict[str, list[Sample]]:
    rng = np.random.default_rng(0)
    return {
        "encoder": [{"image": rng.random((1, 3, 4, 4), np.float32)} for _ in range(12)],
        "mask_decoder": [{"f4": rng.random(3), "f8": np.arange(4)}],
    }


def test_samples_come_back_as_they_were(tmp_path: Path) -> None:
    samples = make_samples()
    save_samples(tmp_path / "new", RECORDING, samples)
    found = load_samples(tmp_path / "new")
    assert list(found) == list(samples)
    for name, runs in samples.items():
        assert len(found[name]) == len(runs)
        for run, read in zip(runs, found[name], strict=True):
            assert list(run) == list(read)
            for tensor, array in run.items():
                np.testing.assert_array_equal(read[tensor], array)
                assert read[tensor].dtype == array.dtype
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_recording_is_known_by_everything_that_makes_it(tmp_path: Path) -> None:
    save_samples(tmp_path / "new", RECORDING, make_samples())
    assert find_recording(tmp_path / "new") == RECORDING.key
    changes: list[dict[str, Any]] = [
        {"model": "other"},
        {"graphs": {"encoder": "ac"}},
        {"clips": [("clip", "ce")]},
        {"frames": 61},
        {"samples": 25},
        {"size": 65},
        {"seed": 1},
    ]
    keys = {replace(RECORDING, **change).key for change in changes}
    assert len(keys | {RECORDING.key}) == 1 + len(changes)


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    assert find_recording(tmp_path) is None
    with pytest.raises(BundleError, match="holds no calibration that can be read"):
        load_samples(tmp_path)
    save_samples(tmp_path / "cut", RECORDING, make_samples())
    for content in (b"", (tmp_path / "cut" / "encoder.npz").read_bytes()[:-40]):
        (tmp_path / "cut" / "encoder.npz").write_bytes(content)
        with pytest.raises(BundleError, match="holds no calibration that can be read"):
            load_samples(tmp_path / "cut")
    (tmp_path / FACTS).write_text('{"format": 99}')
    with pytest.raises(BundleError, match="format 99, expected 1"):
        load_samples(tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="new cannot be written"):
        save_samples(tmp_path / "file" / "new", RECORDING, make_samples())


def test_an_array_whose_header_python_cannot_read_is_refused(tmp_path: Path) -> None:
    """Found by the fuzzer: numpy's reader fails as Python's own tokens do."""
    (tmp_path / FACTS).write_text('{"format": 1}')
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2,".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "encoder.npz", "w") as file:
        file.writestr("0.image.npy", b"\x93NUMPY\x01\x00" + bytes([118, 0]) + header + bytes(8))
    with pytest.raises(BundleError, match="holds no calibration that can be read"):
        load_samples(tmp_path)
