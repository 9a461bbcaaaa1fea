"""The unrolled profile: exact in one timestep, for strict and weak thresholds, in readers that
nobody here wrote.
"""

from pathlib import Path
from unittest import mock

import h5py
import nir
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from pascal_nm import build, convert, quantize
from pascal_nm.common import memory
from pascal_nm.data import Dataset
from pascal_nm.errors import ConversionError
from pascal_nm.export import unrolled
from pascal_nm.interop import readers
from pascal_nm.network.graph import Graph, Population, Projection
from pascal_nm.network.operators import Identity, SumPool2d
from pascal_nm.simulation import simulate
from tests import networks
from tests.strategies import inputs_for, integer_graphs, integer_qcfs

REFUSED = (
    "uses the analog input",
    "strides of the branches",
    "leaves out some of its pixels",
    "padding over a QCFS",
    "is no convolution",
    "are no convolution",
)
"""What has no unrolled form, and says so."""

ENVIRONMENTS = Path(__file__).parents[2] / ".readers"


def one_timestep(raw, inputs, *, strict):
    """What NIR's equations give in one timestep from rest, by torch's convolution, and whether an
    input reaches two thresholds.
    """
    values = {next(n for n, node in raw.nodes.items() if isinstance(node, nir.Input)): torch.from_numpy(inputs)}
    most = 0.0
    for name, node in raw.nodes.items():
        parts = [values[a] for a, b in raw.edges if b == name]
        if not parts:
            continue
        x = sum(parts[1:], parts[0])
        if isinstance(node, nir.Conv2d):
            arrays = (torch.from_numpy(np.asarray(a, np.float64)) for a in (node.weight, node.bias))
            pairs = (tuple(int(n) for n in np.broadcast_to(p, 2)) for p in (node.stride, node.padding, node.dilation))
            x = torch.nn.functional.conv2d(x, *arrays, *pairs, int(node.groups))
        elif isinstance(node, nir.IF | nir.LIF):
            most = max(most, float(x.max()))
            threshold = torch.from_numpy(node.v_threshold)
            x = ((x > threshold) if strict else (x >= threshold)).double()
        values[name] = x
    return values, most


def unrolled_counts(graph, values, name):
    p = graph[name]
    own = values[name][:, : p.shape[0] * p.levels]  # what is relayed comes behind
    return own.reshape(-1, p.shape[0], p.levels, *p.shape[1:]).sum(2).numpy()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    graph=integer_graphs(linear=False),
    seed=st.integers(0, 2**32 - 1),
    strict=st.booleans(),
    reader=st.sampled_from(["generic", "norse"]),
)
def test_every_count_of_every_random_graph_in_one_timestep(graph, seed, strict, reader):
    """Integer graphs meet thresholds exactly, where readers disagree on > and >=."""
    try:
        with mock.patch.object(memory, "installed_memory", lambda: 2**28):  # what follows takes many times as much
            raw = unrolled.unrolled_network(graph, reader)
    except ConversionError as error:
        assert any(reason in str(error) for reason in (*REFUSED, "this machine's memory"))
        event("refused")
        return
    inputs = inputs_for(graph, seed)
    expected = integer_qcfs(graph, inputs)
    values, most = one_timestep(raw, inputs, strict=strict)
    assert most < 2 or reader == "norse", "whose neurons spike once, whatever they get"
    for p in graph.populations:
        if p.kind in ("pasc", "max"):
            np.testing.assert_array_equal(unrolled_counts(graph, values, p.name), expected[p.name], err_msg=p.name)
    np.testing.assert_array_equal(values["output"].reshape(len(inputs), -1).numpy(), expected["output"])


@pytest.mark.parametrize(
    ("arch", "pool"), [("resnet8", "avg"), ("resnet18", "avg"), ("resnet18", "max"), ("vgg11", "max")]
)
def test_the_papers_networks_in_one_timestep(arch, pool):
    """Shortcuts of both kinds travel along the chain, through strides; every count is
    the simulator's.
    """
    size = 32 if arch == "vgg11" else 9
    stem = "imagenet" if pool == "max" and arch == "resnet18" else "cifar"
    module = build(
        arch, (3, size, size), 5, [3, 4, 2] * 5 + [4, 3] if arch == "resnet18" else 3, width=0.05, pool=pool, stem=stem
    )
    inputs = torch.randn(3, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).numpy()
    graph = quantize(convert(networks.randomized(module), torch.from_numpy(inputs)), input_range=6.0)
    expected = simulate.counts(graph, inputs)
    values, most = one_timestep(
        unrolled.unrolled_network(graph), graph.currents(inputs).astype(np.float64), strict=True
    )
    assert most < 2
    for p in graph.populations:
        if p.kind in ("pasc", "max"):
            np.testing.assert_array_equal(unrolled_counts(graph, values, p.name), expected.counts[p.name])
    np.testing.assert_array_equal(values["output"].reshape(3, -1).numpy(), expected.potential)


