"""Strided convolutions of kernel size 1, which crash in torch on some processors, do not in
training: on any of them.
"""

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pascal_nm import QCFS, convert, training
from pascal_nm.data import Dataset
from pascal_nm.source.checkpoint import Model
from pascal_nm.training.pointwise import StrideBySlicing

ROOT = Path(__file__).parents[1]

INSTRUCTIONS = ["", "AVX2", "AVX512_CORE"]
"""What oneDNN may use of the processor; all, where empty. It takes no more than there is."""


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_no_number_of_channels_crashes_on_any_processor(instructions):
    """In a process of its own."""
    code = "from tests import test_pointwise as t; t.every_width_of_image(); t.trainings()"
    environment = os.environ | ({"ONEDNN_MAX_CPU_ISA": instructions} if instructions else {})
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr[-2000:]}"


def every_width_of_image():
    """Forward and backward against float64, whose convolutions are not oneDNN's."""
    torch.manual_seed(0)
    sizes = [(8, 8), (33, 20), (128, 128)]
    for channels, stride, (height, width) in itertools.product(range(1, 18), [2, 3, (1, 2)], sizes):
        x = torch.randn(2, channels, height, width).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(5, channels, 1, 1).contiguous(memory_format=torch.channels_last)
        with StrideBySlicing():
            ours = gradients(x, weight, stride)
        for found, exact in zip(ours, gradients(x.double(), weight.double(), stride), strict=True):
            scale = exact.abs().max()
            torch.testing.assert_close(found / scale, exact / scale, rtol=0, atol=1e-5, check_dtype=False)


def gradients(x, weight, stride):
    inputs = [t.clone().requires_grad_() for t in (x, weight)]
    y = F.conv2d(*inputs, stride=stride)
    y.square().sum().backward()
    return [y.detach(), *(t.grad for t in inputs)]


class Own(nn.Module):
    """A network as a user may write it: its strided convolution is a function call."""

    def __init__(self):
        super().__init__()
        self.first, self.act = nn.Conv2d(3, 4, 3, padding=1), QCFS(4)
        self.weight = nn.Parameter(torch.randn(6, 4, 1, 1) / 2)
        self.act2, self.head = QCFS(4), nn.Linear(6, 2)

    def forward(self, x):
        x = self.act2(F.conv2d(self.act(self.first(x)), self.weight, stride=2))
        return self.head(x.mean((2, 3)))


def trainings():
    """Narrow networks on large images, in channels-last order: one of this package, and
    one of the user's.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3, 128, 128)).astype(np.uint8)
    data = Dataset("noise", pixels, np.arange(8) % 2, ("0", "1"))
    config = training.TrainingConfig("resnet8", options={"width": 0.5}, epochs=1, batch_size=4, channels_last=True)
    for start in (None, Model(Own(), data.shape, data.classes)):
        for mixed in (False, True):
            training.train(data, data, replace(config, mixed_precision=mixed), start=start)


@pytest.mark.slow
@pytest.mark.parametrize("instructions", INSTRUCTIONS[1:])
def test_trainings_pass_with_fewer_instructions(instructions):
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": instructions}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "tests/test_training.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize(
    "arguments",
    [
        {"stride": 2},
        {"stride": [2]},
        {"stride": (3, 1), "padding": "valid", "groups": 2},
        {"stride": 2, "padding": 1},
        {"padding": "same"},
        {"stride": 2, "kernel": 3},
        {"stride": 2, "axes": 1},
        {"stride": (2, 1, 3), "axes": 3},
    ],
)
def test_every_way_to_call_a_convolution_gives_what_torch_gives(arguments):
    named = dict(arguments)
    axes, kernel = named.pop("axes", 2), named.pop("kernel", 1)
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[axes]
    x = torch.randn(2, 4, *(9,) * axes, dtype=torch.float64)
    weight = torch.randn(6, 4 // named.get("groups", 1), *(kernel,) * axes, dtype=torch.float64)
    bias = torch.randn(6, dtype=torch.float64)
    for images in (x, x[0]):
        with StrideBySlicing():
            found = function(images, weight, bias, **named)
        torch.testing.assert_close(found, function(images, weight, bias, **named), rtol=1e-12, atol=1e-12)


def test_the_network_stays_as_it_is_written():
    module, x = Own().eval(), torch.randn(2, 3, 8, 8)
    names = list(module.state_dict())
    with StrideBySlicing():
        module(x)
    assert list(module.state_dict()) == names
    projections = convert(module, x).projections
    assert [q.operator.stride for q in projections if hasattr(q.operator, "stride")] == [(1, 1), (2, 2)]


def test_a_compiled_network_is_sliced_too():
    """``--compile``: what the compiler is given has no strided convolution of size 1."""
    seen = []

    def backend(graph, inputs):
        seen.extend(node for node in graph.graph.nodes if node.target is torch.conv2d)
        return graph.forward

    with StrideBySlicing():
        torch.compile(nn.Conv2d(4, 5, 1, stride=2), backend=backend)(torch.randn(2, 4, 8, 8))
    (node,) = seen
    assert node.args[3] in (1, (1, 1))
