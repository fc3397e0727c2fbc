"""One study from start to end: the loop over rounds, one trial, engines, parallel trials, progress."""
