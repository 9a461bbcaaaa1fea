"""The command line ``pascal-nm``: one module for each group of commands, one for what they print."""
