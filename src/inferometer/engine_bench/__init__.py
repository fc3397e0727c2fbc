"""The work of `inferometer engine-bench`: rows from llama-bench's binary, or from a server."""
