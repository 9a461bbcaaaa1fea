"""One-to-one synapses."""
