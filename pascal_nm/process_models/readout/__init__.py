"""The readout."""
