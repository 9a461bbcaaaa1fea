"""Frames: whatever came before, every level and output is that of the frame alone, and what is sent
is what changed; on random graphs, in all schedules.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pascal_nm import Preprocessing, convert, neuron, quantize
from pascal_nm.common import memory
from pascal_nm.errors import DataError, GraphError
from pascal_nm.network import bounds
from pascal_nm.network.graph import Graph, Pixels, Population, Projection, Timing
from pascal_nm.network.operators import Dense, Identity
from pascal_nm.simulation import schedule, simulate
from pascal_nm.simulation.session import Session
from tests import networks, reference
from tests.cores import Trains
from tests.strategies import integer_graphs, integer_qcfs
from tests.test_bounds import Peaks

ANY = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
SEEDS = st.integers(0, 2**32 - 1)
KEPT = ("graded", "streaming", "two_phase")


@st.composite
def graphs(draw):
    """Random integer graphs, some with a second readout, of any population."""
    graph = draw(integer_graphs())
    if draw(st.booleans()):
        source = draw(st.sampled_from(graph.populations[:-1]))
        weight = np.random.default_rng(draw(SEEDS)).integers(-127, 128, (2, source.size)).astype(np.int8)
        further = Population("further", "readout", (2,), 1, np.ones(()), np.array([7, -7], np.int32))
        projections = (*graph.projections, Projection(source.name, "further", Dense(weight)))
        graph = graph.replace(populations=(*graph.populations, further), projections=projections)
    return graph


@st.composite
def frames_for(draw, graph):
    """A first frame, and further ones: the same, with one other value, others, or the negative."""
    rng, levels = np.random.default_rng(draw(SEEDS)), graph.input.levels
    frames = [rng.integers(-levels, levels + 1, graph.input.shape)]
    for kind in draw(st.lists(st.sampled_from(["same", "one", "other", "negative", "largest"]), max_size=4)):
        frame = {
            "same": frames[-1].copy,
            "one": frames[-1].copy,
            "other": lambda: rng.integers(-levels, levels + 1, graph.input.shape),
            "negative": lambda: -frames[-1],
            "largest": lambda: np.where(rng.random(graph.input.shape) < 0.5, levels, -levels),
        }[kind]()
        if kind == "one":
            frame[tuple(rng.integers(0, n) for n in frame.shape)] = rng.integers(-levels, levels + 1)
        frames.append(frame)
    return np.array(frames, np.float64)


@st.composite
def plans(draw, graph, names=KEPT):
    """Any schedule of the names, with any delay; of streaming, with a lag for each layer."""
    name, delay = draw(st.sampled_from(names)), draw(st.integers(0, 2))
    if name == "streaming":
        return schedule.streaming(graph, {p.name: draw(st.integers(0, 4)) for p in graph.spiking}, delay)
    return getattr(schedule, name)(graph, delay)


@st.composite
def videos(draw, names=KEPT):
    """A graph, a schedule of it, and frames."""
    graph = draw(graphs())
    return graph, draw(plans(graph, names)), draw(frames_for(graph))


def outputs(graph, values):
    return np.concatenate([values[p.name] for p in graph.outputs], 1)


def check_levels(graph, result, frames):
    """Every level and potential is Equation 1's, of each frame alone."""
    expected = integer_qcfs(graph, frames)
    assert set(result.counts) == {p.name for p in graph.counted}
    for name, count in result.counts.items():
        np.testing.assert_array_equal(count, expected[name], err_msg=name)
    np.testing.assert_array_equal(result.potential, outputs(graph, expected))
    assert result.exact.all()
    return expected


def same(one, other):
    """Two results hold the same, bit for bit."""
    for name, count in one.counts.items():
        np.testing.assert_array_equal(other.counts[name], count, err_msg=name)
        np.testing.assert_array_equal(other.activity[name], one.activity[name], err_msg=name)
    assert set(one.spikes) == set(other.spikes)
    for name, sent in one.spikes.items():
        np.testing.assert_array_equal(other.spikes[name], sent, err_msg=name)
    for attribute in ("potential", "timesteps", "answers", "exact"):
        np.testing.assert_array_equal(getattr(other, attribute), getattr(one, attribute), err_msg=attribute)


