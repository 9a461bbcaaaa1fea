"""Threshold copies: networks on chips whose neurons are fixed compartments, such as Loihi 1.

:mod:`.lowering` decides what a chip is loaded with, :mod:`.program` holds and executes it,
:mod:`.files` keeps it in a bundle.
"""
