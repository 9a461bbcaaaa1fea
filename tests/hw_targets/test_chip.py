"""Chips: bit widths refused before a run, energies that add up, descriptions with sources."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pascal_nm import simulate
from pascal_nm.activity import events
from pascal_nm.errors import FileError, TargetError
from pascal_nm.graph import Dense, Graph, Population, Projection
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import find, fixed_point
from tests.strategies import inputs_for, integer_graphs

CHIP = """
name = "Test"
source = "nowhere"
estimate = true
[widths]
weight = 8
membrane = 16
threshold = 12
bias = 10
[energy]
synaptic_operation = { value = 2, source = "a" }
multiply_accumulate = { value = 3, source = "b" }
update = { value = 5, source = "c" }
"""


@pytest.fixture
def chip(tmp_path):
    def load(change=lambda text: text):
        path = tmp_path / "test.toml"
        path.write_text(change(CHIP))
        return chips.load(str(path))

    return load


def one_neuron(weight=1, theta=1, bias=0, levels=1):
    """One input, one neuron, one output."""
    array = lambda value: np.array([value], np.int32)  # noqa: E731
    return Graph(
        (
            Population("input", "analog", (1,), levels),
            Population("neuron", "pasc", (1,), 4, array(theta), array(bias)),
            Population("output", "readout", (1,), 1, np.ones(()), array(0)),
        ),
        (
            Projection("input", "neuron", Dense(np.array([[weight]], np.int32))),
            Projection("neuron", "output", Dense(np.array([[1]], np.int8))),
        ),
    )


@pytest.mark.parametrize(
    ("fits", "beyond", "quantity"),
    [
        ({"weight": 127}, {"weight": 129}, "weight"),
        ({"weight": 127 * 8}, {"weight": 129 * 4}, "weight"),
        ({"theta": 4095}, {"theta": 4096}, "threshold"),
        ({"bias": -511}, {"bias": -512}, "bias"),
        ({"levels": 32765}, {"levels": 32766}, "membrane"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(chip, fits, beyond, quantity):
    fixed_point.check(one_neuron(**fits), chip())
    with pytest.raises(TargetError, match=f"neuron.*the {quantity} can reach .* bits"):
        fixed_point.check(one_neuron(**beyond), chip())


def test_the_chip_target_refuses_before_it_runs():
    with pytest.raises(TargetError, match=r"weight.*beyond the 8 bits"):
        find("loihi").compile(one_neuron(weight=1001))
    assert find("torch").compile(one_neuron(weight=1001)).run(np.ones((1, 1))).predictions == [0]


@settings(max_examples=30, deadline=None)
@given(graph=integer_graphs(), seed=st.integers(0, 2**32 - 1))
def test_energy_is_events_times_figures(graph, seed):
    table = chips.load("loihi1")
    layers = events(graph, simulate.steps(graph, inputs_for(graph, seed)))
    for layer, priced in zip(layers, chips.energy(layers, table), strict=True):
        expected = 1e-12 * np.mean(
            23.6 * layer.synaptic_operations
            + 23.6 * layer.multiply_accumulates
            + 81.0 * layer.updates
            + 52.0 * layer.idle
        )
        assert priced.total == pytest.approx(expected, rel=1e-12)


def test_every_figure_of_every_chip_has_its_source():
    assert {"loihi1", "loihi1_calibrated", "loihi2", "cmos45_fp32", "cmos45_int8"} <= set(chips.available())
    for name in chips.available():
        described = chips.load(name)
        assert described.source
        assert all(figure.source and figure.value > 0 for figure in described.energy.values())
    assert chips.load("loihi2").estimate


def test_the_papers_energy_of_a_multiply_accumulate():
    floats, integers = chips.load("cmos45_fp32").energy, chips.load("cmos45_int8").energy
    assert (floats["synaptic_operation"].value, floats["multiply_accumulate"].value) == (0.9, 4.6)
    assert (integers["synaptic_operation"].value, integers["multiply_accumulate"].value) == (0.03, 0.23)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text + "= =", "not valid TOML"),
        (lambda text: text.replace('name = "Test"', ""), "name"),
        (lambda text: text.replace(', source = "b"', ""), "source"),
        (lambda text: text.replace("update", "upgrade"), "upgrade"),
        (lambda text: text.replace('update = { value = 5, source = "c" }', ""), "no energy for update"),
        (lambda text: text.replace("value = 5", 'value = "much"'), "much"),
    ],
)
def test_a_bad_description_is_refused(chip, change, message):
    with pytest.raises(FileError, match=message):
        chip(change)


def test_an_unknown_or_missing_chip_is_refused(tmp_path):
    with pytest.raises(FileError, match="unknown chip 'tpu'"):
        chips.load("tpu")
    with pytest.raises(FileError, match="does not exist"):
        chips.load(str(tmp_path / "none.toml"))


def test_a_chip_without_widths_takes_any_graph():
    fixed_point.check(one_neuron(weight=1001), dataclasses.replace(chips.load("loihi2"), widths={}))
