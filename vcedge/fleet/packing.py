"""A bundle as bytes, for machines on which its folder is not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from vcedge_runtime.model.bundle import MANIFEST, MOST_MANIFEST, Bundle
from vcedge_runtime.reading import read_bounded


@dataclass(frozen=True)
class PackedBundle:
    """The files of a bundle.

    Attributes:
        digest: of its manifest, which names the sha256 of every graph.
        files: what each holds, by name.
    """

    digest: str
    files: Mapping[str, bytes]


def pack_bundle(bundle: Bundle) -> PackedBundle:
    """Read the files of a bundle.

    Raises:
        BundleError: one is not what was exported.
    """
    manifest = read_bounded(bundle.folder / MANIFEST, MOST_MANIFEST)
    graphs = {graph.file: bundle.read_graph(name) for name, graph in bundle.graphs.items()}
    return PackedBundle(hashlib.sha256(manifest).hexdigest(), {MANIFEST: manifest, **graphs})


def unpack_bundle(packed: PackedBundle) -> Path:
    """Write the files of a bundle to a folder of this process, which ends with it, once."""
    place = Path(_open_folder(packed.digest).name)
    for name, data in packed.files.items():
        if not (place / name).exists():
            (place / name).write_bytes(data)
    return place


@cache
def _open_folder(digest: str) -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix=f"vcedge-{digest[:12]}-")
