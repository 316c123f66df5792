"""Runs a training from its request: joins processes, begins or resumes, shows, delivers."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console

from vcedge.commands.progress import progress_bar
from vcedge.commands.train_options import Request, write_sizes
from vcedge.models.efficientnet_lite import LITE_VARIANTS, load_imagenet
from vcedge.models.encoder import PROFILES, Profile
from vcedge.models.prompts import PROMPT_PROFILES, PromptProfile
from vcedge.models.published import load_published
from vcedge.models.srnet import SRNET_PROFILES, SRNetProfile
from vcedge.models.weights import load_weights, save_weights
from vcedge.training.corpus import VideoCorpus
from vcedge.training.objective import Objective
from vcedge.training.processes import join_processes
from vcedge.training.run import Corpus, Progress, ScalarWriter, TrainingRun
from vcedge_runtime.errors import MissingExtraError, OutputError, TrainingError
from vcedge_runtime.files import explaining, remove_drafts
from vcedge_runtime.locking import LOCK_NAME, Lock
from vcedge_runtime.stopping import finish_first
from vcedge_runtime.telling import make_printable

if TYPE_CHECKING:
    from torch import nn

IMAGENET = "imagenet"
"""What ``--from`` calls the published weights of an encoder's trunk."""
PYTORCHS = (".pth", ".pt")
"""Of files that PyTorch saved: STCN's weights are published so."""
Method = TypeVar("Method", bound=Objective)


def load_start(request: Request) -> nn.Module | None:
    """What a run begins with; None where it begins with random weights.

    Raises:
        BundleError: no such weights.
        MissingExtraError: the package with the published weights is not installed.
        TrainingError: the profile's encoder has no published weights.
    """
    if request.start and Path(request.start).suffix in PYTORCHS:
        return load_published("stcn", Path(request.start)).network
    if request.start != IMAGENET:
        return load_weights(request.start).network if request.start else None
    profiles: Mapping[str, Profile | SRNetProfile | PromptProfile] = {
        **PROFILES,
        **SRNET_PROFILES,
        **PROMPT_PROFILES,
    }
    profile = profiles[request.run.profile]
    if profile.encoder not in LITE_VARIANTS:
        raise TrainingError(
            f"received --from {IMAGENET} for {request.run.profile}, of whose encoder no weights "
            "are published; pass a profile such as lite or srnet-lite, or weights of its own"
        )
    return load_imagenet(profile.encoder)


def train_network(
    request: Request,
    make_objective: Callable[[str], Method],
    open_corpus: Callable[[Console, Method], tuple[Corpus, dict[str, Any]]],
) -> None:
    """Train a network and write its weights to ``OUT/weights.safetensors``.

    Args:
        request: of the command line.
        make_objective: from a profile to the method.
        open_corpus: what the clips are drawn from, and what the weights' file says of it.
    """
    import torch

    with ExitStack() as stack:
        processes, device = stack.enter_context(join_processes(_usable_device(request.device)))
        console = Console(quiet=not processes.first)
        _make_folders(request.out, request.cache)
        if processes.first:
            with explaining(request.out):
                lock = Lock(request.out / LOCK_NAME, request.out)
            stack.enter_context(lock)
            with explaining(request.out):
                remove_drafts(request.out)
        start = load_start(request)
        torch.manual_seed(request.run.seed)
        objective = make_objective(request.run.profile)
        corpus, facts = open_corpus(console, objective)
        settings = request.run
        if request.epochs is not None and isinstance(corpus, VideoCorpus):
            steps = corpus.count_steps(request.epochs, settings.batch)
            settings = replace(settings, steps=steps)
        run = TrainingRun(settings, objective, corpus, request.out, device, processes)
        _begin_or_resume(run, request.resume, start)
        scalars = _open_tensorboard(run, request, stack) if request.tensorboard else None
        try:
            _train(console, run, scalars)
        except KeyboardInterrupt:
            with finish_first():
                run.save()
            console.print(f"stopped at step {run.step}; go on with --resume")
            raise
        if processes.first:
            _deliver(console, run, request, facts)


def _deliver(console: Console, run: TrainingRun, request: Request, corpus: dict[str, Any]) -> None:
    facts = {
        "model": run.objective.name,
        "steps": run.step,
        "batch": request.run.batch,
        "sizes": write_sizes(request.run.sizes),
        "seed": request.run.seed,
        "hours": round(run.seconds / 3600, 2),
        **corpus,
        # Where a file lay is the user's own business.
        "from": request.start and make_printable(Path(request.start).name),
    }
    path = request.out / "weights.safetensors"
    save_weights(run.delivered, path, facts, run.objective.composition)
    console.out(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)", highlight=False)
    console.out(f"next: vcedge export {shlex.quote(str(path))}", highlight=False)


def _open_tensorboard(run: TrainingRun, request: Request, stack: ExitStack) -> ScalarWriter | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as exc:
        raise MissingExtraError(
            "TensorBoard is not installed; run: pip install tensorboard, or leave --tensorboard out"
        ) from exc
    if not run.processes.first:
        return None
    folder = request.out / "tensorboard"
    with explaining(folder):
        # What a killed run wrote after its checkpoint is written again.
        writer = SummaryWriter(folder, purge_step=run.step + 1)
    return stack.enter_context(_closing_tensorboard(writer, folder))


@contextmanager
def _closing_tensorboard(
    writer: AbstractContextManager[ScalarWriter], folder: Path
) -> Iterator[ScalarWriter]:
    with ExitStack() as stack:
        opened = stack.enter_context(writer)
        try:
            yield opened
        finally:
            with explaining(folder):
                stack.close()


def _usable_device(device: str) -> str:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as exc:
        reason = str(exc).splitlines()[0]
        raise TrainingError(
            f"received --device {device}, which PyTorch cannot use here ({reason}); pass cpu or "
            "leave it out"
        ) from exc
    return device


def _make_folders(*folders: Path) -> None:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise OutputError(
                f"received {folder}, which cannot be made ({exc.strerror}); expected a folder of "
                "your own; choose another --out or --cache"
            ) from exc


def _begin_or_resume(run: TrainingRun, resume: bool, start: nn.Module | None) -> None:
    if resume and not run.checkpoint_path.exists():
        raise TrainingError(
            f"received --resume, but {run.checkpoint_path} does not exist; leave --resume out to "
            "begin a run, or pass the --out of the one to go on with"
        )
    if resume:
        run.resume()
    elif run.checkpoint_path.exists():
        raise TrainingError(
            f"{run.checkpoint_path} exists; pass --resume to go on with it or choose another --out"
        )
    elif start is not None:
        run.start_from(start)


def _train(console: Console, run: TrainingRun, scalars: ScalarWriter | None) -> None:
    with progress_bar(console, "images/s") as progress:
        task = progress.add_task("train", total=run.settings.steps, completed=run.step, speed=0.0)

        def report(state: Progress) -> None:
            progress.update(
                task,
                completed=state.step,
                speed=state.images_per_second,
                description=f"loss {state.loss:.4f}",
            )

        run.train(report, scalars=scalars)
