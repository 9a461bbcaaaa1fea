"""A graph that exists is well formed: what arithmetic would get wrong later is refused at
once, by number.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import pascal_nm as pnm
from pascal_nm.common import memory
from pascal_nm.common.arrays import canonical
from pascal_nm.errors import DataError, GraphError
from pascal_nm.network import graph as graph_module
from pascal_nm.network.dynamics import MAX_LEVELS
from pascal_nm.network.graph import (
    Graph,
    LayerQuantization,
    Population,
    Preprocessing,
    Projection,
    Quantization,
    Timing,
)
from pascal_nm.network.operators import Conv2d, Dense, Identity, SumPool2d
from pascal_nm.simulation import schedule, simulate
from tests import networks


def changed(graph, population=None, projection=None, **changes):
    """The graph with some fields of one population, or the weights of one projection, changed."""
    if population is not None:
        return graph.replace(
            populations=[replace(p, **changes) if p.name == population else p for p in graph.populations]
        )
    projections = list(graph.projections)
    projections[projection] = replace(projections[projection], operator=Dense(changes["weight"]))
    return graph.replace(projections=projections)


def floats():
    return networks.for_digits()


def integers():
    return pnm.quantize(networks.for_digits())


def test_most_levels_count_rightly_and_one_more_is_refused():
    graph = changed(floats(), "hidden", levels=MAX_LEVELS, threshold=np.full((1,), 1e-6))
    inputs = graph.preprocessing(np.full((2, 1, 8, 8), 16.0))
    result = simulate.counts(graph, inputs)
    assert result.counts["hidden"].max() == MAX_LEVELS == np.iinfo(np.int16).max
    for levels in (MAX_LEVELS + 1, 40_000, 10**9):
        with pytest.raises(GraphError, match=rf"1 to {MAX_LEVELS:,}, not {levels}"):
            changed(floats(), "hidden", levels=levels)


def test_many_levels_are_run_within_memory_or_refused():
    graph = changed(floats(), "hidden", levels=MAX_LEVELS)
    inputs = graph.preprocessing(np.full((400, 1, 8, 8), 16.0))
    images = simulate.images_together(graph, schedule.of(graph))
    assert images * MAX_LEVELS * 16 <= memory.TRAIN
    np.testing.assert_array_equal(
        simulate.steps(graph, inputs[:1]).counts["hidden"], simulate.counts(graph, inputs[:1]).counts["hidden"]
    )
    wide = Population("wide", "pasc", (70_000,), levels=MAX_LEVELS)
    projections = (
        Projection("input", "wide", Dense(np.ones((70_000, 64)))),
        Projection("wide", "output", Dense(np.ones((10, 70_000)))),
    )
    with pytest.raises(GraphError, match="too many to run timestep by timestep"):
        simulate.steps(
            graph.replace(populations=(graph.input, wide, graph.output), projections=projections), inputs[:1]
        )


@pytest.mark.parametrize("levels", [0, -1, 1.5, True, float("nan")])
def test_levels_are_whole_numbers_from_one_on(levels):
    with pytest.raises(GraphError, match="levels must be a whole number"):
        changed(floats(), "hidden", levels=levels)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
def test_the_least_number_of_an_integer_type_has_no_magnitude_in_it_and_is_refused(dtype):
    least = np.iinfo(dtype).min
    with pytest.raises(GraphError, match=str(least)):
        changed(integers(), "hidden", bias=np.full((1,), least, dtype))
    with pytest.raises(GraphError, match=str(least)):
        changed(integers(), projection=0, weight=np.full((16, 64), least, dtype))
    assert changed(integers(), "hidden", bias=np.full((1,), least + 1, dtype)).is_integer


@pytest.mark.parametrize("field", ["threshold", "bias"])
def test_an_integer_graph_has_no_float_thresholds_or_biases(field):
    with pytest.raises(GraphError, match=f"{field} of hidden"):
        changed(integers(), "hidden", **{field: np.full((1,), 3.0)})
    with pytest.raises(GraphError, match="bias of output"):
        changed(integers(), "output", bias=np.full((1,), 3.0))


def test_projections_of_integers_and_floats_do_not_mix():
    with pytest.raises(GraphError, match=r"integers only, but the weights of hidden__output are of type float64"):
        changed(integers(), projection=1, weight=np.ones((10, 16)))
    with pytest.raises(GraphError, match="one type"):
        changed(floats(), projection=1, weight=np.ones((10, 16), np.float32))


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.uint8, bool, complex, ">f8", object])
def test_numbers_of_other_types_are_refused(dtype):
    with pytest.raises(GraphError, match="signed integers"):
        changed(floats(), projection=1, weight=np.ones((10, 16)).astype(dtype))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(value):
    with pytest.raises(GraphError, match="NaN or infinite"):
        changed(floats(), projection=1, weight=np.full((10, 16), value))


@pytest.mark.parametrize("dtype, large", [(np.float32, 1e38), (np.float64, 1e307)])
def test_weights_whose_sums_overflow_are_refused_and_inputs_that_make_them_overflow(dtype, large):
    graph = floats().astype(dtype)
    with pytest.raises(GraphError, match="beyond the range"):
        changed(graph, projection=1, weight=np.full((10, 16), large, dtype))
    heavy = changed(graph, projection=0, weight=np.full((16, 64), large, dtype))
    with pytest.raises(DataError, match="beyond float"):
        simulate.counts(heavy, np.full((1, 1, 8, 8), -2.0))
    with pytest.raises(DataError, match=r"beyond float|infinite"):
        simulate.counts(graph, np.full((1, 1, 8, 8), -large * 10))


def pooled(**changes):
    """Input, two convolutions' worth of maps with a max-pooling between them, and a readout;
    some parts changed.
    """
    parts = {
        "input": Population("input", "analog", (2, 6, 5)),
        "first": Population("first", "pasc", (3, 6, 5), levels=4),
        "largest": Population("largest", "max", (3, 3, 2), levels=4),
        "output": Population("output", "readout", (2,)),
        "input to first": Projection("input", "first", Conv2d(np.ones((3, 2, 3, 3)), padding=(1, 1))),
        "first to largest": Projection("first", "largest", Identity(np.ones((1, 1, 1))), SumPool2d((2, 2), (2, 2))),
        "largest to output": Projection("largest", "output", Dense(np.ones((2, 18)))),
    } | changes
    return Graph(
        [p for p in parts.values() if isinstance(p, Population)],
        [q for q in parts.values() if isinstance(q, Projection)],
    )


MISFITS = {
    "two populations of one name": ({"third": Population("first", "pasc", (2,))}, "names must be unique"),
    "two inputs": ({"again": Population("again", "analog", (2,))}, "exactly one analog population"),
    "no input": ({"input": Population("input", "pasc", (2, 6, 5))}, "exactly one analog population, not \\[\\]"),
    "an output of nothing": (
        {"again": Population("again", "readout", (2,))},
        "a population of kind readout cannot have 0 incoming",
    ),
    "a population with a projection's name": (
        {"first__largest": Population("first__largest", "pasc", (2,))},
        "first__largest has the name of a projection",
    ),
    "an edge backwards": (
        {"back": Projection("largest", "first", Conv2d(np.ones((3, 3, 1, 1))))},
        "projection largest -> first: the source must be a population listed before",
    ),
    "an edge to itself": (
        {"back": Projection("first", "first", Identity(np.ones((1, 1, 1))))},
        "projection first -> first: the source must be a population listed before",
    ),
    "an edge from nowhere": (
        {"more": Projection("elsewhere", "output", Dense(np.ones((2, 18))))},
        "projection elsewhere -> output: the source must be",
    ),
    "an edge to nowhere": ({"more": Projection("first", "elsewhere", Dense(np.ones((2, 90))))}, "'elsewhere'"),
    "an edge from the readout": (
        {
            "last": Population("last", "pasc", (2,)),
            "more": Projection("output", "last", Dense(np.ones((2, 2)))),
        },
        "a readout sends no spikes",
    ),
    "a name with a space": ({"first": Population("fi rst", "pasc", (3, 6, 5), levels=4)}, "letters, digits"),
    "a kind of its own": ({"first": Population("first", "relu", (3, 6, 5), levels=4)}, "unknown kind 'relu'"),
    "rows": ({"more": Population("more", "pasc", (3, 6))}, r"shape must be \(C, H, W\) or \(N,\), not \(3, 6\)"),
    "no neurons": ({"more": Population("more", "pasc", (0,))}, r"shape must be \(C, H, W\) or \(N,\), not \(0,\)"),
    "another shape": (
        {"first": Population("first", "pasc", (3, 5, 6), levels=4)},
        r"input -> first: gives shape \(3, 6, 5\), but the target has shape \(3, 5, 6\)",
    ),
    "a threshold of zero": (
        {"first": Population("first", "pasc", (3, 6, 5), 4, np.array([1.0, 0.0, 2.0]))},
        "thresholds must be positive",
    ),
    "a threshold below zero": (
        {"output": Population("output", "readout", (2,), threshold=np.array([1.0, -1.0]))},
        "thresholds must be positive",
    ),
    "no edge to a population": ({"more": Population("more", "pasc", (2,))}, "kind pasc cannot have 0 incoming"),
    "an edge to the input": (
        {
            "input": Population("first_of_all", "pasc", (2, 6, 5)),
            "more": Population("input", "analog", (2, 6, 5)),
        },
        "cannot have",
    ),
    "two edges to a max": (
        {"more": Projection("input", "largest", Conv2d(np.ones((3, 2, 2, 2)), (2, 2)))},
        "kind max cannot have 2 incoming",
    ),
    "a max of other levels": ({"largest": Population("largest", "max", (3, 3, 2), levels=5)}, "of its own levels"),
    "a max of the input": (
        {
            "largest": Population("largest", "max", (2, 3, 2), levels=1),
            "first to largest": Projection("input", "largest", Identity(np.ones((1, 1, 1))), SumPool2d((2, 2), (2, 2))),
            "largest to output": Projection("largest", "output", Dense(np.ones((2, 12)))),
        },
        "takes the spikes of one population",
    ),
    "a max of twice the spikes": (
        {
            "first to largest": Projection(
                "first", "largest", Identity(np.full((1, 1, 1), 2.0)), SumPool2d((2, 2), (2, 2))
            )
        },
        "a pooling window and the identity",
    ),
    "a max of a convolution": (
        {"first to largest": Projection("first", "largest", Conv2d(np.ones((3, 3, 1, 1))), SumPool2d((2, 2), (2, 2)))},
        "a pooling window and the identity",
    ),
    "a max without a window": (
        {
            "largest": Population("largest", "max", (3, 6, 5), levels=4),
            "first to largest": Projection("first", "largest", Identity(np.ones((1, 1, 1)))),
            "largest to output": Projection("largest", "output", Dense(np.ones((2, 90)))),
        },
        "a pooling window and the identity",
    ),
    "a max of sign two": (
        {"largest": Population("largest", "max", (3, 3, 2), 4, np.array([1.0, -2.0, 1.0]))},
        r"\+1 or -1",
    ),
    "a window that does not fit": (
        {"first to largest": Projection("first", "largest", Identity(np.ones((1, 1, 1))), SumPool2d((7, 1), (1, 1)))},
        r"first -> largest: a window of \(7, 1\) with padding \(0, 0\) does not fit into an input of \(6, 5\)",
    ),
    "groups that are not even": (
        {"input to first": Projection("input", "first", Conv2d(np.ones((3, 1, 3, 3)), padding=(1, 1), groups=2))},
        "cannot take an input of shape",
    ),
    "another number of channels": (
        {"input to first": Projection("input", "first", Conv2d(np.ones((3, 1, 3, 3)), padding=(1, 1)))},
        r"2 group|1 group\(s\) cannot take an input of shape \(2, 6, 5\)",
    ),
    "synapses for another number of neurons": (
        {"largest to output": Projection("largest", "output", Dense(np.ones((2, 19))))},
        r"largest -> output: a dense weight of shape \(2, 19\) cannot take an input of shape \(3, 3, 2\)",
    ),
    "an identity that does not broadcast": (
        {"first to largest": Projection("first", "largest", Identity(np.ones((2, 1, 1)) * [[[1]], [[2]]]))},
        "identity weight has shape",
    ),
}


@pytest.mark.parametrize(("changes", "message"), MISFITS.values(), ids=MISFITS)
def test_a_graph_that_is_not_one_is_refused_with_the_place(changes, message):
    with pytest.raises(GraphError, match=message):
        pooled(**changes)


def test_a_bias_that_does_not_broadcast_is_refused_by_the_name_of_its_population():
    message = r"bias of population 'first' has shape \(1, 1, 6\), which does not broadcast to \(3, 6, 5\)"
    with pytest.raises(GraphError, match=message):
        Population("first", "pasc", (3, 6, 5), bias=np.zeros((1, 1, 6)))


def test_a_graph_knows_its_parts_and_names_those_that_it_has_where_asked_for_others():
    graph = pooled()
    assert (graph.input.name, graph.output.name) == ("input", "output")
    assert [p.name for p in graph.spiking] == ["first"]
    assert [p.name for p in graph.weighted] == ["first", "output"]
    assert [q.name for q in graph.incoming("largest")] == ["first__largest"]
    assert [q.name for q in graph.outgoing("largest")] == ["largest__output"]
    assert graph.incoming("input") == graph.outgoing("output") == ()
    assert [p.size for p in graph.populations] == [60, 90, 18, 2]
    assert [p.steps for p in graph.populations] == [1, 4, 4, 0]
    with pytest.raises(GraphError, match="no population 'x'; there are: input, first, largest, output"):
        graph["x"]


def test_what_travels_with_a_graph_fits_it():
    graph = pooled()
    assert graph.replace(classes=("a", "b")).classes == ("a", "b")
    for classes in [("a",), ("a", "b", "c")]:
        with pytest.raises(GraphError, match=f"{len(classes)} class names were given for 2 outputs"):
            graph.replace(classes=classes)
    for channels in (1, 2):
        assert graph.replace(preprocessing=Preprocessing(255.0, (0.5,) * channels, (0.2,) * channels))
    with pytest.raises(GraphError, match="for 3 channels, the network's input has 2"):
        graph.replace(preprocessing=Preprocessing(255.0, (0.5,) * 3, (0.2,) * 3))
    with pytest.raises(GraphError, match="2 lags were given for 1 layers: first"):
        graph.replace(timing=Timing("streaming", (1, 2)))
    with pytest.raises(GraphError, match="float graph cannot say how it was quantized"):
        graph.replace(quantization=Quantization(8))


# -- operators -------------------------------------------------------------------------------------


def images_of(*shape, seed=0):
    return torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def torch_of(operator, x):
    """The operator, as torch computes it."""
    weight = torch.from_numpy(operator.weight)
    if isinstance(operator, Conv2d):
        return F.conv2d(x, weight, None, operator.stride, operator.padding, operator.dilation, operator.groups)
    return x.flatten(1) @ weight.T if isinstance(operator, Dense) else x * weight


OPERATORS = {
    "convolution": Conv2d(images_of(2, 2, 2).numpy(), (2, 1), (0, 1)),
    "grouped convolution": Conv2d(images_of(2, 1, 2).numpy().reshape(6, 1, 1, 2), groups=2, dilation=(2, 1)),
    "a group for each channel": Conv2d(images_of(1, 2, 2).numpy()[:2], padding=(1, 0), groups=2),
    "dense": Dense(images_of(2 * 5 * 6).numpy()),
    "identity": Identity(np.array([2.0, -3.0]).reshape(2, 1, 1)),
    "identity of one number": Identity(np.array([[[1.5]]])),
}


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_an_operator_has_torchs_shape_and_scales_its_input_and_its_output(operator):
    x = images_of(2, 5, 6, seed=3)
    y = torch_of(operator, x)
    assert operator.output_shape((2, 5, 6)) == y.shape[1:]
    inward, outward = np.array([0.5, -2.0]).reshape(2, 1, 1), np.linspace(-1, 2, y.shape[1])
    outward = outward.reshape(-1, *(1,) * (y.ndim - 2))
    torch.testing.assert_close(torch_of(operator.scale_input(inward, (2, 5, 6)), x), torch_of(operator, x * inward))
    torch.testing.assert_close(torch_of(operator.scale_output(outward), x), y * outward)


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
@pytest.mark.parametrize("window", [None, SumPool2d((2, 3), (1, 2), (1, 1)), SumPool2d((2, 2), (2, 2))])
def test_no_sum_is_beyond_the_reach_of_a_projection(operator, window):
    if isinstance(operator, Dense):
        size = 60 if window is None else int(np.prod(window.output_shape((2, 5, 6))))
        operator = Dense(images_of(size, seed=4).numpy())
    projection = Projection("a", "b", operator, window)
    same = type(operator)(**vars(operator) | {"weight": np.full(operator.weight.shape, np.abs(operator.weight).max())})
    ones = torch.ones(1, 2, 5, 6, dtype=torch.float64)
    # The largest sum where every weight is as large as the largest: over whole windows,
    # of all synapses.
    whole = ones if window is None else torch.full((1, *window.output_shape((2, 5, 6))), np.prod(window.kernel) * 1.0)
    largest = float(torch_of(same, whole.double()).max())
    assert projection.largest_sum() == pytest.approx(largest)
    assert projection.output_shape((2, 5, 6)) == torch_of(operator, whole.double()).shape[1:]


@pytest.mark.parametrize(
    "kernel, stride, padding", [((2, 3), (1, 2), (1, 0)), ((5, 6), (1, 1), (0, 0)), ((1, 2), (3, 5), (0, 1))]
)
def test_windows_are_where_torch_has_them(kernel, stride, padding):
    pool = F.avg_pool2d(images_of(2, 5, 6), kernel, stride, padding)
    assert SumPool2d(kernel, stride, padding).output_shape((2, 5, 6)) == pool.shape[1:]


def test_numbers_have_one_axis_for_each_of_a_population_of_length_one_where_they_are_constant():
    for value, shape in {
        (): (1, 1, 1),
        (1,): (1, 1, 1),
        (3,): (3, 1, 1),
        (3, 1, 1): (3, 1, 1),
        (1, 4, 1): (1, 4, 1),
        (3, 4, 5): (3, 4, 5),
    }.items():
        numbers = np.arange(1.0, 1 + np.prod(value)).reshape(value)
        assert canonical(numbers, (3, 4, 5), "bias").shape == shape
        full = np.broadcast_to(numbers.reshape(-1, 1, 1) if len(value) == 1 else numbers, (3, 4, 5))
        assert canonical(full, (3, 4, 5), "bias").shape == shape
        np.testing.assert_array_equal(np.broadcast_to(canonical(full, (3, 4, 5), "bias"), (3, 4, 5)), full)
    assert canonical(np.arange(4), (4,), "bias").shape == (4,)
    for wrong in [(4,), (2,), (4, 5), (3, 4, 6), (1, 3, 4, 5)]:
        with pytest.raises(GraphError, match=r"the bias has shape .* does not broadcast to \(3, 4, 5\)"):
            canonical(np.arange(np.prod(wrong)).reshape(wrong), (3, 4, 5), "the bias")


# -- inputs ----------------------------------------------------------------------------------------


def test_an_integer_graph_rounds_its_input_half_to_even_and_refuses_what_is_beyond_its_range():
    population = Population("input", "analog", (3,), levels=4, threshold=np.array([0.5]))
    integer = np.dtype(np.int32)
    currents = population.currents(np.array([[0.25, 0.75, -2.0], [2.2, -0.26, 0.0]]), integer)
    assert currents.dtype == integer
    np.testing.assert_array_equal(currents, [[0, 2, -4], [4, -1, 0]])
    with pytest.raises(DataError, match=r"reaches 2.3, but the network's input was quantized for values up to 2:"):
        population.currents(np.array([[0.0, -2.3, 0.0]]), integer)
    assert population.currents(np.zeros((0, 3)), integer).shape == (0, 3)
    floats = population.currents(torch.tensor([[0.25, 9.0, 0.1]]), np.dtype(np.float32))
    assert floats.dtype == np.float32
    np.testing.assert_array_equal(floats, np.array([[0.5, 18.0, 0.2]], np.float32))
    for dtype in (integer, np.dtype(np.float32)):
        with pytest.raises(DataError, match=r"inputs of shape \(3,\), the data has shape \(4,\)"):
            population.currents(np.zeros((2, 4)), dtype)
        for value in (np.nan, np.inf):
            with pytest.raises(DataError, match="NaN or infinite"):
                population.currents(np.array([[0.0, value, 0.0]]), dtype)


def test_preprocessing_is_channel_by_channel_and_its_range_is_reached():
    rng = np.random.default_rng(0)
    for pre in (
        Preprocessing(255.0, (0.2, 0.9), (0.5, 2.0)),
        Preprocessing(16.0, (0.9, 0.5), (0.1, 0.1)),
        Preprocessing(4.0, (-0.5, 1.5), (1.0, 1.0)),
    ):
        pixels = rng.uniform(0, pre.scale, (3, 2, 4, 4))
        pixels[0], pixels[1] = 0, pre.scale
        x = pre(pixels)
        assert x.dtype == np.float32
        for c in range(2):
            expected = (pixels[:, c] / pre.scale - pre.mean[c]) / pre.std[c]
            np.testing.assert_allclose(x[:, c], expected, rtol=1e-6, atol=1e-6)
        assert np.abs(x).max() == pytest.approx(pre.range())
    np.testing.assert_allclose(Preprocessing(2.0, (0.5,), (0.25,))(np.array([[1.0, 2.0]])), [[0.0, 2.0]])


@pytest.mark.parametrize(
    "arguments",
    [(0.0,), (-1.0,), (np.inf,), (np.nan,), (1.0, (0.0, 0.0), (1.0,)), (1.0, (0.0,), (0.0,)), (1.0, (0.0,), (-1.0,)),
     (1.0, (np.nan,), (1.0,)), (1.0, (0.0,), (np.inf,)), (1.0, (0.0, 0.0), (1.0, 0.0))],
)  # fmt: skip
def test_preprocessing_that_gives_no_numbers_is_refused(arguments):
    with pytest.raises(DataError, match=r"must be positive|std positive|one of each for every channel"):
        Preprocessing(*arguments)


# -- recipes ---------------------------------------------------------------------------------------


def test_a_recipe_holds_one_value_for_all_layers_or_one_for_each():
    recipe = Quantization([2, 16, 8], ("max", "mse", "max"), 3, 32)
    assert recipe.bits == (2, 16, 8), "a list, as a file holds it, is taken as well"
    assert recipe.layer(0) == LayerQuantization(2, "max", 3, 32)
    assert recipe.layer(1) == LayerQuantization(16, "mse", 3, 32)
    assert [recipe.layer(i).largest for i in range(3)] == [1, 2**15 - 1, 127]
    assert Quantization((8,)).layer(2) == LayerQuantization(8, "max", 0, 0)
    assert (str(recipe), str(Quantization(5)), str(Quantization((3, 3)))) == ("2- to 16-bit", "5-bit", "3-bit")
    recipe.check(["a", "b", "c"])
    for layers in (["a", "b"], ["a"], list("abcd")):
        with pytest.raises(GraphError, match=f"3 values were given to quantize {len(layers)} layers: a"):
            recipe.check(layers)
    for uneven in (Quantization(8, ("max", "max")), Quantization(8, shift=(1, 2))):
        with pytest.raises(GraphError, match="2 values were given to quantize 3 layers: a, b, c"):
            uneven.check(["a", "b", "c"])


@pytest.mark.parametrize("recipe", [{"bits": 1}, {"bits": 17}, {"bits": (8, 1)}, {"range": "least"},
    {"range": ("max", "x")}, {"shift": -1}, {"shift": (0, -1)}, {"bias_bits": 1}, {"bias_bits": 33},
    {"bias_bits": -1}])  # fmt: skip
def test_a_recipe_that_nothing_can_be_made_by_is_refused(recipe):
    with pytest.raises(GraphError, match=r"bits are not supported; choose 2 to 16|unknown range|a shift is 0 or more"):
        Quantization(**recipe)
    assert Quantization().layer(0) == LayerQuantization(8, "max", 0, 0), "what the documentation says of the defaults"
    assert Quantization(2, "mse", 0, 2) and Quantization(16, "max", 1, 0)


# -- differences -----------------------------------------------------------------------------------


def other(part, **changes):
    """The graph of these tests with other fields in one of its parts."""
    graph = pooled()
    parts = {p.name: p for p in graph.populations} | {f"{q.source} to {q.target}": q for q in graph.projections}
    return pooled(**{part: replace(parts[part], **changes)})


DIFFERENCES = {
    "population first: threshold differs in 1 of 1 value(s)": other("first", threshold=np.full((1,), 2.0)),
    "population first: bias is float64(1, 1, 1) against float64(3, 1, 1)": other("first", bias=np.arange(3.0)),
    "population largest: threshold differs in 1 of 1 value(s)": other("largest", threshold=-np.ones(())),
    "population output: levels is 1 against 2": other("output", levels=2),
    "projection largest -> output: weight differs in 2 of 36 value(s)": other(
        "largest to output", operator=Dense(1 + np.pad(np.eye(2), ((0, 0), (3, 13))))
    ),
    "projection first -> largest: kernel is (2, 2) against (2, 3)": other(
        "first to largest", pool=SumPool2d((2, 3), (2, 2))
    ),
    "projection largest -> output: the operators are of different types": other(
        "largest to output", pool=SumPool2d((1, 1), (1, 1))
    ),
    "graph: classes is () against ('a', 'b')": pooled().replace(classes=("a", "b")),
    f"graph: preprocessing is None against {Preprocessing(2.0)}": pooled().replace(preprocessing=Preprocessing(2.0)),
    f"graph: timing is {Timing()} against {Timing('two_phase')}": pooled().replace(timing=Timing("two_phase")),
}


@pytest.mark.parametrize(("line", "graph"), DIFFERENCES.items(), ids=DIFFERENCES)
def test_what_differs_between_two_graphs_is_named(line, graph):
    assert pooled().differences(graph) == [line]
    assert len(graph.differences(pooled())) == 1
    assert graph.differences(graph) == []


def test_all_that_differs_is_named_and_graphs_of_other_parts_by_their_parts():
    graph = pooled()
    single = graph.astype(np.float32)
    weighted = [q for q in graph.projections if graph[q.target].kind != "max"]  # onto a max population, ones are ones
    assert len(graph.differences(single)) == 2 * len(graph.populations) + len(weighted)
    dilated = other("input to first", operator=Conv2d(np.ones((3, 2, 3, 3)), padding=(2, 2), dilation=(2, 2)))
    assert graph.differences(dilated) == [
        "projection input -> first: padding is (1, 1) against (2, 2)",
        "projection input -> first: dilation is (1, 1) against (2, 2)",
    ]
    three = {"input": Population("input", "analog", (3, 6, 5))}
    convolved, copied = (
        pooled(**three, **{"input to first": Projection("input", "first", operator)})
        for operator in (Conv2d(np.ones((3, 3, 1, 1))), Identity(np.ones((1, 1, 1))))
    )
    assert convolved.differences(copied) == ["projection input -> first: the operators are of different types"]
    more = pooled(**{"more": Projection("first", "output", Dense(np.ones((2, 90))))})
    names = ["input__first", "first__largest", "largest__output"]
    assert graph.differences(more) == [f"projections: {names} against {[*names, 'first__output']}"]
    renamed = pooled(
        **{
            "first": replace(graph["first"], name="second"),
            "input to first": replace(graph.projections[0], target="second"),
            "first to largest": replace(graph.projections[1], source="second"),
        }
    )
    (line,) = graph.differences(renamed)
    assert line == (
        "populations: ['input', 'first', 'largest', 'output'] against ['input', 'second', 'largest', 'output']"
    )


@pytest.mark.parametrize("offset", [1e30, -1e30, 2.0**63, -(2.0**63)])
def test_an_offset_of_the_input_that_no_pixel_can_have_is_refused_and_not_cast(offset):
    pixels = Preprocessing(255.0, (0.0,), (1.0,))
    source = Population("input", "analog", (2,), 255, pixels.step, np.array([offset]))
    assert source.zero(pixels) is None
    with pytest.raises(DataError, match="was quantized for values up to"):
        source.currents(graph_module.Pixels(np.array([[3, 200]], np.uint8), pixels), np.dtype(np.int32))
