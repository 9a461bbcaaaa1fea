"""NIR graphs of any tool in torch: each node by its equation, and a refusal by name for
what cannot run.
"""

import itertools

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pascal_nm.errors import GraphError
from pascal_nm.export import nir_modules, nir_neuron, nir_nodes
from pascal_nm.export.nir_modules import Reading

ONE = np.ones(3)


def graph(nodes, edges=None, shape=(3,), output=None):
    names = ["input", *nodes, "output"]
    ends = {"input": nir.Input({"input": np.array(shape)}), "output": nir.Output({"output": np.array(output or shape)})}
    edges = list(itertools.pairwise(names)) if edges is None else edges
    return nir.NIRGraph({"input": ends["input"], **nodes, "output": ends["output"]}, edges, type_check=False)


def responses(raw, inputs, reading=None):
    network = nir_modules.to_torch(raw, reading, torch.float64)
    state, found = None, []
    for x in inputs:
        y, state = network(torch.from_numpy(x), state)
        found.append(y.numpy())
    return np.stack(found)


def euler(node, inputs, dt, after_spike):
    """NIR's equations, neuron by neuron, in plain Python."""
    fired = np.zeros(inputs.shape)
    for j in range(inputs.shape[-1]):
        for n in range(inputs.shape[1]):
            v = 0.0
            for t in range(len(inputs)):
                current = inputs[t, n, j]
                v += dt * ((node.v_leak[j] - v) + node.r[j] * current) / node.tau[j]
                if v > node.v_threshold[j]:
                    fired[t, n, j] = 1
                    v = node.v_reset[j] if after_spike == "zero" else v - (node.v_threshold[j] - node.v_reset[j])
    return fired


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), after_spike=st.sampled_from(["zero", "subtract"]))
def test_lif_is_its_equation(seed, after_spike):
    rng = np.random.default_rng(seed)
    dt = float(rng.uniform(1e-5, 1e-3))
    fields = [rng.uniform(low, high, 3) for low, high in ((2e-3, 2e-2), (0.5, 30), (-0.3, 0.3), (0.2, 1), (-0.2, 0.1))]
    node = nir.LIF(*fields)
    inputs = rng.normal(0.5, 1, (20, 2, 3))
    found = responses(graph({"lif": node}), inputs, Reading(dt, after_spike))
    np.testing.assert_array_equal(found, euler(node, inputs, dt, after_spike))


def test_integrators_never_fire_and_synapses_come_first():
    inputs = np.random.default_rng(0).normal(size=(5, 2, 3))
    tau, r = np.full(3, 4e-4), np.full(3, 2.0)
    li = responses(graph({"li": nir.LI(tau, r, np.zeros(3))}), inputs)
    v = np.zeros((2, 3))
    for t in range(5):
        v = v + 0.25 * (2 * inputs[t] - v)
        np.testing.assert_allclose(li[t], v, rtol=1e-12)
    cuba = responses(graph({"c": nir.CubaLI(np.full(3, 2e-4), tau, r, np.zeros(3), np.full(3, 3.0))}), inputs)
    new = responses(
        graph({"c": nir.CubaLI(np.full(3, 2e-4), tau, r, np.zeros(3), np.full(3, 3.0))}),
        inputs,
        Reading(current="new"),
    )
    v = w = i = np.zeros((2, 3))
    for t in range(5):
        v = v + 0.25 * (2 * i - v)
        i = i + 0.5 * (3 * inputs[t] - i)
        w = w + 0.25 * (2 * i - w)
        np.testing.assert_allclose(cuba[t], v, rtol=1e-12)
        np.testing.assert_allclose(new[t], w, rtol=1e-12)
    np.testing.assert_allclose(responses(graph({"i": nir.I(ONE)}), inputs), np.cumsum(inputs, 0), rtol=1e-12)


@pytest.mark.parametrize(("r", "dt"), [(1.0, None), (1e4, None), (1.0, 1e-6), (1e3, 1e-3)])
def test_if_counts_whole_inputs_in_either_convention(r, dt):
    inputs = np.full((4, 1, 3), 0.6)
    found = responses(graph({"if": nir.IF(ONE * r, ONE)}), inputs, Reading(dt))
    np.testing.assert_array_equal(found[:, 0, 0], [0, 1, 0, 1])


@pytest.mark.parametrize("r", [1.0, 9999.0, 1e4, 10001.0])
def test_what_r_is_of_can_be_said(r):
    inputs, raw = np.full((100, 1, 3), 0.6), graph({"if": nir.IF(ONE * r, ONE)})
    per_timestep = responses(raw, inputs, Reading(per="timestep"))
    np.testing.assert_array_equal(per_timestep, responses(graph({"if": nir.IF(ONE * r, ONE)}), inputs, Reading(1.0)))
    per_unit = responses(raw, inputs, Reading(per="unit"))
    np.testing.assert_array_equal(per_unit, responses(graph({"if": nir.IF(ONE * r * 1e-4, ONE)}), inputs))


