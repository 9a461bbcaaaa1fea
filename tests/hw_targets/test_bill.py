"""Bills: one run for all chips that hold a network in the same way, and each chip's price of it."""

import dataclasses
from unittest import mock

import pytest
import torch

from pascal_nm import data, energy
from pascal_nm.errors import TargetError
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets.bill import Priced
from pascal_nm.network.graph import Timing
from pascal_nm.simulation import simulate
from pascal_nm.source.architectures import build
from pascal_nm.source.checkpoint import Model


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=20)


@pytest.fixture(scope="module")
def graph(digits):
    torch.manual_seed(0)
    module = build("cnn", digits.shape, 10, 4, width=0.5).eval()
    return Model(module, digits.shape, digits.classes, digits.preprocessing()).graph()


def described():
    return {name: chips.load(name, memory=True) for name in chips.available()}


def test_chips_that_hold_a_network_alike_share_one_run(graph, digits):
    """Floats, the registers of Loihi 1, and those of Loihi 2."""
    runs = Priced.on(graph, described(), "cores")
    together = [list(each.chips) for each in runs]
    assert together == [["cmos45_fp32", "cmos45_int8"], ["loihi1", "loihi1_calibrated"], ["loihi2"]]
    with mock.patch.object(simulate, "steps", wraps=simulate.steps) as simulated:
        for each in runs:
            each.bills(digits)
    assert simulated.call_count == 3


@pytest.mark.parametrize("objective", ["time", "energy", "cores"])
def test_a_run_that_two_chips_price_costs_what_a_run_for_each_alone_costs(graph, digits, objective):
    bills = {n: bill for each in Priced.on(graph, described(), objective) for n, bill in each.bills(digits).items()}
    for name in chips.available():
        alone = energy(graph, digits, name, memory=True, objective=objective)
        assert bills[name].summary() == alone.summary()
        assert (bills[name].seconds is None) == (bills[name].placement is None) == name.startswith("cmos45")


def test_chips_whose_placements_differ_are_run_apart(graph, digits):
    chip = chips.load("loihi1")
    timeless = dataclasses.replace(chip, latency={})
    (first, second) = Priced.on(graph, {"times": chip, "none": timeless}, "time")
    assert not first.program.graph.differences(second.program.graph)
    assert first.placement.cores > second.placement.cores
    assert len(Priced.on(graph, {"times": chip, "none": timeless}, "cores")) == 1
    assert second.bills(digits)["none"].seconds is None


def test_images_that_follow_each_other_cost_less_and_come_more_often(graph, digits):
    timed = graph.replace(timing=Timing("graded"))
    alone, follows = (energy(timed, digits, "loihi2", pipelined=pipelined) for pipelined in (False, True))
    assert follows.total < alone.total
    assert alone.seconds_between_answers == alone.seconds
    assert follows.seconds_between_answers < alone.seconds < follows.seconds
    assert follows.seconds == pytest.approx(follows.result.schedule.steps * follows.seconds_between_answers, rel=1e-9)
    for layer in follows.layers:
        assert layer.joules["idle"] == 0, "each neuron is looked at once for an image"
    assert [bill.summary()["pipelined"] for bill in (alone, follows)] == [False, True]
    for name in ("two_phase", "streaming"):
        with pytest.raises(TargetError, match=f"under {name} an image ends when the network is quiet.*graded or pasc"):
            energy(graph.replace(timing=Timing(name)), digits, "loihi2", pipelined=True)


def test_every_file_of_a_chip_is_read_once(graph, digits):
    with mock.patch.object(chips, "_parse", wraps=chips._parse) as parsed:
        for each in Priced.on(graph, described(), "time"):
            each.bills(digits)
    assert parsed.call_count == len(chips.available())
