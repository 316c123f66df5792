"""Back-ends that run a graph on named buffers."""
