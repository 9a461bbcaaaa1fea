r"""The ``rate`` profile: one neuron for each neuron, spikes over T timesteps, approximate.

It is for readers that know nothing of PASC.

The classical conversion of a QCFS network (Bu et al., https://arxiv.org/abs/2303.04347): a
level c of L stands for a spike rate c / L, so that one spike of a population carries L levels
into the next, and a neuron with threshold 1, which begins at an initial potential of 1/2, gets
in every timestep

.. math:: \frac{z}{\theta L} .

NIR has no initial potential. Where a reader takes a neuron's reset from the file, moving the
potential's zero stands for one (:data:`pascal_nm.export.readers.Start`), and with a reset by
subtraction the network is that of Bu et al. spike for spike. The other readers get :math:`1 / 2T`
more in every timestep, with which spikes come late. What is lost in any case: the remainder of a
potential at the end, spikes that come too early or too late, and, in readers that reset to zero,
what exceeds the threshold. A max population fires when any neuron of its window does, which
overestimates the largest rate. The form of the file is that of :mod:`pascal_nm.export.chain`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nir
import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import ConversionError
from pascal_nm.export import chain
from pascal_nm.export.chain import Growth, Spread
from pascal_nm.export.profile import MOST_TIMESTEPS, Measured, describe
from pascal_nm.export.readers import Start, dialect, shifted
from pascal_nm.network.graph import Graph, Population

_JUST_ABOVE = 1 + 1 / MOST_TIMESTEPS["rate"]
"""What one spike must bring to make a neuron fire at once: above 1 for readers that ask for
more than the threshold, and so little above it that what is left adds up to no further spike
in all timesteps."""


def start_of(reader: str, wanted: str | None = None) -> Start:
    """How a file's neurons get their initial potential: as wanted, or the best of its reader.

    Raises:
        ConversionError: an unknown reader, or a start that it cannot do.
    """
    starts = dialect(reader).starts
    for start in starts:
        if wanted in (None, start):
            return start
    raise ConversionError(f"the neurons of a file for {reader} can start by {' or '.join(starts)}, not by {wanted!r}")


def write_rate(
    graph: Graph,
    path: str | Path,
    timesteps: int,
    reader: str = "generic",
    measured: Sequence[Measured] = (),
    start: str | None = None,
) -> Growth:
    """Write the rate network for one of :data:`pascal_nm.export.readers.READERS`.

    Args:
        graph: the network.
        path: of the file.
        timesteps: T, for how long an image is shown.
        reader: who will read it.
        measured: what is known of its accuracy; it goes into the file's metadata.
        start: one of :data:`pascal_nm.export.readers.Start`; None takes the best that
            the reader can do.

    Raises:
        ConversionError: the network would not fit in memory, or has a part without this form
            (:func:`pascal_nm.export.chain.plan`); a start that the reader cannot do.
        FileError: the file cannot be written.
    """
    coding = _Rates(timesteps, start_of(reader, start))
    layers, size = chain.plan(graph, coding)
    chain.write(_built(graph, layers, coding, reader, measured), path)
    return size


def rate_network(graph: Graph, timesteps: int, reader: str = "generic", start: str | None = None) -> nir.NIRGraph:
    """The rate network of a graph.

    Its input has shape (C, H, W); its output, to be added up over the timesteps, (classes, 1, 1).

    Raises:
        ConversionError: as :func:`write_rate`.
    """
    coding = _Rates(timesteps, start_of(reader, start))
    return _built(graph, chain.plan(graph, coding)[0], coding, reader, ())


def _built(
    graph: Graph, layers: Sequence[chain.Layer], coding: _Rates, reader: str, measured: Sequence[Measured]
) -> nir.NIRGraph:
    copies = chain.copies(graph, coding)
    profile = describe(graph, "rate", coding.timesteps, copies, tuple(measured), coding.start)
    return chain.build(graph, layers, shifted if coding.start == "shifted" else dialect(reader).integrator, profile)


class _Rates:
    """One copy of each neuron; one of its spikes stands for all L levels."""

    def __init__(self, timesteps: int, start: Start) -> None:
        if not 1 <= timesteps <= MOST_TIMESTEPS["rate"]:
            raise ConversionError(
                f"a rate network needs at least one timestep, not {timesteps}, "
                f"and has {MOST_TIMESTEPS['rate']:,} at most"
            )
        self.timesteps, self.start = timesteps, start
        # A neuron whose zero is moved fires half a threshold below what a spike brings, and
        # keeps nothing of it.
        self.spike = 1.0 if start == "shifted" else _JUST_ABOVE
        self.relay = (self.spike, 0.0)

    def copies(self, p: Population) -> int:
        return 1

    def amplitude(self, p: Population) -> float:
        return float(p.levels) if p.dynamics.sends else 1.0

    def spread(self, graph: Graph, p: Population) -> Spread:
        channels = p.shape[0]
        theta, bias = (np.broadcast_to(x.reshape(-1).astype(np.float64), channels) for x in (p.threshold, p.bias))
        per_step = 1 / (theta * p.levels)
        dripped = 0.5 / self.timesteps if self.start == "drip" else 0.0
        return Spread(lambda: np.diag(per_step)[:, :, None, None], bias * per_step + dripped)

    def either(self, window: int, sign: Array) -> tuple[float, Array]:
        if (sign < 0).any():
            raise ConversionError("a max-pooling over a QCFS with a negative threshold has no rate form")
        return self.spike, np.zeros(len(sign))
