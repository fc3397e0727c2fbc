"""Words and small tools that every other package may use: errors, units, text from outside, clock, extensions."""
