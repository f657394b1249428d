"""Weighted matrix factorization: one file a method, named after it."""
