"""Bills: one run for all chips that hold a network in the same way, and each chip's price of it."""

import dataclasses
from unittest import mock

import pytest
import torch

from pascal_nm import data, energy
from pascal_nm.errors import TargetError
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import cost
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
    assert follows.dynamic < alone.dynamic
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


def test_the_parts_of_a_bill_add_up(graph, digits):
    """Static energy is power times time, the host's its time and power; ends go together."""
    chip = chips.load("loihi2")
    chip = dataclasses.replace(
        chip,
        static=chips.Static(figure(200, 100, 400), figure(2)),
        host=chips.Host(figure(3, 2, 5), figure(7), figure(30)),
    )
    for pipelined in (False, True):
        timed = graph.replace(timing=Timing("graded"))
        (priced,) = Priced.on(timed, {"chip": chip}, pipelined=pipelined)
        bill = priced.bills(digits)["chip"]
        sent, seconds, cores = bill.result.injected.mean(), bill.seconds_between_answers, bill.placement.cores
        assert bill.dynamic == pytest.approx(sum(layer.dynamic for layer in bill.layers), rel=1e-12)
        assert bill.static == pytest.approx((0.2 * bill.placement.chips + 0.002 * cores) * seconds)
        assert bill.static.least == pytest.approx((0.1 * bill.placement.chips + 0.002 * cores) * seconds.least)
        assert bill.host_seconds == pytest.approx(1e-6 * (3 * sent + 7 * 10))
        assert bill.with_host == pytest.approx(seconds + bill.host_seconds)
        waiting = (0.2 * bill.placement.chips + 0.002 * cores) * bill.host_seconds
        assert bill.host == pytest.approx(waiting + 0.030 * bill.placement.chips * bill.with_host)
        assert bill.total == pytest.approx(bill.dynamic + bill.static + bill.host)
        for part in (bill.dynamic, bill.static, bill.host, bill.total, seconds, bill.host_seconds, bill.with_host):
            assert part.wide and part.least <= part <= part.most
        said = bill.summary()
        assert said["energy"]["total"] == {"value": bill.total, "least": bill.total.least, "most": bill.total.most}
        assert said["dynamic_joules_per_image"] == said["energy"]["dynamic"]["value"] and said["not_known"] == []


def test_a_bill_says_in_a_line_what_of_it_is_events_and_what_is_all(graph, digits):
    bill = energy(graph, digits, "loihi1")
    assert bill.total == pytest.approx(bill.dynamic + bill.static + bill.host) and bill.total > 2 * bill.static > 0
    line = f"{bill.dynamic * 1e6:.4g} uJ an image in events (in all {bill.total * 1e6:.4g}) on Loihi 1"
    assert repr(bill).startswith(line) and f"dense, {bill.source_dynamic * 1e6:.4g} uJ" in repr(bill)
    unknown = energy(graph, digits, "cmos45_int8")
    assert unknown.total is None and "in all" not in repr(unknown)


def figure(value, least=None, most=None):
    return chips.Figure(value, "a test", least, most)


def test_the_ends_of_a_band_are_those_of_the_chip_at_its_ends(graph, digits):
    chip = chips.load("loihi2")
    (priced,) = Priced.on(graph, {"chip": chip}, "cores")
    bill = priced.bills(digits)["chip"]
    for end in ("least", "most"):
        (priced,) = Priced.on(graph, {"chip": chip.at(end)}, "cores")
        other = priced.bills(digits)["chip"]
        assert getattr(bill.dynamic, end) == pytest.approx(other.dynamic, rel=1e-12)
        assert getattr(bill.seconds, end) == pytest.approx(other.seconds, rel=1e-12)
        assert getattr(bill.static, end) == pytest.approx(other.static, rel=1e-12)


def test_what_is_not_known_is_named_and_not_added(graph, digits):
    chip = dataclasses.replace(chips.load("loihi1"), static=None, host=None)
    (priced,) = Priced.on(graph, {"chip": chip}, "cores")
    bill = priced.bills(digits)["chip"]
    assert (bill.static, bill.host, bill.total, bill.unknown) == (None, None, None, ["static", "host"])
    half = dataclasses.replace(chip, static=chips.Static(figure(50)), host=chips.Host(figure(1)))
    (priced,) = Priced.on(graph, {"chip": half}, "cores")
    bill = priced.bills(digits)["chip"]
    assert bill.unknown == ["the host's readout", "the host's power"]
    assert bill.total == pytest.approx(bill.dynamic + bill.static + 0.05 * bill.placement.chips * bill.host_seconds)


def test_compartments_of_a_neuron_are_all_updated(graph, digits):
    chip = chips.load("loihi1")
    bills = []
    for n in (1, 3):
        core = dataclasses.replace(chip.core, compartments=n)
        (priced,) = Priced.on(graph, {"chip": dataclasses.replace(chip, core=core)}, "cores")
        bills.append(priced.bills(digits)["chip"])
    one, three = (
        {kind: sum(x.joules[kind] for x in bill.layers) for kind in cost.KINDS if kind in bill.layers[0].joules}
        for bill in bills
    )
    assert (three["update"], three["idle"]) == pytest.approx((3 * one["update"], 3 * one["idle"]))
    assert three["synaptic_operation"] == one["synaptic_operation"]
    assert bills[1].placement.cores > bills[0].placement.cores


@pytest.mark.parametrize("schedule", ["pasc", "streaming", "graded"])
def test_operations_of_a_convolution_cost_what_the_file_says_of_them(graph, digits, schedule):
    """Energy and the cores' time, by operation; the price of all others changes nothing."""
    plain = dataclasses.replace(chips.load("cmos45_int8"), latency={"synaptic_operation": figure(3)})
    timed = graph.replace(timing=Timing(schedule))

    def bill(energy, latency):
        kinds = {"convolution": chips.Synapse(figure(energy), figure(latency))}
        (priced,) = Priced.on(timed, {"chip": dataclasses.replace(plain, synapses=kinds)})
        return priced.bills(digits)["chip"]

    usual, less = bill(plain.energy["synaptic_operation"].value, 3), bill(0, 1)
    (priced,) = Priced.on(timed, {"chip": plain})
    assert usual.dynamic == priced.bills(digits)["chip"].dynamic
    convolved = sum(float(layer.in_convolutions.mean()) for layer in usual.result.events)
    assert 0 < convolved < sum(float(layer.arithmetic.mean()) for layer in usual.result.events)
    saved = 1e-12 * convolved * plain.energy["synaptic_operation"].value
    assert usual.dynamic - less.dynamic == pytest.approx(saved, rel=1e-9)
    times = [cost.core_seconds(each.result.events, each.chip) for each in (usual, less)]
    assert times[0] - times[1] == pytest.approx(2e-9 * convolved, rel=1e-9)
