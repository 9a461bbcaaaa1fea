"""One page about a network, to read, to show and to send.

:mod:`collect` runs and counts, :mod:`page` shows what was counted.
"""
