"""Basics for every other package: errors, units, text from outside, redactor, clock, extensions."""
