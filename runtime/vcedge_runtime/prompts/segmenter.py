"""First masks: from boxes and clicks on a frame to the ids of its objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vcedge_runtime.closing import Closing
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.opening import open_engines
from vcedge_runtime.errors import BundleError, MaskError
from vcedge_runtime.frames.resizing import check_frame
from vcedge_runtime.model.bundle import PROMPT_MODEL, Bundle, shipped_prompt_models
from vcedge_runtime.model.prompt_composition import GRAPH, PromptComposition
from vcedge_runtime.predictors.ranges import find_spans
from vcedge_runtime.prompts.asking import Asked, Boxes, Clicks, check_prompts
from vcedge_runtime.prompts.cleaning import clean_mask, keep_near_box
from vcedge_runtime.prompts.grabcut import GrabCutSegmenter
from vcedge_runtime.prompts.network import Chances, NetworkSegmenter
from vcedge_runtime.video.masks import check_mask

CPU = "cpu"
"""The back-end where none is named: an engine for a GPU takes longer to build than many masks."""
GRABCUT = "grabcut"
"""What stands for a model where none is used."""


class _Finder(Protocol):
    def find(
        self, frame: NDArray[np.uint8], asked: Asked, prior: NDArray[np.float32] | None = None
    ) -> Chances: ...


class PromptSegmenter(Closing):
    """Makes first masks; open one for many, ``mask_from_prompts`` opens its own.

    Args:
        bundle: the model; None where GrabCut stands in for it.
        engines: an engine for its graph; closed by this.

    Attributes:
        name: of what finds the objects.

    Raises:
        BundleError: the bundle tracks, and makes no first masks.
    """

    def __init__(self, bundle: Bundle | None, engines: Mapping[str, Engine]) -> None:
        self._engines = dict(engines)
        self.name = GRABCUT if bundle is None else bundle.name
        self._finder: _Finder = GrabCutSegmenter()
        if bundle is not None:
            self._finder = NetworkSegmenter(prompt_parts(bundle), self._engines[GRAPH])

    @classmethod
    def open(
        cls,
        model: str | Path | Bundle = PROMPT_MODEL,
        *,
        threads: int = 0,
        backend: str = CPU,
        tell: Callable[[str], None] = lambda text: None,
    ) -> PromptSegmenter:
        """Open a shipped model by name, a bundle's folder, or ``grabcut``.

        Args:
            model: name, folder, or an opened bundle; where the default did not come with the
                package, GrabCut stands in for it, and ``tell`` hears of it.
            threads: threads of an engine on the CPU; 0 lets it choose.
            backend: what runs the graph, one of ``opening.BACKENDS``.
            tell: told in words what was chosen.

        Raises:
            BundleError: the bundle cannot be read, or tracks.
            EngineError: its graph cannot be loaded.
            MissingExtraError: the back-end is not installed.
        """
        lacking = model == PROMPT_MODEL and model not in shipped_prompt_models()
        if lacking and not Path(PROMPT_MODEL).is_dir():
            tell(f"{PROMPT_MODEL} did not come with this vcedge: GrabCut makes the mask, roughly")
            return cls(None, {})
        if model == GRABCUT:
            return cls(None, {})
        bundle = model if isinstance(model, Bundle) else Bundle.open(model)
        prompt_parts(bundle)
        opened = open_engines(
            bundle,
            [GRAPH],
            backend,
            spans=partial(find_spans, bundle.composition),
            threads=threads,
            tell=tell,
        )
        return cls(opened.bundle, opened.engines)

    def close(self) -> None:
        """Release the engine; twice does no harm."""
        engines, self._engines = self._engines, {}
        for engine in engines.values():
            engine.close()

    def segment(
        self,
        frame: NDArray[np.uint8],
        boxes: Boxes | None = None,
        clicks: Clicks | None = None,
        *,
        mask: NDArray[np.uint8] | None = None,
        required: bool = True,
    ) -> NDArray[np.uint8]:
        """Make the mask of a frame.

        Where two objects claim a pixel, it is of the likelier one.

        Args:
            frame: (H, W, 3) uint8 BGR, 0-255, of any size.
            boxes: left, top, width and height in pixels, by object id, 1 to 255.
            clicks: x, y and whether the object is there, in pixels, by object id; an object may
                have both.
            mask: (H, W) uint8 ids that are known, such as those to be corrected; objects of which
                nothing is said stay.
            required: whether an object of which nothing was found is refused; else it is left out.

        Returns:
            (H, W) uint8 object ids in the frame's own pixels, 0 the background; the caller's own.

        Raises:
            TrackerError: the frame is no frame.
            MaskError: nothing is said, a box or a click that cannot be, or an object of which
                nothing was found.
        """
        check_frame(frame)
        frame_hw = (frame.shape[0], frame.shape[1])
        known = None if mask is None else check_mask(mask, frame_hw)
        ids_known = () if known is None else np.unique(known[known > 0]).tolist()
        asked = check_prompts(frame_hw, boxes, clicks, ids_known)
        ids = np.zeros(frame_hw, np.uint8) if known is None else known.copy()
        ids[np.isin(ids, list(asked))] = 0
        best = np.where(ids > 0, np.float32(0.5), np.float32(0))
        for object_id, said in asked.items():
            prior = None if known is None else (known == object_id).astype(np.float32)
            found = self._finder.find(frame, said, prior if prior is None or prior.any() else None)
            part, chances = found.region.slices, _settle(found, said)
            taken = (chances > 0.5) & (chances > best[part])
            ids[part][taken] = object_id
            best[part][taken] = chances[taken]
        if required:
            _require_found(ids, asked)
        return ids

    def find_salient(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """How much each pixel stands out where nothing is said, such as to learn from.

        Args:
            frame: (H, W, 3) uint8 BGR, 0-255.

        Returns:
            (H, W) float32, 0 to 1; the caller's own.

        Raises:
            TrackerError: the frame is no frame.
            BundleError: GrabCut stands in for the model: it must be told where to look.
        """
        check_frame(frame)
        if not isinstance(self._finder, NetworkSegmenter):
            raise BundleError(
                f"received {self.name}, which finds nothing where nothing is said; expected a "
                f"model such as {PROMPT_MODEL}"
            )
        return self._finder.find_salient(frame)


def mask_from_prompts(
    frame: NDArray[np.uint8],
    boxes: Boxes | None = None,
    clicks: Clicks | None = None,
    *,
    mask: NDArray[np.uint8] | None = None,
    model: str | Path | Bundle = PROMPT_MODEL,
    threads: int = 0,
    backend: str = CPU,
    tell: Callable[[str], None] = lambda text: None,
) -> NDArray[np.uint8]:
    """Make the mask of a frame from boxes and clicks; see ``PromptSegmenter.segment``.

    The model is opened for this one frame: who makes many masks opens a ``PromptSegmenter``.

    Args:
        frame: (H, W, 3) uint8 BGR, 0-255.
        boxes: left, top, width and height in pixels, by object id.
        clicks: x, y and whether the object is there, in pixels, by object id.
        mask: (H, W) uint8 ids that are known.
        model: see ``PromptSegmenter.open``, likewise the next ones.
        threads: likewise.
        backend: likewise.
        tell: likewise.

    Returns:
        (H, W) uint8 object ids, 0 the background; the caller's own.

    Raises:
        MaskError: nothing is said, or what cannot be; nothing was found.
        TrackerError: the frame is no frame.
        BundleError: see ``PromptSegmenter.open``.
        EngineError: likewise.
        MissingExtraError: likewise.
    """
    with PromptSegmenter.open(model, threads=threads, backend=backend, tell=tell) as segmenter:
        return segmenter.segment(frame, boxes, clicks, mask=mask)


def prompt_parts(bundle: Bundle) -> PromptComposition:
    """The run-time part of a bundle that makes first masks.

    Raises:
        BundleError: it tracks.
    """
    if not isinstance(bundle.composition, PromptComposition):
        raise BundleError(
            f"received model {bundle.name}, which tracks and makes no first masks; expected one "
            f"such as {PROMPT_MODEL}"
        )
    return bundle.composition


def _settle(found: Chances, asked: Asked) -> NDArray[np.float32]:
    """Chances of an object, 0 wherever its mask is not, once it is cleaned."""
    left, top = found.region.left, found.region.top
    chances = found.plane.copy()
    if asked.box is not None:
        x, y, right, bottom = asked.box
        keep_near_box(chances, (x - left, y - top, right - left, bottom - top))
    clicks = [click._replace(x=click.x - left, y=click.y - top) for click in asked.clicks]
    mask = clean_mask(chances > 0.5, clicks, boxed=asked.box is not None)
    filled = np.maximum(chances, np.float32(0.5001))
    return np.where(mask, filled, np.float32(0))


def _require_found(ids: NDArray[np.uint8], asked: Mapping[int, Asked]) -> None:
    lacking = [object_id for object_id in asked if not (ids == object_id).any()]
    if lacking:
        raise MaskError(
            f"received a box or clicks of object {', '.join(map(str, lacking))}, where nothing was "
            "found; expected an object there; draw a closer box, or click on its middle"
        )
