"""The bundle: a folder with one model's graphs and everything the runtime must know of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from vcedge_runtime.errors import BundleError, TrackerError
from vcedge_runtime.files import write_whole
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.object_composition import ObjectComposition
from vcedge_runtime.model.onnx_wire import require_whole
from vcedge_runtime.model.prompt_composition import PromptComposition
from vcedge_runtime.model.spec import GraphSpec, Name
from vcedge_runtime.reading import read_bounded
from vcedge_runtime.settings import (
    NAME,
    Bounds,
    Form,
    check_settings,
    settings_from_mapping,
    show,
)
from vcedge_runtime.telling import tell_cause

FORMAT = 2
MANIFEST = "bundle.json"
MODELS = Path(__file__).parents[1] / "models"
PROMPTS = "prompts"
"""Folder, in that one, of bundles that make first masks, beside those that track."""
PRECISIONS = ("fp32", "fp16", "int8")
"""Of a graph's layers, the finest first."""
QUANTISED = ("encoder", "query_encoder", "value_encoder", "feature_alignment", "mask_decoder")
"""Graphs whose convolutions INT8 takes: encoders, alignment and decoder, where the work is."""
DEFAULT_MODEL = "srnet-lite"
"""The bundle, of those that came with the package, that is used where none is named."""
DEFAULT_LABEL_MODEL = "mer-lite"
"""Likewise where the model must propagate labels: points are followed by such alone."""
PROMPT_MODEL = "prompts-lite"
"""The bundle, of those that came with the package, that makes first masks."""
FILE = Form(NAME.pattern, f"{NAME.told}, within the bundle's folder")
MOST_MANIFEST, MOST_GRAPH = 2**22, 2**31 - 1
"""Bytes of a manifest (our choice), and of a graph, which protobuf allows no more."""
AnyComposition = Composition | ObjectComposition | PromptComposition
"""The run-time part of whatever kind of model."""
Work = Annotated[float, Bounds(0, 1e12)]
"""Multiply-accumulates per pixel."""


@dataclass(frozen=True)
class GraphFile:
    """One graph of a bundle.

    Attributes:
        spec: names, dtypes and shapes.
        file: name within the bundle's folder.
        sha256: of the file.
        precision: of its layers, one of ``PRECISIONS``.
        macs_per_pixel: multiply-accumulates of a run per pixel of the working size; 0 where they
            do not grow with it alone.
        macs_per_object: likewise, per pixel and object.
        islands: names of the nodes that compute in FP32 in a lower precision's bundle, by why.
        half: whether the rest is in FP16, in a quantised graph too.
    """

    spec: GraphSpec
    file: Annotated[str, FILE]
    sha256: str
    precision: Annotated[str, PRECISIONS]
    macs_per_pixel: Work = 0.0
    macs_per_object: Work = 0.0
    islands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    half: bool = False

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def has_half_scales(self) -> bool:
        """Whether it is quantised and the rest of it is in FP16."""
        return self.precision == "int8" and self.half

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "spec": self.spec.to_json()}

    @classmethod
    def from_json(cls, name: str, value: Any) -> GraphFile:
        """Read what ``to_json`` writes.

        Raises:
            BundleError: it is something else.
        """
        if not isinstance(value, Mapping) or "spec" not in value:
            raise BundleError(f"received {show(value)} for graph {show(name)}; expected its spec")
        spec = GraphSpec.from_json(name, value["spec"])
        return settings_from_mapping(cls, {**value, "spec": spec})


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes:
        folder: where it lies.
        name: the model's name.
        profile: ``edge`` or ``paper``; ``srnet-lite``, ``srnet-edge`` or ``srnet``; or
            ``prompts-lite``.
        composition: the run-time part.
        graphs: by name.
        weights: where the weights came from: data, licences, steps, measured accuracy.
        verification: what export measured; empty when it did not.
    """

    folder: Path
    name: Name
    profile: Name
    composition: AnyComposition
    graphs: Mapping[Name, GraphFile]
    weights: Mapping[str, Any] = field(default_factory=dict)
    verification: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings(self)

    @classmethod
    def open(cls, model: str | Path) -> Bundle:
        """Open a shipped model by name, or a bundle's folder, and check every file's sha256.

        Raises:
            BundleError: no such model; a damaged, foreign or newer manifest; a file that is missing
                or is not the one that was exported.
        """
        folder = _find_folder(model)
        manifest = read_manifest(folder)
        try:
            bundle = _bundle_from_manifest(folder, manifest)
        except BundleError as exc:
            raise BundleError(
                f"{folder / MANIFEST} is damaged: {exc}; export the bundle again"
            ) from exc
        bundle.check_files()
        return bundle

    @property
    def tracking(self) -> Composition | ObjectComposition:
        """The run-time part of a model that tracks.

        Raises:
            TrackerError: it makes first masks, and follows nothing.
        """
        if isinstance(self.composition, PromptComposition):
            raise TrackerError(
                f"received model {self.name}, which makes first masks and follows nothing; "
                f"expected one that tracks, such as {DEFAULT_MODEL}"
            )
        return self.composition

    @property
    def precision(self) -> str:
        """The lowest of its graphs': what the bundle was exported in."""
        return max((graph.precision for graph in self.graphs.values()), key=PRECISIONS.index)

    def path_of(self, graph: str) -> Path:
        """File of a graph.

        Raises:
            BundleError: the bundle has no such graph.
        """
        if graph not in self.graphs:
            raise BundleError(
                f"bundle {self.folder} has no graph {graph!r}; it has {sorted(self.graphs)}"
            )
        return self.folder / self.graphs[graph].file

    def check_files(self) -> None:
        """Compare every graph with its sha256, and see that it is whole; see ``read_graph``."""
        for name in self.graphs:
            self.read_graph(name)

    def read_graph(self, graph: str) -> bytes:
        """Read a graph: what is checked is what is returned, whatever becomes of its file.

        Returns:
            The ONNX file's bytes.

        Raises:
            BundleError: the bundle has no such graph, its file is missing, no file, or not the one
                that was exported, or it needs another one.
        """
        path = self.path_of(graph)
        expected = self.graphs[graph].sha256
        try:
            model = read_bounded(path, MOST_GRAPH)
        except OSError as exc:
            raise BundleError(
                f"bundle {self.folder} lacks {path.name}; export it again ({exc.strerror})"
            ) from exc
        found = hashlib.sha256(model).hexdigest()
        if found != expected:
            raise BundleError(
                f"{path} has sha256 {found[:12]}..., expected {expected[:12]}...; the file "
                "is damaged or was exchanged; export the bundle again"
            )
        require_whole(model, str(path))
        return model

    def save(self) -> None:
        """Write the manifest; the graphs' files are there already.

        Raises:
            OutputError: the folder cannot be written.
        """
        value = {**asdict(self), "composition": self.composition.to_json()}
        del value["folder"]
        value["graphs"] = {name: graph.to_json() for name, graph in self.graphs.items()}
        text = json.dumps({"format": FORMAT, **value}, indent=1, allow_nan=False) + "\n"
        write_whole(self.folder / MANIFEST, text.encode(), synced=True)


