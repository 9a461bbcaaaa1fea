"""Bits and ranges by data: networks put together from layers, losses that are what they say, a
search that ends at a minimum.
"""

import dataclasses
from functools import cache

import numpy as np
import pytest

import pascal_nm as pnm
from pascal_nm.errors import DataError, GraphError
from pascal_nm.export.nir_format import read_nir, write_nir
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import fixed_point
from pascal_nm.network.graph import Preprocessing, Quantization
from pascal_nm.search import precision
from pascal_nm.simulation import simulate
from tests import networks

PRE = Preprocessing(255.0, (0.51, 0.4), (0.25, 0.2))


@cache
def float_graph(name="residual"):
    return pnm.convert(networks.randomized(networks.ALL[name]()), networks.images(), preprocessing=PRE)


@cache
def images(n=300):
    """Inputs, and as their classes what the float network answers; its biases are moved such that
    it answers each class about as often.
    """
    x = PRE(np.random.default_rng(1).integers(0, 256, (n, 2, 8, 8)).astype(np.uint8))
    return x, simulate.counts(balanced(), x).predictions


@cache
def balanced():
    graph = float_graph()
    x = PRE(np.random.default_rng(1).integers(0, 256, (300, 2, 8, 8)).astype(np.uint8))
    potential = simulate.counts(graph, x).potential
    output = dataclasses.replace(graph.output, bias=graph.output.bias - np.median(potential, 0))
    return graph.replace(populations=(*graph.populations[:-1], output))


def layers(graph):
    return [p.name for p in graph.weighted]


@pytest.mark.parametrize("name", networks.ALL)
def test_each_layer_is_quantized_as_if_alone(name):
    graph = float_graph(name)
    bits = tuple(np.random.default_rng(0).integers(2, 9, len(layers(graph))).tolist())
    x, _ = images()
    search = precision._Search(graph, x, np.zeros(len(x)), Quantization(range="mse"), pnm.quantize, None)
    assert pnm.quantize(graph, Quantization(bits, "mse")).differences(search.mixed(bits)) == []


@pytest.mark.parametrize("name", networks.ALL)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_least_squared_error_is_never_larger_than_the_widest_ranges(name, bits):
    graph = float_graph(name)
    widest, least = (precision.losses(graph, pnm.quantize(graph, Quantization(bits, r))) for r in ("max", "mse"))
    for a, b in zip(widest, least, strict=True):
        assert b.weight_error <= a.weight_error * (1 + 1e-9)
    if bits == 2:
        assert any(b.weight_error < 0.9 * a.weight_error for a, b in zip(widest, least, strict=True))


def test_losses_are_those_of_a_network_with_one_layer_quantized():
    """Of the first spiking layer: what it changes alone is what differs in the whole network,
    because nothing before it changed.
    """
    graph = balanced()
    x, _ = images()
    integer = pnm.quantize(graph, 4)
    found = precision.losses(graph, integer, x)
    exact, rounded = simulate.counts(graph, x), simulate.counts(integer, x)
    for loss in found[:-1]:
        assert loss.total == pytest.approx(np.mean(exact.counts[loss.name] != rounded.counts[loss.name]))
    assert found[0].own == pytest.approx(found[0].total)
    assert found[0].own > 0
    assert found[-1].total == pytest.approx(np.mean(exact.predictions != rounded.predictions))
    better = precision.losses(graph, pnm.quantize(graph, 12), x)
    for a, b in zip(found, better, strict=True):
        assert b.potential_error < a.potential_error / 8
        assert b.own <= a.own


def test_ranges_by_data_err_least_in_every_layer():
    graph = balanced()
    x, _ = images()
    chosen = precision.ranges_for(graph, Quantization(3), x)
    by_range = {r: precision.losses(graph, pnm.quantize(graph, Quantization(3, r)), x) for r in ("max", "mse")}
    for i, loss in enumerate(precision.losses(graph, pnm.quantize(graph, chosen), x)):
        assert loss.potential_error == min(by_range[r][i].potential_error for r in by_range)


def test_the_search_stops_where_no_layer_can_lose_another_bit():
    graph = balanced()
    x, labels = images()
    steps = []
    found = precision.fewest_bits(
        graph, x, labels, 0.1, Quantization(12, "mse"), progress=lambda done, total: steps.append(done / total)
    )
    assert steps == sorted(steps)
    assert steps[-1] < 1
    accuracy = lambda recipe: np.mean(simulate.counts(pnm.quantize(graph, recipe), x).predictions == labels)  # noqa: E731
    assert found.accuracy == accuracy(found.recipe) >= found.source_accuracy - 0.1
    assert found.source_accuracy == 1
    bits = found.recipe.bits
    assert sum(bits) < 12 * len(bits)
    weights = [loss.weights for loss in precision.losses(graph, pnm.quantize(graph, found.recipe))]
    assert found.bits == np.dot(bits, weights)
    for i, b in enumerate(bits):
        if b > 2:
            fewer = Quantization((*bits[:i], b - 1, *bits[i + 1 :]), "mse")
            assert accuracy(fewer) < found.source_accuracy - 0.1


def test_a_search_for_a_chip_keeps_its_promise_on_the_chip():
    x, labels = images()
    chip = chips.load("loihi1")

    def make(graph, recipe):
        return fixed_point.fit(graph, chip, precision.ranges_for(graph, recipe, x))

    found = precision.fewest_bits(balanced(), x, labels, 0.25, make=make)
    integer = pnm.quantize(balanced(), found.recipe)
    fixed_point.check(integer, chip)
    assert np.mean(simulate.counts(integer, x).predictions == labels) == found.accuracy >= 0.75
    assert found.recipe.bias_bits == 13


def test_a_drop_that_the_first_bits_exceed_is_refused():
    x, labels = images()
    with pytest.raises(DataError, match=r"already 2-bit weights cost .* points"):
        precision.fewest_bits(balanced(), x, labels, 0.0, Quantization(2))


def test_recipes_survive_their_file(tmp_path):
    graph = balanced()
    n = len(layers(graph))
    recipe = Quantization((4,) * n, ("mse",) * n, (1,) * n, 13)
    integer = pnm.quantize(graph, recipe)
    for p in integer.spiking:
        assert np.all(p.threshold % 2 == 0)
    write_nir(integer, tmp_path / "r.nir")
    assert read_nir(tmp_path / "r.nir").quantization == recipe
    assert integer.differences(read_nir(tmp_path / "r.nir")) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bits": (8, 4)}, r"2 values were given to quantize . layers"),
        ({"range": "widest"}, "unknown range"),
        ({"bits": (8, 17)}, "choose 2 to 16"),
        ({"shift": -1}, "0 or more"),
    ],
)
def test_wrong_recipes_are_refused(wrong, message):
    with pytest.raises(GraphError, match=message):
        pnm.quantize(balanced(), Quantization(**wrong))
