"""Relays: neurons that pass spikes on one timestep later, so that no way is shorter than another.

Where every neuron answers in the timestep after its input, and forgets it, the spikes of one image
have to meet: all projections onto a population must come from populations of the same depth. A
shorter way (a shortcut, an early readout) gets relays: max populations with windows of one neuron,
or neurons of threshold 1, whose level is what comes.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from pascal_nm.network.graph import Graph, Population, Projection
from pascal_nm.network.operators import Identity, SumPool2d


def depths(graph: Graph) -> dict[str, int]:
    """By population the number of projections on the longest way from the input; 0 of the input."""
    found: dict[str, int] = {}
    for p in graph.populations:
        found[p.name] = max((found[q.source] + 1 for q in graph.incoming(p.name)), default=0)
    return found


def balanced(graph: Graph) -> Graph:
    """The same network, in which all that meets in a population has come the same number of steps.

    Counts and outputs stay; relays have those of what they relay. The network's input gets none:
    whoever injects it can do so again, so many timesteps later as :func:`depths` differ.
    """
    depth = depths(graph)
    late = {
        name: max((depth[q.target] - 1 for q in graph.outgoing(name)), default=depth[name])
        for name in depth
        if not graph[name].dynamics.injects
    }
    if all(late[name] <= depth[name] for name in late):
        return graph
    taken = {p.name for p in graph.populations}
    populations: list[Population] = []
    projections: list[Projection] = []
    sender: dict[tuple[str, int], str] = {}
    """By population and timestep who sends its spikes."""
    for p in graph.populations:
        populations.append(p)
        sender[p.name, depth[p.name]] = before = p.name
        for t in range(depth[p.name] + 1, late.get(p.name, 0) + 1):
            name = _free(f"{p.name}_relay{t - depth[p.name]}", taken)
            one = np.ones((1,) * len(p.shape), np.int32 if graph.is_integer else graph.dtype)
            # Windows have rows and columns; without these, the level of a count is the count.
            kind, pool = ("max", SumPool2d((1, 1), (1, 1))) if len(p.shape) == 3 else ("pasc", None)
            populations.append(Population(name, kind, p.shape, p.levels, one, np.zeros_like(one)))
            weight = one.astype(np.int8) if graph.is_integer else one
            projections.append(Projection(before, name, Identity(weight), pool))
            sender[p.name, t] = before = name
    for q in graph.projections:
        source = q.source
        if not graph[source].dynamics.injects:
            source = sender[source, depth[q.target] - 1]
        projections.append(replace(q, source=source))
    return graph.replace(populations=tuple(populations), projections=tuple(projections))


def _free(name: str, taken: set[str]) -> str:
    """The name, or the first of its like that no population has."""
    free = next(n for n in itertools.chain([name], (f"{name}_{i}" for i in itertools.count())) if n not in taken)
    taken.add(free)
    return free
