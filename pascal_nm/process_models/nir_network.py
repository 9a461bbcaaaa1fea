"""A NIR graph as a network of connected Lava Processes, one for each node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nir
import numpy as np
from torch import nn

from pascal_nm.graph import Array, Shape
from pascal_nm.process_models.analog.process import AnalogInput
from pascal_nm.process_models.memory import Record, shared_zeros
from pascal_nm.process_models.nir_node.process import NirNode
from pascal_nm.process_models.readout.process import Readout
from pascal_nm.process_models.timing import Cycle


class NirNetwork:
    """The Processes of a flat, acyclic graph. Nothing is delayed: what a node sends arrives in the same timestep.

    Args:
        raw: the graph.
        modules: of each node between input and output, by its name.
        shapes: what each of them sends, without the batch.
        firing: names of the nodes whose spikes are counted.
        inputs: one batch, (B, *shape).
        timesteps: for how long the batch is shown.
    """

    def __init__(
        self,
        raw: nir.NIRGraph,
        modules: Mapping[str, nn.Module],
        shapes: Mapping[str, Shape],
        firing: set[str],
        inputs: Array,
        timesteps: int,
    ) -> None:
        batch, cycle = len(inputs), Cycle(timesteps, 1)
        self._records = {name: Record.create(1, batch, shapes[name]) for name in firing}
        (source,) = (name for name, node in raw.nodes.items() if isinstance(node, nir.Input))
        (sink,) = (name for name, node in raw.nodes.items() if isinstance(node, nir.Output))
        arriving = {target: shapes.get(first, inputs.shape[1:]) for first, target in raw.edges}
        self._sums = shared_zeros((1, timesteps, batch, *arriving[sink]), inputs.dtype)
        self.entry: Any = AnalogInput(currents=inputs[None], cycle=cycle, repeat=timesteps, name=source)
        readout = Readout(
            shape=arriving[sink],
            window=range(timesteps),
            dtype=inputs.dtype,
            batch=batch,
            potential=self._sums,
            name=sink,
        )
        processes: dict[str, Any] = {source: self.entry, sink: readout}
        for name, module in modules.items():
            processes[name] = NirNode(
                module=module,
                shape_in=arriving[name],
                shape_out=shapes[name],
                dtype=inputs.dtype,
                batch=batch,
                cycle=cycle,
                record=self._records.get(name),
                name=name,
            )
        self.processes = list(processes.values())
        for first, target in raw.edges:
            processes[first].s_out.connect(processes[target].a_in)

    @property
    def outputs(self) -> Array:
        """Sums at the output node, (B, outputs)."""
        total = self._sums[0, -1]
        return np.asarray(total.reshape(len(total), -1))

    @property
    def counts(self) -> dict[str, Array]:
        """Spikes of each neuron by spiking node, (B, *shape)."""
        return {name: record.counts[0].astype(np.int32) for name, record in self._records.items()}
