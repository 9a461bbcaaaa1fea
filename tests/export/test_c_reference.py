"""The reference in C against both engines, integer by integer."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pascal_nm import QCFS, Preprocessing, convert, quantize
from pascal_nm.errors import ConversionError, DataError, GraphError
from pascal_nm.export import c_reference
from pascal_nm.network import dynamics
from pascal_nm.network.graph import Graph, Pixels, Population, Projection, Timing
from pascal_nm.network.operators import Dense, Identity, SumPool2d
from pascal_nm.network.unroll import unroll
from pascal_nm.simulation import schedule, simulate
from pascal_nm.source import checkpoint
from tests import networks
from tests.strategies import inputs_for, integer_graphs

ROOT = Path(__file__).parents[2]
CC = shutil.which("cc")
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
SCHEDULES = [Timing(), Timing("two_phase"), Timing("streaming", 1), Timing("graded")]

compiled = pytest.mark.skipif(CC is None, reason="there is no C compiler")


@pytest.fixture(scope="module")
def sanitizers(tmp_path_factory):
    """Flags by which a program stops at undefined behaviour, where the compiler has them."""
    folder = tmp_path_factory.mktemp("sanitizers")
    (folder / "empty.c").write_text("int main(void)\n{\n    return 0;\n}\n")
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    done = subprocess.run([CC, *flags, "empty.c", "-o", "empty"], cwd=folder, capture_output=True)
    return flags if done.returncode == 0 and subprocess.run([folder / "empty"]).returncode == 0 else []


def built(text, folder, flags=("-O1",)):
    """The program of a text; a warning is an error."""
    (folder / "reference.c").write_text(text)
    done = subprocess.run(
        [CC, *FLAGS, *flags, "-o", "reference", "reference.c"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[:2000]
    return folder / "reference"


def printed(program, currents):
    done = subprocess.run([program], input=c_reference.check_text(currents), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def equal(found, result):
    assert set(found) == {f"count_{name}" for name in result.counts} | {"potential"}
    for name, count in result.counts.items():
        np.testing.assert_array_equal(found[f"count_{name}"], count, err_msg=name)
    np.testing.assert_array_equal(found["potential"], result.potential)


def judged(graph, inputs, folder, flags=("-O1",), plan=None):
    """What a network's program printed, which is what both engines compute."""
    text = printed(built(c_reference.source(graph, plan), folder, flags), graph.currents(inputs))
    found, stepped = c_reference.parse(text, graph), simulate.steps(graph, inputs, plan)
    equal(found, stepped)
    if plan is None or plan.stop is None:
        equal(found, simulate.counts(graph, inputs))
    classes = [int(k) for k in re.findall(r"^class (\d+)$", text, re.MULTILINE)]
    assert classes == stepped.answers[:, -1].tolist()
    return found


def of_module(module, seed=0, **options):
    x = networks.images(24, seed)
    graph = convert(networks.randomized(module, seed), x[:1], **options)
    return quantize(graph, 8, input_range=float(x.abs().max())), x[:6].numpy()


