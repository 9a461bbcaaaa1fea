r"""Which neuron reaches which: the synapses of a projection, axis by axis or neuron by neuron.

Convolutions, poolings, identities and dense layers connect channels, rows and columns
independently: a :class:`Reach` has a small matrix for each, and a neuron at (c, y, x) of the target
has :math:`A_c[c, c'] \, A_y[y, y'] \, A_x[x, x']` synapses from the one at (c', y', x') of the
source. Others have a :class:`Pattern`, a sparse matrix of all neurons. A population (N,) is one of
shape (N, 1, 1). A pooling in front counts as part of the synapses, which is how a chip stores it: a
neuron in two windows drives both.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from pascal_nm.common.arrays import Array, Shape

Volume = tuple[int, int, int]
"""Channels, rows and columns."""


class Reach(NamedTuple):
    """Numbers of synapses by channel, row and column: int64 matrices (target, source)."""

    channels: Array
    rows: Array
    columns: Array

    @property
    def fan_out(self) -> Array:
        """Synapses that each source neuron drives, (C, H, W)."""
        return np.asarray(math.prod(np.ix_(*(axis.sum(0) for axis in self)), start=np.ones((), np.int64)))

    @property
    def fan_in(self) -> Array:
        """Synapses that drive each target neuron, (C, H, W)."""
        return np.asarray(math.prod(np.ix_(*(axis.sum(1) for axis in self)), start=np.ones((), np.int64)))

    def after(self, before: Reach) -> Reach:
        """The synapses behind a pooling."""
        return Reach(*(own @ other for own, other in zip(self, before, strict=True)))


class Pattern(NamedTuple):
    """Numbers of synapses, neuron by neuron.

    Attributes:
        matrix: int64 CSR (target neurons, source neurons), in the order of flattened populations.
        target: channels, rows and columns of the target.
        source: likewise.
    """

    matrix: Any
    target: Volume
    source: Volume

    @property
    def fan_out(self) -> Array:
        """As :attr:`Reach.fan_out`."""
        return np.asarray(self.matrix.sum(0)).reshape(self.source)

    @property
    def fan_in(self) -> Array:
        """As :attr:`Reach.fan_in`."""
        return np.asarray(self.matrix.sum(1)).reshape(self.target)

    def after(self, before: Reach) -> Pattern:
        """The synapses behind a pooling."""
        source = tuple(axis.shape[1] for axis in before)
        return Pattern((self.matrix @ kron(before)).tocsr(), self.target, source)

    @property
    def cover(self) -> Reach:
        """The least that has all these synapses, axis by axis: 1 where there may be some."""
        entries = self.matrix.tocoo()
        ends = [np.unravel_index(at, shape) for at, shape in ((entries.row, self.target), (entries.col, self.source))]
        axes = [np.zeros((to, of), np.int64) for to, of in zip(self.target, self.source, strict=True)]
        for axis, onto, of in zip(axes, *ends, strict=True):
            axis[onto, of] = 1
        return Reach(*axes)

    def heard(self, parts: Array, number: int) -> Any:
        """Which source neurons reach each of so many parts of the target.

        ``parts`` has the part of each target neuron, flat, -1 of none. Gives an int64 CSR matrix
        (parts, source neurons).
        """
        return (members(parts, number) @ self.matrix).sign()

    def reached(self, onto: Array, targets: int, of: Array, sources: int) -> Array:
        """How many neurons of each part of the source reach each part of the target.

        ``onto`` and ``of`` are as for :meth:`heard`. Gives (targets, sources).
        """
        return np.asarray((self.heard(onto, targets) @ members(of, sources).T).toarray())


Connections = Reach | Pattern
"""Of either kind."""


def members(parts: Array, number: int) -> Any:
    """1 where a neuron belongs to a part, int64 CSR (parts, neurons); see :meth:`Pattern.heard`."""
    from scipy import sparse

    (neurons,) = np.nonzero(parts >= 0)
    shape = (number, len(parts))
    return sparse.csr_matrix((np.ones(len(neurons), np.int64), (parts[neurons], neurons)), shape)


def kron(axes: Reach) -> Any:
    """The synapses neuron by neuron, CSR (target neurons, source neurons)."""
    from scipy import sparse

    channels, rows, columns = map(sparse.csr_matrix, axes)
    return sparse.kron(sparse.kron(channels, rows, "csr"), columns, "csr")


def volume(shape: Shape) -> Volume:
    """The shape with three axes."""
    channels, height, width = (*shape, 1, 1)[:3]
    return channels, height, width


class Places(NamedTuple):
    """Along one axis, target, kernel and source positions that belong together: int64 (n,) each."""

    target: Array
    kernel: Array
    source: Array

    @staticmethod
    def of(target: int, source: int, kernel: int, stride: int, padding: int, dilation: int) -> Places:
        """Of windows of a convolution or pooling; the number of targets is given."""
        i, k = (each.reshape(-1) for each in np.mgrid[:target, :kernel])
        position = i * stride - padding + k * dilation
        inside = (position >= 0) & (position < source)
        return Places(i[inside], k[inside], position[inside])

    def matrix(self, target: int, source: int) -> Array:
        """How often a target and a source belong together, int64 (target, source)."""
        found = np.zeros((target, source), np.int64)
        np.add.at(found, (self.target, self.source), 1)
        return found