@pytest.mark.parametrize("make", [networks.Residual, networks.convolutional, networks.max_before_activation])
def test_growth_is_what_the_file_holds(make):
    module = networks.randomized(make()).float()
    images = networks.images().float()
    graph = convert(module, images)
    raw, cost = unrolled.unrolled_network(graph), unrolled.growth(graph)
    convolutions = [n for n in raw.nodes.values() if isinstance(n, nir.Conv2d)]
    assert sum(n.weight.size for n in convolutions) == cost.weights[1]
    assert sum(n.v_threshold.size for n in raw.nodes.values() if isinstance(n, nir.IF)) == cost.neurons[1]
    assert {type(n) for n in raw.nodes.values()} == {nir.Input, nir.Conv2d, nir.IF, nir.Output}


def test_too_large_a_network_is_refused_with_its_size(monkeypatch):
    graph = convert(networks.randomized(networks.Residual()).float(), networks.images().float())
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    with pytest.raises(ConversionError, match="GB"):
        unrolled.unrolled_network(graph)


def test_an_unknown_reader_is_refused():
    graph = convert(networks.randomized(networks.Residual()).float(), networks.images().float())
    with pytest.raises(ConversionError, match="unknown reader 'brian'"):
        unrolled.unrolled_network(graph, "brian")


def test_readers_without_this_form_are_refused_with_the_reason():
    graph = convert(networks.randomized(networks.Residual()).float(), networks.images().float())
    with pytest.raises(ConversionError, match="one timestep after"):
        unrolled.unrolled_network(graph, "spyx")
    for tool in ("nengo", "lava-dl"):
        with pytest.raises(ConversionError, match="reads NIR files: there is nothing"):
            unrolled.unrolled_network(graph, tool)


def test_a_padded_minimum_has_no_unrolled_form():
    one = np.ones((1, 1, 1), np.int8)
    graph = Graph(
        (
            Population("input", "analog", (1, 4, 4), 1),
            Population("a", "pasc", (1, 4, 4), 2, np.ones(1, np.int32).reshape(1, 1, 1), np.zeros((1, 1, 1), np.int32)),
            Population("m", "max", (1, 3, 3), 2, -np.ones((1, 1, 1), np.int32), np.zeros((), np.int32)),
            Population("output", "readout", (1, 3, 3), 1, np.ones(()), np.zeros((), np.int32)),
        ),
        (
            Projection("input", "a", Identity(one)),
            Projection("a", "m", Identity(one), SumPool2d((2, 2), (2, 2), (1, 1))),
            Projection("m", "output", Identity(one)),
        ),
    )
    with pytest.raises(ConversionError, match="padding over a QCFS with a negative threshold"):
        unrolled.unrolled_network(graph)


def test_the_file_has_no_field_that_old_readers_refuse(tmp_path):
    graph = convert(networks.randomized(networks.Residual()).float(), networks.images().float())
    unrolled.write_unrolled(graph, tmp_path / "u.nir")
    with h5py.File(tmp_path / "u.nir") as file:
        assert not any("v_reset" in node for node in file["node/nodes"].values())
    raw = nir.read(tmp_path / "u.nir")
    assert not any(node.v_reset.any() for node in raw.nodes.values() if isinstance(node, nir.IF))


@pytest.mark.parametrize("make", [networks.Residual, networks.convolutional, networks.max_before_activation])
@pytest.mark.parametrize("integer", [False, True], ids=["float", "integer"])
@pytest.mark.parametrize("reader", readers.READERS)
def test_a_reader_gives_the_source_networks_answers(make, reader, integer):
    """From the file on disk, by the reader's own import function; `make readers` installs them."""
    python = readers.python_of(reader, ENVIRONMENTS)
    if python is None:
        pytest.skip(f"{reader} is not installed")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 2, 8, 8)).astype(np.uint8)
    images = Dataset("random", pixels, np.zeros(40, np.int64), ("0", "1", "2"))
    module = networks.randomized(make()).float()
    graph = convert(module, networks.images().float(), preprocessing=images.preprocessing())
    outcome = readers.evaluate(reader, python, quantize(graph) if integer else graph, images)
    assert (outcome.error, outcome.agreement) == ("", 1.0)
    assert outcome.levels == 40 * sum(p.size for p in graph.populations if p.kind in ("pasc", "max")), (
        "it lets one look"
    )
    assert outcome.differing == 0 or not integer
