"""J&F of a run of SRNet while it trains: the mean weights of its checkpoint, in PyTorch."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from vcedge.evaluation.davis import SequenceScore, list_sequences
from vcedge.evaluation.davis_run import track_and_score
from vcedge.models.srnet import SRNET_PROFILES, SRNet
from vcedge.models.weights import Weights, save_weights
from vcedge_export.plan import ExportOptions
from vcedge_export.planning import open_modules, plan_export
from vcedge_runtime.errors import TrainingError, VcedgeError
from vcedge_runtime.model.bundle import Bundle
from vcedge_runtime.tracker import Tracker

MEAN = "module."
"""What the names of the mean weights begin with."""


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint.pt of a run")
    parser.add_argument("--root", type=Path, help="JPEGImages and Annotations")
    parser.add_argument("--sequences", help="names, separated by commas; all otherwise")
    parser.add_argument("--size", type=int, default=256, help="working size")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--weights", type=Path, help="write the mean weights here, to be exported")
    parser.add_argument("--curve", type=Path, help="file to which the score is added, a JSON line")
    return parser.parse_args()


def read_network(path: Path) -> tuple[SRNet, dict[str, Any]]:
    """The mean weights of a checkpoint, and what is known of its run.

    Raises:
        TrainingError: it is no checkpoint of SRNet.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        run = state["settings"]
        network = SRNet(
            SRNET_PROFILES[run["profile"]], local=run["local"], prototypes=run["prototypes"]
        )
        network.load_state_dict(
            {
                name.removeprefix(MEAN): value
                for name, value in state["average"].items()
                if name.startswith(MEAN)
            }
        )
    except (OSError, KeyError, RuntimeError) as exc:
        raise TrainingError(
            f"received {path}, which is no checkpoint of SRNet ({exc}); expected checkpoint.pt of "
            "`vcedge train srnet`"
        ) from exc
    facts = {"model": "srnet", "steps": state["step"], "hours": round(state["seconds"] / 3600, 2)}
    return network.eval(), facts


def open_tracker(network: SRNet, size: int) -> Tracker:
    """A tracker on the network itself, as it would be exported."""
    model = plan_export(Weights(network, {}), ExportOptions())
    bundle = Bundle(Path(), model.profile, model.profile, model.composition, {})
    return Tracker(bundle, open_modules(model), size=size)


def measure(network: SRNet, arguments: argparse.Namespace) -> dict[str, Any]:
    """J&F of each sequence and of all."""

    def tell(score: SequenceScore) -> None:
        print(f"{score.name}: {score.j_and_f:.3f}", file=sys.stderr, flush=True)

    names = list_sequences(arguments.root)
    if arguments.sequences:
        names = arguments.sequences.split(",")
    tracker = open_tracker(network, arguments.size)
    found = track_and_score(arguments.root, names, tracker, tell).score
    return {
        "size": arguments.size,
        "j_and_f": round(found.j_and_f, 4),
        "sequences": {score.name: round(score.j_and_f, 4) for score in found.sequences},
    }


def main() -> int:
    """Measure and write; returns the exit status."""
    arguments = parse_arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        network, facts = read_network(arguments.checkpoint)
        if arguments.weights:
            save_weights(network, arguments.weights, facts)
        if arguments.root:
            line = json.dumps({**facts, **measure(network, arguments)})
            print(line)
            if arguments.curve:
                with arguments.curve.open("a") as file:
                    file.write(line + "\n")
    except VcedgeError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
