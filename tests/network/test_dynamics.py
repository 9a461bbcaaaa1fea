"""Dynamics and schedules from outside of the package: what they may be, and what then holds."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pascal_nm.errors import ConversionError, GraphError
from pascal_nm.export.unrolled import unrolled_network
from pascal_nm.hw_targets.lava import LavaTarget
from pascal_nm.network import dynamics, graph
from pascal_nm.network.graph import Timing
from pascal_nm.network.unroll import unroll
from pascal_nm.network.windows import Span, Window
from pascal_nm.neuron import Stage, State, Step
from pascal_nm.simulation import schedule, simulate
from tests.strategies import inputs_for, integer_graphs


class Numbers(dynamics.Dynamics):
    """Neurons that send their level as one number."""

    name = "numbers"
    weighted = fires = graded = True

    def window(self, p, arrivals, analog, rule):
        first, last = min(a.start for a in arrivals), max(a.stop for a in arrivals)
        spans = [Span(Stage.ACCUMULATE, first, last - 1), Span(Stage.ENCODE, last - 1, last)]
        return Window(tuple(s for s in [*spans, Span(Stage.EMIT, last, last + 1)] if s.steps))

    def step(self, stage, state, current, theta, levels):
        if stage is Stage.EMIT:
            return Step(state.s, State(state.v, state.s * 0))
        return super().step(stage, state, current, theta, levels)


@pytest.fixture(scope="module", autouse=True)
def registered():
    dynamics.register(Numbers)
    schedule.register("in numbers")(lambda graph, delay: schedule.scheduled(graph, dynamics.Rule(), delay))
    yield
    del dynamics.DYNAMICS["numbers"], graph.SCHEDULES["in numbers"], schedule._MAKERS["in numbers"]


def in_numbers(network):
    populations = tuple(replace(p, kind="numbers") if p.dynamics.fires else p for p in network.populations)
    return network.replace(populations=populations, timing=Timing("in numbers"))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(network=integer_graphs(), seed=st.integers(0, 2**32 - 1))
def test_neurons_that_send_numbers_have_the_counts_of_the_closed_form(network, seed):
    inputs = inputs_for(network, seed)
    expected, found = simulate.counts(network, inputs), simulate.steps(in_numbers(network), inputs)
    np.testing.assert_array_equal(found.potential, expected.potential)
    for name, count in expected.counts.items():
        np.testing.assert_array_equal(found.counts[name], count, err_msg=name)
    for p in network.spiking:
        np.testing.assert_array_equal(found.spikes[p.name], expected.counts[p.name] != 0, err_msg=p.name)


@pytest.mark.skipif(not importlib.util.find_spec("lava"), reason="no Lava")
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(network=integer_graphs(bits=32), seed=st.integers(0, 2**32 - 1))
def test_lava_sends_the_same_numbers(network, seed):
    inputs = inputs_for(network, seed)
    network = in_numbers(network)
    expected, found = simulate.steps(network, inputs), LavaTarget().compile(network).run(inputs)
    np.testing.assert_array_equal(found.potential, expected.potential)
    for name, count in expected.counts.items():
        np.testing.assert_array_equal(found.counts[name], count, err_msg=name)
        np.testing.assert_array_equal(found.spikes[name], expected.spikes[name], err_msg=name)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(network=integer_graphs())
def test_a_max_population_passes_on_numbers_as_large_as_its_sources(network):
    numbers = in_numbers(network)
    for p in network.counted:
        assert schedule.of(network).largest(network, p.name) == 1
        assert schedule.of(numbers).largest(numbers, p.name) == p.levels


WRONG = {
    "of no role": {"weighted": True},
    "that reads out without weights": {"reads_out": True},
    "that injects and fires": {"injects": True, "weighted": True, "fires": True},
    "that relays by steps of its own": {"step": lambda *_: None},
}


@pytest.mark.parametrize("facts", WRONG.values(), ids=WRONG)
def test_a_dynamics_is_refused(facts):
    with pytest.raises(GraphError, match=r"dynamics 'wrong': (neurons inject|only neurons that fire)"):
        dynamics.register(type("Wrong", (dynamics.Dynamics,), {"name": "wrong", **facts}))
    assert "wrong" not in dynamics.DYNAMICS


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(network=integer_graphs())
def test_a_schedule_without_windows_for_a_kind_is_refused_by_name(network):
    with pytest.raises(GraphError, match=r"'layer_0': its schedule has no windows for neurons of kind pasc"):
        schedule.of(network.replace(timing=Timing("in numbers")))


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(network=integer_graphs())
def test_other_forms_rely_on_qcfs_and_say_so(network):
    numbers = in_numbers(network)
    with pytest.raises(ConversionError, match="neurons of QCFS, not numbers"):
        unrolled_network(numbers)
    if any(p.levels > 1 for p in numbers.spiking):
        with pytest.raises(GraphError, match="kind numbers have no copies"):
            unroll(numbers)


def test_a_window_has_each_stage_once():
    with pytest.raises(GraphError, match="each stage once"):
        Window((Span(Stage.EMIT, 0, 1), Span(Stage.ACCUMULATE, 1, 2), Span(Stage.EMIT, 2, 3)))
