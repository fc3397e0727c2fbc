"""Fakes, servers with known truth, and contract tests, for this project and for extensions."""
