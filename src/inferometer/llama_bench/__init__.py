"""Rows of llama-bench and what they say about a card: efficiency, card limits, GGUF facts. Pure."""
