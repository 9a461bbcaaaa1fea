"""Bounds hold in every stage of every schedule, are reached, and numbers are split into the
smallest mantissas and exponents.
"""

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pascal_nm import neuron
from pascal_nm.errors import GraphError
from pascal_nm.network import bounds
from pascal_nm.network.graph import Graph, Population, Projection
from pascal_nm.network.operators import Conv2d, Dense, Identity, SumPool2d
from pascal_nm.simulation import schedule, simulate
from tests.strategies import _apply, inputs_for, integer_graphs

ANY = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


class Peaks:
    """Watches a run: the largest magnitude of the potential, in every stage of every population,
    before and after each reset.
    """

    def __init__(self):
        self.found, self._stages = {}, defaultdict(float)
        self._step, self._accumulate = neuron.step, neuron.accumulate

    def start(self, images, plan):
        return self

    def see(self, name, train, first):
        for stage, peak in self._stages.items():
            self.found[name, stage] = max(peak, self.found.get((name, stage), 0.0))
        self._stages.clear()

    def events(self):
        return None

    def keep(self, stage, state, current, after):
        reached = [after.v, state.v] if current is None else [after.v, state.v, state.v + current]
        self._stages[stage.value] = max(self._stages[stage.value], *(float(v.abs().max()) for v in reached))

    def step(self, stage, state, current, theta, levels):
        result = self._step(stage, state, current, theta, levels)
        self.keep(stage, state, current, result.state)
        return result

    def accumulate(self, state, current):
        after = self._accumulate(state, current)
        self.keep(neuron.Stage.ACCUMULATE, state, current, after)
        return after


def peaks(graph, inputs, plan):
    """By (population, stage), and the readout's at the end under (its name, "accumulate"): of the
    package's own run.
    """
    watcher = Peaks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neuron, "step", watcher.step)
        patch.setattr(neuron, "accumulate", watcher.accumulate)
        result = simulate.steps(graph, inputs, plan, watcher)
    return watcher.found | {(graph.output.name, "accumulate"): float(np.abs(result.potential).max())}


PLANS = {
    "pasc": schedule.pasc,
    "two_phase": schedule.two_phase,
    "streaming": lambda graph: schedule.streaming(graph, 0),
    "streaming, lag 1": lambda graph: schedule.streaming(graph, 1),
    "graded": schedule.graded,
}
STAGES = {
    "pasc": {"accumulate", "integrate", "correct", "encode", "emit"},
    "two_phase": {"accumulate", "stream"},
    "streaming": {"accumulate", "stream"},
    "streaming, lag 1": {"accumulate", "stream"},
    "graded": {"accumulate", "change"},
}


@pytest.mark.parametrize("name", PLANS)
def test_no_potential_leaves_its_bound_in_any_stage(name):
    seen = set()

    @ANY
    @given(graph=integer_graphs(), seed=st.integers(0, 2**32 - 1))
    def on_random_graphs(graph, seed):
        plan = PLANS[name](graph)
        for (population, stage), peak in peaks(graph, inputs_for(graph, seed), plan).items():
            assert peak <= bounds.potential_bound(graph, population), (population, stage)
            seen.add(stage)

    on_random_graphs()
    assert seen == STAGES[name], "or nothing is shown of the others"


