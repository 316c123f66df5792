"""One video's state from frame to frame, and the contract that the tracker knows it by."""
