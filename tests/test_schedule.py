"""Windows: the paper's lengths, timestep by timestep, and the rules of the other schedules, on
random graphs with any delay.
"""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pascal_nm.errors import GraphError
from pascal_nm.network.graph import Graph, Population, Projection, Timing
from pascal_nm.network.operators import Dense
from pascal_nm.network.windows import Span, Window
from pascal_nm.neuron import Stage
from pascal_nm.simulation import schedule
from pascal_nm.simulation.schedule import Schedule
from tests.strategies import integer_graphs

ANY = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
DELAYS = st.integers(0, 2)


def chain(*levels):
    """Layers of one neuron each, one after the other, and their names."""
    names = [f"layer_{i}" for i in range(len(levels))]
    hidden = [Population(name, "pasc", (1,), some) for name, some in zip(names, levels, strict=True)]
    populations = (Population("input", "analog", (1,)), *hidden, Population("output", "readout", (1,)))
    pairs = itertools.pairwise(p.name for p in populations)
    return Graph(populations, tuple(Projection(*pair, Dense(np.ones((1, 1)))) for pair in pairs)), names


def stages(plan, name):
    """What a population does in each timestep of the schedule and in two more."""
    spans = [plan.windows[name].at(t) for t in range(plan.length + 2)]
    return [span and span.stage.value for span in spans]


def arrivals(graph, plan, name):
    """Of each source the first timestep in which a spike of it may arrive, and the first in which
    none may any more: one for each level. A linear population hands on what its sources send.
    """
    found = []
    for q in graph.incoming(name):
        source = graph[q.source]
        if source.kind == "linear":
            found += [(a + plan.delay, b + plan.delay) for a, b in arrivals(graph, plan, q.source)]
            continue
        first = next(t for t, stage in enumerate(stages(plan, q.source)) if stage in ("emit", "stream")) + plan.delay
        listed = [t for t, stage in enumerate(stages(plan, q.source)) if stage in ("emit", "stream")]
        assert source.kind != "analog" or listed == [0]
        found.append((first, listed[-1] + plan.delay + 1))
    return found


def test_the_windows_of_the_papers_neuron():
    graph, (first, second) = chain(1, 16)
    plan = schedule.pasc(graph, delay=1)
    assert stages(plan, graph.input.name) == ["emit", *[None] * 37]
    assert stages(plan, first) == [None, "encode", "emit", *[None] * 35]
    # Algorithm 1: L_in = 1 timestep, max(L_in, L_out) - 1 = 15, L_out = 16; a spike of timestep t
    # arrives in t + 1.
    assert stages(plan, second) == [*[None] * 3, "integrate", *["correct"] * 15, *["emit"] * 16, *[None] * 3]
    assert stages(plan, graph.output.name) == [*[None] * 20, *["accumulate"] * 16, None, None]
    assert (plan.length, plan.steps, plan.initiation_interval) == (36, 36, 32)


@ANY
@given(graph=integer_graphs(), delay=DELAYS)
def test_the_papers_schedule_has_algorithm_1s_lengths_in_every_population(graph, delay):
    plan = schedule.pasc(graph, delay)
    for p in graph.populations:
        if p.kind == "analog":
            continue
        found = arrivals(graph, plan, p.name)
        first, last = min(a for a, _ in found), max(b for _, b in found)
        begin = min(a for a, b in found if b == last)  # of the branch that ends last; of several, the longest
        if p.kind in ("max", "linear"):
            expected = ["emit"] * (last - first)
        elif p.kind == "readout":
            expected = ["accumulate"] * (last - first)
        elif all(graph[q.source].kind == "analog" for q in graph.incoming(p.name)):
            expected = ["encode"] * (last - first) + ["emit"] * p.levels
        else:
            n = last - begin
            expected = ["accumulate"] * (begin - first) + ["integrate"] * n
            expected += ["correct"] * (max(n, p.levels) - 1) + ["emit"] * p.levels
        expected = [None] * first + expected
        assert stages(plan, p.name) == expected + [None] * (plan.length + 2 - len(expected)), p.name
    check_times(plan)


