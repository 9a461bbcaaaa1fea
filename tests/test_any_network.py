"""Networks of the field in small: each converts as it is, and gives the same answers everywhere."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

import pascal_nm as pnm
from pascal_nm import QCFS
from pascal_nm.export import read_nir, write_nir
from pascal_nm.hw_targets.lava import LavaTarget
from pascal_nm.hw_targets.loihi import LoihiTarget
from pascal_nm.simulation import simulate
from pascal_nm.source import affine
from pascal_nm.source.tracing import SourceNetwork
from tests import networks


def conv(*args, **kwargs):
    return nn.Sequential(nn.Conv2d(*args, bias=False, **kwargs), nn.BatchNorm2d(args[1]))


class PreActivation(nn.Module):
    """Blocks of normalization, activation and convolution on a residual stream that has none."""

    def __init__(self, blocks=6):
        super().__init__()
        self.stem, self.head = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(4, 3)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(4), QCFS(3), nn.Conv2d(4, 4, 3, padding=1)) for _ in range(blocks)
        )
        self.norm, self.act = nn.BatchNorm2d(4), QCFS(4)

    def forward(self, x):
        x = F.max_pool2d(self.stem(x), 2)
        for block in self.blocks:
            x = x + block(x)
        return self.head(self.act(self.norm(x)).mean((2, 3)))


class DenselyConnected(nn.Module):
    """Each layer takes all before it, side by side, and a transition halves what they are."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(4 + 2 * i), QCFS(3), nn.Conv2d(4 + 2 * i, 2, 3, padding=1)) for i in range(4)
        )
        self.transition = nn.Sequential(nn.BatchNorm2d(12), QCFS(3), nn.Conv2d(12, 6, 1), nn.AvgPool2d(2))
        self.last = nn.Sequential(nn.BatchNorm2d(6), QCFS(4))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.head(self.last(self.transition(x)).mean((2, 3)))


class Shuffled(nn.Module):
    """Half of the channels passes on, the other half is computed, and both are shuffled."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(conv(2, 8, 3, padding=1), QCFS(4))
        self.units = nn.ModuleList(
            nn.Sequential(conv(4, 4, 1), QCFS(3), conv(4, 4, 3, padding=1, groups=4), conv(4, 4, 1), QCFS(3))
            for _ in range(3)
        )
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.stem(x)
        for unit in self.units:
            a, b = x.chunk(2, 1)
            x = torch.cat([a, unit(b)], 1)
            x = x.view(-1, 2, 4, 8, 8).transpose(1, 2).reshape(-1, 8, 8, 8)
        return self.head(x.mean((2, 3)))


class Branches(nn.Module):
    """Branches of several kernels and a pooling, side by side, and the largest of all of them."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Sequential(conv(2, 3, 1), QCFS(2)), nn.Sequential(conv(2, 3, 5, padding=2), QCFS(4))
        self.c = nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(2, 2, 1), QCFS(3))
        self.d = nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(8, 4, 1), QCFS(3))
        self.head = nn.Linear(64, 3)

    def forward(self, x):
        return self.head(self.d(torch.cat([self.a(x), self.b(x), self.c(x)], 1)).flatten(1))


class Reparametrized(nn.Module):
    """Kernels of three sizes on one source, added up."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(conv(2, 4, 3, padding=1), QCFS(4))
        self.wide, self.point, self.own = conv(4, 4, 3, padding=1), conv(4, 4, 1), nn.BatchNorm2d(4)
        self.act, self.head = QCFS(4), nn.Linear(256, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.act(self.wide(x) + self.point(x) + self.own(x)).flatten(1))


class UNet(nn.Module):
    """Down, up by a transposed convolution, joined with what was there before; gives a map."""

    def __init__(self):
        super().__init__()
        self.down, self.deep = nn.Sequential(conv(2, 4, 3, padding=1), QCFS(4)), nn.Sequential(conv(4, 6, 3), QCFS(3))
        self.up, self.last = nn.ConvTranspose2d(6, 3, 4, stride=2), nn.Sequential(conv(7, 4, 3, padding=1), QCFS(4))
        self.out = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        here = self.down(x)
        up = F.pad(self.up(self.deep(F.max_pool2d(here, 2))), (1, 1, 1, 1))
        return self.out(self.last(torch.cat([here, up], 1)))


class Detector(nn.Module):
    """Two heads on two scales, one of them enlarged; a dictionary with something missing."""

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = (
            nn.Sequential(conv(2, 4, 3, padding=1), QCFS(4)),
            nn.Sequential(conv(4, 4, 3, 2, 1), QCFS(3)),
        )
        self.boxes, self.classes = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        fine = self.fine(x)
        coarse = self.coarse(fine)
        joined = torch.cat([fine, F.interpolate(coarse, scale_factor=2, mode="bilinear")], 1)
        return {"classes": self.classes(coarse).sigmoid(), "boxes": self.boxes(joined), "aux": None}


class KeywordSpotting(nn.Module):
    """One axis: wide strides, batch normalization, poolings, a mean, log_softmax."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(2, 6, 8, 4), nn.BatchNorm1d(6), QCFS(4), nn.MaxPool1d(2),
            nn.Conv1d(6, 6, 3, padding=1, groups=6), nn.Conv1d(6, 8, 1), nn.BatchNorm1d(8), QCFS(4),
        )  # fmt: skip
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.layers(x)
        return F.log_softmax(self.head(F.avg_pool1d(x, x.shape[-1]).permute(0, 2, 1)), 2).squeeze(1)


