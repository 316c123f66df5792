"""First masks: from boxes and clicks to the mask of a frame."""
