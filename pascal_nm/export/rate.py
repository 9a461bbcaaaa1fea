r"""The ``rate`` profile: one neuron for each neuron, spikes over T timesteps, approximate, for readers that know nothing of PASC.

The classical conversion of a QCFS network (Bu et al., https://arxiv.org/abs/2303.04347): a level c of L stands for a spike rate c / L, so that one
spike of a population carries L levels into the next, and a neuron with threshold 1 gets, in every timestep,

.. math:: \frac{z}{\theta L} + \frac{1}{2 T}

whose last term is the initial potential of half a threshold, folded into the bias (NIR has no initial potential): after T timesteps it has
arrived in whole. What is lost: the remainder of a potential at the end, spikes that come too early or too late, and, in readers that reset to
zero, what exceeds the threshold. A max population fires when any neuron of its window does, which overestimates the largest rate. The form of
the file is that of :mod:`pascal_nm.export.chain`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nir
import numpy as np

from pascal_nm.errors import ConversionError
from pascal_nm.export import chain
from pascal_nm.export.chain import Growth, Spread
from pascal_nm.export.profile import MOST_TIMESTEPS, Measured, describe
from pascal_nm.export.readers import dialect
from pascal_nm.graph import Array, Graph, Population

JUST_ABOVE = 1 + 1 / MOST_TIMESTEPS["rate"]
"""What one spike must bring to make a neuron fire at once: above 1 for readers that ask for more than the threshold, and so little above it that
what is left adds up to no further spike in all timesteps."""


def write_rate(
    graph: Graph, path: str | Path, timesteps: int, reader: str = "generic", measured: Sequence[Measured] = ()
) -> Growth:
    """Write the rate network for one of :data:`pascal_nm.export.readers.READERS`.

    Args:
        graph: the network.
        path: of the file.
        timesteps: T, for how long an image is shown.
        reader: who will read it.
        measured: what is known of its accuracy; it goes into the file's metadata.

    Raises:
        ConversionError: the network would not fit in memory, or has a part without this form (:func:`pascal_nm.export.chain.plan`).
        FileError: the file cannot be written.
    """
    layers, size = chain.plan(graph, _Rates(timesteps))
    chain.write(_built(graph, layers, timesteps, reader, measured), path)
    return size


def rate_network(graph: Graph, timesteps: int, reader: str = "generic") -> nir.NIRGraph:
    """The rate network of a graph. Its input has shape (C, H, W); its output, to be added up over the timesteps, (classes, 1, 1).

    Raises:
        ConversionError: as :func:`write_rate`.
    """
    return _built(graph, chain.plan(graph, _Rates(timesteps))[0], timesteps, reader, ())


def _built(
    graph: Graph, layers: Sequence[chain.Layer], timesteps: int, reader: str, measured: Sequence[Measured]
) -> nir.NIRGraph:
    profile = describe(graph, "rate", timesteps, chain.copies(graph, _Rates(timesteps)), tuple(measured))
    return chain.build(graph, layers, dialect(reader).integrator, profile)


class _Rates:
    """One copy of each neuron; one of its spikes stands for all L levels."""

    relay = (JUST_ABOVE, 0.0)

    def __init__(self, timesteps: int) -> None:
        if not 1 <= timesteps <= MOST_TIMESTEPS["rate"]:
            raise ConversionError(
                f"a rate network needs at least one timestep, not {timesteps}, and has {MOST_TIMESTEPS['rate']:,} at most"
            )
        self.timesteps = timesteps

    def copies(self, p: Population) -> int:
        return 1

    def amplitude(self, p: Population) -> float:
        return float(p.levels) if p.kind in ("pasc", "max") else 1.0

    def spread(self, graph: Graph, p: Population) -> Spread:
        channels = p.shape[0]
        theta, bias = (np.broadcast_to(x.reshape(-1).astype(np.float64), channels) for x in (p.threshold, p.bias))
        per_step = 1 / (theta * p.levels)
        return Spread(lambda: np.diag(per_step)[:, :, None, None], bias * per_step + 0.5 / self.timesteps)

    def either(self, window: int, sign: Array) -> tuple[float, Array]:
        if (sign < 0).any():
            raise ConversionError("a max-pooling over a QCFS with a negative threshold has no rate form")
        return JUST_ABOVE, np.zeros(len(sign))