@settings(ANY, max_examples=120)
@given(videos((*KEPT, "pasc")))
def test_every_frame_is_exact_whatever_the_frames_before(video):
    """Theorem 5."""
    graph, plan, frames = video
    session = Session(graph, plan)
    check_levels(graph, session.run(frames), frames)
    np.testing.assert_array_equal(session.shown, frames[-1])
    check_levels(graph, session.run(frames[::-1]), frames[::-1])


@ANY
@given(videos(("graded",)))
def test_graded_sends_each_change_of_a_level_as_one_number_and_nothing_else(video):
    graph, plan, frames = video
    result = Session(graph, plan, watcher=(trains := Trains())).run(frames)
    expected = integer_qcfs(graph, frames)
    for p in graph.populations:
        if p.kind == "readout":
            continue
        first, train = trains.kept[p.name]
        changes = np.diff(expected[p.name], axis=0, prepend=0)
        assert first == plan.windows[p.name].emit.start
        np.testing.assert_array_equal(train.numpy(), changes[None], err_msg=p.name)
        np.testing.assert_array_equal(result.spikes[p.name], changes != 0, err_msg=p.name)
        assert np.abs(changes).max() <= trains.plan.largest(graph, p.name)
        if p.kind != "analog":
            emitted = np.count_nonzero(changes.reshape(len(frames), -1), axis=1)
            np.testing.assert_array_equal(result.activity[p.name].emitted, emitted)
    assert (result.timesteps == plan.length).all()


@ANY
@given(videos(("streaming", "two_phase")))
def test_streamed_frames_send_the_change_of_each_level_in_single_spikes(video):
    graph, plan, frames = video
    result = Session(graph, plan, watcher=(trains := Trains())).run(frames)
    expected, waits = integer_qcfs(graph, frames), plan.windows == schedule.two_phase(graph, plan.delay).windows
    np.testing.assert_array_equal(result.spikes[graph.input.name], np.diff(expected["input"], axis=0, prepend=0) != 0)
    for p in graph.senders:
        first, train = trains.kept[p.name]
        train, changes = train.numpy(), np.diff(expected[p.name], axis=0, prepend=0)
        assert np.abs(train).max() <= (plan.largest(graph, p.name) if p.kind == "linear" else 1)
        np.testing.assert_array_equal(train.sum(0), changes, err_msg=p.name)
        np.testing.assert_array_equal(result.spikes[p.name], (train != 0).sum(0), err_msg=p.name)
        if waits and p.kind == "pasc":  # all spikes of a neuron have the sign of its change
            np.testing.assert_array_equal(abs(train).sum(0), abs(changes), err_msg=p.name)
        assert first + len(train) <= plan.windows[p.name].stop or p.kind in ("max", "linear")
    assert (result.timesteps <= plan.length).all()


@ANY
@given(video=videos((*KEPT, "pasc")), data=st.data())
def test_frames_are_the_same_in_whatever_parts_they_come(video, data):
    graph, plan, frames = video
    whole = Session(graph, plan).run(frames)
    parts, session, done = [], Session(graph, plan), 0
    while done < len(frames):
        n = data.draw(st.integers(0, len(frames) - done))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(memory, "TRAIN", 16 * data.draw(st.integers(1, 2000)))
            patch.setattr(memory, "STATE", data.draw(st.integers(1, 500)))
            parts.append(session.run(frames[done : done + n]) if n else session.step(frames[done]))
        done += n or 1
    same(whole, type(whole).join(parts))


@ANY
@given(videos((*KEPT, "pasc")))
def test_a_first_frame_is_an_image_from_rest_and_so_is_one_after_a_reset(video):
    graph, plan, frames = video
    session = Session(graph, plan)
    session.run(frames)
    session.reset()
    assert session.shown is None
    after = session.run(frames)
    same(Session(graph, plan).run(frames), after)
    from_rest, first = simulate.steps(graph, frames[:1], plan), Session(graph, plan).step(frames[0])
    input_name = graph.input.name
    if first.sent is not None:
        first = replace(first, sent={n: s for n, s in first.sent.items() if n != input_name})
        from_rest = replace(from_rest, sent={n: s for n, s in from_rest.spikes.items() if n != input_name})
    same(from_rest, first)