def linear():
    """Two linear maps in a row that are smaller than their product."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(128, 3), nn.Linear(3, 40), QCFS(4), nn.Linear(40, 2), nn.Linear(2, 30), QCFS(3),
        nn.Linear(30, 4),
    )  # fmt: skip


def peaks():
    """The largest of sums, without an activation in front."""
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2), QCFS(5), nn.Flatten(), nn.Linear(16, 3)
    )


MODULES = {
    "shortcuts": (networks.Residual, 0, {"pasc", "readout"}),
    "max pooling, negative amplitudes": (networks.convolutional, 3, {"max"}),
    "overlapping windows": (networks.max_before_activation, 1, {"max"}),
    "average pooling": (networks.adaptive_pooling, 2, set()),
    "linear populations": (linear, 0, {"linear"}),
    "largest sums": (peaks, 0, {"peak"}),
}


@compiled
@pytest.mark.parametrize("timing", SCHEDULES, ids=str)
@pytest.mark.parametrize("name", MODULES)
def test_a_networks_counts_and_potentials_are_those_of_both_engines(name, timing, tmp_path):
    make, seed, kinds = MODULES[name]
    graph, inputs = of_module(make(), seed)
    assert kinds <= {p.kind for p in graph.populations}
    assert "negative" not in name or any(p.kind == "max" and np.any(p.threshold < 0) for p in graph.populations)
    found = judged(graph.replace(timing=timing), inputs, tmp_path)
    assert all(found[f"count_{p.name}"].any() for p in graph.spiking)


@compiled
@pytest.mark.parametrize("timing", SCHEDULES, ids=str)
def test_an_unrolled_network_counts_in_its_copies(timing, tmp_path):
    graph = quantize(networks.for_digits(), 8)
    pixels = Pixels(np.random.default_rng(0).integers(0, 17, (5, 1, 8, 8)).astype(np.uint8), graph.preprocessing)
    for each, folder in ((graph, tmp_path / "as it is"), (unroll(graph), tmp_path / "unrolled")):
        folder.mkdir()
        judged(each.replace(timing=timing), pixels, folder)


@st.composite
def runs(draw):
    """A random network, inputs, and any schedule of it: with any delay, stopped or not."""
    graph, delay, lag = draw(integer_graphs(bits=63)), draw(st.integers(0, 2)), draw(st.integers(0, 4))
    makers = [schedule.pasc, schedule.two_phase, schedule.graded, lambda g, d: schedule.streaming(g, lag, d)]
    plan = draw(st.sampled_from(makers))(graph, delay)
    if draw(st.integers(0, 3)) == 0:
        plan = replace(plan, stop=draw(st.integers(1, plan.length)))
    return graph, inputs_for(graph, draw(st.integers(0, 999))), plan


@compiled
@settings(max_examples=12)
@given(runs())
def test_random_networks_agree_under_any_schedule_and_nothing_is_undefined(tmp_path_factory, sanitizers, run):
    graph, inputs, plan = run
    folder = tmp_path_factory.mktemp("random")
    judged(graph, inputs, folder, ["-O0", *sanitizers], plan)
    shutil.rmtree(folder)


def small(weight, theta=10, scale=1.0, levels=4, kind="pasc", names=("input", "hidden", "output"), classes=()):
    """Three neurons in front of two, which hear one each."""
    populations = (
        Population(names[0], "analog", (3,), 100),
        Population(names[1], kind, (2,), levels, np.full((), theta, np.int32), np.zeros((), np.int32)),
        Population(names[2], "readout", (2,), 1, np.asarray(scale, np.float64), np.zeros((), np.int32)),
    )
    projections = (
        Projection(names[0], names[1], Dense(np.asarray(weight))),
        Projection(names[1], names[2], Dense(np.eye(2, dtype=np.int8))),
    )
    return Graph(populations, projections, classes=classes)


ONES = np.ones((2, 3), np.int8)


@compiled
def test_another_weight_is_another_count(tmp_path):
    graph = small(ONES)
    text = c_reference.source(graph)
    changed = text.replace("input__hidden_weight[6] = {\n    1,", "input__hidden_weight[6] = {\n    2,")
    assert changed != text
    currents, outputs = np.full((1, 3), 10, np.int32), []
    for each, folder in ((text, tmp_path / "a"), (changed, tmp_path / "b")):
        folder.mkdir()
        outputs.append(c_reference.parse(printed(built(each, folder), currents), graph))
    assert [found["count_hidden"].tolist() for found in outputs] == [[[3, 3]], [[4, 3]]]
    with pytest.raises(AssertionError):
        equal(outputs[1], simulate.counts(graph, currents.astype(float)))


@compiled
def test_what_is_no_image_is_refused_with_a_line_and_2(tmp_path):
    program = built(c_reference.source(small(ONES)), tmp_path)
    wanted = "image 0\ncount hidden 3 3\npotential 3 3\nclass 0\n"
    for text, out, said in (
        ("", "", ""),
        (" \n\t10 +10\r\n10", wanted, ""),
        ("10 10", "", "image 0 ends after 2 of its 3 numbers"),
        ("10 10 10\n-4", wanted, "image 1 ends after 1 of its 3 numbers"),
        ("10 x 10", "", "image 0: number 1 is no whole number from -100 to 100"),
        ("10 10 1.0", "", "image 0: number 2 is no whole number"),
        ("10 - 10", "", "image 0: number 1 is no whole number"),
        ("-101 10 10", "", "image 0: number 0 is no whole number"),
        (f"{2**64 + 5} 10 10", "", "image 0: number 0 is no whole number"),
    ):
        done = subprocess.run([program], input=text, capture_output=True, text=True)
        assert (done.stdout, done.returncode) == (out, 2 if said else 0), text
        assert done.stderr.startswith(said) and done.stderr.count("\n") == bool(said)


@compiled
def test_potentials_beyond_32_bits_and_thresholds_of_any_size_are_exact(tmp_path, sanitizers):
    """Sums of 2**35 and more, of both signs."""
    rng = np.random.default_rng(1)
    graph = small(rng.integers(-(2**30), 2**30, (2, 3)).astype(np.int32), 2**31 - 1, levels=90)
    assert "typedef int64_t number;" in c_reference.source(graph)
    for timing in SCHEDULES:
        judged(graph.replace(timing=timing), rng.integers(-100, 101, (40, 3)).astype(float), tmp_path, sanitizers)


@compiled
def test_the_class_is_that_of_the_largest_output_in_its_own_unit_and_the_first_of_equals(tmp_path):
    graph = small(np.eye(2, 3, dtype=np.int8), scale=[1.0, 0.3])
    found = judged(graph, np.array([[40, 10, 0], [30, 10, 0], [0, 0, 0], [0, 40, 0]], float), tmp_path)
    assert found["potential"].tolist() == [[4, 1], [3, 1], [0, 0], [0, 4]]


@compiled
@pytest.mark.parametrize(
    "names", [("int", "main", "static"), ("give", "half", "run"), ("a", "a_b", "b"), ("é", "π", "x")]
)
def test_any_name_and_any_class_is_taken(names, tmp_path):
    graph = small(ONES, names=names, classes=("*/ int x; /*", "a\n b\\ ??/ \u202e"))
    judged(graph, np.full((1, 3), 10.0), tmp_path)


@compiled
def test_pixels_become_the_currents_that_the_comment_says(tmp_path):
    graph = quantize(networks.for_digits(), 8)
    assert re.search(r"The current of a pixel is the pixel less, by channel,\n \*     5\.", c_reference.source(graph))
    pixels = graph.pixels(np.arange(17).repeat(64).reshape(17, 1, 8, 8).astype(np.uint8))
    assert graph.currents(pixels)[:, 0, 0, 0].tolist() == [k - 5 for k in range(17)]
    other = graph.replace(preprocessing=Preprocessing(255.0, (0.5,), (0.25,)))
    text = c_reference.source(other)
    assert "(pixel / 255 - (0.5)) / (0.25), by channel," in text and "rounded to a whole number" in text
    assert "The current of an input is" in c_reference.source(graph.replace(preprocessing=None))


class Own(dynamics.Dynamics):
    name = "own_steps"
    weighted = fires = True

    def step(self, stage, state, current, theta, levels):
        return super().step(stage, state, current, theta, levels)


def test_what_has_no_form_in_c_is_refused_in_one_line(monkeypatch):
    with pytest.raises(ConversionError, match=r"^a float network has no reference in C: quantize it first"):
        c_reference.source(networks.for_digits())
    graph = small(ONES).replace(timing=Timing("streaming"))
    with pytest.raises(ConversionError, match="runs images from rest"):
        c_reference.source(graph, schedule.of(graph).keeping(graph))
    monkeypatch.setitem(dynamics.DYNAMICS, "own_steps", Own())
    with pytest.raises(ConversionError, match="'hidden': neurons of kind own_steps have steps of their own"):
        c_reference.source(small(ONES, kind="own_steps"))
    populations = [Population("input", "analog", (3,), 2**31 - 1), *small(ONES).populations[1:]]
    wide = Graph(tuple(populations), small(np.full((2, 3), 2**31 - 1, np.int32)).projections)
    with pytest.raises(GraphError, match="beyond the 64 bits of a reference in C: quantize to fewer bits"):
        c_reference.source(wide)
    monkeypatch.setattr(c_reference, "MOST_NUMBERS", 9)
    with pytest.raises(ConversionError, match="more than the 9 weights and other constants"):
        c_reference.source(small(ONES))


def test_what_no_program_of_the_network_printed_is_refused():
    graph = small(ONES)
    whole = "image 0\ncount hidden 3 3\npotential 3 3\nclass 0\n"
    assert c_reference.parse(whole, graph)["potential"].tolist() == [[3, 3]]
    assert c_reference.parse("", graph)["count_hidden"].shape == (0, 2)
    for text, said in (
        (whole + whole, "'image 0'"),
        (whole.replace("3 3\np", "3\np"), "'count hidden 3'"),
        (whole.replace("hidden", "other"), "'count other 3 3'"),
        (whole.replace("potential 3 3\n", ""), "not whole"),
        (whole.replace("3 3", "3 x"), "whole numbers, not 'count hidden 3 x'"),
    ):
        with pytest.raises(DataError, match=re.escape(said)):
            c_reference.parse(text, graph)
    with pytest.raises(DataError, match="whole numbers, not float64"):
        c_reference.check_text(np.zeros((1, 3)))


@compiled
def test_windows_that_hang_over_the_border_are_those_of_the_pooling(tmp_path):
    """Sums and largest counts of windows of which the last is cut."""
    window, one = SumPool2d((2, 2), (2, 2), ceil=True), Identity(np.ones((1, 1, 1), np.int8))
    unit, none = np.full((), 2, np.int32), np.zeros((), np.int32)
    populations = (
        Population("input", "analog", (2, 9, 9), 9),
        Population("sums", "pasc", (2, 5, 5), 4, unit, none),
        Population("largest", "max", (2, 3, 3), 4, np.full((), 1, np.int32), none),
        Population("output", "readout", (2, 3, 3), 1, np.ones(()), none),
    )
    ends = [("input", "sums", window), ("sums", "largest", window), ("largest", "output", None)]
    graph = Graph(populations, tuple(Projection(a, b, one, pool) for a, b, pool in ends))
    judged(graph, inputs_for(graph, 0), tmp_path)


@compiled
@pytest.mark.slow
@pytest.mark.parametrize("model", ["mnist", "mnist.uniform", "cifar10.resnet9"])
def test_a_trained_network_gives_every_count_and_potential(model, tmp_path):
    graph = quantize(checkpoint.load(ROOT / "models" / f"{model}.pt").graph(), 8)
    rng = np.random.default_rng(0)
    pixels = graph.pixels(rng.integers(0, 256, (4, *graph.input.shape)).astype(np.uint8))
    for timing in SCHEDULES:
        judged(graph.replace(timing=timing), pixels, tmp_path, ("-O2",))
