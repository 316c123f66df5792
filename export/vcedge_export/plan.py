"""What is exported of a model: its graphs, its run-time part, and what the user chose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vcedge_calibration.recording import Sample
from vcedge_runtime.buffers import Device
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.errors import ExportError
from vcedge_runtime.model.bundle import AnyComposition, Bundle

if TYPE_CHECKING:
    from vcedge.models.graph import GraphModule

RADIUS = 12
"""Default window radius in key cells."""
TEMPERATURE = 0.5
"""Default temperature: best for the shipped weights (our choice, measured on the development
sequences)."""
METHODS = ("minmax", "percentile", "entropy")
"""How INT8 may find the range of an activation."""


@dataclass(frozen=True)
class Int8Settings:
    """How a graph is quantised.

    Attributes:
        method: how the range of an activation follows from what was seen: its ends, a percentile of
            it, or the range of least relative entropy.
        percentile: of the activations that ``percentile`` keeps in range; the default leaves keys
            nearest to those in FP32 (dmp-edge, mean error 4.1 %; the whole range 4.8, 99.99 4.4).
        symmetric: zero points are 0, for TensorRT; otherwise unsigned activations, for a CPU.
        kept: layers that are not quantised, each as ``graph.layer``, as a refusal names them.
    """

    method: str = "percentile"
    percentile: float = 99.999
    symmetric: bool = False
    kept: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in METHODS or not 50 < self.percentile <= 100:
            raise ExportError(
                f"received calibration by {self.method!r} with percentile {self.percentile}; "
                f"expected one of {METHODS}, and above 50 up to 100"
            )


@dataclass(frozen=True)
class ExportOptions:
    """What the user chose.

    Where something is None, the model's own choice stands: ``label_model`` and
    ``object_model`` say which.

    Attributes:
        size: default working size of the bundle.
        radius: window radius in key cells.
        top_k: logits that take part in a readout.
        temperature: divides the logits of a readout.
        overrides: changes of the model's composition, as ``Tracker.open`` takes them. Of ``motion``
            and ``value_extraction``, what is off can still be switched on when a tracker opens;
            what was verified is the network's own way.
        deform_conv: whether SRNet's alignment is written with ONNX's DeformConv instead of grid
            samples: ONNX Runtime on a CPU has it since 1.25, TensorRT since 10.1.
        fp16: whether layers compute in FP16.
        int8: how convolutions of encoders, alignment and decoders are quantised; None where they
            are not. With ``fp16`` the rest is in FP16, for TensorRT; without, in FP32, for a CPU.
        samples: what INT8 is calibrated on, by graph; recorded on the clip of the proof when None.
        max_drop: most J&F, 0 to 1, that INT8 may lose on that clip.
        engines: opens every graph of the bundle as the device that runs it will, with that device;
            they are built into the user's cache and proven too. None proves the files alone.
        overwrite: replace a bundle that stands in the folder.
    """

    size: int | None = None
    radius: int | None = None
    top_k: int | None = None
    temperature: float | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    deform_conv: bool = False
    fp16: bool = False
    int8: Int8Settings | None = None
    samples: Mapping[str, Sequence[Sample]] | None = None
    max_drop: float = 0.01
    engines: Callable[[Bundle], tuple[Mapping[str, Engine], Device | None]] | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise ExportError(f"received top_k {self.top_k}; expected at least 1")
        if not 0 <= self.max_drop <= 1:
            raise ExportError(f"received max_drop {self.max_drop}; expected a share of 1")


@dataclass(frozen=True)
class ExportedModel:
    """The plan of an export.

    Attributes:
        profile: name of the network's.
        composition: the bundle's run-time part.
        whole: the same with everything switched on that the network has: it is what is proven.
        modules: every graph by its name, in evaluation mode.
        lengths: an example of each named length of the graphs; all differ.
        counted: graphs whose work grows as the image does, or as image and objects do; it is
            counted.
        written: graphs that are written otherwise than they run in PyTorch, with the same tensors.
    """

    profile: str
    composition: AnyComposition
    whole: AnyComposition
    modules: Mapping[str, GraphModule]
    lengths: Mapping[str, int]
    counted: tuple[str, ...]
    written: Mapping[str, GraphModule] = field(default_factory=dict)

    def lengths_at(self, work_hw: tuple[int, int]) -> dict[str, int]:
        """Return the example's lengths with an image of another size, in whole key cells."""
        example = {"h": self.lengths["H"], "w": self.lengths["W"]}
        wanted = dict(zip("hw", work_hw, strict=True))
        axes = {name: name[0].lower() for name in self.lengths if name[0].lower() in "hw"}
        scaled = {
            name: self.lengths[name] * wanted[axis] // example[axis] for name, axis in axes.items()
        }
        return {**self.lengths, **scaled}
