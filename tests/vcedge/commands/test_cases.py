"""Small inputs that once failed, each tracked or refused by the command line as its user wrote it.

The inputs stand in ``tests/data/cases``, a folder each.
"""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest

from vcedge_runtime.model.bundle import DEFAULT_MODEL
from vcedge_runtime.video.palette import read_label_png
from vcedge_runtime.video.sources import open_source

FOLDER = Path(__file__).parents[2] / "data" / "cases"
EDGE = f"--model {DEFAULT_MODEL} --threads 1 --backend cpu"
REST = f"{EDGE} --size 64 --out out"
TRACK = f"--mask 00000.png {REST}"
PNG = "out/masks/*.png"
Shell = Callable[..., CompletedProcess[bytes]]


@dataclass(frozen=True)
class Case:
    """One input and what must come of it.

    Attributes:
        folder: in ``tests/data/cases``.
        command: a line of a shell.
        frames: masks, lines of the log and frames of the overlay in ``out``.
        said: what stands in what the command prints; PORT is a free one.
        code: its exit code.
    """

    folder: str
    command: str
    frames: int = 0
    said: str = ""
    code: int = 0


CASES = (
    Case("animated_images", f"vcedge track anim.webp {TRACK}", 10),
    Case("colon_name", f"mv clip.mp4 12:30:05.mp4; vcedge track 12:30:05.mp4 {TRACK}", 40),
    Case("davis_mac", f"vcedge eval davis --root davismac {EDGE} --size 64", said=" seq "),
    Case("heic_skipped", f"vcedge track partheic {TRACK}", 3, "IMG_1.HEIC, IMG_3.HEIC, IMG_5.HEIC"),
    Case("image_like_folder", f"mkdir subdir/cam.png; vcedge track subdir {TRACK}", 5),
    Case("interlaced_ts", f"vcedge track m2i.mpg {TRACK}", 40),
    Case("latin1_name", f"mv cafe.mp4 'caf\udce9.mp4'; vcedge track 'caf\udce9.mp4' {TRACK}", 40),
    Case(
        "latin1_name",
        f"vcedge track cafe.mp4 {TRACK} --frames 3 --out 'o\udce9'; mv 'o\udce9' out",
        3,
    ),
    Case(
        "long_stem",
        "stem=$(printf 'x%.0s' $(seq 246)); for f in long/?.jpg; do mv $f long/$stem$(basename $f);"
        f" done; vcedge track long {TRACK}",
        4,
    ),
    *(
        Case("mask_alpha", f"vcedge track src.mp4 --mask {name} {REST} --frames 3", 3)
        for name in ("rgba_whiteall.png", "la_whiteall.png", "rgba_blackalpha.png")
    ),
    Case(
        "mask_jpeg_ids",
        f"vcedge track src.mp4 --mask jpg_ids.jpg {REST}",
        said="a JPEG, which does not keep ids",
        code=2,
    ),
    Case(
        "mask_void255",
        f"vcedge track src.mp4 --mask voc255.png {REST} --frames 3",
        3,
        "2 objects ",
    ),
    Case("mask_void255", f"vcedge eval davis --root davis {EDGE} --size 64", said=" seq "),
    Case(
        "no_cv2",
        "PYTHONPATH=.:$PYTHONPATH vcedge doctor",
        said="vcedge: OpenCV cannot be imported (libGL.so.1",
        code=2,
    ),
    Case(
        "one_bad_packet", f"vcedge track zpk.mp4 {TRACK}", 38, "2 frames could not be decoded: they"
    ),
    Case(
        "overwrite_loss",
        "mkdir -p out/masks; cp 00000.png out/masks/my_label.png; vcedge track src.mp4 "
        f"{TRACK} --frames 4 --overwrite && cmp 00000.png out/masks/my_label.png"
        " && mv out/masks/my_label.png .",
        4,
    ),
    Case(
        "points_line",
        "vcedge track src.mp4 --points blank.csv --size 64 --out out",
        said="in line 6 of blank.csv",
        code=2,
    ),
    Case(
        "resize_hint",
        f"vcedge track rot90.mp4 {TRACK} --resize-mask",
        said="which lies on its side",
        code=2,
    ),
    Case(
        "secret_in_next",
        "python -m http.server PORT & trap 'kill $!' EXIT; for i in $(seq 100); do (exec "
        "3<>/dev/tcp/127.0.0.1/PORT) && break; sleep 0.1; done 2>/dev/null; vcedge track "
        f"http://user:secret@127.0.0.1:PORT/src.mp4 {TRACK}",
        40,
        f"next: vcedge bench {DEFAULT_MODEL} --source http://127.0.0.1:PORT/src.mp4 ",
    ),
    Case(
        "size_typo",
        "vcedge track src.mp4 --mask 00000.png --size 100000 --out out",
        said="100000 is not in the range",
        code=2,
    ),
    Case(
        "stdout_full",
        f"vcedge track src.mp4 {TRACK} --size 128 --frames 4 > /dev/full",
        4,
        "vcedge: standard output cannot be written (No space left on device)",
        2,
    ),
    Case("thermal_12bit", f"vcedge track g16low {TRACK}", 12, "pass --depth-range auto to stretch"),
    Case("thermal_12bit", f"vcedge track g16low {TRACK} --size 128 --depth-range auto", 12),
    Case("trim_editlist", f"vcedge track trim.mp4 --mask 00020.png {REST}", 20),
    Case("vfr_webm", f"vcedge track vfr.webm {TRACK}", 38),
)


