"""The analog input."""
