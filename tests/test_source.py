"""The traced network gives the module's own answers, and names for its activations by which a
user finds them.
"""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pascal_nm as pnm
from pascal_nm import QCFS
from pascal_nm.errors import ConversionError
from pascal_nm.simulation import simulate
from pascal_nm.source.tracing import SourceNetwork
from tests import networks


class Named(nn.Module):
    """Activations in containers, used twice, without a module, and with names that are taken
    or no identifiers.
    """

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(128, 8), nn.ModuleDict({"the-act!": QCFS(4)})["the-act!"])
        self.blocks = nn.ModuleList([nn.ModuleDict({"the-act!": QCFS(4)})])
        self.twice, self.head = QCFS(3), nn.Linear(8, 3)
        self.output, self._leading_, self.input = QCFS(5), QCFS(2), QCFS(3)

    def forward(self, x):
        x = self.layers(x.flatten(1))
        x = self.blocks[0]["the-act!"](x - 0.5)
        x = self.twice(self.twice(x - 0.1) - 0.2)
        x = self._leading_(self.input(self.output(x - 0.1)))
        return self.head(torch.ops.pascal_nm.qcfs(x - 0.1, torch.ones((), dtype=x.dtype), 4))


def test_activations_are_named_by_their_modules_path_and_no_name_is_taken_twice():
    source = SourceNetwork(networks.randomized(Named()), networks.images())
    assert list(source.names.values()) == [
        "layers_1",
        "blocks_0_the_act",
        "twice",
        "twice_2",
        "output_2",
        "input_2",
        "leading",
        "qcfs_7",
    ], "what stands in no module is called by its operation"
    numbered = SourceNetwork(networks.perceptron().double(), networks.images())
    assert list(numbered.names.values()) == ["qcfs_3", "qcfs_5"], "a number alone is no identifier"


def test_levels_and_answers_are_those_of_the_modules_activations():
    module, x = networks.randomized(networks.Residual(), 1), networks.images(5)
    seen = {}
    for name, layer in module.named_modules():
        if isinstance(layer, QCFS):
            layer.register_forward_hook(
                lambda layer, _, y, name=name: seen.update({name.replace(".", "_"): (layer, y)})
            )
    source = SourceNetwork(module, x)
    logits, levels = source.levels(x)
    expected = module(x).detach().numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-12)
    np.testing.assert_allclose(source(x.numpy()), expected, rtol=1e-12)
    assert set(levels) == set(seen) == {"stem_2", "body_2", "act", "down_2", "act2"}
    for name, (layer, y) in seen.items():
        step = (layer.threshold / layer.levels).detach()
        np.testing.assert_array_equal(levels[name], (y / step).detach().round().numpy())
        assert levels[name].min() >= 0 and 0 < levels[name].max() <= layer.levels
    assert (source.input_shape, source.dtype, source.batch) == ((2, 8, 8), torch.float64, None)


def test_inputs_of_another_type_are_taken_in_the_networks_own():
    module, x = networks.randomized(networks.perceptron()).float(), networks.images(4)
    source = SourceNetwork(module, x.float())
    np.testing.assert_array_equal(source(x.numpy()), source(x.float()))
    assert source(x).dtype == source.levels(x)[0].dtype == np.float32


def test_an_activation_without_a_use_does_not_lend_its_name_where_something_is_done_in_place():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.unused, self.act, self.head = nn.Linear(128, 8), QCFS(4), QCFS(4), nn.Linear(8, 3)

        def forward(self, x):
            z = self.hidden(x.flatten(1))
            self.unused(z - 1)
            return self.head(self.act(z).mul_(2))

    module, x = networks.randomized(Unused()), networks.images()
    source = SourceNetwork(module, x)
    assert list(source.names.values()) == ["unused", "act"]
    assert list(source.functional_names.values()) == ["act"]
    assert [p.name for p in pnm.convert(source).spiking] == ["act"]


