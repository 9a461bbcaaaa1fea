"""The max-pooling neuron."""
