"""Faults under load on a real cluster of parts, and the proof that nothing was lost, doubled or wrong: `make chaos`."""