@pytest.mark.parametrize("batch", [1, 3, 4])
@pytest.mark.parametrize("images", [1, 3, 4, 10])
def test_a_program_for_a_fixed_number_of_images_gives_each_image_its_own_answer(batch, images):
    module, x = networks.randomized(networks.perceptron()), networks.images(images)
    source = SourceNetwork(torch.export.export(module, (networks.images(batch, 7),)))
    assert source.batch == batch
    logits, levels = source.levels(x)
    np.testing.assert_allclose(logits, module(x).detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(source(x), logits, rtol=1e-12)
    assert all(len(level) == images for level in levels.values())
    counted = [(len(part), n) for part, n in source.batches(x)]
    assert {size for size, _ in counted} == {batch} and sum(n for _, n in counted) == images


def test_outputs_of_any_shape_are_one_vector_for_each_image():
    module = networks.randomized(nn.Sequential(nn.Conv2d(2, 3, 3), QCFS(4), nn.Conv2d(3, 2, 3)))
    x = networks.images(4)
    source = SourceNetwork(module, x)
    np.testing.assert_allclose(source(x), module(x).detach().flatten(1).numpy(), rtol=1e-12)
    np.testing.assert_allclose(simulate.counts(pnm.convert(source), x.numpy()).logits, source(x), rtol=1e-9, atol=1e-12)


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.squash = nn.Sigmoid()

    def forward(self, x):
        return self.squash(x)


@pytest.mark.parametrize(
    ("last", "place"),
    [(nn.Sigmoid(), r"module '3' \(Sigmoid\)"), (Inner(), r"module '3.squash' \(Sigmoid\)")],
)
def test_a_place_is_the_innermost_module_and_its_class(last, place):
    module = nn.Sequential(nn.Flatten(), nn.Linear(128, 8), QCFS(4), last, nn.Linear(8, 3)).double()
    with pytest.raises(ConversionError, match=place):
        pnm.convert(module, networks.images())


def test_a_place_outside_of_any_module_is_the_networks_own_forward():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.act = nn.Linear(128, 8), QCFS(4)

        def forward(self, x):
            return torch.tanh(self.act(self.hidden(x.flatten(1))))

    with pytest.raises(ConversionError, match=r"the network's own forward \(tanh\): tanh cannot"):
        pnm.convert(Own().double(), networks.images())


NOT_INPUTS = {
    "nothing": (None, "an example input is needed"),
    "an array": (np.zeros((1, 128)), "must be a torch tensor, not a ndarray"),
    "no images": (torch.zeros(0, 128), r"must have shape \(N, \*input shape\), not \(0, 128\)"),
    "one number for each image": (torch.zeros(4), r"must have shape \(N, \*input shape\), not \(4,\)"),
    "another shape": (torch.zeros(1, 5), r"cannot trace the network with an input of shape \(1, 5\)"),
}


@pytest.mark.parametrize(("example", "message"), NOT_INPUTS.values(), ids=NOT_INPUTS)
def test_an_example_that_is_none_is_refused(example, message):
    module = nn.Sequential(nn.Linear(128, 8), QCFS(4), nn.Linear(8, 3))
    with pytest.raises(ConversionError, match=message):
        SourceNetwork(module, example)
    assert SourceNetwork(module, torch.zeros(1, 128)).batch is None


def test_inputs_of_a_network_with_different_numbers_of_images_are_refused():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = QCFS(4)

        def forward(self, x, y):
            return self.act(x + y)

    program = torch.export.export(Two(), (torch.zeros(2, 3), torch.zeros(1, 3)))
    with pytest.raises(ConversionError, match="not of the same number of images"):
        SourceNetwork(program)


@pytest.mark.parametrize("drop", [F.dropout, F.feature_alpha_dropout])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_dropout_that_is_active_is_refused_and_one_that_is_not_changes_nothing(drop, inplace):
    class Drops(nn.Module):
        def __init__(self, *arguments):
            super().__init__()
            self.conv, self.act, self.head, self.arguments = nn.Conv2d(2, 3, 3), QCFS(4), nn.Linear(108, 3), arguments

        def forward(self, x):
            return self.head(drop(self.act(self.conv(x)), *self.arguments, inplace).flatten(1))

    x = networks.images()
    for idle in [(0.5, False), (0.0, True)]:
        module = networks.randomized(Drops(*idle))
        result = simulate.counts(pnm.convert(module, x), x.numpy())
        np.testing.assert_allclose(result.logits, module(x).detach().numpy(), rtol=1e-9)
    # In place, torch has written the dropout out as what it consists of.
    with pytest.raises(ConversionError, match="cannot be converted" if inplace else "drops values at random"):
        pnm.convert(networks.randomized(Drops(0.5, True)), x)
