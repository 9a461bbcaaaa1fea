"""The torch simulator: two engines that agree on every count.

``counts`` evaluates Equation 1 in closed form, one pass per population: the fastest exact answer,
and for an integer graph the integer QCFS network itself. ``steps`` runs every timestep of the
schedule with :mod:`pascal_nm.neuron` and counts what happens.

Integer graphs are computed in integers: convolutions run in a float type in which their sums are
proven exact (:mod:`pascal_nm.network.bounds`), everything else in int32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pascal_nm.common import memory
from pascal_nm.common.arrays import Array
from pascal_nm.errors import GraphError
from pascal_nm.network import bounds
from pascal_nm.network.graph import Graph, Inputs, Population, Projection
from pascal_nm.network.operators import SumPool2d
from pascal_nm.network.windows import Window
from pascal_nm.neuron import SENDING, Stage, State, Step
from pascal_nm.simulation import schedule
from pascal_nm.simulation.clock import Clock
from pascal_nm.simulation.result import Activity, CoreEvents, RunResult

Synapse = Callable[[Tensor], Tensor]

Delivery = Callable[[Projection, Tensor, Synapse], Tensor]
"""How spikes (B, *source shape) come through a projection's synapses."""

_MOST_NUMBERS = 1 << 31
"""Numbers of one image's spike train beyond which ``steps`` would take tens of gigabytes."""

_PREPARED: WeakKeyDictionary[Graph, dict[tuple[str, str], Synapse]] = WeakKeyDictionary()


def _prepared(graph: Graph, key: tuple[str, str], make: Callable[[], Synapse]) -> Synapse:
    """What ``make`` gives, made once in the life of a graph.

    Weights are scanned and reordered once, not at every run.
    """
    synapses = _PREPARED.setdefault(graph, {})
    if key not in synapses:
        synapses[key] = make()
    return synapses[key]


def _integer_type(graph: Graph, name: str, kept: bool = False) -> torch.dtype:
    """The integer type in which a population's membrane potential cannot overflow in any stage."""
    return torch.int32 if bounds.potential_bound(graph, name, kept=kept) < 2**31 else torch.int64


def delivery(projection: Projection, carrier: np.dtype[Any]) -> Synapse:
    """The projection as a function of x (B, *source shape) -> currents (B, *target shape).

    It is computed in type ``carrier``.
    """
    weight = torch.from_numpy(projection.operator.weight.astype(carrier, copy=False))
    apply = projection.operator.apply(weight)
    pool = projection.pool

    def deliver(x: Tensor) -> Tensor:
        x = x.to(weight.dtype)
        x = x if pool is None else sum_pool(x, pool)
        # With the strides of channels that are last in memory, oneDNN (torch 2.13) convolves a
        # single channel wrongly where a row of windows has one place: here they are in order.
        return apply(x.squeeze(1).unsqueeze(1) if x.ndim == 4 and x.shape[1] == 1 else x)

    return deliver


def sum_pool(x: Tensor, pool: SumPool2d) -> Tensor:
    """Sum over windows of x (B, C, H, W)."""
    return F.avg_pool2d(x, pool.kernel, pool.stride, pool.padding, pool.ceil, divisor_override=1)


def window_max(x: Tensor, pool: SumPool2d, sign: Tensor) -> Tensor:
    """The ``max`` population: OR of spikes (or maximum of counts) over windows.

    Where ``sign`` is -1: AND (minimum).
    """
    wide = torch.float64 if x.dtype in (torch.int32, torch.int64) else torch.float32  # of sums, and of counts
    floating = x if x.is_floating_point() else x.to(wide)
    return (F.max_pool2d(floating * sign, pool.kernel, pool.stride, pool.padding, 1, pool.ceil) * sign).to(x.dtype)


def relayed(graph: Graph, p: Population, values: Mapping[str, Tensor]) -> Tensor:
    """What a population that relays makes of its source's spikes, counts or activations.

    Args:
        graph: the network.
        p: the population.
        values: by name, (N, *source shape).
    """
    (projection,) = graph.incoming(p.name)
    assert projection.pool is not None, "Graph refuses such a population without a window"
    return window_max(values[projection.source], projection.pool, _sign(p))


