"""Every kind of NIR node by its equation, and every field that is not what it must be refused by
name: before torch, Lava or nir take it as something else.
"""

import itertools

import nir
import numpy as np
import pytest
import torch

from pascal_nm.errors import GraphError, TargetError
from pascal_nm.export import nir_nodes
from pascal_nm.export.nir_modules import Reading
from pascal_nm.hw_targets.nir_network import NirProgram
from tests.export import foreign, interpreter


@pytest.mark.parametrize("seed", range(100))
def test_a_random_graph_answers_as_its_equations_say(seed):
    rng = np.random.default_rng(seed)
    raw, after_spike = foreign.random_graph(rng, recurrent=seed > 40), ("zero", "subtract")[seed % 2]
    current = ("last", "new")[seed % 3 == 0]
    program = NirProgram(raw, 5, Reading(after_spike=after_spike, current=current), dtype=torch.float64)
    x = rng.normal(0.5, 1, (3, *program.input_shape))
    expected = interpreter.run(raw, x, 5, after_spike, current)
    np.testing.assert_allclose(program.run(x).outputs, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_lava_answers_as_torch_does(seed):
    """Graphs in graphs and recurrent ones, and inputs that change over time."""
    pytest.importorskip("lava")
    rng = np.random.default_rng(1000 + seed)
    raw = foreign.random_graph(rng, recurrent=seed > 2)
    changing = (4,) if seed % 2 else ()
    x = rng.normal(0.5, 1, (2, *changing, *nir_nodes.plan(raw).shapes["input"])).astype(np.float32)
    found = [NirProgram(raw, 4, target=target).run(x) for target in ("torch", "lava")]
    np.testing.assert_allclose(found[0].outputs, found[1].outputs, rtol=1e-5, atol=1e-5)
    for name, count in found[0].counts.items():
        np.testing.assert_array_equal(count, found[1].counts[name])


def graph(node, arriving, sent=None, edges=None, **more):
    """A node between an Input and an Output."""
    nodes = {
        "input": nir.Input({"input": np.array(arriving)}),
        "node": node,
        **more,
        "output": nir.Output({"output": np.array(sent or arriving)}),
    }
    return nir.NIRGraph(nodes, edges or [("input", "node"), ("node", "output")], type_check=False)


ONES, IMAGE = np.ones(8), np.ones((8, 8, 8))


def conv2d(weight=(4, 2, 3, 3), **changes):
    fields = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, "bias": np.zeros(4), **changes}
    return nir.Conv2d(None, np.ones(weight), **fields)


def conv1d(weight=(4, 2, 3), **changes):
    fields = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, "bias": np.zeros(4), **changes}
    return nir.Conv1d(None, np.ones(weight), **fields)


def cuba(w_in):
    node = nir.CubaLIF(*[np.full(6, 1e-2)] * 2, *[np.ones(6)] * 4)
    node.w_in = w_in
    return node


def with_(node, **fields):
    for name, value in fields.items():
        setattr(node, name, value)
    return node


PAIR = np.array([2, 2])

