"""Train the base encoder by colourisation: a frame's hidden colour is copied from neighbours."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from vcedge.models.affinity import window_bias
from vcedge.models.encoder import PROFILES, KeyEncoder
from vcedge.training.corpus import CachedVideo, ClipDataset, ClipSettings
from vcedge.training.losses import clip_keys, colourisation_loss
from vcedge_runtime.errors import TrainingError

AVERAGE_DECAY = 0.995
"""Of the moving average of the weights, which is what a run delivers (our choice)."""


@dataclass(frozen=True)
class BaseSettings:
    """One training run of ``vcedge train base``.

    Attributes:
        profile: ``edge`` or ``paper``.
        steps: optimiser steps.
        batch: clips a step.
        sizes: crop sizes in pixels, one after the other, as (share of the run at its end, size).
        radius: window radius of the reconstruction, in key cells.
        learning_rate: Adam's, falling linearly to 2 % after a warm-up of 2 % of the steps.
        seed: of weights and clips.
        workers: loader processes.
    """

    profile: str = "edge"
    steps: int = 8000
    batch: int = 16
    sizes: tuple[tuple[float, int], ...] = ((0.5, 128), (1.0, 192))
    radius: int = 8
    learning_rate: float = 1e-3
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise TrainingError(
                f"profile {self.profile!r} is unknown; choose from {sorted(PROFILES)}"
            )
        if self.steps < 1 or self.batch < 1:
            raise TrainingError(
                f"steps and batch must be at least 1, received {self.steps}, {self.batch}"
            )
        shares = [share for share, _ in self.sizes]
        if not shares or shares[-1] != 1.0 or any(a >= b for a, b in pairwise(shares)):
            raise TrainingError(
                f"sizes must have rising shares that end at 1.0, received {self.sizes}"
            )
        stride = PROFILES[self.profile].stride
        if any(size < stride or size % stride for _, size in self.sizes):
            raise TrainingError(f"crop sizes must be multiples of {stride}, received {self.sizes}")

    def size_at(self, step: int) -> int:
        """Crop size of a step."""
        return next(size for share, size in self.sizes if step < share * self.steps)

    def learning_rate_share(self, step: int) -> float:
        """Factor on the learning rate at a step."""
        warm_up = max(1, self.steps // 50)
        return min(1.0, (step + 1) / warm_up) * (1 - 0.98 * step / self.steps)


@dataclass(frozen=True)
class Progress:
    """What a run reports after a step."""

    step: int
    loss: float
    images_per_second: float


def default_device() -> str:
    """``cuda`` where there is a GPU, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


class BaseRun:
    """A run that can be stopped at any step and taken up again with the same curve.

    Files in ``out``: ``checkpoint.pt`` (everything to resume), ``log.jsonl`` (a line per report).
    """

    def __init__(
        self, settings: BaseSettings, videos: Sequence[CachedVideo], out: Path, device: str
    ) -> None:
        if not videos:
            raise TrainingError("no video with at least two frames to train on")
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.profile = PROFILES[settings.profile]
        self.device = torch.device(device)
        self.encoder = KeyEncoder(self.profile).to(self.device)
        # The stub lacks memory_format.
        self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(
            self.encoder, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY), use_buffers=True
        )
        self.optimiser = torch.optim.Adam(self.encoder.parameters(), lr=settings.learning_rate)
        self.step = 0
        self.seconds = 0.0
        self._videos = videos
        self._out = out
        self._biases: dict[int, Tensor] = {}

    @property
    def checkpoint_path(self) -> Path:
        """Where the run's state is kept."""
        return self._out / "checkpoint.pt"

    def save(self) -> None:
        """Write the checkpoint; a kill in the middle leaves the former one."""
        self._out.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoint_path.with_suffix(".partial")
        state = {
            "settings": asdict(self.settings),
            "encoder": self.encoder.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, partial)
        partial.replace(self.checkpoint_path)

    def resume(self) -> None:
        """Take up the run where its checkpoint stands.

        Raises:
            TrainingError: the checkpoint cannot be read, or belongs to a run with other settings.
        """
        state = self._read_checkpoint()
        ours = asdict(self.settings)
        differing = sorted(
            k for k in ours if k != "workers" and state["settings"].get(k) != ours[k]
        )
        if differing:
            raise TrainingError(
                f"{self.checkpoint_path} was trained with other settings ({', '.join(differing)}); "
                "resume with the same ones or choose another --out"
            )
        self.encoder.load_state_dict(state["encoder"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        self.seconds = state["seconds"]

    def _read_checkpoint(self) -> dict[str, Any]:
        path = self.checkpoint_path
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except (OSError, EOFError, RuntimeError, UnpicklingError) as exc:
            raise TrainingError(
                f"{path} cannot be read ({type(exc).__name__}); start without --resume"
            ) from exc
        return dict(state)

    def averaged_encoder(self) -> KeyEncoder:
        """The moving average of the weights: what the run delivers."""
        encoder = self.average.module
        assert isinstance(encoder, KeyEncoder)
        return encoder

    def train(
        self,
        on_progress: Callable[[Progress], None],
        report_every: int = 20,
        save_every_s: float = 180.0,
        stop_at: int | None = None,
    ) -> None:
        """Run to the last step (or ``stop_at``), reporting and saving on the way."""
        # Small affinities make denormal numbers, which a CPU computes ten times more slowly.
        torch.set_flush_denormal(True)
        self.encoder.train()
        last = min(self.settings.steps, stop_at or self.settings.steps)
        started = saved = time.monotonic()
        before, losses, images = self.seconds, [], 0
        for clip in self._clips(last):
            losses.append(self._optimise(clip))
            images += clip.shape[0] * clip.shape[1]
            self.step += 1
            now = time.monotonic()
            self.seconds = before + now - started
            if self.step % report_every == 0 or self.step == last:
                progress = Progress(self.step, sum(losses) / len(losses), images / (now - started))
                self._log(progress)
                on_progress(progress)
                losses = []
            if now - saved > save_every_s:
                self.save()
                saved = now
        self.save()

    def _clips(self, last: int) -> Iterator[Tensor]:
        settings = self.settings
        dataset = ClipDataset(
            self._videos,
            length=settings.steps * settings.batch,
            size_at=lambda index: settings.size_at(index // settings.batch),
            settings=ClipSettings(),
            seed=settings.seed,
        )
        steps = range(self.step, last)
        batches = [list(range(s * settings.batch, (s + 1) * settings.batch)) for s in steps]
        yield from DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=settings.workers,
            prefetch_factor=4 if settings.workers else None,
        )

    def _optimise(self, clip: Tensor) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * self.settings.learning_rate_share(self.step)
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.step)
        channel = int(torch.randint(1, 3, (), generator=generator))
        clip = clip.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            keys = clip_keys(self.encoder, clip, channel)
            loss = colourisation_loss(
                keys, clip[:, :, channel], self._bias(clip.shape[-1]), self.profile.stride
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self.optimiser.step()
        self.average.update_parameters(self.encoder)
        return float(loss.detach())

    def _bias(self, size: int) -> Tensor:
        if size not in self._biases:
            cells = size // self.profile.stride
            self._biases[size] = window_bias(cells, cells, self.settings.radius).to(self.device)
        return self._biases[size]

    def _log(self, progress: Progress) -> None:
        self._out.mkdir(parents=True, exist_ok=True)
        with (self._out / "log.jsonl").open("a") as log:
            log.write(json.dumps({**asdict(progress), "seconds": round(self.seconds, 1)}) + "\n")
