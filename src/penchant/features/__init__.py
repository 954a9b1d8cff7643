"""From the log to features: definitions, the fold that keeps their state, and the readers that finish them."""
