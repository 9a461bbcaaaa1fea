"""Neurons that pass on sums."""
