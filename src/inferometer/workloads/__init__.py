"""Where requests come from: one module each, the same seed gives the same requests."""
