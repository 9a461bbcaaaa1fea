"""Frames on the command line: what run, verify, energy and report say of them, and what they
refuse.
"""

import json
from dataclasses import replace

import nir
import numpy as np
import pytest

from pascal_nm.cli.main import main
from pascal_nm.data import load_frames
from pascal_nm.export.nir_format import write_nir
from pascal_nm.hw_targets import run as run_images
from pascal_nm.network.graph import Timing
from pascal_nm.simulation import events
from pascal_nm.simulation.session import Session
from pascal_nm.source.checkpoint import load

FRAMES = 8
CLIP = ("--frames", "still", "--limit", FRAMES)
GRADED = (*CLIP, "--schedule", "graded")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with model.pt and labelled.npz: digits that follow each other, in two sequences."""
    folder = tmp_path_factory.mktemp("frames")
    with pytest.MonkeyPatch.context() as patch:
        command = ("train", "--epochs", 1, "--width", 0.25, "-q", "-o", folder / "model.pt")
        patch.setattr("sys.argv", ["pascal-nm", *map(str, command)])
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 0
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 17, (5, 1, 8, 8)).astype(np.uint8)
    np.savez(folder / "labelled.npz", frames=frames, labels=np.arange(5), starts=np.array([0, 3]), scale=np.array(16.0))
    np.save(folder / "large.npy", np.zeros((3, 1, 9, 9), np.uint8))
    return folder


@pytest.fixture
def graph(folder):
    return load(folder / "model.pt").graph().replace(timing=Timing("graded"))


@pytest.fixture
def model(folder):
    return folder / "model.pt"


def shown(graph, name="still", limit=FRAMES):
    return load_frames(str(name), shape=graph.input.shape, limit=limit).rescaled(graph.preprocessing.scale)


def printed(outcome, code=0):
    found, out, err = outcome
    assert found == code, err
    return out


def test_run_says_what_changed_and_what_it_took(pascal, model, graph):
    frames = shown(graph)
    result = Session(graph).run(graph.pixels(frames.pixels))
    operations = sum(layer.arithmetic for layer in events.count(graph, result))
    sent = (result.spikes["input"] != 0).reshape(FRAMES, -1).mean(1)
    found = json.loads(printed(pascal("run", model, *GRADED, "--json")))
    assert found["each_frame"] == {
        "prediction": result.predictions.tolist(),
        "values_changed": sent.tolist(),
        "operations": operations.tolist(),
        "timesteps": [result.schedule.length] * FRAMES,
    }
    assert (found["frames"], found["sequences"], found["state_kept"]) == (FRAMES, 1, True)
    assert found["operations_a_frame"] == operations.mean()
    assert found["dense_operations_a_frame"] == events.dense_operations(graph)
    assert (found["accuracy"], found["accuracy_over_time"]) == (None, []), "the clip has no labels"
    out = printed(pascal("run", model, *GRADED))
    assert f"{FRAMES} frames of still on torch, state kept from one to the next" in out
    assert f"{operations.mean():,.0f} operations" in out and "right" not in out


def test_a_schedule_without_state_runs_each_frame_from_rest_and_says_so(pascal, model, graph):
    code, out, err = pascal("run", model, *CLIP)
    assert code == 0 and "each from rest" in out
    assert "schedule pasc keeps no state; graded, streaming and two_phase need only changes: each frame" in err
    alone = run_images(graph.replace(timing=Timing()), graph.pixels(shown(graph).pixels))
    found = json.loads(printed(pascal("run", model, *CLIP, "--json")))
    assert found["each_frame"]["prediction"] == alone.predictions.tolist() and not found["state_kept"]


def test_pixels_of_another_range_are_scaled_and_a_note_says_so(pascal, model):
    assert "pixels of still go up to 255; they are scaled to the 16 of the network" in pascal("run", model, *CLIP)[2]


def test_labels_give_an_accuracy(pascal, model, graph, folder):
    clip = shown(graph, folder / "labelled.npz", None)
    right = np.mean(run_images(graph, graph.pixels(clip.pixels)).predictions == clip.labels)
    command = (model, "--frames", folder / "labelled.npz", "--schedule", "graded")
    found = json.loads(printed(pascal("run", *command, "--json")))
    assert (found["accuracy"], found["sequences"]) == (right, 2)
    assert f"{100 * right:.2f} % of the frames right" in printed(pascal("run", *command))
    assert f"accuracy: source network {100 * right:.2f} %" in printed(pascal("verify", *command))
    assert (
        json.loads(printed(pascal("energy", *command, "--chip", "loihi2", "--no-compare", "--json")))["accuracy"]
        == right
    )


@pytest.mark.parametrize("schedule", ["graded", "streaming", "pasc"])
def test_verify_proves_every_frame(pascal, model, schedule):
    out = printed(pascal("verify", model, *CLIP, "--bits", 8, "--schedule", schedule))
    assert f"on {FRAMES} images" in out and "exact" in out and "accuracy" not in out


def test_verify_says_no_where_frames_differ(pascal, model, graph, tmp_path):
    p = next(iter(graph.spiking))
    other = replace(p, threshold=p.threshold * 3)
    populations = tuple(other if each.name == p.name else each for each in graph.populations)
    write_nir(graph.replace(populations=populations), tmp_path / "other.nir")
    assert "not exact" in printed(pascal("verify", model, "--nir", tmp_path / "other.nir", *CLIP), 1)


@pytest.mark.parametrize("command", [("run",), ("verify",), ("energy", "--chip", "loihi2")])
def test_a_threshold_is_said_with_the_answer(pascal, model, command):
    said = "answers are those of the frames as they are shown: changes of a pixel up to 1.5 are left out"
    assert said in " ".join(printed(pascal(*command, model, *GRADED, "--threshold", 1.5)).split())
    assert "as they are shown" not in printed(pascal(*command, model, *GRADED))


def test_a_threshold_leaves_changes_out(pascal, model):
    found = [json.loads(printed(pascal("run", model, *GRADED, "--threshold", t, "--json"))) for t in (0, 3)]
    assert found[1]["threshold"] == 3 and found[1]["values_changed"] < found[0]["values_changed"]


def test_energy_prices_frame_by_frame_and_every_schedule(pascal, model):
    command = ("energy", model, *GRADED, "--chip", "loihi2")
    found = json.loads(printed(pascal(*command, "--json")))
    joules = found["each_frame"]["joules"]
    assert len(joules) == FRAMES and np.mean(joules) == pytest.approx(found["dynamic_joules_per_image"], rel=1e-12)
    assert max(joules) == joules[0], "the first frame comes from rest"
    assert found["closed_formulas"] is None and found["accuracy"] is None
    by_name = {(each["schedule"], each["lag"]): each for each in found["schedules"]}
    assert by_name["graded", 0]["dynamic_joules"] == found["dynamic_joules_per_image"]
    out = printed(pascal(*command))
    assert f"per frame, mean of {FRAMES} frames of still" in out
    rows = [line for line in out.splitlines() if (line.startswith("│") and "µJ" in line) or "nJ" in line]
    alone, pipelined = ([row for row in rows if ("pipelined" in row) is kind] for kind in (False, True))
    assert [sum("J*" in row for row in each) for each in (alone, pipelined)] == [1, 1]
    assert by_name["graded", 0]["dynamic_joules"] == min(each["dynamic_joules"] for each in by_name.values())
    assert "formulas" not in out
    assert "which schedule" not in printed(pascal(*command, "--no-compare"))


def test_energy_of_frames_on_several_chips_names_no_accuracy(pascal, model):
    out = printed(pascal("energy", model, *GRADED, "-c", "loihi2", "-c", "cmos45_int8", "--no-compare"))
    assert "over plain neurons" not in out, "spikes that carry numbers are not those of plain neurons"
    assert "accuracy" not in "".join(line for line in out.splitlines() if "0.00 %" in line)
    found = json.loads(printed(pascal("energy", model, *GRADED, "-c", "loihi2", "-c", "cmos45_int8", "--json")))
    assert [chip["accuracy"] for chip in found["chips"]] == [None, None]


@pytest.mark.parametrize("command", [("run",), ("energy", "--chip", "loihi2")])
def test_frames_are_drawn(pascal, model, tmp_path, command):
    pytest.importorskip("matplotlib")
    printed(pascal(*command, model, *GRADED, "--plot", tmp_path / "frames.svg", "-q"))
    assert (tmp_path / "frames.svg").read_text().count("<image ") >= 1, "the heat map of layers and frames"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--frames", "pam"), ("pam does not exist", "pan, still (bundled)")),
        (("--frames", "pan", "--limit", 0), ("at least 1",)),
        (("--threshold", 1), ("--threshold", "belongs to --frames")),
        (("--frames", "pan", "--threshold", -1), ("threshold",)),
        (("--frames", "large.npy"), ("(3, 1, 9, 9)", "(1, 8, 8)")),
        (("--frames", "pan", "--label-column", "x"), ("belong to --data",)),
    ],
)
@pytest.mark.parametrize("command", ["run", "verify", "energy", "report"])
def test_what_cannot_be_is_refused_in_one_line(pascal, folder, monkeypatch, command, arguments, words):
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    code, out, err = pascal(command, "model.pt", *arguments, "-q")
    assert (code, out) == (2, "")
    assert all(word in " ".join(err.split()) for word in words), err
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("shared", [("--workers", 2), ("--scheduler", "tcp://nowhere:1")])
def test_frames_are_not_shared_among_workers(pascal, model, shared):
    code, out, err = pascal("run", model, *CLIP, *shared)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "frames follow each other" in err


def test_nir_of_other_tools_that_takes_no_images_runs_no_frames(pascal, tmp_path):
    nodes = {"input": nir.Input({"input": np.array([64])}), "output": nir.Output({"output": np.array([64])})}
    nir.write(tmp_path / "foreign.nir", nir.NIRGraph(nodes, [("input", "output")]))
    code, out, err = pascal("run", tmp_path / "foreign.nir", *CLIP)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "frames are images of shape (C, H, W); the network takes (64,)" in err


@pytest.fixture(scope="module")
def report(folder):
    """What a report on frames wrote: its numbers, and its page."""
    pytest.importorskip("plotly")
    with pytest.MonkeyPatch.context() as patch:
        command = ("report", folder / "model.pt", *GRADED, "-c", "loihi2", "-c", "cmos45_int8", "--threshold", 1, "-q")
        patch.setattr("sys.argv", ["pascal-nm", *map(str, (*command, "-o", folder / "r.html"))])
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 0
    text = (folder / "r.html").read_text(encoding="utf-8")
    (folder / "r.html").unlink()
    numbers = json.loads((folder / "r.json").read_text())
    (folder / "r.json").unlink()
    return numbers, text


def test_a_report_has_the_numbers_of_run_and_energy_frame_by_frame(pascal, model, report):
    numbers, _ = report
    each = numbers["frames"]["each_frame"]
    ran = json.loads(printed(pascal("run", model, *GRADED, "--threshold", 1, "--json")))
    assert {name: each[name] for name in ran["each_frame"]} == ran["each_frame"]
    for chip in ("loihi2", "cmos45_int8"):
        command = ("energy", model, *GRADED, "--threshold", 1, "--chip", chip, "--json")
        found = json.loads(printed(pascal(*command)))
        (mine,) = (c for c in numbers["chips"] if c["name"] == chip)
        assert each["joules"][chip] == found["each_frame"]["joules"]
        assert mine["schedules"] == found["schedules"]
    assert set(each["neurons_that_sent"]) == {layer["name"] for layer in numbers["layers"] if layer["sends"]}


def test_a_report_leaves_out_what_has_no_meaning_on_frames(report):
    numbers, page = report
    assert (numbers["accuracy"], numbers["al_metric"]) == (None, None)
    assert numbers["source"]["exact"] and numbers["source"]["accuracy"] is None
    assert {image["label"] for image in numbers["images"]} == {None}
    body = page[page.index("<body>") : page.index("<h2>To make it again")]
    for words in ("accuracy", "AL metric", "Figure 4", "NaN", "PASC over plain"):
        assert words not in body
    for words in (
        "Frame by frame",
        "One frame, spike by spike",
        "run from rest",
        "Changes of a pixel up to 1 are left",
    ):
        assert words in body


def test_a_report_draws_the_frames_and_says_what_spikes_carry(report):
    numbers, page = report
    text = page.split('id="figures">')[1].split("</script>")[0]
    figures = json.loads(text)
    lines = figures["frame-energy"][0]["data"]
    assert [line["name"] for line in lines][::2] == [chip["chip"] for chip in numbers["chips"]]
    assert len(figures["frame-operations"][0]["data"]) == 2
    (heat,) = figures["frame-layers"][0]["data"]
    assert heat["y"] == list(numbers["frames"]["each_frame"]["neurons_that_sent"])
    assert "change" in {style["stage"] for style in figures["stages"]}
    for image in numbers["images"]:
        for layer in image["layers"]:
            for neuron in layer["neurons"] if layer["sends"] else ():
                assert len(neuron["numbers"]) == len(neuron["spikes"]) + len(neuron["taken_back"]) <= 1
                assert all(0 < number <= layer["levels"] for number in neuron["numbers"]), "from rest, the level"
    assert any(n["numbers"] for image in numbers["images"] for layer in image["layers"][:1] for n in layer["neurons"])
