"""Judgements from numbers: comparison, validity findings, pairing of arms, stopping rules. Pure."""
