"""A graph as a network of connected Lava Processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.network.graph import Graph, Population, Projection
from pascal_nm.process_models.analog.process import AnalogInput
from pascal_nm.process_models.linear.process import Linear
from pascal_nm.process_models.max_pool.process import MaxPool
from pascal_nm.process_models.memory import Record, shared_zeros
from pascal_nm.process_models.pasc.process import Pasc
from pascal_nm.process_models.peak.process import Peak
from pascal_nm.process_models.readout.process import Readout
from pascal_nm.process_models.synapse.process import Synapse
from pascal_nm.process_models.timing import EVERY_STEP, Cycle, Rota, Timing, Turns, Windows
from pascal_nm.simulation.result import Activity, RunResult
from pascal_nm.simulation.schedule import Schedule
from pascal_nm.simulation.simulate import answers, counts_apart, scales

_LOOK = 2
"""Timesteps between two looks at whether a streaming network is quiet."""


class Wiring:
    """The Processes of a graph but its input, connected.

    Args:
        graph: the network.
        batch: B, images that travel together.
        plan: the schedule.
        cycle: how the schedule repeats.
        inlet: the port that the analog input's currents come from, (B, *input shape).
        windows: frames travel only in the timesteps that both ends know. Otherwise in every one, as
            between Lava's own Processes.
        records: by population, where counts and activity are written.
        potentials: by readout, where its potential is written.
    """

    def __init__(
        self,
        graph: Graph,
        batch: int,
        plan: Schedule,
        cycle: Rota,
        inlet: Any,
        *,
        windows: bool = False,
        records: Mapping[str, Record] | None = None,
        potentials: Mapping[str, Array] | None = None,
    ) -> None:
        self.graph, self.batch, self.cycle, self.inlet = graph, batch, cycle, inlet
        self.windows, self.records, self.potentials = windows, records or {}, potentials or {}
        self.schedule = plan
        self.processes: dict[str, Any] = {p.name: self._population(p) for p in graph.populations[1:]}
        for projection in graph.projections:
            self._connect(projection)

    def _population(self, p: Population) -> Any:
        timing = self._timing(listening(self.graph, p, self.schedule), sending(p, self.schedule))
        if p.dynamics.adds:
            return Linear(shape=p.shape, batch=self.batch, timing=timing, record=self.records.get(p.name), name=p.name)
        if p.dynamics.relays:
            (projection,) = self.graph.incoming(p.name)
            assert projection.pool is not None, "Graph refuses such a population without a window"
            source = self.graph[projection.source]
            pooling = MaxPool if p.dynamics.counted else Peak
            return pooling(
                shape_in=source.shape,
                window=projection.pool,
                receive=sending(source, self.schedule),
                sign=p.dynamics.sign(p),
                batch=self.batch,
                cycle=self.cycle,
                timing=self._timing(sending(source, self.schedule), sending(p, self.schedule)),
                kept=self.schedule.kept,
                record=self.records.get(p.name),
                name=p.name,
            )
        shared: dict[str, Any] = {
            "shape": p.shape,
            "bias": p.bias,
            "dtype": self.graph.dtype,
            "batch": self.batch,
            "cycle": self.cycle,
            "timing": timing,
            "kept": self.schedule.kept,
            "name": p.name,
        }
        if p.dynamics.reads_out:
            window = listening(self.graph, p, self.schedule)
            return Readout(window=window, potential=self.potentials.get(p.name), **shared)
        return Pasc(
            vth=p.threshold,
            levels=p.levels,
            window=self.schedule.windows[p.name],
            dynamics=p.dynamics,
            record=self.records.get(p.name),
            **shared,
        )

    def _connect(self, projection: Projection) -> None:
        source, target = self.graph[projection.source], self.graph[projection.target]
        outlet = self.inlet if source.dynamics.injects else self.processes[source.name].s_out
        if target.dynamics.relays:
            outlet.connect(self.processes[target.name].s_in)
            return
        synapse = self._synapse(
            projection,
            source,
            self._timing(sending(source, self.schedule), listening(self.graph, target, self.schedule)),
        )
        self.processes[projection.name] = synapse
        outlet.connect(synapse.s_in)
        synapse.a_out.connect(self.processes[target.name].a_in)

    def _synapse(self, projection: Projection, source: Population, timing: Timing) -> Any:
        frames = self.schedule.kept or not source.dynamics.injects
        return Synapse(
            projection.operator,
            shape_in=source.shape,
            pool=projection.pool,
            batch=self.batch,
            largest=self.schedule.largest(self.graph, source.name) if frames else max(1, source.levels),
            delay=self.schedule.way(projection),
            timing=timing,
            receive=sending(source, self.schedule) if source.dynamics.injects else None,
            cycle=self.cycle,
            name=projection.name,
        )

    def _timing(self, receive: range, send: range) -> Timing:
        """When frames travel to and from a Process."""
        return Windows(receive, send, self.cycle) if self.windows else EVERY_STEP


def sending(p: Population, plan: Schedule) -> range:
    """The timesteps of batch 0 in which a population's spikes travel."""
    span = plan.windows[p.name].emit
    return range(span.start, span.stop)


