"""Runs made from closed-form counts are those of stepping: every spike in its timestep."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pascal_nm.common import memory
from pascal_nm.errors import GraphError
from pascal_nm.network.graph import Timing
from pascal_nm.simulation import schedule, simulate
from tests import reference
from tests.cores import Trains
from tests.hw_targets.test_spikes import with_shortcut
from tests.strategies import inputs_for, integer_graphs

ANY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def waiting(draw, graph):
    """A schedule under which every level follows from its whole input before its first spike."""
    delay = draw(st.integers(0, 2))
    name = draw(st.sampled_from(["pasc", "two_phase", "graded", "streaming"]))
    if name == "streaming":
        return schedule.streaming(graph, max(p.levels for p in graph.spiking) + 99, delay)
    return getattr(schedule, name)(graph, delay)


@ANY
@given(graph=integer_graphs(), seed=SEEDS, data=st.data())
def test_a_replayed_run_sends_what_a_stepped_one_sends_when_it_does(graph, seed, data):
    plan = data.draw(waiting(graph))
    assert plan.waits(graph)
    inputs = inputs_for(graph, seed)
    stepped = simulate.steps(graph, inputs, plan, expected := Trains())
    replayed = simulate.replayed(graph, inputs, plan, found := Trains())
    assert set(expected.kept) == set(found.kept)
    for name in found.kept:
        trains = (reference.on_the_clock(each, name, plan.steps) for each in (found, expected))
        np.testing.assert_array_equal(*trains, err_msg=name)
    assert set(replayed.spikes) == set(stepped.spikes)
    for name, sent in stepped.spikes.items():
        np.testing.assert_array_equal(replayed.spikes[name], sent, err_msg=name)
    for name, count in stepped.counts.items():
        np.testing.assert_array_equal(replayed.counts[name], count, err_msg=name)
    for name, activity in stepped.activity.items():
        np.testing.assert_array_equal(replayed.activity[name].emitted, activity.emitted, err_msg=name)
    for attribute in ("potential", "predictions", "timesteps", "exact"):
        np.testing.assert_array_equal(getattr(replayed, attribute), getattr(stepped, attribute), err_msg=attribute)


@ANY
@given(graph=integer_graphs(), seed=SEEDS, data=st.data())
def test_a_replayed_run_is_the_same_in_any_batches(graph, seed, data):
    plan, inputs = data.draw(waiting(graph)), inputs_for(graph, seed)
    whole = simulate.replayed(graph, inputs, plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "TRAIN", data.draw(st.integers(1, 2000)))
        parts = simulate.replayed(graph, inputs, plan)
    for name, sent in whole.spikes.items():
        np.testing.assert_array_equal(parts.spikes[name], sent, err_msg=name)
    np.testing.assert_array_equal(parts.potential, whole.potential)


@pytest.mark.parametrize("timing", [Timing("streaming"), Timing("graded", stop=2), Timing("pasc", stop=3)])
def test_runs_that_do_not_follow_from_counts_are_refused(timing):
    graph = with_shortcut(3).replace(timing=timing)
    with pytest.raises(GraphError, match="sends spikes before levels are known: run it step by step"):
        simulate.replayed(graph, np.ones((1, 1)))
