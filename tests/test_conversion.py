"""Conversion against the source network itself, in float64 where nothing rounds at a boundary."""

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
    "layer norm": (
        nn.Sequential(nn.Flatten(), nn.Linear(128, 8), nn.LayerNorm(8), QCFS(4), nn.Linear(8, 3)),
        "'2' \\(LayerNorm\\)",
    ),
    "no activation": (nn.Sequential(nn.Flatten(), nn.Linear(128, 3)), "no QCFS"),
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


class Between(nn.Module):
    """A convolution with QCFS, ``then`` something, and a head; the map in between is 4 channels
    of 8 by 8 pixels.
    """

    def __init__(self, then, constant=None, channels=4, features=None):
        super().__init__()
        self.conv, self.act, self.last = nn.Conv2d(2, channels, 3, padding=1), QCFS(4), QCFS(5)
        self.head = nn.Linear(features or channels * 64, 3)
        self.constant = nn.Parameter(torch.ones(constant or ()))
        self.drop, self.then = nn.Dropout(0.5), then

    def forward(self, x):
        return self.head(self.then(self, self.act(self.conv(x))).flatten(1))


CONVERTED = {
    "constant minus value": (lambda m, y: m.last(m.constant - y), (4, 1, 1)),
    "alpha behind a constant": (lambda m, y: m.last(torch.add(m.constant, y, alpha=2)), (1,)),
    "alpha behind a subtracted constant": (lambda m, y: m.last(torch.sub(m.constant, y, alpha=2)), (1, 4, 1, 1)),
    "number minus value": (lambda m, y: m.last(0.9 - y), None),
    "negated": (lambda m, y: m.last(-y + 0.3), None),
    "one number for all": (lambda m, y: m.last(y * m.constant), (1,)),
    "one number for all in every axis": (lambda m, y: m.last(y / m.constant), (1, 1, 1, 1)),
    "a threshold for each column": (
        lambda m, y: torch.ops.pascal_nm.qcfs(y * 0.7, m.constant.abs() + 0.2, 4),
        (8,),
    ),
    "flattened and taken back": (lambda m, y: m.last(y.flatten(1).view(-1, 4, 8, 8) * m.constant), (4, 1, 1)),
    "activation of a vector": (lambda m, y: m.last(y.flatten(1) * 1.1), None),
    "a weight computed from parameters": (
        lambda m, y: m.last(F.conv2d(y, m.constant / m.constant.norm())),
        (4, 4, 3, 3),
    ),
    "an even dilated kernel and its own input": (
        lambda m, y: m.last(F.conv2d(y, m.constant, padding=1, dilation=2) + y),
        (4, 4, 2, 2),
    ),
    "added in place": (lambda m, y: m.last(y.clone().add_(y)), None),
    "an inactive dropout that is changed in place": (lambda m, y: (m.drop(y).mul_(2), m.last(y))[1], None),
}


@pytest.mark.parametrize(("then", "constant"), CONVERTED.values(), ids=CONVERTED)
def test_constants_broadcast_as_in_torch_and_what_is_done_in_place_is_seen(then, constant):
    features = 4 * 36 if constant == (4, 4, 3, 3) else None
    module = networks.randomized(Between(then, constant, features=features))
    x = networks.images()
    graph = pnm.convert(module, x)
    np.testing.assert_allclose(simulate.counts(graph, x.numpy()).logits, module(x).detach().numpy(), rtol=1e-9)


