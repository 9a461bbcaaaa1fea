"""ReLU networks in the styles of their authors become QCFS networks: each place of its own, no
value moved but by quantization.
"""

import copy
import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pascal_nm import QCFS, convert, to_qcfs
from pascal_nm.errors import ConversionError, DataError
from pascal_nm.source.activations import prepared, unwrapped
from pascal_nm.source.architectures import qcfs_layers
from pascal_nm.source.tracing import SourceNetwork


class Block(nn.Module):
    """torchvision's: one ``relu``, in place, used twice."""

    def __init__(self, channels=4):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        x = F.relu(self.a(x))
        x = torch.relu(self.b(x))
        x = self.c(x.mean((2, 3))).clamp(min=0)
        return torch.maximum(x - 0.1, torch.zeros_like(x)), torch.threshold(x - 0.2, 0, 0)


class PreActivation(nn.Module):
    """Clips its input in place, and adds what that left of it."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(2, 3, 1), nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.stem(x)
        y = self.a(F.relu(x, inplace=True))
        y[:, 1:].relu_()
        z = self.b(y)
        self.act(z[:, :2])
        return z + x


class Limited(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU6(inplace=True), nn.Conv2d(4, 4, 3), nn.Hardtanh(-0.2, 0.3))
        self.b = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.b(self.a(x)).clamp(0, 0.25).clamp_(max=0.125)


class Dense(nn.Module):
    """DenseNet's: ReLU on what is concatenated."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(4 * k), nn.ReLU(), nn.Conv2d(4 * k, 4, 3, padding=1)) for k in (1, 2)
        )

    def forward(self, x):
        features = [self.stem(x)]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return F.relu(torch.cat(features, 1)).mean((2, 3))


class UNet(nn.Module):
    """One activation for all of it, given to its parts, and one part that is used at two places."""

    def __init__(self):
        super().__init__()
        act = nn.ReLU(inplace=True)
        self.down = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), act, nn.Conv2d(4, 4, 3, padding=1), act)
        self.twice = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), act)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        x = self.down(x)
        y = self.twice(self.twice(F.max_pool2d(x, 2)))
        return {"map": self.head(torch.cat([x, F.interpolate(y, scale_factor=2)], 1)), "small": y}


class Nested(nn.Module):
    """Calls of its own around those of a part that calls some, too, on a parameter among them."""

    def __init__(self):
        super().__init__()
        self.inner, self.scale = Functional(), nn.Parameter(torch.tensor(0.5))

    def forward(self, *xs):
        return F.relu(sum(self.inner(F.relu(xs[0]))) - self.scale.clamp(min=0.1))


STYLES = {
    "torchvision": (lambda: nn.Sequential(nn.Conv2d(2, 4, 1), Block(), Block()), 4),
    "functional": (Functional, 5),
    "in place": (PreActivation, 3),
    "limited": (Limited, 4),
    "dense": (Dense, 3),
    "unet": (UNet, 4),
    "nested": (Nested, 7),
}


def network(style):
    torch.manual_seed(1)
    made = STYLES[style][0]().double()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.bias, 0.2)
    return made.eval()


