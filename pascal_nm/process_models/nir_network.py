"""A NIR graph as a network of connected Lava Processes, one for each node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from torch import nn

from pascal_nm.common.arrays import Array
from pascal_nm.export.nir_nodes import Plan
from pascal_nm.process_models.analog.process import AnalogInput
from pascal_nm.process_models.memory import Record, shared_zeros
from pascal_nm.process_models.nir_node.process import NirNode
from pascal_nm.process_models.readout.process import Readout
from pascal_nm.process_models.timing import Cycle


class NirNetwork:
    """The Processes of a graph.

    What a node sends arrives in the same timestep, but over the plan's late edges in the next.

    Args:
        plan: the graph's.
        modules: of each node between input and output, by its name.
        firing: names of the nodes whose spikes are counted.
        inputs: one batch: (1, B, *shape), shown in every timestep, or (T, B, *shape).
        timesteps: T, for how long the batch is shown.
    """

    def __init__(
        self,
        plan: Plan,
        modules: Mapping[str, nn.Module],
        firing: set[str],
        inputs: Array,
        timesteps: int,
    ) -> None:
        batch, cycle = inputs.shape[1], Cycle(timesteps, 1)
        arriving = {name: plan.shapes[sources[0]] for name, sources in plan.sources.items() if sources}
        self._records = {name: Record.create(1, batch, plan.shapes[name]) for name in firing}
        self._sums = shared_zeros((batch, *arriving[plan.sink]), inputs.dtype)
        every = as_strided(self._sums, (1, timesteps, *self._sums.shape), (0, 0, *self._sums.strides))
        shown = Cycle(timesteps // len(inputs), len(inputs))
        self.entry: Any = AnalogInput(currents=inputs, cycle=shown, repeat=shown.interval, name=plan.source)
        readout = Readout(
            shape=arriving[plan.sink],
            window=range(timesteps),
            dtype=inputs.dtype,
            batch=batch,
            potential=every,  # each timestep over the one before
            name=plan.sink,
        )
        processes: dict[str, Any] = {plan.source: self.entry, plan.sink: readout}
        for name, module in modules.items():
            processes[name] = NirNode(
                module=module,
                shape_in=arriving[name],
                shape_out=plan.shapes[name],
                dtype=inputs.dtype,
                batch=batch,
                cycle=cycle,
                record=self._records.get(name),
                name=name,
            )
        self.processes = list(processes.values())
        for name, sources in plan.sources.items():
            for source in sources:
                inlet = "late_in" if (source, name) in plan.late else "a_in"
                processes[source].s_out.connect(getattr(processes[name], inlet))

    @property
    def outputs(self) -> Array:
        """Sums at the output node, (B, outputs)."""
        return np.asarray(self._sums.reshape(len(self._sums), -1))

    @property
    def counts(self) -> dict[str, Array]:
        """Spikes of each neuron by spiking node, (B, *shape)."""
        return {name: record.counts[0].astype(np.int32) for name, record in self._records.items()}