UNEVEN = {
    "thresholds of pixels in front of a max-pooling": (
        lambda m, y: F.max_pool2d(torch.ops.pascal_nm.qcfs(y * 0.7, m.constant.abs() + 0.2, 4), 3, 1, 1),
        (1, 8, 8),
        4,
    ),
    "a number for each column, as many as channels": (lambda m, y: m.last(y * m.constant), (1, 1, 1, 8), 8),
    "a number for each column": (lambda m, y: m.last(y * m.constant), (8,), 4),
    "a number for each row": (lambda m, y: m.last(y + m.constant), (1, 8, 1), 8),
    "a number for each pixel, as many as channels": (lambda m, y: m.last(y - m.constant), (1, 1, 8, 8), 64),
    "more channels than there are": (lambda m, y: m.last(y[:, :1] * m.constant), (4, 1, 1), 4),
    "thresholds of pixels in front of an average pooling": (
        lambda m, y: m.last(F.avg_pool2d(torch.ops.pascal_nm.qcfs(y * 0.7, m.constant.abs() + 0.2, 4), 3, 1, 1)),
        (1, 8, 8),
        4,
    ),
    "thresholds of pixels behind a max-pooling": (
        lambda m, y: torch.ops.pascal_nm.qcfs(F.max_pool2d(y * 0.7 + 0.1, 3, 1, 1), m.constant.abs() + 0.2, 4),
        (1, 8, 8),
        4,
    ),
}


