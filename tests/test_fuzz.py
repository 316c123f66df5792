"""Files of others, changed at random: they are taken, or refused by an error of ours."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import find_readers, mutate, try_reader

READERS = find_readers()


@pytest.fixture(scope="module", name="folder")
def folder_fixture() -> Iterator[Path]:
    folder = Path(mkdtemp())
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", sorted(READERS))
@settings(max_examples=60)
@given(data=st.data())
def test_whatever_a_file_holds_only_our_errors_come_out(
    name: str, data: st.DataObject, folder: Path
) -> None:
    pytest.importorskip("cv2")
    seed = data.draw(st.sampled_from(READERS[name].seeds))
    changes = data.draw(st.integers(0, 3))
    rng = data.draw(st.randoms(use_true_random=False))
    for _ in range(changes):
        seed = mutate(seed, rng)
    try_reader(READERS[name], seed, folder)


@pytest.mark.parametrize("name", sorted(READERS))
@settings(max_examples=60)
@given(data=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_bytes_of_no_form_at_all_are_refused_by_our_errors(
    name: str, data: bytes, folder: Path
) -> None:
    try_reader(READERS[name], data, folder)


@pytest.mark.parametrize("name", sorted(set(READERS) - {"weights", "published"}))
def test_what_is_changed_was_good_before(name: str, folder: Path) -> None:
    assert all(try_reader(READERS[name], seed, folder) for seed in READERS[name].seeds[:1])


def test_changes_are_the_same_for_the_same_seed() -> None:
    assert [mutate(b"0123456789", random.Random(5)) for _ in range(2)] == 2 * [
        mutate(b"0123456789", random.Random(5))
    ]