@ANY
@given(graph=integer_graphs(), delay=DELAYS, lag=st.integers(0, 20), waits=st.booleans(), data=st.data())
def test_a_streaming_layer_fires_its_lag_after_its_input_has_begun_and_for_its_levels_after_it_has_ended(
    graph, delay, lag, waits, data
):
    """With no lag given it waits for the end; longer than that no lag lets it wait."""
    names = [p.name for p in graph.spiking]
    lags = dict.fromkeys(names, lag)
    if waits:
        plan = schedule.two_phase(graph, delay)
    elif data.draw(st.booleans()):
        lags = {name: data.draw(st.integers(0, 20)) for name in names if data.draw(st.booleans())}
        plan = schedule.streaming(graph, lags, delay)
    else:
        plan = schedule.streaming(graph, lag, delay)
    for p in graph.populations:
        if p.kind == "analog":
            continue
        found = arrivals(graph, plan, p.name)
        first, last = min(a for a, _ in found), max(b for _, b in found)
        shift = None
        if p.kind == "pasc":
            begin = last - 1 if waits else min(last - 1, max(a for a, _ in found) + lags.get(p.name, 0))
            expected = ["accumulate"] * (begin - first) + ["stream"] * (last - 1 + p.levels - begin)
            shift = None if begin == last - 1 else begin + 1
        else:
            expected = [{"max": "stream", "linear": "stream", "readout": "accumulate"}[p.kind]] * (last - first)
        expected = [None] * first + expected
        assert stages(plan, p.name) == expected + [None] * (plan.length + 2 - len(expected)), p.name
        assert plan.windows[p.name].shift == shift
    check_times(plan)


def check_times(plan):
    """Samples that start an initiation interval apart never meet in a population, and would meet if
    it were shorter.
    """
    busy = {name: [t for t, stage in enumerate(stages(plan, name)) if stage] for name in plan.windows}
    assert plan.length == max(times[-1] for times in busy.values()) + 1
    assert plan.steps == plan.length
    assert plan.initiation_interval == max(len(times) for times in busy.values())
    for name, times in busy.items():
        window = plan.windows[name]
        assert (window.start, window.stop) == (times[0], times[-1] + 1)
        assert times == list(range(times[0], times[-1] + 1))
        assert sum(span.steps for span in window.spans) == len(times)


def test_a_stopped_run_is_as_long_as_it_was_allowed_to_be():
    windows = {"a": Window((Span(Stage.EMIT, 0, 1),)), "b": Window((Span(Stage.ACCUMULATE, 2, 9),))}
    whole = Schedule(windows, 1)
    assert (whole.length, whole.steps, whole.initiation_interval, whole.streams) == (9, 9, 7, False)
    for stop, steps, interval in ((5, 5, 5), (8, 8, 7), (9, 9, 7), (30, 9, 7)):
        plan = Schedule(windows, 1, stop=stop)
        assert (plan.length, plan.steps, plan.initiation_interval) == (9, steps, interval)


def test_an_early_residual_branch_waits_without_firing():
    graph, (first, second, third) = chain(3, 7, 5)
    plan = schedule.pasc(
        graph.replace(projections=(*graph.projections, Projection(first, third, Dense(np.ones((1, 1))))))
    )
    found = [(span.stage, span.steps) for span in plan.windows[third].spans]
    assert found == [(Stage.ACCUMULATE, 10), (Stage.INTEGRATE, 7), (Stage.CORRECT, 6), (Stage.EMIT, 5)]
    assert plan.windows[third].start == plan.windows[second].start


