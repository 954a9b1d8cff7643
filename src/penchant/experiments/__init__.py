"""Arms of an experiment: who gets which, and what came of it."""
