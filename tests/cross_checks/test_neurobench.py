"""Synaptic operations against NeuroBench's effective accumulates, on the same network and spikes
(`make cross-checks`).
"""

import numpy as np
import pytest
import torch
from torch import nn

from pascal_nm import build, convert, data, quantize
from pascal_nm.network.operators import Conv2d, Dense
from pascal_nm.simulation import events, simulate
from tests import networks
from tests.cores import Trains

pytest.importorskip("neurobench")
from neurobench.metrics.workload import SynapticOperations
from neurobench.models import TorchModel


class Connections(nn.Module):
    """The synapses of a graph as torch layers, shown the spikes of a run timestep by timestep."""

    def __init__(self, graph, trains):
        super().__init__()
        self.layers, self.trains, self.pools = nn.ModuleList(), [], []
        for q in graph.projections:
            if graph[q.target].kind == "max":
                continue
            weight = torch.from_numpy(q.operator.weight.astype(np.float32))
            if isinstance(q.operator, Conv2d):
                o = q.operator
                layer = nn.Conv2d(weight.shape[1], len(weight), weight.shape[2:], o.stride, o.padding, bias=False)
            else:
                assert isinstance(q.operator, Dense)
                layer = nn.Linear(weight.shape[1], len(weight), bias=False)
            layer.weight.data = weight
            self.layers.append(layer)
            self.trains.append(trains[q.source][1])
            self.pools.append(q.pool)

    def forward(self, x):
        for layer, train, pool in zip(self.layers, self.trains, self.pools, strict=True):
            for spikes in train:
                frame = spikes.float() if pool is None else simulate.sum_pool(spikes.float(), pool)
                layer(frame.flatten(1) if isinstance(layer, nn.Linear) else frame)
        return torch.zeros(len(x), 10)


def effective(graph, trains, inputs, *, zeros):
    """NeuroBench's accumulates per image; weights of zero count as synapses where
    ``zeros`` is true.
    """
    connections = Connections(graph, trains)
    for layer in connections.layers:
        if zeros:
            layer.weight.data[layer.weight == 0] = 1
    model = TorchModel(connections)
    model.add_activation_module(nn.ReLU)
    model.register_hooks()
    model(inputs)
    return SynapticOperations()(model, None, (inputs, torch.zeros(len(inputs))))["Effective_ACs"]


def test_operations_are_neurobenchs_effective_accumulates():
    """The converted digits network, exactly.

    NeuroBench leaves out two kinds of synapses that a chip has, and that ours counts: those whose
    weight is zero, and those onto max-pooling neurons, which are no layer with weights there.
    """
    images = data.load("digits", limit=8)
    module = networks.randomized(build("cnn", images.shape, 10, 4, pool="max"))
    inputs = torch.from_numpy(images.preprocessing()(images.pixels))
    graph = quantize(convert(module, inputs, preprocessing=images.preprocessing()), 8)
    trains = Trains()
    result = simulate.steps(graph, inputs.numpy(), watcher=trains)
    counted = {layer.name: float(layer.synaptic_operations.mean()) for layer in events.count(graph, result)}
    pooled = sum(counted[p.name] for p in graph.populations if p.kind == "max")
    ours = sum(counted.values()) - pooled
    assert pooled > 0
    assert effective(graph, trains.kept, inputs, zeros=True) == ours
    assert 0.9 * ours < effective(graph, trains.kept, inputs, zeros=False) < ours
