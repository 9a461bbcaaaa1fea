"""Choices: every schedule's bill, of one run of counts, is that of a run of its own."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pascal_nm.data import Dataset, Frames
from pascal_nm.errors import DataError, GraphError, TargetError
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import fixed_point
from pascal_nm.hw_targets.bill import Priced
from pascal_nm.hw_targets.choices import choices, rows, timings
from pascal_nm.network.graph import Preprocessing, Timing
from pascal_nm.network.quantization import quantize
from pascal_nm.simulation import schedule, simulate
from pascal_nm.simulation.events import EVENTS
from tests import networks
from tests.strategies import integer_graphs

FEW = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
SEEDS = st.integers(0, 2**32 - 1)
CHIPS = ("loihi1", "loihi2", "cmos45_int8")


def whole(graph):
    """Pixels are the network's inputs: from 0 up to its largest."""
    return graph.replace(preprocessing=Preprocessing(1.0, (0.0,) * graph.input.shape[0], (1.0,) * graph.input.shape[0]))


def images_for(graph, seed, n=3):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, graph.input.levels + 1, (n, *graph.input.shape)).astype(np.float32)
    return Dataset("random", pixels, np.zeros(n, np.int64), ("a", "b"), 1.0)


def frames_for(graph, seed, n=5):
    """Two sequences; in each, a pixel changes from one frame to the next, or none."""
    rng, top = np.random.default_rng(seed), graph.input.levels
    frames = [rng.integers(0, top + 1, graph.input.shape)]
    for _ in range(n - 1):
        frame = frames[-1].copy()
        frame[tuple(rng.integers(0, size) for size in frame.shape)] = rng.integers(0, top + 1)
        frames.append(frame)
    return Frames("random", np.array(frames, np.float32), (0, 3), scale=1.0)


def check(graph, chip, data):
    """Each choice is what Priced says of the schedule by itself, or is refused as it is."""
    found, frames = choices(graph, chip, data), isinstance(data, Frames)
    assert [each.timing for each in found] == timings(graph)
    for each in found:
        fits = chip.widths and not graph.is_integer
        timed = (fixed_point.fit(graph, chip, frames=frames) if fits else graph).replace(timing=each.timing)
        if each.refusal:
            assert each.bill is None and each.following is None
            with pytest.raises((GraphError, TargetError)) as why:
                Priced.on(timed, {"it": chip}, frames=frames)
            assert str(why.value) == each.refusal
            continue
        compare(each.bill, timed, chip, data, pipelined=False)
        if schedule.of(timed).streams:
            assert each.following is None
        else:
            compare(each.following, timed, chip, data, pipelined=True)
    return found


def compare(bill, graph, chip, data, *, pipelined):
    (priced,) = Priced.on(graph, {"it": chip}, pipelined=pipelined, frames=isinstance(data, Frames))
    alone = priced.bills(data)["it"]
    for layer, expected in zip(bill.result.events, alone.result.events, strict=True):
        for name in EVENTS:
            if name != "internal":  # counts do not tell how many spikes stayed inside
                np.testing.assert_array_equal(getattr(layer, name), getattr(expected, name), err_msg=name)
    assert bill.dynamic == alone.dynamic
    np.testing.assert_array_equal(bill.joules_by_image, alone.joules_by_image)
    assert (bill.seconds, bill.seconds_between_answers) == (alone.seconds, alone.seconds_between_answers)
    for name in ("predictions", "timesteps", "injected", "exact"):
        np.testing.assert_array_equal(getattr(bill.result, name), getattr(alone.result, name), err_msg=name)
    for name, share in alone.result.active.items():
        np.testing.assert_array_equal(bill.result.active[name], share, err_msg=name)
    assert bill.summary()["layers"][0]["joules"] == alone.summary()["layers"][0]["joules"]


