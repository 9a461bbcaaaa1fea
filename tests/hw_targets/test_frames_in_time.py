"""What frames take on cores, timestep by timestep: neurons, operations when synapses let them
through, messages, the longest way and the barrier, all counted again spike by spike.
"""

import dataclasses

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import cost
from pascal_nm.hw_targets.bill import Priced
from pascal_nm.network.graph import Timing
from pascal_nm.simulation import events, schedule
from tests.cores import core_of, synapses
from tests.strategies import inputs_for, integer_graphs, integer_qcfs

FRAMES = 3


def small():
    """Loihi 2 with cores so small that populations are on several, and times for every event."""
    chip = chips.load("loihi2")
    times = {event: chips.Figure(1.0 + i, "a test") for i, event in enumerate(chips.LATENCIES)}
    core, wide = dataclasses.replace(chip.core, neurons=9), dict.fromkeys(chip.widths, 48)
    return dataclasses.replace(chip, core=core, latency=times, widths=wide)


class Counted:
    """Nanoseconds of each core in each timestep of each frame, and those of the longest ways."""

    def __init__(self, graph, plan, placement, chip, changes):
        self.placement, self.time = placement, chip.nanoseconds
        self.work = np.zeros((plan.steps, FRAMES, placement.cores))
        self.ways = np.zeros((plan.steps, FRAMES))
        self.neurons = np.zeros((plan.steps, placement.cores))
        for p in graph.populations[1:]:
            sizes = np.bincount(core_of(placement, p.name).ravel(), minlength=placement.cores)
            window = plan.windows[p.name]
            for t in range(plan.steps):
                self.neurons[t] += sizes * self.time("update" if window.start <= t < window.stop else "idle")
        for q in graph.projections:
            first = plan.windows[q.source].emit.start
            onto = synapses(q, graph[q.source].shape)
            each = self.time("synaptic_operation") + chip.more(events.synapses(q))[1]
            self._operations(first + plan.way(q), onto, core_of(placement, q.target).ravel(), changes[q.source], each)
            if q.source != graph.input.name:
                self._messages(first, plan.delay, q, onto, changes[q.source])
        for p in graph.senders:
            cores, first = core_of(placement, p.name).ravel(), plan.windows[p.name].emit.start
            for frame, sent in enumerate(changes[p.name]):
                np.add.at(self.work[first, frame], cores[sent], self.time("emitted"))

    def _operations(self, t, onto, targets, sent, each):
        for core in np.unique(targets):
            self.work[t, :, core] += sent @ onto[targets == core].sum(0) * each

    def _messages(self, first, delay, q, onto, changes):
        own, targets = (core_of(self.placement, name).ravel() for name in (q.source, q.target))
        per_hop = [self.time("hop_x"), self.time("hop_y")]
        for frame, sent in enumerate(changes):
            for i in np.flatnonzero(sent):
                for core in np.unique(targets[onto[:, i] > 0]):
                    self.work[first, frame, own[i]] += self.time("message")
                    self.work[first + delay, frame, core] += self.time("message_in")
                    (hops,) = self.placement.distances(own[i : i + 1], np.array([core]))
                    self.ways[first, frame] = max(self.ways[first, frame], hops @ per_hop)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(integer_graphs(), st.integers(0, 2**32 - 1))
def test_frames_take_the_time_of_what_is_sent_and_arrives_in_each_timestep(graph, seed):
    chip = small()
    (priced,) = Priced.on(graph.replace(timing=Timing("graded")), {"chip": chip}, frames=True)
    graph, placement, plan = priced.program.graph, priced.placement, schedule.of(priced.program.graph)
    frames = inputs_for(graph, seed, FRAMES)
    frames[2] = frames[1]
    result = priced.program.session().run(frames)
    levels = integer_qcfs(graph, frames)
    changes = {
        p.name: np.diff(levels[p.name].reshape(FRAMES, -1), axis=0, prepend=0) != 0
        for p in (graph.input, *graph.senders)
    }
    found = Counted(graph, plan, placement, chip, changes)
    barrier = chip.barrier.at(len(np.unique(placement.places, axis=0)), placement.chips)
    alone = (found.work + found.neurons[:, None]).max(2) + found.ways + barrier
    np.testing.assert_allclose(cost.alone(result, placement, chip).answer, 1e-9 * alone.sum(0))
    # one frame in every timestep: each core does all of a frame's work in one, and its neurons once
    sizes = np.bincount(
        np.concatenate([core_of(placement, p.name).ravel() for p in graph.populations[1:]]), minlength=placement.cores
    )
    every = (found.work.sum(0) + sizes * chip.nanoseconds("update")).max(1) + found.ways.max(0) + barrier
    following = cost.pipelined(result, placement, chip)
    np.testing.assert_allclose(following.interval, 1e-9 * every)
    np.testing.assert_allclose(following.answer, 1e-9 * every * plan.steps)
    layers = events.count(graph, result)
    for layer in events.pipelined(graph, layers, plan):
        assert (layer.updates + layer.idle == graph[layer.name].size).all()