class EEG(nn.Module):
    """Temporal, then depthwise spatial and separable convolutions, with even kernels."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 3, (1, 8), padding="same", bias=False), nn.BatchNorm2d(3),
            nn.Conv2d(3, 6, (2, 1), groups=3, bias=False), nn.BatchNorm2d(6), QCFS(4), nn.AvgPool2d((1, 4)),
            nn.Conv2d(6, 6, (1, 4), padding="same", groups=6), nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6), QCFS(4),
            nn.Flatten(), nn.Linear(96, 3),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x.flatten(2)[:, None])


class Volumes(nn.Module):
    """Three axes."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(1, 3, 3, padding=1), nn.BatchNorm3d(3), QCFS(4), nn.MaxPool3d((1, 2, 2)),
            nn.Conv3d(3, 4, (2, 3, 3), (1, 2, 2)), QCFS(4), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x[:, None])


class Points(nn.Module):
    """A layer for each point, and the largest of all points."""

    def __init__(self):
        super().__init__()
        self.each, self.act, self.head = (
            nn.Linear(8, 6),
            QCFS(4),
            nn.Sequential(nn.Linear(6, 6), QCFS(4), nn.Linear(6, 3)),
        )

    def forward(self, x):
        return self.head(self.act(self.each(x.flatten(1, 2))).max(1).values)


class Maxout(nn.Module):
    """The largest of groups of channels."""

    def __init__(self):
        super().__init__()
        self.conv, self.act, self.head = nn.Conv2d(2, 8, 3), QCFS(4), nn.Linear(144, 3)

    def forward(self, x):
        return self.head(self.act(self.conv(x).unflatten(1, (4, 2)).amax(2)).flatten(1))


