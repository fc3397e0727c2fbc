"""Judgements from metrics: comparison, verdicts, validity findings, pairing of arms, stopping rules. Pure."""
