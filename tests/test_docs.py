"""The pages: what they link to is there, and what they name is what the code has."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest

import vcedge
from vcedge.cli import app
from vcedge_runtime import errors

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted(
        path
        for folder in ("docs", "benchmarks", "vcedge/weights")
        for path in ROOT.glob(f"{folder}/*.md")
    ),
]
OUR_COMMANDS = [page for page in PAGES if page.parent.name != "benchmarks"]
"""Pages that name no options of scripts."""
PACKAGES = ("vcedge", "export", "runtime", "calibration")
RUNTIME = ROOT / "runtime" / "vcedge_runtime"
SHARED = {
    f"{name}.py"
    for name in (
        *("errors", "telling", "closing", "timing", "buffers"),
        *("files", "reading", "locking", "stopping", "installing"),
    )
}
"""What any room of the runtime may import; the architecture says so once."""
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
FACES = ("tracker", "followed", "session", "model.bundle", "video.sinks", "video.masks")
"""Modules of the runtime of which a program may use every public class."""


def _name_page(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _prose(page: Path) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in headings}


def _sections(page: Path) -> dict[str, str]:
    """Text below each heading of the second order, by the heading without its backticks."""
    _, *parts = re.split(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name.strip("`"): text for name, text in zip(parts[::2], parts[1::2], strict=True)}


def _find(dotted: str) -> object:
    module, _, name = dotted.rpartition(".")
    return getattr(import_module(module), name)


PYTHON = _sections(ROOT / "docs" / "python.md")
NAMES = [name for name in PYTHON if name.startswith("vcedge_runtime.")]
TROUBLES = _sections(ROOT / "docs" / "troubleshooting.md")
ERRORS = [name for name, kind in vars(errors).items() if inspect.isclass(kind)]


@pytest.mark.parametrize("page", PAGES, ids=_name_page)
def test_links_lead_to_files_and_anchors_that_are_there(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", _prose(page))
    missing = []
    for target in (t for t in targets if not re.match(r"[a-z]+:", t)):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in _anchors(path)):
            missing.append(target)
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=_name_page)
def test_files_that_are_named_in_backticks_are_there(page: Path) -> None:
    tops = "|".join((*PACKAGES, "benchmarks", "tests", "docs"))
    named = re.findall(rf"`((?:{tops})/[\w./-]+\.(?:py|md|json|png|toml))`", _prose(page))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_page_of_docs_can_be_reached_from_the_readme() -> None:
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        for name in re.findall(r"\]\(([^)#:]+\.md)", _prose(page)):
            found = (page.parent / name).resolve()
            waiting += [found] if found not in reached else []
    assert set(PAGES) - reached - {ROOT / "CHANGELOG.md"} == set()


def test_every_name_that_python_md_describes_is_there() -> None:
    assert NAMES
    for name in NAMES:
        assert _find(name) is not None


def test_every_name_of_vcedge_is_described() -> None:
    described = {id(_find(name)) for name in NAMES}
    assert [n for n in vcedge.__all__ if id(getattr(vcedge, n)) not in described] == []


@pytest.mark.parametrize("module", FACES)
def test_every_public_class_of_the_runtimes_faces_is_described(module: str) -> None:
    found = import_module(f"vcedge_runtime.{module}")
    own = {
        name
        for name, kind in vars(found).items()
        if inspect.isclass(kind) and kind.__module__ == found.__name__ and name[0] != "_"
    }
    # A typed dictionary is a line of the log; a video's state is to look at.
    own -= {"ObjectRecord", "Video"}
    assert own - {name.rpartition(".")[2] for name in NAMES} == set()


@pytest.mark.parametrize("name", [name for name in NAMES if inspect.isclass(_find(name))])
def test_every_public_member_of_a_described_class_stands_in_its_section(name: str) -> None:
    kind = _find(name)
    assert inspect.isclass(kind)
    fields = {field for base in kind.__mro__ for field in getattr(base, "__annotations__", {})}
    members = {member for member in fields | set(dir(kind)) if not member.startswith("_")}
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`(.+?)`", PYTHON[name]))))
    assert members - words == set()


def test_every_error_has_its_section_of_causes_and_cures() -> None:
    assert [name for name in ERRORS if name not in TROUBLES] == []


def _texts() -> Iterator[str]:
    """Every string of the packages; what is put into it by the program is one blank."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (getattr(part, "value", "") for part in node.values)
                    yield "\0".join(part if isinstance(part, str) else "" for part in parts)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def _messages(section: str) -> Iterator[str]:
    """Pieces of the messages that a section's first column quotes."""
    for row in re.findall(r"^\| (.+?) \|", section, re.MULTILINE):
        for message in re.split(r"(?<=\.\.\.), ", row):
            yield from (piece.strip() for piece in message.split("...") if len(piece.strip()) > 1)


