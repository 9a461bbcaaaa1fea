"""A whole spiking network as one Process."""
