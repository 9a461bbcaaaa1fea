"""Chip programs: what is executed is what stands in registers, cores and routes, and nothing else.

What is expected is computed neuron by neuron in integers, from single synapses.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from pascal_nm.errors import TargetError
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import cost, fixed_point, mapping, program_files
from pascal_nm.hw_targets.loihi import Execution, LoihiTarget
from pascal_nm.hw_targets.program import HOST, lower
from pascal_nm.hw_targets.simulator import SimulatorProgram
from pascal_nm.hw_targets.traffic import Traffic
from pascal_nm.network import reach
from pascal_nm.network.graph import Timing
from pascal_nm.simulation import events, simulate
from pascal_nm.source import checkpoint
from tests import networks
from tests.cores import synapses
from tests.hw_targets.test_chip import one_neuron
from tests.hw_targets.test_fixed_point import PRE, float_graph
from tests.hw_targets.test_mapping import OPERATIONS, small_chips
from tests.strategies import inputs_for, integer_graphs, integer_qcfs

MODELS = Path(__file__).parents[2] / "models"

SMALL = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)

SCHEDULES = st.sampled_from(["pasc", "two_phase", "streaming", "graded"])


@st.composite
def programs(draw):
    """A random network, its program, and the chip: with exponents in its registers, or without."""
    graph, chip = draw(integer_graphs()), draw(small_chips())
    graph = graph.replace(timing=Timing(draw(SCHEDULES)))
    if draw(st.booleans()):
        chip = dataclasses.replace(chip, fixed_point=None, widths={})
    if graph.timing.schedule == "graded" or any(p.kind == "linear" for p in graph.populations):
        able = chips.load("loihi2")
        chip = dataclasses.replace(chip, neuron=able.neuron, spikes=able.spikes)
    try:
        return graph, chip, lower(graph, chip)
    except TargetError:
        assume(False)


def session_of(execution):
    """Runs frames, where the chip's registers have room for their changes."""
    try:
        return execution.session()
    except TargetError:
        assume(False)


def weights(projection, shape):
    """The weight between single neurons, (targets, sources)."""
    send = simulate.delivery(projection, np.dtype(np.float64))
    unit = torch.eye(int(np.prod(shape)), dtype=torch.float64).reshape(-1, *shape)
    return send(unit).reshape(len(unit), -1).numpy().T.astype(np.int64)


def core_of(program, p):
    """The core of every neuron, flat; -1 of the input's and of those on none."""
    cores = np.full(reach.volume(p.shape), HOST)
    for number, core in enumerate(program.cores):
        if core.population == p.name:
            cores[core.block] = number
    return cores.reshape(-1)