def shipped_models() -> list[str]:
    """Names of the bundles that came with the package and track."""
    return _names_in(MODELS)


def shipped_prompt_models() -> list[str]:
    """Names of those that make first masks."""
    return _names_in(MODELS / PROMPTS)


def name_after(folder: Path) -> str:
    """Name of a bundle that is written to a folder, whatever characters the folder's has."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", folder.name).lstrip(".+-")[:100] or "model"


def _find_folder(model: str | Path) -> Path:
    # A name of more characters than a file may have is an OSError.
    with suppress(TypeError, OSError):
        if (Path(model) / MANIFEST).is_file():
            return Path(model)
    for place in (MODELS, MODELS / PROMPTS):
        if str(model) in _names_in(place):
            return place / str(model)
    raise BundleError(
        f"no model {str(model)!r}: expected the folder of a bundle (with {MANIFEST}) or one of "
        f"{[*shipped_models(), *shipped_prompt_models()]}; `vcedge models` lists them"
    )


def _names_in(place: Path) -> list[str]:
    return sorted(path.parent.name for path in place.glob(f"*/{MANIFEST}"))


def _bundle_from_manifest(folder: Path, manifest: Mapping[str, Any]) -> Bundle:
    """Make a bundle of what its manifest holds, which may be anything."""
    names = [entry.name for entry in fields(Bundle) if entry.name != "folder"]
    foreign = [name for name in manifest if name not in ("format", *names)]
    if foreign:
        raise BundleError(f"received {show(foreign[0])}; expected {', '.join(names)}")
    parts: dict[str, Any] = {name: manifest.get(name) for name in names}
    graphs, composition = parts["graphs"], parts["composition"]
    if isinstance(graphs, Mapping):
        parts["graphs"] = {name: GraphFile.from_json(name, graphs[name]) for name in graphs}
    parts["composition"] = _kind_of(composition).from_json(composition)
    return Bundle(**{**parts, "folder": folder})


def _kind_of(
    composition: Any,
) -> type[Composition] | type[ObjectComposition] | type[PromptComposition]:
    """What a manifest's composition is of, by what no other has."""
    named = composition if isinstance(composition, Mapping) else {}
    if "disc" in named:
        return PromptComposition
    return ObjectComposition if "value_dim" in named else Composition


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a bundle's manifest as it is written; what it says is checked by ``Bundle.open``.

    Raises:
        BundleError: it cannot be read, or is of another format.
    """
    try:
        text = read_bounded(folder / MANIFEST, MOST_MANIFEST).decode()
        manifest = json.loads(text, parse_constant=_refuse_constant)
        written = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise BundleError(
            f"{folder / MANIFEST} cannot be read: {tell_cause(exc)}; export the bundle again"
        ) from exc
    if type(written) is not int:
        raise BundleError(
            f"{folder / MANIFEST} cannot be read: received format {show(written)}; expected a "
            "whole number; export the bundle again"
        )
    if written != FORMAT:
        raise BundleError(
            f"bundle {folder} has format {show(written)}, this vcedge reads format {FORMAT}; "
            + ("upgrade vcedge" if written > FORMAT else "export the bundle again")
        )
    return dict(manifest)


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no number")