@pytest.fixture
def ran(shell: Shell, tmp_path: Path) -> Callable[[Case], str]:
    """Run a case; return what it printed, once what it wrote is as it should be."""

    def run(case: Case) -> str:
        shutil.copytree(FOLDER / case.folder, tmp_path, dirs_exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        done = shell(case.command.replace("PORT", port))
        printed = (done.stdout + done.stderr).decode("utf-8", "surrogateescape")
        assert done.returncode == case.code, printed
        assert "Traceback" not in printed
        assert case.said.replace("PORT", port) in printed
        masks = list(tmp_path.glob(PNG))
        assert len(masks) == case.frames
        assert {read_label_png(mask).shape for mask in masks} <= {(120, 160)}
        if case.frames:
            log = (tmp_path / "out" / "objects.ndjson").read_text()
            with open_source(tmp_path / "out" / "overlay.mp4") as overlay:
                assert len(list(overlay)) == case.frames
            lines = [json.loads(line) for line in log.splitlines()]
            assert sum("objects" in line for line in lines) == case.frames
        else:
            assert not (tmp_path / "out").exists()
        return printed

    return run


def name_of(case: Case) -> str:
    alike = [each for each in CASES if each.folder == case.folder]
    return case.folder + (f"-{alike.index(case)}" if len(alike) > 1 else "")


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_what_a_user_sent_is_tracked_or_refused(
    ran: Callable[[Case], str], tmp_path: Path, case: Case
) -> None:
    if "/dev/full" in case.command and not Path("/dev/full").is_char_device():
        pytest.skip("the system has no /dev/full")
    printed = ran(case)
    assert "secret" not in printed
    if case.folder == "mask_void255" and case.frames:
        # What only bounded the object is none.
        assert set(np.unique(read_label_png(sorted(tmp_path.glob(PNG))[0]))) == {0, 1, 2}
    if case.folder == "one_bad_packet":
        # What could not be decoded has no mask, and what comes after keeps its number.
        assert max(int(mask.stem) for mask in tmp_path.glob(PNG)) == 39


@pytest.mark.parametrize("name", ["rgba_whiteall.png", "la_whiteall.png", "rgba_blackalpha.png"])
def test_transparency_leaves_the_object_that_the_other_channels_hide(
    ran: Callable[[Case], str], tmp_path: Path, name: str
) -> None:
    ran(next(case for case in CASES if name in case.command))
    alpha = cv2.imread(str(FOLDER / "mask_alpha" / name), cv2.IMREAD_UNCHANGED)[..., -1]
    np.testing.assert_array_equal(read_label_png(sorted(tmp_path.glob(PNG))[0]) > 0, alpha > 0)


def test_frames_of_twelve_bits_are_followed_once_they_are_stretched(
    ran: Callable[[Case], str], tmp_path: Path
) -> None:
    ran(next(case for case in CASES if "--depth-range" in case.command))
    areas = [int((read_label_png(mask) > 0).sum()) for mask in sorted(tmp_path.glob(PNG))]
    # The object keeps its size; without the range a third of it is lost.
    assert min(areas) > 0.9 * areas[0]


def test_a_run_that_is_ended_by_sigterm_finishes_its_files(shell: Shell, tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "sigterm", tmp_path, dirs_exist_ok=True)
    done = shell(
        f"vcedge track long.mp4 {TRACK} & while [ ! -e out/masks/00003.png ]; do sleep 0.1; done; "
        "kill -TERM $!; wait $!"
    )
    assert done.returncode == 143, done
    masks = len(list(tmp_path.glob(PNG)))
    log = (tmp_path / "out" / "objects.ndjson").read_text().splitlines()
    with open_source(tmp_path / "out" / "overlay.mp4") as overlay:
        assert len(log) == len(list(overlay)) == masks >= 4
    assert json.loads(log[-1])["frame"] == masks - 1


def test_every_case_has_its_line() -> None:
    folders = set(chain((case.folder for case in CASES), ["sigterm"]))
    assert folders == {path.name for path in FOLDER.iterdir()}
