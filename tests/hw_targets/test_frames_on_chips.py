"""Frames on chips whose registers are proven for images alone: such schedules are refused, and the
others are priced.
"""

import dataclasses
import re

import numpy as np
import pytest

from pascal_nm import Preprocessing
from pascal_nm.data import Dataset, Frames
from pascal_nm.errors import TargetError
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets.bill import Priced
from pascal_nm.hw_targets.choices import choices
from pascal_nm.hw_targets.loihi import LoihiTarget
from pascal_nm.network.graph import Graph, Population, Projection, Timing
from pascal_nm.network.operators import Dense, Identity

BEYOND = r"neuron: the membrane can reach 26100, beyond the 15 bits \(16383\)"


@pytest.fixture(params=["on cores", "without cores"])
def chip(request):
    """Its membrane has room for an input of 128, and not for a change of 256."""
    loihi = chips.load("loihi1")
    cores = {} if request.param == "on cores" else {"core": None, "mesh": None}
    return dataclasses.replace(loihi, widths={**loihi.widths, "membrane": 15}, fixed_point=None, **cores)


def network(name):
    one, zero = np.ones((1, 1, 1), np.int32), np.zeros((1, 1, 1), np.int32)
    populations = (
        Population("input", "analog", (1, 2, 2), 128),
        Population("neuron", "pasc", (1, 2, 2), 4, 500 * one, zero),
        Population("output", "readout", (2,), 1, np.ones(()), np.zeros(2, np.int32)),
    )
    projections = (
        Projection("input", "neuron", Identity(np.full((1, 1, 1), 100, np.int8))),
        Projection("neuron", "output", Dense(np.ones((2, 4), np.int8))),
    )
    return Graph(populations, projections, Preprocessing(255, (0.5,), (1 / 255,)), timing=Timing(name))


@pytest.fixture
def frames():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 1, 2, 2)).astype(np.uint8)
    return Frames("noise", pixels)


def test_a_chip_that_cannot_keep_state_under_a_schedule_still_has_the_bills_of_the_others(chip, frames):
    found = {each.timing.schedule: each for each in choices(network("pasc"), chip, frames)}
    assert found["pasc"].bill is not None and found["pasc"].bill.dynamic > 0
    assert re.match(BEYOND, found["streaming"].refusal) and re.match(BEYOND, found["two_phase"].refusal)
    images = Dataset("noise", frames.pixels, np.zeros(len(frames), np.int64), ("a", "b"))
    of_images = choices(network("pasc"), chip, images)
    assert [each.timing.schedule for each in of_images if each.refusal] == ["graded"]


def test_of_several_chips_those_that_cannot_keep_state_are_refused_by_name(chip, frames):
    described, refused = {"narrow": chip, "wide": chips.load("loihi2")}, {}
    (priced,) = Priced.on(network("streaming"), described, frames=True, refused=refused)
    assert list(refused) == ["narrow"] and list(priced.bills(frames)) == ["wide"]
    with pytest.raises(TargetError, match=BEYOND):
        Priced.on(network("streaming"), {"narrow": chip}, frames=True)
    Priced.on(network("streaming"), {"narrow": chip})


@pytest.mark.parametrize("chip", ["on cores"], indirect=True)
def test_a_program_that_was_made_for_images_refuses_frames_whose_state_is_kept(chip, frames):
    program = LoihiTarget(chip).compile(network("streaming"))
    assert program.run(program.graph.pixels(frames.pixels)).exact.all()
    with pytest.raises(TargetError, match="frames may take the membrane potential of 'neuron' beyond 15 bits"):
        program.session()
    LoihiTarget(chip).compile(network("pasc")).session()
