"""Masks from files and arrays: what is read, and what is explained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from vcedge_runtime.errors import MaskError
from vcedge_runtime.video.masks import check_mask, read_mask
from vcedge_runtime.video.palette import write_label_png

HW = (48, 64)


def draw_disk(value: int = 255) -> NDArray[np.uint8]:
    image = np.zeros(HW, np.uint8)
    cv2.circle(image, (30, 24), 15, value, -1)
    return image


def save(tmp_path: Path, image: NDArray[Any], suffix: str = ".png") -> Path:
    path = tmp_path / f"mask{suffix}"
    assert cv2.imwrite(str(path), image)
    return path


def test_white_on_black_becomes_object_one(tmp_path: Path) -> None:
    mask = read_mask(save(tmp_path, draw_disk()), frame_hw=HW)
    np.testing.assert_array_equal(mask, draw_disk(1))


def test_a_mask_that_is_all_white_becomes_object_one(tmp_path: Path) -> None:
    mask = read_mask(save(tmp_path, np.full(HW, 255, np.uint8)), frame_hw=HW)
    assert np.unique(mask).tolist() == [1]


def test_ids_of_a_palette_png_keep_their_gaps(tmp_path: Path) -> None:
    labels = draw_disk(200)
    labels[:5, :5] = 3
    write_label_png(tmp_path / "m.png", labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", frame_hw=HW), labels)


def test_a_void_border_of_255_between_ids_is_background(tmp_path: Path) -> None:
    labels = draw_disk(7)
    labels[:, 28:32] = 255
    labels[:10, :20] = 2
    expected = np.where(labels == 255, 0, labels)
    np.testing.assert_array_equal(read_mask(save(tmp_path, labels), frame_hw=HW), expected)
    write_label_png(tmp_path / "palette.png", labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "palette.png", frame_hw=HW), expected)


def test_all_254_ids_at_once_are_read(tmp_path: Path) -> None:
    labels = np.kron(np.arange(256, dtype=np.uint8).reshape(16, 16), np.ones((5, 5), np.uint8))
    mask = read_mask(save(tmp_path, labels), frame_hw=(80, 80))
    np.testing.assert_array_equal(mask, np.where(labels == 255, 0, labels))


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
def test_an_anti_aliased_mask_is_explained(tmp_path: Path, sigma: float) -> None:
    path = save(tmp_path, cv2.GaussianBlur(draw_disk(), (0, 0), sigma))
    with pytest.raises(MaskError, match=r"anti-aliased.*--binarize.*palette PNG"):
        read_mask(path, frame_hw=HW)


@pytest.mark.parametrize("quality", [30, 75, 95, 100])
def test_a_binary_mask_saved_as_jpeg_is_explained(tmp_path: Path, quality: int) -> None:
    path = tmp_path / "m.jpg"
    cv2.imwrite(str(path), draw_disk(), [cv2.IMWRITE_JPEG_QUALITY, quality])
    with pytest.raises(MaskError, match="--binarize"):
        read_mask(path, frame_hw=HW)


def test_almost_white_beside_white_is_no_second_object(tmp_path: Path) -> None:
    image = draw_disk()
    image[20:26, 25:35] = 254
    with pytest.raises(MaskError, match="--binarize"):
        read_mask(save(tmp_path, image), frame_hw=HW)


def test_a_gradient_is_no_mask(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 3, (48, 1))
    with pytest.raises(MaskError, match="shaded"):
        read_mask(save(tmp_path, ramp), frame_hw=HW)


def test_a_mask_in_rgb_is_explained(tmp_path: Path) -> None:
    image = np.zeros((*HW, 3), np.uint8)
    image[10:20, 10:20] = (0, 0, 255)
    with pytest.raises(MaskError, match=r"RGB colours.*palette or gray PNG.*--binarize"):
        read_mask(save(tmp_path, image), frame_hw=HW)


def test_a_dark_mask_has_nothing_to_binarize(tmp_path: Path) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 2:5] = 1
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    with pytest.raises(MaskError, match="nothing in it is brighter than 127"):
        read_mask(tmp_path / "m.png", frame_hw=(8, 8), binarize=True)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_binarize_reads_gray_over_127_as_object_one(tmp_path: Path, suffix: str) -> None:
    blurred = cv2.GaussianBlur(draw_disk(), (0, 0), 2)
    path = save(tmp_path, np.asarray(blurred, np.uint8), suffix)
    mask = read_mask(path, frame_hw=HW, binarize=True)
    # a JPEG's values are a few off, which can move a pixel on the very edge
    assert np.count_nonzero(mask != (blurred > 127)) <= (0 if suffix == ".png" else 8)


def test_binarize_takes_any_bright_channel(tmp_path: Path) -> None:
    image = np.zeros((*HW, 3), np.uint8)
    image[10, 10], image[11, 11], image[12, 12] = (200, 0, 0), (0, 0, 128), (127, 127, 127)
    mask = read_mask(save(tmp_path, image), frame_hw=HW, binarize=True)
    assert np.argwhere(mask).tolist() == [[10, 10], [11, 11]]


def test_binarize_makes_one_object_of_all_ids_in_a_palette_png(tmp_path: Path) -> None:
    labels = draw_disk(8)  # its colour, (64, 0, 0), is dark
    labels[0, 0] = 1
    write_label_png(tmp_path / "m.png", labels)
    mask = read_mask(tmp_path / "m.png", frame_hw=HW, binarize=True)
    np.testing.assert_array_equal(mask, labels > 0)


def test_more_than_255_ids_are_refused(tmp_path: Path) -> None:
    labels = np.arange(HW[0] * HW[1], dtype=np.uint16).reshape(HW) % 400
    with pytest.raises(MaskError, match="at most 255 object ids"):
        read_mask(save(tmp_path, labels), frame_hw=HW)


def test_a_mask_of_another_size_offers_to_resize(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match=r"48x64.*expected 96x128.*--resize-mask"):
        read_mask(save(tmp_path, draw_disk()), frame_hw=(96, 128))


def test_resizing_takes_the_nearest_pixel(tmp_path: Path) -> None:
    mask = read_mask(save(tmp_path, draw_disk(5)), frame_hw=(96, 128), resize=True)
    np.testing.assert_array_equal(mask, np.kron(draw_disk(5), np.ones((2, 2), np.uint8)))


@given(hnp.array_shapes(min_dims=2, max_dims=2, min_side=4, max_side=90))
def test_resizing_to_any_size_invents_no_id(
    tmp_path_factory: pytest.TempPathFactory, frame_hw: tuple[int, int]
) -> None:
    assume(frame_hw[0] <= frame_hw[1])  # a mask on its side is refused
    path = tmp_path_factory.mktemp("masks") / "m.png"
    labels = draw_disk(5)
    labels[:, 40:] = 77
    write_label_png(path, labels)
    mask = read_mask(path, frame_hw=frame_hw, resize=True)
    assert mask.shape == frame_hw
    assert set(np.unique(mask)) <= {0, 5, 77}


def test_an_object_that_resizing_would_lose_is_named(tmp_path: Path) -> None:
    labels = draw_disk(5)
    labels[1, 1] = 9
    with pytest.raises(MaskError, match=r"\[9\] are too small"):
        read_mask(save(tmp_path, labels), frame_hw=(12, 16), resize=True)


@pytest.mark.parametrize("binarize", [False, True])
def test_a_mask_without_an_object_is_refused(tmp_path: Path, binarize: bool) -> None:
    with pytest.raises(MaskError, match="without an object"):
        read_mask(save(tmp_path, np.zeros(HW, np.uint8)), frame_hw=HW, binarize=binarize)


@pytest.mark.parametrize("binarize", [False, True])
def test_a_file_that_is_no_image_is_refused(tmp_path: Path, binarize: bool) -> None:
    (tmp_path / "m.png").write_text("no image")
    with pytest.raises(MaskError, match="no readable image"):
        read_mask(tmp_path / "m.png", frame_hw=HW, binarize=binarize)


@pytest.mark.parametrize("name", ["absent.png", "."])
def test_a_missing_mask_or_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(MaskError, match="cannot be read"):
        read_mask(tmp_path / name, frame_hw=HW)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.uint16, np.int32, np.int64])
def test_an_array_of_any_integer_type_becomes_ids(dtype: type) -> None:
    ids = check_mask(draw_disk(1).astype(dtype), HW)
    assert ids.dtype == np.uint8
    np.testing.assert_array_equal(ids, draw_disk(1))


def test_an_array_keeps_255_as_an_id() -> None:
    np.testing.assert_array_equal(check_mask(draw_disk(255), HW), draw_disk(255))


def test_a_view_becomes_contiguous() -> None:
    assert check_mask(np.asfortranarray(draw_disk(4)), HW).flags.c_contiguous


@given(st.integers(-300, 600).filter(lambda value: not 0 <= value <= 255))
def test_an_array_with_ids_out_of_range_is_refused(value: int) -> None:
    mask = draw_disk(1).astype(np.int32)
    mask[0, 0] = value
    with pytest.raises(MaskError, match="expected 0 to 255"):
        check_mask(mask, HW)


def test_an_array_of_floats_is_refused() -> None:
    with pytest.raises(MaskError, match="float64"):
        check_mask(draw_disk().astype(np.float64), HW)


@pytest.mark.parametrize("shape", [(64, 48), (48, 64, 1), (48,), (0, 0)])
def test_an_array_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MaskError, match="expected 48x64"):
        check_mask(np.ones(shape, np.uint8), HW)


def test_an_array_without_an_object_is_refused() -> None:
    with pytest.raises(MaskError, match="without an object"):
        check_mask(np.zeros(HW, np.uint8), HW)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (0, 0, 255)])
@pytest.mark.parametrize("binarize", [False, True])
def test_transparency_shows_the_object_where_the_colour_does_not(
    tmp_path: Path, colour: tuple[int, int, int], binarize: bool
) -> None:
    image = np.full((*HW, 4), 255, np.uint8)
    image[..., :3] = colour
    image[..., 3] = draw_disk()
    mask = read_mask(save(tmp_path, image), frame_hw=HW, binarize=binarize)
    np.testing.assert_array_equal(mask, draw_disk(1))


def test_transparency_shows_the_object_in_a_gray_picture_with_alpha(tmp_path: Path) -> None:
    path = tmp_path / "la.png"
    alpha = Image.fromarray(draw_disk())
    Image.merge("LA", [Image.new("L", HW[::-1], 255), alpha]).save(path)
    np.testing.assert_array_equal(read_mask(path, frame_hw=HW), draw_disk(1))


def test_ids_beside_transparent_background_stay_ids(tmp_path: Path) -> None:
    labels = draw_disk(2)
    labels[:5, :5] = 1
    image = np.dstack([np.where(labels > 0, labels, 77)] * 3 + [255 * (labels > 0)])
    mask = read_mask(save(tmp_path, image.astype(np.uint8)), frame_hw=HW)
    np.testing.assert_array_equal(mask, labels)


def test_opaque_pictures_are_read_by_their_colour(tmp_path: Path) -> None:
    image = np.dstack([draw_disk()] * 3 + [np.full(HW, 255, np.uint8)])
    np.testing.assert_array_equal(read_mask(save(tmp_path, image), frame_hw=HW), draw_disk(1))


def test_ids_in_a_jpeg_are_refused(tmp_path: Path) -> None:
    labels = draw_disk(2)
    labels[:16, :16] = 1
    with pytest.raises(MaskError, match="JPEG, which does not keep ids"):
        read_mask(save(tmp_path, labels, ".jpg"), frame_hw=HW)


@pytest.mark.parametrize("resize", [False, True])
@pytest.mark.parametrize("scale", [1, 2])
def test_a_mask_on_its_side_is_said_to_be_so(tmp_path: Path, resize: bool, scale: int) -> None:
    path = save(tmp_path, np.kron(draw_disk().T, np.ones((scale, scale), np.uint8)))
    with pytest.raises(MaskError, match=r"lies on its side.*turn the mask"):
        read_mask(path, frame_hw=HW, resize=resize)
