"""Problem sets: one module each. A set is a workload, so that the timed answers are the checked ones."""
