"""Indexes of learned item vectors: the items whose inner product with a query is largest."""
