"""Readers of NIR files, and the dialect of each.

The dialect is the node that runs there as a neuron that adds its input and fires at 1.

All that differs from reader to reader stands in :data:`READERS`; docs/nir.md has the
cases behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import nir
import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import ConversionError
from pascal_nm.export.nir_neuron import Reset

Node = Callable[[Array], nir.NIRNode]
"""Makes a spiking node with threshold 1, given ones of its shape."""

Start = Literal["shifted", "drip"]
"""How the neurons of a rate network get their initial potential of half a threshold; NIR has
no field for one.

============  ======================================================================================
``shifted``   the potential's zero is moved: a neuron that begins at 0, fires above 1/2 and goes to
              -1/2 is one that begins half a threshold above its reset
``drip``      the half arrives in equal parts over all timesteps, the rest of it with the last one
============  ======================================================================================
"""

_LIF_DT = 1e-4
"""The length of a timestep that readers assume of a LIF node, in seconds."""


class Dialect(NamedTuple):
    """What a reader takes.

    Attributes:
        single: a neuron for a single timestep from rest; leak and reset do not matter.
        integrator: a neuron without leak, for many timesteps.
        after_spike: what the reader's neuron does after a spike: ``zero`` (reset to 0) or
            ``subtract`` (the threshold).
        several: whether its neuron may spike several times in a timestep.
        starts: what of :data:`Start` its neurons can do, the best first: ``shifted`` where they
            take ``v_reset`` from the file and begin at 0.
    """

    single: Node
    integrator: Node
    after_spike: Reset
    several: bool
    starts: tuple[Start, ...] = ("drip",)


def _if(ones: Array) -> nir.NIRNode:
    return nir.IF(ones, ones, np.zeros_like(ones))


def shifted(ones: Array) -> nir.NIRNode:
    """A neuron that begins half a threshold of 1 above where a reset would put it.

    The reset is NIR's own, or the threshold's subtraction.
    """
    return nir.IF(ones, 0.5 * ones, -0.5 * ones)


def _lif(tau: float) -> Node:
    """A LIF node; r = tau / dt makes every input count whole."""

    def make(ones: Array) -> nir.NIRNode:
        zeros = np.zeros_like(ones)
        return nir.LIF(ones * tau, ones * (tau / _LIF_DT), zeros, ones, zeros)

    return make


def _refused(why: str) -> Node:
    """For what has no form in a reader."""

    def make(ones: Array) -> nir.NIRNode:
        raise ConversionError(why)

    return make


def _no_reader(tool: str) -> Dialect:
    refused = _refused(f"no release of {tool} reads NIR files: there is nothing that a file could be written for")
    return Dialect(refused, refused, "zero", several=True)


READERS: dict[str, Dialect] = {
    # Read as NIR is written: from rest at 0, and to the file's v_reset after a spike (or by as much
    # as lies between).
    "generic": Dialect(_if, _if, "zero", several=True, starts=("shifted", "drip")),
    "norse": Dialect(_if, _if, "zero", several=False),
    # Its nir knows no v_reset; Norse's, snnTorch's and Spyx's importers leave it out, and
    # SpikingJelly's neurons begin at it.
    "sinabs": Dialect(_if, _if, "subtract", several=True),
    "spikingjelly": Dialect(_if, _if, "zero", several=False),  # import_from_nir(file, dt=1.0)
    # Its importer gives IF nodes a leak, and cannot run them inside a graph.
    "snntorch": Dialect(_lif(1e-3), _lif(100.0), "zero", several=False),
    "spyx": Dialect(
        _refused(
            "Spyx's neurons fire one timestep after they are charged, so nothing is exact in one: take --profile rate"
        ),
        _if,
        "subtract",
        several=False,
    ),
    "nengo": _no_reader("Nengo"),
    "lava-dl": _no_reader("Lava-DL"),
}
"""Dialects by reader."""


def dialect(reader: str) -> Dialect:
    """The dialect of a reader.

    Raises:
        ConversionError: an unknown reader.
    """
    if reader not in READERS:
        raise ConversionError(f"unknown reader {reader!r}: choose from {', '.join(READERS)}")
    return READERS[reader]
