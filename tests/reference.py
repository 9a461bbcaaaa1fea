"""A spiking network on one clock in int64, written from the paper's algorithms and
docs/schedules.md: of the package it reads graphs and windows only.

All populations take each timestep together, and every spike is kept. So it says what a run must
have done: which spikes, when, and at which potentials.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from tests.strategies import _apply, _windows

SENDING = ("emit", "stream", "change")


def run(graph, inputs, plan):
    """Every timestep of an integer graph.

    Returns:
        trains: spikes of each population, (steps, N, neurons). up, down: internal spikes of
        each pasc population, (N,). peaks: largest magnitude of the potential in each stage of
        each population, by (name, stage), and of the readout by its name. potential: of the
        readout after each timestep, (steps, N, classes). quiet: timesteps until nothing
        changes any more, (N,).
    """
    n, steps = len(inputs), plan.steps
    matrices = {q.name: _matrix(graph, q) for q in graph.projections if graph[q.target].kind != "max"}
    trains = {p.name: np.zeros((steps, n, p.size), np.int64) for p in graph.populations}
    trains[graph.input.name][0] = np.rint(inputs).reshape(n, -1)
    state = {p.name: _at_rest(p, n, plan.windows[p.name].shift is None) for p in graph.populations}
    up, down = ({p.name: np.zeros(n, np.int64) for p in graph.spiking} for _ in range(2))
    peaks, potential = {}, []
    for t in range(steps):
        for p in graph.populations:
            arriving = [(q, _arriving(trains[q.source], t - _way(plan, q))) for q in graph.incoming(p.name)]
            if p.kind == "max":
                trains[p.name][t] = _rise_of_the_largest(graph, p, state[p.name], *arriving[0])
                continue
            current = sum((spikes @ matrices[q.name] for q, spikes in arriving), np.zeros(1)).astype(np.int64)
            if p.kind == "linear":
                trains[p.name][t] = current
            elif p.kind == "readout":
                state[p.name].v += current
                potential.append(state[p.name].v.copy())
                peaks[p.name] = max(peaks.get(p.name, 0), int(np.abs(potential[-1]).max()))
            elif p.kind == "pasc" and (span := plan.windows[p.name].at(t)):
                spikes, reached = _step(span.stage.value, p, state[p.name], current, plan.windows[p.name], t)
                key = (p.name, span.stage.value)
                peaks[key] = max(peaks.get(key, 0), reached)
                if span.stage.value in SENDING:
                    trains[p.name][t] = spikes
                else:
                    up[p.name] += (spikes > 0).sum(1)
                    down[p.name] += (spikes < 0).sum(1)
    return SimpleNamespace(
        trains=trains, up=up, down=down, peaks=peaks, potential=np.array(potential), quiet=_quiet(graph, trains, plan)
    )


def pipelined(graph, frames, plan):
    """Frame k is injected in timestep k, whatever is still under way of those before: neurons that
    send the change of their level work on a stream without beginning or end.

    Returns:
        by readout, its potential after each timestep, (steps, classes).
    """
    steps = len(frames) + plan.steps
    matrices = {q.name: _matrix(graph, q) for q in graph.projections if graph[q.target].kind != "max"}
    trains = {p.name: np.zeros((steps, 1, p.size), np.int64) for p in graph.populations}
    shown = np.concatenate([0 * frames[:1], frames, np.repeat(frames[-1:], plan.steps, 0)])
    trains[graph.input.name][:, 0] = np.diff(np.rint(shown).astype(np.int64), axis=0).reshape(steps, -1)
    state = {p.name: _at_rest(p, 1, True) for p in graph.populations}
    potential = {p.name: [] for p in graph.outputs}
    for p in graph.spiking:
        state[p.name].v += state[p.name].bias
    for t in range(steps):
        for p in graph.populations:
            arriving = [(q, _arriving(trains[q.source], t - _way(plan, q))) for q in graph.incoming(p.name)]
            neurons = state[p.name]
            if p.kind == "max":
                trains[p.name][t] = _rise_of_the_largest(graph, p, neurons, *arriving[0])
            elif p.kind == "linear":
                trains[p.name][t] = sum(changes @ matrices[q.name] for q, changes in arriving)
            elif p.kind in ("pasc", "readout"):
                neurons.v = neurons.v + sum(changes @ matrices[q.name] for q, changes in arriving).astype(np.int64)
            if p.kind == "pasc" and t >= plan.windows[p.name].start:
                level = np.clip(neurons.v // neurons.theta, 0, p.levels)
                trains[p.name][t], neurons.s = level - neurons.s, level
            elif p.kind == "readout":
                potential[p.name].append(neurons.v[0])
    return {name: np.array(each) for name, each in potential.items()}


def _way(plan, projection):
    """Timesteps that a spike is under way: between cores, and then in its synapse."""
    return plan.delay + plan.delays.get(projection.name, 0)


def _arriving(train, t):
    """What was sent in a timestep: nothing before the first."""
    return train[t] if t >= 0 else 0 * train[0]


def on_the_clock(trains, name, steps):
    """What a watcher kept of a run, as the spikes in each timestep, (steps, N, neurons)."""
    first, train = trains.kept[name]
    train = train.flatten(2).numpy()
    spikes, kept = np.zeros((steps, *train.shape[1:]), np.int64), train[: max(0, steps - first)]
    spikes[first : first + len(kept)] = kept
    assert not train[len(kept) :].any(), "a spike after the end of the run"
    return spikes


def _matrix(graph, projection):
    """(source neurons, target neurons), as the responses to single spikes; float64, which is
    exact here and fast.
    """
    shape = graph[projection.source].shape
    spikes = np.eye(int(np.prod(shape)), dtype=np.int64).reshape(-1, *shape)
    return _apply(projection, spikes).reshape(len(spikes), -1).astype(np.float64)


def _at_rest(p, n, shifted):
    theta = np.broadcast_to(p.threshold.astype(np.int64), p.shape).reshape(-1)
    bias = np.broadcast_to(p.bias.astype(np.int64), p.shape).reshape(-1)
    v = np.zeros((n, p.size), np.int64)
    if p.kind == "pasc" and shifted:
        v += theta // 2
    return SimpleNamespace(
        v=v + bias if p.kind == "readout" else v, s=np.zeros_like(v), theta=theta, bias=bias, counts=0, largest=0
    )


def _step(stage, p, neurons, current, window, t):
    """Spikes of one timestep, and the largest magnitude that the potential had in it."""
    theta, v, s = neurons.theta, neurons.v, neurons.s
    if stage in ("accumulate", "integrate", "encode", "stream", "change"):
        v = v + current + _share_of_bias(neurons.bias, window, t)
        if t == window.shift:
            v = v + theta // 2
    reached = np.abs(v).max()
    spikes = {
        "accumulate": lambda: 0 * s,
        "encode": lambda: 0 * s,
        "integrate": lambda: 1 * (v >= theta),
        "correct": lambda: 1 * (v >= theta) - (v < 0),
        "emit": lambda: 1 * (s > 0),
        "stream": lambda: 1 * ((v >= theta) & (s < p.levels)) - ((v < 0) & (s > 0)),
        "change": lambda: np.clip(v // theta, 0, p.levels) - s,
    }[stage]()
    if stage == "emit":
        neurons.s = s - spikes
    elif stage == "encode":
        neurons.v, neurons.s = v, np.clip(v // theta, 0, p.levels)
    elif stage == "change":
        neurons.v, neurons.s = v, s + spikes
    else:
        neurons.v, neurons.s = v - spikes * theta, s + spikes
    return spikes, int(max(reached, np.abs(neurons.v).max()))


def _share_of_bias(bias, window, t):
    """Spread over the timesteps of the main window as evenly as integers can be; whole, where a
    neuron sends at once.
    """
    stages = {span.stage.value: span for span in window.spans}
    for sending in ("stream", "change"):
        if sending in stages:
            return bias * (t == stages[sending].start)
    span = stages.get("integrate") or stages["encode"]
    k, n = t - span.start, span.stop - span.start
    return bias * (k + 1) // n - bias * k // n if 0 <= k < n else 0 * bias


def _rise_of_the_largest(graph, p, state, projection, spikes):
    """How much the largest count of each window has risen; of populations with sign
    -1, the smallest.
    """
    sign = int(p.threshold.ravel()[0])
    state.counts = state.counts + spikes
    maps = state.counts.reshape(len(spikes), *graph[projection.source].shape)
    largest = (sign * _windows(sign * maps, projection.pool, np.max, -(10**6))).reshape(len(spikes), -1)
    rise, state.largest = largest - state.largest, largest
    return rise


def _quiet(graph, trains, plan):
    """Nothing is under way, and each population had its first timestep of sending with all that is
    not input in it.
    """
    ends = []
    for p in graph.populations:
        if p.kind in ("pasc", "max", "linear"):
            window, spikes = plan.windows[p.name], trains[p.name].any(2)
            last = np.where(spikes.any(0), len(spikes) - 1 - spikes[::-1].argmax(0), -1)
            begins = next(span.start for span in window.spans if span.stage.value in SENDING)
            ends.append(np.maximum(last + plan.delay, max(begins, -1 if window.shift is None else window.shift)) + 1)
    return np.max(ends, axis=0)
