"""Networks in PyTorch, and their weights."""
