"""Where neurons are on a mapped chip, and the spikes of a run, for tests of both."""

import dataclasses

import numpy as np
import torch

from pascal_nm.network import reach
from pascal_nm.simulation import simulate


def core_of(found, name):
    """The core of every neuron of a population, (C, H, W)."""
    cores = np.zeros(reach.volume(found.graph[name].shape), int)
    for number, block in enumerate(found.blocks[name].ranges()):
        cores[tuple(slice(*span) for span in block)] = number
    return cores + found.first[name]


def synapses(projection, shape):
    """Number of synapses between single neurons, (targets, sources), by sending one
    spike at a time.
    """
    ones = dataclasses.replace(projection.operator, weight=np.ones_like(projection.operator.weight))
    send = simulate.delivery(dataclasses.replace(projection, operator=ones), np.dtype(np.float64))
    unit = torch.eye(int(np.prod(shape)), dtype=torch.float64).reshape(-1, *shape)
    return send(unit).reshape(len(unit), -1).numpy().T


class Trains:
    """A watcher that keeps the spikes of a run: by population, the first timestep and the train
    (steps, N, *shape).
    """

    def start(self, images, plan):
        self.kept, self.images, self.plan = {}, images, plan
        return self

    def see(self, name, train, first):
        self.kept[name] = (first, train)

    def events(self):
        return None