def images(n=6):
    return torch.randn((n, 2, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def outputs(module, x):
    return torch.cat([o.flatten(1) for o in torch.utils._pytree.tree_leaves(module(x.clone()))], 1).detach()


@pytest.mark.parametrize("style", STYLES)
def test_each_place_gets_a_qcfs_and_many_levels_leave_the_networks_answers(style):
    relu, x = network(style), images()
    expected = outputs(relu, x)
    errors = []
    for levels in (1 << 7, 1 << 14, 1 << 28):
        qcfs = to_qcfs(relu, levels, x, "max")
        assert len(qcfs_layers(qcfs)) == STYLES[style][1]
        errors.append(float((outputs(qcfs, x) - expected).abs().max()))
    assert 0 < errors[2] < 1e-6 and errors[2] < errors[1] / 100 < errors[0] / 1000
    assert torch.equal(outputs(relu, x), expected), "the user's network is as it was"
    assert type(qcfs).__name__ == type(relu).__name__ and isinstance(qcfs, type(relu))


@pytest.mark.parametrize("style", STYLES)
def test_the_result_trains_copies_saves_and_is_traced_as_any_module(style, tmp_path):
    relu, x = network(style), images()
    qcfs = to_qcfs(relu, 8, x)
    expected = outputs(qcfs, x)
    assert set(relu.state_dict()) <= set(qcfs.state_dict())
    assert torch.equal(outputs(copy.deepcopy(qcfs), x), expected)
    other = to_qcfs(relu, 8, example=x)
    other.load_state_dict(qcfs.state_dict())
    assert torch.equal(outputs(other, x), expected)
    file = io.BytesIO()
    torch.save(qcfs, file)
    file.seek(0)
    assert torch.equal(outputs(torch.load(file, weights_only=False), x), expected)
    batch = torch.export.Dim("batch", min=1)
    shapes = (({0: batch},),) if style == "nested" else ({0: batch},)
    torch.export.save(torch.export.export(qcfs, (x,), dynamic_shapes=shapes), tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2")
    assert torch.equal(outputs(program.module(), x[:3]), outputs(qcfs, x[:3]))
    thresholds = {name: layer.threshold.detach().clone() for name, layer in qcfs_layers(qcfs)}
    qcfs.train()
    optimizer = torch.optim.SGD(qcfs.parameters(), 0.1)
    sum(o.square().sum() for o in torch.utils._pytree.tree_leaves(qcfs(x))).backward()
    assert all(p.grad is not None for p in qcfs.parameters())
    optimizer.step()
    assert all(layer.threshold != thresholds[name] for name, layer in qcfs_layers(qcfs))


def test_names_are_those_of_the_places():
    names = {style: [name for name, _ in qcfs_layers(to_qcfs(network(style), 4, example=images()))] for style in STYLES}
    assert names["torchvision"] == ["1.relu", "1.relu_2", "2.relu", "2.relu_2"]
    assert set(names["functional"]) == {"relu", "relu_2", "clamp", "maximum", "threshold"}
    assert set(names["limited"]) == {"a.1", "a.3", "clamp", "clamp_2"}
    assert set(names["dense"]) == {"layers.0.1", "layers.1.1", "relu"}
    assert set(names["unet"]) == {"down.1", "down.3", "twice_1", "twice_1_2"}


@pytest.mark.parametrize("levels", [1, 3, 8])
@pytest.mark.parametrize("clip", [F.relu, F.relu6, nn.Hardtanh(-0.4, 0.7), lambda x: x.clamp(max=0.3)])
def test_a_place_is_half_a_step_from_its_activation_at_most(clip, levels):
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.clip = clip

        def forward(self, x):
            return self.clip(x)

    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(levels), dtype=torch.float64) * 4
    qcfs = to_qcfs(One().double(), levels, x, "max")
    ((_, layer),) = qcfs_layers(qcfs)
    assert (qcfs(x) - clip(x)).abs().max() <= float(layer.threshold.detach()) / (2 * levels) + 1e-12


def test_an_activation_that_ends_bounds_its_threshold():
    x = 100 * images()
    limited = dict(qcfs_layers(to_qcfs(network("limited"), 4, x, "max")))
    thresholds = {name: float(layer.threshold.detach()) for name, layer in limited.items()}
    assert thresholds == pytest.approx({"a.1": 6, "a.3": 0.5, "clamp": 0.25, "clamp_2": 0.125})
    uncalibrated = to_qcfs(network("limited"), 4, example=x)
    assert float(uncalibrated.a[1].threshold.detach()) == 6


def test_relu_on_what_is_nowhere_negative_is_left_out_and_qcfs_stays():
    torch.manual_seed(0)
    kept = QCFS(3, 0.7)
    relu = nn.Sequential(
        *(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.ReLU(), nn.MaxPool2d(2), nn.ReLU(inplace=True)),
        *(nn.Conv2d(4, 4, 1), kept, nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU6(), nn.ReLU()),
    ).double()
    qcfs = to_qcfs(relu, 1 << 20, images(), "max")
    assert [name for name, _ in qcfs_layers(qcfs)] == ["1", "6", "9"]
    assert (qcfs[6].levels, float(qcfs[6].threshold)) == (3, float(kept.threshold))
    assert torch.allclose(qcfs(images()), relu(images()), atol=1e-4)


def test_levels_are_one_number_a_list_in_order_or_a_mapping_by_name():
    relu, x = network("functional"), images()
    order = ["relu", "relu_2", "clamp", "maximum", "threshold"]
    for given in (
        [1, 2, 3, 4, 5],
        dict(zip(order, range(1, 6), strict=True)),
        {"": 5, **dict(zip(order, range(1, 5), strict=False))},
    ):
        layers = dict(qcfs_layers(to_qcfs(relu, given, example=x)))
        assert [layers[name].levels for name in order] == [1, 2, 3, 4, 5]
    for given, message in (
        ([1, 2], "2 levels were given for 5 activations: relu, relu_2"),
        ({"relu": 3}, "'relu_2' has none"),
        ({"": 3, "sigmoid": 3}, "there is no 'sigmoid'"),
        (0, "at least 1"),
    ):
        with pytest.raises(ConversionError, match=message):
            to_qcfs(relu, given, example=x)


class SqueezeAndExcitation(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.b(F.relu(self.a(x.mean((2, 3), keepdim=True)))))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (nn.LeakyReLU(), r"'1.0' \(LeakyReLU\): leaky_relu .* nn.ReLU in its place"),
        (nn.PReLU(), r"'1.0' \(PReLU\): prelu"),
        (nn.SiLU(), r"'1.0' \(SiLU\): silu"),
        (nn.GELU(), r"'1.0' \(GELU\): gelu"),
        (nn.ELU(), r"'1.0' \(ELU\): elu"),
        (nn.Hardswish(), r"'1.0' \(Hardswish\): hardswish"),
        (nn.Sigmoid(), r"'1.0' \(Sigmoid\): sigmoid"),
        (nn.Softmax(1), r"'1.0' \(Softmax\): softmax"),
        (nn.LayerNorm(8), r"'1.0' \(LayerNorm\): layer_norm .* statistics .* nn.BatchNorm"),
        (SqueezeAndExcitation(), r"'1.0' \(SqueezeAndExcitation\): sigmoid gate: mul .* multiplies two activations"),
        (nn.ReLU6(), None),
    ],
)
def test_what_has_no_qcfs_form_is_refused_by_its_place_with_what_to_do(part, message):
    relu = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Sequential(part, nn.Conv2d(2, 2, 1)), nn.ReLU()).double()
    if message is None:
        assert len(qcfs_layers(to_qcfs(relu, 4, example=images()))) == 2
    else:
        with pytest.raises(ConversionError, match=message):
            to_qcfs(relu, 4, example=images())