def test_a_neuron_that_hears_itself_hears_what_it_sent_before():
    """A recurrent population as in the Braille networks of the NIR paper, by its equations in plain
    Python: snnTorch's RLeaky and RSynaptic have the same delay of one timestep.
    """
    rng = np.random.default_rng(5)
    w_in, w_rec, bias = rng.normal(0, 1, (4, 3)), rng.normal(0, 0.7, (4, 4)), rng.normal(0, 0.2, 4)
    fields = [rng.uniform(low, high, 4) for low, high in ((2e-4, 4e-4), (5e-4, 1e-3), (4, 9), (0, 0), (1, 1))]
    node = nir.CubaLIF(*fields, np.zeros(4), np.full(4, 3.0))
    edges = [("w_rec", "lif"), ("input", "fc"), ("lif", "w_rec"), ("fc", "lif"), ("lif", "output")]
    raw = graph({"fc": nir.Linear(w_in), "lif": node, "w_rec": nir.Affine(w_rec, bias)}, edges, output=(4,))
    inputs = rng.normal(0.3, 1, (40, 2, 3))
    v = i = np.zeros((2, 4))
    back = np.zeros((2, 4))
    fired = []
    for x in inputs:
        v = v + 1e-4 / node.tau_mem * (node.r * i - v)
        i = i + 1e-4 / node.tau_syn * (3 * (x @ w_in.T + back) - i)
        spikes = v > 1
        v = np.where(spikes, 0, v)
        back = spikes @ w_rec.T + bias
        fired.append(spikes)
    found = responses(raw, inputs)
    np.testing.assert_array_equal(found, fired)
    assert 0.1 < found.mean() < 0.9


