"""Other simulators' readers of NIR files, each in the Python environment where it is installed."""
