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
from tests.strategies import inputs_for, integer_graphs

GRAPHS = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


def test_the_names_are_those_of_the_files_and_of_the_json():
    operations = ["synaptic_operations", "multiply_accumulates", "updates", "idle", "emitted", "internal"]
    assert list(EVENTS) == [*operations, "messages", "messages_in", "hops_x", "hops_y"]
    counted = ("synaptic_operation", "multiply_accumulate", "update", "idle", "emitted")
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