def listening(graph: Graph, p: Population, plan: Schedule) -> range:
    """The timesteps of batch 0 in which currents reach a population, over all its projections."""
    incoming = graph.incoming(p.name)
    first = min(plan.arrival(q) for q in incoming)
    return range(first, max(plan.arrival(q) + plan.windows[q.source].emit.steps for q in incoming))


class Network:
    """The Processes of a graph, connected, with the shared memory that they write their results to.

    Args:
        graph: the network.
        currents: (K, B, *input shape), K batches; of frames whose state is kept, the changes from
            one to the next, and B = 1.
        plan: the schedule.
        pipelined: let a batch start when the first population is free, where it is known beforehand
            when that will be. Under ``streaming``, and where runs are stopped, batches take turns:
            each ends when it is quiet.
    """

    def __init__(self, graph: Graph, currents: Array, plan: Schedule, pipelined: bool) -> None:
        self.graph = graph
        self.currents = currents
        self.batches, self.batch = currents.shape[:2]
        self.schedule = plan
        fixed = not self.schedule.streams and self.schedule.steps == self.schedule.length
        interval = self.schedule.initiation_interval if pipelined else self.schedule.steps
        self.cycle: Rota = Cycle(interval, self.batches) if fixed else Turns(self.batches)
        self.apart = counts_apart(graph, self.schedule)
        self.records: dict[str, Record] = {
            p.name: Record.create(
                self.batches,
                self.batch,
                p.shape,
                signed=self.apart,
                dtype=np.int16 if p.dynamics.counted else graph.dtype,
            )
            for p in graph.senders
        }
        self.heard = {p.name: listening(graph, p, self.schedule) for p in graph.outputs}
        self.potentials = {
            p.name: shared_zeros((self.batches, len(self.heard[p.name]), self.batch, *p.shape), graph.dtype)
            for p in graph.outputs
        }
        self.ran = np.full(self.batches, self.schedule.steps)
        timing = Windows(range(0), sending(graph.input, self.schedule), self.cycle)
        self.entry = AnalogInput(currents=currents, cycle=self.cycle, timing=timing, name=graph.input.name)
        """A Process of the network: Lava finds the others by their connections."""
        wiring = Wiring(
            graph,
            self.batch,
            plan,
            self.cycle,
            self.entry.s_out,
            windows=True,
            records=self.records,
            potentials=self.potentials,
        )
        self.processes: list[Any] = [self.entry, *wiring.processes.values()]

    def run(self, run: Callable[[int], None]) -> None:
        """All batches, by ``run``, which goes on from where its last call ended.

        It runs so many timesteps.
        """
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
            done, steps = done + steps, _LOOK
            if self.schedule.streams and (self._settled(batch) <= done).all():
                break
        return done

    def _settled(self, batch: int) -> Array:
        return self.schedule.settled({name: record.last[batch] for name, record in self.records.items()})

    def result(self, images: slice) -> RunResult:
        """What the children wrote down about some of the inputs."""

        def flat(array: Array) -> Array:
            return array.reshape(-1, *array.shape[2:])[images]

        streams, scale, classes = self.schedule.streams, scales(self.graph), self.graph.output.size
        potential = np.concatenate([self._over_time(p)[:, images] for p in self.graph.outputs], 2)
        sent = {self.graph.input.name: flat(self.currents != 0).astype(np.int16)} if self.schedule.sparse else {}
        sent |= {name: flat(record.sent) for name, record in self.records.items()}
        return RunResult(
            counts={p.name: flat(self._counts(self.records[p.name])) for p in self.graph.counted},
            potential=potential[-1],
            scale=scale,
            activity={
                name: Activity(_per_image(flat(r.sent)), flat(r.excitatory), flat(r.inhibitory))
                for name, r in self.records.items()
            },
            schedule=self.schedule,
            answers=answers(potential, scale, classes),
            sent=sent if self.apart else None,
            settled=self.schedule.settled({n: flat(r.last) for n, r in self.records.items()}) if streams else None,
            classes=classes,
        )

    def _counts(self, record: Record) -> Array:
        """What each neuron's spikes add up to, those of earlier frames among them: its level."""
        return record.counts.cumsum(0, dtype=np.int16) if self.schedule.kept else record.counts

    def _over_time(self, p: Population) -> Array:
        """A readout's potential after each timestep of a batch, (steps, K * B, size).

        That includes the timesteps before it hears anything, and after a batch has ended.
        """
        heard, written = self.heard[p.name], self.potentials[p.name]
        latest = np.broadcast_to(np.asarray(p.bias, self.graph.dtype), written.shape[2:])
        over_time = np.empty((self.schedule.steps, self.batches, *written.shape[2:]), self.graph.dtype)
        for batch, ran in enumerate(self.ran):
            steps = max(0, min(heard.stop, int(ran)) - heard.start)
            over_time[: heard.start, batch] = latest
            over_time[heard.start : heard.start + steps, batch] = written[batch, :steps]
            ended = written[batch, steps - 1] if steps else latest
            over_time[heard.start + steps :, batch] = ended
            latest = ended if self.schedule.kept else latest
        return over_time.reshape(self.schedule.steps, -1, p.size)


def _per_image(sent: Array) -> Array:
    """Spikes of each image, (N,) int64, of each neuron's, (N, *shape)."""
    return np.asarray(sent.sum(tuple(range(1, sent.ndim)), dtype=np.int64))
