"""Both engines against an independent integer QCFS network, on random graphs."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pascal_nm import simulate
from pascal_nm.activity import events, fan_out
from pascal_nm.bounds import potential_bound
from pascal_nm.graph import Dense, Graph, Population, Projection
from tests.strategies import inputs_for, integer_graphs, integer_qcfs

RANDOM_GRAPHS = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@RANDOM_GRAPHS
@given(graph=integer_graphs(), seed=st.integers(0, 2**32 - 1))
def test_steps_counts_and_the_integer_qcfs_network_agree_on_every_count(graph, seed):
    inputs = inputs_for(graph, seed)
    expected = integer_qcfs(graph, inputs)
    for result in (simulate.steps(graph, inputs), simulate.counts(graph, inputs)):
        for name, count in result.counts.items():
            np.testing.assert_array_equal(count, expected[name], err_msg=name)
        np.testing.assert_array_equal(result.potential, expected["output"])


@pytest.mark.parametrize(("largest", "levels"), [(1, 16), (9, 16), (2**20, 14), (2**20, 16), (2**26, 16)])
def test_counts_are_exact_at_every_border_up_to_the_largest_sums_of_their_float_type(largest, levels):
    grid = np.meshgrid(np.arange(max(1, largest - 10), largest + 1), np.arange(-2, levels), np.arange(-2, 3))
    theta, k, beside = (axis.ravel().astype(np.int32) for axis in grid)
    bias = k * theta - theta // 2 + beside
    ones = np.ones((len(theta), 1), np.int8)
    graph = Graph(
        (
            Population("input", "analog", (1,), 1),
            Population("a", "pasc", theta.shape, levels, theta, bias),
            Population("output", "readout", (1,), 1, np.ones(()), np.zeros(1, np.int32)),
        ),
        (Projection("input", "a", Dense(ones)), Projection("a", "output", Dense(ones.T))),
    )
    inputs = np.array([[0.0], [1.0], [-1.0]])
    expected = integer_qcfs(graph, inputs)
    np.testing.assert_array_equal(simulate.counts(graph, inputs).counts["a"], expected["a"])
    np.testing.assert_array_equal(simulate.counts(graph, inputs).potential, expected["output"])


@RANDOM_GRAPHS
@given(graph=integer_graphs(), seed=st.integers(0, 2**32 - 1))
def test_no_potential_exceeds_its_proven_bound(graph, seed):
    expected = integer_qcfs(graph, inputs_for(graph, seed))
    assert np.abs(expected["output"]).max() <= potential_bound(graph, "output")


@RANDOM_GRAPHS
@given(graph=integer_graphs(), seed=st.integers(0, 2**32 - 1))
def test_internal_spikes_move_the_counter_to_the_emitted_count(graph, seed):
    inputs = inputs_for(graph, seed)
    result = simulate.steps(graph, inputs)
    for p in graph.spiking:
        activity, count = result.activity[p.name], result.counts[p.name].reshape(len(inputs), -1)
        np.testing.assert_array_equal(activity.emitted, count.sum(1))
        from_analog = all(graph[q.source].kind == "analog" for q in graph.incoming(p.name))
        if from_analog:
            assert not activity.excitatory.any()
        else:
            assert np.all(activity.excitatory + p.size * result.schedule.steps >= activity.inhibitory)
            assert np.all(activity.excitatory <= p.size * 48)


@RANDOM_GRAPHS
@given(graph=integer_graphs())
def test_fan_out_is_the_number_of_synapses_that_a_spike_reaches(graph):
    for projection in graph.projections:
        source = graph[projection.source]
        if graph[projection.target].kind == "max":
            continue
        reach = fan_out(projection, source.shape)
        rng = np.random.default_rng(0)
        for flat in rng.integers(0, source.size, 3):
            spike = np.zeros((1, source.size), np.int64)
            spike[0, flat] = 1
            assert reach.reshape(-1)[flat] == _synapses(projection, spike.reshape(1, *source.shape))


def _synapses(projection, spike):
    """Synapses reached by one spike: the response to it with every weight 1, pooling windows counted separately."""
    from dataclasses import replace

    from tests.strategies import _apply

    ones = replace(projection, operator=replace(projection.operator, weight=np.ones_like(projection.operator.weight)))
    return int(_apply(ones, spike).sum())


@RANDOM_GRAPHS
@given(graph=integer_graphs(), seed=st.integers(0, 2**32 - 1))
def test_synaptic_operations_are_spikes_times_fan_out(graph, seed):
    inputs = inputs_for(graph, seed)
    result = simulate.steps(graph, inputs)
    by_name = {layer.name: layer for layer in events(graph, result)}
    for p in graph.populations:
        expected = np.zeros(len(inputs), np.int64)
        for q in graph.incoming(p.name):
            if graph[q.source].kind != "analog":
                expected += (
                    (result.counts[q.source] * fan_out(q, graph[q.source].shape)).reshape(len(inputs), -1).sum(1)
                )
        if p.kind != "analog":
            np.testing.assert_array_equal(by_name[p.name].synaptic_operations, expected)
