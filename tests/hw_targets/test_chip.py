"""Chips: bit widths refused before a run, energies that add up, descriptions with sources."""

import copy
import dataclasses
import json
import random
import re
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pascal_nm import QCFS, convert
from pascal_nm.errors import FileError, TargetError
from pascal_nm.hw_targets import bill, cost, find, fixed_point
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets.tables import tomllib
from pascal_nm.network.graph import Graph, Population, Projection, Timing
from pascal_nm.network.operators import Dense, Identity, SumPool2d
from pascal_nm.simulation import simulate
from pascal_nm.simulation.events import count, plain
from tests import pace
from tests.strategies import inputs_for, integer_graphs

UNIT_SPIKES = integer_graphs(linear=False)
"""Networks for chips whose spikes carry no numbers."""

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

MEMORY = """
[memory]
access = { value = 10, source = "d" }
width = 64
weight = 8
activation = 4
potential = 16
"""


@pytest.fixture
def chip(tmp_path):
    def load(change=lambda text: text, memory=False):
        path = tmp_path / "test.toml"
        path.write_text(change(CHIP))
        return chips.load(str(path), memory=memory)

    return load


def close(expected):
    """Relative only: a picojoule is below approx's own absolute tolerance."""
    return pytest.approx(expected, rel=1e-9, abs=0)


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
        ({"levels": 32766}, {"levels": 32767}, "membrane"),
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
@given(graph=UNIT_SPIKES, seed=st.integers(0, 2**32 - 1))
def test_energy_is_events_times_figures(graph, seed):
    table = chips.load("loihi1")
    layers = count(graph, simulate.steps(graph, inputs_for(graph, seed)))
    for layer, priced in zip(layers, cost.energy(layers, table), strict=True):
        expected = 1e-12 * np.mean(
            23.6 * layer.synaptic_operations
            + 23.6 * layer.multiply_accumulates
            + 3 * (81.0 * layer.updates + 52.0 * layer.idle)  # compartments
        )
        assert priced.dynamic == close(expected)


def one_spike():
    """The run of :func:`one_neuron` in which the neuron spikes once: its graph and its events."""
    graph = one_neuron()
    hidden, output = count(graph, simulate.steps(graph, np.ones((1, 1))))
    assert (hidden.multiply_accumulates, hidden.emitted, output.synaptic_operations) == (1, 1, 1)
    return graph, hidden, output


def test_memory_traffic_by_hand(chip):
    graph, hidden, output = one_spike()
    described = chip(lambda text: text + MEMORY, memory=True)
    first, second = cost.energy([hidden, output], described)
    bit = 10e-12 / 64
    assert first.joules["synaptic_memory"] == close(bit * (8 + 4))
    assert second.joules["synaptic_memory"] == close(bit * (8 + 2 * 16))
    for layer, events_ in ((first, hidden), (second, output)):
        assert layer.joules["neuron_memory"] == close(bit * events_.updates[0] * 2 * (16 + 4))
    # Each of the two multiply-accumulates reads a weight and an input; each layer
    # writes its output.
    expected = 3e-12 + bit * (8 + 4 + 4)
    assert cost.source_energy(graph, described) == close({"neuron": expected, "output": expected})


def test_a_graded_operation_costs_its_price_a_weight_a_payload_and_a_potential(chip):
    """A number of 4 levels is one of 4 bits; an input of up to 6, that may change by 12, of 5."""
    graph = one_neuron(levels=6).replace(timing=Timing("graded"))
    hidden, output = count(graph, simulate.steps(graph, np.full((1, 1), 3.0)))
    assert (hidden.graded_operations, output.graded_operations, hidden.multiply_accumulates) == (1, 1, 0)
    assert (hidden.synaptic_operations, output.synaptic_operations) == (0, 0)
    described = chip(lambda text: text + MEMORY, memory=True)
    first, second = cost.energy([hidden, output], described)
    bit = 10e-12 / 64
    assert first.joules["synaptic_memory"] == close(bit * (8 + 5 + 2 * 16))
    assert second.joules["synaptic_memory"] == close(bit * (8 + 4 + 2 * 16))
    assert first.joules["graded_operation"] == close(3e-12), "where it has no price, a multiply-accumulate's"
    priced = chip(lambda text: text + 'graded_operation = { value = 7, source = "e" }')
    assert cost.energy([hidden], priced)[0].joules["graded_operation"] == close(7e-12)
    silent, _ = count(graph, simulate.steps(graph, np.zeros((1, 1))))
    assert silent.operations == 0


