"""A bundle as bytes, for machines on which its folder is not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from vcedge_runtime.model.bundle import MANIFEST, MOST_MANIFEST, Bundle
from vcedge_runtime.reading import read_bounded


@dataclass(frozen=True)
class PackedBundle:
    """The files of a bundle.

    Attributes:
        files: what each holds, by name.
    """

    files: Mapping[str, bytes]


def pack_bundle(bundle: Bundle) -> PackedBundle:
    """Read the files of a bundle.

    Raises:
        BundleError: one is not what was exported.
    """
    manifest = read_bounded(bundle.folder / MANIFEST, MOST_MANIFEST)
    graphs = {graph.file: bundle.read_graph(name) for name, graph in bundle.graphs.items()}
    return PackedBundle({MANIFEST: manifest, **graphs})


@contextmanager
def at_hand(model: str, packed: PackedBundle | None) -> Iterator[str]:
    """Give what a model is opened by: its name or folder, or a folder with what was packed.

    That folder is there within the block alone: a process of a cluster that is killed between two
    jobs leaves nothing.

    Args:
        model: a shipped model's name or the folder of a bundle.
        packed: its files, where its folder may not be at hand.
    """
    if packed is None:
        yield model
        return
    with TemporaryDirectory(prefix="vcedge-bundle-") as folder:
        for name, data in packed.files.items():
            Path(folder, name).write_bytes(data)
        yield folder


@lru_cache(16)
def digest_bundle(model: str) -> str:
    """Digest a bundle's manifest, which names the sha256 of every graph.

    Raises:
        BundleError: it cannot be opened.
    """
    return hashlib.sha256((Bundle.open(model).folder / MANIFEST).read_bytes()).hexdigest()
