"""The joint readout against one of each reference, against PyTorch, and cut otherwise.

All ways read the same random memory, in turns within one run, so that their ratios hold where the
machine is shared. The first row is what the tracker does; the others justify its defaults. With
``--objects`` below 1 some tiles see no object and are left out, as they are when tracking.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcedge.commands.tables import make_table, open_console
from vcedge_runtime.engines.base import Engine
from vcedge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.files import write_json
from vcedge_runtime.memory.bank import MemoryBank
from vcedge_runtime.model.bundle import DEFAULT_LABEL_MODEL, Bundle
from vcedge_runtime.predictors.branches import LabelPropagation
from vcedge_runtime.predictors.reader import (
    JOINT_READOUT,
    LOGIT_BYTES,
    TILE,
    TileReader,
)
from vcedge_runtime.propagation.fusion import JointFusion
from vcedge_runtime.sampling.sampling import Sampling

CHANNELS = 4
JOINT, SINGLE = "all references by one softmax", "each reference, then merged"
"""Ways of ONNX Runtime: what the tracker does where it can, and what it did before."""
FORMER_TILE = 12
"""Side of a tile of the latter."""
COLUMNS = ("way", "tile", "logits MiB", "GMAC", "median ms", "ratio", "largest difference")


@dataclass
class Way:
    """One way to read.

    Attributes:
        name: for the table.
        read: reads the labels of the current frame and returns them, (h, w, L) float32.
        tile: side of a tile in key cells; 0 without tiles.
        logit_bytes: bytes of logits of one call.
        macs: multiply-accumulates of one read.
        times_ms: filled by the run.
        labels: what it read.
    """

    name: str
    read: Callable[[], NDArray[np.float32]]
    tile: int
    logit_bytes: int
    macs: int
    times_ms: list[float] = field(default_factory=list)
    labels: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "way": self.name,
            "tile": self.tile,
            "logit_bytes": self.logit_bytes,
            "macs": self.macs,
            "times_ms": self.times_ms,
        }


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_LABEL_MODEL)
    parser.add_argument("--grid", default="32x56", help="key grid, height x width")
    parser.add_argument(
        "--objects", type=float, default=1.0, help="share of the grid in which there are objects"
    )
    parser.add_argument("--tiles", default="6,8,10,12,16,20")
    parser.add_argument("--logits", default="1,2,4,8,16,32,64", help="MiB of one call")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--dense-limit", type=int, default=512, help="MiB of dense logits, at most")
    parser.add_argument("--json", type=Path, default=Path("readout.json"))
    return parser.parse_args()


def fill_memory(bundle: Bundle, grid_hw: tuple[int, int], objects: float) -> MemoryBank:
    """Make a memory of random keys, and of labels in a square that takes a share of the grid."""
    rng = np.random.default_rng(0)
    parts, (height, width) = bundle.composition, grid_hw
    bank = MemoryBank(parts.memory.slots, grid_hw, parts.key_dim, CHANNELS)
    bank.keys[:] = rng.standard_normal(bank.keys.shape, np.float32)
    bank.labels[..., 0] = 1
    part = np.s_[:, : round(height * objects**0.5), : round(width * objects**0.5)]
    shape = bank.labels[part].shape[:-1]
    bank.labels[part] = rng.dirichlet(np.ones(CHANNELS), shape)
    return bank


def read_in_tiles(
    name: str, engine: Engine, bundle: Bundle, bank: MemoryBank, tile: int, logit_bytes: int
) -> Way:
    """Read through an engine, as the tracker does."""
    parts = bundle.composition
    references = parts.memory.references
    reader = TileReader(
        {engine.spec.name: engine},
        bank.grid_hw,
        parts.radius,
        references,
        tile=tile,
        logit_bytes=logit_bytes,
    )
    reader.resize(CHANNELS)
    propagation, window = LabelPropagation(reader, bank, JointFusion()), Sampling(parts.radius)

    def read() -> NDArray[np.float32]:
        return propagation.read(references, range(references), window)

    read()
    return Way(name, read, tile, logit_bytes, reader.macs)


def read_densely(bundle: Bundle, bank: MemoryBank) -> Way:
    """Read with the affinity of all cells in PyTorch, masked outside the window."""
    import torch

    from vcedge.models.affinity import reconstruct, window_bias

    parts, (height, width) = bundle.composition, bank.grid_hw
    references, cells = parts.memory.references, height * width
    bias = window_bias(height, width, parts.radius)
    keys = torch.from_numpy(bank.keys).permute(0, 3, 1, 2)
    labels = torch.from_numpy(bank.labels).permute(0, 3, 1, 2)

    def read() -> NDArray[np.float32]:
        with torch.inference_mode():
            query = keys[references, None] / parts.temperature
            found = reconstruct(query, keys[None, :references], labels[None, :references], bias)
        dense: NDArray[np.float32] = found[0].permute(1, 2, 0).numpy()
        return dense

    macs = cells * cells * references * (parts.key_dim + CHANNELS)
    return Way("PyTorch, dense", read, 0, 4 * cells * cells * references, macs)


def list_ways(
    arguments: argparse.Namespace, bundle: Bundle, engines: Sequence[Engine], bank: MemoryBank
) -> list[Way]:
    """List the ways to compare, what the tracker does first."""
    tiles = [int(tile) for tile in arguments.tiles.split(",") if int(tile) != TILE]
    limits = [int(float(mib) * 2**20) for mib in arguments.logits.split(",")]
    cuts = [(TILE, LOGIT_BYTES), *((tile, LOGIT_BYTES) for tile in tiles)]
    cuts += [(TILE, limit) for limit in limits if limit != LOGIT_BYTES]
    joint, single = engines
    ways = [read_in_tiles(JOINT, joint, bundle, bank, *cut) for cut in cuts]
    for tile in dict.fromkeys((TILE, FORMER_TILE)):
        ways.append(read_in_tiles(SINGLE, single, bundle, bank, tile, LOGIT_BYTES))
    parts = bundle.composition
    cells = bank.grid_hw[0] * bank.grid_hw[1]
    dense_bytes = 4 * cells * cells * parts.memory.references
    if dense_bytes > arguments.dense_limit * 2**20:
        print(f"dense skipped: {dense_bytes / 2**20:.0f} MiB of logits", file=sys.stderr)
    elif find_spec("torch") is None:
        print("dense skipped: PyTorch is not installed", file=sys.stderr)
    elif parts.top_k is not None:
        print("dense skipped: it reads all logits, this model only the top k", file=sys.stderr)
    else:
        ways.append(read_densely(bundle, bank))
    return ways


def measure_ways(ways: list[Way], rounds: int) -> None:
    """Time every way once a round, in another order each time."""
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        for index in rng.permutation(len(ways)):
            way = ways[index]
            # An untimed read: the threads of the way before may still spin.
            way.labels = way.read().copy()
            began = time.perf_counter()
            way.read()
            way.times_ms.append(1000 * (time.perf_counter() - began))


def lay_out(ways: list[Way]) -> list[tuple[str, ...]]:
    """Make the table's rows; ratios and differences are to the first."""
    base = float(np.median(ways[0].times_ms))
    return [
        (
            way.name + (" (default)" if way is ways[0] else ""),
            str(way.tile) if way.tile else "",
            f"{way.logit_bytes / 2**20:.4g}",
            f"{way.macs / 1e9:.2f}",
            f"{np.median(way.times_ms):.2f}",
            f"{np.median(way.times_ms) / base:.2f}",
            f"{np.abs(way.labels - ways[0].labels).max():.1e}",
        )
        for way in ways
    ]


def main() -> None:
    """Run the benchmark."""
    arguments = parse_arguments()
    bundle = Bundle.open(arguments.model)
    height, width = map(int, arguments.grid.split("x"))
    bank = fill_memory(bundle, (height, width), arguments.objects)
    engines = [
        OnnxRuntimeEngine(
            bundle.read_graph(name), bundle.graphs[name].spec, threads=arguments.threads
        )
        for name in (JOINT_READOUT, "label_readout")
    ]
    ways = list_ways(arguments, bundle, engines, bank)
    measure_ways(ways, arguments.rounds)
    for engine in engines:
        engine.close()
    open_console(markdown=True).print(make_table(COLUMNS, lay_out(ways), markdown=True))
    value = {
        "grid_hw": [height, width],
        "objects": arguments.objects,
        "rounds": arguments.rounds,
        "ways": [way.to_json() for way in ways],
    }
    write_json(arguments.json, value)


if __name__ == "__main__":
    try:
        main()
    except VcedgeError as exc:
        sys.exit(f"readout.py: {exc}")
