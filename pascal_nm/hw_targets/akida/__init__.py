"""BrainChip's Akida: networks as its layers, in plain arrays of what its registers hold."""
