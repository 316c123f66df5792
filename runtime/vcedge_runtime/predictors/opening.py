"""The predictor of a composition: the one place that knows which model needs which."""

from __future__ import annotations

from collections.abc import Mapping

from vcedge_runtime.buffers import Device
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.errors import TrackerError
from vcedge_runtime.frames.fitting import Fit
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.object_composition import ObjectComposition
from vcedge_runtime.predictors.labels import LabelPredictor
from vcedge_runtime.predictors.objects import ObjectPredictor
from vcedge_runtime.predictors.protocol import PointPredictor, Predictor


def open_predictor(
    bundle: Bundle,
    engines: Mapping[str, Engine],
    work_hw: tuple[int, int],
    objects: int,
    device: Device | None = None,
    fit: Fit | None = None,
) -> Predictor:
    """Make the predictor of a video that begins with a mask.

    Args:
        bundle: the model.
        engines: by name; the caller closes them.
        work_hw: height and width in which frames are encoded, whole key cells.
        objects: how many are followed to begin with.
        device: of the engines; None where they run on the host.
        fit: where the frame lies in that size; all of it when None.

    Raises:
        TrackerError: the key grid has fewer cells than a readout takes.
        EngineError: a device has not so much memory.
    """
    parts = bundle.tracking
    if isinstance(parts, ObjectComposition):
        return ObjectPredictor(parts, engines, work_hw, objects, device, fit)
    return LabelPredictor(parts, engines, work_hw, objects, device=device)


def open_point_predictor(
    bundle: Bundle,
    engines: Mapping[str, Engine],
    work_hw: tuple[int, int],
    names: tuple[str, ...],
    device: Device | None = None,
) -> PointPredictor:
    """Make the predictor of a video that begins with named points; see ``open_predictor``.

    Raises:
        TrackerError: the model follows masks alone.
    """
    parts = require_points(bundle)
    return LabelPredictor(parts, engines, work_hw, len(names), points=names, device=device)


def require_points(bundle: Bundle) -> Composition:
    """The composition of a model that can follow points.

    Raises:
        TrackerError: the model follows masks alone.
    """
    if isinstance(bundle.composition, Composition):
        return bundle.composition
    raise TrackerError(
        f"model {bundle.name} follows masks alone; open a model that propagates labels, such as "
        "mer-lite"
    )
