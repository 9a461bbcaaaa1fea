"""A graph as a network of connected Lava Processes."""

from __future__ import annotations

from collections.abc import Callable
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
from pascal_nm.process_models.timing import Cycle, Rota, Turns, Windows
from pascal_nm.result import Activity, RunResult
from pascal_nm.schedule import Schedule
from pascal_nm.simulate import answers

LOOK = 2
"""Timesteps between two looks at whether a streaming network is quiet."""


class Network:
    """The Processes of a graph, connected, with the shared memory that they write their results to.

    Args:
        graph: the network.
        currents: (K, B, *input shape), K batches.
        pipelined: let a batch start when the first population is free, where it is known beforehand when that will be. Under ``streaming``, and
            where runs are stopped, batches take turns: each ends when it is quiet.
    """

    def __init__(self, graph: Graph, currents: Array, pipelined: bool) -> None:
        self.graph = graph
        self.currents = currents
        self.batches, self.batch = currents.shape[:2]
        self.schedule: Schedule = schedule.of(graph, delay=1)
        fixed = graph.timing.schedule != "streaming" and self.schedule.steps == self.schedule.length
        interval = self.schedule.initiation_interval if pipelined else self.schedule.steps
        self.cycle: Rota = Cycle(interval, self.batches) if fixed else Turns(self.batches)
        self.records: dict[str, Record] = {
            p.name: Record.create(self.batches, self.batch, p.shape, signed=self.schedule.streams)
            for p in graph.populations
            if p.kind in ("pasc", "max")
        }
        self.heard = self._listening(graph.output)
        shape = (self.batches, len(self.heard), self.batch, *graph.output.shape)
        self.potential = shared_zeros(shape, graph.dtype)
        self.ran = np.full(self.batches, self.schedule.steps)
        self.processes: dict[str, Any] = {p.name: self._population(p) for p in graph.populations}
        for projection in graph.projections:
            self._connect(projection)

    @property
    def entry(self) -> Any:
        """A Process of the network: Lava finds the others by their connections."""
        return self.processes[self.graph.input.name]

    def run(self, run: Callable[[int], None]) -> None:
        """All batches, by ``run``, which runs so many timesteps on from where its last call ended."""
        if isinstance(self.cycle, Cycle):
            run(self.cycle.interval * (self.batches - 1) + self.schedule.steps)
            return
        now = 0
        for batch in range(self.batches):
            self.cycle.starts[batch] = now
            self.ran[batch] = self._turn(batch, run)
            now += int(self.ran[batch])

    def _turn(self, batch: int, run: Callable[[int], None]) -> int:
        """One batch, until it is quiet or stopped; gives its timesteps."""
        done, steps = 0, max(window.begun for window in self.schedule.windows.values())
        while done < self.schedule.steps:
            steps = min(steps, self.schedule.steps - done)
            run(steps)
            done, steps = done + steps, LOOK
            if self.schedule.streams and (self._settled(batch) <= done).all():
                break
        return done

    def _settled(self, batch: int) -> Array:
        return self.schedule.settled({name: record.last[batch] for name, record in self.records.items()})

    def result(self, count: int) -> RunResult:
        """What the children wrote down about the first ``count`` inputs."""

        def flat(array: Array) -> Array:
            return array.reshape(-1, *array.shape[2:])[:count]

        output, streams = self.graph.output, self.schedule.streams
        scale = np.broadcast_to(output.threshold, output.shape).reshape(-1).astype(np.float64)
        potential = np.moveaxis(self._over_time(), 0, 1)  # (steps, K, B, ...)
        potential = potential.reshape(len(potential), -1, output.size)[:, :count]
        return RunResult(
            counts={name: flat(record.counts) for name, record in self.records.items()},
            potential=potential[-1],
            scale=scale,
            activity={
                name: Activity(_per_image(flat(r.sent)), flat(r.excitatory), flat(r.inhibitory))
                for name, r in self.records.items()
            },
            schedule=self.schedule,
            answers=answers(potential, scale),
            sent={name: flat(record.sent) for name, record in self.records.items()} if streams else None,
            settled=self.schedule.settled({n: flat(r.last) for n, r in self.records.items()}) if streams else None,
        )

    def _over_time(self) -> Array:
        """The readout's potential after each timestep of a batch, (K, steps, B, *shape): before it hears anything, and after a batch has ended."""
        bias = np.broadcast_to(np.asarray(self.graph.output.bias, self.graph.dtype), self.potential.shape[2:])
        over_time = np.empty((self.batches, self.schedule.steps, *self.potential.shape[2:]), self.graph.dtype)
        for batch, ran in enumerate(self.ran):
            heard = min(self.heard.stop, int(ran)) - self.heard.start
            over_time[batch, : self.heard.start] = bias
            if heard > 0:
                over_time[batch, self.heard.start : self.heard.start + heard] = self.potential[batch, :heard]
            over_time[batch, max(0, self.heard.start + heard) :] = (
                self.potential[batch, heard - 1] if heard > 0 else bias
            )
        return over_time

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
                receive=self._sending(source),
                sign=p.threshold,
                batch=self.batch,
                cycle=self.cycle,
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
            return Readout(window=self.heard, potential=self.potential, **shared)
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


def _per_image(sent: Array) -> Array:
    """Spikes of each image, (N,) int64, of each neuron's, (N, *shape)."""
    return np.asarray(sent.sum(tuple(range(1, sent.ndim)), dtype=np.int64))
