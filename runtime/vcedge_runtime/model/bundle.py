"""The bundle: a folder with one model's graphs and everything the runtime must know of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from vcedge_runtime.errors import BundleError
from vcedge_runtime.files import write_whole
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.model.object_composition import ObjectComposition
from vcedge_runtime.model.spec import GraphSpec
from vcedge_runtime.settings import Bounds, check_settings, settings_from_mapping, show

FORMAT = 2
MANIFEST = "bundle.json"
MODELS = Path(__file__).parents[1] / "models"
PRECISIONS = ("fp32", "fp16", "int8")
"""Of a graph's layers, the finest first."""
QUANTISED = ("encoder", "query_encoder", "value_encoder", "mask_decoder")
"""Graphs whose convolutions INT8 takes: encoders and decoders, where the work is."""
DEFAULT_MODEL = "srnet-edge"
"""The bundle, of those that came with the package, that is used where none is named."""
DEFAULT_LABEL_MODEL = "mer-edge"
"""Likewise where the model must propagate labels: points are followed by such alone."""
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
    file: str
    sha256: str
    precision: Annotated[str, PRECISIONS]
    macs_per_pixel: Work = 0.0
    macs_per_object: Work = 0.0
    islands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    half: bool = False

    def __post_init__(self) -> None:
        check_settings(self)
        if Path(self.file).name != self.file:
            raise BundleError(
                f"received a graph {show(self.spec.name)} with file {show(self.file)}; expected a "
                "name within the bundle's folder"
            )

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
        profile: ``edge`` or ``paper``, ``srnet-edge`` or ``srnet``.
        composition: the run-time part.
        graphs: by name.
        weights: where the weights came from: data, licences, steps, measured accuracy.
        verification: what export measured; empty when it did not.
    """

    folder: Path
    name: str
    profile: str
    composition: Composition | ObjectComposition
    graphs: Mapping[str, GraphFile]
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
        manifest = _read_manifest(folder)
        try:
            bundle = _bundle_from_manifest(folder, manifest)
        except BundleError as exc:
            raise BundleError(
                f"{folder / MANIFEST} is damaged: {exc}; export the bundle again"
            ) from exc
        bundle.check_files()
        return bundle

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
        """Compare every graph with its sha256.

        Raises:
            BundleError: a file is missing or differs.
        """
        for name, graph in self.graphs.items():
            path = self.path_of(name)
            try:
                found = sha256_of(path)
            except OSError as exc:
                raise BundleError(
                    f"bundle {self.folder} lacks {graph.file}; export it again"
                ) from exc
            if found != graph.sha256:
                raise BundleError(
                    f"{path} has sha256 {found[:12]}..., expected {graph.sha256[:12]}...; the file "
                    "is damaged or was exchanged; export the bundle again"
                )

    def save(self) -> None:
        """Write the manifest; the graphs' files are there already.

        Raises:
            OutputError: the folder cannot be written.
        """
        value = {**asdict(self), "composition": self.composition.to_json()}
        del value["folder"]
        value["graphs"] = {name: graph.to_json() for name, graph in self.graphs.items()}
        text = json.dumps({"format": FORMAT, **value}, indent=1) + "\n"
        write_whole(self.folder / MANIFEST, text.encode(), synced=True)


def shipped_models() -> list[str]:
    """Names of the bundles that came with the package."""
    return sorted(path.parent.name for path in MODELS.glob(f"*/{MANIFEST}"))


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _find_folder(model: str | Path) -> Path:
    # A name of more characters than a file may have is an OSError.
    with suppress(TypeError, OSError):
        if (Path(model) / MANIFEST).is_file():
            return Path(model)
    if str(model) in shipped_models():
        return MODELS / str(model)
    raise BundleError(
        f"no model {str(model)!r}: expected the folder of a bundle (with {MANIFEST}) or one of "
        f"{shipped_models()}; `vcedge models` lists them"
    )


def _bundle_from_manifest(folder: Path, manifest: Mapping[str, Any]) -> Bundle:
    """Make a bundle of what its manifest holds, which may be anything."""
    parts: dict[str, Any] = {entry.name: manifest.get(entry.name) for entry in fields(Bundle)}
    graphs, composition = parts["graphs"], parts["composition"]
    if isinstance(graphs, Mapping):
        parts["graphs"] = {name: GraphFile.from_json(name, graphs[name]) for name in graphs}
    objects = isinstance(composition, Mapping) and "value_dim" in composition
    kind = ObjectComposition if objects else Composition
    parts["composition"] = kind.from_json(composition)
    return Bundle(**{**parts, "folder": folder})


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        written = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise BundleError(
            f"{folder / MANIFEST} cannot be read: {exc!r}; export the bundle again"
        ) from exc
    if type(written) is not int:
        raise BundleError(
            f"{folder / MANIFEST} cannot be read: received format {show(written)}; expected a "
            "whole number; export the bundle again"
        )
    if written != FORMAT:
        raise BundleError(
            f"bundle {folder} has format {written}, this vcedge reads format {FORMAT}; "
            + ("upgrade vcedge" if written > FORMAT else "export the bundle again")
        )
    return dict(manifest)
