"""The vocabulary of events: one definition each, from which all else takes names and looks."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets.cost import KINDS
from pascal_nm.network.graph import Timing
from pascal_nm.report.style import KIND_STYLES
from pascal_nm.report.traces import record
from pascal_nm.simulation import events, simulate
from pascal_nm.simulation.events import EVENTS, Event, LayerEvents
from pascal_nm.simulation.session import Session
from tests.cores import Trains, synapses
from tests.strategies import inputs_for, integer_graphs, largest_sum

GRAPHS = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


def test_the_names_are_those_of_the_files_and_of_the_json():
    operations = ["synaptic_operations", "graded_operations", "multiply_accumulates"]
    neurons = ["updates", "idle", "emitted", "internal"]
    messages, of_these = ["messages", "messages_in", "hops_x", "hops_y"], ["in_convolutions", "in_single_synapses"]
    assert list(EVENTS) == [*operations, *neurons, *messages, "payload_bits", *of_these]
    counted = ("synaptic_operation", "graded_operation", "multiply_accumulate", "update", "idle", "emitted")
    assert (*counted, "message", "hop_x", "hop_y") == chips.PRICED
    timed = ("synaptic_operation", "update", "idle", "emitted", "message", "message_in", "hop_x", "hop_y")
    assert timed == chips.LATENCIES


def test_every_priced_event_has_a_look_of_its_own():
    assert set(KINDS) == {*chips.PRICED, "synaptic_memory", "neuron_memory"}
    assert KIND_STYLES.keys() == KINDS.keys()
    assert len({(colour, hatch) for _, colour, hatch in KIND_STYLES.values()}) == len(KINDS)
    assert len({label for label, _, _ in KIND_STYLES.values()}) == len(KINDS)


def test_all_that_is_an_event_is_in_the_means_and_nothing_else():
    layer = LayerEvents(name="layer", **{name: np.array([1, 2 + i]) for i, name in enumerate(EVENTS)})
    assert layer.means() == {name: 1.5 + i / 2 for i, name in enumerate(EVENTS)}
    assert all(isinstance(event, Event) for event in EVENTS.values())


@GRAPHS
@given(graph=integer_graphs(), seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 3))
def test_batches_are_joined_to_what_they_are_together(graph, seed, cut):
    inputs = inputs_for(graph, seed, 4)
    whole = events.count(graph, simulate.steps(graph, inputs))
    parts = [events.count(graph, simulate.steps(graph, part)) for part in (inputs[:cut], inputs[cut:])]
    for layer, *halves in zip(whole, *parts, strict=True):
        joined = LayerEvents.join(halves)
        for name in EVENTS:
            np.testing.assert_array_equal(getattr(joined, name), getattr(layer, name), err_msg=name)


def most_sent(graph, p, name):
    """The largest magnitude that a neuron sends in a timestep."""
    if p.kind == "linear":
        return sum(largest_sum(q) * most_sent(graph, graph[q.source], name) for q in graph.incoming(p.name))
    return 2 * p.levels if p.kind == "analog" else p.levels if name == "graded" else 1


@GRAPHS
@given(
    graph=integer_graphs(),
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from(["pasc", "two_phase", "streaming", "graded"]),
    frames=st.booleans(),
)
def test_operations_are_counted_one_by_one_from_what_every_neuron_sends(graph, seed, name, frames):
    """Numbers and spikes apart; of a further frame what changed; of the input as it is sent."""
    graph = graph.replace(timing=Timing(name))
    trains, inputs = Trains(), inputs_for(graph, seed, 3)
    session = Session(graph, watcher=trains)
    result = session.run(inputs) if frames else simulate.steps(graph, inputs, watcher=trains)
    kept = result.schedule.kept
    assert kept == (frames and name != "pasc")
    for layer in events.count(graph, result):
        plain, numbers, bits, dense = np.zeros((4, 3), int)
        for q in graph.incoming(layer.name):
            source = graph[q.source]
            sent = trains.kept[source.name][1].flatten(2).numpy() != 0
            driven = synapses(q, source.shape).sum(0).astype(int)
            if source.kind == "analog" and name != "graded" and not kept:
                dense += driven.sum()
                continue
            reached = (sent * driven).sum((0, 2))
            most = most_sent(graph, source, name)
            if source.kind == "analog" or most > 1:
                numbers += reached
                bits += reached * (most.bit_length() + 1)
            else:
                plain += reached
        np.testing.assert_array_equal(layer.synaptic_operations, plain, err_msg=layer.name)
        np.testing.assert_array_equal(layer.graded_operations, numbers, err_msg=layer.name)
        np.testing.assert_array_equal(layer.payload_bits, bits, err_msg=layer.name)
        np.testing.assert_array_equal(layer.operations, plain + numbers)
        np.testing.assert_array_equal(np.broadcast_to(layer.multiply_accumulates, 3), dense)


@GRAPHS
@given(graph=integer_graphs(), seed=st.integers(0, 2**32 - 1), name=st.sampled_from(["pasc", "graded"]))
def test_where_images_follow_each_other_neurons_are_looked_at_once_in_each_timestep_of_an_interval(graph, seed, name):
    graph = graph.replace(timing=Timing(name))
    result = simulate.steps(graph, inputs_for(graph, seed, 2))
    alone = events.count(graph, result)
    interval = result.schedule.initiation_interval
    assert interval == 1 or name == "pasc"
    for layer, other in zip(events.pipelined(graph, alone, result.schedule), alone, strict=True):
        np.testing.assert_array_equal(layer.updates + layer.idle, graph[layer.name].size * interval)
        for event in EVENTS.keys() - {"idle"}:
            np.testing.assert_array_equal(getattr(layer, event), getattr(other, event))


@GRAPHS
@given(graph=integer_graphs(), seed=st.integers(0, 2**32 - 1), name=st.sampled_from(["pasc", "streaming"]))
def test_a_recorded_run_is_counted_as_one_that_nobody_watched(graph, seed, name):
    graph = graph.replace(timing=Timing(name))
    inputs = inputs_for(graph, seed, 1)
    recorded, _ = record(graph, inputs)
    assert recorded.cores is None
    alone = events.count(graph, simulate.steps(graph, inputs))
    for layer, other in zip(events.count(graph, recorded), alone, strict=True):
        assert layer.means() == other.means()
