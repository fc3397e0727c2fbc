"""Readers of other tools' files, and what their numbers mean. Pure, except `inputs`, which opens files."""
