"""Verification finds what is wrong, blames the right layer, and excuses rounding only."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import pascal_nm as pnm
from pascal_nm.network.graph import Graph, Population, Projection
from pascal_nm.network.operators import Identity
from pascal_nm.simulation import simulate
from pascal_nm.source.verification import (
    Interval,
    LayerCheck,
    Sums,
    Verification,
    interval,
    judged,
    with_max_populations,
)
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
    name = graph.spiking[0].name
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
    name = graph.spiking[0].name
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
    name = integer.spiking[0].name
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
    """Behind the last activation, no level shows what is wrong; and the largest output may
    stay the largest.
    """
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
    """Behind an average pooling, sums of steps land on a boundary exactly, and the order
    of a sum decides.
    """
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


# -- what it says ----------------------------------------------------------------------------------


def test_the_verdict_on_floats_counts_the_levels_and_images_of_all_runs():
    source, graph, inputs = setup("perceptron")
    verification = Verification()
    for images in (inputs[:1], inputs[1:]):
        verification.add_float(source, graph, simulate.counts(graph, images), images)
        if verification.images == 1:
            assert "each of 24 levels on 1 image is" in verification.verdict
    assert verification.images == len(verification.source_predictions) == 32
    np.testing.assert_array_equal(verification.source_predictions, source(inputs).argmax(1))
    assert [layer.neurons for layer in verification.layers.values()] == [32 * 16, 32 * 8, 32 * 3]
    logits = simulate.counts(graph, inputs).logits
    assert verification.output_difference == pytest.approx(np.abs(logits - source(inputs)).max(), rel=0.5)
    apart = f"outputs differ by {verification.output_difference:.2g} at most (float64)"
    assert str(verification) == f"exact: each of 768 levels on 32 images is the source network's; {apart}"


def softmax(logits):
    """One image at a time, by torch."""
    return np.array([torch.softmax(torch.from_numpy(row.astype(np.float64)), 0).numpy() for row in logits])


def test_the_largest_differences_of_outputs_and_probabilities_are_those_of_all_images():
    source, graph, inputs = setup("perceptron")
    result, expected = simulate.counts(graph, inputs), source(inputs)
    off = np.zeros_like(result.potential)
    off[3, 1], off[20, 2] = 0.25, -0.125
    wrong = replace(result, potential=result.potential + off * result.scale)
    verification = Verification()
    for images in (slice(0, 10), slice(10, None)):
        part = replace(wrong, potential=wrong.potential[images], counts={k: v[images] for k, v in wrong.counts.items()})
        verification.add_float(source, graph, part, inputs[images])
    apart = [np.abs(a - b).max() for a, b in ((wrong.logits, expected), (softmax(wrong.logits), softmax(expected)))]
    assert [verification.output_difference, verification.probability_difference] == pytest.approx(apart, rel=1e-9)
    assert apart[0] == pytest.approx(0.25)
    assert 0 < apart[1] < 0.25, "a probability moves by less than its output, times 1/4"


def test_integers_are_compared_with_the_integer_network_in_outputs_and_probabilities():
    _, graph, inputs = setup("perceptron")
    integer = pnm.quantize(graph, input_range=float(np.abs(inputs).max()))
    result = simulate.counts(integer, inputs)
    verification = Verification()
    verification.add_integer(result, result, result.logits, "8-bit weights")
    assert (verification.output_difference, verification.probability_difference) == (0, 0)
    potential = result.potential.copy()
    potential[5, 0] += 7
    other = replace(result, potential=potential)
    verification.add_integer(result, other, result.logits, "8-bit weights")
    assert verification.output_difference == pytest.approx(np.abs(other.logits - result.logits).max())
    apart = np.abs(softmax(other.logits) - softmax(result.logits)).max()
    assert verification.probability_difference == pytest.approx(apart)
    assert apart > 0


def test_the_verdict_on_integers_counts_levels_outputs_and_what_quantization_changed():
    source, graph, inputs = setup("perceptron", 3)
    integer = pnm.quantize(graph, 3, input_range=float(np.abs(inputs).max()))
    result = simulate.counts(integer, inputs)
    verification, logits = Verification(), source(inputs)
    changed = int(np.count_nonzero(logits.argmax(1) != result.predictions))
    assert changed
    for images in (slice(0, 10), slice(10, None)):
        part = simulate.counts(integer, inputs[images])
        verification.add_integer(part, part, logits[images], "3-bit weights")
    assert [layer.neurons for layer in verification.layers.values()] == [32 * 16, 32 * 8, 32 * 3]
    assert verification.verdict == (
        "exact: "
        "each of 768 spike counts and every output on 32 images is that of the integer QCFS network (3-bit weights), "
        f"bit for bit; quantization changed {changed} of {len(inputs):,} predictions of the float source network"
    )
    potential = result.potential.copy()
    potential[[0, 1], result.predictions[:2]] += 1
    verification.add_integer(result, replace(result, potential=potential), logits, "3-bit weights")
    assert verification.changed == 2 * changed
    for _ in range(2):  # what is right afterwards mends nothing
        assert verification.verdict.startswith("not exact: 2 levels or outputs that differ, first in output")
        verification.add_integer(result, result, logits, "3-bit weights")


def test_predictions_that_differ_from_the_integer_networks_are_counted():
    _, graph, inputs = setup("perceptron")
    integer = pnm.quantize(graph, input_range=float(np.abs(inputs).max()))
    result = simulate.counts(integer, inputs)
    other = replace(result, potential=np.roll(result.potential, 1, axis=1))
    verification, logits = Verification(), result.logits
    for _ in range(2):
        verification.add_integer(result, other, logits, "8-bit weights")
    moved = int(np.count_nonzero(result.predictions != other.predictions))
    assert verification.integer_mismatches == verification.changed == 2 * moved > 0
    assert f"{2 * moved} of 64 predictions differ from the integer QCFS network's" in verification.verdict


NOT_EXACT = {
    "a parameter": (
        {"differences": ["population act: levels is 4 against 5"]},
        "the network under test differs from the model in 1 place(s)",
    ),
    "what rounding does not explain": (
        {"layers": {n: LayerCheck(n, 9, 3, n == "second", 0) for n in ("first", "second", "output")}},
        "1 levels or outputs that rounding does not explain, first in second",
    ),
    "an integer": (
        {
            "layers": {n: LayerCheck(n, 9, 0, 0, 2 * (n != "first")) for n in ("first", "second", "output")},
            "arithmetic": "8-bit weights",
        },
        "4 levels or outputs that differ, first in second",
    ),
    "a prediction": (
        {"prediction_mismatches": 1},
        "1 of 1,500 predictions differ from the source network's, by levels that rounding flipped, each explained: "
        "floats of this type, not the conversion",
    ),
    "a prediction of an integer network": (
        {"integer_mismatches": 2},
        "2 of 1,500 predictions differ from the integer QCFS network's",
    ),
}


@pytest.mark.parametrize(("found", "reason"), NOT_EXACT.values(), ids=NOT_EXACT)
def test_any_one_difference_makes_it_not_equal_and_is_the_reason_given(found, reason):
    verification = Verification(images=1500, **found)
    assert not verification.equal and not verification.exact
    assert verification.verdict == f"not exact: {reason}"


def test_a_flip_that_rounding_explains_leaves_it_equal_but_not_exact():
    verification = Verification(layers={n: LayerCheck(n, 9, 2) for n in ("first", "output")}, images=1)
    assert verification.equal and not verification.exact and verification.flips == 4
    assert "of 9 levels on 1 image, 4 lie on the other side of a step" in verification.verdict


# -- what rounding explains ------------------------------------------------------------------------


def pixelwise():
    """Synapses from each neuron to its like, with a weight of its own for each pixel, as
    amplitudes of pixels give.
    """
    rng = np.random.default_rng(0)
    return Graph(
        (
            Population("input", "analog", (2, 8, 8)),
            Population("act", "pasc", (2, 8, 8), levels=4),
            Population("output", "readout", (2, 8, 8), bias=np.ones(())),
        ),
        (
            Projection("input", "act", Identity(rng.normal(size=(1, 1, 8)))),
            Projection("act", "output", Identity(rng.normal(size=(2, 8, 8)))),
        ),
    )


@pytest.mark.parametrize("sent", [1, 3])
@pytest.mark.parametrize("name", [*networks.ALL, "pixelwise"])
def test_the_interval_is_highams_bound_on_the_sum_of_all_spikes(name, sent):
    """The sum is written as a matrix product; each spike is an addition for each synapse, and a few
    more are allowed.
    """
    _, graph, inputs = setup(name, 3) if name in networks.ALL else (None, pixelwise(), networks.images(8).numpy())
    counts = simulate.counts(graph, inputs).counts
    spikes = {k: v * sent for k, v in counts.items()} if sent > 1 else None
    roundoff = 2.0**-24
    for p in graph.weighted:
        found = interval(graph, p, p, Sums(graph, counts, inputs, spikes), np.finfo(np.float32))
        value, size, additions = p.bias * 1.0, np.abs(p.bias) * 1.0, 0
        for q in graph.incoming(p.name):
            source = graph[q.source]
            single = torch.eye(source.size, dtype=torch.float64).reshape(-1, *source.shape)
            matrix = simulate.delivery(q, np.dtype(np.float64))(single).numpy().reshape(source.size, -1)
            x = graph.currents(inputs) if source.kind == "analog" else counts[q.source]
            many = np.abs(x if spikes is None or source.kind == "analog" else spikes[q.source])
            value = value + (x.reshape(len(x), -1) @ matrix).reshape(-1, *p.shape)
            size = size + (many.reshape(len(x), -1) @ np.abs(matrix)).reshape(-1, *p.shape)
            most = 1 if source.kind == "analog" else max(source.levels, many.max())
            additions += int(np.count_nonzero(matrix, axis=0).max() * most)
        value, size = value / p.threshold, size / p.threshold
        if p.kind == "pasc":
            value, size = value + 0.5, size + 1.5  # the shift by half a threshold, and a threshold for the resets
        np.testing.assert_allclose(found.value, value, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.high - found.value, found.value - found.low, rtol=1e-6)
        bound = (found.high - found.low) / 2 / (size * roundoff)
        np.testing.assert_allclose(bound, bound.max(), rtol=1e-6, err_msg="one gamma for all")
        assert additions < bound.max() < 2 * additions + 2 * p.levels + 32


def test_an_interval_excludes_levels_that_none_of_its_values_gives():
    p = Population("act", "pasc", (5,), levels=4)
    about = Interval(*(np.array([[-3.0, 1.95, 2.5, 4.2, 9.0]]) + apart for apart in (0, -0.1, 0.1)))
    possible = [{0}, {1, 2}, {2}, {4}, {4}]
    for level in range(-1, 6):
        np.testing.assert_array_equal(~about.excludes(np.full((1, 5), level), p)[0], [level in s for s in possible])
    wider = about.widened(np.full((1, 5), 0.45))
    np.testing.assert_array_equal(~wider.excludes(np.full((1, 5), 3), p)[0], [False, False, True, True, False])
    readout = Population("output", "readout", (5,))
    edges = about.excludes(np.array([[-3.1, 2.05, 2.7, 4.0, np.nan]]), readout)
    np.testing.assert_array_equal(edges[0], [False, False, True, True, True])


def test_where_the_source_pools_first_a_population_is_judged_by_the_max_behind_it():
    source, graph, inputs = setup("max_before_activation", 1)
    _, levels = source.levels(inputs)
    (first, *_) = graph.spiking
    layer = judged(graph, first, levels)
    assert layer.kind == "max" and layer.name in levels
    counts = with_max_populations(graph, levels)
    assert counts.keys() == levels.keys()
    found = interval(graph, first, layer, Sums(graph, counts, inputs), np.finfo(np.float64))
    np.testing.assert_array_equal(np.clip(np.floor(found.value), 0, first.levels), levels[layer.name])
    assert np.all(found.low <= found.value) and np.all(found.value <= found.high)


@pytest.mark.parametrize(("dtype", "arithmetic"), [(torch.float32, np.float32), (torch.float64, np.float64)])
def test_an_output_is_excused_up_to_the_bound_of_its_own_type_and_no_further(dtype, arithmetic):
    source, graph, inputs = setup("perceptron", dtype=dtype)
    result, wide = simulate.counts(graph, inputs), graph.astype(np.float64)
    bound = interval(wide, wide.output, wide.output, Sums(wide, result.counts, inputs), np.finfo(arithmetic))
    for share, wrong in ((0.9, 0), (1.1, bound.value.size)):
        for edge in (bound.low, bound.high):
            moved = (bound.value + share * (edge - bound.value)) * wide.output.threshold
            verification = Verification()
            verification.add_float(source, graph, replace(result, potential=moved), inputs)
            assert verification.layers["output"].unexplained == wrong
