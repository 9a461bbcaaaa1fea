"""The bound on rounding is, operation by operation, the sum of magnitudes times gamma of the
roundings behind it.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pascal_nm import QCFS
from pascal_nm.source import rounding
from pascal_nm.source.tracing import SourceNetwork

ROUNDOFF = 2.0**-24
FLOAT32 = np.finfo(np.float32)


class Then(nn.Module):
    """An activation of negative amplitude, and one operation behind it."""

    def __init__(self, then, before=lambda x: x):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.before, self.act, self.then = before, QCFS(4, -1.5), then
        for name, shape in {"c": (4, 1, 1), "w": (4, 4, 3, 3), "m": (5, 4), "b": (4,), "d": (4,), "v": (4,)}.items():
            number = torch.randn(shape, generator=generator, dtype=torch.float64)
            setattr(self, name, nn.Parameter(number, requires_grad=False))
        self.v.data.abs_().add_(0.1)

    def forward(self, x):
        return self.then(self, self.act(self.before(x)))


def normalized(m, y, training=False):
    return F.batch_norm(y, m.d, m.v, m.w[:, 0, 0, 0], m.b, training, eps=0.25)


def normalized_magnitude(m, y):
    mean, scale = m.d.abs().view(-1, 1, 1), (m.w[:, 0, 0, 0].abs() / torch.sqrt(m.v + 0.25)).view(-1, 1, 1)
    return (y + mean) * scale + m.b.abs().view(-1, 1, 1)


MAP, VECTOR = (4, 5, 5), (4,)
OPERATIONS = {
    # What the network does, the sum of the magnitudes (of y, which is one already), and how
    # often it rounds.
    "a sum": (MAP, lambda m, y: y + m.c, lambda m, y: y + m.c.abs(), 1),
    "a sum with alpha": (MAP, lambda m, y: torch.add(y, m.c, alpha=-2), lambda m, y: y + 2 * m.c.abs(), 2),
    "alpha behind a constant": (MAP, lambda m, y: torch.add(m.c, y, alpha=3), lambda m, y: 3 * y + m.c.abs(), 2),
    "a difference": (MAP, lambda m, y: y - m.c, lambda m, y: y + m.c.abs(), 1),
    "a constant less a value": (MAP, lambda m, y: m.c - y, lambda m, y: y + m.c.abs(), 1),
    "a number less a value": (MAP, lambda m, y: 0.7 - y, lambda m, y: y + 0.7, 1),
    "a number less a value with alpha": (MAP, lambda m, y: torch.rsub(y, -7, alpha=2), lambda m, y: 2 * y + 7, 2),
    "what cancels": (MAP, lambda m, y: y + m.c - m.c, lambda m, y: y + 2 * m.c.abs(), 2),
    "itself, twice": (MAP, lambda m, y: y - y, lambda m, y: y + y, 1),
    "a product": (MAP, lambda m, y: y * m.c, lambda m, y: y * m.c.abs(), 1),
    "a product with a number": (MAP, lambda m, y: y * -2.5, lambda m, y: y * 2.5, 1),
    "a quotient": (MAP, lambda m, y: y / m.c, lambda m, y: y / m.c.abs(), 1),
    "a quotient by a number": (MAP, lambda m, y: y / -2.5, lambda m, y: y / 2.5, 1),
    "its negative": (MAP, lambda m, y: -y, lambda m, y: y, 0),
    "a copy": (MAP, lambda m, y: y.clone(), lambda m, y: y, 0),
    "an inactive dropout": (MAP, lambda m, y: F.dropout(y, 0.5, training=False), lambda m, y: y, 0),
    "in place": (MAP, lambda m, y: y.clone().sub_(m.c), lambda m, y: y + m.c.abs(), 1),
    "a normalization": (MAP, normalized, normalized_magnitude, 6),
    "a normalization of nothing else": (
        MAP,
        lambda m, y: F.batch_norm(y, m.d, m.v, eps=0.0),
        lambda m, y: (y + m.d.abs().view(-1, 1, 1)) / m.v.sqrt().view(-1, 1, 1),
        3,
    ),
    "a normalization behind what is done in place": (
        MAP,
        lambda m, y: normalized(m, y.clone().mul_(-2)),
        lambda m, y: normalized_magnitude(m, 2 * y),
        7,
    ),
    "a convolution": (
        MAP,
        lambda m, y: F.conv2d(y, m.w, m.b, stride=2),
        lambda m, y: F.conv2d(y, m.w.abs(), m.b.abs(), stride=2),
        4 * 9 + 1,
    ),
    "a convolution that pads": (
        MAP,
        lambda m, y: F.conv2d(y, m.w, padding="same"),
        lambda m, y: F.conv2d(y, m.w.abs(), padding=1),
        4 * 9,
    ),
    "a linear map": (
        VECTOR,
        lambda m, y: F.linear(y, m.m, m.m[:, 0]),
        lambda m, y: y @ m.m.abs().T + m.m[:, 0].abs(),
        5,
    ),
    # An average counts all numbers of an image for those of its window.
    "an average": (MAP, lambda m, y: F.avg_pool2d(y, 2), lambda m, y: F.avg_pool2d(y, 2), 100),
    "a mean": (MAP, lambda m, y: y.mean((2, 3)), lambda m, y: y.mean((2, 3)), 100),
    "an adaptive average": (
        MAP,
        lambda m, y: F.adaptive_avg_pool2d(y, 1),
        lambda m, y: y.mean((2, 3), keepdim=True),
        100,
    ),
    "a maximum": (MAP, lambda m, y: F.max_pool2d(y, 2), lambda m, y: F.max_pool2d(y, 2), 0),
}


@pytest.mark.parametrize(("shape", "then", "magnitude", "roundings"), OPERATIONS.values(), ids=OPERATIONS)
def test_the_bound_of_an_operation_is_its_magnitudes_times_gamma(shape, then, magnitude, roundings):
    module = Then(then).eval()
    inputs = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    source = SourceNetwork(module, inputs)
    levels = {"act": np.random.default_rng(2).uniform(0, 4, inputs.shape)}
    found = rounding.errors(source, inputs.numpy(), levels, FLOAT32)
    with torch.no_grad():
        size = magnitude(module, torch.from_numpy(levels["act"]) * (1.5 / 4)).flatten(1).numpy()
    times = found.outputs / (size * ROUNDOFF)
    np.testing.assert_allclose(times, times.max(), rtol=1e-6, err_msg="one gamma for all")
    # A level times its step rounds twice. The bound may be a few roundings above what is
    # needed, not many.
    assert roundings + 2 <= times.max() <= 2 * roundings + 18


def test_the_bound_of_an_activation_is_that_of_its_argument_in_steps_of_a_level():
    module = Then(lambda m, y: y.clone(), before=lambda x: x * 3 - 7)
    inputs = torch.linspace(-2, 2, 8, dtype=torch.float64).reshape(2, 4)
    source = SourceNetwork(module, inputs)
    found = rounding.errors(source, inputs.numpy(), {"act": np.zeros((2, 4))}, FLOAT32)
    times = found.activations["act"] / ((np.abs(inputs.numpy()) * 3 + 7) * 4 / 1.5 * ROUNDOFF)
    np.testing.assert_allclose(times, times.max(), rtol=1e-6)
    assert 2 <= times.max() <= 32
    assert not found.outputs.any(), "a level of zero has no error"


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_a_program_for_a_fixed_number_of_images_has_the_same_bounds(batch):
    module = Then(lambda m, y: F.linear(y, m.m, m.m[:, 0]))
    inputs = torch.randn(10, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    levels = {"act": np.random.default_rng(2).uniform(0, 4, (10, 4))}
    fixed = SourceNetwork(torch.export.export(module, (inputs[:batch],)))
    whole = rounding.errors(SourceNetwork(module, inputs), inputs.numpy(), levels, FLOAT32)
    parts = rounding.errors(fixed, inputs.numpy(), levels, FLOAT32)
    columns = {"output": slice(None)}
    for name in ("act", "output"):
        assert parts.of(name, columns).shape == (10, *whole.of(name, columns).shape[1:])
        np.testing.assert_allclose(parts.of(name, columns), whole.of(name, columns), rtol=1e-12)


def test_gamma_is_highams_and_infinite_where_there_is_no_bound():
    assert rounding.gamma(0, FLOAT32) == 0
    assert rounding.gamma(100, FLOAT32) == 100 * 2.0**-24 / (1 - 100 * 2.0**-24)
    assert rounding.gamma(2**23, FLOAT32) == 1
    assert rounding.gamma(2**24, FLOAT32) == math.inf
    assert rounding.gamma(2**25, FLOAT32) == math.inf
