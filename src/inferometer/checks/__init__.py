"""Checks of this machine: `calibrate` (the client's clock) and `doctor` (what is installed)."""
