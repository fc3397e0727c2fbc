"""Servers that can be put under test: one module each, imported when an arm names its engine."""
