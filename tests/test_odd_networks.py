"""Networks that once converted wrongly, or not at all; each small, with what is odd about it."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pascal_nm as pnm
from pascal_nm.errors import ConversionError
from pascal_nm.hw_targets.loihi import LoihiTarget
from pascal_nm.simulation import simulate
from pascal_nm.source import rounding
from pascal_nm.source.tracing import SourceNetwork

qcfs = torch.ops.pascal_nm.qcfs


class Net(nn.Module):
    """A convolution, and then what is odd."""

    def __init__(self, odd):
        super().__init__()
        self.odd, self.conv, self.one = odd, nn.Conv2d(2, 4, 3, padding=1), nn.Parameter(torch.ones(()))

    def act(self, x, levels=4):
        """QCFS with a threshold of 1."""
        return qcfs(x, self.one, levels)

    def forward(self, x):
        return self.odd(self, self.conv(x))


def made(odd):
    """A network with random weights, and inputs of it."""
    torch.manual_seed(0)
    return Net(odd).double(), torch.randn(5, 2, 8, 8, dtype=torch.float64)


def converted(odd, **options):
    """The graph of a network; its counts and outputs are those of the module."""
    module, x = made(odd)
    source = SourceNetwork(module, x)
    graph = pnm.convert(source, x, **options)
    _, levels = source.levels(x.numpy())
    with torch.no_grad():
        outputs = module(x).flatten(1).numpy()
    for engine in (simulate.counts, simulate.steps):
        found = engine(graph, x.numpy())
        for layer in levels.keys() & found.counts.keys():
            np.testing.assert_array_equal(found.counts[layer].reshape(levels[layer].shape), levels[layer])
        np.testing.assert_allclose(found.logits, outputs, rtol=1e-9, atol=1e-9)
    return graph


def test_a_network_may_pool_twice_in_front_of_its_activation():
    graph = converted(lambda m, x: m.act(F.max_pool2d(F.max_pool2d(x, 3, 2, 1), 2)).flatten(1))
    assert [p.kind for p in graph.populations] == ["analog", "pasc", "max", "max", "readout"]


def test_a_network_may_pool_again_what_it_has_pooled_and_negated():
    converted(lambda m, x: m.act(F.max_pool2d(0.5 - F.max_pool2d(x, 2), 2)).flatten(1))


CLIPPING = {
    "clamp far from 0": lambda x: x.sum((2, 3)).clamp(-200, 300),
    "hardtanh": lambda x: F.hardtanh(x * 20, -30, 30),
    "hardshrink": lambda x: F.hardshrink(x, 1e-6),
    "renorm": lambda x: torch.renorm(x, 2, 1, 1e4),
    "remainder": lambda x: torch.fmod(x * 30, 1000),
    "a clipped sum": lambda x: F.hardsigmoid(x.sum((1, 2, 3), keepdim=True) / 1000),
    "abs of one number": lambda x: x.mean((1, 2, 3), keepdim=True).abs(),
    "the smaller of two": lambda x: torch.sort(x.mean((2, 3))[:, :2], 1).values,
    "median": lambda x: x.mean((2, 3))[:, :3].median(1, keepdim=True).values,
}


@pytest.mark.parametrize("name", CLIPPING)
def test_what_clips_large_or_small_numbers_alone_is_not_taken_as_linear(name):
    module, x = made(lambda m, x: m.act(CLIPPING[name](m.act(x) - 0.4)).flatten(1))
    with pytest.raises(ConversionError, match="cannot be converted"):
        pnm.convert(module, x, check=False)


@pytest.mark.parametrize("head", [lambda y: y.softmax(0), lambda y: y.argmax(0), lambda y: y.t().log_softmax(1).t()])
def test_what_compares_images_behind_the_outputs_is_not_left_out(head):
    module, x = made(lambda m, x: head(m.act(x).mean((2, 3))))
    with pytest.raises(ConversionError, match=r"(softmax|argmax) cannot be converted"):
        pnm.convert(module, x, check=False)


@pytest.mark.parametrize("pooled", [lambda x: x.mean((2, 3), True), lambda x: F.max_pool2d(x, 8)])
def test_a_constant_may_have_more_pixels_than_what_it_is_added_to_or_multiplied_with(pooled):
    constant = torch.linspace(-1, 1, 48, dtype=torch.float64).view(1, 4, 4, 3)
    converted(lambda m, x: m.act((pooled(x) + constant) * constant[:, :1]).flatten(1))
    converted(lambda m, x: m.act(pooled(x) * constant).flatten(1))


def test_rounding_errors_are_bounded_through_operations_of_several_results():
    def parts(m, x):
        a, b = m.act(x).split([1, 3], 1)
        return {"a": m.act(torch.cat([b, -a], 1).max(1).values).mean(2), "nothing": None, "b": b.flatten(1)}

    module, x = made(parts)
    source = SourceNetwork(module, x)
    _, levels = source.levels(x.numpy())
    errors = rounding.errors(source, x.numpy(), levels, np.finfo(np.float64))
    assert (errors.outputs > 0).all() and errors.outputs.shape == (5, 8 + 3 * 64)
    assert all((error > 0).all() and error.max() < 1e-12 for error in errors.activations.values())


class Again(Net):
    """Its forward calls itself, by name or as a module."""

    def forward(self, x, left=3):
        if left == 3:
            x = self.conv(x)
        x = F.relu(self.odd(x))
        again = self if left % 2 else self.forward
        return again(x, left - 1) if left else x.mean((2, 3))


def test_a_forward_that_calls_itself_has_a_qcfs_for_each_time():
    torch.manual_seed(0)
    network, x = Again(nn.Conv2d(4, 4, 1)).double(), torch.randn(5, 2, 8, 8, dtype=torch.float64)
    found = pnm.to_qcfs(network, 4, example=x)
    for number, layer in enumerate(m for m in found.modules() if isinstance(m, pnm.QCFS)):
        layer.threshold.data.fill_(0.5 + number)
    graph = pnm.convert(found, x)
    assert [p.threshold.item() * p.levels for p in graph.spiking] == [0.5, 1.5, 2.5, 3.5]


def test_an_activation_that_a_hook_calls_is_refused_by_name():
    module, x = made(lambda m, x: m.last(x).mean((2, 3)))
    module.last = nn.Conv2d(4, 3, 1).double()
    module.conv.register_forward_hook(lambda layer, given, result: F.relu(result))
    with pytest.raises(ConversionError, match=r"'conv\.relu' is called outside of its module's forward"):
        pnm.to_qcfs(module, 4, example=x)


def test_what_has_its_images_where_another_has_pixels_is_refused():
    module, x = made(lambda m, x: m.act(x.mean(2, keepdim=True) + m.act(x).mean((1, 2, 3))[:, None]))
    with pytest.raises(ConversionError, match="add cannot be converted: it mixes the images of a batch"):
        pnm.convert(module, x, check=False)


def test_an_index_that_is_repeated_for_each_image_is_an_index():
    index, mask = torch.tensor([7, 0, 2]), torch.arange(8) % 3 == 0

    def gathered(m, x):
        y = m.act(x).mean(3)
        chosen = index.view(1, 1, 3).expand(y.shape[0], 4, 3)
        y = y.masked_fill(mask.expand(y.shape[0], 1, 8), 0.5)
        return m.act(torch.cat([y.gather(2, chosen), y.scatter_add(2, chosen, y)], 2) * 3)

    converted(gathered)


def test_random_numbers_of_a_generator_of_the_networks_own_are_refused():
    random = torch.Generator().manual_seed(0)
    module, x = made(lambda m, x: m.act(x + torch.randn(8, 8, generator=random, dtype=x.dtype)))
    with pytest.raises(ConversionError):
        pnm.convert(module, x)


def test_a_slice_of_nothing_adds_nothing():
    converted(lambda m, x: m.act(torch.cat([x[:, :0], m.act(x), x[:, 4:]], 1)).flatten(1))


def test_names_that_the_conversion_would_give_may_be_modules():
    module, x = made(lambda m, x: (m.output_2(x).flatten(1), m.output(x).mean((2, 3))))
    module.output_2, module.output = pnm.QCFS(), pnm.QCFS()
    graph = pnm.convert(module.double(), x)
    assert [p.name for p in graph.outputs] == ["output", "output_2_"]
    module, x = made(lambda m, x: m.a(F.max_pool2d(m.conv_2(m.a_unpooled(x)), 2)).flatten(1))
    module.a, module.a_unpooled, module.conv_2 = pnm.QCFS(), pnm.QCFS(), nn.Conv2d(4, 4, 3)
    names = [p.name for p in pnm.convert(module.double(), x).populations]
    assert names == ["input", "a_unpooled", "a_unpooled_", "a", "output"]


def test_a_channel_without_weights_behind_sums_fits_on_a_chip():
    def block(m, x):
        x = F.max_pool2d(F.conv2d(m.act(x), m.conv.weight.transpose(0, 1)), 6)
        return m.act(m.dead(x)).flatten(1)

    module, x = made(block)
    module.dead = nn.Conv2d(2, 3, 1).double()
    module.dead.weight.data[1] = 0
    graph = pnm.quantize(pnm.convert(module, x), 8, input_range=4.0)
    assert any(p.dynamics.adds for p in graph.populations)
    assert all(np.abs(p.threshold).max() < 1 << 24 for p in graph.spiking)
    LoihiTarget("loihi2").compile(graph)
