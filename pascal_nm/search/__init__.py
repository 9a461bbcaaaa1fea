"""Searches and comparisons of networks: bits, lags, levels, other methods."""
