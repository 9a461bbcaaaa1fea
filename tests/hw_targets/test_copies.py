"""Threshold copies on fixed compartments: the network's counts, from registers and routes alone."""

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pascal_nm.errors import DataError, FileError, NotInstalledError, TargetError
from pascal_nm.hw_targets import bundles
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets.copies import bill, files, lowering
from pascal_nm.interop import nengo_loihi_bundle
from pascal_nm.interop.akida_bundle import environments
from pascal_nm.network.graph import Graph, Population, Projection
from pascal_nm.network.operators import Dense, Identity
from pascal_nm.network.quantization import quantize
from pascal_nm.network.relays import balanced, depths
from pascal_nm.simulation import simulate
from tests.networks import for_digits
from tests.strategies import inputs_for, integer_graphs

LOIHI1 = chips.load("loihi1")
LIMITS = lowering.limits_of(LOIHI1)
RUNNER = nengo_loihi_bundle.RUNNER.read_text(encoding="utf-8")

vendor = pytest.mark.skipif(
    not (environments() / "nengo-loihi" / "bin" / "python").exists(),
    reason="NengoLoihi is not installed (make simulators)",
)


def different(run, expected):
    """Names of what differs."""
    found = [name for name, count in expected.counts.items() if not np.array_equal(run.counts[name], count)]
    return found + ["potential"] * (not np.array_equal(run.potential, expected.potential))


@settings(deadline=None, max_examples=15)
@given(integer_graphs(linear=False, bits=20), st.integers(0, 9), st.sampled_from([1024, 60, 17]))
def test_every_count_is_the_networks_on_cores_of_any_size(graph, seed, compartments):
    limits = replace(LIMITS, core=replace(LIMITS.core, neurons=compartments))
    try:
        program = lowering.placed(graph, "a chip", limits)
    except TargetError:
        assume(False)
    inputs = inputs_for(graph, seed, 6)
    assert different(program.run(inputs), simulate.counts(graph, inputs)) == []
    assert np.diff(program.arrays["core_first"]).max() <= compartments


@settings(deadline=None, max_examples=15)
@given(integer_graphs(linear=False), st.integers(0, 9))
def test_relays_make_all_ways_equally_long_and_change_no_count(graph, seed):
    found, inputs = balanced(graph), inputs_for(graph, seed)
    depth = depths(found)
    for q in found.projections:
        assert found[q.source].dynamics.injects or depth[q.target] == depth[q.source] + 1
    ours, expected = simulate.counts(found, inputs), simulate.counts(graph, inputs)
    assert different(ours, expected) == []


def test_images_do_not_mix_though_one_comes_in_every_timestep():
    graph = quantize(for_digits(), 8)
    program = lowering.lower(graph, LOIHI1)
    inputs = graph.input.inputs(files.sample(graph, 9))
    together = program.run(inputs)
    for i in range(9):
        assert np.array_equal(program.run(inputs[i : i + 1]).potential[0], together.potential[i])


def biased(bias):
    """One neuron with a bias that no register of Loihi 1 holds alone."""
    populations = (
        Population("input", "analog", (2,), 200, np.ones(()), np.zeros(())),
        Population("one", "pasc", (3,), 3, np.full((1,), 99_001, np.int32), np.asarray(bias, np.int32)),
        Population("output", "readout", (2,), 1, np.ones(()), np.zeros((), np.int32)),
    )
    projections = (
        Projection("input", "one", Dense(np.asarray([[127, -127], [9, 5], [127, 127]], np.int8))),
        Projection("one", "output", Dense(np.asarray([[1, 2, 3], [3, 2, 1]], np.int8))),
    )
    return Graph(populations, projections)


@pytest.mark.parametrize("bias", [[0, 0, 0], [60_001, -7, 150_003], [-200_000, 49_500, 49_501]])
def test_a_bias_compartment_brings_what_a_register_cannot_hold(bias):
    graph = biased(bias)
    program = lowering.placed(graph, "Loihi 1", LIMITS)
    assert (program.arrays["population"] == -1).sum() >= 1
    values = np.random.default_rng(0).integers(-200, 201, (500, 2)).astype(float)
    assert different(program.run(values), simulate.counts(graph, values)) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("copies") / "bundle"
    files.write(place, lowering.lower(for_digits(), LOIHI1), {}, RUNNER)
    return place


def resealed(folder, name, arrays, place):
    """A copy of a bundle with another file, whose manifest says that it belongs."""
    shutil.copytree(folder, place)
    np.savez_compressed(place / name, **arrays)
    sealed(place, name)
    return place


