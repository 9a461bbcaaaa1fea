"""Frames in Python: ``run``, ``verify`` and ``energy`` take them where they take images."""

import numpy as np
import pytest
import torch
from torch import nn

import pascal_nm as pnm
from pascal_nm.data import Frames
from pascal_nm.errors import DataError
from pascal_nm.hw_targets.evaluation import evaluate
from pascal_nm.hw_targets.simulator import SimulatorProgram


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), pnm.QCFS(4), nn.Flatten(), nn.Linear(12, 3)).eval()


@pytest.fixture
def net(model):
    made = pnm.convert(model, torch.zeros(1, 1, 4, 4), preprocessing=pnm.Preprocessing(255, (0.5,), (0.25,)))
    return made.replace(timing=pnm.Timing("graded"))


@pytest.fixture
def frames():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 1, 4, 4)).astype(np.uint8)
    pixels[4] = pixels[3]
    return Frames("noise", pixels, (0, 3))


@pytest.mark.parametrize("bits", [None, 8])
def test_frames_run_are_verified_and_have_an_energy(model, net, frames, bits):
    net = net if bits is None else pnm.quantize(net, bits)
    found = pnm.run(net, frames)
    alone = pnm.simulate.counts(net, net.pixels(frames.pixels))
    np.testing.assert_array_equal(found.predictions, alone.predictions)
    assert found.schedule.kept and found.injected[4] == 0 < found.injected[3]
    answer = pnm.verify(model, net, frames)
    assert answer.exact and answer.images == len(frames)
    bill = pnm.energy(net, frames, "loihi2")
    assert bill.joules_by_image.shape == (6,) and bill.joules_by_image[4] < bill.joules_by_image[3]


def test_what_is_neither_is_refused(model, net, frames):
    with pytest.raises(DataError, match="images or frames"):
        pnm.verify(model, net, frames.pixels)


@pytest.mark.parametrize("size", [None, 1, 2])
@pytest.mark.parametrize("threshold", [0, 40])
@pytest.mark.parametrize("name", ["graded", "streaming"])
def test_a_sequence_is_run_as_if_there_were_no_other_before_it(net, frames, name, threshold, size):
    program = SimulatorProgram(net.replace(timing=pnm.Timing(name)))
    together = evaluate(program, frames, size=size, threshold=threshold)
    alone = [evaluate(program, each, threshold=threshold) for each in frames.sequences()]
    for attribute in ("predictions", "injected", "timesteps"):
        expected = np.concatenate([getattr(each, attribute) for each in alone])
        np.testing.assert_array_equal(getattr(together, attribute), expected, err_msg=attribute)
    for layer, *parts in zip(together.events, *(each.events for each in alone), strict=True):
        np.testing.assert_array_equal(layer.operations, np.concatenate([part.operations for part in parts]))
    assert together.injected[3] == net.input.size, "the first frame of a sequence is sent whole"
