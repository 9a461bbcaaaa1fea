"""Conversion against the source network itself, in float64 where nothing rounds at a boundary."""

import numpy as np
import pytest
import torch
from torch import nn

import pascal_nm as pnm
from pascal_nm import QCFS, simulate
from pascal_nm.errors import ConversionError
from pascal_nm.source import SourceNetwork
from tests import networks


def check(module, inputs=None):
    inputs = networks.images() if inputs is None else inputs
    source = SourceNetwork(module, inputs)
    logits, levels = source.levels(inputs)
    np.testing.assert_allclose(logits, module(inputs).detach().flatten(1).numpy(), rtol=1e-12, atol=1e-12)
    graph = pnm.convert(source)
    assert set(levels) <= {p.name for p in graph.populations}
    for engine in (simulate.counts, simulate.steps):
        result = engine(graph, inputs.numpy())
        for name, level in levels.items():
            np.testing.assert_array_equal(result.counts[name], level, err_msg=f"{engine.__name__} {name}")
        np.testing.assert_allclose(result.logits, logits, rtol=1e-9, atol=1e-9)
    assert any(0 < level.mean() < graph[name].levels for name, level in levels.items()), (
        "the levels must not be trivial"
    )
    return graph


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("build", networks.ALL.values(), ids=networks.ALL)
def test_every_level_of_the_spiking_network_is_the_source_networks(build, seed):
    check(networks.randomized(build(), seed))


@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize("arch", ["mlp", "cnn", "resnet8", "resnet20", "vgg11"])
def test_the_packages_own_architectures_convert_exactly(arch, pool):
    size = 32 if arch.startswith("vgg") else 8
    module = networks.randomized(pnm.build(arch, (2, size, size), 3, levels=4, width=0.25, pool=pool), seed=2)
    inputs = torch.randn((4, 2, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    check(module, inputs)


def test_a_program_that_was_saved_and_loaded_gives_the_same_graph(tmp_path):
    module = networks.randomized(networks.Residual())
    graph = pnm.convert(module, networks.images())
    program = SourceNetwork(module, networks.images()).program
    torch.export.save(program, tmp_path / "model.pt2")
    assert pnm.convert(torch.export.load(tmp_path / "model.pt2")).differences(graph) == []


def test_the_users_module_is_left_as_it_was():
    module = networks.Residual().train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    pnm.convert(module, torch.zeros(2, 2, 8, 8))
    assert module.training
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_average_pooling_leaves_integer_sums_before_the_weights():
    graph = check(networks.randomized(networks.convolutional()))
    pooled = [q for q in graph.projections if q.pool is not None and graph[q.target].kind == "pasc"]
    assert [q.pool.kernel for q in pooled] == [(2, 2)]


def test_max_pooling_becomes_a_population_of_its_own():
    graph = check(networks.randomized(networks.convolutional()))
    assert [p.kind for p in graph.populations].count("max") == 1


def test_a_negative_threshold_is_turned_positive_without_changing_an_answer():
    module = networks.randomized(networks.convolutional())
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, QCFS):
                layer.threshold.neg_()
    graph = check(module)
    assert all((p.threshold > 0).all() for p in graph.spiking)


REFUSED = {
    "sigmoid": (
        nn.Sequential(nn.Flatten(), nn.Linear(128, 8), QCFS(4), nn.Sigmoid(), nn.Linear(8, 3)),
        "'3' \\(Sigmoid\\)",
    ),
    "relu": (
        nn.Sequential(nn.Flatten(), nn.Linear(128, 8), nn.ReLU(), nn.Linear(8, 8), QCFS(4), nn.Linear(8, 3)),
        "'2' \\(ReLU\\)",
    ),
    "softmax": (
        nn.Sequential(nn.Flatten(), nn.Linear(128, 8), QCFS(4), nn.Linear(8, 3), nn.Softmax(1)),
        "'4' \\(Softmax\\)",
    ),
    "layer norm": (
        nn.Sequential(nn.Flatten(), nn.Linear(128, 8), nn.LayerNorm(8), QCFS(4), nn.Linear(8, 3)),
        "'2' \\(LayerNorm\\)",
    ),
    "no activation": (nn.Sequential(nn.Flatten(), nn.Linear(128, 3)), "no QCFS"),
    "uneven adaptive pooling": (
        nn.Sequential(nn.Conv2d(2, 2, 1), QCFS(4), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(18, 3)),
        "'2' \\(AdaptiveAvgPool2d\\)",
    ),
}


@pytest.mark.parametrize(("module", "place"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_converted_is_named_with_its_place(module, place):
    with pytest.raises(ConversionError, match=place):
        pnm.convert(module.double(), networks.images())


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_threshold_that_no_network_can_have_is_refused(value):
    module = networks.randomized(networks.perceptron())
    with torch.no_grad():
        module[3].threshold.fill_(value)
    with pytest.raises(ConversionError, match=r"threshold|NaN or infinite"):
        pnm.convert(module, networks.images())


def test_weights_that_are_not_finite_are_refused():
    module = networks.randomized(networks.perceptron())
    with torch.no_grad():
        module[4].weight[0, 0] = float("nan")
    with pytest.raises(ConversionError, match="NaN or infinite"):
        pnm.convert(module, networks.images())


def test_levels_below_one_are_refused():
    with pytest.raises(ConversionError, match="levels"):
        QCFS(0)
