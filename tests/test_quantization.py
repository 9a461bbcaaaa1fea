"""Quantization: what must be exact is, what is rounded is rounded once, and bad
requests are refused.
"""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import pascal_nm as pnm
from pascal_nm import build, convert, quantize
from pascal_nm.errors import DataError, GraphError
from pascal_nm.export.nir_format import read_nir, write_nir
from pascal_nm.network.graph import Preprocessing, Quantization
from pascal_nm.network.operators import Dense, Identity, IndexMap, Sparse
from pascal_nm.simulation import simulate
from tests import networks
from tests.strategies import integer_graphs

PRE = Preprocessing(255.0, (0.51, 0.4), (0.25, 0.2))


@cache
def float_graph(name="convolutional", seed=0):
    return pnm.convert(networks.randomized(networks.ALL[name](), seed), networks.images(), preprocessing=PRE)


def pixels(n=50, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 2, 8, 8)).astype(np.uint8)


@pytest.mark.parametrize("name", networks.ALL)
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_weights_stay_within_their_bits_and_everything_is_an_integer(name, bits):
    graph = pnm.quantize(float_graph(name), bits)
    assert graph.is_integer
    for q in graph.projections:
        weight = q.operator.weight.astype(np.int64)
        common = np.bitwise_or.reduce(weight.reshape(-1))
        exponent = int(common & -common) or 1
        assert np.abs(weight // exponent).max() <= 2 ** (bits - 1) - 1
    for p in graph.spiking:
        assert p.threshold.dtype == p.bias.dtype == np.int32
        assert p.threshold.min() >= 1


@st.composite
def float_graphs(draw):
    """Random networks of every operator in float64, their thresholds per channel or one for all;
    some weights much larger than their neighbours.
    """
    graph = draw(integer_graphs())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels = graph.input.shape[0]
    pre = Preprocessing(255.0, tuple(rng.uniform(0, 1, channels)), tuple(rng.uniform(0.1, 0.5, channels)))
    populations = [replace(graph.input, levels=0)]
    for p in graph.populations[1:]:
        if p.kind == "max":
            populations.append(replace(p, threshold=p.threshold.astype(np.float64), bias=np.zeros(())))
            continue
        if p.kind == "linear":
            populations.append(replace(p, threshold=np.ones(()), bias=np.zeros(())))
            continue
        theta = rng.uniform(0.05, 4, p.threshold.shape)
        populations.append(replace(p, threshold=theta, bias=rng.normal(size=p.bias.shape) * theta.mean()))
    projections = []
    for q in graph.projections:
        size = 10.0 ** rng.uniform(-1, 1) * rng.uniform(
            0.2, 1, (len(q.operator.weight), *(1,) * (q.operator.weight.ndim - 1))
        )
        weight = rng.normal(size=q.operator.weight.shape) * size
        if graph[q.target].kind == "max":
            weight = np.ones_like(weight)
        elif draw(st.integers(0, 9)) == 0:
            weight[0] = 0.0
        projections.append(replace(q, operator=replace(q.operator, weight=weight)))
    return graph.replace(populations=populations, projections=projections, preprocessing=pre)


RECIPES = st.builds(
    Quantization,
    st.integers(2, 16),
    st.sampled_from(["max", "mse"]),
    st.sampled_from([0, 0, 3]),
    st.sampled_from([0, 0, 5, 13]),
)


def column(array, like):
    """One number for each channel, in front of the axes of a weight."""
    return np.asarray(array).reshape(-1, *(1,) * (like.ndim - 1))


def errors(weights, grids, largest):
    """Of each channel the squared difference between the weights and those that
    the grid can hold.
    """
    total = 0.0
    for weight, power in weights:
        step = column(grids * 2.0**power, weight)
        held = np.clip(np.rint(weight / step), -largest, largest) * step
        total = total + ((held - weight) ** 2).reshape(len(weight), -1).sum(1)
    return total


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=float_graphs(), recipe=RECIPES, given_range=st.none() | st.floats(0.5, 9))
def test_every_integer_is_the_one_that_the_formula_says(graph, recipe, given_range):
    """Channel by channel: a grid that divides the threshold; weights, and bias with half a
    threshold, rounded once to it.
    """
    try:
        integer = quantize(graph, recipe, input_range=given_range)
    except GraphError as error:
        assert "its weights are too small against it" in str(error)
        assume(False)
    assert (integer.is_integer, integer.quantization) == (True, recipe)
    largest, unit = 2 ** (recipe.bits - 1) - 1, 2**recipe.shift
    pre = graph.preprocessing
    steps = 1 / (pre.scale * np.array(pre.std)) if given_range is None else np.full(len(pre.std), given_range / 255)
    units = {graph.input.name: steps}
    np.testing.assert_allclose(np.broadcast_to(integer.input.threshold.ravel(), len(steps)), steps, rtol=1e-12)
    for p in graph.populations[1:]:
        q = integer[p.name]
        assert (q.kind, q.shape, q.levels) == (p.kind, p.shape, p.levels)
        pairs = list(zip(graph.incoming(p.name), integer.incoming(p.name), strict=True))
        if p.kind == "max":
            assert (q.threshold.dtype, q.bias.dtype, q.bias.any()) == (np.int32, np.int32, False)
            np.testing.assert_array_equal(q.threshold, p.threshold)
            assert [pair[1].operator.weight.tolist() for pair in pairs] == [np.ones((1, 1, 1)).tolist()]
            continue
        channels = p.shape[0]
        weights = [in_units_of(graph, one, units.get(one.source)) for one, _ in pairs]
        weights = [np.broadcast_to(w, (channels, *w.shape[1:])) for w in weights]
        peaks = [np.abs(w).reshape(channels, -1).max(1) for w in weights]
        tops = [peak.max() for peak in peaks]
        smallest = min([top for top in tops if top > 0], default=1)
        powers = [round(math.log2(top / smallest)) if top > 0 else 0 for top in tops]
        widest = np.max([peak / 2.0**power for peak, power in zip(peaks, powers, strict=True)], 0)
        theta = np.broadcast_to(p.threshold.ravel(), channels)
        bias = np.broadcast_to(p.bias.ravel(), channels)
        carried = [i for i, (one, _) in enumerate(pairs) if carries(graph, one)][:1]
        most = 2**17 - 1
        if any(graph[one.source].kind == "linear" for one, _ in pairs):  # of which bias and threshold have 31 bits
            most = min(2**30, int(2**31 / (1 + np.abs(bias / theta).max()))) - 1
        if carried:  # the unit of another sum, and what is added to it on powers of two
            factors, others = peaks[carried[0]], [i for i in range(len(pairs)) if i not in carried]
            low = min([tops[i] for i in others if tops[i] > 0], default=1)
            needed = np.zeros(channels)
            for i in others:
                needed = np.maximum(needed, peaks[i] / 2.0 ** (round(math.log2(tops[i] / low)) if tops[i] > 0 else 0))
            needed /= largest
            if p.kind == "pasc":
                needed = np.where(
                    needed > 0, np.minimum(needed, theta / 2 ** (recipe.bits + 1)), theta / 2 ** (recipe.bits + 1)
                )
            finer = [int(np.floor(np.log2(f / n))) if n > 0 else 0 for f, n in zip(factors, needed, strict=True)]
            grid = factors / 2.0 ** np.clip(finer, 0, recipe.bits - 2)
            assert not (np.log2(factors / grid) % 1).any()
            grid = np.where(np.array(finer) < -recipe.bits, needed, grid)
            whole = whole_thresholds(theta, grid, unit, most)
            grid = grid if p.kind == "linear" else theta / whole
            powers = [math.ceil(math.log2(max(1.0, (peak / grid).max()) / largest)) for peak in peaks]
            powers = [max(0, power) for power in powers]
        of_channel = list(zip(weights, powers, strict=True))
        clips = [1.0] if recipe.range == "max" else np.linspace(1, 0.3, 15)
        if p.kind == "readout":
            grids = [np.full(channels, (widest * clip / largest).max() or 1.0) for clip in clips]
            grid = min(grids, key=lambda grid: errors(of_channel, grid, largest).sum())
            np.testing.assert_allclose(np.broadcast_to(q.threshold, p.shape), theta / grid, rtol=1e-9)
            offset = bias / grid
        elif p.kind == "linear":
            if not carried:
                grids = [
                    np.where(widest > 0, widest * clip, (widest * clip).max() or largest) / largest for clip in clips
                ]
                best = np.argmin([errors(of_channel, some, largest) for some in grids], 0)
                grid = np.choose(best, grids)
                only = np.max(peaks, 0)
                only = np.where(only > 0, only, 1.0)
                if all(
                    np.isin(np.abs(w / column(only, w)).round(12), (0, 1)).all() for w in weights
                ):  # numbers that are moved
                    grid, powers = only, [0] * len(powers)
            np.testing.assert_allclose(np.broadcast_to(q.threshold.ravel(), channels), grid, rtol=1e-12)
            units[p.name], offset = grid, bias
        else:
            if not carried:
                whole = [whole_thresholds(theta, widest * clip / largest, unit, most) for clip in clips]
                best = np.argmin([errors(of_channel, theta / some, largest) for some in whole], 0)
                whole = np.choose(best, whole)
            np.testing.assert_array_equal(np.broadcast_to(q.threshold.ravel(), channels), whole)
            assert q.threshold.dtype == np.int32
            grid, offset = theta / whole, (bias + theta / 2) / (theta / whole) - whole // 2
        fits = np.array([next((e for e in range(40) if abs(x) <= largest_bias(recipe) * 2**e), 0) for x in offset])
        significant = 2.0**fits if recipe.bias_bits else np.ones(channels)
        np.testing.assert_array_equal(
            np.broadcast_to(q.bias.ravel(), channels), np.rint(offset / significant) * significant
        )
        assert q.bias.dtype == np.int32
        for weight, power, (_, made) in zip(weights, powers, pairs, strict=True):
            held = np.clip(np.rint(weight / column(grid * 2.0**power, weight)), -largest, largest) * 2**power
            found = entries(made.operator)
            np.testing.assert_array_equal(np.broadcast_to(found, held.shape), held)
            assert made.operator.weight.dtype == next(
                t for t in (np.int8, np.int16, np.int32) if np.abs(held).max() <= np.iinfo(t).max
            )


