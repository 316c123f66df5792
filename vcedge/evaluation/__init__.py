"""The standard protocols that measure a tracker against ground truth."""
