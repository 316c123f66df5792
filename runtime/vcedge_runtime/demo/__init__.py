"""A clip with exact masks, rendered on the spot."""
