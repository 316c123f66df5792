"""What results hang on, and finding them again by it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vcedge.fleet.contents import MARK_NAME, STORE_NAME, Finished, digest_facts, digest_source
from vcedge.fleet.table import DONE, Row
from vcedge_runtime.errors import SourceError
from vcedge_runtime.video.outputs import OutputFolder, write_noted

ROW = Row(3, "a.mp4", "a", DONE, 12, 1.25, None, "told")


def write_results(folder: Path, data: bytes = b"mask") -> None:
    with OutputFolder(folder, overwrite=True) as output:
        (folder / "masks").mkdir(exist_ok=True)
        write_noted(str(folder / "masks" / "00000.png"), data, output)


def test_a_file_is_its_bytes_and_images_are_their_names_too(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"video")
    (tmp_path / "b").write_bytes(b"video")
    assert digest_source(tmp_path / "a") == digest_source(tmp_path / "b")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(b"image")
    assert digest_source(tmp_path / "one") == digest_source(tmp_path / "two")
    assert digest_source(tmp_path / "one") == digest_source(tmp_path / "two" / "*.png")
    (tmp_path / "two" / "0.png").rename(tmp_path / "two" / "1.png")
    assert digest_source(tmp_path / "one") != digest_source(tmp_path / "two")
    with pytest.raises(SourceError, match="expected a video file, or a folder or glob"):
        digest_source(tmp_path / (300 * "long"))
    assert digest_facts({"a": 1, "b": (2, None)}) == digest_facts({"b": [2, None], "a": 1})


def test_results_are_found_by_their_digest_while_they_stand_as_they_were(tmp_path: Path) -> None:
    finished = Finished(tmp_path)
    assert finished.find("d1", ROW) is None
    write_results(tmp_path / "a")
    finished.note("d1", ROW)
    assert finished.find("d1", ROW) == ROW
    assert finished.find("d2", ROW) is None
    os.utime(tmp_path / "a" / "masks" / "00000.png", ns=(5, 5))
    assert finished.find("d1", ROW) is None


def test_results_of_another_digest_in_the_folder_are_not_taken_for_its_own(tmp_path: Path) -> None:
    finished = Finished(tmp_path)
    write_results(tmp_path / "a")
    finished.note("d1", ROW)
    # Another run began here, and was killed before it could say so.
    write_results(tmp_path / "a", b"other")
    assert finished.find("d1", ROW) is None


def test_results_under_another_name_are_linked_and_outlive_it(tmp_path: Path) -> None:
    finished = Finished(tmp_path, ["c.json"])
    write_results(tmp_path / "a")
    (tmp_path / "a" / "c.json").write_text("{}")
    finished.note("d1", ROW)
    renamed = Row(7, "b.mp4", "b", DONE)
    assert finished.find("d1", renamed) == Row(7, "b.mp4", "b", DONE, 12, 1.25, None, "told")
    write_results(tmp_path / "a", b"other")
    assert (tmp_path / "b" / "masks" / "00000.png").read_bytes() == b"mask"
    assert finished.find("d1", renamed) is not None
    (tmp_path / "b" / "c.json").unlink()
    assert finished.find("d1", renamed) is None


@pytest.mark.parametrize("wrong", [b"", b"[]", b'{"digest": "d1"}', b"\xff", b"[" * 5000])
def test_what_is_damaged_is_done_again(tmp_path: Path, wrong: bytes) -> None:
    finished = Finished(tmp_path)
    write_results(tmp_path / "a")
    finished.note("d1", ROW)
    mark = tmp_path / "a" / MARK_NAME
    facts = json.loads(mark.read_text())
    (store,) = (tmp_path / STORE_NAME).glob("*/*.json")
    mark.write_text(json.dumps({**facts, "row": {**facts["row"], "seconds": "long"}}))
    assert finished.find("d1", ROW) is None
    mark.write_bytes(wrong)
    assert finished.find("d1", ROW) is None
    store.write_bytes(wrong or b'{"results": ".."}')
    assert finished.find("d1", Row(1, "b", "b", DONE)) is None
