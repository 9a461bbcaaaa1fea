"""Convolutional synapses."""