def test_a_window_knows_its_parts():
    window = Window((Span(Stage.ACCUMULATE, 2, 4), Span(Stage.INTEGRATE, 4, 7), Span(Stage.EMIT, 7, 9)))
    assert window.span(Stage.INTEGRATE) == Span(Stage.INTEGRATE, 4, 7)
    assert window.span(Stage.CORRECT) is None
    assert window.emit == Span(Stage.EMIT, 7, 9)
    assert window.bias == Span(Stage.INTEGRATE, 4, 7)
    assert window.begun == 8
    assert Window((Span(Stage.ENCODE, 3, 5), Span(Stage.EMIT, 5, 6))).bias == Span(Stage.ENCODE, 3, 5)
    streaming = Window((Span(Stage.ACCUMULATE, 1, 3), Span(Stage.STREAM, 3, 9)), shift=4)
    assert streaming.emit == Span(Stage.STREAM, 3, 9)
    assert streaming.bias == Span(Stage.STREAM, 3, 4)
    assert streaming.begun == 5
    readout = Window((Span(Stage.ACCUMULATE, 1, 3),))
    assert readout.emit == Span(Stage.EMIT, 3, 3)
    assert readout.bias == Span(Stage.ACCUMULATE, 1, 3)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ((), "at least one stage"),
        ((Span(Stage.EMIT, 3, 3),), "each stage a timestep"),
        (
            (Span(Stage.INTEGRATE, 0, 2), Span(Stage.EMIT, 3, 4)),
            "integrate ends before timestep 2, emit starts in 3",
        ),
        ((Span(Stage.INTEGRATE, 0, 2), Span(Stage.EMIT, 1, 4)), "without gaps"),
    ],
)
def test_a_window_with_gaps_is_refused(spans, message):
    with pytest.raises(GraphError, match=message):
        Window(spans)


def test_lags_that_cannot_be_are_refused():
    graph, names = chain(2, 3)
    with pytest.raises(
        GraphError, match=f"a lag for 'x', which is no spiking population; there are: {', '.join(names)}"
    ):
        schedule.streaming(graph, {"x": 1})
    with pytest.raises(GraphError, match=f"a lag for '{graph.output.name}', which is no spiking"):
        schedule.streaming(graph, {graph.output.name: 1})
    with pytest.raises(GraphError, match=f"the lag of {names[1]} must be 0 or more, not -1"):
        schedule.streaming(graph, {names[1]: -1})
    assert schedule.streaming(graph, {names[0]: 0}) == schedule.streaming(graph)


@ANY
@given(graph=integer_graphs(), delay=DELAYS, stop=st.none() | st.integers(1, 99), data=st.data())
def test_a_graph_has_the_schedule_that_its_timing_names(graph, delay, stop, data):
    names = [p.name for p in graph.spiking]
    lags = tuple(data.draw(st.integers(0, 9)) for _ in names)
    for timing, made in {
        Timing("pasc", stop=stop): schedule.pasc(graph, delay),
        Timing("two_phase", stop=stop): schedule.two_phase(graph, delay),
        Timing("streaming", lags[0], stop): schedule.streaming(graph, lags[0], delay),
        Timing("streaming", lags, stop): schedule.streaming(graph, dict(zip(names, lags, strict=True)), delay),
    }.items():
        found = schedule.of(graph.replace(timing=timing), delay)
        assert (found.windows, found.delay, found.stop) == (made.windows, delay, stop)
        assert found.streams == (timing.schedule != "pasc")


def test_spikes_take_one_timestep_where_nothing_else_is_said():
    """As between Lava's Processes, and on Loihi."""
    graph, _ = chain(2, 3)
    for make in (schedule.pasc, schedule.two_phase, schedule.streaming, schedule.of):
        assert make(graph) == make(graph, delay=1)
        assert make(graph).delay == 1


def test_a_network_is_settled_when_the_last_spike_has_arrived_and_all_have_begun():
    spans = {"a": Window((Span(Stage.STREAM, 1, 9),), shift=2), "b": Window((Span(Stage.STREAM, 4, 20),))}
    plan = Schedule(spans, delay=2)
    last = {"a": np.array([-1, 6, 1, 3]), "b": np.array([-1, 4, 11, -1])}
    # A spike of timestep t arrives in t + 2, and after that timestep nothing is under way; b takes
    # its bias in timestep 4.
    assert plan.settled(last).tolist() == [5, 9, 14, 6]
    assert plan.settled({"a": np.array([-1])}).tolist() == [3], "theta / 2 comes in timestep 2"
