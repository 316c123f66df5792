"""``vcedge batch --ray`` on a cluster of two nodes, which are processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from subprocess import Popen

import pytest

from tests.vcedge.commands.batches import (
    make_clips,
    read_results,
    read_table,
    states,
    times_of,
    wait_for,
)
from tests.vcedge.conftest import CHECKOUT, HEAR_SIGNALS, ROOT
from vcedge_runtime.model.bundle import Bundle

pytest.importorskip("onnxruntime", reason="the graphs run in it; install vcedge[cpu]")
if find_spec("ray") is None and "cluster" not in os.environ.get("VCEDGE_REQUIRE", "").split(","):
    pytest.skip("Ray is not installed; install vcedge[cluster]", allow_module_level=True)

Run = Callable[..., subprocess.CompletedProcess[str]]
CLIPS, LONG = 40, 80
BROKEN = ("clip07", "clip20", "clip33")
"""Three of the clips; the first one is long."""
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join((CHECKOUT, str(ROOT))),
    "OMP_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
}
START = f"""
{HEAR_SIGNALS}
from ray.cluster_utils import Cluster
node = dict(num_cpus=1, object_store_memory=80_000_000, include_dashboard=False)
cluster = Cluster(initialize_head=True, head_node_args=node)
cluster.add_node(**node)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
STAND_IN = """
import sys
from pathlib import Path
from tests.vcedge.fleet.works import StandIn
from vcedge.fleet.cluster import RayCrew
from vcedge_runtime.errors import ClusterError

address, folder = sys.argv[1:]
jobs = ["do 0", "die 1", "die-once 2", "raise 3", "do 4"]
with RayCrew(StandIn(Path(folder)), address, cpus=1, gpus=0) as crew:
    for done in crew.run(jobs):
        print(done.job, "|", bool(done.result), "|", done.fault, flush=True)
    running = crew.run(["sleep 5", "sleep 6"], lambda frames: crew.stopping())
    crew.stopping = lambda: 1 / 0 if any(Path(folder).glob("5-*")) else None
    try:
        list(running)
    except ZeroDivisionError:
        for done in crew.stop():
            print(done.job, "|", bool(done.result), "|", done.fault, flush=True)
try:
    RayCrew(StandIn(Path(folder)), address, cpus=1, gpus=0.5)
except ClusterError as exc:
    print(exc)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of two nodes with a core each."""
    command = [sys.executable, "-c", START]
    with Popen(command, env=ENVIRONMENT, stdin=-1, stdout=-1, stderr=-3, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address
        yield address
        process.stdin.close()
        process.stdout.close()
        process.wait(timeout=120)


def start(cluster: str, clips: Path, out: Path, bundle: Bundle, *more: str) -> Popen[str]:
    words = ["batch", clips, "--out", out, "--model", bundle.folder, "--backend", "cpu", *more]
    script = f"{HEAR_SIGNALS}\nfrom vcedge.cli import main; main()"
    command = [sys.executable, "-c", script, *map(str, words), "--ray", cluster]
    return Popen(command, env=ENVIRONMENT, stdout=-1, stderr=-1, text=True)


def writers_of(folder: Path) -> list[int]:
    """Processes that have a file in a folder open."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if folder in link.readlink().parents:
                found.append(int(link.parts[2]))
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells who writes where")
def test_workers_and_the_driver_are_killed_and_resume_finishes_with_the_same_results(
    cluster: str,
    tmp_path: Path,
    tiny_bundle: Bundle,
    run: Callable[..., subprocess.CompletedProcess],
) -> None:
    clips = make_clips(tmp_path / "clips", LONG, *(CLIPS - 1) * [3])
    for name in BROKEN:
        (clips / f"{name}.mp4").write_bytes(b"no video")
    out = tmp_path / "out"
    driver = start(cluster, clips, out, tiny_bundle)
    wait_for(lambda: len(list(out.glob("clip00/masks/*.png"))) > 5)
    worker, *_ = writers_of(out / "clip00")
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: (out / "results.csv").exists() and "clip00" in states(out))
    driver.kill()
    driver.communicate(timeout=60)
    before, done = times_of(out), states(out)
    assert done["clip00"] == "done"
    wait_for(lambda: not any(writers_of(out / name) for name in ("", *done)))

    driver = start(cluster, clips, out, tiny_bundle, "--resume")
    said, error = driver.communicate(timeout=240)
    assert (driver.returncode, error) == (1, ""), said
    assert f"{CLIPS - 3} of {CLIPS} videos are done" in said
    rows = read_table(out)
    assert [name for name, row in rows.items() if row["state"] == "failed"] == [*BROKEN]
    assert all("a video that FFmpeg can decode" in rows[name]["message"] for name in BROKEN)
    after = times_of(out)
    finished = [name for name, state in done.items() if state == "done"]
    assert finished
    for name in finished:
        kept = {path: when for path, when in before.items() if f"/{name}/" in path}
        assert kept == {path: when for path, when in after.items() if f"/{name}/" in path}

    arguments = ("--model", tiny_bundle.folder, "--backend", "cpu", "--workers", 0)
    assert run("batch", clips, "--out", "alone", *arguments).returncode == 1
    for name in rows:
        assert read_results(out / name) == read_results(Path("alone", name))


@pytest.mark.slow
def test_lost_tasks_are_tried_once_more_and_those_that_run_are_stopped(
    cluster: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", STAND_IN, cluster, str(tmp_path)]
    done = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    # Ray says on the same stream what became of a process.
    found = dict(row.split(" | ", 1) for row in done.stdout.splitlines() if " | " in row)
    assert found.pop("die 1").startswith("False | the process that worked on it died 2 times")
    assert found.pop("raise 3") == "False | ValueError: 3"
    assert found.pop("sleep 5") == found.pop("sleep 6") == "False | stopped"
    assert found == dict.fromkeys(("do 0", "die-once 2", "do 4"), "True | ")
    assert "received tasks of CPU 1, GPU 0.5 for a cluster of CPU 2, GPU 0" in done.stdout


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_told(tmp_path: Path, tiny_bundle: Bundle) -> None:
    clips = make_clips(tmp_path / "clips", 2)
    driver = start("127.0.0.1:9", clips, tmp_path / "out", tiny_bundle)
    said, error = driver.communicate(timeout=240)
    assert driver.returncode == 2, said
    assert "where no cluster can be reached" in error.splitlines()[-1]
