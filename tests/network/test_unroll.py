"""Unrolled networks: the sums over the copies are the counts of the network that was unrolled, on
every target and under every schedule.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import pascal_nm as pnm
from pascal_nm import hw_targets
from pascal_nm.errors import GraphError
from pascal_nm.export import from_nir, to_nir
from pascal_nm.network.graph import Graph, Population, Preprocessing, Projection, Quantization, Timing
from pascal_nm.network.operators import Dense, Identity, Operator
from pascal_nm.network.unroll import rolled, unroll
from pascal_nm.simulation import schedule, simulate
from tests import networks
from tests.strategies import inputs_for, integer_graphs, integer_qcfs

RANDOM = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
SEEDS = st.integers(0, 2**32 - 1)


def assert_rolled(graph, counts, expected):
    """The sums over copies are the counts of the network before, in their shape and type."""
    found = rolled(graph, counts)
    assert found.keys() == expected.keys()
    for name, count in expected.items():
        np.testing.assert_array_equal(found[name], count, err_msg=name, strict=True)


@RANDOM
@given(graph=integer_graphs(bits=28), seed=SEEDS)
def test_copies_add_up_to_the_levels_of_the_integer_qcfs_network(graph, seed):
    inputs = inputs_for(graph, seed)
    result, expected = simulate.counts(unroll(graph), inputs), integer_qcfs(graph, inputs)
    for name, count in rolled(graph, result.counts).items():
        np.testing.assert_array_equal(count, expected[name], err_msg=name)
    np.testing.assert_array_equal(result.potential, expected["output"])


@RANDOM
@given(graph=integer_graphs(bits=28), seed=SEEDS)
def test_copy_k_spikes_where_the_level_is_at_least_k(graph, seed):
    inputs = inputs_for(graph, seed)
    result, expected = simulate.counts(unroll(graph), inputs), simulate.counts(graph, inputs)
    for name, count in expected.counts.items():
        p = graph[name]
        steps = np.arange(1, p.levels + 1).reshape(-1, *(1,) * (len(p.shape) - 1))
        thermometer = (count[:, :, None] >= steps).reshape(len(inputs), -1, *p.shape[1:])
        np.testing.assert_array_equal(result.counts[name], thermometer, err_msg=name)


@RANDOM
@given(graph=integer_graphs(bits=28), seed=SEEDS, lag=st.integers(0, 3), delay=st.integers(0, 2))
@pytest.mark.parametrize("name", ["pasc", "two_phase", "streaming"])
def test_every_schedule_gives_an_unrolled_network_its_counts(name, graph, seed, lag, delay):
    inputs = inputs_for(graph, seed)
    try:
        unrolled = unroll(graph)
    except GraphError as error:
        assert "beyond 32 bits" in str(error)
        assume(False)
    plan = {
        "pasc": lambda: schedule.pasc(unrolled, delay),
        "two_phase": lambda: schedule.two_phase(unrolled, delay),
        "streaming": lambda: schedule.streaming(unrolled, lag, delay),
    }[name]()
    result, expected = simulate.steps(unrolled, inputs, plan), simulate.counts(graph, inputs)
    assert result.exact.all()
    assert_rolled(graph, result.counts, expected.counts)
    np.testing.assert_array_equal(result.potential, expected.potential)


@RANDOM
@given(graph=integer_graphs(bits=28))
def test_a_layer_of_an_unrolled_network_adds_two_timesteps_or_one_where_it_fires_at_once(graph):
    """In the paper's schedule a neuron of one level integrates, and then spikes; an OR and the
    neurons of two_phase pass a spike on in the timestep in which it arrives.
    """
    unrolled = unroll(graph)
    for plan, own in ((schedule.pasc(unrolled), 2), (schedule.two_phase(unrolled), 1)):
        sends = {graph.input.name: 0}
        for p in graph.populations[1:]:
            arrives = 1 + max(sends[q.source] for q in graph.incoming(p.name))
            sends[p.name] = arrives + (own - 1 if p.kind == "pasc" else 0)
        assert plan.length == sends[graph.output.name] + 1


@pytest.mark.parametrize("make", networks.ALL.values(), ids=networks.ALL)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_float_network_keeps_its_levels(make, seed):
    graph = pnm.convert(networks.randomized(make(), seed), networks.images())
    inputs = networks.images().numpy()
    result, expected = simulate.counts(unroll(graph), inputs), simulate.counts(graph, inputs)
    assert_rolled(graph, result.counts, expected.counts)
    np.testing.assert_allclose(result.potential, expected.potential, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("make", networks.ALL.values(), ids=networks.ALL)
def test_quantizing_before_or_after_unrolling_is_the_same(make):
    graph = pnm.convert(networks.randomized(make()), networks.images())
    recipe = Quantization(5, shift=2)
    before, after = (
        unroll(pnm.quantize(graph, recipe, input_range=4.0)),
        pnm.quantize(unroll(graph), recipe, input_range=4.0),
    )
    assert before.differences(after) == []
    assert before.quantization == after.quantization == recipe


@RANDOM
@given(graph=integer_graphs(bits=28))
def test_an_unrolled_network_goes_through_a_file(graph):
    unrolled = unroll(graph.replace(timing=Timing("streaming", tuple(range(len(list(graph.spiking)))))))
    assert from_nir(to_nir(unrolled)).differences(unrolled) == []


@pytest.mark.parametrize("target", ["torch", "loihi", "lava"])
def test_every_target_runs_an_unrolled_network(target):
    if target == "lava":
        pytest.importorskip("lava.magma", exc_type=ImportError)
    graph = pnm.convert(networks.randomized(networks.max_before_activation()), networks.images())
    # Short biases and thresholds that end in zeros leave biases of copies that registers can hold.
    integer = pnm.quantize(graph, Quantization(4, shift=4, bias_bits=8), input_range=4.0)
    inputs = networks.images(4).numpy()
    result, expected = pnm.run(unroll(integer), inputs, target), simulate.counts(integer, inputs)
    assert_rolled(integer, result.counts, expected.counts)
    np.testing.assert_array_equal(result.potential, expected.potential)


@pytest.mark.parametrize("make", networks.ALL.values(), ids=networks.ALL)
def test_a_chip_runs_what_is_fitted_to_it_after_unrolling(make):
    """Biases of copies have more bits than those of the neurons: they are rounded as copies."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 2, 8, 8))
    graph = pnm.convert(networks.randomized(make()), networks.images(), preprocessing=Preprocessing(255.0))
    program = hw_targets.find("loihi").compile(unroll(graph))
    result = program.run(graph.preprocessing(pixels))
    expected = integer_qcfs(program.graph, program.graph.currents(graph.preprocessing(pixels)))
    for name, count in result.counts.items():
        np.testing.assert_array_equal(count, expected[name], err_msg=name)
    np.testing.assert_array_equal(result.potential, expected["output"])


