"""The commands, one module each; ``vcedge.cli`` opens them by name."""
