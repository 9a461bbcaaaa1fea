"""Neurons that pass on the largest of sums."""
