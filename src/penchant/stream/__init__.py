"""The loop that folds the log into state."""
