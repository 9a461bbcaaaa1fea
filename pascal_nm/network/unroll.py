r"""Unrolling: every neuron of L levels becomes L neurons of one level.

The count of a neuron (:mod:`pascal_nm.network.graph`) is the number of thresholds that its
potential reaches,

.. math::
    \mathrm{clip}\!\left(\left\lfloor \frac{z}{\theta} + \frac12 \right\rfloor, 0, L\right)
    = \sum_{k=1}^{L} \left[z \ge (k - \tfrac12) \, \theta\right],

so *copy* k is the same neuron with one level and the bias :math:`b - (k - 1) \, \theta`, and spikes
once or not at all. All copies of a neuron hear all copies of its sources through the same weights.
In integers, where the initial potential is :math:`\lfloor \theta / 2 \rfloor`, this is exact for
odd thresholds too: :math:`\lfloor (z + \lfloor \theta / 2 \rfloor) / \theta \rfloor \ge k` is
:math:`z - (k - 1) \, \theta + \lfloor \theta / 2 \rfloor \ge \theta`.

The largest count of a window is the number of k that some count in it reaches: a max population
becomes the OR of each copy. The smallest is the number of k that all reach, the AND. What a linear
population adds up is the same sum over copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import GraphError
from pascal_nm.network.graph import Graph, Population, Projection

_MOST_WEIGHTS = 1 << 30
"""Weights of an unrolled projection beyond which it would take gigabytes."""


def unroll(graph: Graph) -> Graph:
    """The same network with copies of one level in place of neurons of several.

    It is an ordinary network, for every schedule and target: larger, and done in fewer timesteps,
    as no neuron waits for a spike train. Populations keep their names; copies 1 to L of channel c
    are the L channels from ``c * L`` on. :func:`rolled` gives the counts of the neurons that the
    copies stand for. Input, readout, preprocessing, classes and timing stay. So does the recipe of
    an integer network, but for the significant bits of its biases, of which copies need more: for a
    chip whose registers are short of them, unroll the float network and fit that.

    Args:
        graph: float or integer. In integers all counts and outputs stay bit for bit; in floats up
            to ties.

    Raises:
        GraphError: it would be too large, a bias would not fit into 32 bits, or an operator cannot
            be unrolled.
    """
    made = graph.quantization
    return graph.replace(
        populations=tuple(map(_copied, graph.populations)),
        projections=tuple(_repeated(graph, q) for q in graph.projections),
        quantization=None if made is None else replace(made, bias_bits=0),
    )


def rolled(graph: Graph, counts: Mapping[str, Array]) -> dict[str, Array]:
    """What the spike counts of an unrolled network say of the network that it was made of.

    Args:
        graph: the network before :func:`unroll`.
        counts: by population, (N, *shape of the copies).

    Returns:
        By population the sums over each neuron's copies, (N, *shape), in the counts' own type.
    """
    found = {}
    for name, count in counts.items():
        shape = graph[name].shape
        each = count.reshape(len(count), shape[0], -1, *shape[1:])
        found[name] = each.sum(2, dtype=count.dtype)
    return found


def _copies(p: Population) -> int:
    """One for each level of what a population sends."""
    return p.levels if p.dynamics.counted else 1


def _copied(p: Population) -> Population:
    copies = _copies(p)
    if copies == 1:
        return p
    threshold, bias = (np.broadcast_to(x, (p.shape[0], *x.shape[1:])).repeat(copies, 0) for x in (p.threshold, p.bias))
    if p.dynamics.fires:
        if not p.dynamics.is_qcfs:
            raise GraphError(f"population {p.name!r}: neurons of kind {p.kind} have no copies of one level")
        below = np.tile(np.arange(copies), p.shape[0]).reshape(-1, *(1,) * (threshold.ndim - 1))
        bias = _narrowed(bias - below * threshold, p)
    return replace(p, shape=(p.shape[0] * copies, *p.shape[1:]), levels=1, threshold=threshold, bias=bias)


def _narrowed(bias: Array, p: Population) -> Array:
    """Biases in the type that graphs have them in."""
    if not np.issubdtype(bias.dtype, np.integer):
        return bias.astype(p.bias.dtype)
    largest = int(np.abs(bias).max())
    if largest > np.iinfo(np.int32).max:
        raise GraphError(f"unrolled, the bias of {p.name} reaches {largest:,}, beyond 32 bits: use fewer levels")
    return bias.astype(np.int32)


def _repeated(graph: Graph, q: Projection) -> Projection:
    source, target = graph[q.source], graph[q.target]
    inputs, outputs = _copies(source), _copies(target)
    if inputs == outputs == 1 or target.dynamics.relays:  # a max population hears its like, copy by copy
        return q
    if q.operator.weight.size * inputs * outputs > _MOST_WEIGHTS:
        raise GraphError(
            f"unrolled, the projection {q.source} -> {q.target} has {q.operator.weight.size * inputs * outputs:,} "
            "weights, too many: use fewer levels"
        )
    shape = q.pooled(source.shape)
    try:
        return replace(q, operator=q.operator.repeated(inputs, outputs, shape))
    except GraphError as error:
        raise GraphError(f"projection {q.source} -> {q.target}: {error}") from None
