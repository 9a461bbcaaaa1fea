"""The torch simulator: two engines that agree on every count.

``counts`` evaluates Equation 1 in closed form, one pass per population: the fastest exact answer, and for an integer graph
the integer QCFS network itself. ``steps`` runs every timestep of the schedule with :mod:`pascal_nm.neuron` and counts what happens.

Integer graphs are computed in integers: convolutions run in a float type in which their sums are proven exact
(:mod:`pascal_nm.bounds`), everything else in int32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pascal_nm import bounds, neuron, schedule
from pascal_nm.graph import Array, Conv2d, Dense, Graph, Identity, Operator, Population, Projection, SumPool2d
from pascal_nm.neuron import Stage, State
from pascal_nm.result import Activity, RunResult

Synapse = Callable[[Tensor], Tensor]

BLOCK = 1 << 17
"""Neurons that are stepped together: their state stays in the processor's cache through all stages."""


def synapse(projection: Projection, graph: Graph, largest: int) -> Synapse:
    """The projection as a function of spikes, counts or currents (B, *source shape) -> currents (B, *target shape).

    Args:
        projection: a projection of ``graph`` onto any population but ``max``.
        graph: its graph.
        largest: the largest magnitude that an input entry will have (1 for spikes).

    The input may be of any type; the output is int32 for an integer graph, else the graph's float type. The
    weights are shared with the graph where the types allow it.
    """
    carrier = (
        bounds.carrier(float(bounds.current_bound(projection, largest).max())) if graph.is_integer else graph.dtype
    )
    apply = delivery(projection, np.dtype(carrier))
    return (lambda x: apply(x).to(torch.int32)) if graph.is_integer else apply


def delivery(projection: Projection, carrier: np.dtype[Any]) -> Synapse:
    """The projection as a function of x (B, *source shape) -> currents (B, *target shape), computed in type ``carrier``."""
    weight = torch.from_numpy(projection.operator.weight.astype(carrier, copy=False))
    apply = _operator(projection.operator, weight)
    pool = projection.pool

    def deliver(x: Tensor) -> Tensor:
        x = x.to(weight.dtype)
        return apply(x if pool is None else sum_pool(x, pool))

    return deliver


def _operator(operator: Operator, weight: Tensor) -> Synapse:
    match operator:
        case Conv2d(_, stride, padding, dilation, groups):
            return lambda x: F.conv2d(x, weight, None, stride, padding, dilation, groups)
        case Dense():
            return lambda x: F.linear(x.flatten(1), weight)
        case Identity():
            return lambda x: x * weight


def sum_pool(x: Tensor, pool: SumPool2d) -> Tensor:
    """Sum over windows of x (B, C, H, W)."""
    return F.avg_pool2d(x, pool.kernel, pool.stride, pool.padding, divisor_override=1)


def window_max(x: Tensor, pool: SumPool2d, sign: Tensor) -> Tensor:
    """The ``max`` population: OR of spikes (or maximum of counts) over windows; AND (minimum) where ``sign`` is -1."""
    floating = x if x.is_floating_point() else x.to(torch.float32)
    return (F.max_pool2d(floating * sign, pool.kernel, pool.stride, pool.padding) * sign).to(x.dtype)


def counts(graph: Graph, inputs: Array) -> RunResult:
    """Run N preprocessed inputs (N, *input shape) in closed form. The result has no activity."""
    integer = graph.is_integer
    values = {graph.input.name: torch.from_numpy(graph.currents(inputs))}
    recorded: dict[str, Array] = {}
    with torch.no_grad():
        for p in graph.populations:
            if p.kind == "analog":
                continue
            if p.kind == "max":
                (projection,) = graph.incoming(p.name)
                assert projection.pool is not None
                value = window_max(values[projection.source], projection.pool, _constant(p.threshold, torch.float32))
            else:
                z = sum_currents(graph, p, values)
                z = z.add_(_constant(p.bias, z.dtype))
                if p.kind == "readout":
                    potential = z
                    continue
                theta = _constant(p.threshold, z.dtype)
                z = z.add_(neuron.initial_potential(theta))
                value = neuron.level(z, theta, p.levels) if integer else z.div_(theta).floor_().clamp_(0, p.levels)
            values[p.name] = value
            recorded[p.name] = value.to(torch.int16).numpy()
            _forget(values, graph, p)
    return RunResult(recorded, potential.flatten(1).numpy(), _scale(graph), {}, schedule.pasc(graph))


def sum_currents(graph: Graph, population: Population, values: dict[str, Tensor]) -> Tensor:
    """The current that whole counts (or analog values) of all sources deliver to a population."""
    total: Tensor | None = None
    for projection in graph.incoming(population.name):
        current = synapse(projection, graph, bounds.largest_input(graph[projection.source]))(values[projection.source])
        total = current if total is None else total.add_(current)
    assert total is not None
    return total