def _sign(p: Population) -> Tensor:
    """Whether a population passes on the largest of a window or the smallest, 1 or -1."""
    return _constant(p.dynamics.sign(p), torch.float32)


def counts_apart(graph: Graph, plan: schedule.Schedule) -> bool:
    """Whether the number of a neuron's spikes may be another than its count.

    Spikes may be taken back, or carry numbers, or stand for changes.
    """
    return plan.streams or plan.sparse or any(p.dynamics.graded for p in graph.senders)


def counts(graph: Graph, inputs: Inputs) -> RunResult:
    """Run N inputs (N, *input shape) in closed form. The result has no activity."""
    size = memory.images_together(max(p.size for p in graph.populations), memory.LAYER)
    return _in_batches(graph, inputs, size, lambda currents: _counts(graph, currents))


def _in_batches(graph: Graph, inputs: Inputs, size: int, run: Callable[[Tensor], RunResult]) -> RunResult:
    """Run images in equal batches of at most so many."""
    currents = torch.from_numpy(graph.currents(inputs))
    batches = max(1, -(-len(currents) // size))
    with torch.no_grad():
        return RunResult.join([run(batch) for batch in torch.tensor_split(currents, batches)])


def _counts(graph: Graph, currents: Tensor) -> RunResult:
    values = {graph.input.name: currents}
    recorded: dict[str, Array] = {}
    potentials: list[Tensor] = []
    for p in graph.populations:
        if p.dynamics.injects:
            continue
        if p.dynamics.relays:
            value = relayed(graph, p, values)
        else:
            z = sum_currents(graph, p, values)
            if p.dynamics.adds:
                values[p.name] = z
                _forget(values, graph, p)
                continue
            z = z.add_(_constant(p.bias, z.dtype))
            if p.dynamics.reads_out:
                potentials.append(z.to(_integer_type(graph, p.name)) if graph.is_integer else z)
                continue
            value = p.dynamics.level(z, p, _constant(p.threshold, z.dtype))
        values[p.name] = value
        if p.dynamics.counted:
            recorded[p.name] = value.to(torch.int16).numpy()
        _forget(values, graph, p)
    potential = torch.cat([each.flatten(1) for each in potentials], 1).numpy()
    return RunResult(recorded, potential, scales(graph), {}, schedule.of(graph), classes=graph.output.size)


def sum_currents(graph: Graph, population: Population, values: dict[str, Tensor]) -> Tensor:
    """The current that whole counts (or analog values) of all sources deliver to a population.

    Floats for integer graphs too: of a type in which these and the membrane potential are exact.
    """
    total: Tensor | None = None
    for projection in graph.incoming(population.name):
        current = _count_synapse(projection, graph)(values[projection.source])
        total = current if total is None else total.add_(current)
    assert total is not None, "Graph refuses a population without inputs"
    return total


def _count_synapse(projection: Projection, graph: Graph) -> Synapse:
    def make() -> Synapse:
        exact = (
            np.dtype(bounds.carrier(bounds.potential_bound(graph, projection.target)))
            if graph.is_integer
            else graph.dtype
        )
        return delivery(projection, exact)

    return _prepared(graph, ("counts", projection.name), make)


class Watcher(Protocol):
    """Who is told of the spikes of every population while a run goes on, batch by batch."""

    def start(self, images: int, plan: schedule.Schedule) -> Watch:
        """A batch of so many images begins; gives who is told of it."""


class Watch(Protocol):
    """Who is told of the spikes of one batch, and keeps what it makes of them."""

    def see(self, name: str, train: Tensor, first: int) -> None:
        """Spikes (steps, N, *shape) of a population, from timestep ``first`` on."""

    def events(self) -> CoreEvents | None:
        """What they caused on the cores of a chip; None from who knows of none."""


def everywhere(projection: Projection, spikes: Tensor, synapse: Synapse) -> Tensor:
    """The delivery of a simulator: every spike comes to all its synapses."""
    return synapse(spikes)


def steps(
    graph: Graph,
    inputs: Inputs,
    plan: schedule.Schedule | None = None,
    watcher: Watcher | None = None,
    delivered: Delivery = everywhere,
) -> RunResult:
    """Run N inputs (N, *input shape) timestep by timestep, counting every spike.

    Spikes only flow downward, so each population is carried through its whole window before the
    next one starts.

    Args:
        graph: the network.
        inputs: as for :meth:`pascal_nm.network.graph.Graph.currents`.
        plan: the schedule; the graph's own where it is None.
        watcher: is told of all spikes; the events on cores that it counts are the result's.
        delivered: brings spikes to their synapses.

    Raises:
        GraphError: one image's spikes are more than memory holds.
    """
    plan = plan or schedule.of(graph)
    network = Network(graph, plan, watcher, delivered)
    return _in_batches(graph, inputs, images_together(graph, plan), lambda currents: network.run(currents)[0])


def replayed(
    graph: Graph, inputs: Inputs, plan: schedule.Schedule | None = None, watcher: Watcher | None = None
) -> RunResult:
    """The same run from closed-form counts, several times as fast.

    Spikes inside neurons, and answers before the last timestep, are not known of it.

    Raises:
        GraphError: under the schedule, spikes do not follow from counts
            (:meth:`.schedule.Schedule.waits`).
    """
    plan = plan or schedule.of(graph)
    if not plan.waits(graph):
        raise GraphError(f"schedule {graph.timing} sends spikes before levels are known: run it step by step (steps)")
    network = Network(graph, plan, watcher, everywhere)

    def run(currents: Tensor) -> RunResult:
        return network.replay(currents, _counts(graph, currents))

    return _in_batches(graph, inputs, images_together(graph, plan), run)


def images_together(graph: Graph, plan: schedule.Schedule) -> int:
    """Images whose largest spike train, or the currents of it, is of a size that carries well."""
    largest = 1
    for q in graph.projections:
        timesteps = max(16, plan.windows[q.source].emit.steps)  # shorter trains are as fast in no larger batches
        largest = max(largest, timesteps * max(graph[q.source].size, graph[q.target].size))
    if largest > _MOST_NUMBERS:
        raise GraphError(
            f"the spikes of one image are {largest:,} numbers in one layer, too many to run timestep by timestep: use "
            "fewer levels, or the closed form (simulate.counts)"
        )
    return memory.images_together(largest, memory.TRAIN)


def spike_synapse(projection: Projection, graph: Graph, plan: schedule.Schedule | None = None) -> Synapse:
    """A projection as a function of spikes -> currents, as ``steps`` computes them.

    Spikes are (B, *source shape), currents in the type of the target's potential.
    """
    plan = plan or schedule.of(graph)
    largest, kept = plan.largest(graph, projection.source), plan.kept

    def make() -> Synapse:
        if not graph.is_integer:
            return delivery(projection, graph.dtype)
        bound = bounds.current_bound(projection, largest).max()
        carried = delivery(projection, np.dtype(bounds.carrier(float(bound))))
        potential = _integer_type(graph, projection.target, kept)
        return lambda x: carried(x).to(potential)

    return _prepared(graph, (f"spikes up to {largest}{', kept' if kept else ''}", projection.name), make)


Kept = Mapping[str, tuple[Tensor, ...]]
"""What each population keeps from frame to frame: the input what it showed, neurons potential and
counter, those that pass on the largest count all counts and the largest ones, readouts their
potential; each of one image, (1, *shape). Before the first frame: nothing."""


class Network:
    """A graph with its synapses made ready, for any number of batches."""

    def __init__(self, graph: Graph, plan: schedule.Schedule, watcher: Watcher | None, delivered: Delivery) -> None:
        self.graph, self.plan, self.watcher, self.delivered = graph, plan, watcher, delivered

    @functools.cached_property
    def synapses(self) -> dict[str, Synapse]:
        """By projection onto neurons with weights."""
        weighted = (q for q in self.graph.projections if self.graph[q.target].dynamics.weighted)
        return {q.name: spike_synapse(q, self.graph, self.plan) for q in weighted}

    def run(self, currents: Tensor, kept: Kept | None = None) -> tuple[RunResult, Kept]:
        """The currents (N, *input shape) of one batch through all populations.

        Args:
            currents: images, each from rest, or consecutive frames where the schedule keeps state.
            kept: what the frame before left; None for a first one.

        Returns:
            What happened, and what a further frame goes on from (empty where nothing is kept).
        """
        graph = self.graph
        before, after = dict(kept or {}), dict[str, tuple[Tensor, ...]]()
        levels = {graph.input.name: torch.cat([*before.get(graph.input.name, (currents[:1] * 0,)), currents])}
        if self.plan.kept:
            after[graph.input.name] = (currents[-1:],)
            currents = currents - levels[graph.input.name][:-1]
        log = _Log(self, currents)
        trains = log.trains
        over_time: list[Tensor] = []
        for p in graph.populations:
            if p.dynamics.injects:
                continue
            if p.dynamics.reads_out:
                over_time.append(self._readout(p, trains, levels, before, after))
                continue
            if p.dynamics.adds:
                log.add(p, self._summed(p, trains))
                if self._anew:
                    levels[p.name] = self._brought(p, levels)
                _forget(levels, graph, p)
                continue
            window = self.plan.windows[p.name]
            if p.dynamics.relays:
                run: _Run = _Sent(*self._pooled(p, trains, before, after), window)
            elif before and not any(trains[q.source].any() for q in graph.incoming(p.name)):
                run = _Still(State(*before[p.name]), window, len(currents))
                after[p.name] = before[p.name]
            else:
                arrivals = [self._arrival(q, trains, levels) for q in graph.incoming(p.name)]
                made = _StreamRun if window.span(Stage.STREAM) else _StagedRun
                settled = self._settled(p, levels) if self._anew else None
                run = stepped = made(p, window, arrivals, self.plan, before.get(p.name), settled)
                after[p.name] = tuple(stepped.state)
            if self._anew:
                earlier = before[p.name][1] if before else run.count[:1] * 0
                levels[p.name] = torch.cat([earlier, run.count])
            log.add(p, run)
            _forget(levels, graph, p)
        potential, scale, classes = torch.cat(over_time, 2).numpy(), scales(graph), graph.output.size
        answered = answers(potential, scale, classes)
        result = RunResult(log.counts, potential[-1], scale, {}, self.plan, answered, classes=classes)
        return log.completed(result), after if self.plan.kept else {}

    def replay(self, currents: Tensor, counted: RunResult) -> RunResult:
        """The run that closed-form counts stand for, without its arithmetic.

        Spikes inside neurons, and answers before the last timestep, are not known of it.

        Args:
            currents: (N, *input shape), of images from rest.
            counted: what :func:`counts` gave for them.
        """
        graph, plan = self.graph, self.plan
        assert plan.waits(graph) and not plan.kept, "the trains follow from the counts"
        log = _Log(self, currents)
        for p in graph.senders:
            window = plan.windows[p.name]
            if p.dynamics.adds:
                log.add(p, self._summed(p, log.trains))
            elif p.dynamics.relays:
                log.add(p, _Sent(*self._pooled(p, log.trains, {}, {}), window))
            else:
                log.add(p, _Known(torch.from_numpy(counted.counts[p.name]), window))
        return log.completed(counted)

    @property
    def _anew(self) -> bool:
        """Whether potentials are computed anew from what the sources show, frame by frame.

        In floats, sums of changes would drift away from it by rounding.
        """
        return self.plan.kept and not self.graph.is_integer

    def _settled(self, p: Population, levels: Mapping[str, Tensor]) -> Tensor | None:
        """All current that the levels before each frame bring; None where it comes again."""
        return None if self.plan.graded else self._brought(p, {name: each[:-1] for name, each in levels.items()})

    def _brought(self, p: Population, levels: Mapping[str, Tensor]) -> Tensor:
        """All current that levels (N, *source shape) bring."""
        incoming = self.graph.incoming(p.name)
        return functools.reduce(
            torch.add, (self.delivered(q, levels[q.source], self.synapses[q.name]) for q in incoming)
        )

    def _arrival(self, projection: Projection, trains: Mapping[str, Tensor], levels: Mapping[str, Tensor]) -> _Arrival:
        if self._anew and self.plan.graded:  # all of it again, and not its change
            return self._arriving(projection, levels[projection.source][1:][None])
        return self._arriving(projection, trains[projection.source])

    def _arriving(self, projection: Projection, train: Tensor) -> _Arrival:
        frames = self.delivered(projection, train.flatten(0, 1), self.synapses[projection.name])
        return _Arrival(self.plan.arrival(projection), _frames(frames, len(train)))

    def _summed(self, p: Population, trains: Mapping[str, Tensor]) -> _Summed:
        """What a linear population passes on."""
        window = self.plan.windows[p.name]
        arrivals = [self._arriving(q, trains[q.source]) for q in self.graph.incoming(p.name)]
        steps = max(a.start + len(a.frames) for a in arrivals) - window.start
        n = arrivals[0].frames.shape[1]
        train = _frames(_empty((steps * n, *p.shape), arrivals[0].frames.dtype).zero_(), steps)
        for arrival in arrivals:
            first = arrival.start - window.start
            train[first : first + len(arrival.frames)] += arrival.frames
        train[max(0, self.plan.steps - window.start) :] = 0  # not in the time that was run
        return _Summed(train, window)

    def _pooled(
        self, p: Population, trains: dict[str, Tensor], before: Kept, after: dict[str, tuple[Tensor, ...]]
    ) -> tuple[Tensor, Tensor]:
        """Spikes (steps, N, *shape), and what they add up to at the end, (N, *shape)."""
        (projection,) = self.graph.incoming(p.name)
        train, pool = trains[projection.source], projection.pool
        assert pool is not None, "Graph refuses a max population without a window"

        sign = _sign(p)

        # What a window sends is the change of its largest count. Where every count moves by one at
        # most in a timestep, so does the largest, and its change is a spike; of thermometers, it is
        # their OR.
        def extreme(counts: Tensor) -> Tensor:
            return window_max(counts, pool, sign)

        counts = train.cumsum(0)
        if self.plan.kept:  # those of the frames before are there already
            ended = counts[-1].cumsum(0)
            so_far = before[p.name][0] if before else ended[:1] * 0
            counts = counts + (so_far + ended - counts[-1])
            after[p.name] = (so_far + ended[-1:],)
        largest = _frames(self.delivered(projection, counts.flatten(0, 1), extreme), len(train))
        latest = largest[:1] * 0
        if self.plan.kept:
            earlier = before[p.name][1] if before else latest[0, :1]
            latest = torch.cat([earlier, largest[-1, :-1]])[None]
            after[p.name] += (largest[-1, -1:],)
        pooled = largest - torch.cat([latest, largest[:-1]])
        over = max(0, self.plan.steps - self.plan.windows[p.name].start)
        pooled[over:] = 0  # not in the time that was run
        return pooled, largest[-1] if over >= len(pooled) else pooled.sum(0)

    def _readout(
        self,
        p: Population,
        trains: Mapping[str, Tensor],
        levels: Mapping[str, Tensor],
        before: Kept,
        after: dict[str, tuple[Tensor, ...]],
    ) -> Tensor:
        """The potential after each timestep, (steps, N, size): a readout only adds up."""
        arrivals = [self._arrival(q, trains, levels) for q in self.graph.incoming(p.name)]
        frames = arrivals[0].frames
        over_time = torch.zeros((self.plan.steps, *frames.shape[1:]), dtype=frames.dtype)
        for arrival in arrivals:
            over_time[arrival.start : arrival.start + len(arrival.frames)] += arrival.frames[
                : max(0, self.plan.steps - arrival.start)
            ]
        over_time = over_time.cumsum(0, dtype=frames.dtype)
        potential = _constant(p.bias, frames.dtype)
        if self._anew:
            settled = self._settled(p, levels)
            potential = potential if settled is None else potential + settled
        elif self.plan.kept:
            ended = over_time[-1].cumsum(0, dtype=frames.dtype)
            (potential,) = before.get(p.name, (potential.expand(1, *p.shape),))
            after[p.name] = (potential + ended[-1:],)
            potential = potential + torch.cat([ended[:1] * 0, ended[:-1]])
        return (over_time + potential).flatten(2)


class _Log:
    """What the populations of a network sent in one batch, one after the other.

    Args:
        network: it.
        currents: what its input sends, (N, *input shape).
    """

    def __init__(self, network: Network, currents: Tensor) -> None:
        self.graph, self.plan = network.graph, network.plan
        name = self.graph.input.name
        self.trains = {name: currents[None]}
        """Of populations that others are still to hear."""
        self.counts: dict[str, Array] = {}
        self._apart = counts_apart(self.graph, self.plan)
        self._sent = {name: currents.ne(0).to(torch.int16).numpy()} if self.plan.sparse else {}
        self._last: dict[str, Array] = {}
        self._activity: dict[str, Activity] = {}
        self._watch = None if network.watcher is None else network.watcher.start(len(currents), self.plan)
        self._see(name, 0)

    def _see(self, name: str, first: int) -> None:
        if self._watch is not None:
            self._watch.see(name, self.trains[name], first)

    def add(self, p: Population, run: _Run) -> None:
        """The next population has run."""
        self.trains[p.name] = run.train
        self._see(p.name, run.window.emit.start)
        if p.dynamics.counted:
            self.counts[p.name] = run.count.to(torch.int16).numpy()
        if self._apart:
            self._sent[p.name] = run.numbers()
        if self.plan.streams:
            self._last[p.name] = run.last()
        self._activity[p.name] = Activity(_per_image(run.sent), run.excitatory, run.inhibitory)
        _forget(self.trains, self.graph, p)

    def completed(self, result: RunResult) -> RunResult:
        """The result, with all of this."""
        return replace(
            result,
            activity=self._activity,
            schedule=self.plan,
            sent=self._sent if self._apart else None,
            settled=self.plan.settled(self._last) if self.plan.streams else None,
            cores=None if self._watch is None else self._watch.events(),
        )


def answers(potential: Array, scale: Array, classes: int) -> Array:
    """The class of the largest logit after each timestep, int32 of shape (N, steps).

    Potentials are (steps, N, outputs), of which the first ``classes`` are the answer's.
    """
    return np.asarray((potential / scale)[:, :, :classes].argmax(2).T, np.int32)


@dataclass
class _Arrival:
    """Currents that arrive from one projection.

    They are ``frames`` (steps, N, *shape) from timestep ``start`` on.
    """

    start: int
    frames: Tensor

    def at(self, t: int, block: slice) -> Tensor | None:
        index = t - self.start
        return self.frames[index, block] if 0 <= index < len(self.frames) else None


class _Run:
    """What one population did.

    Attributes:
        train: spikes (steps, N, *shape), from the start of the window's emission on.
        count: sum of each neuron's spikes, (N, *shape).
        sent: number of each neuron's spikes, of either sign and any size, (N, *shape).
        excitatory: internal spikes that raised the counter, (N,).
        inhibitory: internal spikes that lowered it, (N,).
        window: of the population.
    """

    train: Tensor
    count: Tensor
    sent: Tensor
    excitatory: Array
    inhibitory: Array
    window: Window

    def last(self) -> Array:
        """Timestep of each image's last spike, (N,); -1 where there is none."""
        active = self.train.flatten(2).any(2).numpy()
        latest = self.window.emit.start + len(active) - 1 - active[::-1].argmax(0)
        return np.where(active.any(0), latest, -1)

    def numbers(self) -> Array:
        """What was sent, of a type that holds a spike in every timestep."""
        return np.asarray(self.sent.to(torch.int16 if len(self.train) < 2**15 else torch.int32).numpy())


class _Sent(_Run):
    """A population whose train is there; of spikes inside of it nothing is known."""

    def __init__(self, train: Tensor, count: Tensor, window: Window, sent: Tensor | None = None) -> None:
        self.train, self.count, self.window = train, count, window
        self.sent = _number(train) if sent is None else sent
        n = train.shape[1]
        self.excitatory, self.inhibitory = np.zeros(n, np.int64), np.zeros(n, np.int64)


class _Summed(_Sent):
    """A linear population, whose numbers are no count: that is, how many of them it sent."""

    def __init__(self, train: Tensor, window: Window) -> None:
        sent = torch.zeros(train.shape[1:], dtype=torch.int32)
        for frame in train:  # a fourth of the time of a sum over all
            sent += frame.ne(0)
        super().__init__(train, sent, window, sent)


class _Still(_Sent):
    """A population that nothing reaches: its level stays, and it sends nothing."""

    def __init__(self, state: State, window: Window, images: int) -> None:
        count = state.s.expand(images, *state.s.shape[1:])
        nothing = torch.zeros_like(count)
        super().__init__(nothing[None], count, window, nothing)


class _Known(_Sent):
    """A population that sends its count in one spike, or in as many from its first timestep on."""

    def __init__(self, count: Tensor, window: Window) -> None:
        steps = torch.arange(window.emit.steps).view(-1, *[1] * count.ndim)
        super().__init__(count[None].float() if window.graded else count[None].gt(steps).float(), count, window)


class _Stepped(_Run):
    """A population that is stepped through its window, as far as the schedule runs.

    Images go block by block; frames one by one, each from the ``state`` that the one before left.
    """

    def __init__(
        self,
        p: Population,
        window: Window,
        arrivals: list[_Arrival],
        plan: schedule.Schedule,
        kept: tuple[Tensor, ...] | None,
        settled: Tensor | None,
    ) -> None:
        self.p, self.window, self.arrivals, self.stop = p, window, arrivals, plan.steps
        frames = arrivals[0].frames
        theta, bias = _constant(p.threshold, frames.dtype), _constant(p.bias, frames.dtype)
        self.clock = Clock(p.dynamics, window, theta, bias, p.levels)
        n = frames.shape[1]
        self.spikes_dtype = torch.float64 if frames.dtype == torch.float64 else torch.float32
        self.excitatory, self.inhibitory = np.zeros(n, np.int64), np.zeros(n, np.int64)
        size = 1 if plan.kept else memory.images_together(p.size, memory.STATE)
        self._prepare(n)
        self.state = self._at_rest(slice(1)) if kept is None else State(*kept)
        anew, whole = plan.kept and frames.is_floating_point(), self.clock
        for first in range(0, n, size):
            block = slice(first, min(first + size, n))
            if not plan.kept:
                self.state = self._at_rest(block)
            elif anew and settled is None:
                self.state = State(self._at_rest(block).v, self.state.s)
            elif first or kept is not None:
                if settled is not None:
                    self.state = whole.settled(settled[block], self.state.s)
                self.clock = whole.resumed()
            self.state = self._run(block, self.state)
        self._finish(n)

    def _prepare(self, n: int) -> None:
        """Before the first block of ``n`` images."""

    def _run(self, block: slice, state: State) -> State:
        """One block, from a state to that at the end."""
        raise NotImplementedError

    def _finish(self, n: int) -> None:
        """After the last block."""

    def _at_rest(self, block: slice) -> State:
        zeros = torch.zeros_like(self.arrivals[0].frames[0, block])
        return State(zeros + self.clock.rest(), zeros)

    def _step(self, t: int, state: State, block: slice) -> Step:
        arrived = [frame for frame in (a.at(t, block) for a in self.arrivals) if frame is not None]
        return self.clock.step(t, state, arrived)


class _StreamRun(_Stepped):
    """A population in stage ``STREAM``, until its input has ended and no neuron spikes any more."""

    def _prepare(self, n: int) -> None:
        self.blocks: list[tuple[slice, list[Tensor]]] = []
        self.count = _empty((n, *self.p.shape), self.spikes_dtype)
        self._latest = np.full(n, -1)

    def _run(self, block: slice, state: State) -> State:
        begin, stop = self.window.emit.start, min(self.window.stop, self.stop)
        for t in range(self.window.start, min(begin, stop)):
            state = self._step(t, state, block).state
        ended = max(self.window.begun, *(a.start + len(a.frames) for a in self.arrivals))
        sent: list[Tensor] = []
        for t in range(begin, stop):
            spikes, state = self._step(t, state, block)
            active = spikes.flatten(1).any(1).numpy()
            if active.any():
                sent += [torch.zeros_like(spikes, dtype=self.spikes_dtype)] * (t - begin - len(sent))
                sent.append(spikes.to(self.spikes_dtype))
                self._latest[block][active] = t
            elif t >= ended - 1:
                break
        self.blocks.append((block, sent))
        self.count[block] = state.s
        return state

    def last(self) -> Array:
        """As it was noted on the way."""
        return self._latest

    def _finish(self, n: int) -> None:
        steps = max(1, *(len(sent) for _, sent in self.blocks))
        self.train = _frames(_empty((steps * n, *self.p.shape), self.spikes_dtype).zero_(), steps)
        for block, sent in self.blocks:
            for t, spikes in enumerate(sent):
                self.train[t, block] = spikes
        self.sent = _number(self.train)


class _StagedRun(_Stepped):
    """A population in stages of a known length, as those of the paper."""

    def _prepare(self, n: int) -> None:
        p = self.p
        steps = self.window.emit.steps
        self.train = _frames(_empty((steps * n, *p.shape), self.spikes_dtype), steps)
        if self.stop < self.window.stop:
            self.train.zero_()
        self.count = _empty((n, *p.shape), self.spikes_dtype)

    def _run(self, block: slice, state: State) -> State:
        for span in self.window.spans:
            counter = state.s
            for t in range(span.start, min(span.stop, self.stop)):
                spikes, state = self._step(t, state, block)
                if span.stage in SENDING:
                    self.train[t - span.start, block] = spikes
                elif span.stage is Stage.CORRECT:
                    self.inhibitory[block] += _per_image(spikes.clamp(max=0).neg_())
            if span.stage in (Stage.INTEGRATE, Stage.CORRECT):
                # The counter rose by the excitatory spikes and fell by the inhibitory ones, which
                # stage integrate lacks.
                self.excitatory[block] += _per_image(state.s - counter)
            if span.stage is Stage.CORRECT:
                self.excitatory[block] += self.inhibitory[block]
            if span.stage is Stage.EMIT:
                # The counter fell by the spikes that left the neuron.
                self.count[block] = counter - state.s
            if span.stage is Stage.CHANGE:
                self.count[block] = state.s
        return state

    def _finish(self, n: int) -> None:
        self.sent = _number(self.train) if self.p.dynamics.graded or self.window.graded else self.count


def _number(train: Tensor) -> Tensor:
    """How many spikes of a train (steps, ...) are there, of either sign and any size."""
    return train.ne(0).sum(0, dtype=train.dtype)


def _frames(x: Tensor, steps: int) -> Tensor:
    """The view (steps, N, ...) of a batch (steps * N, ...)."""
    return x.view(steps, len(x) // steps, *x.shape[1:])


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A batch in the memory format that convolutions return."""
    form = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, memory_format=form)


def _per_image(spikes: Tensor) -> Array:
    """Sums over (N, ...), exact.

    The type of the spikes holds those of one channel, int64 those of all.
    """
    channels = spikes.sum(tuple(range(2, spikes.ndim))) if spikes.ndim > 2 else spikes
    return np.asarray(channels.to(torch.int64).sum(1).numpy())


def _constant(array: Array, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(dtype)


def scales(graph: Graph) -> Array:
    """The potential of one unit of each output, of all readouts side by side: float64."""
    each = [np.broadcast_to(p.threshold, p.shape).reshape(-1).astype(np.float64) for p in graph.outputs]
    return np.concatenate(each)


def _forget(values: dict[str, Tensor], graph: Graph, p: Population) -> None:
    """Free what no later population reads."""
    order = {q.name: i for i, q in enumerate(graph.populations)}
    for name in list(values):
        if all(order[q.target] <= order[p.name] for q in graph.outgoing(name)):
            del values[name]