def test_max_pooling_of_the_source_network_reads_its_inputs_and_multiplies_nothing(chip):
    array = lambda value: np.array(value, np.int32)  # noqa: E731
    graph = Graph(
        (
            Population("input", "analog", (1, 2, 2), 1),
            Population("neurons", "pasc", (1, 2, 2), 1, array(1), array(0)),
            Population("pool", "max", (1, 1, 1), 1, array(1), array(0)),
            Population("output", "readout", (1,), 1, np.ones(()), array(0)),
        ),
        (
            Projection("input", "neurons", Identity(array([[[1]]]))),
            Projection("neurons", "pool", Identity(array([[[1]]])), SumPool2d((2, 2), (2, 2))),
            Projection("pool", "output", Dense(np.array([[1]], np.int8))),
        ),
    )
    bit = 10e-12 / 64
    found = cost.source_energy(graph, chip(lambda text: text + MEMORY, memory=True))
    assert found["pool"] == close(bit * (4 + 1) * 4)
    assert cost.source_energy(graph, chip())["pool"] == 0


def test_the_source_network_pools_before_it_multiplies(chip):
    torch.manual_seed(0)
    layers = [
        *(nn.Conv2d(2, 3, 3, padding=1), QCFS(2), nn.AvgPool2d(2), nn.Conv2d(3, 4, 3, padding=1), QCFS(2)),
        *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 5)),
    ]
    expected = []

    def count(module, inputs, output):
        """Terms of the sums with the borders as they are: the same layer of ones."""
        plain = copy.deepcopy(module).requires_grad_(False)
        plain._forward_hooks.clear()
        for parameter in plain.parameters():
            parameter.fill_(parameter.ndim > 1)
        expected.append(plain(torch.ones_like(inputs[0])).sum().item())

    hooks = [x.register_forward_hook(count) for x in layers if isinstance(x, nn.Conv2d | nn.Linear)]
    network = nn.Sequential(*layers).eval()
    image = torch.rand(1, 2, 8, 8)
    network(image)
    for hook in hooks:
        hook.remove()
    first, second, last = expected
    graph = convert(network, image)
    energy = (
        "[energy]\nmultiply_accumulate = { value = 3.0, source = 'a' }\nsynaptic_operation = { value = 0.5, "
        "source = 'a' }\nupdate = { value = 1, source = 'a' }\n"
    )
    described = chip(lambda text: re.sub(r"\[energy\].*", energy, text, flags=re.DOTALL))
    found = list(cost.source_energy(graph, described).values())
    additions = (3 * 8 * 8, 4 * 4 * 4)
    assert found == close(
        [3e-12 * first, 3e-12 * second + 0.5e-12 * additions[0], 3e-12 * last + 0.5e-12 * additions[1]]
    )


def test_memory_is_counted_only_where_it_is_asked_for_and_not_in_the_events_already(chip):
    with_memory = lambda text: text + MEMORY  # noqa: E731
    assert chip(with_memory).memory is None
    assert chip(with_memory, memory=True).memory.access == chips.Figure(10, "d")
    assert chips.load("loihi1", memory=True) == chips.load("loihi1")
    with pytest.raises(FileError, match=r"\[memory\]"):
        chip(memory=True)
    for name in chips.available():
        described = chips.load(name, memory=True)
        assert described.includes_memory == (described.memory is None)


def test_plain_neurons_are_updated_in_l_timesteps_and_never_idle():
    graph, hidden, output = one_spike()
    assert hidden.idle[0] > 0
    neuron, readout = plain(graph, [hidden, output])
    assert (neuron.updates, neuron.idle, readout.updates) == (4, 0, output.updates)
    assert (neuron.multiply_accumulates, neuron.emitted, readout.synaptic_operations) == (1, 1, 1)


def test_working_time_is_events_times_latencies():
    _, hidden, output = one_spike()
    described = chips.load("loihi1_calibrated")
    (updates, idle), (more, rest) = ((layer.updates[0], layer.idle[0]) for layer in (hidden, output))
    expected = 2 * 3.8 + 3 * ((updates + more) * 9.7 + (idle + rest) * 6.0) + 30.0  # of three compartments
    assert cost.core_seconds([hidden, output], described) == close(1e-9 * expected)
    sent = dataclasses.replace(hidden, messages=np.array([2]), hops_x=np.array([7]))
    heard = dataclasses.replace(output, messages_in=np.array([2]))
    assert cost.core_seconds([sent, heard], described) == close(1e-9 * (expected + 2 * (5.1 + 16.0)))
    assert cost.core_seconds([hidden, output], chips.load("cmos45_int8")) == 0


