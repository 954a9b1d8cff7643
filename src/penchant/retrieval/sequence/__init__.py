"""The sequence encoder: a small transformer over the live history, trained with JAX and served by NumPy."""
