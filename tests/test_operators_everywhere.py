"""One network of all operators whose synapses are given one by one, or transposed: whoever runs,
prices, places or changes networks gets the same integers.
"""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

import pascal_nm as pnm
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import mapping, program_files
from pascal_nm.hw_targets.program import lower
from pascal_nm.network.graph import Graph, Population, Preprocessing, Projection, Quantization, Timing
from pascal_nm.network.operators import Conv2d, ConvTranspose2d, Dense, IndexMap, Sparse, SumPool2d
from pascal_nm.network.operators.index_map import channel_map
from pascal_nm.network.unroll import rolled, unroll
from pascal_nm.simulation import events, simulate
from tests.strategies import integer_qcfs

IMAGE = (4, 4, 6)


def network():
    """Float: moved, sparse and transposed synapses join in one population; the next is behind a
    pooling, and of neurons without pixels.
    """
    rng = np.random.default_rng(0)

    def few(target, source):
        full = rng.normal(size=(int(np.prod(target)), int(np.prod(source))))
        return Sparse.of(full * (rng.random(full.shape) < 0.1), target, source)

    halves = SumPool2d((2, 2), (2, 2))
    joined = [
        Projection("a", "b", few(IMAGE, IMAGE)),
        Projection("a", "b", IndexMap(rng.normal(size=(4, 1, 1)), rng.permutation(96).reshape(IMAGE), IMAGE), None, 1),
        Projection("a", "b", channel_map(np.array([2, -1, 0, 0]), rng.normal(size=(1, 1, 1)), IMAGE), None, 2),
        Projection("a", "b", ConvTranspose2d(rng.normal(size=(4, 4, 2, 2)) / 4, (2, 2)), halves, 3),
    ]
    return Graph(
        (
            Population("input", "analog", (2, 4, 6), 0),
            Population("a", "pasc", IMAGE, 4, np.ones(()), rng.normal(size=4)),
            Population("b", "pasc", IMAGE, 3, np.full((), 2.0), rng.normal(size=4)),
            Population("c", "pasc", (9,), 5, rng.uniform(1, 3, 9), rng.normal(size=9)),
            Population("output", "readout", (3,), 1, np.ones(()), rng.normal(size=3)),
        ),
        (
            Projection("input", "a", Conv2d(rng.normal(size=(4, 2, 3, 3)), padding=(1, 1))),
            *joined,
            Projection("b", "c", few((9,), (4, 2, 3)), halves),
            Projection("b", "c", IndexMap(rng.normal(size=9), rng.integers(-1, 96, 9), IMAGE), None, 1),
            Projection("c", "output", Dense(rng.normal(size=(3, 9)))),
        ),
        Preprocessing(255.0, (0.4, 0.5), (0.2, 0.3)),
    )


GRAPH = network()
INTEGER = pnm.quantize(GRAPH, 8)
PIXELS = np.random.default_rng(1).integers(0, 256, (5, 2, 4, 6)).astype(np.uint8)
INPUTS = GRAPH.preprocessing(PIXELS)


def same(result, graph=INTEGER):
    expected = integer_qcfs(graph, graph.currents(INPUTS))
    assert min(np.unique(expected[p.name]).size for p in graph.spiking) > 3
    for name, count in result.counts.items():
        np.testing.assert_array_equal(count, expected[name], err_msg=name)
    np.testing.assert_array_equal(result.potential, expected["output"])


@pytest.mark.parametrize("schedule", ["pasc", "two_phase", "streaming", "graded"])
def test_every_engine_has_the_counts_of_the_integer_network(schedule):
    graph = INTEGER.replace(timing=Timing(schedule))
    same(simulate.counts(graph, INPUTS))
    same(simulate.steps(graph, INPUTS))
    for target in ["loihi2", *(["lava"] if find_spec("lava") else [])]:
        same(pnm.run(graph, INPUTS, target) if target == "lava" else executed(graph).run(INPUTS))
    same(graph.session().run(PIXELS))


def executed(graph):
    return pnm.hw_targets.loihi.LoihiTarget("loihi2", cores=True).compile(graph)


