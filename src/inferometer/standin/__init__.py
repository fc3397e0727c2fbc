"""Stand-in models: files of any shape, made on this machine, for use without a download.

They cost as much as a real model of that shape and behave like a small trained code model. `pairs` writes and caches
them; `model_names` resolves `standin:demo`.
"""
