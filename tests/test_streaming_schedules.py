"""Schedules beyond the paper's: the same counts at every lag, windows that hold,
and what they cost.
"""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pascal_nm import build, convert, neuron, quantize
from pascal_nm.errors import GraphError
from pascal_nm.network.graph import Graph, Population, Projection, Timing
from pascal_nm.network.operators import Dense
from pascal_nm.neuron import Stage, State
from pascal_nm.simulation import events, schedule, simulate
from tests import networks
from tests.strategies import inputs_for, integer_graphs

ANY = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


def plans(graph, lag, delay):
    return {
        "pasc": schedule.pasc(graph, delay),
        "two_phase": schedule.two_phase(graph, delay),
        "streaming": schedule.streaming(graph, lag, delay),
    }


@ANY
@given(graph=integer_graphs(), seed=st.integers(0, 2**32 - 1))
def test_two_phases_send_no_negative_spike(graph, seed):
    result = simulate.steps(graph, inputs_for(graph, seed), schedule.two_phase(graph))
    for name, count in result.counts.items():
        np.testing.assert_array_equal(result.spikes[name], count)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), levels=st.integers(1, 16), theta=st.integers(1, 40))
def test_one_neuron_settles_on_the_level_of_its_sum(data, levels, theta):
    """Theorems 1 and 2: the counter never leaves 0 to L, and L timesteps after the last input
    it is the level.
    """
    currents = data.draw(st.lists(st.integers(-200, 200), min_size=1, max_size=12))
    bias = data.draw(st.integers(-100, 100))
    state = State(np.array([theta // 2 + bias]), np.array([0]))
    sent = 0
    for current in [*currents, *[0] * levels]:
        spikes, state = neuron.step(Stage.STREAM, state, np.array([current]), np.array([theta]), levels)
        sent += int(spikes[0])
        assert 0 <= int(state.s[0]) <= levels
        assert int(state.s[0]) == sent
    assert sent == np.clip((sum(currents) + bias + theta // 2) // theta, 0, levels)
    spikes, _ = neuron.step(Stage.STREAM, state, np.array([0]), np.array([theta]), levels)
    assert not spikes.any(), "it is quiet"


@pytest.fixture(scope="module")
def residual():
    levels = [4, 2, 4, 4, 3, 4, 4, 4]
    module = build("resnet9", (3, 16, 16), 5, levels, width=0.1, pool="max")
    inputs = torch.randn(6, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).numpy()
    graph = quantize(convert(networks.randomized(module), torch.from_numpy(inputs)), input_range=6.0)
    return graph, inputs


def test_more_lag_takes_longer_and_sends_fewer_spikes(residual):
    graph, inputs = residual
    results = [simulate.steps(graph, inputs, schedule.streaming(graph, lag)) for lag in (0, 1, 3)]
    results.append(simulate.steps(graph, inputs, schedule.two_phase(graph)))
    times = [result.timesteps.mean() for result in results]
    spikes = [sum(int(sent.sum()) for sent in result.spikes.values()) for result in results]
    least = sum(int(count.sum()) for count in results[0].counts.values())
    assert times == sorted(times)
    assert times[0] < schedule.pasc(graph).steps / 2
    assert spikes[0] > spikes[1] >= spikes[3] == least


def test_lags_can_differ_from_layer_to_layer(residual):
    graph, inputs = residual
    expected = simulate.counts(graph, inputs)
    names = [p.name for p in graph.spiking]
    result = simulate.steps(graph, inputs, schedule.streaming(graph, {names[0]: 2, names[3]: 5}))
    for name, count in expected.counts.items():
        np.testing.assert_array_equal(result.counts[name], count)
    with pytest.raises(GraphError, match="a lag for 'x', which is no spiking population"):
        schedule.streaming(graph, {"x": 1})
    with pytest.raises(GraphError, match="must be 0 or more, not -1"):
        schedule.streaming(graph, -1)


def test_a_graph_carries_its_timing(residual):
    graph, _ = residual
    layers = sum(1 for _ in graph.spiking)
    lags = tuple(i % 3 for i in range(layers))
    named = dict(zip((p.name for p in graph.spiking), lags, strict=True))
    timed = graph.replace(timing=Timing("streaming", lags))
    assert schedule.of(timed) == schedule.streaming(graph, named)
    assert schedule.of(graph) == schedule.pasc(graph)
    assert graph.differences(timed) == [f"graph: timing is {graph.timing} against {timed.timing}"]
    with pytest.raises(GraphError, match="unknown schedule 'phased'"):
        Timing("phased")
    with pytest.raises(GraphError, match="a lag belongs to the schedule streaming, not to two_phase"):
        Timing("two_phase", 1)
    with pytest.raises(GraphError, match="must be 0 or more, not -2"):
        Timing("streaming", (0, -2))
    with pytest.raises(GraphError, match=f"2 lags were given for {layers} layers: "):
        graph.replace(timing=Timing("streaming", (0, 1)))
    with pytest.raises(GraphError, match="at least one timestep, not 0"):
        Timing(stop=0)


@ANY
@given(
    graph=integer_graphs(),
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from(["pasc", "two_phase", "streaming", "graded"]),
    share=st.floats(0, 1),
)
def test_what_is_certified_when_a_run_stops_is_final(graph, seed, name, share):
    """Stopped at any timestep: it did what the whole run had done by then, and what
    it calls exact is.
    """
    inputs = inputs_for(graph, seed)
    whole = simulate.steps(graph.replace(timing=Timing(name)), inputs)
    stop = 1 + int(share * whole.schedule.length)
    stopped = simulate.steps(graph.replace(timing=Timing(name, stop=stop)), inputs)
    taken = min(stop, whole.schedule.length)
    assert stopped.schedule.steps == taken
    np.testing.assert_array_equal(stopped.answers, whole.answers[:, :taken])
    np.testing.assert_array_equal(stopped.exact, whole.timesteps <= stop)
    for population, count in whole.counts.items():
        np.testing.assert_array_equal(stopped.counts[population][stopped.exact], count[stopped.exact])
        assert (stopped.spikes[population] <= whole.spikes[population]).all()
    np.testing.assert_array_equal(stopped.potential[stopped.exact], whole.potential[stopped.exact])
    assert (stopped.timesteps <= stop).all()


def test_the_answer_over_time_ends_with_the_answer(residual):
    graph, inputs = residual
    for name in ("pasc", "two_phase", "streaming"):
        result = simulate.steps(graph.replace(timing=Timing(name)), inputs)
        np.testing.assert_array_equal(result.answers[:, -1], result.predictions)
        for image, settled in enumerate(result.timesteps):
            assert (result.answers[image, settled - 1 :] == result.predictions[image]).all()


def test_operations_are_those_of_all_spikes_sent(residual):
    """A spike that is taken back costs twice; the closed forms of the counts do not."""
    graph, inputs = residual
    once = events.count(graph, simulate.steps(graph, inputs, schedule.two_phase(graph)))
    more = events.count(graph, simulate.steps(graph, inputs, schedule.streaming(graph)))
    paper = events.count(graph, simulate.steps(graph, inputs))
    for a, b, c in zip(once, more, paper, strict=True):
        np.testing.assert_array_equal(a.synaptic_operations, c.synaptic_operations)
        assert (b.synaptic_operations >= a.synaptic_operations).all()
        assert (b.updates + b.idle < c.updates + c.idle).all()
    assert sum(layer.synaptic_operations.sum() for layer in more) > sum(
        layer.synaptic_operations.sum() for layer in once
    )


def test_float_networks_stream_too():
    """Levels may flip by rounding, as in every float run; here none does."""
    module = networks.randomized(networks.Residual())
    inputs = networks.images().numpy()
    graph = convert(module, torch.from_numpy(inputs))
    expected = simulate.counts(graph, inputs)
    for plan in plans(graph, 1, 1).values():
        result = simulate.steps(graph, inputs, plan)
        for name, count in expected.counts.items():
            np.testing.assert_array_equal(result.counts[name], count)
        np.testing.assert_allclose(result.logits, expected.logits, rtol=1e-12)


def test_more_spikes_than_a_count_can_have_are_all_counted():
    """A neuron rises to 20,000 and falls to 0 again: it sends twice as many as it has levels."""
    most, one, zero = 20_000, np.ones(1, np.int32), np.zeros(1, np.int32)
    names = ("first", "late", "neuron")
    layers = {"first": (most, zero), "late": (1, zero + 1 - most), "neuron": (most, zero)}
    populations = [Population("input", "analog", (1,), 1)]
    populations += [Population(name, "pasc", (1,), levels, one, bias) for name, (levels, bias) in layers.items()]
    populations.append(Population("output", "readout", (1,), 1, np.ones(()), zero))
    ends = [("input", "first", most), ("first", "late", 1), ("first", "neuron", 1), ("late", "neuron", -2 * most)]
    ends.append(("neuron", "output", 1))
    projections = [Projection(a, b, Dense(np.array([[weight]], np.int32))) for a, b, weight in ends]
    graph = Graph(tuple(populations), tuple(projections), timing=Timing("streaming"))
    result = simulate.steps(graph, np.ones((1, 1)))
    assert [int(result.counts[name][0, 0]) for name in names] == [most, 1, 0]
    assert int(result.spikes["neuron"][0, 0]) == int(result.activity["neuron"].emitted[0]) > 2**15
    assert events.count(graph, result)[-1].synaptic_operations.tolist() == [result.spikes["neuron"][0, 0]]