def test_the_recipe_stays_but_for_the_bits_of_biases():
    graph = single((2, 3, 3), Identity(np.ones((1, 1, 1))))
    integer = pnm.quantize(graph, Quantization((4, 6), shift=3, bias_bits=8), input_range=1.0)
    assert unroll(integer).quantization == Quantization((4, 6), shift=3, bias_bits=0)
    assert unroll(graph).quantization is None


def single(shape, operator, levels=2, theta=1.0):
    """A network of one spiking population."""
    size = int(np.prod(shape))
    return Graph(
        (
            Population("input", "analog", shape, 1),
            Population("a", "pasc", shape, levels, np.asarray(theta)),
            Population("output", "readout", (1,)),
        ),
        (Projection("input", "a", operator), Projection("a", "output", Dense(np.ones((1, size))))),
    )


def test_a_network_of_single_levels_stays_as_it_is():
    graph = single((2, 3, 3), Identity(np.ones((1, 1, 1))), levels=1)
    assert unroll(graph).differences(graph) == []


def test_a_factor_for_each_pixel_cannot_be_unrolled():
    graph = single((1, 2, 2), Identity(np.arange(4.0).reshape(1, 2, 2)))
    with pytest.raises(GraphError, match="projection input -> a: a shortcut whose factor differs from pixel to pixel"):
        unroll(graph)


def test_an_operator_that_says_nothing_of_copies_is_named():
    class Special(Identity):
        name = "special"
        repeated = Operator.repeated

    with pytest.raises(GraphError, match="input -> a: neurons with synapses of kind special cannot be copied"):
        unroll(single((1, 2, 2), Special(np.ones((1, 1, 1)))))


def test_a_bias_beyond_32_bits_is_refused():
    graph = single((1,), Identity(np.ones(1)), levels=20_000, theta=1.0)
    integer = pnm.quantize(graph, 16, input_range=1e-5)
    assert int(integer["a"].threshold.max()) * 20_000 > 2**31
    with pytest.raises(GraphError, match=r"the bias of a reaches [0-9,]+, beyond 32 bits: use fewer levels"):
        unroll(integer)


def test_a_projection_that_memory_would_not_hold_is_refused_with_its_size():
    graph = single((200,), Dense(np.zeros((200, 200))), levels=2**15 - 1)
    with pytest.raises(GraphError, match="projection input -> a has 1,310,680,000 weights, too many"):
        unroll(graph)