@settings(max_examples=20, deadline=None)
@given(graph=UNIT_SPIKES, seed=st.integers(0, 2**32 - 1), name=st.sampled_from(["loihi1", "cmos45_int8"]))
def test_shares_say_where_all_the_energy_goes(graph, seed, name):
    layers = cost.energy(count(graph, simulate.steps(graph, inputs_for(graph, seed))), chips.load(name, memory=True))
    shares = cost.shares(layers)
    assert sum(shares.values()) == close(1)
    assert set(shares) <= set(cost.KINDS)
    total = sum(layer.dynamic for layer in layers)
    for kind, share in shares.items():
        assert share * total == close(sum(layer.joules[kind] for layer in layers))


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
        (lambda text: text + MEMORY.replace("width = 64", "width = 0"), "memory.width is 0, a whole number from 1 to"),
        (lambda text: text + MEMORY.replace("width = 64", ""), "width"),
        (lambda text: text + MEMORY.replace(', source = "d"', ""), "source"),
        (lambda text: "includes_memory = true" + text + MEMORY, "twice"),
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


def put(section, line):
    """A change: a section (empty for the head of the file) gets a line, or another value where
    it has that key.
    """
    key = line.split(" = ")[0]

    def change(text):
        head, *sections = re.split(r"^\[", text + MEMORY, flags=re.MULTILINE)
        parts = {"": head} | {part.split("]")[0]: part.split("]", 1)[1] for part in sections}
        kept = [old for old in parts.setdefault(section, "").splitlines() if not old.startswith(f"{key} = ")]
        parts[section] = "\n".join([*kept, line, ""])
        return parts.pop("") + "".join(f"[{name}]\n{part}" for name, part in parts.items())

    return change


NUMBERS = ["nan", "inf", "-inf", "-1", "-0.5", "1e300", "1" + "0" * 400, "true", '"5"', "[5]", "{}", "2020-01-01"]
CORE = "neurons = 8\nmemory_bits = 8\nin_axons = 8\nout_axons = 8\nshared_convolution = true\npopulation_axons = true"
MESH = "width = 2\nheight = 2\ncores_per_tile = 2\nsource = 's'\ncores = "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *((put("energy", f"update = {{ value = {n}, source = 'c' }}"), r"energy\.update\.value is") for n in NUMBERS),
        *((put("latency", f"update = {{ value = {n}, source = 'c' }}"), r"latency\.update\.value is") for n in NUMBERS),
        *((put("memory", f"access = {{ value = {n}, source = 'c' }}"), r"memory\.access\.value is") for n in NUMBERS),
        *((put("widths", f"weight = {n}"), r"widths\.weight is") for n in [*NUMBERS, "0", "1", "8.5", "1000000000"]),
        *((put("memory", f"weight = {n}"), r"memory\.weight is") for n in [*NUMBERS, "0", "8.5", "1000000000"]),
        *((put("core", f"{CORE}\nsource = {n}"), r"core\.source is") for n in ["5", "nan", "[]", "{}", "''"]),
        (put("core", CORE), r"core\.source is missing"),
        (put("core", f"{CORE}\nsource = 's'"), "belong together"),
        (put("mesh", f"{MESH}-3"), r"mesh\.cores is -3"),
        (put("mesh", f"{MESH}1000000000000"), r"mesh\.cores is"),
        (put("", "core = 5"), "core is 5, a table is needed"),
        (put("", "energy = [1]"), "energy"),
        (put("", "estimate = 1"), "estimate is 1, true or false is needed"),
        (put("", "includes_memory = 'no'"), "includes_memory is 'no'"),
        (put("", "name = 5"), "name is 5, text is needed"),
        (put("", 'name = "\\u001b[2J"'), "name is not printable"),
        (put("", "colour = 'red'"), "colour is unknown; known: name, source"),
        (put("widths", "wieght = 8"), r"widths\.wieght is unknown; known: weight"),
        (put("energy", "update = { value = 5, source = 'c', note = 'd' }"), r"energy\.update\.note is unknown"),
        (put("energy", "update = 5"), r"energy\.update is 5, a table is needed"),
        (put("energy", "update = { value = 5, least = 6, source = 'c' }"), r"energy\.update is 5, outside of its band"),
        (put("energy", "update = { value = 5, most = 4, source = 'c' }"), r"energy\.update is 5, outside .* of 5 to 4"),
        (put("energy", "update = { value = 5, least = -1, source = 'c' }"), r"energy\.update\.least is -1"),
        (put("static", "core = { value = 5, source = 'c' }"), r"static\.chip is missing"),
        (put("static", "chip = { value = 5, least = 9, source = 'c' }"), r"static\.chip is 5, outside of its band"),
        (put("host", "value = 5"), r"host\.value is 5, a table is needed"),
        (put("synapses", "dense = {}"), r"synapses\.dense is unknown; known: convolution, single"),
        (
            put("core", f"{CORE}\ncompartments = 9\nsource = 's'\n[mesh]\n{MESH}1"),
            "takes 9 compartments, and a core has 8",
        ),
        (put("core", f"{CORE}\nbeside = 65\nsource = 's'"), r"core\.beside is 65"),
        (
            put("barrier", "tiles = [1]\nnanoseconds = [5]\nleast = 6\nsource = 's'"),
            r"barrier is 5, outside of its band of 6 to 5",
        ),
        (put("barrier", "tiles = [1, 2]\nnanoseconds = [5]\nsource = 's'"), "one time for each"),
        (put("barrier", "tiles = []\nnanoseconds = []\nsource = 's'"), r"barrier\.tiles has 0 values"),
        (put("barrier", "tiles = [1]\nnanoseconds = [-5]\nsource = 's'"), r"barrier\.nanoseconds\[0\] is -5"),
        (
            put("fixed_point", "shift = 6\nweight_exponents = 1.5\nbias_exponents = [0, 7]\nsource = 's'"),
            "1.5, a list is needed",
        ),
        (put("barrier", "tiles = 1\nnanoseconds = [5]\nsource = 's'"), r"barrier\.tiles is 1, a list is needed"),
        *(
            (put("fixed_point", f"shift = 6\nweight_exponents = {e}\nbias_exponents = [0, 7]\nsource = 's'"), m)
            for e, m in [("[0]", "has 1 values, and needs 2"), ("[7, -8]", "largest first"), ("[0, 1e9]", r"\[1\] is")]
        ),
        (lambda text: text + "\n[deep]\nx = " + "[" * 5000 + "]" * 5000, "not valid TOML|deep is unknown"),
        (lambda text: text + "\nx" + ".x" * 7000 + " = 1", "not valid TOML|is unknown"),
        (put("", f"name = 1{'0' * 5000}"), "not valid TOML"),
        (lambda text: text + "\n# " + "x" * 100_000, "at most 16,384 are read"),
        (lambda text: text.replace("Test", "\udcff"), "not valid TOML"),
    ],
)
def test_a_value_that_is_none_of_the_format_is_named(tmp_path, change, message):
    path = tmp_path / "test.toml"
    path.write_bytes(change(CHIP).encode(errors="surrogateescape"))
    start = time.process_time()
    with pytest.raises(FileError, match=message) as refused:
        chips.load(str(path), memory=True)
    assert len(str(refused.value)) < 600 and "\n" not in str(refused.value)
    assert pace.since(start) < 5


