"""The conversion's own proof finds every kind of wrong graph, and no right one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pascal_nm as pnm
from pascal_nm import QCFS
from pascal_nm.errors import ConversionError
from pascal_nm.source import converter, operations, proof, rounding
from pascal_nm.source.proof import prove
from pascal_nm.source.tracing import SourceNetwork
from pascal_nm.source.verification import Verification
from tests import networks


def converted(name, seed=1):
    module = networks.randomized(networks.ALL[name](), seed)
    source = SourceNetwork(module, networks.images())
    return source, pnm.convert(source, check=False)


def altered(graph, index, change):
    """The graph with one number of one projection's weights changed."""
    projection = graph.projections[index]
    weight = np.array(projection.operator.weight)
    place = np.unravel_index(np.abs(weight).argmax(), weight.shape)
    weight[place] = change(weight[place])
    operator = replace(projection.operator, weight=weight)
    projections = list(graph.projections)
    projections[index] = replace(projection, operator=operator)
    return graph.replace(projections=tuple(projections))


@pytest.mark.parametrize("name", networks.ALL)
def test_one_weight_that_is_off_by_a_billionth_is_found(name):
    source, graph = converted(name)
    prove(source, graph)
    for i, projection in enumerate(graph.projections):
        if graph[projection.target].kind == "max":
            continue
        with pytest.raises(ConversionError, match="is not the source network"):
            prove(source, altered(graph, i, lambda w: w * (1 + 1e-9)))


@pytest.mark.parametrize("name", networks.ALL)
def test_a_threshold_a_bias_or_a_number_of_levels_that_is_off_is_found_and_its_layer_named(name):
    source, graph = converted(name)
    for p in graph.weighted:
        changes = [{"threshold": p.threshold * (1 + 1e-9)}, {"bias": p.bias + 1e-9}]
        changes += [{"levels": p.levels + 1}] if p.kind == "pasc" else []
        for change in changes:
            populations = tuple(replace(q, **change) if q.name == p.name else q for q in graph.populations)
            try:
                other = graph.replace(populations=populations)
            except pnm.PascalError:
                continue  # a max population behind it has other levels
            named = "outputs" if p.kind == "readout" else p.name.removesuffix("_unpooled")
            with pytest.raises(ConversionError, match=named):
                prove(source, other)


