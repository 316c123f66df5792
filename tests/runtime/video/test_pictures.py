"""Pictures of several pages, and of more than 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vcedge_runtime.errors import SourceError
from vcedge_runtime.video.frame import Source
from vcedge_runtime.video.sources import open_source

HW = (24, 32)


def make_pages(count: int, *, low: int = 0, high: int = 255, dtype: Any = np.uint8) -> list[Any]:
    """Make gray pages whose values rise from ``low`` to ``high``, each moved down by 4 pixels."""
    ramp = np.linspace(low, high, HW[0] * HW[1]).reshape(HW).astype(dtype)
    return [np.roll(ramp, 4 * index, axis=0) for index in range(count)]


def read_images(source: Source) -> list[NDArray[np.uint8]]:
    with source:
        return [frame.image for frame in source]


@pytest.mark.parametrize("suffix", [".webp", ".png", ".tif", ".tiff", ".PNG"])
def test_every_page_of_a_picture_is_a_frame(tmp_path: Path, suffix: str) -> None:
    path, pages = tmp_path / f"anim{suffix}", make_pages(4)
    first, *others = [Image.fromarray(np.dstack((page, page, 255 - page))) for page in pages]
    more: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=others, **more)
    with open_source(path) as source:
        assert (source.length, source.frame_hw) == (4, HW)
        for _ in range(2):  # it begins anew
            frames = list(source)
            assert [frame.name for frame in frames] == ["00000", "00001", "00002", "00003"]
            for frame, page in zip(frames, pages, strict=True):
                np.testing.assert_array_equal(frame.image, np.dstack((255 - page, page, page)))


def test_a_picture_of_several_pages_among_others_is_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(page) for page in make_pages(3)]
    pages[0].save(tmp_path / "a.png")
    pages[0].save(tmp_path / "b.tif", save_all=True, append_images=pages[1:])
    with open_source(tmp_path) as source, pytest.raises(SourceError, match=r"b\.tif of 3 pages"):
        list(source)


def test_pages_that_are_cut_off_end_in_an_error_after_the_good_ones(tmp_path: Path) -> None:
    path = tmp_path / "anim.png"
    noise = np.random.default_rng(1).integers(0, 256, (3, *HW), np.uint8)
    first, *others = map(Image.fromarray, noise)
    first.save(path, save_all=True, append_images=others)
    path.write_bytes(path.read_bytes()[: -len(noise[0].tobytes()) // 2])
    with open_source(path) as source:
        frames = iter(source)
        assert [next(frames).name, next(frames).name] == ["00000", "00001"]
        with pytest.raises(SourceError, match="page 2 cannot be decoded"):
            next(frames)


def test_pages_of_a_file_that_is_gone_are_refused(tmp_path: Path) -> None:
    path = save_deep(tmp_path / "deep", make_pages(3), together=True)
    with open_source(path) as source:
        path.unlink()
        with pytest.raises(SourceError, match=r"cannot be read: No such file"):
            next(iter(source))


def save_deep(path: Path, pages: list[Any], *, together: bool) -> Path:
    """Save pictures of 16 bits: the pages of one file, or the files of a folder."""
    if together:
        path = path.with_suffix(".tiff")
        assert cv2.imwritemulti(str(path), pages)
        return path
    path.mkdir()
    for index, page in enumerate(pages):
        assert cv2.imwrite(str(path / f"{index}.png"), page)
    return path


@pytest.mark.parametrize("together", [True, False], ids=["pages", "folder"])
class TestSixteenBits:
    def test_values_are_divided_by_256(self, tmp_path: Path, *, together: bool) -> None:
        pages = make_pages(3, high=65535, dtype=np.uint16)
        source = open_source(save_deep(tmp_path / "deep", pages, together=together))
        assert source.narrow is None
        for image, page in zip(read_images(source), pages, strict=True):
            expected = np.repeat((page // 256)[..., None], 3, axis=2)
            # OpenCV's decoders round where the division does not.
            np.testing.assert_allclose(image.astype(int), expected, atol=1)

    def test_a_narrow_range_is_told(self, tmp_path: Path, *, together: bool) -> None:
        pages = make_pages(2, low=2800, high=3400, dtype=np.uint16)
        path = save_deep(tmp_path / "deep", pages, together=together)
        with open_source(path) as source:
            assert source.narrow == pytest.approx((2800, 3400), abs=2)
        for wanted in ("auto", (0, 5000)):
            with open_source(path, depth_range=wanted) as source:
                assert source.narrow is None

    @pytest.mark.parametrize("wanted", ["auto", (2800, 3400)])
    def test_a_range_is_stretched_and_the_first_picture_sets_it(
        self, tmp_path: Path, wanted: tuple[int, int] | str, *, together: bool
    ) -> None:
        pages = make_pages(2, low=2800, high=3400, dtype=np.uint16)
        pages.append(np.full(HW, 3100, np.uint16))
        pages.append(np.full(HW, 60000, np.uint16))
        path = save_deep(tmp_path / "deep", pages, together=together)
        images = read_images(open_source(path, depth_range=wanted))
        assert all(image.dtype == np.uint8 and image.shape == (*HW, 3) for image in images)
        assert (images[0].min(), images[0].max()) == (0, 255)
        # 2800 to 3400 is 0 to 255; "auto" leaves out a thousandth at either end.
        np.testing.assert_allclose(images[2], 127.5, atol=1)
        assert (images[3] == 255).all()


def test_pictures_of_8_bits_stay_as_they_are(tmp_path: Path) -> None:
    pages = make_pages(2, low=100, high=120)
    path = save_deep(tmp_path / "flat", pages, together=False)
    for wanted in (None, "auto", (2800, 3400)):
        with open_source(path, depth_range=wanted) as source:
            assert source.narrow is None
            np.testing.assert_array_equal(next(iter(source)).image[..., 0], pages[0])


@pytest.mark.parametrize("wanted", ["full", (3, 3), (-1, 5), (0, 65536), (1,), (0.5, 2), [1, 2]])
def test_a_range_that_is_none_is_refused(tmp_path: Path, wanted: Any) -> None:
    path = save_deep(tmp_path / "flat", make_pages(1), together=False)
    with pytest.raises(SourceError, match=r"expected 'auto', or two values"):
        open_source(path, depth_range=wanted)
