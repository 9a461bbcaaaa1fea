"""Linear populations change nothing: the same network with the composed weights has every count."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pascal_nm.errors import ConversionError, GraphError, TargetError
from pascal_nm.export.nir_format import from_nir, to_nir
from pascal_nm.export.rate import rate_network
from pascal_nm.export.unrolled import unrolled_network
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets.loihi import Execution
from pascal_nm.hw_targets.program import lower
from pascal_nm.network import bounds
from pascal_nm.network.graph import Graph, Population, Preprocessing, Projection, Quantization, Timing
from pascal_nm.network.operators import Dense, Identity
from pascal_nm.network.quantization import quantize
from pascal_nm.report.traces import record, trace
from pascal_nm.search import precision
from pascal_nm.search.comparison import with_more_levels
from pascal_nm.simulation import schedule, simulate
from tests.strategies import _apply, inputs_for, integer_graphs

ANY = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
SEEDS = st.integers(0, 2**32 - 1)


def matrix(graph, projection):
    """Whole numbers of Python, (source neurons, target neurons)."""
    shape = graph[projection.source].shape
    spikes = np.eye(math.prod(shape), dtype=np.int64).reshape(-1, *shape)
    return _apply(projection, spikes).reshape(len(spikes), -1).astype(object)


def composed(graph):
    """Projections by one matrix from each population that stands behind linear ones."""
    ways, projections = {}, []
    for p in graph.populations:
        found = {}
        for q in graph.incoming(p.name):
            for source, before in ways.get(q.source, {q.source: None}).items():
                way = matrix(graph, q) if before is None else before @ matrix(graph, q)
                found[source] = found.get(source, 0) + way
        if p.kind == "linear":
            ways[p.name] = found
            continue
        for source, way in found.items():
            weight = np.array(way.T.tolist(), np.float64)
            assume(np.abs(weight).max(initial=0) < 2**31)
            projections.append(Projection(source, p.name, Dense(weight.astype(np.int32))))
    return projections


def flattened(graph):
    """The composed network, of populations without pixels where nothing pools them."""
    assume(all(p.kind != "max" for p in graph.populations))
    populations = [
        replace(
            p,
            shape=(p.size,),
            threshold=np.array(np.broadcast_to(p.threshold, p.shape)).reshape(-1),
            bias=np.array(np.broadcast_to(p.bias, p.shape)).reshape(-1),
        )
        for p in graph.populations
        if p.kind != "linear"
    ]
    return Graph(tuple(populations), tuple(composed(graph)))


@ANY
@given(graph=integer_graphs(), seed=SEEDS, data=st.data())
def test_the_composed_network_has_the_same_counts_and_outputs_in_every_schedule(graph, seed, data):
    assume(any(p.kind == "linear" for p in graph.populations))
    inputs, whole = inputs_for(graph, seed), flattened(graph)
    expected = simulate.counts(whole, inputs.reshape(len(inputs), -1))
    delay = data.draw(st.integers(0, 2))
    plans = [None, *(getattr(schedule, name)(graph, delay=delay) for name in ("pasc", "two_phase", "graded"))]
    plans.append(schedule.streaming(graph, data.draw(st.integers(0, 3)), delay))
    for plan in plans:
        result = simulate.counts(graph, inputs) if plan is None else simulate.steps(graph, inputs, plan)
        assert result.counts.keys() == expected.counts.keys()
        for name, count in result.counts.items():
            np.testing.assert_array_equal(count.reshape(len(inputs), -1), expected.counts[name], err_msg=name)
        np.testing.assert_array_equal(result.potential, expected.potential)
        assert result.exact.all()


def chain(depth, weight=None, dtype=np.float64):
    """A sum that goes from one linear population to the next; each adds a spiking layer to it."""
    rng, n = np.random.default_rng(0), 6

    def dense(scale=1.0):
        return Dense((rng.normal(size=(n, n)) * scale if weight is None else np.full((n, n), weight)).astype(dtype))

    one = Identity(np.ones((1,), dtype))
    populations = [Population("input", "analog", (n,)), Population("sum_0", "linear", (n,), 0)]
    projections = [Projection("input", "sum_0", dense())]
    for i in range(depth):
        layer = Population(f"layer_{i}", "pasc", (n,), 4, np.full((), 0.5, dtype), np.zeros((), dtype))
        populations += [layer, Population(f"sum_{i + 1}", "linear", (n,), 0)]
        projections += [
            Projection(f"sum_{i}", layer.name, one),
            Projection(f"sum_{i}", f"sum_{i + 1}", one),
            Projection(layer.name, f"sum_{i + 1}", dense(0.5)),
        ]
    populations.append(Population("output", "readout", (3,)))
    projections.append(Projection(f"sum_{depth}", "output", Dense(rng.normal(size=(3, n)).astype(dtype))))
    return Graph(tuple(populations), tuple(projections))


def test_a_sum_that_is_carried_on_does_not_grow_and_is_not_rounded():
    """54 blocks of a residual network without activations in its stream, in 8 bits."""
    graph = chain(54)
    integer = quantize(graph, 8, input_range=3.0)
    for i in range(54):
        (carried,) = (q for q in integer.incoming(f"sum_{i + 1}") if q.source == f"sum_{i}")
        factor = integer[f"sum_{i}"].threshold / integer[f"sum_{i + 1}"].threshold
        np.testing.assert_array_equal(np.broadcast_to(carried.operator.weight, (6,)), factor)
    first, last = (bounds.potential_bound(integer, f"sum_{i}") for i in (0, 54))
    assert last < 55 * 20 * first, "sums grow by what is added to them, and not by a factor for each"
    inputs = np.random.default_rng(1).uniform(-3, 3, (50, 6))
    exact, rounded = simulate.counts(graph, inputs), simulate.counts(integer, inputs)
    assert np.abs(rounded.logits - exact.logits).mean() < 0.3 * exact.logits.std()


def test_a_sum_that_is_carried_on_makes_no_layer_wait_longer_than_its_last_source():
    """Each block of the paper's schedule takes as long as the first one, and not twice as long as
    all before it.
    """
    graph = chain(9)
    for make, own in ((schedule.pasc, 4 + 3 + 2), (schedule.two_phase, 3 + 2)):
        windows = make(graph).windows
        starts = [windows[f"layer_{i}"].emit.start for i in range(9)]
        assert set(np.diff(starts)[1:]) == {own}


def test_bits_of_each_layer_cover_linear_populations():
    graph = chain(2)
    names = [p.name for p in graph.weighted]
    assert names == ["sum_0", "layer_0", "sum_1", "layer_1", "sum_2", "output"]
    bits = (2, 3, 4, 5, 6, 7)
    integer = quantize(graph, Quantization(bits), input_range=3.0)
    for name, b in zip(names, bits, strict=True):
        for q in integer.incoming(name):
            assert np.abs(bounds.mantissa(q.operator.weight)).max() <= 2 ** (b - 1) - 1
    with pytest.raises(GraphError, match="2 values were given to quantize 6 layers: sum_0, layer_0, sum_1"):
        quantize(graph, Quantization((4, 5)), input_range=3.0)


def test_sums_beyond_53_bits_are_refused_by_name():
    graph = chain(1)
    deep = [Population(f"deep_{i}", "linear", (6,), 0) for i in range(9)]
    names = ["sum_1", *(p.name for p in deep)]
    rng = np.random.default_rng(2)
    between = [Projection(a, b, Dense(rng.normal(size=(6, 6)))) for a, b in itertools.pairwise(names)]
    (last,) = graph.incoming("output")
    graph = graph.replace(
        populations=(*graph.populations[:-1], *deep, graph.output),
        projections=(*graph.projections[:-1], *between, replace(last, source=names[-1])),
    )
    with pytest.raises(GraphError, match=r"the sums of deep_\d can reach .*, beyond the 2\*\*53 .*fewer bits"):
        quantize(graph, 8, input_range=3.0)


def test_a_bias_or_levels_of_a_linear_population_are_refused():
    graph = chain(1)

    def with_sum(**changes):
        return graph.replace(
            populations=tuple(replace(p, **changes) if p.name == "sum_1" else p for p in graph.populations)
        )

    with pytest.raises(GraphError, match="'sum_1': a linear population has no bias"):
        with_sum(bias=np.ones(()))
    with pytest.raises(GraphError, match="'sum_1': levels must be a whole number from 0 to 0, not 1"):
        with_sum(levels=1)


def test_a_float_network_goes_through_a_file_bit_for_bit():
    for dtype in (np.float32, np.float64):
        graph = chain(2).astype(dtype)
        assert from_nir(to_nir(graph)).differences(graph) == []
        integer = quantize(graph, 8, input_range=3.0)
        read = from_nir(to_nir(integer))
        assert read.differences(integer) == []
        assert read.quantization == integer.quantization


def test_forms_for_other_readers_refuse_it_and_say_what_helps():
    for make in (unrolled_network, lambda graph: rate_network(graph, 4)):
        with pytest.raises(ConversionError, match=r"no linear populations, and sum_0 is one: convert with growth="):
            make(chain(1))


def test_losses_know_what_linear_populations_lose_and_the_search_gives_them_bits():
    """By bits of each layer; what its own rounding changes grows as its bits fall."""
    graph = chain(2).replace(preprocessing=Preprocessing(1.0, (0.0,) * 6, (0.25,) * 6))
    inputs = np.random.default_rng(1).uniform(-4, 4, (40, 6))
    found = {}
    for bits in (3, 8):
        made = quantize(graph, bits, input_range=4.0)
        found[bits] = {loss.name: loss for loss in precision.losses(graph, made, inputs)}
        assert list(found[bits]) == [p.name for p in graph.weighted]
    for name in ("sum_0", "sum_1", "sum_2"):
        few, many = found[3][name], found[8][name]
        assert few.bits == 3 and few.weights == many.weights > 0
        assert few.potential_error > 4 * many.potential_error > 0
        assert few.weight_error > 4 * many.weight_error > 0
        assert np.isnan(few.own) and np.isnan(few.total)
    labels = simulate.counts(graph, inputs).predictions

    def make(graph, recipe):
        return quantize(graph, recipe, input_range=4.0)

    searched = precision.fewest_bits(graph, inputs, labels, 0.1, make=make)
    assert float(np.mean(simulate.counts(make(graph, searched.recipe), inputs).predictions == labels)) >= 0.9
    assert searched.accuracy >= 0.9


def test_a_chip_without_numbers_refuses_it_by_name_and_one_with_them_runs_it():
    graph = chain(1).replace(preprocessing=Preprocessing(1.0, (0.0,) * 6, (0.25,) * 6))
    for timing in (Timing(), Timing("two_phase")):
        with pytest.raises(TargetError, match=r"'sum_0': its spikes carry no numbers.*growth=float\(\"inf\"\).*loihi2"):
            lower(graph.replace(timing=timing), chips.load("loihi1"))
    program = lower(graph, chips.load("loihi2"), 4)
    integer, inputs = program.graph, np.random.default_rng(3).uniform(-1, 1, (5, 6))
    result, expected = Execution(program).run(inputs), simulate.counts(integer, inputs)
    np.testing.assert_array_equal(result.potential, expected.potential)
    bits = {p.name: p.payload_bits for p in program.populations}
    assert bits["layer_0"] == 0 < bits["sum_0"] < bits["sum_1"] + 1
    narrow = replace(chips.load("loihi2"), spikes=replace(chips.load("loihi2").spikes, graded_bits=bits["sum_0"] - 1))
    with pytest.raises(TargetError, match=r"'sum_0': its spikes carry numbers of .* bits, .* quantize to fewer bits"):
        lower(graph, narrow, 4)


def test_neurons_behind_a_sum_are_traced_as_they_ran():
    for graph in (chain(1), quantize(chain(1), 4, input_range=3.0)):
        inputs = np.random.default_rng(4).uniform(-3, 3, (1, 6))
        result, recording = record(graph, inputs)
        found = trace(graph, result, recording, "output", np.arange(3))
        np.testing.assert_allclose(found.potential[-1], result.logits[0], rtol=1e-9, atol=1e-9)
        sent = recording.sent("sum_1", np.arange(6), plan_steps := result.schedule.steps, graph.dtype)
        assert len(sent) == plan_steps and sent.any()
        np.testing.assert_array_equal((sent != 0).sum(0), result.spikes["sum_1"][0])


def test_more_levels_divide_what_comes_through_sums_once():
    graph = chain(2)
    more = with_more_levels(graph, 4)
    inputs = np.random.default_rng(5).uniform(-3, 3, (60, 6))
    apart = np.abs(simulate.counts(more, inputs).logits - simulate.counts(graph, inputs).logits)
    assert apart.mean() < 0.5 * simulate.counts(graph, inputs).logits.std()
    assert [p.levels for p in more.spiking] == [16, 16]
