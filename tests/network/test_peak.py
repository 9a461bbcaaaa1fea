"""The largest of linear populations' sums, against sums in whole numbers of NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pascal_nm.errors import GraphError
from pascal_nm.export import read_nir, write_nir
from pascal_nm.hw_targets.lava import LavaTarget
from pascal_nm.hw_targets.loihi import LoihiTarget
from pascal_nm.network.graph import Graph, Population, Projection, Timing
from pascal_nm.network.operators import Conv2d, Dense, Identity, SumPool2d
from pascal_nm.simulation import schedule, simulate
from pascal_nm.simulation.session import Session

ONE = Identity(np.ones((1, 1, 1), np.int8))
ZERO = np.zeros((), np.int32)


@st.composite
def graphs(draw):
    """Input, neurons, their sums, the largest of these (perhaps twice), neurons, outputs."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels, side = draw(st.integers(1, 3)), draw(st.integers(3, 6))
    weight = lambda *shape: rng.integers(-9, 10, shape).astype(np.int8)  # noqa: E731
    levels = draw(st.integers(1, 5))
    populations = [
        Population("input", "analog", (2, side, side + 1), 20),
        Population("first", "pasc", (channels, side, side + 1), levels, np.array(40, np.int32), ZERO),
        Population("sum", "linear", (3, side, side + 1), 0, np.array(draw(st.sampled_from([1.0, 0.5]))), ZERO),
    ]
    projections = [
        Projection("input", "first", Conv2d(weight(channels, 2, 3, 3), padding=(1, 1))),
        Projection("first", "sum", Conv2d(weight(3, channels, 3, 3), padding=(1, 1))),
    ]
    if draw(st.booleans()):
        projections.append(Projection("input", "sum", Conv2d(weight(3, 2, 1, 1))))
    for name in ["peak", "peak_2"][: draw(st.integers(1, 2))]:
        last = populations[-1]
        kernel = (draw(st.integers(1, 2)), 2)
        window = SumPool2d(kernel, (draw(st.integers(1, 2)), 2), (kernel[0] // 2, 0), draw(st.booleans()))
        populations.append(Population(name, "peak", window.output_shape(last.shape), 0, last.threshold, ZERO))
        projections.append(Projection(last.name, name, ONE, window))
    last = populations[-1]
    populations += [
        Population("second", "pasc", (2, *last.shape[1:]), draw(st.integers(1, 5)), np.array(90, np.int32), ZERO + 3),
        Population("output", "readout", (3,), 1, np.ones(()), rng.integers(-9, 10, 3).astype(np.int32)),
    ]
    size = 2 * int(np.prod(last.shape[1:]))
    projections += [
        Projection(last.name, "second", Conv2d(weight(2, 3, 1, 1))),
        Projection("second", "output", Dense(weight(3, size))),
        Projection(last.name, "output", Dense(weight(3, last.size))),
    ]
    return Graph(tuple(populations), tuple(projections))


def expected(graph, inputs):
    """Counts by name and the outputs, in int64."""
    values = {"input": inputs.astype(np.int64)}
    for p in graph.populations[1:]:
        if p.kind == "peak":
            (q,) = graph.incoming(p.name)
            values[p.name] = largest(values[q.source], q.pool, p.shape)
            continue
        total = np.zeros((len(inputs), *p.shape), np.int64) + p.bias.astype(np.int64)
        for q in graph.incoming(p.name):
            matrix = q.operator.matrix(graph[q.source].shape).astype(np.int64)
            total += (matrix @ values[q.source].reshape(len(inputs), -1).T).T.reshape(total.shape)
        if p.kind == "pasc":
            theta = int(p.threshold.max())
            total = np.clip((total + theta // 2) // theta, 0, p.levels)
        values[p.name] = total
    return {n: values[n] for n in ("first", "second")}, values["output"]


def largest(x, window, shape):
    found = np.full((len(x), *shape), -(10**12))
    for i, j in np.ndindex(*shape[1:]):
        rows, columns = (
            slice(max(0, at * s - p), at * s - p + k)
            for at, s, p, k in zip((i, j), window.stride, window.padding, window.kernel, strict=True)
        )
        found[:, :, i, j] = x[:, :, rows, columns].max((2, 3))
    return found


def check(graph, inputs, result):
    counts, outputs = expected(graph, inputs)
    for name, count in counts.items():
        np.testing.assert_array_equal(result.counts[name], count, err_msg=name)
    np.testing.assert_array_equal(result.potential, outputs)
    assert set(result.counts) == set(counts), "the largest of sums is no count"


SEEDS = st.integers(0, 2**32 - 1)


def images(graph, seed, number=3):
    return np.random.default_rng(seed).integers(-20, 21, (number, *graph.input.shape)).astype(np.float64)


@settings(max_examples=40, deadline=None)
@given(
    graph=graphs(),
    seed=SEEDS,
    name=st.sampled_from(["pasc", "two_phase", "streaming", "graded"]),
    delay=st.integers(0, 2),
)
def test_the_largest_sums_are_those_of_whole_numbers_in_every_schedule(graph, seed, name, delay):
    inputs = images(graph, seed)
    check(graph, inputs, simulate.counts(graph, inputs))
    timed = graph.replace(timing=Timing(name))
    plan = schedule.of(timed, delay)
    check(timed, inputs, simulate.steps(timed, inputs, plan))


@settings(max_examples=20, deadline=None)
@given(graph=graphs(), seed=SEEDS, name=st.sampled_from(["two_phase", "streaming", "graded"]))
def test_from_frame_to_frame_changes_of_the_largest_add_up(graph, seed, name):
    frames = images(graph, seed, 5)
    frames[3] = frames[2]
    frames[4, 0, 1] += 1
    frames = np.clip(frames, -20, 20)
    check(graph, frames, Session(graph.replace(timing=Timing(name))).run(frames))


@settings(max_examples=4, deadline=None)
@given(graph=graphs(), seed=SEEDS, name=st.sampled_from(["pasc", "graded"]))
def test_lava_a_chip_and_a_file_have_them_too(graph, seed, name, tmp_path_factory):
    graph, inputs = graph.replace(timing=Timing(name)), images(graph, seed)
    path = tmp_path_factory.mktemp("peak") / "peak.nir"
    write_nir(graph, path)
    assert read_nir(path).differences(graph) == []
    check(graph, inputs, LoihiTarget("loihi2").compile(graph).run(inputs))
    pytest.importorskip("lava")
    check(graph, inputs, LavaTarget().compile(graph).run(inputs))


def test_what_is_no_window_of_sums_is_refused():
    graph = Graph(
        (Population("input", "analog", (1, 4, 4), 1), Population("output", "readout", (1, 4, 4), 1, np.ones(()), ZERO)),
        (Projection("input", "output", ONE),),
    )
    peak = Population("peak", "peak", (1, 2, 2), 0, np.ones(()), ZERO)
    with pytest.raises(GraphError, match="peak population takes the sums of one linear population"):
        graph.replace(
            populations=(*graph.populations[:1], peak, graph.populations[1]),
            projections=(*graph.projections, Projection("input", "peak", ONE, SumPool2d((2, 2), (2, 2)))),
        )