HOSTILE = [
    0,
    1,
    -1,
    2,
    64,
    65,
    1e-300,
    1e12,
    10**12,
    2**31,
    2**70,
    1e300,
    float("nan"),
    float("-inf"),
    True,
    "",
    "x",
    [],
]


def written(value):
    """A value in TOML, tables in braces."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {written(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")


def places(table):
    """Every dictionary in a dictionary, with each of its keys."""
    for key, value in table.items():
        yield table, key
        if isinstance(value, dict):
            yield from places(value)


def mutated(dice):
    """The bytes of a chip's file in which some values, keys or bytes are others."""
    raw = tomllib.loads(chips._folder().joinpath(f"{dice.choice(chips.available())}.toml").read_text())
    for _ in range(dice.choice([1, 1, 2, 3])):
        table, key = dice.choice(list(places(raw)))
        match dice.choice(["value", "value", "value", "drop", "rename", "copy"]):
            case "value":
                table[key] = dice.choice(HOSTILE)
            case "drop":
                del table[key]
            case "rename":
                table[dice.choice([key.upper(), "x", "weight", "cores"])] = table.pop(key)
            case "copy":
                other, name = dice.choice(list(places(raw)))
                table[key] = copy.deepcopy(other[name])
    text = bytearray("\n".join(f"{json.dumps(key)} = {written(each)}" for key, each in raw.items()).encode())
    if dice.random() < 0.2:
        text[dice.randrange(len(text))] = dice.randrange(256)
    return bytes(text)


@pytest.mark.parametrize("files", [300, pytest.param(5000, marks=pytest.mark.slow)])
def test_a_mutated_file_is_refused_in_a_line_or_prices_a_run_in_finite_numbers(files):
    dice, read = random.Random(files), 0
    graph = one_neuron()
    layers = count(graph, simulate.steps(graph, np.ones((1, 1))))
    for _ in range(files):
        text = mutated(dice)
        try:
            described = chips._parse("mutated", text)
        except FileError as error:
            assert "\n" not in str(error) and len(str(error)) < 700, text
            continue
        read += 1
        try:
            bill.Priced.on(graph, {"mutated": described})
        except TargetError as error:
            assert "\n" not in str(error), text
        figures = [layer.dynamic for layer in cost.energy(layers, described)]
        figures += [*cost.source_energy(graph, described).values(), cost.core_seconds(layers, described)]
        assert all(0 <= figure < 1e9 for figure in figures), text
    assert files / 20 < read < files, "both are tried"
