"""From a frame as it was read to what an encoder takes: colour, size, motion."""