@pytest.mark.parametrize(("then", "constant", "channels"), UNEVEN.values(), ids=UNEVEN)
def test_what_differs_from_pixel_to_pixel_converts(then, constant, channels):
    module = networks.randomized(Between(then, constant, channels))
    with torch.no_grad():
        module.constant.add_(
            torch.randn(module.constant.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        )
    x = networks.images()
    graph = pnm.convert(module, x)
    np.testing.assert_allclose(simulate.counts(graph, x.numpy()).logits, module(x).detach().numpy(), rtol=1e-9)


NOT_CONVERTED = {
    "whole numbers": (lambda m, y: m.last((y * 4).int().to(y.dtype)), None),
    "whole numbers of 16 bits": (lambda m, y: m.last((y * 4).type(torch.int16).to(y.dtype)), None),
    "half precision": (lambda m, y: m.last((y * 0.3).half().to(y.dtype)), None),
    "a dropout that is always active": (lambda m, y: m.last(F.dropout(y, 0.5)), None),
    "thresholds of pixels behind the largest of sums": (
        lambda m, y: torch.ops.pascal_nm.qcfs(
            F.max_pool2d(y + F.conv2d(y, m.constant.new_ones(4, 4, 1, 1)), 3, 1, 1), m.constant.abs() + 0.2, 4
        ),
        (1, 8, 8),
    ),
}


@pytest.mark.parametrize(("then", "constant"), NOT_CONVERTED.values(), ids=NOT_CONVERTED)
def test_what_changes_its_type_or_the_order_of_pixels_is_refused(then, constant):
    module = networks.randomized(Between(then, constant, 4))
    with torch.no_grad():
        module.constant.add_(
            torch.randn(module.constant.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        )
    with pytest.raises(ConversionError) as refusal:
        pnm.convert(module, networks.images())
    assert "is not the source network" not in str(refusal.value), "the proof had to catch it"


def test_a_program_in_training_mode_is_refused():
    module = networks.randomized(networks.convolutional()).train()
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(module, (networks.images(),), dynamic_shapes=(batch,))
    with pytest.raises(ConversionError, match=r"evaluation mode|while it runs"):
        pnm.convert(program)


class Counts(nn.Module):
    """A network that changes a buffer of its own in each forward pass."""

    def __init__(self):
        super().__init__()
        self.hidden, self.act, self.head = nn.Linear(128, 8), QCFS(4), nn.Linear(8, 3)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.seen.add_(1)
        return self.head(self.act(self.hidden(x.flatten(1)) + self.seen))


def test_a_network_that_keeps_a_state_is_refused_by_the_name_of_its_state():
    with pytest.raises(ConversionError, match="'seen'"):
        pnm.convert(networks.randomized(Counts()), networks.images())


class ChangesItsInput(nn.Module):
    """Centres its input in place, as some preprocessing does."""

    def __init__(self):
        super().__init__()
        self.hidden, self.act, self.head = nn.Linear(128, 8), QCFS(4), nn.Linear(8, 3)

    def forward(self, x):
        x -= 0.5
        return self.head(self.act(self.hidden(x.flatten(1))))


def test_the_callers_arrays_are_left_as_they_were():
    module, example, x = networks.randomized(ChangesItsInput()), networks.images(2), networks.images(8).numpy()
    before = example.clone(), x.copy()
    source = SourceNetwork(module, example)
    graph = pnm.convert(source, example)
    logits, _ = source.levels(x)
    again = source(x)
    result = simulate.steps(graph, x)
    assert torch.equal(example, before[0])
    np.testing.assert_array_equal(x, before[1])
    np.testing.assert_array_equal(logits, again)
    np.testing.assert_allclose(result.logits, logits, rtol=1e-12)


def test_whole_numbers_as_inputs_are_refused():
    class Pixels(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = networks.perceptron()

        def forward(self, x):
            return self.net(x.float() / 255)

    with pytest.raises(ConversionError, match="uint8"):
        pnm.convert(Pixels(), torch.zeros(1, 2, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("levels", [40_000, 10**9])
def test_more_levels_than_a_count_can_hold_are_refused_by_number(levels):
    module = networks.randomized(nn.Sequential(nn.Flatten(), nn.Linear(128, 8), QCFS(levels), nn.Linear(8, 3)))
    with pytest.raises(ConversionError, match=rf"1 to 32,767, not {levels:,}"):
        pnm.convert(module, networks.images())


class Then(nn.Module):
    """A perceptron of the input, and what is done with its output."""

    def __init__(self, then=lambda y: y):
        super().__init__()
        self.network, self.then = networks.perceptron(), then

    def forward(self, x):
        return self.then(self.network(x))


SINGULAR = {
    "levels by the number of images": (
        lambda y: torch.ops.pascal_nm.qcfs(y, torch.ones(()), y.shape[0]),
        "number of images",
    ),
    "a factor by the number of images": (lambda y: y * y.shape[0], "number of images"),
    "a number of images that Python sees": (lambda y: y * len(y), "for any number of images"),
    "another way for many images": (lambda y: y if y.shape[0] < 5 else 2 * y, "for 4 at most"),
    "another way for an even number of images": (lambda y: y if y.shape[0] % 2 == 0 else 2 * y, "Guard failed"),
    "a number instead of a tensor": (lambda y: 3, "returns 3"),
    "nothing": (lambda y: None, "no tensor"),
    "NaN": (lambda y: y + float("nan"), "NaN or infinite"),
    "infinity": (lambda y: y * float("inf"), "NaN or infinite"),
    "a threshold below the least normal number": (
        lambda y: torch.ops.pascal_nm.qcfs(y * 1e-310, torch.tensor(1e-310, dtype=torch.float64), 4),
        "qcfs cannot be converted: its threshold is zero, or too small",
    ),
}


@pytest.mark.parametrize(("then", "reason"), SINGULAR.values(), ids=SINGULAR)
def test_what_depends_on_the_number_of_images_or_is_no_number_is_refused_in_one_line(then, reason):
    with pytest.raises(ConversionError, match=reason) as refusal:
        pnm.convert(networks.randomized(Then(then)), networks.images())
    assert "please report" not in str(refusal.value)


def test_an_activation_inside_of_no_grad_is_named_as_such():
    class Region(Then):
        def forward(self, x):
            with torch.no_grad():
                return self.network(x) * 1

    with pytest.raises(ConversionError, match=r"region of its own"):
        pnm.convert(networks.randomized(Region()), networks.images())


def test_a_single_image_is_run_where_the_program_was_traced_with_two():
    module, x = networks.randomized(Then(torch.squeeze)), networks.images(3)
    source = SourceNetwork(module, x)
    np.testing.assert_allclose(source(x[:1]), module(x)[:1].detach().numpy(), rtol=1e-12)
    assert source.levels(x[:1])[0].shape == (1, 3)


PROGRAMS = {
    "by keyword": ((), {"x": 0}, None),
    "for any number by keyword": ((), {"x": 0}, {"x": {0: torch.export.Dim.DYNAMIC}}),
    "for three images at most": ((0,), {}, {"x": {0: torch.export.Dim("images", max=3)}}),
}


@pytest.mark.parametrize(("args", "kwargs", "shapes"), PROGRAMS.values(), ids=PROGRAMS)
def test_programs_take_their_input_as_they_were_exported(args, kwargs, shapes):
    module, x = networks.randomized(Then()), networks.images(7)
    args, kwargs = tuple(x[:2] for _ in args), {key: x[:2] for key in kwargs}
    source = SourceNetwork(torch.export.export(module, args, kwargs, dynamic_shapes=shapes))
    np.testing.assert_allclose(source(x), module(x).detach().numpy(), rtol=1e-12)
    graph = pnm.convert(source)
    np.testing.assert_allclose(simulate.counts(graph, x.numpy()).logits, source.levels(x)[0], rtol=1e-9)


def test_an_input_of_a_program_that_is_no_tensor_is_refused():
    class Scaled(Then):
        def forward(self, x, scale):
            return self.network(x * scale)

    program = torch.export.export(networks.randomized(Scaled()), (networks.images(2), 2.0))
    with pytest.raises(ConversionError, match="takes 2 inputs"):
        pnm.convert(program)


@pytest.mark.parametrize("wrapped", [torch.compile, nn.DataParallel])
def test_a_module_that_passes_on_all_of_its_arguments_converts(wrapped):
    module, x = networks.randomized(networks.perceptron()), networks.images()
    found, expected = (simulate.counts(pnm.convert(m, x), x.numpy()) for m in (wrapped(module), module))
    np.testing.assert_array_equal(found.logits, expected.logits)


def test_an_example_that_cannot_be_repeated_is_refused():
    with pytest.raises(ConversionError, match="cannot trace"):
        pnm.convert(networks.randomized(networks.perceptron()), networks.images().to_sparse())


def test_an_output_behind_no_activation_is_refused():
    class Beside(Then):
        def forward(self, x):
            self.network(x)
            return x.flatten(1)

    with pytest.raises(ConversionError, match="depends on no QCFS activation"):
        pnm.convert(networks.randomized(Beside()), networks.images())


def test_a_program_for_no_images_is_refused():
    program = torch.export.export(networks.randomized(networks.perceptron()), (networks.images(0),))
    with pytest.raises(ConversionError, match="no images"):
        SourceNetwork(program)


LINEAR = {
    "two operations on one activation": lambda m, y: F.conv2d(y, m.square, padding=1) + F.conv2d(y, m.mixing),
    "an average and another": lambda m, y: F.avg_pool2d(y, 2, 1, 1) + F.avg_pool2d(y, 4, 1, 2),
    "three operations on one activation": lambda m, y: (
        F.conv2d(y, m.square, padding=1) + F.conv2d(y, m.square, padding=2, dilation=2) + y
    ),
    # What stands between two activations: it must be folded into one projection, or be
    # refused with a reason.
    "an average that divides by its own number": lambda m, y: F.avg_pool2d(y, 2, divisor_override=3),
    "an average that pads": lambda m, y: F.avg_pool2d(y, 3, 2, 1),
    "an average whose windows overlap": lambda m, y: F.avg_pool2d(y, (3, 2), (1, 2)),
    "an average in ceil mode that hangs over no border": lambda m, y: F.avg_pool2d(y, 2, ceil_mode=True),
    "an average that counts no padding and has none": lambda m, y: F.avg_pool2d(y, 2, count_include_pad=False),
    "an average of an average": lambda m, y: F.avg_pool2d(F.avg_pool2d(y, (2, 1)), (2, 4), (1, 2)),
    "an average of a value with a bias": lambda m, y: F.avg_pool2d(y + 0.3, 2, divisor_override=3),
    "averages of other divisors": lambda m, y: F.avg_pool2d(y, 2) - F.avg_pool2d(y, 2, divisor_override=3),
    "a mean": lambda m, y: y.mean((2, 3)),
    "a mean from behind that keeps its axes": lambda m, y: y.mean((-1, -2), keepdim=True),
    "an adaptive average that keeps one axis": lambda m, y: F.adaptive_avg_pool2d(y, (None, 2)),
    "an average of a convolution": lambda m, y: F.avg_pool2d(F.conv2d(y, m.square, m.own, (2, 1)), (2, 3), (1, 2)),
    "an average of a grouped convolution": lambda m, y: F.avg_pool2d(F.conv2d(y, m.grouped, groups=2), 2),
    "a convolution of an average": lambda m, y: F.conv2d(F.avg_pool2d(y, 2), m.square, m.own),
    "a convolution of a value with a bias": lambda m, y: F.conv2d(y * m.each + m.each, m.square, m.own),
    "a grouped convolution of a value with a bias": lambda m, y: F.conv2d(y * m.each - m.each, m.grouped, groups=2),
    "a convolution with the padding of its own size": lambda m, y: F.conv2d(y, m.square, padding="same", dilation=2),
    "a convolution that is valid": lambda m, y: F.conv2d(y, m.square, padding="valid"),
    "a 1x1 convolution of a convolution": lambda m, y: F.conv2d(F.conv2d(y, m.square, m.own, 2, 1), m.mixing),
    "a convolution of a 1x1 convolution": lambda m, y: F.conv2d(F.conv2d(y, m.mixing), m.square, m.own, 2, 1),
    "a convolution and its own input": lambda m, y: F.conv2d(y, m.square, padding=1) + y * m.each,
    "its own input and a dilated convolution": lambda m, y: y - F.conv2d(y, m.square, padding=2, dilation=2),
    "two convolutions of one activation": lambda m, y: F.conv2d(y, m.square) + F.conv2d(y, m.square * 2, m.own),
    "a linear map of a convolution": lambda m, y: F.linear(F.conv2d(y, m.square, m.own, 2).flatten(1), m.rows),
    "a linear map of a convolution of an average": (
        lambda m, y: F.linear(F.conv2d(F.avg_pool2d(y, (1, 1)), m.square, None, 2).flatten(1), m.rows)
    ),
    "a linear map of scaled channels": lambda m, y: F.linear((F.avg_pool2d(y, 2) * m.each + 1).flatten(1), m.wide),
    "a normalization without weights": lambda m, y: F.batch_norm(y, m.own, m.own.abs() + 1),
    "a normalization of a vector": lambda m, y: F.batch_norm(y.mean((2, 3)), m.own, m.own.abs() + 1, m.own, m.own),
    "the largest of overlapping windows": lambda m, y: F.max_pool2d(y, 3, 2, 1),
    "the largest of the largest": lambda m, y: F.max_pool2d(F.max_pool2d(y, 2, 1), (2, 1)),
    "the largest of scaled counts": lambda m, y: F.max_pool2d(y * -m.each, 2),
    "what something else uses in vain": lambda m, y: (m.last(y * 2), y)[1],
    "the same twice": lambda m, y: y + y,
    "nothing of it": lambda m, y: y * 0 + m.each,
    # What no single fast form holds.
    "a bias at a border of a convolution": lambda m, y: F.conv2d(y + m.each, m.square, padding=(0, 1)),
    "a bias at a border of an average": lambda m, y: F.avg_pool2d(y + m.each, 2, 2, 1),
    "an average that counts no padding": lambda m, y: F.avg_pool2d(y, 3, 2, 1, count_include_pad=False),
    "an average in ceil mode": lambda m, y: F.avg_pool2d(y, 3, ceil_mode=True),
    "an average in ceil mode with another divisor": lambda m, y: F.avg_pool2d(y, 3, 2, 1, True, divisor_override=5),
    "a largest in ceil mode": lambda m, y: F.max_pool2d(y, 3, ceil_mode=True),
    "a largest in ceil mode of a sum": lambda m, y: F.max_pool2d(F.conv2d(y, m.mixing), 3, 2, ceil_mode=True),
    "an average of overlapping averages": lambda m, y: F.avg_pool2d(F.avg_pool2d(y, 2, 1), 2),
    "an average of an average that pads": lambda m, y: F.avg_pool2d(F.avg_pool2d(y, 2, 2, 1), 2),
    "an average that pads of an average": lambda m, y: F.avg_pool2d(F.avg_pool2d(y, 2), 2, 2, 1),
    "an average that pads of a convolution": lambda m, y: F.avg_pool2d(F.conv2d(y, m.square), 2, 2, 1),
    "an average of a dilated convolution": lambda m, y: F.avg_pool2d(F.conv2d(y, m.square, dilation=2), 2),
    "an adaptive average that does not divide": lambda m, y: F.adaptive_avg_pool2d(y, (3, 5)),
    "a mean over channels": lambda m, y: y.mean((1, 2)),
    "a mean over columns": lambda m, y: y.mean((3,)),
    "a sum over rows": lambda m, y: y.sum(2, keepdim=True),
    "two convolutions": lambda m, y: F.conv2d(F.conv2d(y, m.square), m.square),
    "two convolutions that pad": lambda m, y: F.conv2d(F.conv2d(y, m.square, m.own, padding=1), m.square, padding=1),
    "a 1x1 convolution that strides before another": lambda m, y: F.conv2d(F.conv2d(y, m.mixing, stride=2), m.square),
    "a 1x1 convolution that strides behind another": lambda m, y: F.conv2d(F.conv2d(y, m.square), m.mixing, stride=2),
    "a 1x1 convolution that pads behind another": lambda m, y: F.conv2d(F.conv2d(y, m.square), m.mixing, padding=1),
    "a grouped convolution of a convolution": lambda m, y: F.conv2d(F.conv2d(y, m.mixing), m.grouped, groups=2),
    "depthwise, then pointwise": lambda m, y: F.conv2d(F.conv2d(y, m.deep, m.own, padding=1, groups=4), m.mixing),
    "kernels of three sizes": lambda m, y: F.conv2d(y, m.square, padding=1) + F.conv2d(y, m.mixing) + y * m.each,
    "an even kernel with the padding of its own size": lambda m, y: F.conv2d(y, m.square[:, :, :2], padding="same"),
    "an even dilated kernel with the padding of its own size": (
        lambda m, y: F.conv2d(y, m.square[:, :, :2, :2], padding="same", dilation=(3, 2))
    ),
    "a transposed convolution": (
        lambda m, y: F.conv_transpose2d(y, m.square, m.own, stride=2, padding=1, output_padding=1)
    ),
    "a grouped transposed convolution": lambda m, y: F.conv_transpose2d(y, m.grouped.mT, groups=2, dilation=2),
    "one axis": lambda m, y: F.conv1d(y.flatten(2), m.square[:, :, 0], m.own, 2, 1),
    "an average along one axis": lambda m, y: F.avg_pool1d(y.flatten(2), 3, 2, 1),
    "the largest along one axis": lambda m, y: F.max_pool1d(y.flatten(2), 3, 2, 1),
    "a transposed convolution along one axis": lambda m, y: F.conv_transpose1d(
        y.flatten(2), m.square[:, :, 0], stride=3
    ),
    "three axes": lambda m, y: F.conv3d(y[:, None], m.square[:2, :1, None], padding=(2, 1, 0), stride=(2, 1, 1)),
    "three axes in groups": (
        lambda m, y: F.conv3d(y.view(-1, 2, 2, 8, 8), m.grouped[:, :1].unsqueeze(2).repeat(1, 1, 2, 1, 1), groups=2)
    ),
    "an average along three axes": lambda m, y: F.avg_pool3d(y[:, None], 2),
    "a linear map of rows": lambda m, y: y @ m.wide[:, :8].T,
    "a matrix in front": lambda m, y: m.rows[:, :8] @ y,
    "a layer on rows": lambda m, y: F.linear(y, m.wide[:, :8], m.rows[:, 0]),
    "a contraction": lambda m, y: torch.einsum("bchw,co->boh", y, m.square[:, :, 0, 0]),
    "a transposed map": lambda m, y: y.transpose(2, 3),
    "a concatenation": lambda m, y: torch.cat([y, y * 2], 1),
    "a concatenation of a sum and a largest": (
        lambda m, y: torch.cat([F.conv2d(y, m.square, stride=2, padding=1), F.max_pool2d(y, 2)], 1)
    ),
    "the largest of a concatenation": lambda m, y: F.max_pool2d(torch.cat([y * m.each + 0.1, -y], 1), 3, 2),
    "a stack": lambda m, y: torch.stack([y, y + 1], 2).flatten(1, 2),
    "a sum of a stack in front of the images": lambda m, y: (
        torch.stack([y, y.flip(3) + 1], 0).sum((0, 3)) + torch.stack([y, -y], 0).mean((2,), keepdim=True)[1, :, 0, :4]
    ),
    "a stack in front of the images": lambda m, y: torch.stack([y, y.flip(3) + 1, -y]).mean(0),
    "images last": lambda m, y: (y.flatten(1).T * 0.5).T + y.permute(1, 2, 3, 0).permute(3, 0, 1, 2).flatten(1),
    "chunks": lambda m, y: y.chunk(2, 1)[1] + y.split([1, 3], 1)[1][:, :2],
    "a map of other rows": lambda m, y: y.reshape(-1, 4, 4, 16),
    "a convolution of other rows": lambda m, y: F.conv2d(y.reshape(-1, 4, 4, 16), m.square, padding=1),
    "shuffled channels": lambda m, y: F.conv2d(F.channel_shuffle(y, 2), m.grouped, groups=2),
    "shuffled pixels": lambda m, y: F.conv2d(F.pixel_shuffle(y, 2), m.square[:, :1], padding=1),
    "unshuffled pixels": lambda m, y: F.pixel_unshuffle(y, 2),
    "nearest pixels": lambda m, y: F.conv2d(F.interpolate(y, scale_factor=2), m.square, padding=1),
    "pixels in between": lambda m, y: F.interpolate(y, (13, 11), mode="bilinear", align_corners=False),
    "pixels in between, corners on corners": (
        lambda m, y: F.conv2d(F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=True), m.mixing)
    ),
    "padded with a number": lambda m, y: F.conv2d(F.pad(y, (1, 2, 0, 1), value=0.7), m.square),
    "padded with a mirror": lambda m, y: F.conv2d(F.pad(y, (1, 1, 2, 2), mode="reflect"), m.square),
    "padded with its edge": lambda m, y: F.avg_pool2d(F.pad(y, (1, 1, 1, 1), mode="replicate"), 2),
    "padded in a circle": lambda m, y: F.conv2d(F.pad(y, (1, 1, 1, 1), mode="circular"), m.square),
    "a crop, turned": lambda m, y: y[:, :, 1:7, 2:].flip(3).rot90(1, (2, 3)),
    "rolled": lambda m, y: y.roll((1, 3), (1, 2)),
    "chosen channels": lambda m, y: y[:, [2, 0, 0]],
    "windows as channels": lambda m, y: F.unfold(y, 3, stride=2)[:, ::2],
    "less its own mean": lambda m, y: y - y.mean((2, 3), keepdim=True),
    "a number for each column": lambda m, y: F.conv2d(y * m.rows[0, :8], m.square, padding=1),
    "a number for each pixel": lambda m, y: y * m.rows[:8, :8].new_ones(8, 8).cumsum(0) * 0.1 + m.wide[0].view(8, 8),
    "a normalization of the flattened": lambda m, y: F.batch_norm(y.flatten(1), *(m.wide[:4].abs().flatten(),) * 2),
    "scaled behind the largest": lambda m, y: F.max_pool2d(F.conv2d(y, m.square), 2) * m.each + m.own[:, None, None],
    "the largest of the largest, scaled": (
        lambda m, y: F.max_pool2d(F.max_pool2d(F.conv2d(y, m.mixing), 2, 1) * -m.each, 3, 2)
    ),
    "the largest of dilated windows": lambda m, y: F.max_pool2d(y, 2, dilation=2),
    "a convolution of the largest of sums": (
        lambda m, y: F.conv2d(F.max_pool2d(y * 0.7 + F.conv2d(y, m.mixing), 2), m.mixing)
    ),
    "the largest of the input, and of a sum": lambda m, y: (
        F.max_pool2d(-y - F.conv2d(y, m.square, padding=1), 3, 2) + 0.1
    ),
    "the largest of groups of channels": lambda m, y: F.max_pool2d(y.unflatten(1, (2, 2)).amax(2), 2),
    "the largest in windows that do not divide": lambda m, y: F.adaptive_max_pool2d(F.conv2d(y, m.mixing), (3, 5)),
    "the largest of all pixels": lambda m, y: F.adaptive_max_pool2d(y, 1) + y.amax((2, 3), keepdim=True) * 0.3,
    "repeated for each image": lambda m, y: torch.cat([m.rows[:1, :1].expand(y.shape[0], -1), y.flatten(1)], 1),
    "cumulated": lambda m, y: y.cumsum(1),
    "normalized weights": lambda m, y: F.conv2d(y, (m.square - m.square.mean()) / m.square.std()),
}


class Parameters(nn.Module):
    """An activation, ``then`` something, another activation, and a head; parameters of
    several shapes to use.
    """

    def __init__(self, then):
        super().__init__()
        self.conv, self.act, self.last, self.then = nn.Conv2d(2, 4, 3, padding=1), QCFS(4), QCFS(5), then
        for name, shape in {
            "square": (4, 4, 3, 3), "grouped": (4, 2, 2, 2), "mixing": (4, 4, 1, 1), "each": (4, 1, 1), "own": (4,),
            "rows": (6, 36), "wide": (6, 64), "deep": (4, 1, 3, 3),
        }.items():  # fmt: skip
            setattr(self, name, nn.Parameter(torch.ones(shape), requires_grad=False))
        with torch.no_grad():
            self.head = nn.Linear(then(self, torch.zeros(1, 4, 8, 8)).flatten(1).shape[1], 3)

    def forward(self, x):
        return self.head(self.last(self.then(self, self.act(self.conv(x))) * 0.7 + 0.2).flatten(1))


@pytest.mark.parametrize("then", LINEAR.values(), ids=LINEAR)
def test_what_is_linear_between_two_activations_is_folded_exactly(then):
    module, x = networks.randomized(Parameters(then), 2), networks.images()
    source = SourceNetwork(module, x)
    graph = pnm.convert(source, check=False)
    logits, levels = source.levels(x)
    result = simulate.counts(graph, x.numpy())
    for name in levels.keys() & result.counts.keys():
        np.testing.assert_array_equal(result.counts[name].reshape(levels[name].shape), levels[name])
    np.testing.assert_allclose(result.logits, logits, rtol=1e-9, atol=1e-9)


NOT_LINEAR = {
    "a product of activations": (lambda m, y: y * m.last(y), "product of two activations"),
    "a gate by a matrix": (lambda m, y: y @ m.last(y), "product of two activations"),
    "a quotient of activations": (lambda m, y: y / (m.last(y) + 1), "a quotient with an activation below"),
    "a division by zero": (lambda m, y: y / (m.each * torch.tensor([1, 0, 1, 1]).view(4, 1, 1)), "divides by zero"),
    "a random weight": (lambda m, y: F.conv2d(y, torch.rand(4, 4, 1, 1, dtype=y.dtype)), "is random"),
    "a power": (lambda m, y: y**2, "pow cannot be converted: it is not linear"),
    "an order": (lambda m, y: y.sort(1).values, "sort cannot be converted"),
    "images of a batch in another order": (lambda m, y: y.flip(0), "images of a batch"),
    "a difference between images": (lambda m, y: y - y.roll(1, 0), "images of a batch"),
    "a parallel leaky activation": (lambda m, y: F.leaky_relu(y - 0.2), "LeakyReLU is not QCFS"),
}


@pytest.mark.parametrize(("then", "reason"), NOT_LINEAR.values(), ids=NOT_LINEAR)
def test_what_has_no_one_projection_is_refused_by_a_reason_of_its_own(then, reason):
    with pytest.raises(ConversionError, match=reason):
        pnm.convert(networks.randomized(Parameters(then), 2), networks.images(), check=False)
