"""Sources of requests: one module each. The same seed gives the same requests."""
