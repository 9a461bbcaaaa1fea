"""Quantization: what must be exact is, what is rounded is rounded once, and bad requests are refused."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pascal_nm as pnm
from pascal_nm import build, convert, quantize, simulate
from pascal_nm.errors import DataError, GraphError
from pascal_nm.export.nir_format import read_nir, write_nir
from pascal_nm.graph import Preprocessing, Quantization
from tests import networks

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


@pytest.mark.parametrize("name", networks.ALL)
def test_thresholds_lie_on_the_grid_and_weights_are_off_by_half_a_step_at_most(name):
    graph = float_graph(name)
    integer = pnm.quantize(graph)
    for p in graph.spiking:
        q = integer[p.name]
        grid = p.threshold.astype(np.float64) / q.threshold
        for original, rounded in zip(graph.incoming(p.name), integer.incoming(p.name), strict=True):
            if original.source == "input":
                continue
            w, w_int = original.operator.weight.astype(np.float64), rounded.operator.weight
            step = grid.reshape(-1, *(1,) * (w.ndim - 1))
            exponent = np.bitwise_or.reduce(w_int.reshape(-1).astype(np.int64))
            scale = step * int(exponent & -exponent)
            assert np.all(np.abs(w_int * step - w) <= scale / 2 * (1 + 1e-9))


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


def test_values_beyond_the_quantized_range_are_refused():
    graph = pnm.quantize(float_graph())
    with pytest.raises(DataError, match="quantized for values up to"):
        graph.currents(np.full((1, 2, 8, 8), 10.0))


@pytest.mark.parametrize("bits", [1, 17, 0, -3])
def test_unsupported_bits_are_refused(bits):
    with pytest.raises(GraphError, match="choose 2 to 16"):
        pnm.quantize(float_graph(), bits)


def test_a_graph_is_quantized_once():
    with pytest.raises(GraphError, match="already"):
        pnm.quantize(pnm.quantize(float_graph()))


def test_the_range_of_the_input_must_be_known():
    graph = float_graph().replace(preprocessing=None)
    with pytest.raises(GraphError, match="input_range"):
        pnm.quantize(graph)
    assert pnm.quantize(graph, input_range=3.0).is_integer
    with pytest.raises(GraphError, match="positive"):
        pnm.quantize(graph, input_range=0.0)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("arch", ["resnet8", "resnet18"])
def test_quantized_residual_networks_survive_their_file(arch, bits, tmp_path):
    """Identity shortcuts may get one weight for all channels, in memory and in the file alike."""
    torch.manual_seed(bits)
    module = build(arch, (3, 32, 32), 10, 4, width=0.25)
    graph = quantize(convert(module, torch.zeros(1, 3, 32, 32)), bits, input_range=2.0)
    write_nir(graph, tmp_path / "r.nir")
    assert graph.differences(read_nir(tmp_path / "r.nir")) == []
    assert read_nir(tmp_path / "r.nir").quantization == Quantization(bits)