@ANY
@given(videos(KEPT))
def test_a_frame_that_is_shown_again_sends_nothing(video):
    graph, plan, frames = video
    session = Session(graph, plan)
    session.run(frames)
    result = session.run(np.repeat(frames[-1:], 3, 0))
    for sent in result.spikes.values():
        assert not sent.any()
    check_levels(graph, result, np.repeat(frames[-1:], 3, 0))
    begun = max(plan.windows[p.name].begun for p in graph.senders)
    assert (result.timesteps == (plan.length if plan.graded else begun)).all()


@ANY
@given(video=videos((*KEPT, "pasc")), threshold=st.integers(0, 99) | st.floats(0, 300), data=st.data())
def test_answers_behind_a_threshold_are_exact_for_the_frames_that_are_shown(video, threshold, data):
    graph, plan, frames = video
    session = Session(graph, plan, threshold=threshold, watcher=(trains := Trains()))
    shown = [frames[0]]
    for frame in frames[1:]:
        pairs = zip(frame.flat, shown[-1].flat, strict=True)
        shown.append(np.array([f if abs(f - s) > threshold else s for f, s in pairs]).reshape(frame.shape))
    shown = np.array(shown)
    cut = data.draw(st.integers(0, len(frames)))
    for part in (slice(0, cut), slice(cut, None)):
        if len(frames[part]):
            check_levels(graph, session.run(frames[part]), shown[part])
            np.testing.assert_array_equal(session.shown, shown[part][-1])
            if session.schedule.kept:
                _, train = trains.kept[graph.input.name]
                sent = np.abs(train.numpy()[0][1 if part.start == 0 else 0 :])
                assert ((sent == 0) | (sent > threshold)).all()
    assert (np.abs(session.shown - frames[-1]) <= threshold).all()


def tiny(weight=1, theta=10, levels=16, bias=0, n=1, largest=255, **fields):
    """``n`` inputs, each into a neuron of its own, and one output."""
    theta, bias = np.full((), theta, np.int32), np.full((), bias, np.int32)
    populations = (
        Population("input", "analog", (n,), largest),
        Population("layer", "pasc", (n,), levels, theta, bias),
        Population("output", "readout", (1,), 1, np.ones(()), np.zeros((), np.int32)),
    )
    projections = (
        Projection("input", "layer", Identity(np.full((1,), weight, np.int32))),
        Projection("layer", "output", Dense(np.ones((1, n), np.int8))),
    )
    return Graph(populations, projections, **fields)


@pytest.mark.parametrize("name", [*KEPT, "pasc"])
@pytest.mark.parametrize("threshold", [0, 3])
def test_a_step_that_fails_changes_nothing(name, threshold):
    graph = tiny(n=3)
    session, other = (Session(graph, getattr(schedule, name)(graph), threshold=threshold) for _ in range(2))
    good, nan, far = np.array([90.0, -5, 31]), np.array([99.0, np.nan, 0]), np.array([9.0, 256, 0])
    failing = {
        "shape": (np.zeros(4), "takes frames of shape .3,., not .4,."),
        "channels": (np.zeros((2, 3, 1)), "channels come first"),
        "nan": (nan, "NaN or infinite"),
        "infinite": (np.array([np.inf, 0, 0]), "NaN or infinite"),
        "range": (far, "the data reaches 256, but"),
    }
    for after in (good, good / 2, -good):
        before = session.shown
        for frame, message in failing.values():
            with pytest.raises(DataError, match=message):
                session.step(frame)
        for frames in ([good, nan], [far, good]):
            with pytest.raises(DataError, match=r"NaN|reaches 256"):
                session.run(np.array(frames))
        with pytest.raises(DataError, match="no frame"):
            session.run(np.zeros((0, 3)))
        assert session.shown is before
        same(other.step(after), session.step(after))
        np.testing.assert_array_equal(session.shown, other.shown)


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("answered", [0, 1, 2])
def test_a_run_that_is_interrupted_changes_nothing(name, answered, monkeypatch):
    """Before its first answer, or in a later batch."""
    graph, left = tiny(n=2), [9]

    def delivered(projection, spikes, synapse):
        left[0] -= projection.target == "output"
        if left[0] < 0:
            raise KeyboardInterrupt
        return synapse(spikes)

    monkeypatch.setattr(memory, "TRAIN", 1)
    session = Session(graph, getattr(schedule, name)(graph), delivered=delivered)
    other = Session(graph, getattr(schedule, name)(graph))
    same(other.step(np.array([50.0, 0])), session.step(np.array([50.0, 0])))
    left[0] = answered
    with pytest.raises(KeyboardInterrupt):
        session.run(np.array([[0.0, 99], [33, 5], [150, 60]]))
    left[0] = 9
    np.testing.assert_array_equal(session.shown, [50, 0])
    same(other.step(np.array([20.0, 30])), session.step(np.array([20.0, 30])))


