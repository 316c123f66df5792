"""A training run: steps, checkpoints, resumption, processes, whatever the method."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from vcedge.models.weights import Network
from vcedge.training.corpus import ClipSettings
from vcedge.training.objective import Objective
from vcedge.training.processes import Processes
from vcedge.training.settings import RunSettings
from vcedge_runtime.errors import TrainingError
from vcedge_runtime.files import append_line, explaining, make_folder, write_whole
from vcedge_runtime.stopping import finish_first


@dataclass(frozen=True)
class Progress:
    """What a run reports after a step.

    Attributes:
        step: steps done.
        loss: mean since the last report, over all processes.
        images_per_second: of all processes together.
        parts: the loss's parts by name, of the last step.
    """

    step: int
    loss: float
    images_per_second: float
    parts: dict[str, float]


class Corpus(Protocol):
    """What clips are drawn from."""

    def draw(self, settings: RunSettings) -> Dataset[Any]:
        """All clips of a run: a function of the seed and the clip's number alone.

        A clip is a named tuple of tensors, the first of which begins with its frames.
        """


class ScalarWriter(Protocol):
    """What a run needs of TensorBoard's SummaryWriter."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Write one number."""


def default_device() -> str:
    """``cuda`` where there is a GPU, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def flushing_denormals() -> Iterator[None]:
    """Take denormal numbers for zero, as long as it lasts.

    Small affinities make them, and a CPU computes them ten times more slowly.
    """
    # PyTorch does not tell whether it does so already.
    former = not torch.tensor(1e-40).mul(2).item()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(former)


class TrainingRun:
    """A run that can be stopped at any step and taken up again with the same curve.

    Files in ``out``: ``checkpoint.pt`` (everything to resume), ``log.jsonl`` (a line per report);
    of several processes, the first one writes them.

    Args:
        settings: of the run.
        objective: the method, with its network.
        corpus: what clips are drawn from.
        out: the run's folder.
        device: such as ``cpu`` or ``cuda:0``.
        processes: how many run it together, and which one this is.
    """

    def __init__(
        self,
        settings: RunSettings,
        objective: Objective,
        corpus: Corpus,
        out: Path,
        device: str,
        processes: Processes | None = None,
    ) -> None:
        self.processes = processes or Processes()
        if settings.batch % self.processes.count:
            raise TrainingError(
                f"received a batch of {settings.batch} for {self.processes.count} processes; "
                "expected a multiple"
            )
        self.settings = settings
        self.device = torch.device(device)
        # The stub lacks memory_format.
        self.objective = objective.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(
            objective.network,
            multi_avg_fn=get_ema_multi_avg_fn(settings.average),
            use_buffers=True,
        )
        self._shares = [share for _, share in objective.groups]
        self.optimiser = torch.optim.Adam(
            [{"params": params} for params, _ in objective.groups], lr=settings.learning_rate
        )
        self.step = 0
        self.seconds = 0.0
        self._corpus = corpus
        self._out = out
        self._module: nn.Module = objective
        if self.processes.count > 1:
            self._module = DistributedDataParallel(objective, broadcast_buffers=False)

    @property
    def checkpoint_path(self) -> Path:
        """Where the run's state is kept."""
        return self._out / "checkpoint.pt"

    @property
    def delivered(self) -> Network:
        """The moving average of the weights: what the run delivers."""
        network = self.average.module
        assert isinstance(network, Network)
        return network

    def start_from(self, network: nn.Module) -> None:
        """Begin with weights that were trained before: all those that fit."""
        self.objective.begin(network, self._corpus.draw(self.settings))
        self.processes.share(self.objective.network)
        self.delivered.load_state_dict(self.objective.network.state_dict())

    def save(self) -> None:
        """Write the checkpoint; a kill in the middle leaves the former one.

        Raises:
            OutputError: it cannot be written; the former one stands.
        """
        if not self.processes.first:
            return
        make_folder(self._out)
        # PyTorch tells a full disk in its own way, so that it does not write to one itself.
        held = BytesIO()
        torch.save({"settings": self._identity(), **self._state()}, held)
        write_whole(self.checkpoint_path, held.getbuffer(), synced=True)

    def resume(self) -> None:
        """Take up the run where its checkpoint stands.

        Raises:
            TrainingError: the checkpoint cannot be read, or is of other settings or weights.
        """
        state = self._read_checkpoint()
        ours = self._identity()
        # A setting that checkpoints did not name yet was at its default, or as the method says.
        own = {**asdict(type(self.objective.settings)()), **self.objective.former}
        former = {**asdict(RunSettings()), **own}
        theirs = {"zoom": ClipSettings().zoom, "whole": False, **former, **state["settings"]}
        differing = sorted(k for k in ours if k != "workers" and theirs.get(k) != ours[k])
        if differing:
            raise TrainingError(
                f"{self.checkpoint_path} was trained with other settings ({', '.join(differing)}); "
                "resume with the same ones or choose another --out"
            )
        try:
            self.objective.load_state_dict(state["objective"])
            self.average.load_state_dict(state["average"])
        except RuntimeError as exc:
            raise TrainingError(
                f"{self.checkpoint_path} is of another network, such as one that a former vcedge "
                "trained; resume it with the one that began it, or choose another --out"
            ) from exc
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        self.seconds = state["seconds"]

    @flushing_denormals()
    def train(
        self,
        on_progress: Callable[[Progress], None],
        report_every: int = 20,
        save_every_s: float = 180.0,
        stop_at: int | None = None,
        scalars: ScalarWriter | None = None,
    ) -> None:
        """Run to the last step (or ``stop_at``), reporting and saving on the way.

        What stops a run waits for the end of a step, so that the state can be saved and taken up
        again.

        Args:
            on_progress: told every report.
            report_every: steps between reports.
            save_every_s: seconds between checkpoints, which are written with a report: what a
                killed run reported is then what it is taken up after.
            stop_at: last step of this call.
            scalars: gets the loss and its parts, such as TensorBoard's SummaryWriter.
        """
        make_folder(self._out)
        if self.processes.first:
            self._forget_later_reports()
        self.objective.train()
        last = min(self.settings.steps, self.settings.steps if stop_at is None else stop_at)
        started = saved = time.monotonic()
        before, losses, images = self.seconds, [], 0
        for clips in self._clips(last):
            with finish_first():
                losses.append(self._optimise(clips))
                images += clips[0].shape[0] * clips[0].shape[1] * self.processes.count
                self.step += 1
                now = time.monotonic()
                self.seconds = before + now - started
                if self.step % report_every and self.step != last:
                    continue
                loss, speed = sum(losses) / len(losses), images / (now - started)
                self._report(loss, speed, on_progress, scalars)
                losses = []
                if now - saved > save_every_s:
                    self.save()
                    saved = now
        self.save()

    def _identity(self) -> dict[str, Any]:
        run = {**asdict(self.settings), "processes": self.processes.count}
        return {**run, **self.objective.identity}

    def _state(self) -> dict[str, Any]:
        return {
            "objective": self.objective.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }

    def _read_checkpoint(self) -> dict[str, Any]:
        path = self.checkpoint_path
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except (OSError, EOFError, RuntimeError, UnpicklingError) as exc:
            raise TrainingError(
                f"{path} cannot be read ({type(exc).__name__}); remove it and start without "
                "--resume"
            ) from exc
        if not isinstance(state, dict) or not {"settings", *self._state()} <= state.keys():
            raise TrainingError(
                f"{path} is no checkpoint of vcedge; remove it and start without --resume"
            )
        return state

    def _forget_later_reports(self) -> None:
        """Take out of the log what was reported after this step: it is reported again.

        So of a run that was killed before its first checkpoint, too, whose place this one takes.
        """
        path = self._out / "log.jsonl"
        if not path.exists():
            return
        text = path.read_text(encoding="utf-8", errors="replace")
        kept = "".join(line for line in text.splitlines(True) if self._stands(line))
        if kept != text:
            write_whole(path, kept.encode())

    def _stands(self, line: str) -> bool:
        try:
            return int(json.loads(line)["step"]) <= self.step
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            return False  # cut off by a kill, or written by somebody else

    def _clips(self, last: int) -> Iterator[tuple[Tensor, ...]]:
        settings, processes = self.settings, self.processes
        batches = [
            list(
                range(
                    s * settings.batch + processes.rank, (s + 1) * settings.batch, processes.count
                )
            )
            for s in range(self.step, last)
        ]
        loaded = iter(
            DataLoader(
                self._corpus.draw(settings),
                batch_sampler=batches,
                num_workers=settings.workers,
                prefetch_factor=4 if settings.workers else None,
            )
        )
        while True:
            # A loader that is left in the middle of handing over prints a traceback.
            with finish_first():
                clips: tuple[Tensor, ...] | None = next(loaded, None)
            if clips is None:
                return
            yield clips

    def _optimise(self, clips: tuple[Tensor, ...]) -> float:
        rate = self.settings.learning_rate * self.settings.learning_rate_share(self.step)
        for group, part in zip(self.optimiser.param_groups, self._shares, strict=True):
            group["lr"] = part * rate
        # What a step draws depends on its number alone, so that a resumed run draws the same.
        torch.manual_seed(self.settings.seed * 1_000_003 + self.step)
        share = self.step / self.settings.steps
        loss: Tensor = self._module(
            type(clips)(*(part.to(self.device) for part in clips)), share, self.delivered
        )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.objective.parameters(), 1.0)
        self.optimiser.step()
        self.processes.average_buffers(self.objective.network)
        self.average.update_parameters(self.objective.network)
        return float(loss.detach())

    def _report(
        self,
        loss: float,
        speed: float,
        on_progress: Callable[[Progress], None],
        scalars: ScalarWriter | None,
    ) -> None:
        loss = self.processes.mean(loss)
        if not self.processes.first:
            return
        parts = {name: float(value) for name, value in self.objective.parts.items()}
        progress = Progress(self.step, loss, speed, parts)
        line = {**asdict(progress), "seconds": round(self.seconds, 1)}
        append_line(self._out / "log.jsonl", json.dumps(line))
        if scalars is not None:
            self._write_scalars(scalars, {"loss": loss, "images_per_second": speed, **parts})
        on_progress(progress)

    def _write_scalars(self, scalars: ScalarWriter, found: dict[str, float]) -> None:
        with explaining(self._out / "tensorboard"):
            for tag, value in found.items():
                scalars.add_scalar(tag, value, self.step)