@st.composite
def operators(draw):
    """An operator with a pooling before it, or none, for a source of just the size at which each
    input reaches each channel once at most.
    """
    kind, pooled = draw(st.sampled_from(["dense", "conv", "grouped", "identity"])), draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    groups = 2 if kind == "grouped" else 1
    window = (draw(st.integers(1, 3)), draw(st.integers(1, 3))) if pooled else (1, 1)
    channels = 4
    shape = (channels, kernel[0] * window[0], kernel[1] * window[1])
    weight = {
        "dense": lambda: rng.integers(-127, 128, (3, channels * math.prod(kernel))),
        "identity": lambda: rng.integers(-127, 128, (channels, 1, 1)),
    }.get(kind, lambda: rng.integers(-127, 128, (6, channels // groups, *kernel)))()
    operator = {"dense": Dense, "identity": Identity}.get(kind, lambda w: Conv2d(w, groups=groups))(weight)
    return shape, operator, SumPool2d(window, window) if pooled else None


def one_layer(shape, operator, pool, levels, theta, bias):
    """Sources that count what they are given, 0 to ``levels``, behind ``operator``; and a readout
    of what comes of it.
    """
    target = Projection("source", "target", operator, pool)
    reached = target.output_shape(shape)
    column = (-1, *(1,) * (len(reached) - 1))
    populations = (
        Population("input", "analog", shape, 255),
        Population("source", "pasc", shape, levels, np.ones((), np.int32), np.zeros((), np.int32)),
        Population("target", "pasc", reached, 5, np.full((), theta, np.int32), bias.astype(np.int32).reshape(column)),
        Population("output", "readout", (1,), 1, np.ones(()), np.zeros((), np.int32)),
    )
    projections = (
        Projection("input", "source", Identity(np.ones((1,) * len(shape), np.int8))),
        target,
        Projection("target", "output", Dense(np.ones((1, math.prod(reached)), np.int8))),
    )
    return Graph(populations, projections)


@ANY
@given(
    layer=operators(),
    levels=st.integers(1, 16),
    largest_bias=st.integers(0, 5000),
    sign=st.sampled_from([-1, 1]),
    data=st.data(),
)
@pytest.mark.parametrize("name", PLANS)
def test_the_worst_input_comes_within_a_few_thresholds_of_the_bound(name, layer, levels, largest_bias, sign, data):
    """All weights inhibit, and so does the bias: the potential falls by all of them.

    Where all excite, it rises so far if nothing fires on the way.
    """
    shape, operator, pool = layer
    weight = sign * np.abs(operator.weight).astype(np.int16)
    totals = np.abs(weight).reshape(len(weight), -1).sum(1).astype(int) * (math.prod(pool.kernel) if pool else 1)
    theta = data.draw(st.integers(1, max(1, int(totals.max()) * levels // 8)))
    bias = sign * largest_bias * (totals == totals.max())
    graph = one_layer(shape, replace(operator, weight=weight), pool, levels, theta, bias)
    found = peaks(graph, np.full((1, *shape), float(levels)), PLANS[name](graph))
    peak = max(value for (population, _), value in found.items() if population == "target")
    bound = bounds.potential_bound(graph, "target")
    assert peak <= bound
    if sign < 0:
        assert bound <= peak + 1.5 * theta, "the bound's own threshold, and the initial half"
    elif name == "two_phase":
        assert bound == peak + theta - theta // 2
    assert bounds.potential_bound(graph, "output") == 5 * math.prod(graph["target"].shape)


@ANY
@given(layer=operators(), largest=st.integers(0, 255))
def test_the_current_bound_of_a_channel_is_what_its_worst_input_delivers(layer, largest):
    shape, operator, pool = layer
    projection = Projection("a", "b", operator, pool)
    bound, reached = bounds.current_bound(projection, largest), projection.output_shape(shape)
    assert bound.shape == (reached[0],)
    for channel in range(reached[0]):
        # Each input has the sign of the weight with which it reaches the first
        # neuron of the channel.
        inputs = largest * np.sign(backwards(projection, shape, channel))
        assert bound[channel] == _apply(projection, inputs[None])[0, channel].flat[0]


def backwards(projection, shape, channel):
    """Weights from every input to the first neuron of a channel, of the source's shape."""
    spikes = np.eye(math.prod(shape), dtype=np.int64).reshape(-1, *shape)
    responses = _apply(projection, spikes)[:, channel]
    return responses.reshape(len(spikes), -1)[:, 0].reshape(shape)


INTEGERS = st.lists(st.integers(-(2**30), 2**30), max_size=8)


@given(values=INTEGERS, exponent=st.integers(0, 20))
def test_weights_are_their_mantissas_times_the_largest_common_power_of_two(values, exponent):
    weight = np.array(values, np.int64).reshape(-1, 1) * 2**exponent
    common, rest = bounds.common_exponent(weight), bounds.mantissa(weight)
    np.testing.assert_array_equal(rest * 2**common, weight)
    assert (rest.shape, rest.dtype) == (weight.shape, weight.dtype)
    if weight.any():
        assert common >= exponent
        assert (rest % 2).any(), "an odd one, so that no larger power divides all"
    else:
        assert common == 0


@given(values=INTEGERS, bits=st.integers(2, 16), scale=st.sampled_from([0, 1, 0.5, 1e-3]))
def test_exponents_are_the_smallest_with_which_mantissas_reach_the_values(values, bits, scale):
    values = np.array(values, np.float64) * scale
    found = bounds.exponents(values, bits)
    assert found.dtype == np.int64
    expected = [next(e for e in range(64) if abs(value) <= (2 ** (bits - 1) - 1) * 2**e) for value in values]
    assert found.tolist() == expected


@given(values=INTEGERS, exponent=st.integers(0, 20))
def test_weight_bits_are_those_of_the_narrowest_signed_mantissas(values, exponent):
    weight = np.array(values, np.int64).reshape(1, -1) * 2**exponent
    largest = np.abs(bounds.mantissa(weight)).max(initial=0)
    expected = next(bits for bits in range(1, 64) if largest <= 2 ** (bits - 1) - 1)
    assert bounds.weight_bits(Projection("a", "b", Dense(weight))) == expected


@pytest.mark.parametrize(("kind", "largest"), [(np.float32, 2**24), (np.float64, 2**53)])
def test_integer_sums_up_to_the_bound_are_exact_in_their_carrier_and_in_no_narrower_one(kind, largest):
    assert bounds.carrier(largest - 1) is kind
    assert kind(largest - 1) + kind(1) == largest
    assert kind(largest) + kind(1) == largest, "one more is lost"
    if kind is np.float32:
        assert bounds.carrier(largest) is np.float64
    else:
        with pytest.raises(GraphError, match=r"can reach 9\.01e\+15, beyond .* quantize to fewer bits"):
            bounds.carrier(largest)


def test_an_analog_source_sends_as_much_as_its_largest_input():
    assert bounds.largest_input(Population("input", "analog", (3,), 77)) == 77
    assert bounds.largest_input(Population("layer", "pasc", (3,), 5)) == 5
