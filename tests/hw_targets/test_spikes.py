"""What a schedule asks of a chip's spikes, and chips that cannot run it: refused by name."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pascal_nm.errors import FileError, TargetError
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import fixed_point, spikes
from pascal_nm.hw_targets.bill import Priced
from pascal_nm.hw_targets.loihi import LoihiTarget
from pascal_nm.hw_targets.program import lower
from pascal_nm.network.graph import Graph, Population, Projection, Timing
from pascal_nm.network.operators import Dense
from pascal_nm.simulation import schedule
from pascal_nm.simulation.session import Session
from tests.cores import Trains
from tests.hw_targets.test_chip import one_neuron
from tests.strategies import inputs_for, integer_graphs

GRAPHS = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def with_shortcut(depth):
    """A chain of neurons whose first one is joined to the last, too."""
    one, zero = np.array([1], np.int32), np.array([0], np.int32)
    names = ["input", *(f"layer_{i}" for i in range(depth)), "output"]
    neurons = [Population(name, "pasc", (1,), 4, one, zero) for name in names[1:-1]]
    ends = Population("input", "analog", (1,), 1), Population("output", "readout", (1,), 1, np.ones(()), zero)
    pairs = [*itertools.pairwise(names), ("layer_0", "output")]
    projections = tuple(Projection(a, b, Dense(np.array([[1]], np.int8))) for a, b in pairs)
    return Graph((ends[0], *neurons, ends[1]), projections, timing=Timing("graded"))


def carrying(**changes):
    chip = chips.load("loihi2")
    return dataclasses.replace(chip, spikes=dataclasses.replace(chip.spikes, **changes))


@GRAPHS
@given(graph=integer_graphs(), seed=st.integers(0, 2**32 - 1), name=st.sampled_from(["pasc", "streaming", "graded"]))
def test_no_number_that_is_sent_has_more_bits_than_were_proven(graph, seed, name):
    """In frames of extreme inputs, one after the other."""
    graph, trains = graph.replace(timing=Timing(name)), Trains()
    most = graph.input.inputs(np.full(graph.input.shape, graph.input.levels))
    frames = np.concatenate([inputs_for(graph, seed, 2), [most, -most]])
    plan = Session(graph, watcher=trains)
    plan.run(frames)
    bits = spikes.payloads(graph, plan.schedule)
    assert (graph.input.name in bits) == plan.schedule.sparse
    for p in graph.counted:
        assert (p.name in bits) == (name == "graded" and p.levels > 1)
    for population, (_, train) in trains.kept.items():
        largest = int(train.abs().max())
        if population in bits:
            assert largest < 2 ** (bits[population] - 1)
        elif population != graph.input.name:
            assert largest <= 1
    if graph.input.name in bits:
        assert 2 * graph.input.levels >= 2 ** (bits[graph.input.name] - 2), "one bit less would not hold every change"


def test_a_schedule_that_a_chip_cannot_run_is_refused_by_name():
    graph = one_neuron().replace(timing=Timing("graded"))
    others = r"choose another schedule \(pasc, two_phase, streaming.*\) or another chip"
    for chip, message in (
        ("loihi1", "Loihi 1 cannot run schedule graded: its spikes carry no numbers, and those of 'input' have 3 bits"),
        (carrying(graded_bits=3), "its spikes carry numbers of 3 bits, and those of 'neuron' have 4"),
        (carrying(signed=False), "its spikes carry no negative numbers, and those of 'input' may be"),
    ):
        with pytest.raises(TargetError, match=f"{message}; {others}"):
            LoihiTarget(chip).compile(graph)
    fixed = dataclasses.replace(chips.load("loihi2"), neuron=chips.Neuron("fixed", "a test"))
    with pytest.raises(TargetError, match="its neurons are fixed, and take no level of a potential at once"):
        lower(graph, fixed)
    assert lower(graph, carrying(graded_bits=4)).schedule.graded
    for name in ("pasc", "two_phase", "streaming"):
        lower(graph.replace(timing=Timing(name)), chips.load("loihi1"))


def test_delays_beyond_those_of_a_chips_synapses_are_refused():
    """The shortcut waits for as many timesteps as there are layers beside it."""
    graph = with_shortcut(5)
    assert schedule.of(graph).delays == {"layer_0__output": 4}
    lower(graph, carrying(delay=4))
    lower(graph, carrying(delay=None))
    message = "its synapses delay by up to 3 timesteps, and those of 'layer_0__output' by 4"
    for run in (lower, lambda graph, chip: Priced.on(graph, {"chip": chip})):
        with pytest.raises(TargetError, match=message):
            run(graph, carrying(delay=3))
    with pytest.raises(TargetError, match=message):
        table = dataclasses.replace(chips.load("cmos45_int8"), spikes=carrying(delay=3).spikes)
        Priced.on(graph, {"table": table})
    fixed_point.fit(graph, carrying(delay=3))  # registers have no part in it


def test_every_chip_says_what_its_spikes_carry_and_what_its_neurons_are():
    for name in chips.available():
        chip = chips.load(name)
        assert (chip.neuron.kind == "fixed") == (chip.spikes.graded_bits == 0) == name.startswith("loihi1")
        assert "does not say" not in chip.neuron.source + chip.spikes.source


def test_a_file_that_says_nothing_is_of_a_chip_that_can_do_all(tmp_path):
    text = (
        'name = "Test"\nsource = "nowhere"\nestimate = true\n[energy]\nsynaptic_operation = { value = 2, source = "a" }'
        '\nmultiply_accumulate = { value = 3, source = "b" }\nupdate = { value = 5, source = "c" }\n'
    )
    path = tmp_path / "chip.toml"
    path.write_text(text)
    spikes.check(with_shortcut(200), chips.load(str(path)))
    path.write_text(text + '[neuron]\nkind = "soft"\nsource = "d"\n')
    with pytest.raises(FileError, match=r"neuron\.kind is 'soft': choose fixed or programmable"):
        chips.load(str(path))


def test_where_all_chips_are_asked_those_that_cannot_run_a_schedule_have_a_line():
    graph = one_neuron().replace(timing=Timing("graded"))
    described = {name: chips.load(name) for name in chips.available()}
    refused = {}
    priced = Priced.on(graph, described, refused=refused)
    assert sorted(refused) == ["loihi1", "loihi1_calibrated"]
    assert sorted(name for each in priced for name in each.chips) == ["cmos45_fp32", "cmos45_int8", "loihi2"]
    with pytest.raises(TargetError, match="Loihi 1 cannot run schedule graded"):
        Priced.on(graph, {"loihi1": described["loihi1"]}, refused={})
