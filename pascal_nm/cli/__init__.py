"""The command line: `pascal-nm`."""