def test_floating_point_gives_every_level_in_steps_and_in_lava():
    expected = simulate.counts(GRAPH, INPUTS)
    for target in ["torch", *(["lava"] if find_spec("lava") else [])]:
        found = pnm.run(GRAPH, INPUTS, target)
        for name, count in expected.counts.items():
            np.testing.assert_array_equal(found.counts[name], count, err_msg=name)
        np.testing.assert_allclose(found.potential, expected.potential, rtol=1e-12)


def test_a_bundle_executes_what_was_written(tmp_path):
    chip = chips.load("loihi2")
    program = lower(INTEGER, chip)
    check = program_files.checks(INTEGER.currents(INPUTS), simulate.counts(INTEGER, INPUTS))
    about = {"chip": program.chip, "cores": len(program.cores), "chips": 1, "delay": program.schedule.delay}
    program_files.write(tmp_path / "bundle", program, check, about)
    same(program_files.executed(tmp_path / "bundle").run(INPUTS))


def test_events_on_cores_add_up_to_those_of_the_network():
    result = executed(INTEGER).run(INPUTS)
    by_name = {layer.name: layer for layer in events.count(INTEGER, result)}
    for p in INTEGER.populations[2:]:
        on_cores = result.cores.total("synaptic_operation", p.name)
        np.testing.assert_array_equal(on_cores, by_name[p.name].synaptic_operations)
        expected = sum(
            result.spikes[q.source].reshape(len(INPUTS), -1) @ q.reach(INTEGER[q.source].shape).fan_out.reshape(-1)
            for q in INTEGER.incoming(p.name)
        )
        np.testing.assert_array_equal(on_cores, expected)
    assert mapping.place(INTEGER, chips.load("loihi2")).cores >= 4


def test_unrolled_copies_add_up_to_the_counts():
    copies = unroll(INTEGER)
    assert {p.levels for p in copies.spiking} == {1}
    found = simulate.counts(copies, INPUTS)
    for name, count in rolled(INTEGER, found.counts).items():
        np.testing.assert_array_equal(count, simulate.counts(INTEGER, INPUTS).counts[name], err_msg=name)
    np.testing.assert_array_equal(found.potential, simulate.counts(INTEGER, INPUTS).potential)


@pytest.mark.parametrize("clipped", ["max", "mse"])
@pytest.mark.parametrize("bits", [3, 8])
def test_sparse_and_moved_layers_have_the_integers_of_the_dense_layer_of_the_same_matrix(bits, clipped):
    """Onto neurons without pixels, each of which has its own grid."""
    dense = [replace(q, operator=Dense(q.operator.matrix(q.operator.source).toarray())) for q in GRAPH.incoming("c")]
    kept = [q for q in GRAPH.projections if q.target != "c"]
    recipe = Quantization(bits, clipped)
    expected = pnm.quantize(GRAPH.replace(projections=(*kept[:-1], *dense, kept[-1])), recipe)
    found = pnm.quantize(GRAPH, recipe)
    for p, other in zip(found.populations, expected.populations, strict=True):
        np.testing.assert_array_equal(p.threshold, other.threshold)
        np.testing.assert_array_equal(p.bias, other.bias)
    for q, other in zip(found.incoming("c"), expected.incoming("c"), strict=True):
        np.testing.assert_array_equal(q.operator.matrix(q.operator.source).toarray(), other.operator.weight)


def test_a_sparse_layer_has_the_integers_of_the_convolution_of_the_same_matrix():
    """Channel by channel: all synapses onto one share its grid."""
    (first, *_) = GRAPH.projections
    as_sparse = Sparse.of(first.operator.matrix((2, 4, 6)), IMAGE, (2, 4, 6))
    one = Projection("input", "a", as_sparse)
    channels = channel_map(np.array([0, 1, 0, -1]), np.full((1, 1, 1), 40.0), (2, 4, 6))
    shortcut = Projection("input", "a", channels, None, 1)
    graphs = [pnm.quantize(GRAPH.replace(projections=(q, shortcut, *GRAPH.projections[1:])), 6) for q in (first, one)]
    (conv, moved), (given, also) = (graph.incoming("a") for graph in graphs)
    np.testing.assert_array_equal(conv.operator.matrix((2, 4, 6)).toarray(), given.operator.matrix().toarray())
    np.testing.assert_array_equal(moved.operator.weight, also.operator.weight)
    np.testing.assert_array_equal(graphs[0]["a"].threshold, graphs[1]["a"].threshold)
