"""Random modules of the operations that convert: each is refused, or equal in every level
and every output.

``RANDOM_NETWORKS=2000 python -m pytest tests/test_random_networks.py -m ''`` says how many the slow
test takes, from ``RANDOM_SEED`` on (0).
"""

import os
import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pascal_nm as pnm
from pascal_nm.errors import ConversionError
from pascal_nm.simulation import simulate
from pascal_nm.source.tracing import SourceNetwork
from pascal_nm.source.verification import Verification

FEW = range(40)
MANY = range(start := int(os.environ.get("RANDOM_SEED", 0)), start + int(os.environ.get("RANDOM_NETWORKS", 2000)))


class Program(nn.Module):
    """A list of operations with their parameters; each takes the values so far, and appends one."""

    def __init__(self, seed):
        super().__init__()
        self.rng = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.operations, self.constants = [], nn.ParameterList()
        side = self.rng.choice([4, 5, 6, 8])
        self.shape = (self.rng.choice([1, 2, 3, 4, side]), side, self.rng.choice([side, side, 7]))
        self.example = torch.randn(3, *self.shape, generator=self.generator, dtype=torch.float64)
        self._grow()

    def forward(self, x):
        values = [x]
        for operation in self.operations:
            values.append(operation(values))
        return values[-1]

    # -- making one --------------------------------------------------------------------------------

    def _grow(self):
        self._hidden()
        for _ in range(self.rng.randint(1, 7)):
            for _ in range(4):  # until one fits
                try:
                    if self.rng.random() < 0.25:
                        self._hidden()
                    else:
                        self._try(self.rng.choice(self.CHOICES))
                    break
                except (RuntimeError, ValueError, IndexError):
                    continue
        for last in (Program.flat, Program.linear, *self.rng.choice([(), (Program.shifted,), (Program.turned,)])):
            self._try(last)

    def _hidden(self):
        for make in (Program.convolution, Program.activation):
            for _ in range(20):  # until torch takes the shapes
                try:
                    self._try(make)
                    break
                except RuntimeError:
                    continue

    def _try(self, make):
        count = len(self.constants)
        operation = make(self)
        try:
            values = [self.example.clone()]
            with torch.no_grad():
                for each in (*self.operations, operation):
                    values.append(each(values))
            if values[-1].shape[0] != len(self.example) or values[-1].numel() > 20_000:
                raise ValueError("not a batch of images any more, or too large")
        except Exception:
            while len(self.constants) > count:
                self.constants = nn.ParameterList(list(self.constants)[:-1])
            raise
        self.operations.append(operation)

    def values(self):
        values = [self.example.clone()]
        with torch.no_grad():
            for each in self.operations:
                values.append(each(values))
        return values

    @property
    def now(self):
        return tuple(self.values()[-1].shape)

    def parameter(self, *shape, scale=1.0):
        value = torch.randn(shape, generator=self.generator, dtype=torch.float64) * scale
        self.constants.append(nn.Parameter(value, requires_grad=False))
        index = len(self.constants) - 1
        return lambda: self.constants[index]

    def broadcast(self):
        """A shape that torch broadcasts against the last value, or sometimes does not."""
        shape = list(self.now[1:])
        shape = [n if self.rng.random() < 0.5 else 1 for n in shape]
        drop = self.rng.randint(0, len(shape))
        shape = self.rng.choice([shape, shape[drop:], [1, *shape], [self.now[1]], []])
        if len(self.now) == 4 and self.rng.random() < 0.7:
            shape = self.rng.choice([[self.now[1], 1, 1], [1, self.now[1], 1, 1], [1, 1, 1], [1]])
        return shape

    def constant(self):
        if self.rng.random() < 0.2:
            number = self.rng.choice([2, 0.5, -1.5, 1])
            return lambda: number
        made = self.parameter(*self.broadcast())
        if self.rng.random() < 0.2:
            return lambda: made().abs() + 0.25
        return made

    # -- operations --------------------------------------------------------------------------------

    def convolution(self):
        rng, (_, c, h, w) = self.rng, self.now
        kernel = (rng.randint(1, min(3, h)), rng.randint(1, min(3, w)))
        groups = rng.choice([1, 1, 1, c])
        out = groups * rng.choice([1, 2, 3]) if rng.random() < 0.7 else c
        if rng.random() < 0.5:
            kernel = (3, 3) if min(h, w) >= 3 else (1, 1)
        weight = self.parameter(out, c // groups, *kernel, scale=(c // groups * kernel[0] * kernel[1]) ** -0.5)
        bias = self.parameter(out) if rng.random() < 0.5 else lambda: None
        stride, padding, dilation = (
            rng.choice([1, 1, 2]),
            rng.choice([0, 0, 1, (1, 0), 1, "same"]),
            rng.choice([1, 1, 2]),
        )
        return lambda v: F.conv2d(
            v[-1], weight(), bias(), 1 if padding == "same" else stride, padding, dilation, groups
        )

    def linear(self):
        features = self.now[1:]
        out = self.rng.choice([1, 3, 5])
        weight, bias = self.parameter(out, features[-1], scale=features[-1] ** -0.5), self.parameter(out)
        return lambda v: F.linear(v[-1], weight(), bias())

    def normalization(self):
        c = self.now[1]
        mean, weight, bias = (self.parameter(c, scale=0.3) for _ in range(3))
        variance = self.parameter(c)
        return lambda v: F.batch_norm(v[-1], mean(), variance().abs() + 0.5, weight(), bias())

    def activation(self):
        levels = self.rng.choice([1, 2, 3, 4, 7, 16])
        threshold = self.parameter(*self.rng.choice([[], [], [], self.broadcast(), [1, self.now[1], 1, 1]]))
        return lambda v: torch.ops.pascal_nm.qcfs(v[-1], threshold() + torch.where(threshold() < 0, -0.3, 0.3), levels)

    def average(self):
        kernel, stride, padding = self.rng.choice([2, 3]), self.rng.choice([1, 2, 2]), self.rng.choice([0, 0, 1])
        forms = [
            "plain",
            "plain",
            "divisor",
            "uncounted",
            "ceil",
            "adaptive",
            "adaptive",
            "mean",
            "mean",
            "mean of one",
        ]
        form = self.rng.choice(forms)
        if form == "adaptive":
            size = self.rng.choice([1, 2, 3])
            return lambda v: F.adaptive_avg_pool2d(v[-1], size)
        if form.startswith("mean"):
            keep = self.rng.random() < 0.5
            return lambda v: v[-1].mean((2, 3) if form == "mean" else (3,), keepdim=keep)
        options = {
            "divisor": {"divisor_override": 3},
            "uncounted": {"count_include_pad": False},
            "ceil": {"ceil_mode": True},
        }
        return lambda v: F.avg_pool2d(v[-1], kernel, stride, padding, **options.get(form, {}))

    def largest(self):
        kernel, stride, padding = self.rng.choice([2, 3]), self.rng.choice([1, 2]), self.rng.choice([0, 1])
        ceil = self.rng.random() < 0.2
        return lambda v: F.max_pool2d(v[-1], kernel, stride, padding, ceil_mode=ceil)

    def shifted(self):
        constant, alpha = self.constant(), self.rng.choice([1, 1, 2, -0.5])
        return self.rng.choice(
            [
                lambda v: torch.add(v[-1], constant(), alpha=alpha),
                lambda v: torch.add(torch.as_tensor(constant()), v[-1], alpha=alpha),
                lambda v: torch.sub(torch.as_tensor(constant()), v[-1], alpha=alpha),
                lambda v: constant() - v[-1],
                lambda v: v[-1] - constant(),
                lambda v: v[-1] + constant(),
            ]
        )

    def turned(self):
        constant = self.constant()
        return self.rng.choice(
            [
                lambda v: v[-1] * constant(),
                lambda v: constant() * v[-1],
                lambda v: v[-1] / (abs(constant()) + 0.5),
                lambda v: -v[-1],
            ]
        )

    def joined(self):
        shapes = [tuple(v.shape) for v in self.values()]
        twins = [i for i, shape in enumerate(shapes[:-1]) if shape == shapes[-1]]
        other, alpha = self.rng.choice(twins), self.rng.choice([1, 1, -1, 0.5])
        return self.rng.choice([lambda v: torch.add(v[-1], v[other], alpha=alpha), lambda v: v[other] - v[-1]])

    def in_place(self):
        change = self.rng.choice(
            [lambda y: y.mul_(2), lambda y: y.add_(0.25), lambda y: y.sub_(1), lambda y: y.div_(4), lambda y: y.neg_()]
        )
        alias = self.rng.choice(
            [
                lambda y: y,
                lambda y: y.view(y.shape[0], -1),
                lambda y: y.flatten(1),
                lambda y: y.detach(),
                lambda y: F.dropout(y, 0.5, False),
                lambda y: y.to(y.dtype),
                lambda y: y.contiguous(),
                lambda y: y.clone(),
                lambda y: y[:, :1],
            ]
        )

        def run(v):
            y = v[-1] * 1 if len(v) == 1 else v[-1]
            change(alias(y))
            return y

        return run

    def passed(self):
        harmless = self.rng.random() < 0.7
        return self.rng.choice(
            [
                lambda v: v[-1].detach(),
                lambda v: v[-1].clone(),
                lambda v: v[-1].double(),
                lambda v: v[-1].contiguous(),
                lambda v: F.dropout(v[-1], 0.5, False),
                lambda v: F.dropout2d(v[-1], 0.0),
                lambda v: v[-1].flatten(1).view(v[-1].shape),
            ]
            if harmless
            else [
                lambda v: F.dropout(v[-1], 0.5),
                lambda v: (v[-1] * 4).int().double(),
                lambda v: v[-1].half().double(),
                lambda v: v[-1].float().double(),
                lambda v: v[-1].flatten(1),
                lambda v: v[-1].transpose(-1, -2),
                lambda v: v[-1].squeeze(),
            ]
        )

    def flat(self):
        return lambda v: v[-1].flatten(1)

    CHOICES = (
        *(
            convolution,
            activation,
            activation,
            shifted,
            turned,
            joined,
            average,
            largest,
            normalization,
            in_place,
            passed,
        ),
    )


def outcome(seed):
    """What became of one network: refused or equal; or not made, where torch itself
    does not run it.
    """
    try:
        program = Program(seed).eval()
    except (RuntimeError, ValueError, IndexError):
        return "not made"
    x = torch.randn(6, *program.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    try:
        source = SourceNetwork(program, x)
        graph = pnm.convert(source)
    except ConversionError as error:
        assert "is not the source network" not in str(error), f"seed {seed}: the proof had to catch it: {error}"
        return "refused"
    with torch.no_grad():
        expected = program(x.clone()).flatten(1).numpy()
    before = x.clone()
    logits, _ = source.levels(x)
    assert torch.equal(x, before), f"seed {seed}: the caller's array was changed"
    np.testing.assert_allclose(logits, expected, rtol=1e-9, atol=1e-9, err_msg=f"seed {seed}: traced")
    for engine in (simulate.counts, simulate.steps):
        verification = Verification()
        verification.add_float(source, graph, engine(graph, x.numpy()), x.numpy())
        assert verification.culprit is None, f"seed {seed}, {engine.__name__}: {verification.verdict}"
        if engine is simulate.counts and not verification.flips:
            np.testing.assert_allclose(engine(graph, x.numpy()).logits, expected, rtol=1e-9, atol=1e-9)
    return "equal"


def test_random_networks_are_refused_or_equal():
    outcomes = Counter(map(outcome, FEW))
    assert outcomes["equal"] > len(FEW) // 4


@pytest.mark.slow
def test_thousands_of_random_networks_are_refused_or_equal():
    outcomes = Counter(map(outcome, MANY))
    print(dict(outcomes))
    assert outcomes["equal"] > len(MANY) // 4
