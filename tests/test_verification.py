"""Verification finds what is wrong, blames the right layer, and excuses rounding only."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import pascal_nm as pnm
from pascal_nm import simulate
from pascal_nm.verification import Verification
from tests import networks


def setup(name, seed=0, dtype=torch.float64):
    module, inputs = networks.randomized(networks.ALL[name](), seed).to(dtype), networks.images(32).to(dtype)
    source = pnm.SourceNetwork(module, inputs)
    return source, pnm.convert(source), inputs.numpy()


def checked(source, reference, graph, inputs, engine=simulate.steps):
    verification = Verification(differences=reference.differences(graph))
    verification.add_float(source, reference, engine(graph, inputs), inputs)
    return verification


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", networks.ALL)
def test_a_converted_network_is_exact(name, dtype):
    source, graph, inputs = setup(name, 1, dtype)
    verification = checked(source, graph, graph, inputs)
    assert verification.equal
    assert verification.exact or dtype == torch.float32
    assert verification.culprit is None
    assert sum(layer.neurons for layer in verification.layers.values()) > 0


def altered(graph, name, **changes):
    return graph.replace(populations=tuple(replace(p, **changes) if p.name == name else p for p in graph.populations))


@pytest.mark.parametrize("name", networks.ALL)
def test_an_altered_threshold_is_found_and_its_layer_named(name):
    source, graph, inputs = setup(name, seed=2)
    for p in graph.spiking:
        other = altered(graph, p.name, threshold=p.threshold * 2)
        verification = checked(source, graph, other, inputs)
        assert not verification.equal
        assert any(p.name in line for line in verification.differences)
        assert verification.culprit is not None
        assert p.name.startswith(verification.culprit), "the layer behind the altered one is not blamed"


def test_a_flip_at_a_rounding_boundary_is_counted_and_excused():
    source, graph, inputs = setup("perceptron", dtype=torch.float32)
    result = simulate.steps(graph, inputs)
    name = next(graph.spiking).name
    p = graph[name]
    weight = graph.incoming(name)[0].operator.weight
    # Move one image until it lies on a boundary of neuron 0, to the last bit of float32.
    currents = inputs[:1].reshape(1, -1).astype(np.float64)
    row = weight[0].astype(np.float64)
    z = float(currents[0] @ row + np.broadcast_to(p.bias, p.shape)[0])
    theta = float(np.broadcast_to(p.threshold, p.shape)[0])
    moved = currents + (theta / 2 - z) * row / (row @ row)
    x = moved.astype(np.float32).reshape(1, *inputs.shape[1:])
    result = simulate.steps(graph, x)
    flipped = {k: v.copy() for k, v in result.counts.items()}
    flipped[name][0, 0] = 1 - flipped[name][0, 0]
    verification = Verification()
    verification.add_float(source, graph, replace(result, counts=flipped), x)
    assert verification.layers[name].flips == 1
    assert verification.layers[name].unexplained == 0


def test_a_flip_away_from_any_boundary_is_not_excused():
    source, graph, inputs = setup("perceptron", dtype=torch.float32)
    result = simulate.steps(graph, inputs)
    name = next(graph.spiking).name
    flipped = {k: v.copy() for k, v in result.counts.items()}
    flipped[name][:, 0] = 1 - flipped[name][:, 0]
    verification = Verification()
    verification.add_float(source, graph, replace(result, counts=flipped), inputs)
    assert verification.culprit == name


def test_an_integer_run_that_differs_by_one_count_is_not_exact():
    _, graph, inputs = setup("convolutional")
    integer = pnm.quantize(graph, input_range=float(np.abs(inputs).max()))
    expected = simulate.counts(integer, inputs)
    result = simulate.steps(integer, inputs)
    verification = Verification()
    verification.add_integer(expected, result, expected.logits, "8-bit weights")
    assert verification.exact
    name = next(integer.spiking).name
    counts = {k: v.copy() for k, v in result.counts.items()}
    counts[name].reshape(-1)[0] += 1
    verification.add_integer(expected, replace(result, counts=counts), expected.logits, "8-bit weights")
    assert not verification.exact
    assert verification.culprit == name


def with_head(graph, **changes):
    """The graph with another readout: changes of its weights, or of its population."""
    populations, projections = list(graph.populations), list(graph.projections)
    if "weight" in changes:
        operator = projections[-1].operator
        projections[-1] = replace(
            projections[-1], operator=replace(operator, weight=changes["weight"](operator.weight))
        )
    else:
        populations[-1] = replace(populations[-1], **changes)
    return graph.replace(populations=populations, projections=projections)


@pytest.mark.parametrize("name", networks.ALL)
def test_every_output_value_is_compared(name):
    """Behind the last activation, no level shows what is wrong; and the largest output may stay the largest."""
    source, graph, inputs = setup(name, 2)
    wrong = [
        with_head(graph, weight=lambda w: w * 2),
        with_head(graph, bias=graph.output.bias + 1e-6),
        with_head(graph, threshold=graph.output.threshold * (1 + 1e-6)),
        with_head(graph, weight=np.negative),
    ]
    for other in wrong:
        verification = Verification()
        verification.add_float(source, graph, simulate.counts(other, inputs), inputs)
        assert not verification.equal
        assert verification.culprit == "output"


class OneOutput(torch.nn.Module):
    """A constant less what the head says: one output, whose argmax never moves."""

    def __init__(self):
        super().__init__()
        self.constant = torch.nn.Parameter(torch.tensor(5.0))
        self.hidden, self.act, self.head = torch.nn.Linear(128, 8), pnm.QCFS(4), torch.nn.Linear(8, 1)

    def forward(self, x):
        return self.constant - self.head(self.act(self.hidden(x.flatten(1))))


def test_one_output_of_the_wrong_sign_is_found():
    module, inputs = networks.randomized(OneOutput()), networks.images(8)
    source = pnm.SourceNetwork(module, inputs)
    graph = pnm.convert(source)
    right = simulate.steps(graph, inputs.numpy())
    np.testing.assert_allclose(right.logits, module(inputs).detach().numpy(), rtol=1e-12)
    verification = Verification()
    verification.add_float(source, graph, replace(right, potential=-right.potential), inputs.numpy())
    assert verification.culprit == "output"
    assert verification.prediction_mismatches == 0


def test_outputs_that_are_not_numbers_are_found():
    source, graph, inputs = setup("perceptron")
    result = simulate.counts(graph, inputs)
    verification = Verification()
    verification.add_float(source, graph, replace(result, potential=np.full_like(result.potential, np.nan)), inputs)
    assert verification.culprit == "output"


def test_ties_are_reported_as_what_they_are():
    """Behind an average pooling, sums of steps land on a boundary exactly, and the order of a sum decides."""
    network = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1), pnm.QCFS(7, 1.0), torch.nn.AvgPool2d(2), pnm.QCFS(7, 1.0),
        torch.nn.Flatten(), torch.nn.Linear(64, 3),
    )  # fmt: skip
    network[-1].bias.data[0] = 10  # an answer that no tie moves
    module, inputs = network.double(), networks.images(9)
    source = pnm.SourceNetwork(module, inputs)
    graph = pnm.convert(source)
    result = simulate.steps(graph, inputs.numpy())
    verification = Verification()
    verification.add_float(source, graph, result, inputs.numpy())
    _, levels = source.levels(inputs)
    flips = sum(int(np.count_nonzero(levels[name] != result.counts[name])) for name in levels)
    assert verification.flips == flips > 0, "the network must have ties"
    assert verification.equal and not verification.exact
    assert "equal up to rounding" in verification.verdict and f" {flips:,} lie on" in verification.verdict


def test_a_program_for_a_fixed_number_of_images_takes_any_number():
    module, inputs = networks.randomized(networks.Residual()), networks.images(10)
    program = torch.export.export(module, (inputs[:4],))
    source, graph = pnm.SourceNetwork(program), pnm.convert(program)
    np.testing.assert_allclose(source(inputs), module(inputs).detach().numpy(), rtol=1e-12)
    assert checked(source, graph, graph, inputs.numpy()).exact


class Dead(torch.nn.Module):
    """An activation that nothing uses, one output in a dictionary, and large terms that cancel."""

    def __init__(self):
        super().__init__()
        self.hidden, self.act, self.unused, self.head = (
            torch.nn.Linear(128, 8),
            pnm.QCFS(4),
            pnm.QCFS(3),
            torch.nn.Linear(8, 3),
        )

    def forward(self, x):
        z = self.hidden(x.flatten(1)) + 1e4 - 1e4
        self.unused(z)
        return {"logits": self.head(self.act(z))}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_layer_that_nothing_uses_is_no_part_of_the_question(dtype):
    module, inputs = networks.randomized(Dead()).to(dtype), networks.images(10).to(dtype)
    source = pnm.SourceNetwork(module, inputs)
    graph = pnm.convert(source)
    verification = checked(source, graph, graph, inputs.numpy())
    assert verification.culprit is None
    assert set(verification.layers) == {"act", "output"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["residual", "perceptron"])
def test_a_network_of_half_precision_is_held_to_its_own_precision(name, dtype):
    """Its outputs are off by a thousandth, and the spiking network's, in float32, are not."""
    module, inputs = networks.randomized(networks.ALL[name](), 1).to(dtype), networks.images(4).to(dtype)
    source = pnm.SourceNetwork(module, inputs)
    graph = pnm.convert(source)
    x = inputs.float().numpy()
    verification = checked(source, graph, graph, x)
    assert verification.culprit is None
    assert verification.output_difference > 1e-4, "the bound of float32 would do"
    wrong = with_head(graph, weight=lambda w: w * 2)
    assert checked(source, graph, wrong, x, simulate.counts).culprit == "output"
