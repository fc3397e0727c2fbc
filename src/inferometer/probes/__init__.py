"""What does the machine say while an engine works? One module a source; `sampler` reads them all."""
