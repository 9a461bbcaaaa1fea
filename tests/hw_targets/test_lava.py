"""Lava against the simulator: the same counts, potentials and activity, on random graphs and
on whole networks.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pascal_nm as pnm
from pascal_nm.errors import DataError, TargetError
from pascal_nm.hw_targets import lava
from pascal_nm.hw_targets.lava import LavaTarget
from pascal_nm.network import bounds
from pascal_nm.network.graph import Graph, Population, Projection, Timing
from pascal_nm.network.operators import Dense
from pascal_nm.simulation import simulate
from tests import networks
from tests.strategies import inputs_for, integer_graphs, integer_qcfs

pytest.importorskip("lava.magma", exc_type=ImportError)

GRAPHS = integer_graphs(bits=32)


def assert_same(result, expected):
    assert result.counts.keys() == expected.counts.keys()
    for name, count in expected.counts.items():
        np.testing.assert_array_equal(result.counts[name], count, err_msg=name)
        np.testing.assert_array_equal(result.spikes[name], expected.spikes[name], err_msg=name)
        for ours, theirs in zip(result.activity[name], expected.activity[name], strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
    assert (result.sent is None) == (expected.sent is None)
    for name, sent in (expected.sent or {}).items():  # the analog input among them, where it is sparse
        np.testing.assert_array_equal(result.sent[name], sent, err_msg=name)
    np.testing.assert_array_equal(result.potential, expected.potential)
    np.testing.assert_array_equal(result.timesteps, expected.timesteps)
    np.testing.assert_array_equal(result.exact, expected.exact)
    np.testing.assert_array_equal(result.answers, expected.answers)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=GRAPHS, seed=st.integers(0, 2**32 - 1), batch_size=st.integers(1, 3), pipelined=st.booleans())
def test_fixed_point_lava_is_the_simulator_bit_for_bit(graph, seed, batch_size, pipelined):
    inputs = inputs_for(graph, seed)
    result = LavaTarget(batch_size, pipelined).compile(graph).run(inputs)
    assert_same(result, simulate.steps(graph, inputs, pnm.schedule.pasc(graph, delay=1)))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    graph=GRAPHS,
    seed=st.integers(0, 2**32 - 1),
    batch_size=st.integers(1, 3),
    name=st.sampled_from(["two_phase", "streaming", "graded"]),
    lag=st.integers(0, 5),
    stop=st.none() | st.integers(1, 30),
)
def test_every_schedule_and_stopped_runs_are_the_simulators(graph, seed, batch_size, name, lag, stop):
    """Signed spikes on the ports, real delays, batches that take turns: spikes, counts,
    certificates and every answer on the way.
    """
    graph = graph.replace(timing=Timing(name, lag if name == "streaming" else 0, stop))
    inputs = inputs_for(graph, seed)
    assert_same(LavaTarget(batch_size).compile(graph).run(inputs), simulate.steps(graph, inputs))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=GRAPHS, seed=st.integers(0, 2**32 - 1), batch_size=st.integers(1, 2), pipelined=st.booleans())
def test_levels_sent_as_numbers_are_the_integer_networks(graph, seed, batch_size, pipelined):
    """A new batch in every timestep where runs are pipelined; synapses of shorter ways wait."""
    graph = graph.replace(timing=Timing("graded"))
    inputs = inputs_for(graph, seed, images=5)
    result = LavaTarget(batch_size, pipelined).compile(graph).run(inputs)
    assert_same(result, simulate.steps(graph, inputs))
    values = integer_qcfs(graph, inputs)
    for name, count in result.counts.items():
        np.testing.assert_array_equal(count, values[name], err_msg=name)


def sequence(graph, seed, frames):
    """Frames that change here and there, by little and by much, and not at all."""
    rng = np.random.default_rng(seed)
    shown = inputs_for(graph, seed, images=frames)
    for i in range(1, frames):
        shown[i] = np.where(rng.random(shown[i].shape) < rng.choice([0, 0.1, 1]), shown[i], shown[i - 1])
    return shown


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    graph=GRAPHS,
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from(["graded", "streaming", "two_phase"]),
    lag=st.integers(0, 3),
    pipelined=st.booleans(),
)
def test_frames_kept_in_lava_are_the_simulators_and_those_of_a_run_from_rest(graph, seed, name, lag, pipelined):
    """Every level, spike, potential and answer on the way; a second call goes on from the first."""
    graph = graph.replace(timing=Timing(name, lag if name == "streaming" else 0))
    frames = sequence(graph, seed, 20)
    session, expected = LavaTarget(pipelined=pipelined).compile(graph).session(), graph.session()
    for part in (frames[:13], frames[13:]):
        result = session.run(part)
        assert_same(result, expected.run(part))
        assert result.schedule == session.schedule == expected.schedule and session.schedule.kept
        fresh = simulate.counts(graph, part)
        np.testing.assert_array_equal(result.potential, fresh.potential)
        for population, count in fresh.counts.items():
            np.testing.assert_array_equal(result.counts[population], count, err_msg=population)


@pytest.mark.parametrize("schedule", ["graded", "streaming"])
@pytest.mark.parametrize("name", networks.ALL)
def test_frames_in_floating_point_have_every_level_of_the_simulators(name, schedule):
    graph = pnm.convert(networks.randomized(networks.ALL[name](), seed=1), networks.images(5))
    graph = graph.replace(timing=Timing(schedule))
    frames = networks.images(20).numpy().astype(np.float64)
    frames[1:15] = frames[0] + 0.05 * frames[1:15]
    expected, result = graph.session().run(frames), LavaTarget().compile(graph).session().run(frames)
    assert result.counts.keys() == expected.counts.keys()
    for population, count in expected.counts.items():
        np.testing.assert_array_equal(result.counts[population], count, err_msg=population)
    for population, sent in expected.sent.items():
        np.testing.assert_array_equal(result.sent[population], sent, err_msg=population)
    np.testing.assert_allclose(result.potential, expected.potential, rtol=1e-9, atol=1e-9)


def integer_graph(schedule="graded"):
    graph = pnm.convert(networks.randomized(networks.Residual()), networks.images())
    return pnm.quantize(graph, input_range=6.0).replace(timing=Timing(schedule))


def test_small_changes_are_left_out_of_frames_as_in_the_simulator():
    graph, frames = integer_graph(), networks.images(6).numpy()
    frames[1:] = frames[0] + 0.2 * frames[1:]
    session, expected = LavaTarget().compile(graph).session(threshold=0.25), graph.session(threshold=0.25)
    for part in (frames[:4], frames[4:]):
        assert_same(session.run(part), expected.run(part))
        np.testing.assert_array_equal(session.shown, expected.shown)
    assert 0 < (session.shown != frames[-1]).sum() < frames[0].size


def test_after_a_reset_a_frame_is_the_first_and_without_kept_state_each_one_is():
    graph, frames = integer_graph(), networks.images(3).numpy()
    session = LavaTarget().compile(graph).session()
    session.run(frames[:2])
    session.reset()
    assert session.shown is None
    assert_same(session.run(frames[2:]), simulate.steps(graph, frames[2:]))
    graph = integer_graph("pasc")
    session = LavaTarget(batch_size=2).compile(graph).session()
    assert not session.schedule.kept
    assert_same(session.run(frames), simulate.steps(graph, frames))


def test_levels_that_a_spike_cannot_carry_are_refused_before_anything_runs():
    graph = integer_graph()
    many = [replace(p, levels=128) if p.name == "body_2" else p for p in graph.populations]
    graph = graph.replace(populations=tuple(many))
    with pytest.raises(TargetError, match="spikes of body_2 carry numbers up to 128, beyond the 127 of 8 bits"):
        LavaTarget().compile(graph)
    LavaTarget().compile(graph.replace(timing=Timing("streaming")))


def test_frames_whose_changes_leave_32_bits_are_refused():
    graph = integer_graph()
    reach = max(bounds.current_bound(q, 1).max() for q in graph.outgoing(graph.input.name))
    large = replace(graph.input, levels=int(2**30 / reach) + 1)
    program = LavaTarget().compile(graph.replace(populations=(large, *graph.populations[1:])))
    with pytest.raises(TargetError, match=r"from frame to frame the membrane potential of \w+ can reach 2\.\d+e\+09"):
        program.session()
    # None of two projections alone leaves 32 bits; a neuron that streams falls by both at once.
    one = Dense(np.array([[600_000_000]], np.int32))
    populations = (
        Population("input", "analog", (1,), 1),
        Population("layer", "pasc", (1,), 4, np.full((), 150_000_000, np.int32), np.zeros((), np.int32)),
        Population("output", "readout", (1,), 1, np.ones(()), np.zeros((), np.int32)),
    )
    pairs = ("input", "layer", one), ("input", "layer", one), ("layer", "output", Dense(np.ones((1, 1), np.int8)))
    twice = Graph(populations, tuple(Projection(*pair) for pair in pairs), timing=Timing("streaming"))
    with pytest.raises(TargetError, match=r"from frame to frame the membrane potential of layer can reach 2\.55e\+09"):
        LavaTarget().compile(twice).session()
    assert LavaTarget().compile(twice.replace(timing=Timing("pasc"))).session().schedule.kept is False


@pytest.mark.parametrize("name", networks.ALL)
def test_streaming_in_floating_point_lava_gives_every_level_of_the_source_network(name):
    module, inputs = networks.randomized(networks.ALL[name](), seed=1), networks.images(5)
    source = pnm.SourceNetwork(module, inputs)
    graph = pnm.convert(source).replace(timing=Timing("streaming", 1))
    result = LavaTarget(batch_size=2).compile(graph).run(inputs.numpy())
    logits, levels = source.levels(inputs)
    for population, level in levels.items():
        np.testing.assert_array_equal(result.counts[population], level)
    np.testing.assert_allclose(result.logits, logits, rtol=1e-9, atol=1e-9)
    assert result.exact.all()


@pytest.mark.parametrize("name", networks.ALL)
def test_floating_point_lava_gives_every_level_of_the_source_network(name):
    module, inputs = networks.randomized(networks.ALL[name](), seed=1), networks.images(5)
    source = pnm.SourceNetwork(module, inputs)
    result = LavaTarget(batch_size=2).compile(pnm.convert(source)).run(inputs.numpy())
    logits, levels = source.levels(inputs)
    for population, level in levels.items():
        np.testing.assert_array_equal(result.counts[population], level)
    np.testing.assert_allclose(result.logits, logits, rtol=1e-9, atol=1e-9)


def test_threads_that_run_networks_at_once_get_each_its_own_results():
    graph = pnm.quantize(pnm.convert(networks.randomized(networks.convolutional()), networks.images()), input_range=6.0)
    program = LavaTarget(batch_size=2).compile(graph)
    inputs = [networks.images(3, seed).numpy() for seed in range(4)]
    with ThreadPoolExecutor(2) as pool:
        for given, result in zip(inputs, pool.map(program.run, inputs), strict=True):
            assert_same(result, simulate.steps(graph, given, pnm.schedule.pasc(graph, delay=1)))


def test_no_inputs_give_no_results():
    graph = pnm.convert(networks.randomized(networks.perceptron()), networks.images())
    result = LavaTarget().compile(graph).run(np.zeros((0, 2, 8, 8)))
    assert result.predictions.shape == (0,)


def test_inputs_of_another_shape_are_refused():
    graph = pnm.convert(networks.randomized(networks.perceptron()), networks.images())
    with pytest.raises(DataError, match="shape"):
        LavaTarget().compile(graph).run(np.zeros((1, 3, 8, 8)))


def test_an_impossible_batch_size_is_refused():
    graph = pnm.convert(networks.randomized(networks.perceptron()), networks.images())
    with pytest.raises(TargetError, match="batch size"):
        LavaTarget(batch_size=0).compile(graph)


def test_a_run_that_cannot_fit_is_refused_with_the_number_before_it_starts(monkeypatch):
    graph = pnm.convert(networks.randomized(networks.perceptron()), networks.images())
    inputs = networks.images(5).numpy()
    needed = lava.estimate(graph, 5, 2)
    monkeypatch.setattr(lava, "available_memory", lambda: needed - 1)
    with pytest.raises(TargetError, match=f"batches of 2 need about {needed / 1e9:.3g} GB in Lava, .* GB are free"):
        LavaTarget(batch_size=2).compile(graph).run(inputs)
    with pytest.raises(TargetError, match="GB are free"):
        LavaTarget(batch_size=2, memory=needed - 1).compile(graph).run(inputs)
    assert LavaTarget(batch_size=2, memory=needed).compile(graph).run(inputs).predictions.shape == (5,)


def test_less_memory_makes_smaller_batches():
    graph = pnm.convert(networks.randomized(networks.perceptron()), networks.images())
    image = lava.bytes_per_image(graph)
    assert LavaTarget(memory=20 * image).compile(graph).batch_size == 10
    assert LavaTarget(memory=1).compile(graph).batch_size == 1


def test_what_the_system_has_available_is_known():
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 2**20 < lava.available_memory() < installed