def test_a_handler_that_is_wrong_is_an_error_of_the_conversion(monkeypatch):
    """The sign of a subtraction, as it once was."""

    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.constant, self.hidden, self.head = nn.Parameter(torch.ones(1)), nn.Linear(128, 8), nn.Linear(8, 1)
            self.act = QCFS(4)

        def forward(self, x):
            return self.constant - self.head(self.act(self.hidden(x.flatten(1))))

    module = networks.randomized(Backwards())
    wrong = lambda walk, node, x, y, alpha=1: operations._add(walk, node, y, x, -1)  # noqa: E731
    monkeypatch.setitem(converter._HANDLERS, torch.ops.aten.sub.Tensor, wrong)
    with pytest.raises(ConversionError, match="outputs differ"):
        pnm.convert(module, networks.images())
    assert pnm.convert(module, networks.images(), check=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_terms_that_cancel_in_the_source_are_not_taken_for_a_mistake(dtype):
    class Cancels(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act, self.head = nn.Conv2d(2, 3, 3), QCFS(6), nn.Linear(108, 3)

        def forward(self, x):
            return self.head(self.act(self.conv(x) + 3e5 - 3e5).flatten(1))

    module = networks.randomized(Cancels()).to(dtype)
    x = networks.images().to(dtype)
    source = SourceNetwork(module, x)
    graph = pnm.convert(source)
    verification = Verification()
    verification.add_float(source, graph, pnm.simulate.counts(graph, x.numpy()), x.numpy())
    assert verification.culprit is None


@pytest.mark.parametrize("name", networks.ALL)
def test_the_bound_on_rounding_holds_and_is_not_idle(name):
    """float32 against float64: what really differs is below the bound, and within a factor of a
    few thousand of it.
    """
    module = networks.randomized(networks.ALL[name](), 1)
    x = networks.images(4)
    wide = SourceNetwork(module, x)
    logits, levels = wide.levels(x)
    single = SourceNetwork(module.float(), x.float())
    other, found = single.levels(x.float())
    if any(not np.array_equal(levels[n], found[n]) for n in levels):
        pytest.skip("a level flipped, so that the outputs differ by more than rounding")
    bound = rounding.errors(single, x.numpy(), found, np.finfo(np.float32))
    difference = np.abs(logits - other)
    assert np.all(difference <= bound.outputs)
    assert difference.max() * 1e4 > bound.outputs.max()


def test_in_place_operations_through_an_alias_are_followed():
    class Alias(nn.Module):
        def __init__(self, via):
            super().__init__()
            self.hidden, self.act, self.head, self.via = nn.Linear(128, 8), QCFS(4), nn.Linear(8, 3), via

        def forward(self, x):
            y = self.act(self.hidden(x.flatten(1)))
            self.via(y).mul_(2).add_(1)
            return self.head(y)

    vias = {
        "view": lambda y: y.view(y.shape[0], 2, 4),
        "dropout": lambda y: F.dropout(y, 0.5, training=False),
        "dropout of nothing": lambda y: F.dropout(y, 0.0),
        "detach": lambda y: y.detach(),
        "flatten": lambda y: y.flatten(1),
        "cast to itself": lambda y: y.to(y.dtype),
        "contiguous": lambda y: y.contiguous(),
        "itself": lambda y: y,
        "a copy": lambda y: y.clone(),
        "slice": lambda y: y[:, :4],
    }
    for name, via in vias.items():
        module = networks.randomized(Alias(via))
        x = networks.images()
        graph = pnm.convert(module, x)
        np.testing.assert_allclose(
            pnm.simulate.counts(graph, x.numpy()).logits, module(x).detach().numpy(), rtol=1e-12, err_msg=name
        )


@pytest.mark.parametrize("batch", [None, 1, 2, 3, 5])
def test_the_example_and_one_image_run_as_they_are_and_all_others_with_random_levels(batch):
    module, example = networks.randomized(networks.perceptron()), networks.images(1)
    whole = networks.images(batch or 1)
    source = SourceNetwork(torch.export.export(module, (whole,)) if batch else module, whole)
    graph = pnm.convert(source, example)
    inputs = proof._inputs(source, graph, example)
    np.testing.assert_array_equal(inputs[0], example[0].numpy())
    run = proof._forced(source, inputs)
    logits, levels = source.levels(inputs)
    assert len(logits) == len(run.outputs) > proof._FREE
    np.testing.assert_allclose(run.outputs[: proof._FREE], logits[: proof._FREE], rtol=1e-12)
    for name, level in levels.items():
        np.testing.assert_array_equal(run.levels[name][: proof._FREE], level[: proof._FREE])
        np.testing.assert_array_equal(run.levels[name][: proof._FREE], run.found[name][: proof._FREE])
        forced = run.levels[name][proof._FREE :]
        assert np.all(forced % 1 != 0), "whole numbers may hide a synapse"
        assert 0 <= forced.min() < forced.max() <= graph[name].levels
        assert len(np.unique(forced)) == forced.size


def test_what_depends_on_parameters_alone_is_computed_in_their_own_type():
    """In double precision, the weights would be other ones than those of the network
    and of its graph.
    """

    class Normalized(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.act, self.head = nn.Parameter(torch.ones(8, 128)), QCFS(4), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.act(F.linear(x.flatten(1), self.weight / self.weight.norm(dim=1, keepdim=True) * 3)))

    module, x = networks.randomized(Normalized()).float(), networks.images().float()
    graph = pnm.convert(module, x)
    np.testing.assert_array_equal(
        graph.projections[0].operator.weight, (module.weight / module.weight.norm(dim=1, keepdim=True) * 3).detach()
    )


def test_the_images_of_the_proof_are_ones_that_the_preprocessing_can_give():
    source = SourceNetwork(networks.randomized(networks.perceptron()), networks.images())
    pre = pnm.Preprocessing(200.0, (0.2, 0.9), (0.5, 2.0))
    graph = pnm.convert(source, preprocessing=pre)
    x = proof._inputs(source, graph, None)
    assert x.shape == (proof._FREE + 1, 2, 8, 8)
    for c in range(2):
        pixels = (x[:, c] * pre.std[c] + pre.mean[c]) * pre.scale
        assert -1e-3 < pixels.min() < 0.1 * pre.scale and 0.9 * pre.scale < pixels.max() < pre.scale + 1e-3
