"""Entries of a manifest as jobs: what they begin with, options of their own, names of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vcedge.commands.batch_jobs import Job, JobList
from vcedge.commands.batch_prompts import read_prompts
from vcedge_runtime.errors import ManifestError
from vcedge_runtime.model.bundle import DEFAULT_LABEL_MODEL, DEFAULT_MODEL


def write_lines(folder: Path, *lines: dict[str, Any]) -> Path:
    path = folder / "list.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read_jobs(place: Path, **options: tuple[str, ...]) -> list[Job]:
    jobs = JobList(place, options)
    jobs.survey()
    found = list(jobs)
    assert jobs.videos == len(found)
    return found


def read_job(folder: Path, **values: Any) -> Job:
    (job,) = read_jobs(write_lines(folder, {"video": "a.mp4", **values}))
    return job


def test_files_lie_beside_the_manifest_and_results_are_named_after_the_video(
    tmp_path: Path,
) -> None:
    job = read_job(tmp_path, video="clips/a b.mp4", mask="masks/a.png")
    assert (job.line, job.video, job.results) == (1, "clips/a b.mp4", "a_b")
    assert job.source == str(tmp_path / "clips/a b.mp4")
    assert job.prompt == (("mask", str(tmp_path / "masks/a.png")),)
    assert read_job(tmp_path, mask="a.png", results="own").results == "own"
    assert read_job(tmp_path, video="/far/a.mp4", mask="a.png").source == "/far/a.mp4"


@pytest.mark.parametrize(
    ("given", "prompt"),
    [
        ({"box": "1,2,3,4"}, [("box", "1,2,3,4")]),
        ({"box": "1,2,3,4; 2=5,6,7,8"}, [("box", "1,2,3,4"), ("box", "2=5,6,7,8")]),
        ({"box": [1, 2.5, 3, 4]}, [("box", "1,2.5,3,4")]),
        ({"box": {"2": [5, 6, 7, 8]}}, [("box", "2=5,6,7,8")]),
        ({"click": "-1,2"}, [("click", "-1,2")]),
        ({"click": [[1, 2], [3, 4, 0]]}, [("click", "1,2"), ("click", "-3,4")]),
        ({"click": {"3": [[1, 2, 1]], "4": [5, 6, 0]}}, [("click", "3=1,2"), ("click", "4=-5,6")]),
        ({"box": "1,2,3,4", "from": 7}, [("box", "1,2,3,4"), ("from", "7")]),
        ({"prompts": {"box": ["1,2,3,4"], "from": "7"}}, [("box", "1,2,3,4"), ("from", "7")]),
    ],
)
def test_boxes_and_clicks_are_text_or_numbers_or_by_object(
    tmp_path: Path, given: dict[str, Any], prompt: list[tuple[str, str]]
) -> None:
    assert read_job(tmp_path, **given).prompt == tuple(prompt)


@pytest.mark.parametrize(
    "mask", ["0:a.png;9:b.png", ["0:a.png", "9:b.png"], {"0": "a.png", "9": ["b.png"]}]
)
def test_masks_are_of_the_first_frame_or_of_a_later_one(tmp_path: Path, mask: Any) -> None:
    own = str(tmp_path)
    assert read_job(tmp_path, mask=mask).prompt == (
        ("mask", f"0:{own}/a.png"),
        ("mask", f"9:{own}/b.png"),
    )


def test_what_a_video_begins_with_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    path = tmp_path / "own" / "a.json"
    path.write_text('{"mask": "a.png", "click": {"2": [3, 4]}}')
    job = read_job(tmp_path, prompts="own/a.json")
    assert (job.prompt, job.prompts) == ((), str(path))
    assert read_prompts(job.prompts) == (("mask", f"{tmp_path}/own/a.png"), ("click", "2=3,4"))
    path.write_text('{"mask": "a.png", "size": 256}')
    with pytest.raises(ManifestError, match=r"received 'size' in .*a\.json; expected one of mask"):
        read_prompts(job.prompts)
    with pytest.raises(ManifestError, match=r"none\.json, which cannot be read"):
        read_prompts(str(tmp_path / "none.json"))


def test_the_model_is_that_of_what_is_followed_or_one_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "bundle.json").write_text("{}")
    assert read_job(tmp_path, mask="a.png").model == DEFAULT_MODEL
    assert read_job(tmp_path, points="a.csv").model == DEFAULT_LABEL_MODEL
    assert read_job(tmp_path, mask="a.png", model="own").model == str(tmp_path / "own")
    assert read_job(tmp_path, mask="a.png", model="other").model == "other"


def test_options_of_a_line_come_before_those_of_all(tmp_path: Path) -> None:
    lines = [
        {"video": "a.mp4", "mask": "a.png"},
        {"video": "b.mp4", "mask": "a.png", "size": 256, "no-overlay": True, "masks": False},
        {
            "video": "c.mp4",
            "mask": "a.png",
            "depth_range": [3, 9],
            "name": {"1": "car", "2": "van"},
        },
        {"video": "d.mp4", "mask": "a.png", "binarize": "no", "polygons": "true"},
    ]
    every = {"fast": ("--fast",), "frames": ("--frames=9",), "binarize": ("--binarize",)}
    found = [job.options for job in read_jobs(write_lines(tmp_path, *lines), **every)]
    assert found == [
        ("--fast", "--frames=9", "--binarize"),
        ("--frames=9", "--binarize", "--size=256", "--no-overlay", "--no-masks"),
        ("--fast", "--frames=9", "--binarize", "--depth-range=3,9", "--name=1=car", "--name=2=van"),
        ("--fast", "--frames=9", "--polygons"),
    ]


def test_videos_of_one_name_have_results_of_their_own(tmp_path: Path) -> None:
    videos = ["a.mp4", "b/A.mp4", "c/b.mp4", "a.avi", "d.mp4"]
    place = write_lines(tmp_path, *({"video": video, "mask": "m.png"} for video in videos))
    assert [job.results for job in read_jobs(place)] == ["a", "A~2", "b", "a~3", "d"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({}, "line 2 of .*: received no mask, box, click, points or prompts; expected one of them"),
        ({"mask": "a", "size": "big"}, "line 2 of .*: received options that cannot be .*--size"),
        ({"mask": "a", "size": 9, "fast": True}, r"line 2 of .*--size"),
        ({"mask": "a", "overlay": "maybe"}, "line 2 .*'maybe' for --overlay; expected true or fal"),
        (
            {"mask": "a", "sise": 3},
            "line 2 of .*: received 'sise' as a column; expected video, res",
        ),
        ({"mask": "a", "out": "x"}, "line 2 of .*: received 'out' as a column"),
        ({"mask": "a", "serve": "8080"}, "line 2 of .*: received 'serve' as a column"),
        ({"mask": "a", "coco": "/etc/x"}, "line 2 .*/etc/x for --coco; expected a name"),
        (
            {"mask": "a", "results": "../x"},
            "line 2 of .*: received '../x' as results; expected the",
        ),
        ({"mask": "a", "results": "a~2"}, "line 2 of .*: received 'a~2' as results"),
        ({"mask": 7}, "line 2 of .*: received 7; expected text, numbers in a list"),
        ({"box": "1,2,3"}, "line 2 of .*: received '1,2,3' as box; expected x,y,width,height"),
        ({"box": [1, 2, 3]}, "line 2 of .*: received '1,2,3' as box"),
        ({"click": [1]}, "line 2 of .*: received .*; expected text, numbers in a list"),
        ({"click": "0=1,2"}, "line 2 of .*: received '0=1,2' as click; expected x,y in pixels"),
        ({"points": {"nose": [1, 2]}}, "line 2 of .*: received .* as points; expected the path"),
        ({"mask": "a", "from": "-3"}, "line 2 of .*: received '-3' as from; expected the index"),
        (
            {"mask": "a", "model": 3},
            "line 2 of .*: received 3 as model; expected a name or a folder",
        ),
        ({"prompts": {"size": 3}}, "line 2 of .*: received 'size'; expected one of mask, box"),
        ({"video": "rtsp://u:p@cam/1", "mask": "a"}, "line 2 of .*: received the live source"),
        (
            {"video": "0", "mask": "a"},
            "line 2 of .*: received the live source '0'; expected a file",
        ),
        ({"video": "-", "mask": "a"}, "line 2 of .*: received the live source"),
    ],
)
def test_a_line_that_cannot_be_is_told_before_anything_is_tracked(
    tmp_path: Path, line: dict[str, Any], told: str
) -> None:
    place = write_lines(tmp_path, {"video": "a.mp4", "mask": "a.png"}, {"video": "b.mp4", **line})
    with pytest.raises(ManifestError, match=told) as error:
        JobList(place).survey()
    assert "p@cam" not in str(error.value)


def test_a_manifest_without_a_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("video,mask\n")
    with pytest.raises(ManifestError, match="without a video"):
        JobList(tmp_path / "a.csv").survey()
