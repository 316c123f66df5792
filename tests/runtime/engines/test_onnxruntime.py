"""ONNX Runtime behind the engine contract."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import onnxruntime
import pytest

from tests.runtime.engines.fake_cuda import FakeCuda
from vcedge_runtime.buffers import share_array, to_host, zeros_for
from vcedge_runtime.engines import onnxruntime as onnxruntime_engine
from vcedge_runtime.engines import opening
from vcedge_runtime.engines.onnxruntime import CPU, CUDA, OnnxRuntimeEngine, engine_from_bundle
from vcedge_runtime.errors import EngineError, MissingExtraError
from vcedge_runtime.installing import how_to_install
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.spec import GraphSpec, TensorSpec
from vcedge_runtime.tracker import Tracker

if TYPE_CHECKING:
    from vcedge_export.verify import TruthClip

SESSION = onnxruntime.InferenceSession
DEVICES: dict[str, FakeCuda] = {}


@pytest.fixture
def encoder(tiny_bundle: Bundle) -> OnnxRuntimeEngine:
    """The encoder of the tiny bundle."""
    spec = tiny_bundle.graphs["encoder"].spec
    return OnnxRuntimeEngine(tiny_bundle.read_graph("encoder"), spec, threads=1)


def make_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (1, 3, height, width)).astype(np.float32)


def test_outputs_are_written_into_the_callers_array(encoder: OnnxRuntimeEngine) -> None:
    memory = np.full((3, 4, 6, 64), np.nan, np.float32)
    slot = memory[1]
    address = slot.ctypes.data
    encoder.run({"image": make_image(32, 48)}, {"key": slot})
    assert slot.ctypes.data == address == memory.ctypes.data + memory.nbytes // 3
    assert np.isfinite(memory[1]).all()
    assert np.isnan(memory[[0, 2]]).all()


def test_every_run_reads_and_writes_the_arrays_of_that_run(encoder: OnnxRuntimeEngine) -> None:
    images = [make_image(32, 48, seed) for seed in range(3)]
    keys = [np.zeros((4, 6, 64), np.float32) for _ in images]
    for image, key in zip(images, keys, strict=True):
        encoder.run({"image": image}, {"key": key})
    again = np.zeros((4, 6, 64), np.float32)
    for image, key in zip(images, keys, strict=True):
        encoder.run({"image": image}, {"key": again})
        np.testing.assert_array_equal(again, key)
    assert not np.array_equal(keys[0], keys[1])


def test_an_array_changed_in_place_is_read_anew(encoder: OnnxRuntimeEngine) -> None:
    image, first, second = make_image(16, 16), *np.zeros((2, 2, 2, 64), np.float32)
    encoder.run({"image": image}, {"key": first})
    image[:] = make_image(16, 16, seed=1)
    encoder.run({"image": image}, {"key": second})
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("size_hw", [(16, 16), (8, 120), (136, 24)])
def test_one_engine_runs_any_size(encoder: OnnxRuntimeEngine, size_hw: tuple[int, int]) -> None:
    key = np.full((size_hw[0] // 8, size_hw[1] // 8, 64), np.nan, np.float32)
    encoder.run({"image": make_image(*size_hw)}, {"key": key})
    assert np.isfinite(key).all()


@pytest.mark.parametrize(
    ("image", "key"),
    [
        (np.zeros((1, 3, 16, 16), np.float64), np.zeros((2, 2, 64), np.float32)),
        (np.zeros((2, 3, 16, 16), np.float32), np.zeros((2, 2, 64), np.float32)),
        (np.zeros((1, 3, 16, 16), np.float32), np.zeros((2, 2, 32), np.float32)),
    ],
    ids=["dtype", "batch", "key length"],
)
def test_arrays_that_do_not_fit_the_spec_never_reach_it(
    encoder: OnnxRuntimeEngine, image: np.ndarray, key: np.ndarray
) -> None:
    with pytest.raises(EngineError, match=r"encoder received .*expected"):
        encoder.run({"image": image}, {"key": key})


def test_a_failure_inside_names_the_graph(encoder: OnnxRuntimeEngine) -> None:
    # The spec cannot say that h is H / 8; ONNX Runtime finds that the output does not fit.
    with pytest.raises(EngineError, match="graph encoder failed in ONNX Runtime"):
        encoder.run({"image": make_image(16, 16)}, {"key": np.zeros((3, 2, 64), np.float32)})


@pytest.mark.parametrize(("name", "dtype"), [("picture", "float32"), ("image", "int64")])
def test_a_graph_that_is_not_its_spec_is_refused(
    tiny_bundle: Bundle, name: str, dtype: str
) -> None:
    spec = tiny_bundle.graphs["encoder"].spec
    other = replace(spec, inputs=(TensorSpec(name, dtype, (1, 3, "H", "W")),))
    with pytest.raises(EngineError, match=r"graph encoder has tensors .*'image'.*export it again"):
        OnnxRuntimeEngine(tiny_bundle.read_graph("encoder"), other)


@pytest.mark.parametrize("model", [b"no graph", b""])
def test_bytes_that_are_no_graph_are_refused(model: bytes) -> None:
    with pytest.raises(EngineError, match="cannot load graph encoder"):
        OnnxRuntimeEngine(model, GraphSpec("encoder", (), ()))


def test_without_onnxruntime_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=re.escape(how_to_install("cpu"))):
        OnnxRuntimeEngine(b"", GraphSpec("encoder", (), ()))


def test_a_provider_that_is_not_there_comes_with_the_line_that_installs_it(
    tiny_bundle: Bundle,
) -> None:
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(MissingExtraError, match="has no CUDAExecutionProvider; run: pip uninstall"):
        Tracker.open(tiny_bundle, backend="cuda")


def test_a_silent_fall_to_the_cpu_is_an_error(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = onnxruntime.InferenceSession

    def fall_back(*args: object, **kwargs: object) -> object:
        return session(*args, **{**kwargs, "providers": [CPU]})

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", fall_back)
    monkeypatch.setattr(opening, "Cuda", lambda **which: FakeCuda())
    with pytest.raises(EngineError, match=f"on {CPU} instead of {CUDA}.*--backend cpu"):
        Tracker.open(tiny_bundle, backend="cuda")


class CudaSession:
    """ONNX Runtime on the CPU that says it is a GPU's, whose memory is the host's."""

    made: ClassVar[list[CudaSession]] = []

    def __init__(self, *args: Any, providers: Any, **kwargs: Any) -> None:
        ((self.provider, self.options),) = providers
        self._session = SESSION(*args, providers=[CPU], **kwargs)
        self.recordings: list[str] = []
        self.made.append(self)

    def get_providers(self) -> list[str]:
        return [self.provider, CPU]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def io_binding(self) -> CudaBinding:
        kind = "cuda" if self.provider == CUDA else "cpu"
        return CudaBinding(self._session.io_binding(), kind)

    def run_with_iobinding(self, binding: CudaBinding, options: Any) -> None:
        if options is not None:
            self.recordings.append(options.get_run_config_entry("gpu_graph_id"))
        if self.provider == CUDA:
            # What is queued comes first.
            DEVICES[self.options["user_compute_stream"]].synchronize()
        self._session.run_with_iobinding(binding.binding)


class CudaBinding:
    """Takes addresses of one kind alone."""

    def __init__(self, binding: Any, kind: str) -> None:
        self.binding = binding
        self._kind = kind

    def bind_input(self, name: str, kind: str, *rest: Any) -> None:
        assert kind == self._kind
        self.binding.bind_input(name, "cpu", *rest)

    def bind_output(self, name: str, kind: str, *rest: Any) -> None:
        assert kind == self._kind
        self.binding.bind_output(name, "cpu", *rest)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A device that ONNX Runtime finds."""
    device = FakeCuda()
    monkeypatch.setitem(DEVICES, str(device.stream), device)
    monkeypatch.setattr(CudaSession, "made", [])
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", CudaSession)
    monkeypatch.setattr(opening, "Cuda", lambda **which: device)
    return device


