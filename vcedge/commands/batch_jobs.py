"""From an entry of a manifest to a job: a video, what it begins with, options of ``track``."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import click
import numpy as np

from vcedge.commands import track
from vcedge.commands.batch_prompts import PROMPTS, Prompt, Refuse, join_path, read_prompt
from vcedge.commands.options import OVERRIDES, require_one_size
from vcedge.commands.track_files import name_output
from vcedge.fleet.manifest import VIDEO, Entry, read_entries, refuse
from vcedge_runtime.errors import ManifestError
from vcedge_runtime.model.bundle import DEFAULT_LABEL_MODEL, DEFAULT_MODEL, MANIFEST
from vcedge_runtime.settings import show
from vcedge_runtime.video.sources import STANDARD_INPUT, find_live

RESULTS, MODEL, ALL_PROMPTS = "results", "model", "prompts"
SIZES = ("size", "fast", "accurate")
PLACES = ("coco", "yolo", "label_studio", "cvat")
"""Options that name a file or folder, here one in the folder of each video."""
TAKEN = (
    *(*SIZES, *OVERRIDES, "backend", "cuda_graphs"),
    *("binarize", "resize_mask", "depth_range", "frames", "masks", "overlay", "log"),
    *(*PLACES, "names", "polygons", "tolerance"),
)
"""Parameters of ``track`` that ``batch`` has too, and that a manifest may name."""
_YES, _NO = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


@dataclass(frozen=True)
class Job:
    """One video to be tracked.

    Attributes:
        line: where the manifest has it.
        video: as it is named there.
        source: the path of it.
        results: name of the folder of its results.
        model: a shipped model's name or the folder of a bundle.
        prompt: what it begins with: options of ``track``, each with its value.
        prompts: file that says more of that; empty for none.
        options: further words of a command line of ``track``.
    """

    line: int
    video: str
    source: str
    results: str
    model: str
    prompt: Prompt = ()
    prompts: str = ""
    options: tuple[str, ...] = ()


Options = dict[str, tuple[str, ...]]
"""Words of a command line, by the name of their parameter."""


@dataclass
class JobList:
    """The jobs of a manifest or a folder, which is read as a stream, and twice.

    Args:
        place: the manifest or the folder.
        options: what was typed for all videos.
        model: likewise; None for the default of what is followed.

    Attributes:
        videos: how many there are; known once ``survey`` has read them, as is the rest.
        models: each that is used.
    """

    place: Path
    options: Options = field(default_factory=dict)
    model: str | None = None
    videos: int = 0
    models: tuple[str, ...] = ()
    _repeated: frozenset[int] = frozenset()

    def survey(self) -> None:
        """Read all of it, and refuse it where a line of it is wrong.

        Raises:
            ManifestError: it is; the message names the line.
        """
        models, names = dict[str, None](), array("Q")
        for entry in read_entries(self.place):
            job = self._make(entry)
            models[job.model] = None
            names.append(_hash_name(job.results))
        found, counts = np.unique(np.asarray(names, np.uint64), return_counts=True)
        self._repeated = frozenset(found[counts > 1].tolist())
        self.videos, self.models = len(names), tuple(models)
        if not self.videos:
            raise ManifestError(f"received {self.place} without a video; expected one at least")

    def __iter__(self) -> Iterator[Job]:
        """Yield the jobs; of those whose results would have one name, the second has ``~2``."""
        seen = Counter[int]()
        for entry in read_entries(self.place):
            job = self._make(entry)
            key = _hash_name(job.results)
            if key in self._repeated:
                seen[key] += 1
            again = f"~{seen[key]}" if seen[key] > 1 else ""
            yield replace(job, results=job.results + again)

    def _make(self, entry: Entry) -> Job:
        place, line, values = self.place, entry.line, dict(entry.values)
        folder = place if place.is_dir() else place.parent
        if entry.video == STANDARD_INPUT or find_live(entry.video):
            refuse(place, line, f"the live source {show(entry.video)}", "a file, folder or glob")
        name = values.pop(RESULTS, None) or name_output(entry.video)
        if not _names_folder(name):
            refuse(place, line, f"{show(name)} as results", "the name of a folder, which is made")
        model, prompts = values.pop(MODEL, self.model), values.pop(ALL_PROMPTS, "")
        tell = partial(refuse, place, line)
        given = {key: values.pop(key) for key in PROMPTS if key in values}
        if isinstance(prompts, Mapping):
            given, prompts = {**given, **prompts}, ""
        prompt = read_prompt(given, folder, tell)
        # A folder's video without a mask is that video's fault, a manifest's line is not right.
        if not (prompt or prompts or place.is_dir()):
            tell("no mask, box, click, points or prompts", "one of them")
        return Job(
            line,
            entry.video,
            join_path(folder, entry.video),
            name,
            _find_model(model, prompt, folder, tell),
            prompt,
            join_path(folder, str(prompts)) if prompts else "",
            _merge(self.options, read_options(values, tell), tell),
        )


def read_options(values: Mapping[str, Any], tell: Refuse) -> Options:
    """Read options of ``track`` that a line of a manifest names, with dashes or without."""
    known, found = _options(), Options()
    for key, value in values.items():
        spelled = "--" + key.removeprefix("--").replace("_", "-")
        param = known.get(spelled)
        if param is None:
            columns = ", ".join((VIDEO, RESULTS, MODEL, *PROMPTS, ALL_PROMPTS))
            tell(f"{show(key)} as a column", f"{columns}, or an option of track, such as frames")
            continue
        found[str(param.name)] = _word_option(param, spelled, value, tell)
    return found


def check_places(options: Options) -> None:
    """Refuse what would lie outside the folder of a video.

    Raises:
        UsageError: a place is no name.
    """
    for name in PLACES:
        place = options.get(name, ("",))[-1].partition("=")[2]
        if place and Path(place).name != place:
            raise click.UsageError(
                f"received {place} for {options[name][-1].partition('=')[0]}; expected a name, "
                "which each video has in its folder"
            )


def _word_option(param: click.Option, spelled: str, value: Any, tell: Refuse) -> tuple[str, ...]:
    if not param.is_flag:
        if isinstance(value, Mapping) and param.multiple:
            value = [f"{key}={text}" for key, text in value.items()]
        each = value if isinstance(value, list) and param.multiple else [value]
        texts = [",".join(map(str, v)) if isinstance(v, list) else str(v) for v in each]
        return tuple(f"{spelled}={text}" for text in texts)
    said = str(value).lower()
    if said not in (*_YES, *_NO):
        tell(f"{show(value)} for {spelled}", "true or false")
    if said in _YES:
        return (spelled,)
    both = {**dict(zip(param.opts, param.secondary_opts, strict=False))}
    return (both[spelled],) if spelled in both else ()


def _names_folder(name: Any) -> bool:
    """Whether results may be called so; ``~`` tells those apart that would have one name."""
    named = isinstance(name, str) and name != "" and not {"/", os.sep, "~"} & {*name}
    return named and name[0] != "."


def _merge(every: Options, own: Options, tell: Refuse) -> tuple[str, ...]:
    """Options of all videos and of one, which come before those; what cannot be is refused."""
    if any(name in own for name in SIZES):
        every = {name: words for name, words in every.items() if name not in SIZES}
    merged = {**every, **own}
    words = tuple(word for option in merged.values() for word in option)
    if own:
        try:
            _try_options(words)
            check_places(merged)
        except click.UsageError as exc:
            tell(f"options that cannot be ({exc.format_message()})", "those of vcedge track")
    return words


@lru_cache(1024)
def _try_options(words: Sequence[str]) -> None:
    given = track.command.make_context("track", ["-", "--mask=-", *words]).params
    require_one_size(given["size"], fast=given["fast"], accurate=given["accurate"])


@cache
def _options() -> dict[str, click.Option]:
    """Options of ``track`` that a manifest may name, by how they are spelled."""
    taken = [p for p in track.command.params if p.name in TAKEN and isinstance(p, click.Option)]
    return {spelled: p for p in taken for spelled in (*p.opts, *p.secondary_opts)}


def _find_model(model: Any, prompt: Sequence[Any], folder: Path, tell: Refuse) -> str:
    """A model's name, or the folder that is meant: beside the manifest, or where the user is."""
    if model is None:
        return DEFAULT_LABEL_MODEL if any(key == "points" for key, _ in prompt) else DEFAULT_MODEL
    if not isinstance(model, str):
        tell(f"{show(model)} as model", "a name or a folder")
    places = (folder / model, Path(model))
    found = [place for place in places if (place / MANIFEST).is_file()]
    return os.fspath(found[0].absolute()) if found else model


def _hash_name(name: str) -> int:
    """What names of folders are told apart by; some disks know no capitals."""
    known = name.casefold().encode(errors="surrogatepass")
    return int.from_bytes(blake2b(known, digest_size=8).digest(), "little")
