"""A graph as a network of connected Lava Processes."""

from __future__ import annotations

from typing import Any

import numpy as np

from pascal_nm import schedule
from pascal_nm.graph import Array, Conv2d, Dense, Graph, Identity, Population, Projection
from pascal_nm.process_models.analog.process import AnalogInput
from pascal_nm.process_models.conv import process as conv
from pascal_nm.process_models.dense import process as dense
from pascal_nm.process_models.identity import process as identity
from pascal_nm.process_models.max_pool.process import MaxPool
from pascal_nm.process_models.memory import Record, shared_zeros
from pascal_nm.process_models.pasc.process import Pasc
from pascal_nm.process_models.readout.process import Readout
from pascal_nm.process_models.timing import Cycle, Windows
from pascal_nm.result import Activity, RunResult
from pascal_nm.schedule import Schedule


class Network:
    """The Processes of a graph, connected, with the shared memory that they write their results to."""

    def __init__(self, graph: Graph, currents: Array, pipelined: bool) -> None:
        self.graph = graph
        self.currents = currents
        self.batches, self.batch = currents.shape[:2]
        self.schedule: Schedule = schedule.pasc(graph, delay=1)
        interval = self.schedule.initiation_interval if pipelined else self.schedule.steps
        self.cycle = Cycle(interval, self.batches)
        self.records: dict[str, Record] = {
            p.name: Record.create(self.batches, self.batch, p.shape)
            for p in graph.populations
            if p.kind in ("pasc", "max")
        }
        self.potential = shared_zeros((*currents.shape[:2], *graph.output.shape), graph.dtype)
        self.processes: dict[str, Any] = {p.name: self._population(p) for p in graph.populations}
        for projection in graph.projections:
            self._connect(projection)

    @property
    def entry(self) -> Any:
        """A Process of the network: Lava finds the others by their connections."""
        return self.processes[self.graph.input.name]

    @property
    def steps(self) -> int:
        """Timesteps until the last batch has left the network."""
        return int(self.cycle.interval * (self.batches - 1) + self.schedule.steps)

    def result(self, count: int) -> RunResult:
        """What the children wrote down about the first ``count`` inputs."""

        def flat(array: Array) -> Array:
            return array.reshape(-1, *array.shape[2:])[:count]

        scale = np.broadcast_to(self.graph.output.threshold, self.graph.output.shape).reshape(-1)
        return RunResult(
            counts={name: flat(record.counts) for name, record in self.records.items()},
            potential=flat(self.potential).reshape(count, self.graph.output.size),
            scale=np.asarray(scale, np.float64),
            activity={
                name: Activity(flat(r.emitted), flat(r.excitatory), flat(r.inhibitory))
                for name, r in self.records.items()
            },
            schedule=self.schedule,
        )

    def _population(self, p: Population) -> Any:
        timing = self._timing(self._listening(p), self._sending(p))
        if p.kind == "analog":
            return AnalogInput(currents=self.currents, cycle=self.cycle, timing=timing, name=p.name)
        if p.kind == "max":
            (projection,) = self.graph.incoming(p.name)
            assert projection.pool is not None, "Graph refuses a max population without a window"
            source = self.graph[projection.source]
            return MaxPool(
                shape_in=source.shape,
                window=projection.pool,
                sign=p.threshold,
                batch=self.batch,
                timing=self._timing(self._sending(source), self._sending(p)),
                record=self.records[p.name],
                name=p.name,
            )
        shared: dict[str, Any] = {
            "shape": p.shape,
            "bias": p.bias,
            "dtype": self.graph.dtype,
            "batch": self.batch,
            "cycle": self.cycle,
            "timing": timing,
            "name": p.name,
        }
        if p.kind == "readout":
            return Readout(window=self._listening(p), potential=self.potential, **shared)
        window = self.schedule.windows[p.name]
        return Pasc(vth=p.threshold, levels=p.levels, window=window, record=self.records[p.name], **shared)

    def _connect(self, projection: Projection) -> None:
        source, target = self.graph[projection.source], self.graph[projection.target]
        if target.kind == "max":
            self.processes[source.name].s_out.connect(self.processes[target.name].s_in)
            return
        synapse = self._synapse(projection, source, self._timing(self._sending(source), self._listening(target)))
        self.processes[projection.name] = synapse
        self.processes[source.name].s_out.connect(synapse.s_in)
        synapse.a_out.connect(self.processes[target.name].a_in)

    def _synapse(self, projection: Projection, source: Population, timing: Windows) -> Any:
        shared: dict[str, Any] = {
            "shape_in": source.shape,
            "pool": projection.pool,
            "batch": self.batch,
            "largest": source.levels if source.kind == "analog" else 1,
            "timing": timing,
            "name": projection.name,
        }
        match projection.operator:
            case Conv2d() as operator:
                return conv.Conv(**vars(operator), **shared)
            case Dense(weight):
                return dense.Dense(weight=weight, **shared)
            case Identity(weight):
                return identity.Identity(weight=weight, **shared)

    def _timing(self, receive: range, send: range) -> Windows:
        return Windows(receive, send, self.cycle)

    def _sending(self, p: Population) -> range:
        """The timesteps of batch 0 in which a population's spikes travel."""
        span = self.schedule.windows[p.name].emit
        return range(span.start, span.stop)

    def _listening(self, p: Population) -> range:
        """The timesteps of batch 0 in which currents reach a population, over all its projections."""
        arrivals = [self._sending(self.graph[q.source]) for q in self.graph.incoming(p.name)]
        if not arrivals:
            return range(0)
        return range(min(a.start for a in arrivals) + 1, max(a.stop for a in arrivals) + 1)
