"""Networks with several outputs: each has a readout, and all are compared."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import pascal_nm as pnm
from pascal_nm import QCFS
from pascal_nm.errors import ConversionError
from pascal_nm.export import unrolled
from pascal_nm.export.nir_format import read_nir, write_nir
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import evaluation, find, fixed_point
from pascal_nm.hw_targets.loihi import Execution
from pascal_nm.hw_targets.program import lower
from pascal_nm.network.graph import SCHEDULES, Timing
from pascal_nm.report import collect
from pascal_nm.simulation import simulate
from pascal_nm.source.tracing import SourceNetwork
from tests import networks

PREPROCESSING = pnm.Preprocessing(255.0, (0.4,), (0.25,))
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 2, 8, 8), np.uint8)
LAVA = pytest.param("lava", marks=pytest.mark.skipif(not importlib.util.find_spec("lava"), reason="no Lava"))


class Heads(nn.Module):
    """Classes from the last layer, and a number from the one before."""

    def __init__(self):
        super().__init__()
        self.stem, self.deep = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.first, self.last = QCFS(4), QCFS(3)
        self.classes, self.value = nn.Linear(256, 5), nn.Linear(256, 1)

    def forward(self, x):
        x = self.first(self.stem(x))
        return self.classes(self.last(self.deep(x)).flatten(1)), self.value(x.flatten(1))


@pytest.fixture(scope="module")
def module():
    return networks.randomized(Heads())


@pytest.fixture(scope="module")
def graph(module):
    return pnm.convert(module, networks.images(), preprocessing=PREPROCESSING)


def test_outputs_stand_side_by_side_and_the_first_is_the_answer(module, graph):
    x = torch.from_numpy(PREPROCESSING(PIXELS)).double()
    classes, value = (output.detach().numpy() for output in module(x))
    for result in (simulate.counts(graph, x.numpy()), simulate.steps(graph, x.numpy())):
        np.testing.assert_allclose(result.logits, np.concatenate([classes, value], 1), rtol=1e-9)
        np.testing.assert_array_equal(result.predictions, classes.argmax(1))
    assert list(graph.columns) == ["output", "output_2"] and graph.output.size == 5
    assert np.array_equal(result.answers[:, -1], classes.argmax(1))


@pytest.mark.parametrize("name", list(SCHEDULES))
@pytest.mark.parametrize("target", ["torch", "loihi", LAVA])
def test_every_target_gives_all_outputs_of_the_integer_network(graph, target, name, tmp_path):
    integer = fixed_point.fit(graph, chips.load("loihi1")).replace(timing=Timing(name))
    write_nir(integer, tmp_path / "heads.nir")
    integer = read_nir(tmp_path / "heads.nir")
    inputs = integer.pixels(PIXELS)
    if (target, name) == ("loihi", "graded"):  # Loihi 1's spikes carry no numbers
        program = Execution(lower(integer.replace(timing=Timing(name)), chips.load("loihi2")))
    else:
        program = find(target).compile(integer)
    expected, found = simulate.counts(integer, inputs), program.run(inputs)
    np.testing.assert_array_equal(found.potential, expected.potential)
    np.testing.assert_array_equal(found.predictions, expected.predictions)
    assert found.potential.shape == (len(inputs), 6)


def test_a_wrong_weight_of_a_further_output_is_found(module, graph):
    data = pnm.Dataset("noise", PIXELS, np.zeros(len(PIXELS), np.int64), tuple("abcde"), 255.0)
    source = SourceNetwork(module, networks.images())
    right, _ = evaluation.verify(source, graph, find("torch").compile(graph), data)
    assert right.exact
    wrong = graph.replace(
        projections=tuple(
            replace(q, operator=q.operator.with_weight(q.operator.weight * 1.001)) if q.target == "output_2" else q
            for q in graph.projections
        )
    )
    found, _ = evaluation.verify(source, graph, find("torch").compile(wrong), data)
    assert not found.exact and found.culprit == "output_2" and found.prediction_mismatches == 0


def test_a_report_shows_the_outputs_of_each_readout(graph):
    data = pnm.Dataset("noise", PIXELS, np.zeros(len(PIXELS), np.int64), tuple("abcde"), 255.0)
    layers = {layer["name"]: layer for layer in collect._image(graph.astype(np.float32), data, PIXELS[:1], 0)["layers"]}
    logits = simulate.steps(graph, graph.pixels(PIXELS[:1])).logits[0]
    for name, columns in graph.columns.items():
        shown = {one["neuron"][0]: one["potential"][-1] for one in layers[name]["neurons"]}
        assert shown == pytest.approx(dict(enumerate(logits[columns])), abs=1e-3)
        assert layers[name]["answers"] == (name == "output") and not layers[name]["sends"]


def test_a_chain_for_other_readers_has_one_readout(graph):
    with pytest.raises(ConversionError, match="has one readout, not output, output_2"):
        unrolled.unrolled_network(graph)


def test_what_is_returned_and_no_tensor_is_refused():
    class Number(nn.Module):
        def __init__(self):
            super().__init__()
            self.act, self.head = QCFS(2), nn.Linear(128, 3)

        def forward(self, x):
            return self.head(self.act(x.flatten(1))), 3

    with pytest.raises(ConversionError, match="returns"):
        pnm.convert(networks.randomized(Number()), torch.zeros(1, 2, 8, 8))
