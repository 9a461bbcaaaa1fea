"""Frames in Python: ``run``, ``verify`` and ``energy`` take them where they take images."""

import numpy as np
import pytest
import torch
from torch import nn

import pascal_nm as pnm
from pascal_nm.data import Frames, camera_frame
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
    with pytest.raises(DataError, match="verify takes a model, its spiking network and data"):
        pnm.verify(model, model, frames)
    with pytest.raises(DataError, match="of real numbers"):
        pnm.verify(model, net, model)


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


def test_frames_from_0_to_1_are_refused_where_pixels_are_whole_numbers(net, frames):
    session = net.session()
    with pytest.raises(DataError, match="from 0 to 1, stored pixels of this network up to 255: multiply it by 255"):
        session.step(frames.pixels[0] / 255)
    assert session.shown is None
    dark = np.zeros(net.input.shape)
    np.testing.assert_array_equal(session.step(dark).potential, net.session().step(dark.astype(np.uint8)).potential)


def test_a_cameras_frame_becomes_what_a_network_takes(net):
    frame = np.zeros((30, 50, 3), np.uint8)
    frame[:, 10:40] = np.arange(4).repeat(8)[:30, None, None] * 60  # the middle, four bands of grey
    made = camera_frame(frame, (3, 4, 4))
    assert made.shape == (3, 4, 4) and made.dtype == np.uint8 and (np.diff(made[0, :, 0].astype(int)) > 30).all()
    assert net.session().step(camera_frame(frame, net.input.shape)).predictions.shape == (1,)
    for wrong in (frame / 255, frame[None], frame[..., :2], np.zeros((0, 3), np.uint8)):
        with pytest.raises(DataError, match="a camera's frame is uint8 of shape"):
            camera_frame(wrong, (3, 4, 4))
    with pytest.raises(DataError, match="1 or 3 channels"):
        camera_frame(frame, (2, 4, 4))


def test_a_result_is_short_in_words(net, frames):
    session = net.session()
    (answer,) = session.step(frames.pixels[0]).predictions
    assert repr(session.step(frames.pixels[0])) == f"<RunResult of 1 image, 3 timesteps: {answer}>"
    assert repr(session.run(frames.pixels)).startswith("<RunResult of 6 images, 3 timesteps: ")
