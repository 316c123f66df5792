"""A mask that the page hands over: a file of others, which is read as any such file."""

from __future__ import annotations

import tempfile

from vcedge.studio.records import Labels
from vcedge_runtime.errors import MaskError
from vcedge_runtime.video.masks import read_mask
from vcedge_runtime.video.opencv import count_pixels

MOST_BYTES, MOST_PIXELS = 2**24, 2**25
"""Of a mask (our choice): 33 million pixels are 8K."""


def mask_from_upload(data: bytes, frame_hw: tuple[int, int]) -> Labels:
    """Read a mask that was uploaded.

    Args:
        data: the file, which may mean harm.
        frame_hw: height and width of the frame; a mask of another size is brought to it.

    Returns:
        (H, W) uint8 object ids.

    Raises:
        MaskError: it is too large, or no mask.
    """
    pixels = count_pixels(data)
    if not pixels:
        raise MaskError("received a file that is no picture; expected a palette PNG")
    if len(data) > MOST_BYTES or pixels > MOST_PIXELS:
        raise MaskError(
            f"received a mask of {len(data):,} bytes and {pixels:,} pixels; expected at most "
            f"{MOST_BYTES:,} and {MOST_PIXELS:,}; save it smaller"
        )
    with tempfile.NamedTemporaryFile(prefix="vcedge-mask-", suffix=".png") as file:
        file.write(data)
        file.flush()
        try:
            return read_mask(file.name, frame_hw=frame_hw, resize=True)
        except MaskError as exc:
            raise MaskError(str(exc).replace(file.name, "the mask")) from exc
