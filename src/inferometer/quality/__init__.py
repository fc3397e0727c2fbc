"""Answers checked: problem sets, the checks of their answers, and the sandbox in which other people's code runs."""