def test_the_frame_that_is_shown_stays_when_its_buffer_is_written_again():
    graph, buffer = tiny(), np.array([5.0])
    session = Session(graph, schedule.graded(graph))
    session.step(buffer)
    buffer[0] = 9
    assert session.shown.tolist() == [5]


def test_a_shown_value_stays_as_it_was_among_frames_of_another_type():
    graph = tiny(weight=10)
    session = Session(graph, schedule.graded(graph), threshold=2)
    for frame in (np.array([5.7]), np.array([6], np.uint8), np.array([4.0], np.float32)):
        result = session.step(frame)
        assert session.shown.tolist() == [5.7]
        assert result.counts["layer"].tolist() == [[6]]
    assert session.step(np.array([3], np.uint8)).counts["layer"].tolist() == [[3]]


@pytest.mark.parametrize("threshold", [-1, -0.1, np.nan, np.inf])
def test_a_threshold_below_zero_or_without_end_is_refused(threshold):
    with pytest.raises(DataError, match="the threshold of a change is 0 or more and finite, not"):
        Session(tiny(), threshold=threshold)


def test_inputs_whose_changes_leave_32_bits_are_refused():
    largest = 2**30
    Session(tiny(largest=largest - 1))
    with pytest.raises(GraphError, match="inputs up to 1,073,741,824 change by more than 32 bits hold"):
        Session(tiny(largest=largest))


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("n", [1, 64])
def test_a_change_of_twice_the_largest_input_fits_where_one_input_alone_needs_31_bits(name, n):
    graph = tiny(weight=1_200_000_000, theta=150_000_000, n=n, largest=1)
    assert bounds.potential_bound(graph, "layer") < 2**31 < bounds.potential_bound(graph, "layer", kept=True)
    assert bounds.potential_bound(graph, "output", kept=True) == 16 * n, "levels change by no more than they are"
    simulate.steps(graph, np.zeros((1, n)), getattr(schedule, name)(graph))  # its synapses are others
    frames = np.repeat([[1.0], [-1], [0], [1], [0]], n, 1)
    check_levels(graph, Session(graph, getattr(schedule, name)(graph)).run(frames), frames)


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_potential_falls_farther_than_from_rest_and_not_beyond_its_bound(name):
    graph, watcher = tiny(weight=100, largest=9, theta=300), Peaks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neuron, "step", watcher.step)
        Session(graph, getattr(schedule, name)(graph), watcher=watcher).run(np.array([[9.0], [-9], [9]]))
    peak = max(watcher.found.values())
    if name == "graded":
        assert peak == 900 + 150
    else:
        assert peak == 1800 - 150, "from 3 levels, 150 above them"
        assert bounds.potential_bound(graph, "layer") < peak
    assert peak <= bounds.potential_bound(graph, "layer", kept=True) == 2 * 900 + 300


@ANY
@given(videos())
def test_no_kept_potential_leaves_its_bound(video):
    graph, plan, frames = video
    watcher = Peaks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neuron, "step", watcher.step)
        Session(graph, plan, watcher=watcher).run(frames)
    for (name, stage), peak in watcher.found.items():
        assert peak <= bounds.potential_bound(graph, name, kept=stage != "change"), (name, stage)


@pytest.mark.parametrize("timing", [Timing("pasc"), Timing("streaming", stop=3), Timing("graded", stop=2)])
def test_where_no_state_is_kept_each_frame_is_run_from_rest(timing):
    graph = tiny(n=2, timing=timing)
    session, frames = graph.session(), np.array([[50.0, 9], [50, 9], [-3, 200]])
    assert not session.schedule.kept
    whole = simulate.steps(graph, frames)
    same(whole, session.run(frames))
    same(whole, type(whole).join([session.step(frame) for frame in frames]))


