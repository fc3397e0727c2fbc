"""Study folders to trials, and trials to a Comparison."""
