"""What this machine is and what of vcedge can run on it."""
