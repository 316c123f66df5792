"""What the page asks over the wire, and what it is told."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("starlette", reason="Starlette serves the studio: vcedge[studio]")

from tests.vcedge.studio.square import BOX, FRAMES, HW, Address, draw_truth, overlap, wait_for
from tests.vcedge.studio.test_records import read_runs
from vcedge.cli import main
from vcedge.studio.actions import ACTIONS
from vcedge.studio.gate import COOKIE
from vcedge.studio.uploads import MOST_BYTES
from vcedge_runtime.video.palette import encode_label_png, write_label_png
from vcedge_runtime.video.view import LOOPBACK

WIDE = [BOX[0] - 5, BOX[1] - 5, BOX[2] + 10, BOX[3] + 10]


def draw(studio: Address) -> Any:
    studio.do("add", name="square")
    return studio.do("box", frame=0, object=1, box=WIDE).told


def track(studio: Address) -> None:
    draw(studio)
    assert studio.do("track", frame=0).status == 200
    wait_for(lambda: not studio.session.worker.busy)


def mask_of(studio: Address, frame: int) -> np.ndarray:
    return read_runs(studio.as_page("GET", f"masks/{frame}").body).reshape(HW)


def test_the_page_and_all_it_names_are_served(studio: Address) -> None:
    page = Path(__file__).parents[3] / "vcedge" / "studio" / "page"
    for path in page.iterdir():
        answer = studio.as_page("GET", path.name)
        assert (answer.status, answer.body) == (200, path.read_bytes())
        assert answer.headers["content-type"] != "application/octet-stream"


@pytest.mark.parametrize(
    "path",
    [
        *("nothing.js", "../server.py", "..%2fserver.py", "%2e%2e/gate.py", "page/main.js"),
        *("files/masks", "files/x", "files/../index.html", "frames/x", "frames/-1", "do/x"),
    ],
)
def test_nothing_else_is_there(studio: Address, path: str) -> None:
    assert studio.as_page("GET", path).status in (404, 405)


def test_the_state_tells_the_video_and_what_is_known_of_it(studio: Address) -> None:
    empty = studio.as_page("GET", "state").told
    assert empty["objects"] == []
    assert {k: empty["video"][k] for k in ("width", "height", "first", "end", "live")} == {
        "width": HW[1],
        "height": HW[0],
        "first": 0,
        "end": FRAMES,
        "live": False,
    }
    track(studio)
    told = studio.as_page("GET", "state").told
    [each] = told["objects"]
    assert (each["id"], each["name"], each["fill"]) == (1, "square", "#800000")
    lane = base64.b64decode(told["lanes"]["1"])
    assert len(lane) == FRAMES
    assert min(lane) > 100
    assert told["drawn"] == [0]
    assert told["undo"]


def test_frames_are_jpegs_in_the_videos_own_size(studio: Address) -> None:
    answer = studio.as_page("GET", "frames/3")
    image = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (*HW, 3)
    assert answer.headers["cache-control"].startswith("private")
    assert studio.as_page("GET", f"frames/{FRAMES}").status == 400


def test_a_box_gives_the_mask_at_once(studio: Address) -> None:
    told = draw(studio)
    assert told["changed"]["frame"] == 0
    assert told["changed"]["drawn"]
    assert overlap(mask_of(studio, 0), draw_truth(0)) > 0.9


def test_every_action_works_over_the_wire(studio: Address) -> None:
    draw(studio)
    asked = [
        ("rename", {"object": 1, "name": "Käse 2"}),
        ("click", {"frame": 0, "object": 1, "at": [40, 30]}),
        ("click", {"frame": 0, "object": 1, "at": [5, 5], "positive": False}),
        ("stroke", {"frame": 0, "object": 1, "points": [[5, 5], [9.5, 8]], "radius": 2.5}),
        ("stroke", {"frame": 0, "object": 1, "points": [[5, 5]], "radius": 9, "erase": True}),
        ("track", {"frame": 0, "steps": 1}),
        ("stop", {}),
        ("clear", {"frame": 1, "object": 1}),
        ("undo", {}),
        ("redo", {}),
        ("undo", {}),
        ("watch", {}),
        ("remove", {"object": 1}),
    ]
    assert {name for name, _ in asked} | {"add", "box"} == set(ACTIONS)
    for name, given in asked:
        answer = studio.do(name, **given)
        assert answer.status == 200, answer.body
    assert studio.session.objects == ()


@pytest.mark.parametrize(
    ("action", "given"),
    [
        ("box", {"frame": 0, "object": 1}),
        ("box", {"frame": 0, "object": 1, "box": [1, 2, 3]}),
        ("box", {"frame": 0, "object": 1, "box": [1, 2, 3, float("inf")]}),
        ("box", {"frame": 0, "object": 1, "box": [1, 2, 3, 1e9]}),
        ("box", {"frame": 0.5, "object": 1, "box": [1, 2, 3, 4]}),
        ("box", {"frame": True, "object": 1, "box": [1, 2, 3, 4]}),
        ("box", {"frame": FRAMES, "object": 1, "box": [1, 2, 3, 4]}),
        ("box", {"frame": -1, "object": 1, "box": [1, 2, 3, 4]}),
        ("box", {"frame": 0, "object": 0, "box": [1, 2, 3, 4]}),
        ("box", {"frame": 0, "object": 256, "box": [1, 2, 3, 4]}),
        ("click", {"frame": 0, "object": 1, "at": "xy"}),
        ("stroke", {"frame": 0, "object": 1, "points": [], "radius": 3}),
        ("stroke", {"frame": 0, "object": 1, "points": [[1, 2]] * 20_001, "radius": 3}),
        ("stroke", {"frame": 0, "object": 1, "points": [[1, 2]], "radius": 0}),
        ("rename", {"object": 1, "name": ""}),
        ("rename", {"object": 1, "name": "x" * 41}),
        ("rename", {"object": 1, "name": "\x1b[2J"}),
        ("rename", {"object": 1, "name": "a\ud800"}),
        ("rename", {"object": 1, "name": "a\u202eb"}),
        ("add", {"name": "x", "more": 1}),
        ("track", {"frame": 0, "steps": 0}),
        ("undo", {"frame": 0}),
    ],
)
def test_what_a_request_may_not_hold_is_refused_in_a_line(
    studio: Address, action: str, given: dict[str, Any]
) -> None:
    studio.do("add")
    answer = studio.do(action, **given)
    assert answer.status == 400
    assert "\n" not in answer.told["error"]
    assert studio.session.records.frames() == []


@pytest.mark.parametrize(
    "body", [b"{", b"[" * 100_000, b"[]", b"\xff", b"1", b'{"name":' + b"9" * 9000]
)
def test_what_is_no_request_is_refused(studio: Address, body: bytes) -> None:
    assert studio.as_page("POST", "do/add", body).status == 400
    assert studio.session.objects == ()


def test_a_mask_is_loaded_from_a_file(studio: Address) -> None:
    labels = draw_truth(0) * 5
    answer = studio.as_page("PUT", "masks/0", encode_label_png(labels))
    assert answer.status == 200
    assert [each["id"] for each in answer.told["objects"]] == [5]
    np.testing.assert_array_equal(mask_of(studio, 0), labels)


def _huge_png() -> bytes:
    """A file of some kilobytes that announces 900 million pixels."""
    data = bytearray(encode_label_png(np.ones((8, 8), np.uint8)))
    data[16:24] = (30_000).to_bytes(4, "big") * 2
    return bytes(data)


@pytest.mark.parametrize(
    "body", [b"", b"no picture", _huge_png(), encode_label_png(np.zeros(HW, np.uint8))]
)
def test_a_file_that_is_no_mask_is_refused_in_a_line(studio: Address, body: bytes) -> None:
    answer = studio.as_page("PUT", "masks/0", body)
    assert answer.status == 400
    assert "\n" not in answer.told["error"]
    assert "/tmp" not in answer.told["error"]
    assert studio.session.records.frames() == []


def test_an_upload_beyond_its_bound_is_refused(studio: Address) -> None:
    answer = studio.as_page("PUT", "masks/0", bytes(MOST_BYTES + 2))
    assert answer.status == 400


def test_the_page_is_told_of_every_frame_while_it_is_tracked(studio: Address) -> None:
    connection = http.client.HTTPConnection(LOOPBACK, studio.port, timeout=20)
    cookie = {"Cookie": f"{COOKIE}={studio.keys.session}"}
    connection.request("GET", f"/{studio.keys.folder}/events", headers=cookie)
    stream = connection.getresponse()
    assert stream.headers["content-type"].startswith("text/event-stream")
    told: list[dict[str, Any]] = []

    def listen() -> None:
        for line in stream:
            if line.startswith(b"data: "):
                told.append(json.loads(line[6:]))

    listener = threading.Thread(target=listen)
    listener.start()
    wait_for(lambda: studio.session.events.heard)
    track(studio)
    studio.session.events.close()
    listener.join(timeout=10)
    connection.close()
    tracked = [each["frame"] for each in told if each["kind"] == "frame"]
    assert tracked == list(range(1, FRAMES))
    works = [each["work"] for each in told if each["kind"] == "work"]
    assert works[0]["kind"] == "track"
    assert works[-1] is None
    wait_for(lambda: not studio.session.events.heard)


def test_masks_are_exported_as_eval_davis_scores_them(
    studio: Address, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert studio.as_page("GET", "files/masks").status == 404
    track(studio)
    assert studio.as_page("POST", "export/masks").status == 200
    wait_for(lambda: not studio.session.worker.busy)
    answer = studio.as_page("GET", "files/masks")
    assert 'filename="square-masks.zip"' in answer.headers["content-disposition"]
    with zipfile.ZipFile(BytesIO(answer.body)) as archive:
        archive.extractall(tmp_path / "found")
    truth = tmp_path / "truth" / "square"
    truth.mkdir(parents=True)
    for frame in range(FRAMES):
        write_label_png(truth / f"{frame:05d}.png", draw_truth(frame))
    with pytest.raises(SystemExit) as done:
        main(["eval", "davis", "--gt", str(truth.parent), "--pred", str(tmp_path / "found")])
    assert done.value.code == 0
    assert "square" in capsys.readouterr().out


def test_an_export_of_nothing_is_refused_and_leaves_no_file(studio: Address) -> None:
    told = []
    studio.session.events.publish = lambda kind, **facts: told.append((kind, facts))
    assert studio.as_page("POST", "export/masks").status == 200
    wait_for(lambda: not studio.session.worker.busy)
    assert any("no mask yet" in str(facts.get("message")) for _, facts in told)
    assert studio.as_page("GET", "files/masks").status == 404
    assert studio.as_page("POST", "export/../x").status in (400, 404)
    assert studio.as_page("POST", "export/tar").status == 400
