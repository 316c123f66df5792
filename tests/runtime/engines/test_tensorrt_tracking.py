"""Whole clips tracked by TensorRT's engine, on a TensorRT made of ONNX Runtime."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import make_frame, make_mask
from tests.runtime.engines import tensorrt_double as double
from tests.runtime.engines.conftest import MODULES
from tests.runtime.engines.fake_cuda import FakeCuda
from vcedge_runtime.buffers import to_host
from vcedge_runtime.engines import opening
from vcedge_runtime.errors import EngineError, MissingExtraError, TrackerError
from vcedge_runtime.frames.following import Following
from vcedge_runtime.frames.windows import Window
from vcedge_runtime.memory.dynamic import DynamicMemory
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.predictors.ranges import OBJECTS
from vcedge_runtime.tracker import Tracker

if TYPE_CHECKING:
    from vcedge_export.verify import TruthClip

SIZE = 64
Masks = list[NDArray[np.uint8]]


@pytest.fixture
def device(engines: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeCuda:
    """What trackers find as their GPU."""
    found = FakeCuda()
    monkeypatch.setattr(opening, "Cuda", lambda **which: found)
    monkeypatch.setattr(engines, "choose_folder", lambda bundle: tmp_path / "engines")
    return found


def track(tracker: Tracker, clip: TruthClip) -> Masks:
    """Track a clip there and back; an object is drawn again, one is added, one is taken away."""
    frames = [*clip.frames, *clip.frames[::-1]]
    masks = []
    tracker.start(frames[0], clip.masks[0])
    for step, frame in enumerate(frames[1:]):
        masks.append(tracker.step(frame).mask)
        if step == 2:
            tracker.add_object(1, clip.masks[3] == 1)
            tracker.add_object(9, np.roll(clip.masks[3] == 2, 10, axis=0))
        if step == 4:
            tracker.remove_object(2)
    return masks


ROUNDING = 1e-6
"""By which labels, at most 1, may differ where one softmax reads all references: on a device there
are as many each time, empty ones among them, so that sums are taken in another order."""
COMPOSITIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "base": ("tiny_bundle", {}),
    "two ways": ("tiny_bundle", {"memory": "dynamic", "fusion": "bidirectional"}),
    "MER": ("mer_bundle", {}),
    "SRNet": ("srnet_bundle", {}),
    "SRNet and dynamic memory": ("srnet_bundle", {"memory": "dynamic"}),
    "SRNet without local memory": ("srnet_bundle", {"local": "off"}),
    "XMem": ("xmem_bundle", {}),
    "XMem without long-term memory": ("xmem_bundle", {"memory": "local_global"}),
    "XMem and a window": ("xmem_bundle", {"window": "follow"}),
}


@pytest.mark.parametrize(("model", "parts"), COMPOSITIONS.values(), ids=COMPOSITIONS)
def test_a_clip_is_tracked_to_the_same_masks(
    device: FakeCuda,
    tiny_clip: TruthClip,
    request: pytest.FixtureRequest,
    model: str,
    parts: dict[str, Any],
) -> None:
    bundle: Bundle = request.getfixturevalue(model)
    with Tracker.open(bundle, size=SIZE, threads=1, overrides=parts) as tracker:
        expected = track(tracker, tiny_clip)
    told: list[str] = []
    for _ in range(2):
        device.users = 1
        with Tracker.open(
            bundle, size=SIZE, backend="tensorrt", tell=told.append, overrides=parts
        ) as tracker:
            np.testing.assert_array_equal(track(tracker, tiny_clip), expected)
        assert (device.users, device.held, device.held_on_host) == (0, {}, {})
        assert not device.graphs
    # Each graph's engine was built once, for all frames of both runs.
    built = [line for line in told if line.startswith("building")]
    assert built
    assert len(built) == len({line.split()[4] for line in built})


def test_more_objects_than_are_encoded_together(
    device: FakeCuda, srnet_bundle: Bundle, tiny_clip: TruthClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vcedge_runtime.predictors.object_frames.TOGETHER", 1)
    masks = []
    for backend in ("cpu", "tensorrt"):
        with Tracker.open(srnet_bundle, size=SIZE, backend=backend, threads=1) as tracker:
            masks.append(track(tracker, tiny_clip))
    np.testing.assert_array_equal(masks[0], masks[1])


def test_points_are_followed_to_the_same_places(
    device: FakeCuda, tiny_bundle: Bundle, tiny_clip: TruthClip
) -> None:
    found = []
    for backend in ("cpu", "tensorrt"):
        with Tracker.open(tiny_bundle, size=SIZE, backend=backend, threads=1) as tracker:
            tracker.start_points(tiny_clip.frames[0], {"a": (30.0, 30.0), "b": (60.0, 20.0)})
            found.append([tracker.step(frame).points for frame in tiny_clip.frames[1:]])
    for one, other in zip(*found, strict=True):
        assert one.keys() == other.keys()
        for name, point in one.items():
            # Soft labels agree to ROUNDING; a place is their mean over some 100 pixels.
            places = [(each.x, each.y, each.score) for each in (point, other[name])]
            np.testing.assert_allclose(*places, rtol=0, atol=100 * ROUNDING)
            assert point.visible == other[name].visible


@pytest.fixture
def small_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """One tile a call, so that a frame has many."""
    for module in ("predictors.reader", "predictors.ranges"):
        monkeypatch.setattr(f"vcedge_runtime.{module}.DEVICE_LOGIT_BYTES", 1)


def track_on(
    tracker: Tracker, objects: int, frames: int, device: FakeCuda
) -> tuple[Masks, list[int]]:
    """Track frames with many tiles; masks, and how many recordings were made before each frame."""
    masks, made = [], []
    tracker.start(make_frame(192, 288), make_mask(192, 288, *range(1, 1 + objects)))
    for step in range(1, 1 + frames):
        made.append(device.recorded)
        masks.append(tracker.step(make_frame(192, 288, 2 * (step % 30))).mask)
    return masks, made


@pytest.mark.parametrize(
    ("model", "parts", "size", "objects", "frames"),
    [
        ("tiny_bundle", {}, 192, 2, 10),
        ("tiny_bundle", {"sampler": "clusters", "fusion": "bidirectional"}, 192, 2, 10),
        # Masks are decoded in four runs a frame then, and memory is full after 21 frames.
        ("srnet_bundle", {}, 64, 4, 28),
    ],
)
def test_what_is_recorded_is_recorded_once(
    device: FakeCuda,
    request: pytest.FixtureRequest,
    small_calls: None,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    parts: dict[str, Any],
    size: int,
    objects: int,
    frames: int,
) -> None:
    monkeypatch.setattr("vcedge_runtime.predictors.object_frames.TOGETHER", 1)
    bundle: Bundle = request.getfixturevalue(model)
    found = []
    options: dict[str, Any]
    for options in ({"threads": 1}, {"backend": "tensorrt"}):
        with Tracker.open(bundle, size=size, **options, overrides=parts) as tracker:
            found.append(track_on(tracker, objects, frames, device))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    made = found[1][1]
    assert made[-1] == made[-4] > 0
    assert device.launches > made[-1]


def test_whatever_a_window_does_nothing_is_built_or_recorded_after_30_frames(
    device: FakeCuda, srnet_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, built = np.random.default_rng(0), list[int]()

    def wander(windows: Following) -> Window:
        """Any window, and all of the frame now and then."""
        built.append(len(double.behaviour.builds))
        whole = windows.whole
        span = tuple(side + int(rng.integers(0, 9)) for side in whole.grid_hw)
        if rng.random() < 0.2 or span == whole.grid_hw:
            return whole
        at = tuple(int(rng.integers(s - g + 1)) for s, g in zip(span, whole.grid_hw, strict=True))
        return Window(whole.frame_hw, whole.grid_hw, (span[0], span[1]), (at[0], at[1]))

    monkeypatch.setattr(Following, "choose", wander)
    found = []
    for backend in ("cpu", "tensorrt"):
        rng = np.random.default_rng(0)
        options: dict[str, Any] = {"backend": backend, "overrides": {"window": "follow"}}
        with Tracker.open(srnet_bundle, size=64, threads=1, **options) as tracker:
            found.append(track_on(tracker, 2, 60, device))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    made = found[1][1]
    assert made[-1] == made[30] > 0
    assert built[-1] == built[-30] == len(double.behaviour.builds) > 0


@pytest.mark.parametrize("parts", [{}, {"fusion": "bidirectional"}])
def test_readouts_have_the_shape_for_which_their_engines_are_fastest(
    device: FakeCuda,
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    small_calls: None,
    parts: dict[str, Any],
) -> None:
    seen: dict[str, set[tuple[int, ...]]] = {}
    run = double.IExecutionContext.set_input_shape

    def note(context: Any, name: str, shape: tuple[int, ...]) -> bool:
        usual = tuple(context._engine.shapes[name][1])
        if name in ("key_bias", "query_bias") and shape != usual:
            seen.setdefault(name, set()).add((shape[0] - usual[0], shape[1]))
        return run(context, name, shape)

    monkeypatch.setattr(double.IExecutionContext, "set_input_shape", note)
    with Tracker.open(tiny_bundle, size=192, backend="tensorrt", overrides=parts) as tracker:
        track_on(tracker, 2, 8, device)
        most = tracker.bundle.composition.memory.references
    # But for the first frame's, which reads one.
    assert all(others <= {(0, 1)} for others in seen.values())
    readouts = [
        b["shapes"]["key_bias"] for b in double.behaviour.builds if "key_bias" in b["shapes"]
    ]
    assert readouts
    for least, usual, longest in readouts:
        assert (least[:2], usual[:2], longest[:2]) == ((1, 1), (1, most), (1, most))


@pytest.mark.parametrize("model", ["tiny_bundle", "srnet_bundle"])
def test_no_engine_is_built_again_for_more_objects(
    device: FakeCuda, request: pytest.FixtureRequest, model: str
) -> None:
    bundle: Bundle = request.getfixturevalue(model)
    fusion = {"fusion": "bidirectional"} if model == "tiny_bundle" else {}
    ids = list(range(1, 1 + OBJECTS))
    drawn = make_mask(192, 288, *ids)
    with Tracker.open(bundle, size=192, backend="tensorrt", overrides=fusion) as tracker:
        tracker.start(make_frame(192, 288), np.where(drawn == 1, drawn, 0).astype(np.uint8))
        for object_id in ids[1:]:
            tracker.step(make_frame(192, 288, 2 * object_id))
            tracker.add_object(object_id, drawn == object_id)  # type: ignore[arg-type]
        tracker.step(make_frame(192, 288, 20))
        assert tracker.object_ids == ids
    built = [tuple(sorted(build["shapes"])) for build in double.behaviour.builds]
    assert len(built) == len(set(built))


def steady_copies(device: FakeCuda, tracker: Tracker, clip: TruthClip) -> tuple[list[int], ...]:
    """Bytes of the copies in and out of the last of some frames."""
    tracker.start(clip.frames[0], clip.masks[0])
    for frame in [*clip.frames[1:], *clip.frames[::-1]]:
        device.copied_in.clear()
        device.copied_out.clear()
        tracker.step(frame)
    return device.copied_in, device.copied_out


def test_srnet_copies_the_frame_there_and_shares_back_and_little_else(
    device: FakeCuda, srnet_bundle: Bundle, tiny_clip: TruthClip
) -> None:
    with Tracker.open(srnet_bundle, size=SIZE, backend="tensorrt") as tracker:
        copied_in, copied_out = steady_copies(device, tracker, tiny_clip)
        predictor = tracker.video.predictor
        pixels, cells = 64 * 96, predictor.bank.labels[0, ..., 0].size
        objects, dim = 2, predictor.parts.value_dim  # type: ignore[union-attr]
        # The sums that make prototypes, and which slots are read.
        assert sorted(copied_in, reverse=True)[0] == 3 * pixels * 4
        assert sum(copied_in) < 3 * pixels * 4 + 4 * (objects * 2 * (dim + 1)) + 200
        assert sorted(copied_out, reverse=True)[0] == (objects + 1) * pixels * 4
        rest = 4 * objects * (2 * (dim + 1) + cells)
        assert sum(copied_out) == (objects + 1) * pixels * 4 + rest


def test_labels_are_propagated_without_a_copy_of_memory(
    device: FakeCuda, mer_bundle: Bundle, tiny_clip: TruthClip
) -> None:
    with Tracker.open(mer_bundle, size=SIZE, backend="tensorrt") as tracker:
        copied_in, copied_out = steady_copies(device, tracker, tiny_clip)
        bank = tracker.video.predictor.bank
        # The frame and its flow, the new labels; keys are copied once, to Python.
        assert sorted(copied_in, reverse=True)[:2] == [3 * 64 * 96 * 4] * 2
        assert copied_in.count(bank.values[0].nbytes) == 1
        assert copied_out.count(bank.keys[0].nbytes) == 1
        assert bank.key_block.nbytes not in copied_in
        assert bank.keys.nbytes not in copied_in


@pytest.mark.parametrize(("model", "parts"), COMPOSITIONS.values(), ids=COMPOSITIONS)
def test_python_and_the_engines_see_the_memory_of_the_cpu(
    device: FakeCuda,
    tiny_clip: TruthClip,
    request: pytest.FixtureRequest,
    model: str,
    parts: dict[str, Any],
) -> None:
    bundle: Bundle = request.getfixturevalue(model)
    found = []
    options: dict[str, Any]
    for options in ({"threads": 1}, {"backend": "tensorrt"}):
        with Tracker.open(bundle, size=SIZE, **options, overrides=parts) as tracker:
            track(tracker, tiny_clip)
            predictor = tracker.video.predictor
            bank, memory = predictor.bank, predictor.memory
            held = {"labels": bank.labels, "frames": np.array(bank.stored())}
            if predictor.parts.memory.reads_keys or hasattr(predictor, "propagation"):
                held["keys"] = bank.keys
            held["engines' keys"] = to_host(bank.key_block.shared)
            held["kept"] = np.array([memory.keeps(frame) for frame in range(8)])
            if hasattr(predictor, "values"):
                held["states"] = to_host(predictor._hidden.last)
                held["values"] = to_host(predictor.values.values)
                held["sums"] = predictor.values.sums
            else:
                held["engines' values"] = to_host(bank.value_block.shared)
            if isinstance(memory, DynamicMemory):
                fits = [record.fit for record in memory._records.values()]
                held["fits"] = np.stack([fit.mean for fit in fits if fit is not None])
            found.append({name: np.array(each) for name, each in held.items()})
    for name, expected in found[0].items():
        atol = ROUNDING if name in ("labels", "engines' values") else 0
        np.testing.assert_allclose(found[1][name], expected, rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("change", ["add", "remove"])
def test_a_device_without_room_for_a_change_leaves_everything_as_it_was(
    device: FakeCuda, srnet_bundle: Bundle, tiny_clip: TruthClip, change: str
) -> None:
    frames, masks = tiny_clip.frames, tiny_clip.masks

    def apply(tracker: Tracker) -> None:
        if change == "add":
            tracker.add_object(9, masks[3] == 2)  # type: ignore[arg-type]
        else:
            tracker.remove_object(1)

    def fail_everywhere(tracker: Tracker) -> int:
        """Try with a little more room each time; how often it failed before it went well."""
        failures, room = 0, device.bytes_held
        while True:
            device.room = room
            try:
                apply(tracker)
            except EngineError:
                failures, room = failures + 1, room + 20_000
                assert tracker.object_ids == [1, 2]
            else:
                device.room = 1 << 30
                return failures

    found = []
    for fails in (False, True):
        with Tracker.open(srnet_bundle, size=SIZE, backend="tensorrt") as tracker:
            tracker.start(frames[0], masks[0])
            for frame in frames[1:]:
                tracker.step(frame)
            if fails:
                assert fail_everywhere(tracker) > 5
            else:
                apply(tracker)
            found.append([tracker.step(frame).mask for frame in frames])
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("model", ["tiny_bundle", "srnet_bundle"])
def test_memory_on_the_device_is_counted_and_never_grows(
    device: FakeCuda, tiny_clip: TruthClip, request: pytest.FixtureRequest, model: str
) -> None:
    bundle: Bundle = request.getfixturevalue(model)
    with Tracker.open(bundle, size=SIZE, threads=1) as tracker:
        tracker.start(tiny_clip.frames[0], tiny_clip.masks[0])
        on_host = tracker.memory_bytes
    with Tracker.open(bundle, size=SIZE, backend="tensorrt", cuda_graphs=False) as tracker:
        tracker.start(tiny_clip.frames[0], tiny_clip.masks[0])
        held = sum(block.size for block in device.held_on_host.values())
        counted = tracker.memory_bytes
        for frame in tiny_clip.frames[1:] * 9:
            tracker.step(frame)
            assert tracker.memory_bytes == counted
        assert held == sum(block.size for block in device.held_on_host.values())
        settled, pieces = device.bytes_held, len(device.held)
        # What engines take for themselves is not the tracker's.
        assert on_host < counted < on_host + settled
        for frame in tiny_clip.frames[1:] * 3:
            tracker.step(frame)
        assert (device.bytes_held, len(device.held)) == (settled, pieces)


def test_a_run_that_fails_leaves_the_last_frame_the_last(
    device: FakeCuda, srnet_bundle: Bundle, tiny_clip: TruthClip
) -> None:
    frames = tiny_clip.frames
    with Tracker.open(srnet_bundle, size=SIZE, threads=1) as tracker:
        tracker.start(frames[0], tiny_clip.masks[0])
        expected = [tracker.step(frame).mask for frame in frames[1:]]
    with Tracker.open(srnet_bundle, size=SIZE, backend="tensorrt") as tracker:
        tracker.start(frames[0], tiny_clip.masks[0])
        found = []
        for frame in frames[1:]:
            double.behaviour.fails = True
            with pytest.raises(EngineError, match="an illegal memory access"):
                tracker.step(frames[0])
            double.behaviour.fails = False
            found.append(tracker.step(frame).mask)
    np.testing.assert_array_equal(found, expected)


def test_what_is_not_installed_is_named(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(MissingExtraError, match="TensorRT is not installed"):
        Tracker.open(tiny_bundle, backend="tensorrt")
    with pytest.raises(TrackerError, match="received back-end 'gpu'"):
        Tracker.open(tiny_bundle, backend="gpu")