REFUSED = {
    "w_in of two axes for neurons of one": (
        graph(cuba(np.ones((6, 6))), (6,)),
        "fields of node 'node' differ in shape",
    ),
    "a threshold for the last axis of an image": (
        graph(nir.Threshold(ONES), (8, 8, 8)),
        r"threshold has the shape \(8,\)",
    ),
    "a scale for the last axis of an image": (graph(nir.Scale(ONES), (8, 8, 8)), r"scale has the shape \(8,\)"),
    "a scale with more axes than the input": (graph(nir.Scale(IMAGE), (8,)), r"scale has the shape \(8, 8, 8\)"),
    "a scale that the input would be stretched to": (graph(nir.Scale(ONES), (1,)), r"scale has the shape \(8,\)"),
    "neurons of another shape": (graph(nir.I(np.ones((8, 1))), (8,)), r"r has the shape \(8, 1\)"),
    "NaN in Linear": (graph(nir.Linear(np.full((8, 8), np.nan)), (8,)), "weight of node 'node' holds NaN"),
    "NaN in Affine": (graph(nir.Affine(np.ones((8, 8)), ONES * np.nan), (8,)), "bias of node 'node' holds NaN"),
    "NaN in Scale": (graph(nir.Scale(ONES * np.nan), (8,)), "scale of node 'node' holds NaN"),
    "infinite weight of Conv2d": (
        graph(conv2d(bias=np.full(4, np.inf)), (2, 5, 5)),
        "bias of node 'node' holds NaN, or",
    ),
    "infinite in single precision": (graph(nir.Scale(ONES * 1e39), (8,)), "infinite in single precision"),
    "infinite in half precision": (
        graph(nir.Scale(ONES.astype("f2") * np.float16("inf")), (8,)),
        "scale of node 'node' holds",
    ),
    "text for numbers": (
        graph(with_(nir.Scale(ONES), scale=np.array(["1.5"] * 8)), (8,)),
        "scale of node 'node' must be numbers",
    ),
    "bytes for numbers": (
        graph(with_(nir.Scale(ONES), scale=np.array([b"1"] * 8)), (8,)),
        "scale of node 'node' must be numbers",
    ),
    "complex numbers": (graph(nir.Scale(ONES * 1j), (8,)), "scale of node 'node' must be numbers"),
    "objects": (graph(nir.Scale(ONES.astype(object)), (8,)), "scale of node 'node' must be numbers"),
    "an empty array": (graph(nir.Scale(np.ones(0)), (8,)), "scale of node 'node' must be numbers"),
    "a negative time constant": (graph(nir.LI(-ONES, ONES, ONES), (8,)), "tau of node 'node' must be positive"),
    "a time constant of 0": (graph(nir.LI(ONES * 0, ONES, ONES), (8,)), "tau of node 'node' must be positive"),
    "a weight of Conv2d with three axes": (
        graph(with_(conv2d(), weight=np.ones((4, 2, 3))), (2, 5, 5)),
        "must be numbers with 4 axes",
    ),
    "a weight of Conv1d with four axes": (
        graph(with_(conv1d(), weight=np.ones((4, 2, 3, 3))), (2, 5)),
        "must be numbers with 3 axes",
    ),
    "a weight of Linear with three axes": (graph(nir.Linear(np.ones((2, 8, 8))), (8,)), "must be numbers with 2 axes"),
    "a linear layer on the last axis of an image": (
        graph(nir.Linear(np.ones((8, 8))), (8, 8, 8)),
        "takes 8 inputs in one axis",
    ),
    "another number of inputs": (graph(nir.Linear(np.ones((8, 7))), (8,)), "takes 7 inputs in one axis"),
    "a bias that every output would share": (
        graph(nir.Affine(np.ones((8, 8)), np.ones(1)), (8,)),
        r"bias has the shape \(1,\)",
    ),
    "a bias for each pixel": (
        graph(conv2d(bias=np.zeros((4, 1, 1))), (2, 5, 5)),
        "bias of node 'node' must be numbers with 1 axis",
    ),
    "stride 0": (graph(conv2d(stride=0), (2, 5, 5)), "stride of node 'node' must be .* of at least 1, not \\[0, 0\\]"),
    "stride 0 of a pooling": (
        graph(nir.SumPool2d(PAIR, PAIR * 0, PAIR * 0), (2, 4, 4)),
        "stride of node 'node' must be",
    ),
    "a kernel of 0": (graph(nir.AvgPool2d(PAIR * 0, PAIR, PAIR * 0), (2, 4, 4)), "kernel_size of node 'node' must be"),
    "three strides": (graph(conv2d(stride=(1, 1, 1)), (2, 5, 5)), "stride of node 'node' must be 1 or 2 whole numbers"),
    "half a stride": (
        graph(conv2d(stride=(1.5, 1.5)), (2, 5, 5)),
        "stride of node 'node' must be 1 or 2 whole numbers",
    ),
    "two strides of Conv1d": (graph(conv1d(stride=(1, 2)), (2, 5)), "stride of node 'node' must be a whole number"),
    "dilation 0": (graph(conv1d(dilation=0), (2, 5)), "dilation of node 'node' must be"),
    "negative padding": (graph(conv2d(padding=(-1, 0)), (2, 5, 5)), "padding of node 'node' must be"),
    "padding in words": (
        graph(with_(conv2d(), padding="full"), (2, 5, 5)),
        "padding of node 'node' must be 'same', 'valid' or",
    ),
    "padding beyond the kernel": (graph(conv2d(padding=10**6), (2, 5, 5)), "padding of .* is more than"),
    "padding of a pooling beyond half its kernel": (
        graph(nir.SumPool2d(PAIR, PAIR, PAIR), (2, 4, 4)),
        "padding of .* is more than",
    ),
    "same padding with a stride": (
        graph(conv2d(padding="same", stride=2), (2, 5, 5)),
        "padding 'same' needs a stride of 1",
    ),
    "a kernel larger than the image": (graph(conv2d(padding=0), (2, 2, 2)), "kernel reaches over"),
    "groups of an array": (
        graph(conv2d(groups=np.array([1, 1])), (2, 5, 5)),
        "groups of node 'node' must be a whole number",
    ),
    "groups that do not divide": (
        graph(conv2d(weight=(4, 1, 3, 3), groups=3), (3, 5, 5)),
        r"in 3 group\(s\) does not fit",
    ),
    "an input_shape that is not so": (graph(with_(conv2d(), input_shape=(9, 9)), (2, 5, 5)), "input_shape is"),
    "a pooling of features": (graph(nir.SumPool2d(PAIR, PAIR, PAIR * 0), (8,)), r"takes images \(C, H, W\)"),
    "flattened axes that are not there": (
        graph(nir.Flatten({"input": np.array([2, 4, 4])}, 1, 3), (2, 4, 4)),
        "flattens the axes 1 to 3",
    ),
    "an input_type that is not so": (
        graph(nir.Flatten({"input": np.array([4, 4, 2])}, 0, -1), (2, 4, 4)),
        "input_type is",
    ),
    "axes of nobody knows what": (
        graph(nir.Flatten({"input": None}, 1, 2), (2, 4, 4)),
        "whether its axes count the batch",
    ),
    "an Output of another shape": (graph(nir.Scale(ONES), (8,), (7,)), r"declares the shape \(7,\)"),
    "an Input without axes": (graph(nir.Scale(np.ones(())), ()), "shape of node 'input' must be a shape"),
    "an Input of no size": (graph(nir.Scale(ONES), (0,)), "shape of node 'input' must be a shape"),
    "an Input larger than memory": (graph(nir.Scale(np.ones(1)), (2**20, 2**20)), "too many for a graph of this size"),
    "the same edge twice": (
        graph(nir.Scale(ONES), (8,), None, [("input", "node")] * 2 + [("node", "output")]),
        "is there 2 times",
    ),
    "an edge into the Input": (
        graph(nir.Scale(ONES), (8,), None, [("input", "node"), ("node", "output"), ("node", "input")]),
        "leads into the Input",
    ),
    "an edge out of the Output": (
        graph(nir.Scale(ONES), (8,), None, [("input", "node"), ("node", "output"), ("output", "node")]),
        "out of the Output",
    ),
    "edges that bring different shapes": (
        graph(
            nir.Flatten({"input": np.array([2, 4])}, 0, -1),
            (2, 4),
            (8,),
            [("input", "node"), ("input", "other"), ("node", "output"), ("other", "output")],
            other=nir.Scale(np.ones((2, 4))),
        ),
        r"gets the shape \(8,\) from 'node', but \(2, 4\) from 'other'",
    ),
    "too many edges": (
        graph(nir.Scale(ONES), (8,), None, [(f"a{i}", f"a{j}") for i in range(150) for j in range(i)]),
        "up to 5,000 nodes and 10,000 edges, not 3 and 11,175",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_node_is_refused_by_name(what):
    raw, message = REFUSED[what]
    with pytest.raises(GraphError, match=message) as found:
        NirProgram(raw, 1)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(("kind", "count"), [(nir.Input, 0), (nir.Input, 2), (nir.Output, 0), (nir.Output, 2)])
def test_a_graph_has_one_input_and_one_output(kind, count):
    raw = graph(nir.Scale(ONES), (8,))
    name = kind.__name__.lower()
    node = raw.nodes.pop(name)
    for i in range(count):
        raw.nodes[f"{name}{i}"] = node
    with pytest.raises(GraphError, match=f"has one {kind.__name__}, not {count}"):
        NirProgram(raw, 1)


ENDS = [("input", "node"), ("node", "output")]


@pytest.mark.parametrize("target", ["torch", "lava"])
@pytest.mark.parametrize(
    "raw",
    [
        graph(nir.Scale(ONES * 3), (8,), None, [*ENDS, ("input", "output")]),
        graph(nir.IF(ONES, ONES * 0.5), (8,), None, [*ENDS, ("input", "output")]),
        graph(nir.Scale(ONES), (8,), None, [("input", "output"), ("input", "node")]),
        nir.NIRGraph(
            {"input": nir.Input({"input": np.array([8])}), "output": nir.Output({"output": np.array([8])})},
            [("input", "output")],
            type_check=False,
        ),
        graph(nir.Scale(np.full((8, 1, 1), 2.0)), (8, 2, 2)),
        graph(nir.Threshold(np.array(0.5)), (8, 2, 2)),
    ],
    ids=["two edges", "with a neuron", "a node that nobody hears", "input to output", "by channel", "for all"],
)
def test_what_is_unusual_but_clear_runs(raw, target):
    if target == "lava":
        pytest.importorskip("lava")
    program = NirProgram(raw, 3, target=target)
    x = np.random.default_rng(0).normal(1, 1, (2, *program.input_shape)).astype(np.float32)
    np.testing.assert_allclose(program.run(x).outputs, interpreter.run(raw, x, 3), rtol=1e-5, atol=1e-5)


def test_every_edge_into_the_output_of_a_graph_inside_a_graph_counts():
    inner = graph(nir.Scale(ONES * 3), (8,), None, [*ENDS, ("input", "output")])
    outputs = NirProgram(graph(inner, (8,)), 1).run(np.ones((1, 8), np.float32)).outputs
    np.testing.assert_array_equal(outputs, np.full((1, 8), 4))


def test_thousands_of_nodes_run_at_once_and_many_paths_are_one():
    """nirtorch follows every path: 2,000 nodes in a row, or 60 that hear all before them,
    take hours there.
    """
    names = [f"n{i}" for i in range(2000)]
    row = graph(nir.Scale(ONES), (8,), None, list(itertools.pairwise(["input", *names, "output"])))
    row.nodes = {"input": row.nodes["input"], **{n: nir.Scale(ONES) for n in names}, "output": row.nodes["output"]}
    assert NirProgram(row, 1).run(np.ones((1, 8), np.float32)).outputs.sum() == 8
    dense = [*list(row.nodes)[:61], "output"]
    row.nodes = {name: row.nodes[name] for name in dense}
    row.edges = [(dense[i], dense[j]) for j in range(1, 62) for i in range(j)]
    assert NirProgram(row, 1).run(np.full((1, 8), 2.0**-60, np.float32)).outputs.sum() == 8


@pytest.mark.parametrize("node", [nir.IF(ONES, ONES), nir.LI(ONES, ONES, ONES), nir.Threshold(ONES), nir.Scale(ONES)])
def test_values_that_overflow_are_an_error_not_an_answer(node):
    edges = [("input", "large"), ("large", "larger"), ("larger", "node"), ("node", "output")]
    raw = graph(node, (8,), None, edges, large=nir.Scale(ONES * 1e30), larger=nir.Scale(ONES * 1e30))
    with pytest.raises(TargetError, match="not finite"):
        NirProgram(raw, 2).run(np.ones((1, 8), np.float32))