def sealed(place, name):
    """The manifest's checksum made that of a file, as who changes a bundle on purpose would."""
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256((place / name).read_bytes()).hexdigest()
    (place / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "name", ["bias", "threshold", "list_weight", "list_compartment", "axon_exponent", "route_axon", "route_source"]
)
def test_one_register_weight_or_route_that_was_altered_is_found(folder, name, tmp_path):
    with np.load(folder / "compartments.npz") as file:
        arrays = dict(file)
    arrays[name] = arrays[name].copy()
    arrays[name][len(arrays[name]) // 2] += 1
    place = resealed(folder, "compartments.npz", arrays, tmp_path / "altered")
    with pytest.raises(FileError, match=rf"1 of .* numbers of '{name}' differ"):
        files.read(place)


def test_an_altered_program_runs_to_other_counts(folder):
    """What is executed are the arrays, and not the network beside them."""
    program, check, _ = files.read(folder)
    inputs = program.network.input.inputs(check["inputs"])
    expected = simulate.counts(program.network, inputs)
    assert different(program.run(inputs), expected) == []
    for name, change in (("bias", 4000), ("list_weight", 200), ("route_source", -1)):
        arrays = {**program.arrays, name: program.arrays[name].copy()}
        arrays[name][:40] = np.clip(arrays[name][:40].astype(np.int64) + change, -4095, None)
        assert different(replace(program, arrays=arrays).run(inputs), expected), name


def test_a_board_s_answers_are_compared_layer_by_layer(folder, tmp_path, pascal):
    held = bundles.opened(folder)
    answers = {name: values.copy() for name, values in held.check.items() if name.startswith(("count", "potential"))}
    assert bundles.differences(held, answers)[1] == []
    answers["count_hidden"][2, 5] += 1
    answers["potential"][2, 0] -= 7
    _, (first, second) = bundles.differences(held, answers)
    assert (first.layer, first.image, first.neuron, first.values) == ("count_hidden", 2, (5,), 1)
    assert (second.layer, second.image, second.wanted - second.found) == ("potential", 2, 7)
    np.savez(tmp_path / "answers.npz", **answers)
    code, out, _ = pascal("verify", folder, "--answers", tmp_path / "answers.npz")
    assert code == 1 and "count_hidden of image 2 differs first" in " ".join(out.split())
    with pytest.raises(DataError, match="hold none of"):
        bundles.differences(held, {"spikes": np.zeros(3)})
    with pytest.raises(DataError, match="has shape"):
        bundles.differences(held, {"potential": np.zeros((1, 10))})


def test_answers_to_other_inputs_are_compared_with_the_network(folder):
    held = bundles.opened(folder)
    inputs = files.sample(held.graph, 7)
    run = simulate.counts(held.graph, held.graph.input.inputs(inputs))
    answers = {"inputs": inputs, "potential": run.potential}
    assert bundles.differences(held, answers) == ({"potential": 70}, [])


def test_a_simulator_that_is_not_there_or_runs_something_else_is_refused(folder, tmp_path, pascal):
    with pytest.raises(NotInstalledError, match="make simulators"):
        nengo_loihi_bundle.answers(folder, np.zeros((1, 8, 1, 8, 8), np.uint8), tmp_path)
    code, _, err = pascal("verify", folder, "--simulator", "akida")
    assert code == 2 and "take --simulator nengo-loihi" in " ".join(err.split())


def test_what_has_no_copies_is_refused_by_name():
    graph = biased([0, 0, 0])
    wide = graph.projections[0].operator.with_weight(np.asarray([[301, -127], [9, 5], [127, 127]], np.int32))
    with pytest.raises(TargetError, match="input -> one: a weight of 301, and Loihi 1 has 8 bits"):
        lowering.placed(
            graph.replace(projections=(replace(graph.projections[0], operator=wide), graph.projections[1])),
            "Loihi 1",
            LIMITS,
        )
    with pytest.raises(TargetError, match=r"without \[compartments\]"):
        lowering.lower(graph, chips.load("loihi2"))
    one = Population("sum", "linear", (3,), 0, np.ones(()), np.zeros((), np.int32))
    linear = Graph(
        (graph.populations[0], one, *graph.populations[1:]),
        (
            Projection("input", "sum", graph.projections[0].operator),
            Projection("sum", "one", Identity(np.ones((1,), np.int8))),
            graph.projections[1],
        ),
    )
    with pytest.raises(TargetError, match="linear population 'sum'"):
        lowering.placed(linear, "Loihi 1", LIMITS)


@vendor
def test_the_chip_s_emulator_gives_every_count(folder):
    program, found = nengo_loihi_bundle.compared(folder, None)
    assert found.exact and found.images == 4
    assert found.compared == {"hidden": 64, "potential": 40}
    assert program.cores >= 2


@pytest.mark.parametrize(
    ("potential", "said"),
    [(np.nan, "no whole numbers"), (np.inf, "no whole numbers"), (0.25, "no whole numbers")],
)
def test_answers_that_are_no_whole_numbers_are_one_line(folder, tmp_path, pascal, potential, said):
    np.savez(tmp_path / "answers.npz", potential=np.full((4, 10), potential))
    code, out, err = pascal("verify", folder, "--answers", tmp_path / "answers.npz")
    assert (code, out, err.count("\n")) == (2, "", 1) and said in err


def test_what_answers_do_not_hold_is_named(folder, tmp_path, pascal):
    with np.load(folder / "check.npz") as check:
        np.savez(tmp_path / "answers.npz", potential=check["potential"])
    code, out, _ = pascal("verify", folder, "--answers", tmp_path / "answers.npz")
    assert code == 0 and "not compared: count_hidden" in " ".join(out.split())


def host_of(folder):
    names = {}
    exec((folder / "host.py").read_text(), names)
    return names


def test_the_host_makes_the_bits_of_pixels_and_refuses_all_else(folder):
    host, held = host_of(folder), bundles.opened(folder)
    pixels = np.random.default_rng(3).integers(0, 17, (5, 1, 8, 8)).astype(np.uint8)
    assert np.array_equal(host["bits"](pixels), held.program.bits(held.graph.pixels(pixels)))
    for wrong in (pixels + 0.5, pixels.astype(int) - 1, pixels + np.uint8(1), pixels.reshape(5, 2, 8, 4)):
        with pytest.raises(ValueError, match="needed"):
            host["bits"](wrong)


def test_an_altered_readme_is_found(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "altered")
    text = (place / "README.md").read_text()
    (place / "README.md").write_text(text.replace("`i // 64`", "`i // 32`"))
    assert (place / "README.md").read_text() != text
    sealed(place, "README.md")
    with pytest.raises(FileError, match=r"README\.md is not that of the network"):
        files.read(place)


@vendor
def test_the_readme_s_own_commands_run_and_leave_the_bundle_whole(folder, tmp_path, monkeypatch, pascal):
    """Those above the board's, and the lines for one's own images, as a reader would paste them."""
    shutil.copytree(folder, tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    python = str(environments() / "nengo-loihi" / "bin" / "python")
    text = Path("bundle/README.md").read_text()
    for line in text.split("```sh\n")[1].split("```")[0].splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] == "loihi/bin/python" and "--board" not in words:
            subprocess.run([python, *words[1:]], check=True, capture_output=True)
        elif words and words[0] == "pascal-nm":
            assert pascal(*words[1:])[0] == 0
    pixels = np.random.default_rng(4).integers(0, 17, (2, 1, 8, 8))
    np.save("pixels.npy", pixels)
    block = text.split("```python\n")[1].split("```")[0].replace("import sys;", "import sys, subprocess;", 1)
    call = (
        f"subprocess.run([{python!r}, *'bundle/run_nengo_loihi.py bundle bits.npy answers.npz'.split()], check=True)\n"
    )
    head, rest = block.split("answers = dict", 1)
    script = f"import numpy as np\npixels = np.load('pixels.npy')\n{head}{call}answers = dict{rest}"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert pascal("verify", "bundle", "--answers", "answers.npz")[0] == 0
    np.save("bits.npy", pixels)
    done = subprocess.run(
        [python, "bundle/run_nengo_loihi.py", "bundle", "bits.npy", "x.npz"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "host.bits makes them" in done.stderr


def test_the_bill_of_copies_can_be_added_up_by_hand():
    """Every compartment is updated, those that spike at the price of an active one."""
    graph = quantize(for_digits(), 8)
    program = lowering.lower(graph, LOIHI1)
    inputs = graph.input.inputs(files.sample(graph, 5))
    result, counted = program.counted(inputs)
    each = {name: value / 5 for name, value in counted.items()}
    found = bill.priced(program, each, LOIHI1)
    assert each["updates"] == program.compartments
    spikes = each["spikes"]
    dynamic = 23.6 * each["synaptic_operations"] + 81 * spikes + 52 * (program.compartments - spikes)
    assert found["dynamic"] == pytest.approx(1e-12 * (dynamic + 1.7 * each["messages"]))
    seconds = 1e-9 * (8.4 * np.diff(program.arrays["core_first"]).max() + 465)
    watts = 0.0295 * program.chips + 0.00042 * program.cores
    assert program.chips == 1 and found["seconds"] == pytest.approx(seconds)
    assert found["static"] == pytest.approx(watts * seconds)
    host = 5.9e-6 * each["injected_spikes"]
    assert found["host"] == pytest.approx(watts * host + 0.022 * (host + seconds))
    assert found["static"].least < found["static"] < found["static"].most
    assert different(result, simulate.counts(graph, inputs)) == []
    assert bill.known("Loihi 1").name == "Loihi 1" and bill.known("Loihi 2 (estimate)") is None
