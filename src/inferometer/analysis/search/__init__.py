"""The search for the best settings: what to measure next, who leaves, who is confirmed. Pure: no I/O, no clock.

May import what `analysis` may, and Optuna, when it is used.
"""
