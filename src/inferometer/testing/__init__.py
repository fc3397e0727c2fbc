"""Fakes, servers that know the truth, and contracts: for the tests of this project and of extensions."""