@ANY
@given(graph=integer_graphs(), seed=SEEDS, delay=st.integers(0, 2))
def test_from_rest_a_level_is_one_spike_and_the_answer_there_after_the_longest_way(graph, seed, delay):
    levels = graph.input.levels
    images = np.random.default_rng(seed).integers(-levels, levels + 1, (3, *graph.input.shape)).astype(np.float64)
    plan = schedule.graded(graph, delay)
    result = simulate.steps(graph, images, plan, trains := Trains())
    expected = check_levels(graph, result, images)
    for p in graph.senders:
        _, train = trains.kept[p.name]
        np.testing.assert_array_equal(train.numpy(), expected[p.name][None])
        np.testing.assert_array_equal(result.spikes[p.name], expected[p.name] != 0)
    depth = longest_way(graph, graph.output.name)
    assert set(result.timesteps) == {plan.length} == {depth * delay + 1}
    assert plan.initiation_interval == 1


def longest_way(graph, name):
    """Projections on the longest way from the input: layers, where poolings are layers, too."""
    return max((1 + longest_way(graph, q.source) for q in graph.projections if q.target == name), default=0)


@ANY
@given(videos(("graded",)))
def test_frames_that_begin_in_every_timestep_do_not_meet(video):
    """On one clock, written anew: frame k is injected in timestep k, and its answer is there a
    schedule's length later, while others are under way.
    """
    graph, plan, frames = video
    potential = reference.pipelined(graph, frames, plan)
    for p in graph.outputs:
        answered = potential[p.name][plan.windows[p.name].start :][: len(frames)]
        np.testing.assert_array_equal(answered, integer_qcfs(graph, frames)[p.name], err_msg=p.name)


def scaled(graph, dtype, unit):
    """The graph in floats: integers times a power of two, which nothing rounds."""

    def floats(integers, target=None):
        return (integers * (unit if target is None or target.kind != "linear" else 1)).astype(dtype)

    populations = [
        p if p.kind in ("analog", "max", "linear") else replace(p, threshold=floats(p.threshold), bias=floats(p.bias))
        for p in graph.populations
    ]
    projections = [
        q
        if graph[q.target].kind == "max"
        else replace(q, operator=q.operator.with_weight(floats(q.operator.weight, graph[q.target])))
        for q in graph.projections
    ]
    return graph.replace(populations=populations, projections=projections)


@ANY
@given(video=videos(), dtype=st.sampled_from([np.float32, np.float64]))
def test_frames_in_floats_are_those_in_integers_where_nothing_is_rounded(video, dtype):
    graph, plan, frames = video
    exact = 2.0 ** np.finfo(dtype).nmant
    assume(all(bounds.potential_bound(graph, p.name, kept=True) < exact for p in graph.weighted))
    session = Session(scaled(graph, dtype, 2.0**-5), plan)
    for some in (frames, frames[::-1]):
        result, expected = session.run(some), integer_qcfs(graph, some)
        for name, count in result.counts.items():
            np.testing.assert_array_equal(count, expected[name], err_msg=name)
        np.testing.assert_array_equal(result.potential, outputs(graph, expected) * 2.0**-5)
        assert result.potential.dtype == dtype


@pytest.fixture(scope="module")
def clip():
    """Frames of which each is a little other than the one before."""
    rng, frames = np.random.default_rng(0), [networks.images(1).numpy()[0]]
    for _ in range(99):
        changed = rng.random(frames[0].shape) < 0.1
        frames.append(np.where(changed, rng.normal(size=changed.shape), frames[-1]))
    return np.array(frames)


