"""State at rest: bytes by key behind a fence."""