def test_a_sigmoid_or_softmax_at_the_end_is_no_activation():
    relu = nn.Sequential(nn.Flatten(), nn.Linear(128, 5), nn.ReLU(), nn.Linear(5, 2), nn.Softmax(1), nn.Flatten())
    assert len(qcfs_layers(to_qcfs(relu.double(), 4, example=images()))) == 1


def test_a_network_without_relu_or_that_does_not_run_is_said():
    with pytest.raises(ConversionError, match="no activation that could become QCFS"):
        to_qcfs(nn.Linear(3, 3), 4, example=torch.zeros(1, 3))
    with pytest.raises(ConversionError, match="example="):
        to_qcfs(Functional(), 4)
    with pytest.raises(ConversionError, match=r"does not run on an input of shape \(2, 5\)"):
        to_qcfs(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), 4, example=torch.zeros(2, 5))


def test_calibration_data_come_in_any_form_and_labels_are_ignored():
    relu, x = network("functional"), images(40)
    dataset = torch.utils.data.TensorDataset(x, torch.zeros(40, 7, 7))  # labels of a segmentation
    forms = (
        *(x, x.numpy(), (x, torch.zeros(40)), dataset, list(x.split(7)), (part for part in x.split(7))),
        torch.utils.data.DataLoader(dataset, batch_size=7),
    )
    thresholds = [[float(layer.threshold) for _, layer in qcfs_layers(to_qcfs(relu, 4, form))] for form in forms]
    assert all(found == pytest.approx(thresholds[0], rel=1e-3) for found in thresholds), "but for the histogram's bins"
    for form, message in (([], "no inputs"), ([torch.full((2, 2, 8, 8), np.nan)], "NaN")):
        with pytest.raises(DataError, match=message):
            to_qcfs(relu, 4, form)


