"""Tables for the terminal, or as Markdown for a page."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import MARKDOWN, SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table

PAGE_WIDTH = 400
"""Columns of a page that is no terminal: no cell of a Markdown table may be broken."""


def open_console(*, markdown: bool = False) -> Console:
    """Open the terminal; for Markdown it is as wide as the widest table."""
    return Console(width=PAGE_WIDTH, highlight=False) if markdown else Console(highlight=False)


def make_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool = False, left: int = 1
) -> Table:
    """Lay out text cells.

    Args:
        columns: headings.
        rows: as many cells each.
        markdown: as a Markdown table.
        left: how many columns are aligned left; the rest are numbers, aligned right.
    """
    box, padding = (MARKDOWN, (0, 1)) if markdown else (SIMPLE_HEAD, (0, 1, 0, 0))
    table = Table(box=box, padding=padding, pad_edge=markdown)
    for index, heading in enumerate(columns):
        justify: JustifyMethod = "left" if index < left else "right"
        table.add_column(heading, justify=justify, no_wrap=markdown, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def make_fact_list(facts: Sequence[tuple[str, str]]) -> Table:
    """Lay out names and what is known of each, without a heading."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in facts:
        table.add_row(escape(name), escape(text))
    return table
