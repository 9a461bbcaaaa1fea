"""Synapses of every kind."""
