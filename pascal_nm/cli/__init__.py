"""The command line ``pascal-nm``: a module for each group of commands, one for what they print."""

import os

# Threads that wait sleep: on a machine with other load, torch's spinning ones make small networks a
# hundred times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
