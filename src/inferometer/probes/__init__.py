"""Probes: readings of the machine and the engine during a trial. One module per source; `sampler` reads them."""