def largest_bias(recipe):
    return 2 ** (max(recipe.bias_bits, 2) - 1) - 1


def whole_thresholds(theta, grid, unit, most):
    """The largest multiples of ``unit`` up to ``most`` at which a grid is as coarse as
    given; at least one.
    """
    return np.array(
        [
            max(1, min(int(t / (unit * g)) if g else (2**17 - 1) // unit, most // unit)) * unit
            for t, g in zip(theta, grid, strict=True)
        ]
    )


def entries(operator):
    """Weights by channel, all numbers of a matrix where synapses are given one by one."""
    if not isinstance(operator, IndexMap | Sparse):
        return operator.weight
    shape = operator.output_shape(operator.source)
    return operator.matrix(operator.source).toarray().reshape(shape[0], -1)


def carries(graph, projection):
    """From a linear population, by a factor for each channel; outputs have one unit for all."""
    weight, ends = projection.operator.weight, [graph[end].kind for end in (projection.source, projection.target)]
    sums = ends[0] == "linear" and ends[1] != "readout"
    return sums and isinstance(projection.operator, Identity) and weight.all()


def in_units_of(graph, projection, steps):
    """Weights for integers of its source, whose unit in each channel is ``steps``, where they
    have one.
    """
    weight, source = entries(projection.operator), graph[projection.source]
    if steps is None:
        return weight
    if isinstance(projection.operator, IndexMap | Sparse):
        each = np.repeat(steps, math.prod(projection.operator.source[1:]))
        return weight * np.tile(each, weight.shape[1] // len(each))
    if isinstance(projection.operator, Dense):
        shape = projection.pool.output_shape(source.shape) if projection.pool else source.shape
        return weight * np.repeat(steps, math.prod(shape[1:]))
    if isinstance(projection.operator, Identity):
        return weight * steps.reshape(-1, *(1,) * (len(source.shape) - 1))
    groups, per_group = projection.operator.groups, weight.shape[1]
    scaled = weight.copy()
    for o, c in np.ndindex(*weight.shape[:2]):
        scaled[o, c] *= steps[o // (len(weight) // groups) * per_group + c]
    return scaled


@settings(max_examples=100, deadline=None)
@given(
    scale=st.sampled_from([1.0, 16.0, 255.0]),
    mean=st.lists(st.floats(0, 1), min_size=2, max_size=2),
    std=st.lists(st.floats(0.01, 2), min_size=2, max_size=2),
)
def test_every_pixel_lies_in_the_range_of_the_integer_input_which_is_no_wider_than_that(scale, mean, std):
    graph = float_graph("perceptron").replace(preprocessing=Preprocessing(scale, tuple(mean), tuple(std)))
    integer = quantize(graph)
    extremes = np.stack([np.zeros((2, 8, 8)), np.full((2, 8, 8), scale)])
    currents = integer.currents(graph.preprocessing(extremes))
    expected = np.rint(extremes - scale * np.array(mean).reshape(2, 1, 1))
    assert np.abs(currents - expected).max() <= 1, "float32 preprocessing may move what lies between two integers"
    assert np.abs(expected).max() <= integer.input.levels <= np.abs(expected).max() + 2
    assert integer.input.threshold.dtype == np.float64
    assert quantize(graph, input_range=3.0).input.levels == 255


@pytest.mark.parametrize("name", networks.ALL)
def test_sixteen_bits_change_hardly_a_level(name):
    graph = float_graph(name)
    x = PRE(pixels())
    exact, rounded = simulate.counts(graph, x.astype(np.float64)), simulate.counts(pnm.quantize(graph, 16), x)
    for p in graph.spiking:
        assert np.mean(exact.counts[p.name] != rounded.counts[p.name]) < 0.02


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_integer_input_is_the_pixel_less_the_rounded_mean(seed):
    graph = pnm.quantize(float_graph("perceptron"))
    values = pixels(2, seed)
    currents = graph.currents(PRE(values))
    np.testing.assert_array_equal(currents, np.rint(values - np.array([130.05, 102.0]).reshape(1, 2, 1, 1)))


SCALES = {255.0: np.uint8, 65535.0: np.uint16, 16.0: np.float32, 1023.0: np.int32}
"""Largest pixel values, and the types in which such pixels are stored."""


@settings(max_examples=100, deadline=None)
@given(
    scale=st.sampled_from(sorted(SCALES)),
    mean=st.lists(st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1), min_size=2, max_size=2),
    std=st.lists(st.floats(0.01, 2), min_size=2, max_size=2),
)
def test_each_pixel_has_the_next_whole_number_and_its_normalized_input_the_same(scale, mean, std):
    """The mean may lie anywhere between two pixels, in the middle, too."""
    pre = Preprocessing(scale, tuple(mean), tuple(std))
    graph = quantize(float_graph("perceptron").replace(preprocessing=pre))
    every = np.linspace(0, scale, min(int(scale), 4096) + 1).round()
    values = np.zeros((len(every), 2, 8, 8), SCALES[scale])
    values[:] = every.reshape(-1, 1, 1, 1)
    currents = graph.currents(graph.pixels(values))
    assert currents.dtype == np.int32
    np.testing.assert_array_equal(np.diff(currents[:, 0, 0, 0]), np.diff(every))
    zero = np.array([round(m * scale) for m in mean]).reshape(2, 1, 1)
    np.testing.assert_array_equal(currents, values.astype(np.int64) - zero)
    np.testing.assert_array_equal(graph.currents(pre(values)), currents)
    np.testing.assert_array_equal(graph.currents(graph.input.inputs(currents)), currents)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int64, np.uint64, np.float16, np.float64])
def test_pixels_of_any_type_give_the_same_currents_and_none_wraps_around(dtype):
    graph = quantize(float_graph("perceptron").replace(preprocessing=Preprocessing(100.0, (0.5,), (0.2,))))
    values = (pixels(3) % 101).astype(dtype)
    np.testing.assert_array_equal(graph.currents(graph.pixels(values)), values.astype(int) - 50)
    largest = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else np.finfo(dtype).max
    with pytest.raises(DataError, match="quantized for values up to"):
        graph.currents(graph.pixels(np.full((1, 2, 8, 8), largest, dtype)))


def test_a_pixel_that_is_no_step_of_the_input_is_normalized_and_rounded():
    pre = Preprocessing(255.0, (0.5,), (0.25,))
    graph = quantize(float_graph("perceptron").replace(preprocessing=pre), input_range=2.0)
    values = pixels(3)
    expected = np.rint(pre(values).astype(np.float64) * 255 / 2)
    np.testing.assert_array_equal(graph.currents(graph.pixels(values)), expected)


def test_a_float_graph_takes_pixels_normalized():
    graph = float_graph()
    np.testing.assert_array_equal(graph.currents(graph.pixels(pixels())), graph.currents(PRE(pixels())))


def test_values_beyond_the_quantized_range_are_refused():
    graph = pnm.quantize(float_graph())
    with pytest.raises(DataError, match="quantized for values up to"):
        graph.currents(np.full((1, 2, 8, 8), -10.0))


@pytest.mark.parametrize("bits", [1, 17, 0, -3])
def test_unsupported_bits_are_refused(bits):
    with pytest.raises(GraphError, match="choose 2 to 16"):
        pnm.quantize(float_graph(), bits)


def test_a_graph_is_quantized_once():
    with pytest.raises(GraphError, match="already"):
        pnm.quantize(pnm.quantize(float_graph()))


@pytest.mark.parametrize("axis", [1, 2])
def test_thresholds_that_differ_within_a_channel_are_refused(axis):
    graph = float_graph()
    p = next(p for p in graph.spiking if len(p.shape) == 3)
    steps = np.arange(1.0, p.shape[axis] + 1).reshape([-1 if i == axis else 1 for i in range(3)])
    other = [replace(q, threshold=p.threshold * steps) if q is p else q for q in graph.populations]
    with pytest.raises(GraphError, match=f"the threshold of {p.name} differs from neuron to neuron within a channel"):
        quantize(graph.replace(populations=other))


def test_the_range_of_the_input_must_be_known():
    graph = float_graph().replace(preprocessing=None)
    with pytest.raises(GraphError, match="input_range"):
        pnm.quantize(graph)
    assert pnm.quantize(graph, input_range=3.0).is_integer
    data = np.random.default_rng(0).normal(size=(9, *graph.input.shape))
    known, found = (pnm.quantize(graph, input_range=each) for each in (float(np.abs(data).max()), data))
    assert not known.differences(found) and known.input_range == found.input_range
    with pytest.raises(DataError, match="all inputs of the data are 0"):
        pnm.quantize(graph, input_range=data * 0)
    with pytest.raises(GraphError, match="positive"):
        pnm.quantize(graph, input_range=0.0)


@cache
def residual_network(arch):
    torch.manual_seed(0)
    return convert(build(arch, (3, 32, 32), 10, 4, width=0.25), torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("arch", ["resnet8", "resnet18"])
def test_quantized_residual_networks_survive_their_file(arch, bits, tmp_path):
    """Identity shortcuts may get one weight for all channels, in memory and in the file alike."""
    graph = quantize(residual_network(arch), bits, input_range=2.0)
    write_nir(graph, tmp_path / "r.nir")
    read = read_nir(tmp_path / "r.nir")
    assert graph.differences(read) == []
    assert read.quantization == Quantization(bits)
