"""How a run is: what is told of it, in a line and as JSON."""

from __future__ import annotations

import json
import re

import pytest

from tests.runtime.video.cameras import ListSource, make_frame
from vcedge.commands import health
from vcedge.commands.health import Health, read_process_bytes
from vcedge_runtime.session import SessionReport


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """One number, the time."""
    now_s = [50.0]
    monkeypatch.setattr(health, "monotonic", lambda: now_s[0])
    return now_s


def test_before_the_first_frame_nothing_is_known_but_that_it_starts(clock: list[float]) -> None:
    facts = Health(ListSource([]), SessionReport()).facts()
    assert facts.pop("memory_mb") == pytest.approx(read_process_bytes() / 1e6, rel=0.1)
    assert facts == {
        "state": "starting",
        "frames": 0,
        "fps": None,
        "age_ms": None,
        "dropped": 0,
        "reopened": 0,
        "idle_s": 0.0,
    }


def test_speed_and_age_are_those_of_the_last_frames(clock: list[float]) -> None:
    source, report = ListSource([make_frame(0)]), SessionReport()
    source.dropped, source.reopened = 70, 2
    told = Health(source, report)
    for step_s, age_ms in [(1.0, 900.0)] * 100 + [(0.25, 260.0)] * 61:
        clock[0] += step_s
        report.add({})
        report.ages_ms.append(age_ms)
        told.note()
    clock[0] += 7.04
    facts = told.facts()
    assert (facts["state"], facts["frames"]) == ("tracking", 161)
    assert (facts["fps"], facts["age_ms"], facts["idle_s"]) == (4.0, 260.0, 7.0)
    assert (facts["dropped"], facts["reopened"]) == (70, 2)
    assert json.loads(json.dumps(facts)) == facts


def test_a_source_that_is_opened_again_is_waited_for(clock: list[float]) -> None:
    source = ListSource([])
    source.connected = False
    [line] = Health(source, SessionReport()).describe()
    assert re.fullmatch(
        r"health: state=waiting frames=0 fps=- age_ms=- dropped=0 reopened=0 idle_s=0\.0 "
        r"memory_mb=[\d.]+",
        line,
    )
