"""Several processes that train together, as ``torchrun`` starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from vcedge_runtime.errors import TrainingError


@dataclass(frozen=True)
class Processes:
    """How many processes run a training, and which one this is.

    Attributes:
        rank: from 0.
        count: all of them.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes files and speaks to the user."""
        return self.rank == 0

    def mean(self, value: float) -> float:
        """Average a number over all processes; each must call it."""
        if self.count == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64)
        if distributed.get_backend() == "nccl":
            total = total.float().cuda()
        distributed.all_reduce(total)
        return float(total) / self.count

    def share(self, module: nn.Module) -> None:
        """Give all processes the first one's weights and buffers; each must call it."""
        if self.count > 1:
            for tensor in module.state_dict().values():
                distributed.broadcast(tensor, 0)

    def average_buffers(self, module: nn.Module) -> None:
        """Give all processes the mean of a module's floating point buffers; each must call it.

        The statistics of batch normalisation are then those of all clips, and one process's
        checkpoint holds for all.
        """
        if self.count == 1:
            return
        buffers = [b for b in module.buffers() if b.is_floating_point()]
        flat = torch.cat([b.flatten() for b in buffers])
        distributed.all_reduce(flat)
        parts = (flat / self.count).split([b.numel() for b in buffers])
        for buffer, part in zip(buffers, parts, strict=True):
            buffer.copy_(part.reshape(buffer.shape))


def gather_rows(rows: Tensor) -> Tensor:
    """Put the rows of all processes one after the other; each must call it.

    Args:
        rows: (B, ...), of one shape in every process.

    Returns:
        (processes * B, ...) in the order of ranks; ``rows`` where there is one process.
    """
    if not distributed.is_available() or not distributed.is_initialized():
        return rows
    parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


@contextmanager
def join_processes(device: str) -> Iterator[tuple[Processes, str]]:
    """Join the processes that ``torchrun`` started; a single one without it.

    Args:
        device: ``cpu``, or ``cuda`` for one GPU a process.

    Yields:
        The processes and this one's device.

    Raises:
        TrainingError: ``torchrun``'s variables are there but cannot be read.
    """
    try:
        count, rank = (
            int(os.environ.get(name, value)) for name, value in (("WORLD_SIZE", 1), ("RANK", 0))
        )
        local = int(os.environ.get("LOCAL_RANK", rank))
    except ValueError as exc:
        raise TrainingError(
            "received WORLD_SIZE, RANK or LOCAL_RANK that is no number; start with torchrun"
        ) from exc
    if count == 1:
        yield Processes(), device
        return
    own = f"cuda:{local}" if device == "cuda" else device
    try:
        distributed.init_process_group("nccl" if own.startswith("cuda") else "gloo")
    except (ValueError, RuntimeError) as exc:
        raise TrainingError(
            f"received WORLD_SIZE {count}, but the processes cannot find each other "
            f"({str(exc).splitlines()[0]}); start with torchrun"
        ) from exc
    if own.startswith("cuda"):
        torch.cuda.set_device(own)
    try:
        yield Processes(rank, count), own
    finally:
        distributed.destroy_process_group()
