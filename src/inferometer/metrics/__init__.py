"""Numbers from records: request timing, measures, rows, memory, energy, acceptance, statistics. Pure."""
