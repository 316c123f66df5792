"""Many videos: the list of them, who works on it, and what became of each."""
