"""Where neurons are on a mapped chip, and the spikes of a run, for tests of both."""

import numpy as np

from pascal_nm.network import reach


def core_of(found, name):
    """The core of every neuron of a population, (C, H, W)."""
    cores = np.zeros(reach.volume(found.graph[name].shape), int)
    for number, block in enumerate(found.blocks[name].ranges()):
        cores[tuple(slice(*span) for span in block)] = number
    return cores + found.first[name]


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