@pytest.mark.parametrize("name", ["convolutional", "residual", "max_before_activation"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("plan", ["graded", "streaming"])
def test_frames_in_floats_flip_a_level_by_rounding_alone_and_do_not_drift(name, dtype, plan, clip):
    """Each layer's levels are Equation 1's of the levels before it, but where the potential is
    within a few roundings of a threshold; and so are the outputs, after frames a million times as
    large, too.
    """
    module = networks.randomized(networks.Residual() if name == "residual" else networks.ALL[name](), 1)
    graph = convert(module, networks.images(4)).astype(dtype)
    session = Session(graph, getattr(schedule, plan)(graph))
    check_roundings(graph, session.run(clip), clip)
    session.step(1e6 * clip[0])
    session.step(clip[-2])  # in which a stream's rounding is still that of the change
    check_roundings(graph, session.step(clip[-1]), clip[-1:])


def check_roundings(graph, result, frames):
    """The levels that a run in floats gave, against those that follow from each other exactly."""
    exact, eps = graph.astype(np.float64), np.finfo(graph.dtype).eps
    values = {graph.input.name: torch.from_numpy(graph.currents(frames).astype(np.float64))}
    for p in exact.senders:
        values[p.name] = torch.from_numpy(result.counts[p.name].astype(np.float64))
        if p.kind == "max":
            np.testing.assert_array_equal(values[p.name], simulate.relayed(exact, p, values))
            continue
        z = (simulate.sum_currents(exact, p, values).numpy() + p.bias) / p.threshold + 0.5
        flipped = np.clip(np.floor(z), 0, p.levels) != result.counts[p.name]
        assert not flipped[np.abs(z - np.rint(z)) > 64 * eps * (1 + np.abs(z).max())].any()
        assert flipped.mean() < 1e-3
    (readout,) = exact.outputs
    z = simulate.sum_currents(exact, readout, values).numpy() + readout.bias
    assert np.abs(result.potential - z).max() <= 64 * eps * (1 + np.abs(z).max())


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("name", ["graded", "pasc"])
def test_frames_of_a_network_that_knows_its_pixels_are_pixels_and_so_is_the_threshold(integer, name):
    graph = networks.for_digits()
    coarse = [  # sums of such weights and pixels are exact
        replace(q, operator=q.operator.with_weight(np.rint(32 * q.operator.weight) / 32)) for q in graph.projections
    ]
    graph = graph.replace(projections=coarse, preprocessing=Preprocessing(16.0, (0.25,), (0.5,)))
    graph = quantize(graph) if integer else graph
    rng, plan = np.random.default_rng(1), getattr(schedule, name)(graph)
    frames = rng.integers(0, 17, (5, 1, 8, 8)).astype(np.uint8)
    expected = simulate.counts(graph, graph.pixels(frames))
    for given_frames in (frames, graph.pixels(frames), torch.from_numpy(frames)):
        result = Session(graph, plan).run(given_frames)
        np.testing.assert_array_equal(result.counts["hidden"], expected.counts["hidden"])
        np.testing.assert_array_equal(result.potential, expected.potential)
    other = Preprocessing(8.0, (0.1,), (0.5,))
    if not integer:
        found = Session(graph, plan).run(Pixels(frames // 2, other)).potential
        np.testing.assert_array_equal(found, simulate.counts(graph, Pixels(frames // 2, other)).potential)
    session = Session(graph, plan, threshold=3)
    session.step(frames[0])
    slightly = np.where(frames[0] > 8, frames[0] - 3, frames[0] + 3)
    result = session.step(slightly)
    np.testing.assert_array_equal(result.potential, expected.potential[:1])
    if name == "graded":
        assert not any(sent.any() for sent in result.spikes.values())
    np.testing.assert_array_equal(session.shown, frames[0])
    slightly[0, 0, 0] = 16 - frames[0, 0, 0, 0]
    result = session.step(slightly)
    np.testing.assert_array_equal(session.shown[0, 0, 0], slightly[0, 0, 0])
    np.testing.assert_array_equal(result.potential, simulate.counts(graph, graph.pixels(session.shown[None])).potential)


@pytest.mark.parametrize(
    "frame", [None, "frame", np.full(1, None), np.zeros(1, complex), np.zeros(1, "M8[s]"), [[1], [1, 2]], 3, []]
)
def test_what_is_no_frame_is_refused_and_changes_nothing(frame):
    session = Session(tiny(), threshold=1)
    session.step(np.array([3.0]))
    for show in (session.step, session.run):
        with pytest.raises(DataError):
            show(frame)
        assert session.shown.tolist() == [3.0]


def test_tensors_are_frames_whatever_they_remember_of_gradients():
    frames = torch.tensor([[3.0], [-2.0]], requires_grad=True)
    session, expected = Session(tiny()), Session(tiny()).run(frames.detach().numpy())
    same(expected, type(expected).join([session.run(frames[:1]), session.step(frames[1])]))