def expected_of(graph, program, inputs):
    """Counts and potential where spikes pass along routes only, and cores alone have neurons."""
    values = {graph.input.name: np.rint(inputs).astype(np.int64).reshape(len(inputs), -1)}
    for p in graph.populations[1:]:
        own = core_of(program, p)
        z = np.broadcast_to(p.bias.astype(np.int64), p.shape).reshape(-1)
        for q in graph.incoming(p.name):
            source = graph[q.source]
            routed = np.zeros((len(program.cores) + 1,) * 2, bool)  # the host is the last
            routed[program.routes[q.name][:, 1], program.routes[q.name][:, 0]] = True
            joined = routed[own][:, core_of(program, source)]
            if p.kind == "max":
                window, sign = synapses(q, source.shape) > 0, int(p.threshold.reshape(-1)[0])
                came = values[q.source][:, None] * joined
                z = sign * np.where(window, sign * came, -(10**6)).max(2)
            else:
                z = z + values[q.source] @ (weights(q, source.shape) * joined).T
        if p.kind == "pasc":
            theta = np.broadcast_to(p.threshold.astype(np.int64), p.shape).reshape(-1)
            z = np.clip((2 * z + theta) // (2 * theta), 0, p.levels)
        values[p.name] = z * (own != HOST)
    return values


def same(result, expected, graph):
    for name, count in result.counts.items():
        np.testing.assert_array_equal(count.reshape(len(count), -1), expected[name], err_msg=name)
    np.testing.assert_array_equal(result.potential, expected[graph.output.name])


@SMALL
@given(made=programs(), seed=st.integers(0, 2**32 - 1))
def test_a_program_runs_to_the_counts_and_events_of_its_network(made, seed):
    graph, chip, program = made
    inputs = inputs_for(graph, seed, 2)
    result, exact = Execution(program, chip).run(inputs), integer_qcfs(graph, inputs)
    same(result, {name: value.reshape(2, -1) for name, value in exact.items()}, graph)
    placement = mapping.place(graph, chip)
    counted = simulate.steps(graph, inputs, watcher=Traffic(placement))
    for event in (*OPERATIONS, "emitted", "message", "message_in"):
        np.testing.assert_array_equal(result.cores.by_core(event), counted.cores.by_core(event), err_msg=event)
    for p in graph.populations:
        np.testing.assert_array_equal(result.cores.hops(p.name), counted.cores.hops(p.name))
    np.testing.assert_array_equal(cost.seconds(result, placement, chip), cost.seconds(counted, placement, chip))
    for name, activity in counted.activity.items():
        np.testing.assert_array_equal(result.activity[name], activity)


@SMALL
@given(made=programs(), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_spikes_pass_along_routes_only(made, seed, data):
    """Any routes are dropped: counts, messages and operations are those of what still comes."""
    graph, chip, program = made
    rng = np.random.default_rng(seed)
    share = data.draw(st.sampled_from([0.0, 0.5, 0.95]))
    kept = {name: routes[rng.random(len(routes)) < share] for name, routes in program.routes.items()}
    one = data.draw(st.sampled_from(sorted(name for name in kept if len(program.routes[name]))))
    if data.draw(st.booleans()):  # one route alone
        kept = {**program.routes, one: np.delete(program.routes[one], rng.integers(len(program.routes[one])), 0)}
    program = dataclasses.replace(program, routes=kept)
    inputs = inputs_for(graph, seed, 2)
    result, expected = Execution(program, chip).run(inputs), expected_of(graph, program, inputs)
    same(result, expected, graph)
    incoming, operations = np.zeros((2, 2, len(program.cores)))
    for q in graph.projections:
        if q.source == graph.input.name and not program.schedule.sparse:
            continue
        count, spikes = synapses(q, graph[q.source].shape), result.spikes[q.source].reshape(2, -1).astype(int)
        own, targets = core_of(program, graph[q.source]), core_of(program, graph[q.target])
        for source, target in program.routes[q.name]:
            onto = count[targets == target].sum(0) * (own == source)
            incoming[:, target] += spikes @ (onto > 0) * (source != HOST)
            operations[:, target] += spikes @ onto
    np.testing.assert_array_equal(result.cores.by_core("message_in"), incoming)
    found = result.cores.by_core("synaptic_operation") + result.cores.by_core("graded_operation")
    np.testing.assert_array_equal(found, operations)


@SMALL
@given(made=programs(), seed=st.integers(0, 2**32 - 1))
def test_a_program_runs_frames_from_registers_and_routes_to_the_counts_of_each_frame_alone(made, seed):
    graph, chip, program = made
    frames = inputs_for(graph, seed, 4)
    frames[2] = frames[1]
    session, exact = session_of(Execution(program, chip)), integer_qcfs(graph, frames)
    whole = SimulatorProgram(graph).session()
    for i, part in enumerate((frames[:3], frames[3:])):
        result, rows = session.run(part), slice(3 * i, 4)
        same(result, {n: v.reshape(4, -1)[rows][: len(part)] for n, v in exact.items()}, graph)
        expected = whole.run(part)
        for p, other in zip(events.count(graph, result), events.count(graph, expected), strict=True):
            for event in OPERATIONS:
                np.testing.assert_array_equal(getattr(p, f"{event}s"), getattr(other, f"{event}s"))
                counted = np.broadcast_to(getattr(p, f"{event}s"), len(part))
                np.testing.assert_array_equal(result.cores.total(event, p.name), counted)
        if i == 0 and session.schedule.kept:
            assert sum(int(layer.operations[2]) for layer in events.count(graph, result)) == 0, "nothing changed"


@SMALL
@given(made=programs(), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_routes_that_are_missing_are_missing_in_every_frame(made, seed, data):
    graph, _, program = made
    rng = np.random.default_rng(seed)
    kept = {name: routes[rng.random(len(routes)) < 0.7] for name, routes in program.routes.items()}
    program = dataclasses.replace(program, routes=kept)
    frames = inputs_for(graph, seed, 3)
    same(session_of(Execution(program)).run(frames), expected_of(graph, program, frames), graph)


@SMALL
@given(made=programs(), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_what_a_synapse_delays_by_another_time_is_not_heard(made, seed, data):
    """Neurons hear in one timestep: what is late, or early, comes as if there were no routes."""
    graph, _, program = made
    assume(program.schedule.graded)
    name = data.draw(st.sampled_from([q.name for q in graph.projections if graph[q.target].kind == "pasc"]))
    delays, no = program.schedule.delays, np.zeros((0, 2), np.int32)
    other = data.draw(st.sampled_from([d for d in (-1, 1, 2) if delays.get(name, 0) + d >= 0]))
    changed = dataclasses.replace(program.schedule, delays={**delays, name: delays.get(name, 0) + other})
    delayed = dataclasses.replace(program, schedule=changed)
    inputs = inputs_for(graph, seed, 2)
    without = dataclasses.replace(program, routes={**program.routes, name: no})
    same(Execution(delayed).run(inputs), expected_of(graph, without, inputs), graph)


@SMALL
@given(made=programs(), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_neurons_exist_where_a_core_holds_them(made, seed, data):
    """A core's part becomes smaller: the neurons that it lost send nothing."""
    graph, chip, program = made
    number = data.draw(st.integers(0, len(program.cores) - 1))
    core, axis = program.cores[number], data.draw(st.sampled_from(["channels", "rows", "columns"]))
    low, high = getattr(core, axis)
    assume(high - low > 1)
    cores = list(program.cores)
    cores[number] = core._replace(**{axis: data.draw(st.sampled_from([(low + 1, high), (low, high - 1)]))})
    smaller = dataclasses.replace(program, cores=tuple(cores))
    inputs = inputs_for(graph, seed, 2)
    same(Execution(smaller).run(inputs), expected_of(graph, smaller, inputs), graph)
    with pytest.raises(TargetError, match=f"neurons of {core.population!r} are on no core"):
        smaller.placement(chip)


@SMALL
@given(made=programs(), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_registers_alone_say_what_is_computed(made, seed, data):
    """One number in one register is another: the counts are those of the network with it."""
    graph, _, program = made
    names = [f"{p.name}.bias" for p in graph.weighted if p.kind != "linear"] + [
        f"{p.name}.threshold" for p in graph.spiking
    ]
    names += [f"{q.name}.weight" for q in graph.projections if graph[q.target].kind != "max"]
    name = data.draw(st.sampled_from(names))
    register = program.registers[name].copy()
    place = data.draw(st.integers(0, register.size - 1))
    register.reshape(-1)[place] += -1 if register.reshape(-1)[place] > 1 else 1
    changed = dataclasses.replace(program, registers={**program.registers, name: register})
    inputs = inputs_for(graph, seed, 2)
    try:
        other = changed.graph
    except TargetError as error:
        assert "is no whole number" in str(error)
        return
    assert len(program.graph.differences(other)) == 1
    result, exact = Execution(changed).run(inputs), integer_qcfs(other, inputs)
    same(result, {name: value.reshape(2, -1) for name, value in exact.items()}, graph)


def test_every_exponent_counts():
    """Of the weights, of a population's unit, and of a bias: another one is another network."""
    graph = one_neuron(weight=8, theta=64, bias=24, levels=2**14)
    program = lower(graph, chips.load("loihi1"))
    neuron = program.populations[1]
    assert neuron.exponent == -1
    alone = (program.populations[0], dataclasses.replace(neuron, exponent=0), *program.populations[2:])
    assert dataclasses.replace(program, populations=alone).graph["neuron"].threshold == 32
    first, *rest = program.projections
    for less, weight in ((1, 4), (3, 1)):
        weaker = (dataclasses.replace(first, exponent=first.exponent - less), *rest)
        assert dataclasses.replace(program, projections=weaker).graph.projections[0].operator.weight == weight
    lost = (dataclasses.replace(first, exponent=first.exponent - 4), *rest)
    with pytest.raises(TargetError, match="a weight of input -> neuron is no whole number"):
        _ = dataclasses.replace(program, projections=lost).graph
    powers = {"neuron.bias_exponents": program.registers["neuron.bias_exponents"] + 1}
    assert dataclasses.replace(program, registers={**program.registers, **powers}).graph["neuron"].bias == 48


def test_what_no_chip_could_hold_is_refused():
    program = lower(one_neuron(), chips.load("loihi1"))
    first, second = program.cores
    for cores, message in (
        ((first, first, second), "neurons of 'neuron' on two cores"),
        ((*[first] * 257, second), "neurons of 'neuron' on two cores"),  # one byte would count to one again
        ((first._replace(channels=(0, 2)), second), "core 0 holds neurons that 'neuron' does not have"),
        ((first._replace(population="other"), second), "'other', which is no population"),
    ):
        with pytest.raises(TargetError, match=message):
            dataclasses.replace(program, cores=cores)
    with pytest.raises(TargetError, match="a route of neuron -> output ends on a core without 'output'"):
        dataclasses.replace(program, routes={**program.routes, "neuron__output": np.array([[0, 0]], np.int32)})


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
@pytest.mark.parametrize("name", networks.ALL)
def test_the_target_executes_a_float_network_as_the_integers_that_fit(name, chip):
    graph = float_graph(name)
    program = LoihiTarget(chip).compile(graph)
    integer = fixed_point.fit(graph, chips.load(chip))
    assert integer.differences(program.graph) == []
    x = PRE(np.random.default_rng(0).integers(0, 256, (5, 2, 8, 8)).astype(np.uint8))
    result, expected = program.run(x), simulate.counts(integer, x)
    for layer, count in expected.counts.items():
        np.testing.assert_array_equal(result.counts[layer], count)
    np.testing.assert_array_equal(result.potential, expected.potential)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist.uniform.pt", "cifar10.wide.pt"])
def test_a_bundle_of_a_committed_network_gives_its_counts(name, tmp_path):
    graph = fixed_point.fit(checkpoint.load(MODELS / name).graph(), chips.load("loihi1"))
    pixels = np.random.default_rng(0).integers(0, 256, (20, *graph.input.shape)).astype(np.uint8)
    x, program = graph.preprocessing(pixels), lower(graph, chips.load("loihi1"))
    about = {"chip": program.chip, "cores": len(program.cores), "chips": 1, "delay": 1}
    zeros, expected = np.zeros((1, *graph.input.shape)), simulate.counts(graph, x)
    check = program_files.checks(zeros, simulate.counts(graph, zeros))
    program_files.write(tmp_path / "bundle", program, check, about)
    result = program_files.executed(tmp_path / "bundle").run(x)
    for layer, count in expected.counts.items():
        np.testing.assert_array_equal(result.counts[layer], count)
    np.testing.assert_array_equal(result.potential, expected.potential)
