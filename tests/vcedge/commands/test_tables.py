"""Tables: no word is broken, whatever the width."""

from __future__ import annotations

import io
import re

import pytest

from vcedge.commands.tables import PAGE_WIDTH, make_fact_list, make_table, open_console

NAMES = ["prototype_transformer.features", "memory_read.readout"]
REASON = "statistics of a normalisation, or a sum over cells"
ROWS = [(name, REASON, "1.25e-03") for name in NAMES]


def print_on(width: int, table: object, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Print on a terminal."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    console = open_console()
    assert console.is_terminal
    console.file = io.StringIO()
    console.print(table)
    return re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue()).splitlines()


@pytest.mark.parametrize("width", [20, 50, 80, 200])
def test_words_stay_whole_on_any_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = print_on(width, make_table(("output", "why", "max error"), ROWS, left=2), monkeypatch)
    words = {word for line in lines for word in line.split()}
    assert {*NAMES, *REASON.split(), "1.25e-03", "output"} <= words


@pytest.mark.parametrize("width", [20, 80])
def test_facts_stay_whole(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/a/folder/that/is/longer/than/twenty/columns"
    lines = print_on(width, make_fact_list([("folder", f"{path} (6.0 MB)")]), monkeypatch)
    assert any(path in line for line in lines)


def test_sentences_still_break_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = print_on(70, make_table(("output", "why", "max error"), ROWS, left=2), monkeypatch)
    assert not any(REASON in line for line in lines)
    assert max(map(len, lines)) <= 70


def test_a_pipe_is_as_wide_as_any_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    console = open_console()
    assert not console.is_terminal
    assert console.width == PAGE_WIDTH
