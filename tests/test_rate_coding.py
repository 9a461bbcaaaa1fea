"""Rate coding: against a simulation of its own in whole numbers, against what Bu et al. prove of
one layer, and against SpikingJelly.
"""

import copy
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pascal_nm.common import memory
from pascal_nm.data import load
from pascal_nm.errors import DataError
from pascal_nm.interop import ann2snn, readers
from pascal_nm.network import bounds
from pascal_nm.network.graph import Graph, Population, Projection
from pascal_nm.network.operators import Dense, Identity
from pascal_nm.simulation import rate_coding, schedule
from pascal_nm.source import checkpoint
from pascal_nm.source.architectures import build, qcfs_layers
from pascal_nm.source.checkpoint import Model
from tests import networks
from tests.strategies import _apply, _windows, inputs_for, integer_graphs

ROOT = Path(__file__).parents[1]


def by_hand(graph, inputs, timesteps):
    """QCFS rate coding in int64, potentials doubled so that half a threshold is whole: mean
    outputs, spikes and operations after each timestep.
    """
    potential, total, sums, sent, operations = {}, 0, [], [], []
    for _ in range(timesteps):
        levels = {graph.input.name: np.rint(inputs).astype(np.int64)}
        spikes = np.zeros(len(inputs), np.int64)
        reached = np.zeros(len(inputs), np.int64)
        for p in graph.populations:
            if p.kind == "analog":
                continue
            incoming = [q for q in graph.projections if q.target == p.name]
            reached += sum(_synapses(q, levels[q.source]) for q in incoming if q.source != graph.input.name)
            if p.kind == "max":
                sign = int(p.threshold.ravel()[0])
                levels[p.name] = sign * _windows(sign * levels[incoming[0].source], incoming[0].pool, np.max, -(10**6))
                spikes += (levels[p.name] != 0).reshape(len(inputs), -1).sum(1)
                continue
            z = sum(_apply(q, levels[q.source]) for q in incoming) + p.bias.astype(np.int64)
            if p.kind == "readout":
                total = total + z
                continue
            if p.kind == "linear":
                levels[p.name] = z
                spikes += (z != 0).reshape(len(inputs), -1).sum(1)
                continue
            threshold = 2 * p.levels * p.threshold.astype(np.int64)
            v = potential.get(p.name, threshold // 2) + 2 * z
            fired = v >= threshold
            potential[p.name] = v - fired * threshold
            levels[p.name] = fired * p.levels
            spikes += fired.reshape(len(inputs), -1).sum(1)
        sums.append(total)
        sent.append(spikes)
        operations.append(reached)
    return np.stack(sums, -1), np.cumsum(sent, 0).T, np.cumsum(operations, 0).T


def _synapses(projection, levels):
    """Synaptic operations of spikes, (N,): what they deliver through weights of 1."""
    operator = projection.operator
    ones = np.ones((1,) * levels[0].ndim, np.int8) if isinstance(operator, Identity) else np.ones_like(operator.weight)
    delivered = _apply(replace(projection, operator=replace(operator, weight=ones)), (levels != 0).astype(np.int64))
    return delivered.reshape(len(levels), -1).sum(1)


@settings(max_examples=60)
@given(integer_graphs(), st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_answers_spikes_and_operations_are_those_of_a_simulation_in_whole_numbers(graph, seed, timesteps):
    inputs = inputs_for(graph, seed)
    assume(all(bounds.potential_bound(graph, p.name) < 2**20 for p in graph.weighted))  # of 9 timesteps, in float32
    outputs, spikes, operations = by_hand(graph, inputs, timesteps)
    run = rate_coding.run(rate_coding.qcfs(graph), inputs, timesteps)
    scale = np.broadcast_to(graph.output.threshold, graph.output.shape).reshape(1, -1, 1)
    logits = (outputs / scale / np.arange(1, timesteps + 1)).astype(np.float32)
    assert np.array_equal(run.spikes, spikes)
    assert np.array_equal(run.operations, operations)
    top = np.take_along_axis(logits, run.answers[:, None, :], 1)[:, 0]
    assert np.all(top >= logits.max(1) - 1e-5 * np.abs(logits).max())  # of classes that are level, either
    expected = torch.from_numpy(logits).softmax(1).amax(1).numpy()
    assert np.allclose(run.confidence, expected, rtol=1e-3, atol=1e-4)


def one_neuron(theta, levels):
    return Graph(
        (
            Population("input", "analog", (1,)),
            Population("hidden", "pasc", (1,), levels, np.array([theta]), np.zeros(1)),
            Population("output", "readout", (2,)),
        ),
        (
            Projection("input", "hidden", Dense(np.ones((1, 1)))),
            Projection("hidden", "output", Dense(np.array([[1.0], [0.0]]))),
        ),
    )


@given(st.integers(-200, 400), st.integers(1, 8), st.integers(1, 24))
def test_a_layer_with_a_constant_input_is_qcfs_with_t_levels(z, levels, timesteps):
    """Theorem 2 of Bu et al.: after T timesteps clip(floor(z T / theta + 1/2), 0, T) spikes, with
    the threshold theta of all levels.
    """
    theta = 8.0  # of one level; z is a multiple of 1/8, so that nothing is rounded
    run = rate_coding.run(rate_coding.qcfs(one_neuron(theta, levels)), np.array([[z / 8]]), timesteps)
    expected = np.clip(np.floor(z / 8 * timesteps / (theta * levels) + 0.5), 0, timesteps)
    assert run.spikes[0, -1] == expected


@given(integer_graphs())
def test_depth_is_when_the_last_input_of_a_stream_first_reaches_the_readout(graph):
    windows = schedule.two_phase(graph.replace(populations=_with_one_level(graph))).windows
    assert rate_coding.depth(graph) == windows[graph.output.name].stop - 1


def _with_one_level(graph):
    return tuple(replace(p, levels=1) if p.kind in ("pasc", "max") else p for p in graph.populations)


@pytest.mark.parametrize("name", ["convolutional", "chain_of_linear_maps", "perceptron"])
def test_relu_spikes_approach_the_network_with_relu(name):
    model = Model(networks.randomized(networks.ALL[name]()).double().eval(), (2, 8, 8))
    graph = model.graph()
    inputs = networks.images(8).numpy()
    expected = rate_coding.relu_logits(graph, inputs)
    assert np.allclose(expected, _relu_network(model)(torch.from_numpy(inputs)).detach().numpy(), rtol=1e-3, atol=1e-3)
    if any(p.kind == "max" for p in graph.populations):
        return  # an OR of spikes is above the largest rate, at any T
    made = rate_coding.relu(graph, inputs, percentile=100)
    errors = []
    for timesteps in (16, 1024):
        logits = _mean_output(made, inputs, timesteps)
        errors.append(np.abs(logits - expected).max() / np.abs(expected).max())
    assert errors[1] < 0.02
    assert errors[1] < errors[0] / 8


def _relu_network(model):
    network = copy.deepcopy(model.module)
    for name, _ in qcfs_layers(network):
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, torch.nn.ReLU())
    return network


def _mean_output(made, inputs, timesteps):
    """Mean over the timesteps of what the readout gets, as logits, (N, classes)."""
    batch = rate_coding._Batch(made, torch.from_numpy(made.graph.currents(inputs)))
    scale = np.broadcast_to(made.graph.output.threshold, made.graph.output.shape).reshape(-1)
    with torch.no_grad():
        return sum(batch._step()[1] for _ in range(timesteps)).numpy() / timesteps / scale


def test_an_image_leaves_when_its_answer_is_likely_enough_and_at_the_latest_at_the_end():
    confidence = np.array([[0.5, 0.96, 0.7, 0.99], [0.1, 0.2, 0.3, 0.4], [1.0, 1.0, 1.0, 1.0]], np.float32)
    answers = np.array([[3, 1, 2, 0], [5, 5, 5, 6], [7, 8, 8, 8]])
    counts = np.arange(12).reshape(3, 4)
    run = rate_coding.RateRun(answers, confidence, counts, 10 * counts)
    stops = run.exits(0.95)
    assert stops.tolist() == [2, 4, 1]
    stopped = run.after(stops)
    assert stopped.answers[:, 0].tolist() == [1, 6, 7]
    assert stopped.spikes[:, 0].tolist() == [1, 7, 8]
    assert stopped.operations[:, 0].tolist() == [10, 70, 80]
    assert run.confidence[1, -1] == np.float32(0.4)  # what is asked changes nothing


def test_the_batches_in_which_images_run_change_nothing(monkeypatch):
    graph = networks.for_digits()
    inputs = graph.preprocessing(load("digits", limit=9).pixels)
    whole = rate_coding.run(rate_coding.qcfs(graph), inputs, 5)
    monkeypatch.setattr(memory, "STATE", 128)
    parts = rate_coding.run(rate_coding.qcfs(graph), inputs, 5)
    assert np.array_equal(whole.answers, parts.answers)
    assert np.array_equal(whole.spikes, parts.spikes)


def test_a_spike_of_relu_stands_for_a_percentile_and_of_a_silent_layer_for_its_largest_activation():
    graph = networks.for_digits()
    inputs = graph.preprocessing(load("digits", limit=30).pixels)
    values = rate_coding._activations(graph, inputs)["hidden"]
    assert rate_coding.relu(graph, inputs, 75).spike["hidden"] == pytest.approx(np.percentile(values, 75))
    assert np.percentile(values, 10) == 0
    assert rate_coding.relu(graph, inputs, 10).spike["hidden"] == values.max()


@pytest.mark.parametrize(("images", "percentile"), [(0, 99.9), (3, 0), (3, 101)])
def test_a_relu_conversion_without_images_or_with_no_percentile_is_refused(images, percentile):
    with pytest.raises(DataError, match="ReLU conversion"):
        rate_coding.relu(networks.for_digits(), np.zeros((images, 1, 8, 8)), percentile)


def test_no_timestep_is_refused():
    with pytest.raises(DataError, match="at least one timestep"):
        rate_coding.run(rate_coding.qcfs(networks.for_digits()), np.zeros((1, 1, 8, 8)), 0)


def test_spikingjelly_converts_the_same_weights_to_the_same_answers(tmp_path):
    python = readers.python_of("spikingjelly", ROOT / ".readers")
    if python is None:
        pytest.skip("SpikingJelly is not installed: `make readers`")
    images = load("digits", limit=40)
    torch.manual_seed(0)
    model = Model(networks.randomized(build("resnet8", (1, 8, 8), 10, width=0.25, levels=4)), (1, 8, 8), images.classes)
    model.preprocessing = networks.for_digits().preprocessing
    model.recipe = {"arch": "resnet8", "input_shape": [1, 8, 8], "classes": 10, "width": 0.25, "levels": 4}
    checkpoint.save(model, tmp_path / "model.pt")
    inputs = model.preprocessing(images.pixels)
    np.save(tmp_path / "inputs.npy", inputs)
    command = [python, ann2snn.__file__, "model.pt", "inputs.npy", "inputs.npy", "24", "answers.npy"]
    done = subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-1000:]
    assert done.stdout.strip() == "2.0.0"
    graph = checkpoint.load(tmp_path / "model.pt").graph()
    ours = rate_coding.run(rate_coding.relu(graph, inputs), inputs, 24).answers
    theirs = np.load(tmp_path / "answers.npy")
    assert np.mean(ours == theirs) > 0.99  # a spike may fall on the other side of a threshold by rounding
    assert len(np.unique(theirs[:, -1])) > 1
