"""A crew of processes: what becomes of jobs, of those that die, and of an interruption."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vcedge.fleet.works import StandIn
from vcedge.fleet.crews import STOPPED, Alone, Done
from vcedge.fleet.processes import ProcessCrew


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[ProcessCrew]:
    with ProcessCrew(StandIn(tmp_path), 2) as crew:
        yield crew


def by_job(found: list[Done]) -> dict[str, Done]:
    assert len({done.job for done in found}) == len(found)
    return {done.job: done for done in found}


def test_jobs_are_done_in_processes_of_their_own_which_are_used_again(crew: ProcessCrew) -> None:
    found = by_job(list(crew.run([f"do {index}" for index in range(7)])))
    processes = {int(done.result.split()[-1]) for done in found.values()}
    assert len(found) == 7
    assert 1 <= len(processes) <= 2
    assert os.getpid() not in processes


def test_no_more_jobs_are_taken_than_can_be_worked_on(crew: ProcessCrew) -> None:
    taken = []

    def give() -> Iterator[str]:
        for index in range(8):
            taken.append(index)
            yield f"do {index}"

    for count, _ in enumerate(crew.run(give()), start=1):
        assert len(taken) <= count + 2
    assert len(taken) == 8


def test_a_process_that_dies_costs_its_job_one_more_try_and_no_other_anything(
    crew: ProcessCrew, tmp_path: Path
) -> None:
    jobs = ["do 0", "die 1", "do 2", "die-once 3", "raise 4", "do 5"]
    found = by_job(list(crew.run(jobs)))
    assert set(found) == set(jobs)
    assert "died 2 times" in found["die 1"].fault
    assert found["die 1"].result is None
    assert found["raise 4"].fault == "ValueError: 4"
    for job in ("do 0", "do 2", "die-once 3", "do 5"):
        assert found[job].fault == ""
    tries = {name: len(list(tmp_path.glob(f"{name}-*"))) for name in "012345"}
    assert tries == {"0": 1, "1": 2, "2": 1, "3": 2, "4": 1, "5": 1}


def test_jobs_that_run_end_when_they_are_told_to(crew: ProcessCrew, tmp_path: Path) -> None:
    ticks = []

    def tick(frames: int) -> None:
        ticks.append(frames)
        if len(list(tmp_path.glob("*"))) == 2 and frames == 6:
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(crew.run(["sleep 0", "sleep 1", "sleep 2"], tick))
    found = by_job(list(crew.stop()))
    assert {job: done.fault for job, done in found.items()} == {
        "sleep 0": STOPPED,
        "sleep 1": STOPPED,
    }
    assert time.monotonic() - began < 50


def test_what_is_done_when_an_interruption_comes_is_not_lost(
    crew: ProcessCrew, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = ProcessCrew._settle
    # Where the tests run in the background, a shell has them ignore it.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)

    def settle_and_interrupt(crew: ProcessCrew, *given: Any) -> None:
        settle(crew, *given)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ProcessCrew, "_settle", settle_and_interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(crew.run(["do 0"]))
    finally:
        signal.signal(signal.SIGINT, former)
    assert [done.job for done in crew.stop()] == ["do 0"]


def test_the_plain_loop_does_the_same_in_this_process(tmp_path: Path) -> None:
    found = by_job(list(Alone(StandIn(tmp_path)).run(["do 0", "raise 1", "do 2"])))
    assert found["do 0"].result == f"0 of {os.getpid()}"
    assert found["raise 1"].fault == "ValueError: 1"
    assert found["do 2"].fault == ""
