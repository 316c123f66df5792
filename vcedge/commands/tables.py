"""Tables for the terminal, or as Markdown for a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import MARKDOWN, SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.markup import escape
from rich.table import Table

from vcedge_runtime.telling import make_printable

PAGE_WIDTH = 400
"""Columns of a page that is no terminal: no cell of a Markdown table may be broken."""


class _Page(Console):
    """A terminal on which a table that is wider runs on, instead of being cut off.

    Text from outside moves nothing on it.
    """

    def print(self, *objects: Any, crop: bool = False, **options: Any) -> None:
        super().print(*map(_clean, objects), crop=crop, **options)

    def out(self, *objects: Any, **options: Any) -> None:
        super().out(*map(_clean, objects), **options)


def _clean(told: Any) -> Any:
    return make_printable(told) if isinstance(told, str) else told


class _Table(Table):
    """Never narrower than its columns' longest words."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        least = self.__rich_measure__(console, options.update_width(PAGE_WIDTH)).minimum
        wide = options.update_width(max(least, options.max_width))
        yield from super().__rich_console__(console, wide)


def open_console(*, markdown: bool = False, quiet: bool = False, errors: bool = False) -> Console:
    """Open the terminal; for Markdown, a pipe or a file it is as wide as the widest table.

    Args:
        markdown: tables are for a page.
        quiet: print nothing.
        errors: print to standard error, where standard output belongs to something else.
    """
    console = _Page(highlight=False, quiet=quiet, stderr=errors)
    if markdown or not console.is_terminal:
        console.width = PAGE_WIDTH
    return console


def warn_on(console: Console, text: str) -> None:
    """Print what a user should know, in a line that is not wrapped."""
    console.print(text, style="yellow", markup=False, soft_wrap=True)


def make_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool = False, left: int = 1
) -> Table:
    """Lay out text cells; a line breaks between words alone.

    Args:
        columns: headings.
        rows: as many cells each.
        markdown: as a Markdown table.
        left: how many columns are aligned left; the rest are numbers, aligned right.
    """
    box, padding = (MARKDOWN, (0, 1)) if markdown else (SIMPLE_HEAD, (0, 1, 0, 0))
    table = _Table(box=box, padding=padding, pad_edge=markdown)
    for index, heading in enumerate(columns):
        justify: JustifyMethod = "left" if index < left else "right"
        cells = [heading, *(row[index] for row in rows)]
        single = markdown or not any(" " in cell.strip() for cell in cells)
        least = _longest_word(cells)
        table.add_column(heading, justify=justify, no_wrap=single, min_width=least)
    for row in rows:
        table.add_row(*map(escape, map(make_printable, row)))
    return table


def make_fact_list(facts: Sequence[tuple[str, str]]) -> Table:
    """Lay out names and what is known of each, without a heading."""
    table = _Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(min_width=_longest_word([text for _, text in facts]))
    for name, text in facts:
        table.add_row(*map(escape, map(make_printable, (name, text))))
    return table


def _longest_word(cells: Sequence[str]) -> int:
    """Terminal columns of the longest word."""
    return max((cell_len(word) for cell in cells for word in cell.split()), default=0)
