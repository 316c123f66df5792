"""How labels get from memory into the current frame."""
