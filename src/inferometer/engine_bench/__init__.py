"""The work of `inferometer engine-bench`: measures llama-bench's rows with llama-bench itself or through a server.

`bench_run` is the entrance. What the rows mean is in `llama_bench`, which is pure.
"""
