"""Metrics from records: request timing, measures, rows, summaries, memory, energy, acceptance, statistics. Pure."""