def test_where_a_cycle_is_cut_does_not_depend_on_the_order_in_the_file():
    nodes = {"a": nir.Scale(ONE * 0.5), "b": nir.LI(ONE * 1e-3, ONE * 5, ONE * 0), "c": nir.Scale(ONE * -1)}
    edges = [("input", "a"), ("a", "b"), ("b", "c"), ("c", "a"), ("c", "b"), ("b", "output"), ("b", "b")]
    x = np.random.default_rng(3).normal(size=(6, 2, 3))
    for order in ([0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [3, 6, 1, 5, 0, 2, 4]):
        raw = graph({name: nodes[name] for name in ("cba", "abc")[order[0] > 2]}, [edges[i] for i in order])
        plan = nir_nodes.plan(raw)
        assert plan.late == {("c", "a"), ("c", "b"), ("b", "b")}
        np.testing.assert_allclose(responses(raw, x), responses(graph(nodes, edges), x), rtol=1e-12)


@pytest.mark.parametrize("steps", [[0, 1, 4], [1, 2, 3]])
def test_a_delay_holds_values_each_for_its_time(steps):
    x = np.random.default_rng(4).normal(size=(8, 2, 3))
    found = responses(graph({"d": nir.Delay(np.array(steps) * 1e-4)}), x)
    for j, ago in enumerate(steps):
        np.testing.assert_array_equal(found[ago:, :, j], x[: 8 - ago, :, j])
        assert not found[:ago, :, j].any()


@pytest.mark.parametrize("field", [np.array(2e-4), np.array([2e-4]), np.full(3, np.float32(2e-4))])
def test_one_number_delays_everything_in_a_cycle_too(field):
    nodes = {"add": nir.Scale(ONE), "d": nir.Delay(field)}
    x = np.zeros((6, 1, 3))
    x[0] = 1
    edges = [("input", "add"), ("add", "d"), ("d", "add"), ("add", "output")]
    np.testing.assert_array_equal(responses(graph(nodes, edges), x)[:, 0, 2], [1, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(responses(graph({"d": nir.Delay(field)}), x)[:, 0, 2], [0, 0, 1, 0, 0, 0])


def test_neighbours_that_hear_each_other_run_however_many_they_are():
    names = [f"n{i}" for i in range(150)]
    chain = list(itertools.pairwise(names))
    edges = [("input", "n0"), *chain, *((b, a) for a, b in chain), ("n149", "output")]
    raw = graph({name: nir.Scale(ONE * 0.5) for name in names}, edges)
    assert len(nir_nodes.plan(raw).late) == 149


@pytest.mark.parametrize("steps", [1, 3])
def test_a_delay_in_a_cycle_is_all_the_delay_of_the_cycle(steps):
    nodes = {"add": nir.Scale(ONE), "d": nir.Delay(np.full(3, steps * 1e-4))}
    edges = [("input", "add"), ("add", "d"), ("d", "add"), ("add", "output")]
    x = np.zeros((8, 1, 3))
    x[0] = 1
    np.testing.assert_array_equal(responses(graph(nodes, edges), x)[:, 0, 0], [t % steps == 0 for t in range(8)])


def test_affine_keeps_its_bias_and_pooling_its_padding():
    """nirtorch's own map loses both (2.6)."""
    rng = np.random.default_rng(1)
    weight, bias, x = rng.normal(size=(2, 3)), rng.normal(size=2), rng.normal(size=(1, 4, 3))
    found = responses(graph({"a": nir.Affine(weight, bias)}, output=(2,)), x)
    np.testing.assert_allclose(found[0], x[0] @ weight.T + bias, rtol=1e-12)
    image = rng.normal(size=(1, 2, 1, 3, 3))
    pair = np.array([2, 2])
    pooled = responses(
        graph({"p": nir.SumPool2d(pair, pair, np.array([1, 1]))}, shape=(1, 3, 3), output=(1, 2, 2)), image
    )
    padded = np.pad(image[0], ((0, 0), (0, 0), (1, 1), (1, 1)))[:, :, :4, :4]
    np.testing.assert_allclose(pooled[0], padded.reshape(2, 1, 2, 2, 2, 2).sum((3, 5)), rtol=1e-12)


def test_branches_that_meet_are_added_up():
    nodes = {"a": nir.Scale(ONE * 2), "b": nir.Scale(ONE * 3), "c": nir.Scale(ONE)}
    edges = [("input", "a"), ("a", "b"), ("a", "c"), ("b", "c"), ("input", "c"), ("c", "output")]
    x = np.random.default_rng(2).normal(size=(1, 2, 3))
    np.testing.assert_allclose(responses(graph(nodes, edges), x)[0], (2 + 6 + 1) * x[0], rtol=1e-12)


def test_the_state_before_the_first_timestep_is_new_every_time():
    network = nir_modules.to_torch(graph({"i": nir.I(ONE)}), dtype=torch.float64)
    x = torch.ones(1, 3, dtype=torch.float64)
    for _ in range(2):
        y, _ = network(x)
        assert float(y.sum()) == 3


@pytest.mark.parametrize("names", [("layer.0", "if"), ("self", "type"), ("forward", "nodes"), ("a.b", "a_b")])
def test_any_name_will_do(names):
    raw = graph(dict(zip(names, (nir.Scale(ONE), nir.IF(ONE, ONE)), strict=True)))
    assert responses(raw, np.full((1, 1, 3), 2.0)).sum() == 3


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            graph({"d": nir.Delay(ONE * 1.5e-4)}),
            "delay of node 'd' holds 0.00015, .* whole number of timesteps of 0.0001",
        ),
        (graph({"d": nir.Delay(ONE * 2.00002)}), "delay of node 'd' holds 2.00002, which is not a whole number"),
        (graph({"d": nir.Delay(-ONE)}), "delay of node 'd' is -1, into the past"),
        (graph({"a": nir.Scale(ONE)}, [("input", "a"), ("a", "output"), ("a", "x")]), "unknown node 'x'"),
        (graph({"a": nir.Scale(ONE)}, [("input", "output")]), "no edge leads to node 'a'"),
        (
            graph({"a": nir.Scale(ONE), "b": nir.Scale(ONE)}, [("input", "output"), ("a", "b"), ("b", "a")]),
            "nothing leads from 'input' to the cycle of 'a', 'b'",
        ),
        *(
            (graph({"i": nir.IF(ONE * r, ONE)}), "r of node 'i' is .* say --r-per timestep or --r-per unit")
            for r in (9999, 10001)
        ),
        (graph({"b": nir.Input({"input": np.array([3])})}), "has one Input, not 2: 'input', 'b'"),
        (graph({"l": nir.LIF(-ONE, ONE, ONE, ONE)}), "tau of node 'l' must be positive"),
        (graph({"l": nir.IF(ONE, ONE * np.nan)}), "v_threshold of node 'l' holds NaN"),
    ],
)
def test_what_cannot_run_is_refused_by_name(raw, message):
    with pytest.raises(GraphError, match=message):
        nir_modules.to_torch(raw)


def test_the_functions_take_numpy_arrays_too():
    constants = nir_neuron.Membrane(0.0, 0.0, 1.0, 1.0)
    state = nir_neuron.NirState(np.zeros(2), np.zeros(2))
    spikes, state = nir_neuron.step(state, np.array([1.5, 0.5]), constants, "subtract")
    np.testing.assert_array_equal(spikes, [1, 0])
    np.testing.assert_array_equal(state.v, [0.5, 0.5])
