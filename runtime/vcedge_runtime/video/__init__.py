"""Frames and masks in, masks, overlays and logs out; numpy and OpenCV alone."""
