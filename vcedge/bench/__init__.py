"""How fast a tracker runs here, what bounds it, and what other boards would do."""