def test_arrays_of_the_host_are_copied_and_those_of_the_device_are_not(
    tiny_bundle: Bundle, encoder: OnnxRuntimeEngine, gpu: FakeCuda
) -> None:
    image, expected = make_image(16, 24), np.zeros((2, 3, 64), np.float32)
    encoder.run({"image": image}, {"key": expected})
    engine = engine_from_bundle(tiny_bundle, "encoder", cuda=gpu)
    found = np.zeros_like(expected)
    engine.run({"image": image}, {"key": found})
    np.testing.assert_array_equal(found, expected)
    assert (gpu.copied_in, gpu.copied_out) == ([image.nbytes], [expected.nbytes])
    shared, key = share_array(image, gpu), zeros_for(expected.shape, gpu)
    gpu.copied_in.clear()
    engine.run({"image": shared}, {"key": key})
    assert gpu.copied_in == []
    np.testing.assert_array_equal(to_host(key), expected)
    del shared, key
    engine.close()
    assert not gpu.held
    assert gpu.users == 1


def test_the_devices_stream_is_onnxruntimes_and_tf32_is_off(
    tiny_bundle: Bundle, gpu: FakeCuda
) -> None:
    engine_from_bundle(tiny_bundle, "encoder", cuda=gpu)
    stream = str(gpu.stream)
    expected = {"use_tf32": "0", "user_compute_stream": stream, "enable_cuda_graph": "0"}
    assert CudaSession.made[-1].options == expected


def test_recordings_are_told_apart_by_shapes_and_see_the_same_addresses(
    tiny_bundle: Bundle,
    encoder: OnnxRuntimeEngine,
    gpu: FakeCuda,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnxruntime_engine, "RECORDINGS", 2)
    engine = engine_from_bundle(tiny_bundle, "encoder", cuda=gpu, cuda_graphs=True)
    session = CudaSession.made[-1]
    assert session.options["enable_cuda_graph"] == "1"
    for width in (64, 48, 64, 32, 48):
        image, expected = make_image(64, width), np.zeros((8, width // 8, 64), np.float32)
        encoder.run({"image": image}, {"key": expected})
        key = zeros_for(expected.shape, gpu)
        engine.run({"image": share_array(image, gpu)}, {"key": key})
        np.testing.assert_array_equal(to_host(key), expected)
    # The third shape is one more than are kept.
    assert session.recordings == ["1", "2", "1", "-1", "2"]


@pytest.mark.parametrize("cuda_graphs", [None, True])
def test_a_clip_is_tracked_to_the_same_masks_on_a_device(
    srnet_bundle: Bundle, tiny_clip: TruthClip, gpu: FakeCuda, cuda_graphs: bool | None
) -> None:
    masks = []
    options: dict[str, Any]
    for options in ({}, {"backend": "cuda", "cuda_graphs": cuda_graphs}):
        with Tracker.open(srnet_bundle, size=64, threads=1, **options) as tracker:
            tracker.start(tiny_clip.frames[0], tiny_clip.masks[0])
            masks.append([tracker.step(frame).mask for frame in tiny_clip.frames[1:]])
    np.testing.assert_array_equal(masks[1], masks[0])
    assert not gpu.held
    assert gpu.users == 0
    on_device = [made for made in CudaSession.made if made.provider == CUDA]
    assert len(on_device) == len(srnet_bundle.graphs)
    assert all(bool(made.recordings) is bool(cuda_graphs) for made in on_device)
