"""What every module costs at run time: stages of a frame with other parts, beside the encoder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vcedge.bench.profiling import Profile, profile_tracker
from vcedge.commands.tables import make_table, open_console
from vcedge.doctor.machine import describe_machine
from vcedge_runtime.errors import VcedgeError
from vcedge_runtime.files import write_json
from vcedge_runtime.model.bundle import DEFAULT_MODEL, Bundle
from vcedge_runtime.model.composition import Composition
from vcedge_runtime.timing import STAGES as TRACKING
from vcedge_runtime.tracker import Tracker
from vcedge_runtime.video.masks import read_mask
from vcedge_runtime.video.sources import open_source

Rows = Mapping[str, Mapping[str, Any]]
LABEL_ROWS: Rows = {
    "as it is": {},
    "no flow, no value extraction": {"motion": False, "value_extraction": False},
    "windows in place": {"alignment": {"kind": "none"}},
    "windows follow objects": {"alignment": {"kind": "objects"}},
    "multi-cluster sampler (MER)": {"sampler": {"kind": "clusters"}},
    "vote (MER)": {"fusion": {"kind": "vote"}},
    "dynamic memory (DMP)": {"memory": {"kind": "dynamic"}},
    "dynamic memory, trials read the frame alone": {
        "memory": {"kind": "dynamic", "long_probe": "single"}
    },
    "dynamic memory, place from the last frame": {
        "memory": {"kind": "dynamic", "position": "last", "probe_every": 5}
    },
    "regions (DMP)": {"sampler": {"kind": "regions"}},
    "half of the column sums": {"fusion": {"kind": "joint", "column_weight": 0.5}},
    "normal and forward (DMP)": {
        "fusion": {"kind": "bidirectional", "branches": ["normal", "forward"]}
    },
    "bidirectional (DMP)": {"fusion": {"kind": "bidirectional"}},
}
OBJECT_ROWS: Rows = {
    "as it is": {},
    "local memory as it is": {"local": "raw"},
    "no local memory": {"local": "off"},
    "no prototypes (PTM)": {"prototypes": False},
    "global memory of 8": {"memory": {"kind": "local_global", "capacity": 8, "zoom": 1.4}},
    "dynamic memory (DMP)": {"memory": {"kind": "dynamic", "short": 3, "long": 2}},
    "to the frame's edges": {"edges": True},
}
"""Parts that a row exchanges, as a bundle's manifest writes them; the bundle's own otherwise."""


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, help="a clip")
    parser.add_argument("--mask", required=True, help="mask of its first frame")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--size", type=int, help="working size; the bundle's own otherwise")
    parser.add_argument("--frames", type=int, default=30, help="frames that are measured")
    parser.add_argument("--warm-up", type=int, default=8)
    parser.add_argument("--json", type=Path, default=Path("modules.json"))
    return parser.parse_args()


def measure(
    bundle: Bundle, parts: Mapping[str, Any], arguments: argparse.Namespace, folder: Path
) -> Profile:
    """Track the clip with some parts exchanged."""
    with (
        open_source(arguments.source) as video,
        Tracker.open(bundle, size=arguments.size, overrides=parts, backend="cpu") as tracker,
    ):
        mask = read_mask(arguments.mask, frame_hw=video.frame_hw)
        counts = {"count": arguments.frames, "warm_up": arguments.warm_up}
        return profile_tracker(tracker, video, mask, **counts, out=folder)


def main() -> None:
    """Run the benchmark."""
    arguments = parse_arguments()
    bundle = Bundle.open(arguments.model)
    labels = isinstance(bundle.composition, Composition)
    lines, report = [], []
    with TemporaryDirectory() as folder:
        for name, row in (LABEL_ROWS if labels else OBJECT_ROWS).items():
            found = measure(bundle, row, arguments, Path(folder))
            stages = [s for s in found.stages if s.name in TRACKING]
            medians = {s.name: s.percentile_ms(50) for s in stages}
            means = {s.name: s.total_ms / found.frames for s in stages}
            beside = [sum(ms.values()) / ms["encode"] - 1 for ms in (medians, means)]
            shown = [f"{value:.1f}" for value in medians.values()]
            lines.append((name, *shown, *(f"{share:.2f}" for share in beside)))
            report.append({"name": name, "parts": row, "ms": medians, "mean_ms": means})
            value = {"model": bundle.name, "machine": describe_machine().to_json(), "rows": report}
            # After every row, so that a run that is stopped has given something.
            write_json(arguments.json, value)
    # What is done in some frames alone shows in the means, not in the medians.
    head = ("parts", *TRACKING, "all but encode / encode", "by means")
    open_console(markdown=True).print(make_table(head, lines, left=1, markdown=True))


if __name__ == "__main__":
    try:
        main()
    except VcedgeError as exc:
        sys.exit(f"modules.py: {exc}")
