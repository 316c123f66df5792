"""Runs a tracker over video and records what an INT8 export needs."""
