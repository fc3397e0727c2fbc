"""One study from start to end: the study loop, one trial, parallel trials, engines, progress, interrupts.

May import every package below it in the table of docs/architecture.md; prints nothing.
"""
