"""Akida: what its registers say is the integer network, counted by who knows no registers."""

import dataclasses
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pascal_nm.errors import DataError, FileError, NotInstalledError, TargetError
from pascal_nm.hw_targets.akida import device, files, lowering, neurons
from pascal_nm.hw_targets.akida.program import same
from pascal_nm.interop import akida_bundle
from pascal_nm.network.graph import Graph, Population, Preprocessing, Projection
from pascal_nm.network.operators import Conv2d, Dense, Identity, SumPool2d
from pascal_nm.simulation import simulate
from pascal_nm.source import checkpoint
from tests.strategies import integer_qcfs

MODELS = Path(__file__).parents[2] / "models"

AKD1000, AKIDA2 = device.load("akd1000"), device.load("akida2")
LEVELS = st.sampled_from([1, 3, 15])

vendor = pytest.mark.skipif(
    not (akida_bundle.environments() / "akida" / "bin" / "python").exists(),
    reason="BrainChip's software is not installed (make simulators)",
)
"""Of tests that run it, in its own environment."""

SMALL = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def population(rng, name, shape, reach, levels, sends=1.0):
    """A population whose thresholds and biases, one for each channel, are of its inputs' order."""
    column = (shape[0], *(1,) * (len(shape) - 1))
    theta = rng.integers(1, max(2, int(reach * sends) // levels), column).astype(np.int32)
    bias = rng.integers(-reach // 4 - 1, reach // 4 + 2, column).astype(np.int32)
    return Population(name, "pasc", shape, levels, theta, bias)


def weights(rng, shape, most):
    return rng.integers(-most, most + 1, shape).astype(np.int8)


@st.composite
def networks(draw, board=False):
    """Networks that Akida's first version can hold; with ``board`` ones that its chips can."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels = draw(st.sampled_from([1, 3]))
    sides = (draw(st.integers(8, 13)), draw(st.integers(8, 13)))
    mean = tuple(float(m) / 255 for m in rng.integers(0, 256, channels))
    pre = Preprocessing(255.0, mean, (0.5,) * channels)
    levels = int(np.ceil(np.max(np.maximum(pre.centre, 255 - pre.centre)))) + 1
    source = Population(
        "input", "analog", (channels, *sides), levels, pre.step, np.asarray(pre.centre - np.rint(pre.centre))
    )
    populations, projections = [source], []

    def add(name, operator, pool=None):
        last = populations[-1]
        joined = Projection(last.name, name, operator, pool)
        shape = joined.output_shape(last.shape)
        reach = int(joined.operator.sums().max() * joined.window * (255 if last is source else last.levels)) // 4
        populations.append(population(rng, name, shape, reach, draw(LEVELS)))
        projections.append(joined)

    def pooled(name, window):
        last = populations[-1]
        shape = window.output_shape(last.shape)
        populations.append(
            Population(name, "max", shape, last.levels, np.ones((1, 1, 1), np.int32), np.zeros((), np.int32))
        )
        projections.append(Projection(last.name, name, Identity(np.ones((1, 1, 1), np.int8)), window))

    kernel, dilation = draw(st.sampled_from([(1, 1), (2, 1), (3, 1), (3, 2), (5, 1), (4, 2)]))
    padding = draw(st.integers(0, 2))
    stride = draw(st.integers(1, 3)) if min(sides) > 9 else 1
    add(
        "first",
        Conv2d(
            weights(rng, (draw(st.integers(1, 5)), channels, kernel, kernel), 127),
            (stride,) * 2,
            (padding,) * 2,
            (dilation,) * 2,
        ),
    )
    if min(populations[-1].shape[1:]) >= 4 and draw(st.booleans()):
        pooled("first_pooled", SumPool2d((2, 2), (2, 2)))
    for i in range(draw(st.integers(0, 3))):
        inputs, *image = populations[-1].shape
        half = draw(st.integers(0, 1 if board else 3))
        groups = draw(st.sampled_from([1, inputs]))
        weight = weights(
            rng,
            (groups * draw(st.integers(1, 3)), inputs // groups, 2 * half + 1, 2 * half + 1),
            draw(st.sampled_from([1, 7])),
        )
        add(f"layer_{i}", Conv2d(weight, padding=(half, half), groups=groups))
        if min(image) >= 2 and draw(st.booleans()):
            even = all(n % 2 == 0 for n in image)
            pooled(f"layer_{i}_pooled", SumPool2d((2, 2), (2, 2)))
            if not even:  # what hangs over the border is left to a dense layer alone
                break
    if draw(st.booleans()):
        last = populations[-1]
        window = SumPool2d((2, 2), (2, 2)) if min(last.shape[1:]) >= 2 and draw(st.booleans()) else None
        size = int(np.prod(window.output_shape(last.shape) if window else last.shape))
        add("hidden", Dense(weights(rng, (draw(st.integers(1, 9)), size), 7)), window)
    weight = weights(rng, (4, populations[-1].size), 7)
    bias = rng.integers(-99, 99, 4).astype(np.int32)
    populations.append(Population("output", "readout", (4,), 1, np.full((1,), 2.5), bias))
    projections.append(Projection(populations[-2].name, "output", Dense(weight)))
    return Graph(tuple(populations), tuple(projections), pre, ("a", "b", "c", "d"))


def expected(graph, pixels):
    """Counts and potential of stored images, by Equation 1 in int64."""
    mean = np.rint(graph.preprocessing.centre).reshape(-1, 1, 1)
    return integer_qcfs(graph, pixels.astype(np.int64) - mean)


def images(graph, seed=0, number=3):
    return np.random.default_rng(seed).integers(0, 256, (number, *graph.input.shape)).astype(np.uint8)


@given(networks(), st.integers(0, 2**32 - 1))
@SMALL
def test_registers_run_to_the_counts_of_the_integer_network(graph, seed):
    pixels = images(graph, seed)
    counts, potential = lowering.lower(graph, AKD1000).run(pixels)
    wanted = expected(graph, pixels)
    sent = {p.name for p in graph.spiking if not any(graph[q.target].kind == "max" for q in graph.outgoing(p.name))}
    assert set(counts) == sent | {p.name for p in graph.populations if p.kind == "max"}
    for name, found in counts.items():
        assert np.array_equal(found, wanted[name]), name
    assert np.array_equal(potential, wanted["output"])


@given(st.sampled_from([1, 2, 4]), st.integers(1, 2**16), st.integers(-(2**16), 2**16), st.integers(-(2**18), 2**18))
def test_thresholds_and_steps_are_equation_1(bits, theta, bias, potential):
    """In the words of the chip: ceil((P - t) / (act_step * 2**(4 - bits)))."""
    levels = 2**bits - 1
    step, threshold = theta * 2**bits / 16, theta - 1 - theta // 2 - bias
    found = np.clip(np.ceil((potential - threshold) / (step * 2 ** (4 - bits))), 0, levels)
    assert found == np.clip((2 * (potential + bias) + theta) // (2 * theta), 0, levels)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "wanted"),
    [(8, 3, 1, (1, 1)), (8, 3, 2, (0, 1)), (7, 3, 2, (1, 1)), (7, 2, 2, (0, 1)), (4, 1, 1, (0, 0))],
)
def test_a_layer_pads_as_tensorflow_does(side, kernel, stride, wanted):
    assert same(side, kernel, stride) == wanted


# -- version 2 -------------------------------------------------------------------------------------


@given(
    st.integers(1, 5000), st.integers(1, 127), st.integers(-(2**20), 2**20), st.integers(-128, 127), st.integers(0, 6)
)
@settings(max_examples=300, deadline=None)
def test_scales_tell_all_levels_apart_as_equation_1_does(theta, levels, potential, mantissa, shift):
    second, bias = neurons.VERSIONS[2], np.asarray([mantissa << shift])
    try:
        held = second.registers(np.asarray([theta]), bias, levels)
    except TargetError:
        assert theta & (theta - 1)
        return
    near = np.asarray([((2 * k - 1) * theta + d) // 2 for k in range(levels + 2) for d in (-2, -1, 0, 1, 2)]) - bias
    values = np.append(near, potential).reshape(1, 1, -1, 1)
    wanted = np.clip((2 * (values + bias) + theta) // (2 * theta), 0, levels)
    assert np.array_equal(second.counts(held, values, 8), wanted)
    assert all(np.all((values >= 0) & (values <= 255)) for name, values in held.items() if name != "bias")


def test_many_small_thresholds_and_all_powers_of_two_have_scales():
    assert all(neurons.scale(1 << k, levels) for k in range(20) for levels in (1, 4, 15, 127))
    assert sum(neurons.scale(theta, 4) is not None for theta in range(1, 300)) > 100


@st.composite
def residual(draw):
    """Networks with shortcuts whose thresholds and biases version 2 holds."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels, side = draw(st.sampled_from([1, 3])), draw(st.integers(7, 10))
    pre = Preprocessing(255.0, tuple(float(m) / 255 for m in rng.integers(0, 256, channels)), (0.5,) * channels)
    levels = int(np.ceil(np.max(np.maximum(pre.centre, 255 - pre.centre)))) + 1
    centred = np.asarray(pre.centre - np.rint(pre.centre))
    populations = [Population("input", "analog", (channels, side, side), levels, pre.step, centred)]
    projections = []

    def add(name, *incoming, constant=0):
        shape = incoming[0].output_shape(next(p for p in populations if p.name == incoming[0].source).shape)
        column = (shape[0], *(1,) * (len(shape) - 1))
        theta = 2 ** rng.integers(5, 11, column).astype(np.int32)
        bias = rng.integers(-128, 128, column) << rng.integers(0, 5)
        bias = (bias + np.broadcast_to(constant, shape[0]).reshape(column)).astype(np.int32)
        populations.append(Population(name, "pasc", shape, draw(st.integers(1, 20)), theta, bias))
        projections.extend(incoming)

    def kernel(outputs, inputs, size, **how):
        return Conv2d(weights(rng, (outputs, inputs, size, size), 50), padding=(size // 2,) * 2, **how)

    width = draw(st.integers(1, 4))
    first = kernel(width, channels, 3)
    mean = np.rint(pre.centre).astype(np.int64)[:, None, None]
    add("first", Projection("input", "first", first), constant=(first.weight * mean).sum((1, 2, 3)))
    last = "first"
    if draw(st.booleans()):
        window = SumPool2d((2, 2), (2, 2)) if side % 2 == 0 else SumPool2d((2, 2), (2, 2), (0, 0), True)
        shape = window.output_shape(populations[-1].shape)
        pooled = Population(
            "pooled", "max", shape, populations[-1].levels, np.ones((1, 1, 1), np.int32), np.zeros((), np.int32)
        )
        projections.append(Projection("first", "pooled", Identity(np.ones((1, 1, 1), np.int8)), window))
        if side % 2 == 0:  # the first layer pools whole windows
            populations.append(pooled)
            last = "pooled"
        else:
            projections.pop()
    for i in range(draw(st.integers(1, 3))):
        wide, down = draw(st.integers(1, 4)), draw(st.booleans())
        stride = (2, 2) if down else (1, 1)
        inner, outer = f"inner_{i}", f"outer_{i}"
        add(inner, Projection(last, inner, kernel(wide, width, 3, stride=stride)))
        if down or wide != width:
            shortcut = Conv2d(weights(rng, (wide, width, 1, 1), 50), stride)
        else:
            shortcut = Identity(np.full((1, 1, 1), draw(st.sampled_from([1, -7, 127, 1024])), np.int16))
        add(outer, Projection(inner, outer, kernel(wide, wide, 3)), Projection(last, outer, shortcut))
        last, width = outer, wide
    pool = populations[-1].shape[1:]
    window = SumPool2d((pool[0], pool[1]), (pool[0], pool[1])) if draw(st.booleans()) else None
    size = populations[-1].shape[0] if window else populations[-1].size
    populations.append(Population("output", "readout", (3,), 1, np.ones(1), rng.integers(-99, 99, 3).astype(np.int32)))
    projections.append(Projection(last, "output", Dense(weights(rng, (3, size), 127)), window))
    return Graph(tuple(populations), tuple(projections), pre)


@given(residual(), st.integers(0, 2**32 - 1))
@SMALL
def test_networks_with_shortcuts_run_to_the_counts_of_the_integer_network(graph, seed):
    pixels = images(graph, seed)
    counts, potential = lowering.lower(graph, AKIDA2).run(pixels)
    wanted = expected(graph, pixels)
    for name, found in counts.items():
        assert np.array_equal(found, wanted[name]), name
    assert set(counts) >= {p.name for p in graph.spiking if p.name.startswith("outer")}
    assert np.array_equal(potential, wanted["output"])


def test_a_dense_layer_of_too_many_inputs_takes_their_sums_where_it_does_not_tell_them_apart():
    graph = chain(conv(16), conv(16, 16), shape=(1, 16, 16), levels=3)
    powers = [
        dataclasses.replace(p, threshold=np.full((1, 1, 1), 512, np.int32)) if p.levels == 3 else p
        for p in graph.populations
    ]
    constant = np.full((16, 1, 1), 9 * 128, np.int32)  # what the mean brings, so that no bias is left
    powers[1] = dataclasses.replace(powers[1], bias=constant)
    summed = graph.replace(populations=tuple(powers))
    program = lowering.lower(summed, AKIDA2)
    assert [layer.name for layer in program.layers] == ["layer_0", "layer_1", "layer_1_sum", "output"]
    counts, potential = program.run(images(summed))
    wanted = expected(summed, images(summed))
    assert np.array_equal(counts["layer_1"], wanted["layer_1"]) and np.array_equal(potential, wanted["output"])
    apart = np.arange(2 * 16 * 256).reshape(2, -1) % 2
    other = dataclasses.replace(summed.projections[-1], operator=Dense(apart.astype(np.int8)))
    refused(summed.replace(projections=(*summed.projections[:-1], other)), "layer output", "2,048 inputs", chip=AKIDA2)


def test_thresholds_and_biases_that_fit_no_register_of_version_2_are_refused():
    graph = chain(conv(), levels=127)
    biased = dataclasses.replace(graph["layer_0"], bias=np.full((1, 1, 1), 9 * 128 + 257, np.int32))
    one_more = graph.replace(populations=(graph.input, biased, graph.output))
    refused(one_more, "layer layer_0", "bias of 8 bits", "257 is needed", "quantize the float network", chip=AKIDA2)
    constant = np.full((1, 1, 1), 9 * 128, np.int32)
    fits = dataclasses.replace(graph["layer_0"], bias=constant, threshold=np.full((1, 1, 1), 4999, np.int32))
    refused(graph.replace(populations=(graph.input, fits, graph.output)), "layer layer_0", "4,999", chip=AKIDA2)
    refused(chain(conv(), levels=200), "layer layer_0", "1 to 127 levels", "--levels 127", chip=AKIDA2)


def test_float_networks_become_integers_that_version_2_holds():
    """The committed network of 16 convolutions and 8 shortcuts; the accuracy is that of 8 bits."""
    graph = checkpoint.load(MODELS / "cifar10.uniform.pt").graph()
    made = lowering.quantized(graph, AKIDA2)
    assert all(np.all(p.threshold & (p.threshold - 1) == 0) for p in made.spiking)
    program = lowering.lower(made, AKIDA2)
    pixels = images(made, number=2)
    counts, potential = program.run(pixels)
    wanted = simulate.counts(made, made.pixels(pixels))
    assert all(np.array_equal(found, wanted.counts[name]) for name, found in counts.items()) and len(counts) == 17
    assert np.array_equal(potential, wanted.potential)
    assert lowering.quantized(made, AKIDA2) is made


# -- refusals --------------------------------------------------------------------------------------


def chain(*layers, shape=(1, 8, 8), pre=None, levels=15):
    """A network of projections given by their operators, or poolings."""
    pre = pre or Preprocessing(255.0, (0.5,) * shape[0], (0.5,) * shape[0])
    populations = [Population("input", "analog", shape, 129, pre.step, np.asarray(pre.centre - np.rint(pre.centre)))]
    projections = []
    for i, layer in enumerate(layers):
        last, name = populations[-1], f"layer_{i}"
        if isinstance(layer, SumPool2d):
            projections.append(Projection(last.name, name, Identity(np.ones((1, 1, 1), np.int8)), layer))
            populations.append(
                Population(
                    name,
                    "max",
                    layer.output_shape(last.shape),
                    last.levels,
                    np.ones((1, 1, 1), np.int32),
                    np.zeros((), np.int32),
                )
            )
            continue
        projections.append(Projection(last.name, name, layer))
        populations.append(Population(name, "pasc", layer.output_shape(last.shape), levels, np.int32(90), np.int32(0)))
    weight = np.ones((2, populations[-1].size), np.int8)
    populations.append(Population("output", "readout", (2,), 1, np.ones(1), np.int32(0)))
    projections.append(Projection(populations[-2].name, "output", Dense(weight)))
    return Graph(tuple(populations), tuple(projections), pre)


def conv(outputs=2, inputs=1, kernel=3, padding=1, stride=1, weight=1, groups=1):
    values = np.full((outputs, inputs // groups, kernel, kernel), weight, np.int16)
    return Conv2d(values, (stride, stride), (padding, padding), groups=groups)


def refused(graph, *words, chip=AKD1000):
    with pytest.raises(TargetError) as error:
        lowering.lower(graph, chip)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(("levels", "nearest"), [(2, 3), (4, 3), (8, 3), (10, 15), (16, 15)])
def test_other_levels_are_refused_with_the_nearest_ones(levels, nearest):
    refused(
        chain(conv(), levels=levels),
        "layer layer_0",
        "levels 1, 3 and 15",
        f"`train --from model.pt --levels {nearest}`",
    )


def test_weights_beyond_four_bits_are_refused_with_the_bits_that_fit():
    refused(chain(conv(), conv(2, 2, weight=8)), "layer layer_1", "4 bits", "-7 to 7", "--bits 8,4,4")
    refused(chain(conv(weight=200)), "layer layer_0", "8 bits", "-128 to 127")


def test_a_dense_layer_of_pixels_is_refused():
    refused(chain(Dense(np.ones((4, 784), np.int8)), shape=(1, 28, 28)), "layer layer_0", "3, 5 and 7", "--arch cnn")


def test_shortcuts_are_refused():
    graph = chain(conv(2), conv(2, 2))
    shortcut = Projection("layer_0", "layer_1", Identity(np.ones((1, 1, 1), np.int8)))
    refused(graph.replace(projections=(*graph.projections, shortcut)), "layer layer_1", "shortcut", "vgg7")


def test_strides_kernels_and_borders_that_the_chip_has_not_are_refused():
    refused(chain(conv(), conv(2, 2, kernel=3, padding=1, stride=2)), "layer layer_1", "stride of 2")
    refused(chain(conv(), conv(2, 2, kernel=3, padding=0)), "layer layer_1", "half its kernel")
    refused(chain(conv(), conv(2, 2, kernel=9, padding=4), shape=(1, 16, 16)), "layer layer_1", "1, 3, 5 and 7")
    refused(chain(conv(), conv(2, 2, kernel=3, padding=1, stride=3)), "layer layer_1", "strides 1 and 2")
    refused(chain(conv(kernel=9, padding=4), shape=(1, 16, 16)), "layer layer_0", "3, 5 and 7")
    refused(chain(conv(stride=4), shape=(1, 16, 16)), "layer layer_0", "1, 2 and 3")


def test_a_stride_of_two_runs_on_images_with_an_odd_side():
    graph = chain(conv(), conv(2, 2, kernel=3, padding=1, stride=2), shape=(1, 9, 9))
    counts, potential = lowering.lower(graph, AKD1000).run(images(graph))
    wanted = expected(graph, images(graph))
    assert np.array_equal(counts["layer_1"], wanted["layer_1"]) and np.array_equal(potential, wanted["output"])


def test_poolings_that_the_chip_has_not_are_refused():
    refused(chain(conv(), conv(2, 2), SumPool2d((4, 4), (4, 4))), "layer layer_2", "1 and 2 pixels")
    refused(chain(conv(), conv(2, 2), SumPool2d((2, 2), (2, 2), (1, 1))), "layer layer_2", "without a border")
    refused(chain(conv(), SumPool2d((2, 2), (1, 1))), "layer layer_1", "its own size")
    refused(chain(conv(), SumPool2d((2, 2), (2, 2)), SumPool2d((2, 2), (2, 2))), "layer layer_2", "once")
    odd = chain(conv(), conv(2, 2), SumPool2d((2, 2), (2, 2)), conv(2, 2), shape=(1, 7, 7))
    refused(odd, "layer layer_2", "over the border")
    three = chain(conv(), conv(2, 2), SumPool2d((3, 3), (3, 3)), conv(2, 2), shape=(1, 9, 9))
    refused(three, "layer layer_2", "1 and 2 pixels")
    assert lowering.lower(three, device.load("akd1500")).layers[1].pool == 3


def test_average_poolings_beyond_a_kernel_are_refused():
    graph = chain(conv(), conv(2, 2, kernel=1, padding=0))
    wide = Projection("layer_0", "layer_1", conv(2, 2, kernel=3, padding=0), SumPool2d((2, 2), (2, 2)))
    shape = wide.output_shape((2, 8, 8))
    populations = [dataclasses.replace(p, shape=shape) if p.name == "layer_1" else p for p in graph.populations[:-1]]
    output = Projection("layer_1", "output", Dense(np.ones((2, 2 * shape[1] * shape[2]), np.int8)))
    refused(
        Graph((*populations, graph.output), (graph.projections[0], wide, output), graph.preprocessing), "layer layer_1"
    )


def test_a_pooling_of_negative_amplitudes_is_refused():
    graph = chain(conv(), conv(2, 2), SumPool2d((2, 2), (2, 2)))
    smallest = [dataclasses.replace(p, threshold=-p.threshold) if p.kind == "max" else p for p in graph.populations]
    refused(graph.replace(populations=tuple(smallest)), "layer layer_2", "not the smallest")


def test_inputs_that_are_no_pixels_of_eight_bits_are_refused():
    refused(chain(conv(2, 2), shape=(2, 8, 8)), "layer input", "1 or 3 channels")
    refused(chain(conv()).replace(preprocessing=None), "layer input", "stored pixels")
    refused(chain(conv(), pre=Preprocessing(4095.0, (0.0,), (1.0,))), "layer input", "8 bits")
    refused(chain(conv(), shape=(1, 8, 300)), "layer layer_0", "256 a row")
    refused(chain(conv(600)), "layer layer_0", "512 filters")


def test_registers_that_are_too_narrow_are_refused():
    def with_threshold(value, bias=0):
        graph = chain(conv(), conv(2, 2))
        wide = [
            dataclasses.replace(
                p, threshold=np.full((1, 1, 1), value, np.int32), bias=np.full((1, 1, 1), bias, np.int32)
            )
            if p.name == "layer_1"
            else p
            for p in graph.populations
        ]
        return graph.replace(populations=tuple(wide))

    lowering.lower(with_threshold(2**16 - 1), AKD1000)
    refused(with_threshold(2**16), "layer layer_1", "act_step in sixteenths", "1,048,576")
    refused(with_threshold(5, 2**19 + 100), "layer layer_1", "threshold", "-524,288")
    refused(
        chain(conv(), Dense(np.full((2, 8 * 8 * 2 * 64), 7, np.int8)), shape=(1, 64, 64)), "potentials up to 524,287"
    )


def test_biases_that_differ_from_neuron_to_neuron_are_refused():
    graph = chain(conv())
    bias = np.arange(64, dtype=np.int32).reshape(1, 8, 8)
    refused(
        graph.replace(populations=(graph.input, dataclasses.replace(graph["layer_0"], bias=bias), graph.output)),
        "layer layer_0",
        "one bias",
    )


def test_pixels_that_the_chip_does_not_take_are_refused():
    program = lowering.lower(chain(conv()), AKD1000)
    with pytest.raises(DataError, match="stored images of shape"):
        program.run(np.zeros((1, 1, 9, 8), np.uint8))
    with pytest.raises(DataError, match="0 to 255"):
        program.run(np.full((1, 1, 8, 8), 256))


def test_chips_are_known_by_name():
    assert device.available() == ["akd1000", "akd1500", "akida2"]
    with pytest.raises(FileError, match="akd1000, akd1500, akida2"):
        device.load("akd2000")


# -- files -----------------------------------------------------------------------------------------


@pytest.fixture
def small():
    rng = np.random.default_rng(1)
    graph = chain(conv(3, 3), SumPool2d((2, 2), (2, 2)), conv(4, 3), SumPool2d((2, 2), (2, 2)), shape=(3, 12, 12))
    projections = [
        dataclasses.replace(q, operator=q.operator.with_weight(weights(rng, q.operator.weight.shape, 7)))
        if graph[q.target].kind != "max"
        else q
        for q in graph.projections
    ]
    return graph.replace(projections=tuple(projections), classes=("cat", 'a "dog"'))


def write(folder, graph):
    """A bundle without BrainChip's software: what stands in ``model.fbz`` is not read."""
    program = lowering.lower(graph, AKD1000)

    def model(place):
        (place / "model.fbz").write_bytes(b"the vendor's")
        return {"mapped": {}}

    files.write(folder, program, graph, {"network": "a.pt"}, model, "print('compares')\n")
    return program


def altered(folder, name, change):
    """A bundle of which one array is another, with the checksum that belongs to it."""
    file, _, key = name.partition("/")
    with np.load(folder / file) as held:
        arrays = dict(held)
    arrays[key] = change(arrays[key])
    np.savez_compressed(folder / file, **arrays)
    signed(folder, file)


def signed(folder, file):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][file] = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def one(array):
    """One value of an array, changed by 1."""
    array = array.copy()
    array.reshape(-1)[-1] += 1
    return array


def test_a_bundle_is_read_as_it_was_written(tmp_path, small):
    program = write(tmp_path / "bundle", small)
    found = files.executed(tmp_path / "bundle")
    assert found.program.layers == program.layers and found.program.host == program.host
    assert all(np.array_equal(found.program.registers[name], values) for name, values in program.registers.items())
    assert found.graph.equals(small) if hasattr(found.graph, "equals") else not found.graph.differences(small)
    assert found.manifest["form"] == "akida" and found.manifest["chip"] == "AKD1000"
    write(tmp_path / "bundle", small)  # over itself


@pytest.mark.parametrize(
    "name",
    [
        "layer_1.weights",
        "layer_1.threshold",
        "layer_1.step",
        "layer_3.weights",
        "layer_3_relay.weights",
        "output.weights",
        "host.bias",
        "host.scale",
    ],
)
def test_one_weight_threshold_or_step_that_was_altered_is_found(tmp_path, small, name):
    write(tmp_path / "bundle", small)
    altered(tmp_path / "bundle", f"registers.npz/{name}", one)
    with pytest.raises(FileError, match=r"1 of [0-9,]+ values of"):
        files.read(tmp_path / "bundle")


def test_a_checksum_finds_what_was_altered_without_it(tmp_path, small):
    write(tmp_path / "bundle", small)
    for file in files.FILES:
        shutil.copytree(tmp_path / "bundle", tmp_path / file)
        with (tmp_path / file / file).open("ab") as end:
            end.write(b"\n")
        with pytest.raises(FileError, match="changed since"):
            files.read(tmp_path / file)


def test_counts_to_compare_with_that_were_altered_are_found(tmp_path, small):
    write(tmp_path / "bundle", small)
    altered(tmp_path / "bundle", "check.npz/sent_layer_1", one)
    with pytest.raises(FileError, match="does not run to the counts"):
        files.executed(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (("layers", 0, "stride"), 2, "another layer"),
        (("layers", 0, "activation_bits"), 9, "from 0 to 8"),
        (("layers", 0, "name"), "x", "other layers"),
        (("host", "mean"), [1, 2, 3], "another host"),
        (("host", "borders"), [1, 1, 1], "another host"),
        (("chip",), "AKD9", "form and the chip"),
        (("more",), 1, "unknown"),
    ],
)
def test_a_description_that_is_not_the_network_is_found(tmp_path, small, key, value, said):
    write(tmp_path / "bundle", small)
    description = json.loads((tmp_path / "bundle" / "program.json").read_text())
    place = description
    for step in key[:-1]:
        place = place[step]
    place[key[-1]] = value
    (tmp_path / "bundle" / "program.json").write_text(json.dumps(description))
    signed(tmp_path / "bundle", "program.json")
    with pytest.raises(FileError, match=said):
        files.read(tmp_path / "bundle")


def test_what_the_host_runs_is_what_the_program_says(tmp_path, small):
    program = write(tmp_path / "bundle", small)
    names = {}
    exec((tmp_path / "bundle" / "host.py").read_text(), names)
    pixels = images(small)
    assert np.array_equal(names["inputs"](pixels.transpose(0, 2, 3, 1)), program.host.images(pixels))
    assert names["CLASSES"] == ["cat", 'a "dog"']
    *_, (_, sent) = program(program.host.images(pixels))
    assert np.array_equal(names["outputs"](sent), expected(small, pixels)["output"])
    (tmp_path / "bundle" / "host.py").write_text("import os\n")
    signed(tmp_path / "bundle", "host.py")
    with pytest.raises(FileError, match=r"host\.py"):
        files.read(tmp_path / "bundle")


# -- BrainChip's software --------------------------------------------------------------------------


def test_software_that_is_not_installed_is_named(tmp_path, small):
    with pytest.raises(NotInstalledError, match="make simulators"), akida_bundle.software(tmp_path):
        pass


@vendor
def test_every_layer_counts_the_same_in_brainchips_software(tmp_path, small):
    program = lowering.lower(small, AKD1000)
    mapped = akida_bundle.write(tmp_path / "bundle", program, small, {})
    assert 0 < mapped["processors"] <= mapped["of"] == 78 and mapped["program_bytes"] > 0
    pixels = images(small, number=20)
    _, found = akida_bundle.compared(tmp_path / "bundle", pixels, np.zeros(20, int))
    assert found.exact and found.images == found.agreeing == 20
    assert set(found.compared) == {"layer_1", "layer_3", "output"}


@vendor
@given(networks(), st.integers(0, 2**32 - 1))
@settings(SMALL, max_examples=15)
def test_random_networks_count_the_same_in_brainchips_software(tmp_path_factory, graph, seed):
    program, folder = lowering.lower(graph, AKD1000), tmp_path_factory.mktemp("bundle") / "bundle"
    pixels = images(graph, seed)

    def build(place):
        software.build(place)
        assert software.differences(place) == []
        return {}

    with akida_bundle.software() as software:
        files.write(folder, program, graph, {}, build, "")
        counts, potential = program.answer(software.sent(folder, program.host.images(pixels)))
    wanted = expected(graph, pixels)
    for name, found in counts.items():
        assert np.array_equal(found, wanted[name]), name
    assert np.array_equal(potential, wanted["output"])


@vendor
@given(residual(), st.integers(0, 2**32 - 1))
@settings(SMALL, max_examples=15)
def test_networks_with_shortcuts_count_the_same_in_brainchips_software(tmp_path_factory, graph, seed):
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    akida_bundle.write(folder, lowering.lower(graph, AKIDA2), graph, {})
    _, found = akida_bundle.compared(folder, images(graph, seed), np.zeros(3, int))
    assert found.exact and sum(found.compared.values()) > 0


@vendor
@pytest.mark.parametrize("name", ["layer_1.weights", "layer_3.threshold", "layer_3.step", "output.weights"])
def test_one_value_that_was_altered_in_the_model_is_found(tmp_path, small, name):
    """The file is written anew from altered arrays, and has the checksum that belongs to it."""
    program = lowering.lower(small, AKD1000)
    akida_bundle.write(tmp_path / "bundle", program, small, {})
    shutil.copytree(tmp_path / "bundle", tmp_path / "other")
    altered(
        tmp_path / "other",
        f"registers.npz/{name}",
        lambda values: np.where(values == values.max(), values - 1, values).astype(values.dtype),
    )
    with akida_bundle.software() as software:
        software.build(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.fbz", tmp_path / "bundle" / "model.fbz")
    signed(tmp_path / "bundle", "model.fbz")
    with pytest.raises(TargetError, match=rf"{name.split('.')[0]}: [0-9]+ of [0-9]+ values of"):
        akida_bundle.compared(tmp_path / "bundle", images(small), np.zeros(3, int))


@vendor
def test_a_network_that_is_too_large_is_refused_in_brainchips_words(tmp_path):
    graph = chain(conv(8), conv(512, 8), conv(512, 512, weight=5), conv(4, 512), shape=(1, 16, 16))
    with pytest.raises(TargetError, match="BrainChip's software says"):
        akida_bundle.write(tmp_path / "bundle", lowering.lower(graph, AKD1000), graph, {})
    assert not (tmp_path / "bundle").exists()


@vendor
def test_the_bundle_compares_itself(tmp_path, small):
    akida_bundle.write(tmp_path / "bundle", lowering.lower(small, AKD1000), small, {})
    python = akida_bundle.environments() / "akida" / "bin" / "python"
    done = subprocess.run([python, tmp_path / "bundle" / "run_akida.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "output: 0 of 8 values differ" in done.stdout
    altered(tmp_path / "bundle", "check.npz/sent_layer_3", one)
    assert subprocess.run([python, tmp_path / "bundle" / "run_akida.py"], capture_output=True).returncode == 1


@vendor
@pytest.mark.parametrize(("chip", "model"), [("akd1000", "mnist.akida.pt"), ("akida2", "mnist.uniform.pt")])
def test_committed_networks_are_deployed_and_what_was_altered_is_found(tmp_path, pascal, chip, model):
    folder = tmp_path / "bundle"
    code, out, err = pascal("deploy", MODELS / model, "--chip", chip, "-o", folder)
    assert code == 0 and "processors" in out, err
    code, out, err = pascal("verify", folder, "--simulator", "akida", "--json")
    assert code == 0 and json.loads(out)["exact"], err
    first = files.read(folder).program.layers[1].name
    altered(folder, f"registers.npz/{first}.weights", one)
    code, _, err = pascal("verify", folder, "--simulator", "akida")
    assert code == 2 and f"values of '{first}.weights' differ" in err


def test_a_network_with_other_levels_is_refused_in_one_line(tmp_path, pascal):
    code, _, err = pascal("deploy", MODELS / "cifar10.resnet9.pt", "--chip", "akd1000", "-o", tmp_path / "bundle")
    assert code == 2 and "levels 1, 3 and 15, not 4: `train --from model.pt --levels 3`" in err
    assert not (tmp_path / "bundle").exists()