def test_wrappers_go_and_half_precision_is_taken_as_single():
    relu = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    relu[2] = torch.compile(relu[2])
    bare = unwrapped(nn.DataParallel(torch.compile(relu)))
    assert type(bare) is nn.Sequential and type(bare[2]) is nn.Sequential
    for dtype in (torch.float16, torch.bfloat16):
        made = prepared(copy.deepcopy(bare).to(dtype), levels=4, calibration=torch.randn(20, 4))
        assert {p.dtype for p in made.parameters()} == {torch.float32}
        assert SourceNetwork(made, torch.zeros(1, 4)).dtype == torch.float32


def test_a_skipped_block_leaves_the_places_of_the_others():
    """As stochastic depth does in training."""

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks, self.skip = nn.ModuleList([Block(2), Block(2), Block(2)]), None

        def forward(self, x):
            for number, block in enumerate(self.blocks):
                x = x if number == self.skip else block(x)
            return x

    relu = Deep().double().eval()
    qcfs = to_qcfs(relu, 8, example=images())
    without = copy.deepcopy(qcfs)
    del without.blocks[1]
    qcfs.skip = 1
    assert torch.equal(qcfs(images()), without(images()))


@pytest.mark.parametrize("style", STYLES)
def test_a_relu_network_and_a_loader_are_enough_for_a_spiking_network(style):
    """Which is proven to be the QCFS network that to_qcfs makes."""
    relu, x = network(style), images()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, torch.zeros(6, 8, 8)), 3)
    net = convert(relu, levels=8, calibration=loader)
    names = [name.replace(".", "_") for name, _ in qcfs_layers(to_qcfs(relu, 8, loader))]
    assert {name if name[0].isalpha() else f"qcfs_{name}" for name in names} <= {p.name for p in net.populations}


def test_a_relu_network_without_levels_is_told_what_to_give():
    with pytest.raises(ConversionError, match=r"convert\(.*levels=8, calibration="):
        convert(network("functional"), images())
    with pytest.raises(ConversionError, match="give levels, too"):
        convert(network("functional"), calibration=images())


def test_calibration_gives_each_channel_the_mean_that_it_had():
    """Of what the last layer is given, on the data that it was calibrated on: only its shift
    comes behind.
    """
    relu, x = network("torchvision"), images(40)
    qcfs, means = to_qcfs(relu, 2, x), {}
    relu[2].relu.register_forward_hook(lambda m, args, out: means.setdefault("calls", []).append(args[0].clone()))
    relu[2].relu.inplace = False
    relu(x)
    last = qcfs[2].relu_2
    last.register_forward_hook(lambda m, args, out: means.update(now=(args[0] + last.shift).detach()))
    qcfs(x)
    expected, plain = means["calls"][1].mean((0, 2, 3)), (means["now"] - last.shift).mean((0, 2, 3))
    torch.testing.assert_close(means["now"].mean((0, 2, 3)), expected, rtol=1e-9, atol=1e-9)
    assert (plain - expected).abs().max() > 1e-3, "which two levels had moved"


def test_a_network_of_two_inputs_is_calibrated_by_batches_of_both():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(2, 4)

        def forward(self, x, y):
            return F.relu(self.a(x) + self.b(y))

    relu, x, y = Two(), torch.randn(20, 3), torch.randn(20, 2)
    batches = [((x[i : i + 5], y[i : i + 5]), torch.zeros(5)) for i in range(0, 20, 5)]
    threshold = to_qcfs(relu, 4, batches, "max").relu.threshold
    assert float(threshold) == pytest.approx(float(relu(x, y).max()))
    assert convert(relu, levels=4, calibration=batches).populations[0].shape == (5,)


def test_the_example_has_a_place_for_each_call_of_its_shared_relu():
    spec = importlib.util.spec_from_file_location("example", Path(__file__).parents[1] / "examples" / "relu_resnet.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    qcfs = to_qcfs(example.ResNet(width=4), 4, example=torch.randn(2, 3, 8, 8))
    assert [name for name, _ in qcfs_layers(qcfs)][:3] == ["relu", "layer1.0.relu", "layer1.0.relu_2"]