def steps(graph: Graph, inputs: Array, plan: schedule.Schedule | None = None) -> RunResult:
    """Run N preprocessed inputs (N, *input shape) timestep by timestep, counting every spike.

    Spikes only flow downward, so each population is carried through its whole window before the next one starts.
    """
    plan = plan or schedule.pasc(graph)
    trains = {graph.input.name: torch.from_numpy(graph.currents(inputs))[None]}
    recorded: dict[str, Array] = {}
    activity: dict[str, Activity] = {}
    with torch.no_grad():
        for p in graph.populations:
            if p.kind == "analog":
                continue
            if p.kind == "max":
                (projection,) = graph.incoming(p.name)
                train = trains[projection.source]
                assert projection.pool is not None
                spikes = window_max(train.flatten(0, 1), projection.pool, _constant(p.threshold, train.dtype))
                trains[p.name] = spikes.reshape(*train.shape[:2], *p.shape)
                total = trains[p.name].sum(0)
                silent = np.zeros(len(inputs), np.int64)
                activity[p.name] = Activity(_per_image(total), silent, silent)
            elif p.kind == "pasc":
                arrivals = [_arrivals(graph, q, trains[q.source], plan) for q in graph.incoming(p.name)]
                run = _PascRun(p, plan.windows[p.name], arrivals, graph)
                trains[p.name], activity[p.name] = run.train, run.activity
                total = trains[p.name].sum(0)
            else:
                values = {q.source: trains[q.source].sum(0) for q in graph.incoming(p.name)}
                potential = sum_currents(graph, p, values)
                potential = potential.add_(_constant(p.bias, potential.dtype))
                continue
            recorded[p.name] = total.to(torch.int16).numpy()
            _forget(trains, graph, p)
    return RunResult(recorded, potential.flatten(1).numpy(), _scale(graph), activity, plan)


@dataclass
class _Arrival:
    """Currents that arrive from one projection: ``frames`` (steps, N, *shape) from timestep ``start`` on."""

    start: int
    frames: Tensor

    def at(self, t: int, block: slice) -> Tensor | None:
        index = t - self.start
        return self.frames[index, block] if 0 <= index < len(self.frames) else None


def _arrivals(graph: Graph, projection: Projection, train: Tensor, plan: schedule.Schedule) -> _Arrival:
    source = graph[projection.source]
    largest = source.levels if source.kind == "analog" else 1
    frames = synapse(projection, graph, largest)(train.flatten(0, 1))
    start = plan.windows[source.name].emit.start + plan.delay
    return _Arrival(start, frames.reshape(*train.shape[:2], *graph[projection.target].shape))


class _PascRun:
    """One population through its whole window, block of images by block of images."""

    def __init__(self, p: Population, window: schedule.Window, arrivals: list[_Arrival], graph: Graph) -> None:
        self.p, self.window, self.arrivals = p, window, arrivals
        dtype = arrivals[0].frames.dtype
        self.theta, self.bias = _constant(p.threshold, dtype), _constant(p.bias, dtype)
        n = arrivals[0].frames.shape[1]
        self.spikes_dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self.train = torch.empty((p.levels, n, *p.shape), dtype=self.spikes_dtype)
        self.activity = Activity(*(np.zeros(n, np.int64) for _ in Activity._fields))
        size = max(1, BLOCK // p.size)
        for first in range(0, n, size):
            self._run(slice(first, min(first + size, n)))

    def _run(self, block: slice) -> None:
        zeros = torch.zeros((block.stop - block.start, *self.p.shape), dtype=self.theta.dtype)
        state = State(zeros + neuron.initial_potential(self.theta), zeros)
        for span in self.window.spans:
            for t in range(span.start, span.stop):
                current = self._current(t, block) if span.stage in _LISTENING else None
                if current is None and span.stage in _LISTENING:
                    current = torch.zeros((), dtype=self.theta.dtype)
                spikes, state = neuron.step(span.stage, state, current, self.theta, self.p.levels)
                if span.stage is Stage.EMIT:
                    self.train[t - span.start, block] = spikes
                    self.activity.emitted[block] += _per_image(spikes)
                elif span.stage is Stage.INTEGRATE:
                    self.activity.excitatory[block] += _per_image(spikes)
                elif span.stage is Stage.CORRECT:
                    magnitude, signed = _per_image(spikes.abs()), _per_image(spikes)
                    self.activity.excitatory[block] += (magnitude + signed) // 2
                    self.activity.inhibitory[block] += (magnitude - signed) // 2

    def _current(self, t: int, block: slice) -> Tensor | None:
        parts = [frame for frame in (a.at(t, block) for a in self.arrivals) if frame is not None]
        span = self.window.bias
        if span.start <= t < span.stop:
            parts.append(neuron.bias_share(self.bias, t - span.start, span.steps))
        return sum(parts[1:], parts[0]) if parts else None


_LISTENING = (Stage.ACCUMULATE, Stage.INTEGRATE, Stage.ENCODE)


def _per_image(spikes: Tensor) -> Array:
    return np.asarray(spikes.flatten(1).sum(1).to(torch.int64).numpy())


def _constant(array: Array, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(dtype)


def _scale(graph: Graph) -> Array:
    return np.asarray(np.broadcast_to(graph.output.threshold, graph.output.shape).reshape(-1).astype(np.float64))


def _forget(values: dict[str, Tensor], graph: Graph, p: Population) -> None:
    """Free what no later population reads."""
    order = {q.name: i for i, q in enumerate(graph.populations)}
    for name in list(values):
        if all(order[q.target] <= order[p.name] for q in graph.outgoing(name)):
            del values[name]
