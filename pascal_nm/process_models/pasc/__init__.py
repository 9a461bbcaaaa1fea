"""The PASC integrate-and-fire neuron."""