class Decoder(nn.Module):
    """From a vector to an image."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(128, 10), QCFS(4), nn.Linear(10, 32), QCFS(3), nn.Unflatten(1, (2, 4, 4)),
            nn.ConvTranspose2d(2, 2, 3, 2, 1, 1), QCFS(4), nn.Upsample(scale_factor=2), nn.Conv2d(2, 1, 3, padding=1),
            nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x)


class Computed(nn.Module):
    """Weights that are computed from parameters, in all of torch's ways and in some of others."""

    def __init__(self):
        super().__init__()
        self.a = parametrizations.weight_norm(nn.Conv2d(2, 4, 3, padding=1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self.b = nn.utils.weight_norm(nn.Conv2d(4, 4, 1))
        self.c = parametrizations.spectral_norm(nn.Conv2d(4, 4, 1))
        self.d = prune.l1_unstructured(nn.Linear(64, 8), "weight", 0.5)
        self.e = parametrizations.orthogonal(nn.Linear(8, 8))
        self.acts, self.head = nn.ModuleList(QCFS(4) for _ in range(5)), nn.Linear(8, 3)
        self.register_buffer("mean", torch.full((4,), 0.1))
        self.register_buffer("running_var", torch.full((4,), 0.9))

    def forward(self, x):
        x = self.acts[0](self.a(x))
        x = self.acts[1](self.b(x) * torch.tensor(1.0) / math.sqrt(2))
        scale = (self.running_var + 1e-5).rsqrt()  # a normalization that is frozen
        x = self.acts[2](self.c(x) * scale.view(1, -1, 1, 1) - (self.mean * scale)[:, None, None])
        weight = self.head.weight
        standard = (weight - weight.mean(1, keepdim=True)) / weight.std(1, keepdim=True)
        return F.linear(self.acts[4](self.e(self.acts[3](self.d(F.avg_pool2d(x, 2).flatten(1))))), standard)


class TwoInputs(nn.Module):
    """An image and some features."""

    def __init__(self):
        super().__init__()
        self.image, self.features = nn.Sequential(conv(2, 4, 3), QCFS(4)), nn.Sequential(nn.Linear(5, 4), QCFS(3))
        self.head = nn.Sequential(nn.Linear(8, 6), QCFS(4), nn.Linear(6, 1))

    def forward(self, image, features):
        return self.head(torch.cat([self.image(image).mean((2, 3)), self.features(features)], 1)).squeeze(1)


NETWORKS = {
    "pre-activation": PreActivation, "densely connected": DenselyConnected, "shuffled": Shuffled, "branches": Branches,
    "reparametrized": Reparametrized, "U-Net": UNet, "detector": Detector, "points": Points, "maxout": Maxout,
    "decoder": Decoder, "computed weights": Computed, "volumes": Volumes,
    "keyword spotting": KeywordSpotting, "EEG": EEG, "two inputs": TwoInputs,
}  # fmt: skip


def inputs_of(name):
    generator = torch.Generator().manual_seed(7)
    shapes = {
        "keyword spotting": [(2, 64)], "volumes": [(4, 8, 8)], "EEG": [(2, 64)], "two inputs": [(2, 8, 8), (5,)]
    }.get(name, [(2, 8, 8)])  # fmt: skip
    return [torch.randn((4, *shape), generator=generator, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore:.*is left out")
def test_a_network_converts_as_it_is_and_answers_the_same_everywhere(name, tmp_path):
    module, given = networks.randomized(NETWORKS[name]()), inputs_of(name)
    source = SourceNetwork(module, given)
    graph = pnm.convert(source, given)
    x = torch.cat([each.flatten(1) for each in given], 1).reshape(-1, *source.input_shape).numpy()
    logits, levels = source.levels(x)
    assert any(0 < level.mean() < graph[n].levels for n, level in levels.items() if n in dict(graph._by_name))
    for engine in (simulate.counts, simulate.steps):
        result = engine(graph, x)
        for layer in levels.keys() & result.counts.keys():
            np.testing.assert_array_equal(result.counts[layer].reshape(levels[layer].shape), levels[layer])
        np.testing.assert_allclose(result.logits, logits, rtol=1e-9, atol=1e-9)
    integers = pnm.quantize(graph, 8, input_range=4.0)
    expected = simulate.counts(integers, x)
    found = simulate.steps(integers, x)
    for layer, counts in expected.counts.items():
        np.testing.assert_array_equal(found.counts[layer], counts)
    np.testing.assert_array_equal(found.potential, expected.potential)
    for network in (graph, integers):
        write_nir(network, tmp_path / "network.nir")
        assert read_nir(tmp_path / "network.nir").differences(network) == []


def network_of(name, **options):
    module, given = networks.randomized(NETWORKS[name]()), inputs_of(name)
    graph = pnm.convert(module, given, **options)
    x = torch.cat([each.flatten(1) for each in given], 1).reshape(-1, *graph.input.shape).numpy()
    return graph.replace(input_range=4.0), x


@pytest.mark.parametrize("target", ["lava", "loihi2"])
@pytest.mark.parametrize("name", ["pre-activation", "detector", "keyword spotting", "two inputs", "U-Net"])
@pytest.mark.filterwarnings("ignore:.*is left out")
def test_lava_and_a_chip_with_graded_spikes_have_the_counts_of_the_simulator(name, target):
    if target == "lava":
        pytest.importorskip("lava")
    graph, x = network_of(name)
    graph = pnm.quantize(graph, 8) if target == "lava" else graph
    program = LavaTarget().compile(graph) if target == "lava" else LoihiTarget(target).compile(graph)
    found, expected = program.run(x), simulate.counts(program.graph, x)
    for layer, counts in expected.counts.items():
        np.testing.assert_array_equal(found.counts[layer], counts)
    np.testing.assert_array_equal(found.potential, expected.potential)


def test_where_spikes_carry_no_numbers_all_linear_layers_are_composed():
    graph, x = network_of("EEG")
    with pytest.raises(pnm.PascalError, match=r"Loihi 1 cannot run.*growth"):
        LoihiTarget("loihi1").compile(graph)
    composed, _ = network_of("EEG", growth=math.inf)
    assert not any(p.kind == "linear" for p in composed.populations)
    program = LoihiTarget("loihi1").compile(composed)
    found, expected = program.run(x), simulate.counts(program.graph, x)
    for layer, counts in expected.counts.items():
        np.testing.assert_array_equal(found.counts[layer], counts)


def test_sums_that_are_carried_over_many_blocks_grow_with_the_network_and_no_faster():
    synapses = []
    for blocks in (8, 16, 32):
        module = networks.randomized(PreActivation(blocks))
        graph = pnm.convert(module, inputs_of("pre-activation")[0], check=False)
        synapses.append(sum(affine.synapses(q.operator, q.pooled(graph[q.source].shape)) for q in graph.projections))
    assert synapses[1] < 2.3 * synapses[0] and synapses[2] < 2.1 * synapses[1]