@pytest.mark.parametrize("name", CHIPS)
@FEW
@given(graph=integer_graphs(), seed=SEEDS)
def test_every_schedules_bill_is_that_of_a_run_of_its_own(name, graph, seed):
    graph, chip = whole(graph), chips.load(name, memory=True)
    try:
        Priced.on(graph, {"it": chip})
    except TargetError:
        return  # these integers do not fit the chip's registers under any schedule
    check(graph, chip, images_for(graph, seed))


@pytest.mark.parametrize("name", CHIPS)
@FEW
@given(graph=integer_graphs(), seed=SEEDS)
def test_frames_are_billed_as_by_a_session_of_their_own(name, graph, seed):
    graph, chip = whole(graph), chips.load(name)
    try:
        Priced.on(graph, {"it": chip})
    except TargetError:
        return
    check(graph, chip, frames_for(graph, seed))


@pytest.mark.parametrize("name", [*CHIPS, "cmos45_fp32"])
def test_a_float_network_is_quantized_once_and_for_all_schedules(name):
    from pascal_nm import data

    graph, chip = networks.for_digits(), chips.load(name)
    found = check(graph, chip, data.load("digits", limit=7))
    ran = {each.bill.graph.is_integer for each in found if each.bill is not None}
    assert ran == {bool(chip.widths)}


def test_images_are_stepped_only_under_schedules_whose_spikes_do_not_follow_from_the_counts():
    from pascal_nm import data

    graph = networks.for_digits()
    with mock.patch.object(simulate, "steps", wraps=simulate.steps) as stepped:
        choices(graph, chips.load("cmos45_fp32"), data.load("digits", limit=4))
    timed = [graph.replace(timing=timing) for timing in timings(graph)]
    assert stepped.call_count == sum(not schedule.of(each).waits(each) for each in timed)


def figure_row(dynamic, total, seconds, *, exact=1.0, pipelined=None, schedule="pasc"):
    known = None if total is None else {"value": total, "least": 0.0, "most": 9.0}
    figures = {"dynamic_joules": dynamic, "total_joules": known, "seconds": seconds, "exact": exact}
    return figures | {"schedule": schedule, "lag": 0, "pipelined": pipelined}


def test_the_least_is_told_of_each_figure_apart_and_of_pipelined_images_apart():
    following = figure_row(1.0, None, 1.0)
    said = [
        figure_row(3.0, 5.0, 2.0, pipelined=following),
        figure_row(2.0, 6.0, 2.0, schedule="two_phase"),
        figure_row(0.5, 0.5, 0.5, exact=0.9, schedule="streaming"),
        {"schedule": "graded", "lag": 0, "refused": "no such spikes"},
    ]
    found = {row["name"]: row["least"] for row in rows(said)}
    assert found == {
        "pasc": ["total_joules", "seconds"],
        "pasc, pipelined": ["dynamic_joules", "seconds"],
        "two_phase": ["dynamic_joules", "seconds"],
        "streaming, lag 0": [],
    }
    assert rows(said[3:]) == [] and rows(said[2:])[0]["least"] == []


def test_schedules_that_a_network_cannot_have_are_left_out_with_the_reason():
    from pascal_nm import data

    graph = networks.for_digits()
    refuse = mock.Mock(side_effect=GraphError("population 'hidden': no windows"))
    with mock.patch.dict(schedule._MAKERS, {"two_phase": refuse}):
        found = choices(graph, chips.load("cmos45_fp32"), data.load("digits", limit=2))
    by_name = {each.timing: each for each in found}
    assert by_name[Timing("two_phase")].refusal == "population 'hidden': no windows"
    assert by_name[Timing("two_phase")].summary()["refused"] == "population 'hidden': no windows"
    assert by_name[Timing()].bill is not None


def test_data_that_do_not_fit_the_network_are_refused():
    graph = quantize(networks.for_digits())
    with pytest.raises(DataError, match="takes images of shape"):
        choices(
            graph,
            chips.load("cmos45_int8"),
            Dataset("other", np.zeros((1, 1, 4, 4), np.uint8), np.zeros(1, np.int64), tuple("0123456789"), 16.0),
        )
