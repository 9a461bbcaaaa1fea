"""Both engines against an independent integer QCFS network, and one clock with the paper's neurons,
on random graphs.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pascal_nm.common import memory
from pascal_nm.network import bounds
from pascal_nm.network.graph import SCHEDULES, Graph, Population, Projection, Timing
from pascal_nm.network.operators import Conv2d, Dense, Identity, SumPool2d
from pascal_nm.simulation import events, schedule, simulate
from pascal_nm.simulation.events import fan_out
from tests import reference
from tests.cores import Trains
from tests.strategies import _apply, inputs_for, integer_graphs, integer_qcfs

RANDOM_GRAPHS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def runs(draw):
    """A random integer graph, inputs, and any schedule of it: at any lag, with any delay, stopped
    at any time or never.
    """
    graph, delay, levels = draw(integer_graphs()), draw(st.integers(0, 2)), draw(st.integers(0, 17))
    lag = draw(st.sampled_from([0, 0, 1, 2, 3, levels]))
    plan = {
        "pasc": lambda: schedule.pasc(graph, delay),
        "two_phase": lambda: schedule.two_phase(graph, delay),
        "streaming": lambda: schedule.streaming(graph, lag, delay),
        "graded": lambda: schedule.graded(graph, delay),
    }[draw(st.sampled_from(["pasc", "pasc", "two_phase", "streaming", "streaming", "graded"]))]()
    if draw(st.integers(0, 3)) == 0:
        plan = replace(plan, stop=draw(st.integers(1, plan.length + 2)))
    return graph, inputs_for(graph, draw(SEEDS)), plan


@settings(RANDOM_GRAPHS, max_examples=150)
@given(runs())
def test_steps_do_what_the_papers_neurons_do_on_one_clock(run):
    """Every spike in its timestep, inside neurons and between them, the answer after each timestep,
    and when the network is quiet.
    """
    graph, inputs, plan = run
    result = simulate.steps(graph, inputs, plan, trains := Trains())
    assert (trains.images, trains.plan) == (len(inputs), plan)
    expected = reference.run(graph, inputs, plan)
    none = np.zeros(len(inputs), np.int64)
    np.testing.assert_array_equal(
        reference.on_the_clock(trains, graph.input.name, plan.steps), expected.trains[graph.input.name]
    )
    for p in graph.populations:
        if p.kind in ("pasc", "max"):
            spikes = expected.trains[p.name]
            np.testing.assert_array_equal(reference.on_the_clock(trains, p.name, plan.steps), spikes, err_msg=p.name)
            np.testing.assert_array_equal(result.counts[p.name].reshape(len(inputs), -1), spikes.sum(0))
            sent = (spikes != 0).sum(0)
            np.testing.assert_array_equal(result.spikes[p.name].reshape(len(inputs), -1), sent)
            activity = result.activity[p.name]
            np.testing.assert_array_equal(activity.emitted, sent.sum(1), err_msg=p.name)
            np.testing.assert_array_equal(activity.excitatory, expected.up.get(p.name, none), err_msg=p.name)
            np.testing.assert_array_equal(activity.inhibitory, expected.down.get(p.name, none), err_msg=p.name)
            assert {array.dtype for array in activity} == {np.dtype(np.int64)}
    np.testing.assert_array_equal(result.potential, expected.potential[-1])
    logits = expected.potential / np.broadcast_to(graph.output.threshold, graph.output.shape)
    np.testing.assert_array_equal(result.logits, logits[-1])
    np.testing.assert_array_equal(result.answers, logits.argmax(2).T)
    settled = expected.quiet if plan.streams else np.full(len(inputs), plan.length)
    np.testing.assert_array_equal(result.timesteps, np.minimum(settled, plan.steps))
    np.testing.assert_array_equal(result.exact, settled <= plan.steps)


@RANDOM_GRAPHS
@given(runs())
def test_both_engines_give_the_counts_of_the_integer_qcfs_network(run):
    """Residual joins, both poolings, minima, mixed levels, in any schedule: bit for bit, and quiet
    within the schedule's time.
    """
    graph, inputs, plan = run
    expected = integer_qcfs(graph, inputs)
    whole = replace(plan, stop=None)
    for result in (simulate.steps(graph, inputs, whole), simulate.counts(graph, inputs)):
        for name, count in result.counts.items():
            np.testing.assert_array_equal(count, expected[name], err_msg=name)
        np.testing.assert_array_equal(result.potential, expected["output"])
        assert result.exact.all()


@RANDOM_GRAPHS
@given(
    graph=integer_graphs(),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=SEEDS,
    name=st.sampled_from(list(SCHEDULES)),
)
def test_floats_give_the_integers_counts_where_nothing_is_rounded(graph, dtype, seed, name):
    """Weights are the integers divided by a power of two, and levels are powers of two, so that
    shares of a bias are exact.
    """
    inputs, unit = inputs_for(graph, seed), 2.0**-5
    exact = 2.0 ** np.finfo(dtype).nmant
    assume(all(bounds.potential_bound(graph, p.name) < exact for p in graph.weighted))
    graph = graph.replace(
        timing=Timing(name), populations=[replace(p, levels=_power_of_two(p)) for p in graph.populations]
    )
    populations = [
        p
        if p.kind in ("analog", "max", "linear")
        else replace(p, threshold=_as(p.threshold, dtype, unit), bias=_as(p.bias, dtype, unit))
        for p in graph.populations
    ]
    projections = [
        q
        if graph[q.target].kind == "max"
        else replace(
            q, operator=replace(q.operator, weight=_as(q.operator.weight, dtype, _unit(graph[q.target], unit)))
        )
        for q in graph.projections
    ]
    floats, expected = graph.replace(populations=populations, projections=projections), integer_qcfs(graph, inputs)
    assert not floats.is_integer
    for result in (simulate.steps(floats, inputs), simulate.counts(floats, inputs)):
        for population, count in result.counts.items():
            np.testing.assert_array_equal(count, expected[population], err_msg=population)
        np.testing.assert_array_equal(result.potential, expected["output"] * unit)
        assert result.potential.dtype == dtype


def _power_of_two(p):
    return p.levels if p.kind in ("analog", "linear") else 2 ** (p.levels.bit_length() - 1)


def _unit(target, unit):
    return 1 if target.kind == "linear" else unit


def _as(integers, dtype, unit):
    return integers.astype(dtype) * dtype(unit)


def test_a_network_is_not_quiet_while_a_maximum_is_under_way_to_a_layer_that_will_not_answer():
    source, window = Population("input", "analog", (1, 2, 2), 9), SumPool2d((2, 2), (2, 2))
    one = np.ones((1, 1, 1), np.int8)
    populations = (
        source,
        Population("a", "pasc", (1, 2, 2), 9, np.ones((), np.int32), np.zeros((), np.int32)),
        Population("largest", "max", (1, 1, 1), 9, np.ones((), np.int32), np.zeros((), np.int32)),
        Population("silent", "pasc", (1, 1, 1), 9, np.ones((), np.int32), np.full((), -99, np.int32)),
        Population("output", "readout", (1,), 1, np.ones(()), np.zeros((), np.int32)),
    )
    projections = (
        Projection("input", "a", Identity(one)),
        Projection("a", "largest", Identity(one), window),
        Projection("largest", "silent", Identity(one)),
        Projection("silent", "output", Dense(one[0])),
    )
    inputs = np.array([[[[5.0, 3], [1, 0]]], [[[0, 0], [0, 7]]], [[[-1, 0], [0, 0]]]])
    for delay in (0, 1, 2):
        plan = schedule.streaming(Graph(populations, projections), 0, delay)
        # Spike k of `a` leaves in timestep delay + k, and the maximum rises with it, a delay later,
        # on its way for another.
        begun = plan.windows["silent"].begun
        expected = [max(begun, delay + 4 + 2 * delay + 1), max(begun, delay + 6 + 2 * delay + 1), begun]
        assert simulate.steps(Graph(populations, projections), inputs, plan).timesteps.tolist() == expected


@RANDOM_GRAPHS
@given(run=runs(), size=st.integers(1, 500), block=st.integers(1, 500))
def test_the_size_of_batches_and_blocks_changes_nothing(run, size, block):
    graph, inputs, plan = run
    whole, closed = simulate.steps(graph, inputs, plan), simulate.counts(graph, inputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "TRAIN", 16 * size)
        patch.setattr(memory, "LAYER", size)
        patch.setattr(memory, "STATE", block)
        pairs = [(whole, simulate.steps(graph, inputs, plan)), (closed, simulate.counts(graph, inputs))]
    for one, other in pairs:
        for name, count in one.counts.items():
            np.testing.assert_array_equal(other.counts[name], count)
            np.testing.assert_array_equal(other.spikes[name], one.spikes[name])
        for name, activity in one.activity.items():
            np.testing.assert_array_equal(other.activity[name], activity)
        np.testing.assert_array_equal(other.potential, one.potential)
        np.testing.assert_array_equal(other.timesteps, one.timesteps)
        assert (one.answers is None) == (other.answers is None)
        if one.answers is not None:
            np.testing.assert_array_equal(other.answers, one.answers)


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
    """Synapses reached by one spike: the response to it with every weight 1, pooling windows
    counted separately.
    """
    from tests.strategies import _apply

    ones = replace(projection, operator=replace(projection.operator, weight=np.ones_like(projection.operator.weight)))
    return int(_apply(ones, spike).sum())


@RANDOM_GRAPHS
@given(graph=integer_graphs(), seed=st.integers(0, 2**32 - 1))
def test_synaptic_operations_are_spikes_times_fan_out(graph, seed):
    inputs = inputs_for(graph, seed)
    result = simulate.steps(graph, inputs, watcher=(trains := Trains()))
    by_name = {layer.name: layer for layer in events.count(graph, result)}
    for p in graph.populations:
        expected = {"linear": np.zeros(len(inputs), np.int64), "spikes": np.zeros(len(inputs), np.int64)}
        for q in graph.incoming(p.name):
            source = graph[q.source]
            if source.kind != "analog":
                sent = np.count_nonzero(trains.kept[q.source][1].numpy(), axis=0)
                numbers = source.kind == "linear" and result.schedule.largest(graph, q.source) > 1
                expected["linear" if numbers else "spikes"] += (
                    (sent * fan_out(q, source.shape)).reshape(len(inputs), -1).sum(1)
                )
        if p.kind != "analog":
            np.testing.assert_array_equal(by_name[p.name].synaptic_operations, expected["spikes"])
            np.testing.assert_array_equal(by_name[p.name].graded_operations, expected["linear"])


@pytest.mark.parametrize(("bias", "kind"), [(2**30 - 1, np.int32), (2**30, np.int64), (-(2**30), np.int64)])
def test_potentials_are_of_32_bits_as_long_as_none_can_be_larger(bias, kind):
    sign = np.sign(bias)
    populations = (
        Population("input", "analog", (1,), 1),
        Population("a", "pasc", (1,), 1, np.ones((), np.int32), np.zeros((), np.int32)),
        Population("output", "readout", (1,), 1, np.ones(()), np.array([bias], np.int32)),
    )
    projections = (
        Projection("input", "a", Dense(np.ones((1, 1), np.int8))),
        Projection("a", "output", Dense(np.full((1, 1), sign * 2**30, np.int32))),
    )
    graph = Graph(populations, projections)
    for run in (simulate.steps, simulate.counts):
        result = run(graph, np.array([[1.0], [0.0]]))
        assert result.potential.dtype == kind
        assert result.potential.tolist() == [[int(sign) * 2**30 + bias], [bias]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_single_channel_in_the_order_of_lavas_frames_is_convolved_as_any_other(dtype):
    """Channels last in memory, and windows that have one place in a row."""
    rng = np.random.default_rng(0)
    weight, spikes = rng.integers(-1, 2, (2, 1, 2, 3)), rng.integers(-1, 2, (3, 1, 6, 7))
    q = Projection("a", "b", Conv2d(weight.astype(np.int8), (1, 2)), SumPool2d((1, 2), (1, 2)))
    frames = np.moveaxis(np.zeros((3, 6, 7, 1), np.int32), -1, 1)
    frames[:] = spikes
    found = simulate.delivery(q, np.dtype(dtype))(torch.from_numpy(frames))
    np.testing.assert_array_equal(found.numpy(), _apply(q, spikes))