def test_every_message_that_is_quoted_is_one_that_the_code_can_give() -> None:
    said = list(_texts())
    quoted = {
        piece
        for name in ERRORS
        if "| message |" in TROUBLES[name]
        for piece in _messages(TROUBLES[name].replace("| message |", "|"))
    }
    assert len(quoted) > len(ERRORS)
    assert [piece for piece in sorted(quoted) if not any(piece in text for text in said)] == []


def _options(command: click.Command, ctx: click.Context) -> set[str]:
    """Options of a command and of those below it."""
    own = {o for entry in command.get_params(ctx) for o in (*entry.opts, *entry.secondary_opts)}
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            own |= _options(below, ctx) if below else set()
    return own


@pytest.mark.parametrize("page", OUR_COMMANDS, ids=_name_page)
def test_every_option_that_a_page_names_is_one_that_its_command_has(page: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch trains; install vcedge[train]")
    ctx = click.Context(app)
    options = {name: _options(app.get_command(ctx, name), ctx) for name in app.list_commands(ctx)}
    everywhere = set().union(*options.values(), {"--version"})
    text = page.read_text(encoding="utf-8")
    lines = re.findall(r"^(?: {4})?(vcedge [^`\n]+)$", text, re.MULTILINE)
    wrong = []
    for line in (*lines, *re.findall(r"`(vcedge [^`]+|--[^`]+)`", text)):
        named = re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", line.partition("#")[0])
        known = options.get(line.split()[1], everywhere) if line[0] == "v" else everywhere
        wrong += [f"{option} in {line}" for option in named if option not in known]
    assert wrong == []


def _room(path: Path) -> str:
    """The room of the runtime that a module is in, as the page writes it."""
    first, *rest = path.relative_to(RUNTIME).parts
    return f"{first}/" if rest else first


ROOMS = {_room(path) for path in RUNTIME.rglob("*.py")} - {"__init__.py"}


def _imports(room: str) -> set[str]:
    """Rooms that a room's modules import."""
    folder = RUNTIME / room
    found = set()
    for path in folder.rglob("*.py") if folder.is_dir() else [folder]:
        names = re.findall(r"^\s*(?:from|import) vcedge_runtime\.(\w+)", path.read_text(), re.M)
        found |= {name + ("/" if f"{name}/" in ROOMS else ".py") for name in names}
    return found - SHARED - {room}


def test_the_architecture_says_of_every_room_what_it_imports() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z]+(?:/|\.py))` \| [^|\n]+ \| ([^|\n]*)\|$", text, re.M))
    said = {room: set(re.findall(r"`(.+?)`", rows.get(room, "`no row`"))) for room in ROOMS}
    assert said == {room: _imports(room) for room in ROOMS}


def test_the_architecture_has_a_line_for_every_room_above_the_runtime() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {f"{path.parent.name}/" for path in (ROOT / "vcedge").glob("*/__init__.py")}
    assert [room for room in sorted(rooms) if f"`{room}`" not in text] == []
