"""The frames that are kept, and which of them are read."""
