"""Where the current frame may look in a reference."""
