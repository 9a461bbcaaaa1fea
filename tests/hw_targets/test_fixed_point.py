"""Mantissas and exponents: they are the integers again, they fit, and Lava's own bit-accurate model
of Loihi 1 computes with them what we compute.
"""

import dataclasses
import importlib
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import pascal_nm as pnm
from pascal_nm.errors import FileError, TargetError
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import fixed_point
from pascal_nm.network.bounds import mantissa, potential_bound
from pascal_nm.network.graph import Preprocessing, Quantization, Timing
from pascal_nm.simulation import simulate
from tests import networks
from tests.hw_targets.test_chip import one_neuron
from tests.strategies import integer_graphs

LOIHI = chips.load("loihi1")
PRE = Preprocessing(255.0, (0.51, 0.4), (0.25, 0.2))


@cache
def float_graph(name):
    return pnm.convert(networks.randomized(networks.ALL[name]()), networks.images(), preprocessing=PRE)


def decoded(graph, p, encoding):
    """Everything in units of the membrane, from the registers alone."""
    shift = LOIHI.fixed_point.shift
    weights = {
        q.name: mantissa(q.operator.weight.astype(np.int64)) * 2.0 ** (shift + encoding.weights[q.name])
        for q in graph.incoming(p.name)
    }
    theta = None if encoding.threshold is None else encoding.threshold * 2**shift
    return weights, theta, encoding.bias * 2.0**encoding.bias_exponents


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(graph=integer_graphs(bits=24), streams=st.booleans())
def test_registers_hold_the_integers_themselves_within_their_widths(graph, streams):
    graph = graph.replace(timing=Timing("streaming" if streams else "pasc"))
    try:
        encoded = fixed_point.check(graph, LOIHI)
    except TargetError:
        assume(False)
    for p in graph.weighted:
        encoding = encoded[p.name]
        unit = 2.0 ** (6 + encoding.exponent)
        weights, theta, bias = decoded(graph, p, encoding)
        for q in graph.incoming(p.name):
            np.testing.assert_array_equal(weights[q.name], q.operator.weight * unit)
            assert -8 <= encoding.weights[q.name] <= 7
        if p.kind == "pasc":
            np.testing.assert_array_equal(theta, p.threshold * unit)
            assert 0 < encoding.threshold.min() <= encoding.threshold.max() < 2**17
        np.testing.assert_array_equal(bias, p.bias * unit)
        assert np.abs(encoding.bias).max() < 2**12
        assert 0 <= encoding.bias_exponents.min() <= encoding.bias_exponents.max() <= 7
        assert potential_bound(graph, p.name) * unit < 2**23


@pytest.mark.parametrize("name", networks.ALL)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("schedule", ["pasc", "streaming"])
def test_a_float_network_is_made_to_fit_and_stays_exact(name, bits, schedule):
    graph = float_graph(name).replace(timing=Timing(schedule))
    integer = fixed_point.fit(graph, LOIHI, Quantization(bits))
    assert set(fixed_point.check(integer, LOIHI)) == {p.name for p in graph.weighted}
    assert integer.differences(pnm.quantize(graph, integer.quantization)) == []
    pixels = np.random.default_rng(0).integers(0, 256, (6, 2, 8, 8)).astype(np.uint8)
    x = PRE(pixels)
    expected, found = simulate.counts(integer, x), simulate.steps(integer, x)
    for population, count in expected.counts.items():
        np.testing.assert_array_equal(found.counts[population], count)


def test_thresholds_become_multiples_where_potentials_reach_far():
    """2**17 units fill the membrane at exponent 0: beyond, one bit of the threshold goes for each
    bit that the potential grows.
    """
    largest = 2**23 // 64  # of the membrane's units at exponent 0
    fits = one_neuron(theta=64, levels=largest - 300)
    assert fixed_point.check(fits, LOIHI)["neuron"].exponent == 0
    assert fixed_point.check(one_neuron(theta=64, levels=largest), LOIHI)["neuron"].exponent == -1
    with pytest.raises(TargetError, match=r"neuron does not fit.*no multiples of 2.*quantize --chip"):
        fixed_point.check(one_neuron(theta=63, levels=largest), LOIHI)
    with pytest.raises(TargetError, match=r"neuron.*the membrane can reach .* beyond 24 bits"):
        fixed_point.check(one_neuron(theta=64, levels=2**23), LOIHI)


def test_biases_have_thirteen_bits():
    assert fixed_point.check(one_neuron(bias=4095), LOIHI)["neuron"].bias == [4095]
    assert fixed_point.check(one_neuron(bias=-8190), LOIHI)["neuron"].bias_exponents == [7]
    with pytest.raises(TargetError, match=r"biases have more bits than a mantissa of 13"):
        fixed_point.check(one_neuron(bias=8189 * 16 + 1, theta=64), LOIHI)


def test_a_fixed_point_section_needs_its_widths(tmp_path):
    text = chips._folder().joinpath("loihi1.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace("bias = 13", ""))
    with pytest.raises(FileError, match="needs the widths of bias"):
        chips.load(str(tmp_path / "mine.toml"))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), theta=st.integers(1, 3000), bias=st.integers(-4000, 4000))
def test_lavas_bit_accurate_neuron_reaches_the_same_potential(seed, theta, bias):
    """Its PyLifModelBitAcc, without leak, given our registers: after one timestep potential and
    spike are ours, in membrane units.
    """
    pytest.importorskip("lava")
    importlib.import_module("pascal_nm.process_models.compat")  # makes Lava importable
    from lava.proc.lif.models import PyLifModelBitAcc

    rng = np.random.default_rng(seed)
    graph = one_neuron(weight=int(rng.integers(-127, 128)) or 1, theta=theta, bias=bias, levels=200)
    encoding = fixed_point.check(graph, LOIHI)["neuron"]
    assume(encoding.exponent == 0)
    value = int(rng.integers(-200, 201))
    (projection,) = graph.incoming("neuron")
    weight = mantissa(projection.operator.weight.astype(np.int64)) << encoding.weights["input__neuron"]
    model = PyLifModelBitAcc({})
    model.u, model.v, model.du, model.dv = np.zeros(1, np.int32), np.zeros(1, np.int32), 4095, 0
    model.bias_mant, model.bias_exp, model.vth = encoding.bias, encoding.bias_exponents, encoding.threshold
    model.scale_bias()
    model.scale_threshold()
    model.subthr_dynamics(weight[0] * value)
    ours = int(projection.operator.weight[0, 0]) * value + bias
    assert model.v[0] == ours * 64
    assert bool(model.spiking_activation()[0]) == (ours > theta)  # Lava's neuron fires beyond its threshold


def test_chips_without_the_section_take_whole_numbers():
    plain = dataclasses.replace(LOIHI, fixed_point=None)
    held = fixed_point.check(one_neuron(bias=4095, theta=3), plain)["neuron"]
    assert (held.exponent, held.threshold, held.bias, held.bias_exponents) == (0, [3], [4095], [0])
    with pytest.raises(TargetError, match="the bias can reach 4096"):
        fixed_point.check(one_neuron(bias=4096), plain)


def test_integers_that_cannot_fit_are_refused_before_they_are_made():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(128, 4), pnm.QCFS(30000), torch.nn.Linear(4, 2))
    graph = pnm.convert(networks.randomized(module), networks.images(), preprocessing=PRE)
    with pytest.raises(TargetError, match="beyond 24 bits"):
        fixed_point.fit(graph, LOIHI, Quantization(16))
