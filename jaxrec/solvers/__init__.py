"""Numerical algorithms that know nothing of recommending."""
