"""Every command as a user types it: output, files, exit codes."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.dom.minidom
from dataclasses import replace
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest
import torch
from torch import nn

from pascal_nm import QCFS, __version__
from pascal_nm.cli.main import main
from pascal_nm.common.layer_files import read_levels
from pascal_nm.errors import NotInstalledError
from pascal_nm.export.bundle import FILES
from pascal_nm.export.nir_format import read_nir, write_nir
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets.cost import KINDS
from pascal_nm.network.graph import Timing
from pascal_nm.network.unroll import unroll
from pascal_nm.report.style import KIND_STYLES
from pascal_nm.simulation import schedule
from pascal_nm.source.checkpoint import load, save
from tests import pace
from tests.networks import for_digits


def interruptible():
    """Undo what a shell does to programs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with model.pt, from `train` with hardly any option, and model.nir, from `export`."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        for arguments in (
            ["train", "--data", "digits", "--epochs", "2", "-o", folder / "model.pt"],
            ["export", folder / "model.pt", "--nir"],
        ):
            patch.setattr(sys, "argv", ["pascal-nm", *map(str, arguments)])
            with pytest.raises(SystemExit) as end:
                main()
            assert end.value.code == 0
    return folder


def refused(outcome, *words):
    """Exit code 2, nothing on stdout, one line on stderr that says these words."""
    code, out, err = outcome
    assert (code, out, err.count("\n")) == (2, "", 1), outcome
    assert err.startswith("error: ")
    for word in words:
        assert word in err


def test_help_and_version(pascal):
    assert pascal("--version")[:2] == (0, f"pascal-nm {__version__}\n")
    code, out, _ = pascal("--help")
    assert code == 0
    for command in ("demo", "train", "export", "run", "verify", "energy", "inspect"):
        assert command in out
        assert pascal(command, "--help")[0] == 0


def test_wrong_usage_is_one_line_and_exit_code_2(pascal):
    refused(pascal("frobnicate"), "frobnicate")
    refused(pascal("run"), "network")
    refused(pascal("run", "model.nir", "--limit", "many"), "--limit")


def test_export_needs_to_know_what_to_write(pascal, trained):
    refused(pascal("export", trained / "model.pt"), "--nir")


@pytest.mark.parametrize("target", ["torch", "lava", "loihi"])
def test_run_needs_only_the_nir_file(pascal, trained, tmp_path, monkeypatch, target):
    shutil.copy(trained / "model.nir", tmp_path)
    monkeypatch.chdir(tmp_path)
    if target == "lava":
        pytest.importorskip("lava")
    code, out, _ = pascal("run", "model.nir", "--target", target, "--data", "digits", "--limit", "100", "--json")
    report = json.loads(out)
    assert code == 0
    assert (report["images"], report["timesteps"]) == (100, 23)
    assert report["accuracy"] > 0.8
    assert report["spikes_per_image"] > 0
    assert os.listdir() == ["model.nir"]


def test_run_writes_predictions(pascal, trained, tmp_path):
    code, out, _ = pascal("run", trained / "model.nir", "--limit", 50, "-o", tmp_path / "answers.npz")
    answers = np.load(tmp_path / "answers.npz")
    assert code == 0
    assert f"{100 * np.mean(answers['predictions'] == answers['labels']):.2f} %" in out


def test_workers_give_the_report_of_one_process(pascal, trained):
    reports = []
    for workers in (1, 2):
        code, out, _ = pascal("run", trained / "model.nir", "--bits", 8, "--limit", 40, "--workers", workers, "--json")
        assert code == 0
        reports.append(json.loads(out))
        del reports[-1]["images_per_second"]
    assert reports[0] == reports[1]


@pytest.mark.parametrize("target", ["torch", "loihi"])
def test_verify_says_yes(pascal, trained, target):
    code, out, _ = pascal("verify", trained / "model.pt", "--target", target, "--limit", 100)
    assert code == 0
    assert any(line.startswith(("exact: ", "equal up to rounding: ")) for line in out.splitlines())
    assert "of a class probability (softmax)" in " ".join(out.split())
    code, out, _ = pascal(
        "verify", trained / "model.pt", "--nir", trained / "model.nir", "--target", target, "--limit", 50, "--json"
    )
    report = json.loads(out)
    assert code == 0
    assert report["exact"] is True
    assert report["prediction_mismatches"] == report["integer_mismatches"] == 0
    assert 0 <= report["probability_difference"] <= report["output_difference"] < 1e-3


@pytest.mark.parametrize("target", ["torch", "loihi"])
def test_verify_names_the_layer_whose_threshold_was_altered(pascal, trained, tmp_path, target):
    path = tmp_path / "altered.nir"
    shutil.copy(trained / "model.nir", path)
    with h5py.File(path, "a") as file:
        nodes = file["node/nodes"]
        name = sorted(n for n in nodes if nodes[n]["type"][()] == b"IF")[1]
        nodes[name]["v_threshold"][...] *= 1.25
    code, out, _ = pascal("verify", trained / "model.pt", "--nir", path, "--target", target, "--limit", 60, "--json")
    report = json.loads(out)
    assert code == 1
    assert report["exact"] is False
    assert report["culprit"] == name
    assert any(name in difference and "threshold" in difference for difference in report["differences"])
    code, out, _ = pascal("verify", trained / "model.pt", "--nir", path, "--target", target, "--limit", 60)
    assert code == 1
    assert "not exact: " in out and f"first in {name}" in out


def with_scaled_head(path, to, factor):
    """A copy of a network file in which the readout's weights and biases are larger."""
    graph = read_nir(path)
    *rest, head = graph.projections
    head = replace(head, operator=replace(head.operator, weight=head.operator.weight * np.float32(factor)))
    *before, output = graph.populations
    output = replace(output, bias=output.bias * np.float32(factor))
    write_nir(graph.replace(projections=(*rest, head), populations=(*before, output)), to)
    return to


@pytest.mark.parametrize("target", ["torch", "loihi"])
def test_verify_compares_a_file_with_the_model_before_it_is_quantized(pascal, trained, tmp_path, target):
    """Weights that are off by less than a step of the integers give the same integers."""
    path = with_scaled_head(trained / "model.nir", tmp_path / "altered.nir", 1 + 1e-6)
    code, out, _ = pascal("verify", trained / "model.pt", "--nir", path, "--target", target, "--limit", 20, "--json")
    report = json.loads(out)
    assert code == 1
    assert report["exact"] is False
    assert any(difference.startswith("projection") for difference in report["differences"])
    assert "differs from the model" in report["verdict"]


def test_verify_finds_a_head_that_is_altered_behind_the_last_activation(pascal, trained, tmp_path):
    path = with_scaled_head(trained / "model.nir", tmp_path / "altered.nir", 1.5)  # no prediction and no level moves
    code, out, _ = pascal("verify", trained / "model.pt", "--nir", path, "--limit", 20, "--json")
    report = json.loads(out)
    assert (code, report["prediction_mismatches"], report["culprit"]) == (1, 0, "output")


def test_verify_says_what_it_took_from_the_file_under_test(pascal, trained, tmp_path):
    model = load(trained / "model.pt")
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(model.module.eval(), (torch.zeros(2, *model.input_shape),), dynamic_shapes=(batch,))
    torch.export.save(program, tmp_path / "m.pt2")
    arguments = ("verify", tmp_path / "m.pt2", "--nir", trained / "model.nir", "--limit", 20)
    code, out, _ = pascal(*arguments)
    assert code == 0
    assert out.count("not compared:") == 2 and "preprocessing" in out and "class names" in out
    assert json.loads(pascal(*arguments, "--json")[1])["not_compared"] == ["preprocessing", "class names"]
    code, out, _ = pascal(*arguments, "--json", "--scale", 16, "--mean", 0.9, "--std", 1)
    report = json.loads(out)
    assert code == 1
    assert any("preprocessing" in difference for difference in report["differences"])
    assert report["not_compared"] == ["class names"]


def test_the_accuracy_of_the_quantized_network_stands_beside_its_energy(pascal, trained):
    arguments = (trained / "model.nir", "--limit", 60)
    report = json.loads(pascal("energy", *arguments, "--json")[1])
    ran = json.loads(pascal("run", *arguments, "--target", "loihi", "--json")[1])
    flat = json.loads(pascal("run", *arguments, "--json")[1])
    assert report["predictions_changed_by_quantization"] == ran["predictions_changed_by_quantization"] >= 0
    assert flat["predictions_changed_by_quantization"] is None
    assert report["accuracy"] == ran["accuracy"]
    assert "quantization changed" in pascal("energy", *arguments)[1]
    assert "quantization changed" in pascal("run", *arguments, "--target", "loihi")[1]


def test_energy_adds_up(pascal, trained):
    code, out, _ = pascal("energy", trained / "model.nir", "--limit", 40, "--json")
    report = json.loads(out)
    assert code == 0
    total = sum(sum(layer["joules_by_event"].values()) for layer in report["layers"])
    assert report["dynamic_joules_per_image"] == pytest.approx(total, rel=1e-12)
    assert 4 < report["closed_formulas"]["effective_timesteps"] < 6
    code, out, _ = pascal("energy", trained / "model.nir", "--limit", 40)
    assert code == 0
    for said in ("T_eff", "(Eq. 15)", "its footnote", "threshold multiplies (A.4)", "r' counted", "r' by spikes out"):
        assert said in out
    refused(pascal("energy", trained / "model.nir", "--chip", "tpu"), "tpu", "loihi1")


def test_inspect(pascal, trained):
    code, out, _ = pascal("inspect", trained / "model.nir", "--json")
    report = json.loads(out)
    assert code == 0
    assert [p["kind"] for p in report["populations"]] == ["analog", "pasc", "pasc", "pasc", "readout"]
    assert report["timesteps"] == 23
    code, out, _ = pascal("inspect", trained / "model.pt")
    assert code == 0
    assert "cnn trained on digits" in out


def test_paper_prints_the_papers_figures(pascal):
    code, out, _ = pascal("paper")
    assert code == 0
    for figure in ("332,480,512", "332,111,872", "15,470,264,320", "4.21", "8.79", "18.37", "8.22", "8.17", "16.67"):
        assert figure in out
    report = json.loads(pascal("paper", "--json")[1])
    assert len([e for e in report["entries"] if e["where"] == "Table 3"]) == 10
    assert (len(report["items"]), [e["number"] for e in report["errata"]]) == (
        84,
        [*range(1, len(report["errata"]) + 1)],
    )
    assert all(f" {item['name']} " in out for item in report["items"])


def test_paper_shows_what_is_asked_for(pascal):
    code, out, _ = pascal("paper", "table 7", "Equation 21")
    assert code == 0
    assert [line.split(",")[0] for line in out.splitlines() if line.startswith(("Table", "Equation"))] == [
        "Equation 21",
        "Table 7",
    ]
    assert "k_1 - 1/2" in out and "3.14" not in out
    report = json.loads(pascal("paper", "algorithms", "--json")[1])
    assert [item["name"] for item in report["items"]] == [f"Algorithm {n}" for n in (1, 2, 3, 4)]
    assert {e["items"][0] for e in report["errata"]} == {"Algorithm 1", "Algorithm 2", "Equation 3", "Algorithm 3"}
    assert report["entries"] == []
    numbers = json.loads(pascal("paper", "Table 4", "--json")[1])["entries"]
    assert numbers and all("Table 4" in e["where"].split(", ") for e in numbers)
    outside = json.loads(pascal("paper", "--status", "out of scope", "--json")[1])["items"]
    assert {"Table 17", "Appendix A.10"} <= {item["name"] for item in outside}
    assert len(json.loads(pascal("paper", "errata", "--json")[1])["errata"]) > 30
    refused(pascal("paper", "Table 18"), "Table 18", "equations")
    refused(pascal("paper", "--status", "wrong"), "wrong", "corrected")


def test_paper_draws_figure_2(pascal, tmp_path):
    assert pascal("paper", "--plot", tmp_path / "figure2.svg")[0] == 0
    assert "L = 4, theta = 0.25" in (tmp_path / "figure2.svg").read_text()
    refused(pascal("paper", "--plot", tmp_path / "figure2.txt"), ".svg")


def test_adapt_writes_levels_that_train_takes(pascal, trained, tmp_path):
    command = ["adapt", trained / "model.pt", "-o", tmp_path / "levels.json", "--limit", 200]
    code, out, _ = pascal(*command, "--clusters", 2, "--levels", "3,1", "--plot", tmp_path / "bars.svg")
    assert code == 0
    assert "AL metric (paper) over 200 images" in out
    assert (tmp_path / "bars.svg").read_text().count("cluster") >= 2
    code, out, _ = pascal(*command, "--reading", "authors", "--json")
    levels = json.loads(out)["levels"]
    assert sorted(levels) == [1, 2, 4]
    arguments = ["--epochs", 3, "--final-levels", tmp_path / "levels.json", "-o", tmp_path / "m.pt", "--json"]
    assert pascal("train", *arguments)[0] == 0
    populations = json.loads(pascal("inspect", tmp_path / "m.pt", "--json")[1])["populations"]
    assert [p["levels"] for p in populations if p["kind"] == "pasc"] == levels
    refused(pascal(*command, "--plot", tmp_path / "bars.gif"), "bars.gif", ".png")
    refused(pascal("train", "--levels", tmp_path / "none.json"), "none.json", "does not exist")


def test_adapt_sweeps_alpha_as_figure_3_does(pascal, trained, tmp_path):
    command = ["adapt", trained / "model.pt", "-o", tmp_path / "levels.json", "--limit", 200, "--alpha", "1,.75,.5"]
    # Three layers: k = 1 is a third of the samples, which a single number says, too.
    code, out, _ = pascal(*command, "--json", "--plot", tmp_path / "sweep.svg")
    report = json.loads(out)
    assert code == 0
    assert [(each["k"], each["alpha"]) for each in report["sweep"]] == [(1, 1 / 3), (0.75, 0.25), (0.5, 1 / 6)]
    assert report["levels"] == report["sweep"][0]["levels"] == list(read_levels(tmp_path / "levels.json"))
    alone = json.loads(pascal(*command[:-1], "0.25", "--json")[1])
    assert alone["layers"] == report["sweep"][1]["layers"]
    assert "sweep" not in alone
    code, out, _ = pascal(*command)
    assert code == 0
    assert "cluster by alpha: " in out and "the levels are those of k = 1 (alpha = 0.333), the first" in out
    picture = xml.dom.minidom.parse(str(tmp_path / "sweep.svg"))
    panels = [g for g in picture.getElementsByTagName("g") if g.getAttribute("id").startswith("axes_")]
    assert len(panels) == 3


def test_adapt_says_what_it_cannot_do_and_what_it_did_otherwise(pascal, trained, tmp_path):
    command = ["adapt", trained / "model.pt", "-o", tmp_path / "levels.json"]
    code, out, _ = pascal(*command, "--limit", 1, "--clusters", 9)
    assert code == 0
    assert "3 clusters instead of 9: 3 layers with 3 different metrics" in out
    assert "over 1 image of digits" in out and "1 of 3,000 images, which the paper takes" in out
    report = json.loads(pascal(*command, "--alpha", "0.99", "--json")[1])
    assert any("no level has a share of alpha" in remark for remark in report["remarks"])
    assert all(0 <= layer["agreement"] <= 1 for layer in report["layers"])
    refused(pascal(*command, "--limit", 0), "0 images")
    for alpha in ("1.5", "0", "3,1", "nan"):
        refused(pascal(*command, "--alpha", alpha), "alpha", "between 0 and 1")
    refused(pascal(*command, "--alpha", "low"), "--alpha", "low")
    refused(pascal(*command, "--levels", "1,2,4"), "must not rise", "1,2,4")
    refused(pascal(*command, "--levels", "4,2"), "3 clusters need 3 levels")
    refused(pascal(*command, "--reading", "mine"), "unknown reading")
    assert not list(tmp_path.glob("*.tmp"))


def test_adapt_gives_a_dead_network_no_levels(pascal, trained, tmp_path):
    model = load(trained / "model.pt")
    with torch.no_grad():
        for name, parameter in model.module.named_parameters():
            if name.endswith("bias"):
                parameter.fill_(-1e6)
    save(model, tmp_path / "dead.pt")
    refused(pascal("adapt", tmp_path / "dead.pt", "-o", tmp_path / "levels.json"), "every layer is constant")
    assert not (tmp_path / "levels.json").exists()


def test_training_with_algorithm_4(pascal, tmp_path):
    arguments = ["--arch", "mlp", "--epochs", 3, "--adapt", 2, "-o", tmp_path / "model.pt"]
    code, out, _ = pascal("train", *arguments, "--json")
    report = json.loads(out)
    assert code == 0
    assert sorted(report["levels"]) == [2, 4]
    assert [layer["cluster"] for layer in report["layers"]] == [int(level == 2) for level in report["levels"]]
    assert report["effective_timesteps"] < report["uniform_effective_timesteps"]
    assert report["spike_rate"] == 0.75
    assert sorted(os.listdir(tmp_path)) == ["model.pt", "model.uniform.pt"]
    assert pascal("verify", tmp_path / "model.pt", "--limit", 50)[0] == 0


def test_algorithm_4_takes_clusters_levels_reading_and_alpha(pascal, tmp_path):
    """The levels are those that `adapt` gives the network with uniform levels, asked
    in the same way.
    """
    asked = {"levels": "3,2", "reading": "authors", "alpha": "0.3"}
    path = tmp_path / "model.pt"
    options = [word for key, value in asked.items() for word in (f"--adapt-{key}", value)]
    code, out, _ = pascal("train", "--arch", "mlp", "--epochs", 3, "--adapt", 2, *options, "-o", path)
    assert code == 0
    assert "AL metric (authors)" in out
    uniform, adapted = (
        re.search(rf"{name}: mlp, T_eff ([\d.]+), [\d.]+ % of", out) for name in ("uniform.pt", "/model.pt")
    )
    assert float(adapted[1]) < float(uniform[1])
    assert "the spike rate that the paper assumes, 0.75" in out
    options = [word for key, value in asked.items() for word in (f"--{key}", value)]
    command = ("adapt", tmp_path / "model.uniform.pt", "--clusters", 2, *options, "-o", tmp_path / "l.json", "--json")
    levels = json.loads(pascal(*command)[1])["levels"]
    assert sorted(levels) == [2, 3]
    assert load(path).levels == tuple(levels)


@pytest.mark.parametrize("epochs", [1, 2])
def test_too_few_epochs_for_other_levels_are_refused(pascal, tmp_path, epochs):
    arguments = ["train", "--arch", "mlp", "--epochs", epochs, "-o", tmp_path / "model.pt"]
    refused(pascal(*arguments, "--adapt", 2), "at least 3 epochs")
    refused(pascal(*arguments, "--final-levels", "2,1"), "at least 3 epochs")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--adapt-levels", "4,2"], ["--adapt-levels", "--adapt CLUSTERS"]),
        (["--adapt-reading", "paper"], ["--adapt-reading", "--adapt CLUSTERS"]),
        (["--adapt-alpha", "0.1"], ["--adapt-alpha", "--adapt CLUSTERS"]),
        (["--adapt", "2", "--adapt-levels", "2,4"], ["must not rise"]),
        (["--adapt", "2", "--adapt-levels", "4,2,1"], ["2 clusters need 2 levels"]),
        (["--adapt", "2", "--adapt-alpha", "1"], ["alpha must lie between 0 and 1"]),
        (["--adapt", "2", "--adapt-reading", "mine"], ["unknown reading"]),
    ],
)
def test_what_algorithm_4_cannot_be_asked_is_said_before_any_training(pascal, tmp_path, options, words):
    refused(pascal("train", "--arch", "mlp", "--epochs", 3, *options, "-o", tmp_path / "model.pt"), *words)
    assert not list(tmp_path.iterdir())


def test_a_published_checkpoint_from_pth_to_answers(pascal, tmp_path):
    from tests.test_published import random_network, resnet_keys

    torch.save(resnet_keys(random_network("resnet18", 0, 4).float(), "thresh"), tmp_path / "r18.pth")
    refused(pascal("import-checkpoint", tmp_path / "r18.pth", "--arch", "resnet18"), "--levels")
    refused(pascal("import-checkpoint", tmp_path / "r18.pth", "--arch", "vgg16", "--levels", 4), "not vgg16")
    arguments = ["--arch", "resnet18", "--levels", 4, "--trained-on", "cifar10"]
    code, out, _ = pascal("import-checkpoint", tmp_path / "r18.pth", *arguments)
    assert code == 0
    assert "r18.pt" in out
    code, out, _ = pascal("export", tmp_path / "r18.pt", "--nir", "--json")
    assert (code, json.loads(out)["file"]) == (0, str(tmp_path / "r18.nir"))


def test_export_unrolled_and_interop(pascal, trained, tmp_path):
    command = ["export", trained / "model.pt", "--nir", "-o", tmp_path / "u.nir", "--profile"]
    code, out, _ = pascal(*command, "unrolled", "--reader", "snntorch", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["neurons"] == [6144, 4 * 6144]
    assert report["bytes"] == (tmp_path / "u.nir").stat().st_size
    code, out, _ = pascal("run", tmp_path / "u.nir", "--json")
    ours = json.loads(pascal("run", trained / "model.nir", "--json")[1])
    assert (code, json.loads(out)["accuracy"], json.loads(out)["timesteps"]) == (0, ours["accuracy"], 1)
    refused(pascal("verify", trained / "model.pt", "--nir", tmp_path / "u.nir"), "the unrolled form")
    refused(pascal("interop", tmp_path / "u.nir"), "the unrolled form")
    refused(pascal("run", tmp_path / "u.nir", "-T", 5), "made for 1 timestep")
    for wish in (["--dt", 1], ["--mean", "0.5", "--std", "0.5"]):
        refused(pascal("run", tmp_path / "u.nir", *wish), "says that itself")
    assert "inputs: (pixel / 16 - mean)" in pascal("inspect", tmp_path / "u.nir")[1]
    refused(pascal(*command, "unrolled", "--reader", "brian"), "'brian'", "norse")
    refused(pascal(*command, "folded"), "'folded'")
    refused(pascal("interop", trained / "model.nir", "--readers", "brian"), "brian", "norse")
    none = ["--readers", "sinabs", "--environments", tmp_path]
    refused(pascal("interop", trained / "model.nir", *none), "sinabs", "make readers")
    refused(pascal("interop", trained / "model.nir", "--plot", tmp_path / "x.png"), "--timesteps")
    refused(pascal("interop", trained / "model.nir", "-T", "4,x"), "--timesteps takes numbers")
    refused(pascal("interop", trained / "model.nir", "-T", "4", "--plot", tmp_path / "x.txt"), ".png")
    refused(pascal("interop", trained / "model.nir", "--badges", tmp_path / "none" / "b.md"), "does not exist")


def test_a_network_of_copies_answers_as_the_network_does_in_fewer_timesteps(pascal, trained, tmp_path):
    code, out, _ = pascal("export", trained / "model.nir", "--nir", "--unroll", "-o", tmp_path / "u.nir", "--json")
    timesteps = json.loads(out)["timesteps"]
    graph, unrolled = read_nir(trained / "model.nir"), read_nir(tmp_path / "u.nir")
    assert (code, timesteps) == (0, schedule.of(unroll(graph)).steps)
    assert unrolled.differences(unroll(graph)) == []
    before, after = (json.loads(pascal("run", f, "--json")[1]) for f in (trained / "model.nir", tmp_path / "u.nir"))
    assert before["accuracy"] == after["accuracy"]
    assert before["timesteps"] > after["timesteps"] == timesteps
    assert before["spikes_per_image"] == after["spikes_per_image"]


def test_options_of_no_effect_are_refused_before_anything_is_written(pascal, trained, tmp_path):
    export = ["export", trained / "model.pt", "--nir", "-o", tmp_path / "x.nir"]
    refused(pascal(*export, "--profile", "unrolled", "-T", 8), "belongs to --profile rate or pasc")
    refused(pascal(*export, "--profile", "unrolled", "--start", "drip"), "--start belongs to --profile rate")
    refused(pascal(*export, "--profile", "rate", "--reader", "norse", "--start", "shifted"), "norse", "drip")
    refused(pascal(*export, "--profile", "rate", "--lag", 1), "belong to --profile pasc")
    refused(pascal(*export, "--profile", "unrolled", "--unroll"), "--unroll belongs to --profile pasc")
    for option in (["--data", "digits"], ["--limit", 5], ["--plot", tmp_path / "x.png"]):
        for profile in ("pasc", "unrolled"):
            refused(pascal(*export, "--profile", profile, *option), "belongs to --profile rate")
    refused(pascal(*export, "--reader", "snntorch"), "--reader belongs to")
    refused(pascal(*export, "--profile", "rate", "--limit", 5), "--limit needs --data")
    refused(pascal(*export, "--profile", "rate", "--data", "digits", "--plot", tmp_path / "x.txt"), ".png")
    for option in (["--dt", 0.1], ["--reset", "zero"], ["--mean", "0", "--std", "1"]):
        refused(pascal("run", trained / "model.nir", *option), option[0], "NIR of other tools")
    assert os.listdir(tmp_path) == []


def test_export_rate_measures_draws_and_runs(pascal, trained, tmp_path):
    command = ["export", trained / "model.pt", "--nir", "--profile", "rate", "-T", 8, "-o", tmp_path / "r.nir"]
    code, out, _ = pascal(*command, "--data", "digits", "--limit", 40, "--plot", tmp_path / "r.svg", "--json")
    report = json.loads(out)
    assert code == 0
    assert [(m["timesteps"], m["reset"]) for m in report["measured"]] == [
        (t, r) for r in ("zero", "subtract") for t in (4, 8)
    ]
    assert "timesteps T" in (tmp_path / "r.svg").read_text()
    code, out, _ = pascal("run", tmp_path / "r.nir", "--limit", 40, "--json", "-o", tmp_path / "r.npz")
    assert (code, json.loads(out)["accuracy"]) == (0, report["measured"][-1]["accuracy"]), "reset by subtraction"
    with np.load(tmp_path / "r.npz") as written:
        assert np.mean(written["predictions"] == written["labels"]) == json.loads(out)["accuracy"]
    code, out, _ = pascal("inspect", tmp_path / "r.nir")
    assert code == 0
    assert "measured, exported with T = 8, reset subtract" in out
    assert "it can run here" in out
    assert report["start"] == "shifted"
    assert "neurons begin at half a threshold" in " ".join(pascal(*command)[1].split())
    dripped = " ".join(pascal(*command, "--reader", "sinabs")[1].split())
    assert "drips in over all timesteps" in dripped
    refused(pascal(*command, "--plot", tmp_path / "x.png"), "--data")
    refused(pascal("run", tmp_path / "r.nir", "--reset", "soft"), "zero or subtract")
    refused(pascal("run", tmp_path / "r.nir", "--target", "loihi"), "torch or lava")


def test_schedules_answer_alike_in_fewer_timesteps(pascal, trained):
    command = ["run", trained / "model.nir", "--bits", 8, "--limit", 40, "--json"]
    found = [
        json.loads(pascal(*command, *more)[1])
        for more in ([], ["--schedule", "two_phase"], ["--schedule", "streaming"])
    ]
    assert len({report["accuracy"] for report in found}) == 1
    times = [report["timesteps_to_the_answer"]["mean"] for report in found]
    assert times[0] == found[0]["timesteps"]
    assert times == sorted(times, reverse=True)
    assert found[0]["spikes_per_image"] == found[1]["spikes_per_image"] <= found[2]["spikes_per_image"]
    refused(pascal(*command, "--lag", 2), "the schedule streaming")
    refused(pascal(*command, "--schedule", "streaming", "--lag", "1,2"), "2 lags were given for")
    refused(pascal(*command, "--schedule", "streaming", "--lag", "x"), "'x'")
    refused(pascal(*command, "--schedule", "fast"), "'fast'", "two_phase")


@pytest.mark.parametrize("target", ["torch", "lava", "loihi"])
def test_a_file_keeps_its_schedule_on_every_target(pascal, trained, tmp_path, target):
    if target == "lava":
        pytest.importorskip("lava")
    file = tmp_path / "fast.nir"
    plan = ["--schedule", "streaming", "--lag", "1,0,1"]
    assert pascal("quantize", trained / "model.pt", "--chip", "loihi1", *plan, "-o", file)[0] == 0
    assert "at most" in pascal("export", trained / "model.pt", "--nir", *plan, "-o", tmp_path / "float.nir")[1]
    command = ["--data", "digits", "--limit", 40, "--target", target, "--json"]
    report = json.loads(pascal("run", file, *command)[1])
    usual = json.loads(pascal("run", file, "--schedule", "pasc", *command)[1])
    assert (report["schedule"], report["lag"], usual["schedule"]) == ("streaming", [1, 0, 1], "pasc")
    assert report["accuracy"] == usual["accuracy"] == report["accuracy_over_time"][-1]
    assert report["timesteps_to_the_answer"]["max"] < usual["timesteps_to_the_answer"]["mean"]
    code, out, _ = pascal("verify", trained / "model.pt", "--nir", file, *command)
    assert (code, json.loads(out)["exact"]) == (0, True)
    stopped = json.loads(pascal("run", file, "-T", 4, *command)[1])
    assert stopped["exact"] < 1
    assert stopped["accuracy_over_time"] == report["accuracy_over_time"][:4]
    assert "are final" in pascal("run", file, "-T", 9, *command[:-1])[1]


def test_map_names_what_binds_and_draws_the_mesh(pascal, trained, tmp_path):
    command = ["map", trained / "model.pt", "--chip", "loihi1"]
    report = json.loads(pascal(*command, "--json")[1])
    assert report["cores"] == sum(layer["cores"] for layer in report["layers"]) == len(report["tiles"])
    assert all(max(layer["shares"].values()) <= 1 for layer in report["layers"])
    code, out, _ = pascal(*command, "--data", "digits", "--limit", 20, "--plot", tmp_path / "mesh.svg")
    assert code == 0
    assert f"{report['cores']:,} cores of 1 chip(s)" in out
    assert "busiest core" in out
    assert (tmp_path / "mesh.svg").read_text().startswith("<?xml")
    refused(pascal("map", trained / "model.pt", "--chip", "cmos45_int8"), "without cores")
    refused(pascal(*command, "--plot", tmp_path / "mesh.txt"), ".png")


def test_an_objective_chooses_the_placement_of_map_energy_and_deploy(pascal, trained, tmp_path):
    model, found = trained / "model.pt", {}
    for objective in ("time", "cores"):
        option = ["--chip", "loihi1", "--objective", objective, "--json"]
        mapped = json.loads(pascal("map", model, *option)[1])
        folder = tmp_path / objective
        assert (
            json.loads(pascal("deploy", model, *option, "--schedule", "pasc", "-o", folder)[1])["cores"]
            == mapped["cores"]
        )
        priced = json.loads(pascal("energy", model, *option, "--limit", 5)[1])
        assert mapped["objective"] == objective
        found[objective] = mapped["cores"], priced["seconds_per_image"]
    assert found["time"][0] > found["cores"][0]
    assert found["time"][1] < found["cores"][1]
    assert json.loads(pascal("map", model, "--json")[1])["cores"] == found["time"][0], "the default"
    refused(pascal("map", model, "--objective", "speed"), "speed", "time, energy, cores")
    refused(pascal("energy", model, "--chip", "cmos45_int8", "--objective", "speed"), "speed", "time, energy, cores")


def test_a_chip_without_times_takes_the_fewest_cores_and_says_so(pascal, trained, tmp_path):
    text = (Path(chips.__file__).parent / "chips" / "loihi1.toml").read_text()
    (tmp_path / "timeless.toml").write_text(re.sub(r"\[latency\].*?(?=\[barrier\])", "", text, flags=re.DOTALL))
    for command in (["map"], ["energy", "--limit", 5], ["deploy", "--schedule", "pasc", "-o", tmp_path / "bundle"]):
        name, *more = command
        code, _, said = pascal(name, trained / "model.pt", "--chip", tmp_path / "timeless.toml", *more)
        assert code == 0
        assert "Loihi 1: its file gives no times, so the network is placed on the fewest cores" in said
    assert "fewest" not in pascal("map", trained / "model.pt")[2]


def test_energy_of_a_chip_with_cores_counts_messages_hops_and_time(pascal, trained):
    report = json.loads(
        pascal("energy", trained / "model.pt", "--chip", "loihi1_calibrated", "--limit", 20, "--json")[1]
    )
    assert 1e-6 < report["seconds_per_image"] < 1e-2
    events = {event for layer in report["layers"] for event, joules in layer["joules_by_event"].items() if joules}
    assert {"message", "hop_x", "emitted", "synaptic_operation"} <= events
    assert "ms an image on" in pascal("energy", trained / "model.pt", "--chip", "loihi1", "--limit", 5)[1]
    plain = json.loads(pascal("energy", trained / "model.pt", "--chip", "cmos45_int8", "--limit", 5, "--json")[1])
    assert plain["seconds_per_image"] is None


def test_energy_of_all_chips_has_a_line_for_those_that_cannot_run_the_schedule(pascal, trained):
    command = ["energy", trained / "model.pt", "--limit", 5, "--schedule", "graded"]
    code, out, _ = pascal(*command, "--chip", "all", "--json")
    report = json.loads(out)
    assert (code, len(report["chips"])) == (0, 3)
    assert list(report["refused"]) == ["loihi1", "loihi1_calibrated"]
    assert "loihi1, graded: Loihi 1 cannot run schedule graded: its spikes carry no numbers" in pascal(
        *command, "--chip", "all"
    )[1].replace("\n", " ")
    code, _, said = pascal(*command, "--chip", "loihi1")
    assert code == 2
    assert "Loihi 1 cannot run schedule graded" in said


def test_a_network_that_is_stopped_is_no_work_of_quantization(pascal, trained, tmp_path):
    """Answers that were taken before they were final are others for that alone."""
    graph = read_nir(trained / "model.nir")
    write_nir(graph.replace(timing=Timing(stop=2)), tmp_path / "stopped.nir")
    energy = ("energy", tmp_path / "stopped.nir", "--limit", 20, "--no-compare", "--json")
    assert json.loads(pascal(*energy)[1])["predictions_changed_by_quantization"] == 0
    run = ("run", trained / "model.pt", "--bits", 8, "-T", 2, "--limit", 20)
    assert json.loads(pascal(*run, "--json")[1])["predictions_changed_by_quantization"] is None
    assert "quantization changed" not in pascal(*run)[1]


def test_images_that_follow_each_other_are_looked_at_once_in_an_interval(pascal, trained):
    command = ["energy", trained / "model.pt", "--limit", 5, "--schedule", "graded", "--chip", "loihi2"]
    alone, follows = (json.loads(pascal(*command, *more, "--json")[1]) for more in ([], ["--pipelined"]))
    assert follows["dynamic_joules_per_image"] < alone["dynamic_joules_per_image"]
    assert follows["seconds_between_answers"] < alone["seconds_between_answers"] == alone["seconds_per_image"]
    assert all(layer["events"]["idle"] == 0 < layer["events"]["updates"] for layer in follows["layers"])
    assert "timesteps from one image to the next: 1, an answer every" in pascal(*command, "--pipelined")[1]


def test_energy_of_several_chips_is_that_of_each_alone(pascal, trained, tmp_path):
    mine = tmp_path / "mine.toml"
    entries = "\n".join(
        f'{event} = {{ value = 1, source = "a test" }}'
        for event in ("synaptic_operation", "multiply_accumulate", "update")
    )
    mine.write_text(f'name = "Mine"\nsource = "a test"\nestimate = true\n[energy]\n{entries}\n')
    command = ["energy", trained / "model.pt", "--limit", 5, "--schedule", "two_phase"]
    code, out, _ = pascal(*command, "--chip", "all", "--chip", mine, "--chip", "loihi1", "--json")
    report = json.loads(out)
    together = report.pop("chips")
    names = ["cmos45_fp32", "cmos45_int8", "loihi1", "loihi1_calibrated", "loihi2", mine]
    assert (code, len(together)) == (0, len(names))
    for name, one in zip(names, together, strict=True):
        assert json.loads(pascal(*command, "--chip", name, "--json")[1]) == report | one
        assert sum(one["shares"].values()) == pytest.approx(1)
        assert one["neurons"]["pasc_over_plain"] > 1
    table = pascal(*command, "--chip", "loihi1", "--chip", "cmos45_int8")[1]
    for said in ("loihi1", "cmos45_int8", "source over spiking", "idle updates", "left out", "in the events"):
        assert said in table
    refused(pascal(*command, "--chip", "loihi1", "--chip", "tpu"), "tpu")
    refused(pascal(*command, "--chip", "all", "--chip", mine, "--memory"), "mine.toml", "[memory]")


def test_energy_of_one_spiking_layer_is_by_that_layers_input(pascal, tmp_path):
    write_nir(for_digits(), tmp_path / "digits.nir")
    code, out, _ = pascal("energy", tmp_path / "digits.nir", "--limit", 5, "--json")
    assert code == 0
    formulas = json.loads(out)["closed_formulas"]
    first, output = formulas["layers"]
    assert formulas["effective_timesteps"] == pytest.approx(first["levels"] * first["energy"])
    assert formulas["effective_timesteps_of_a_dense_input"] < formulas["effective_timesteps"]
    assert (first["rate"], output["own"], output["energy"]) == (None, None, None)


def test_energy_of_a_layer_without_spikes_writes_no_infinity(pascal, tmp_path):
    graph = for_digits()
    hidden = replace(graph["hidden"], bias=np.full(16, -1e6))
    populations = tuple(hidden if p.name == "hidden" else p for p in graph.populations)
    write_nir(graph.replace(populations=populations), tmp_path / "silent.nir")
    command = ["energy", tmp_path / "silent.nir", "--limit", 5, "--chip", "cmos45_fp32"]
    code, out, _ = pascal(*command, "--json")
    assert code == 0
    output = json.loads(out)["closed_formulas"]["layers"][1]
    assert (output["rate"], output["ratio"], output["counted"]) == (0, None, None)
    assert "inf" in pascal(*command)[1]


def test_energy_with_memory_traffic(pascal, trained):
    command = ["energy", trained / "model.pt", "--limit", 5, "--chip"]
    left_out = json.loads(pascal(*command, "cmos45_int8", "--json")[1])
    counted = json.loads(pascal(*command, "cmos45_int8", "--memory", "--json")[1])
    assert (left_out["memory"], counted["memory"]) == ("left out", "counted")
    added = sum(
        layer["joules_by_event"][kind] for layer in counted["layers"] for kind in ("synaptic_memory", "neuron_memory")
    )
    assert counted["dynamic_joules_per_image"] == pytest.approx(left_out["dynamic_joules_per_image"] + added)
    assert added > left_out["dynamic_joules_per_image"]
    assert counted["source_network_joules_per_image"] > left_out["source_network_joules_per_image"]
    loihi = [json.loads(pascal(*command, "loihi1", *option, "--json")[1]) for option in ([], ["--memory"])]
    assert loihi[0] == loihi[1]
    assert loihi[0]["memory"] == "in the events"
    assert "and memory traffic on the same table" in pascal(*command, "cmos45_fp32", "--memory")[1]


@pytest.mark.parametrize(
    ("chip", "drawn"), [("loihi1_calibrated", "idle updates"), ("cmos45_int8", "memory of neurons")]
)
def test_energy_draws_where_it_goes(pascal, trained, tmp_path, monkeypatch, chip, drawn):
    matplotlib = pytest.importorskip("matplotlib")
    assert set(KIND_STYLES) == set(KINDS)
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")
    picture = tmp_path / "energy.svg"
    command = ["energy", trained / "model.pt", "--limit", 5, "--memory", "--chip", chip, "--plot"]
    assert pascal(*command, picture)[0] == 0
    text = picture.read_text()
    assert all(word in text for word in (drawn, "source network", "synaptic", "energy of an image (", "layer by layer"))
    assert ("messages out by tile" in text) == (chip == "loihi1_calibrated")
    refused(pascal(*command, tmp_path / "energy.gif"), ".png")
    refused(pascal(*command, picture, "--chip", "loihi2"), "--plot", "one chip")


def test_a_nir_file_is_written_anew(pascal, trained, tmp_path):
    command = ["export", trained / "model.nir", "--nir"]
    refused(pascal(*command), "--output")
    refused(pascal(*command, "-o", tmp_path / "x.nir", "--double"), "--double", "source network")
    plan = ["--schedule", "streaming", "--lag", 1]
    assert pascal(*command, *plan, "--bits", 8, "-o", tmp_path / "anew.nir")[0] == 0
    assert pascal("export", trained / "model.pt", "--nir", *plan, "--bits", 8, "-o", tmp_path / "new.nir")[0] == 0
    assert not read_nir(tmp_path / "anew.nir").differences(read_nir(tmp_path / "new.nir"))
    refused(pascal("export", tmp_path / "new.nir", "--nir", "--bits", 8, "-o", tmp_path / "x.nir"), "leave --bits out")
    assert pascal(*command, "--profile", "unrolled", "-o", tmp_path / "unrolled.nir")[0] == 0
    assert pascal("export", trained / "model.pt", "--nir", "--profile", "unrolled", "-o", tmp_path / "u.nir")[0] == 0
    assert sorted(os.listdir(tmp_path)) == ["anew.nir", "new.nir", "u.nir", "unrolled.nir"]
    ours, theirs = (nir.read(tmp_path / name) for name in ("unrolled.nir", "u.nir"))
    assert sorted(ours.nodes) == sorted(theirs.nodes)
    for name, node in ours.nodes.items():
        if hasattr(node, "weight"):
            np.testing.assert_array_equal(node.weight, theirs.nodes[name].weight)


def test_run_draws_what_it_counted(pascal, trained, tmp_path, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")
    command = ["run", trained / "model.nir", "--limit", 20, "--plot"]
    code, out, _ = pascal(*command, tmp_path / "run.svg", "--json")
    report, text = json.loads(out), (tmp_path / "run.svg").read_text()
    assert code == 0
    assert f"final after {report['timesteps']}, mean" in text
    populations = json.loads(pascal("inspect", trained / "model.nir", "--json")[1])["populations"]
    spiking = [p for p in populations if p["kind"] in ("pasc", "max")]
    assert spiking and all(f">{p['name']}<" in text for p in spiking)
    drawn = [float(x) for x in re.findall(r">(\d+\.\d\d)<", text)][: len(spiking)]
    neurons = [p["neurons"] for p in spiking]
    assert np.dot(drawn, neurons) == pytest.approx(report["spikes_per_image"], abs=0.01 * sum(neurons))
    refused(pascal(*command, tmp_path / "run.gif"), ".png")


def test_deploy_writes_a_bundle_that_runs(pascal, trained, tmp_path):
    plan = ["--chip", "loihi1", "--schedule", "streaming", "--lag", 1]
    command = ["deploy", trained / "model.pt", "-o", tmp_path / "chip", *plan]
    report = json.loads(pascal(*command, "--json")[1])
    assert (report["chip"], report["quantization"]["bits"], report["schedule"]) == (
        "Loihi 1",
        8,
        "streaming",
    )
    assert set(os.listdir(tmp_path / "chip")) == {*FILES, "manifest.json"}
    again = json.loads(pascal("run", tmp_path / "chip", "--limit", 50, "--json")[1])
    assert again["target"] == "loihi"
    usual = json.loads(pascal("run", trained / "model.pt", "--bits", 8, "--limit", 50, "--json")[1])
    assert (again["accuracy"], again["schedule"]) == (usual["accuracy"], "streaming")
    assert pascal(*command[:4], "--chip", "loihi1", "--schedule", "pasc")[0] == 0, "a bundle is replaced"
    assert json.loads((tmp_path / "chip" / "program.json").read_text())["shift"] == 6
    for option in (["--bits", 4], ["--target", "lava"], ["--lag", 1], ["--workers", 2], ["-T", 5]):
        refused(pascal("run", tmp_path / "chip", *option), "runs as it was deployed")
    (tmp_path / "chip" / "routes.npz").unlink()
    refused(pascal("run", tmp_path / "chip"), "no whole bundle", "routes.npz")
    refused(pascal("run", tmp_path), "no whole bundle")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.json").write_text('{"name": "My web app", "icons": []}')
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for folder in (tmp_path / "mine", tmp_path):
        refused(pascal("deploy", trained / "model.pt", "-o", folder), "no bundle")
    assert sorted(os.listdir(tmp_path / "mine")) == ["manifest.json", "thesis.txt"]


def test_deploy_refuses_a_place_before_it_works(pascal, trained, tmp_path, monkeypatch):
    def never(*arguments, **options):
        raise AssertionError("the network was read")

    monkeypatch.setattr("pascal_nm.cli.options.load_network", never)
    (tmp_path / "mine").mkdir()
    refused(pascal("deploy", trained / "model.pt", "-o", tmp_path / "mine"), "no bundle")


def test_energy_where_the_source_networks_operations_cost_nothing(pascal, tmp_path):
    write_nir(for_digits(), tmp_path / "m.nir")
    prices = "".join(f"{event} = {{ value = {value}, source = 's' }}\n" for event, value in
                     (("synaptic_operation", 0), ("multiply_accumulate", 0), ("update", 1)))  # fmt: skip
    (tmp_path / "c.toml").write_text(f"name = 'c'\nsource = 's'\nestimate = true\n[energy]\n{prices}")
    command = ["energy", tmp_path / "m.nir", "--limit", 2, "--chip", tmp_path / "c.toml"]
    code, out, _ = pascal(*command, "--plot", tmp_path / "e.svg")
    assert code == 0 and "on the same table cost nothing" in out
    assert json.loads(pascal(*command, "--json")[1])["source_network_joules_per_image"] == 0


def test_lags_for_a_limit(pascal, trained, tmp_path):
    command = ["lags", trained / "model.pt", "--bits", 8, "--limit", 6]
    code, out, _ = pascal(*command, "--json")
    uniform = json.loads(out)["uniform"]
    assert (code, [len(set(cost["lags"])) for cost in uniform]) == (0, [1] * 4)
    limit = (uniform[0]["timesteps"] + uniform[1]["timesteps"]) / 2
    lags, picture = tmp_path / "lags.json", tmp_path / "lags.svg"
    code, out, _ = pascal(*command, "-T", limit, "-o", lags, "--plot", picture, "--json")
    (best,) = json.loads(out)["best"]
    assert code == 0
    assert best["timesteps"] <= limit
    assert best["energy"] <= uniform[0]["energy"]
    assert picture.read_text().startswith("<?xml")
    run = ["run", trained / "model.pt", "--target", "loihi", "--limit", 6, "--lag", lags, "--json"]
    report = json.loads(pascal(*run)[1])
    assert report["lag"] == best["lags"]
    assert report["timesteps_to_the_answer"]["mean"] == best["timesteps"]
    microjoules = 1e6 * uniform[0]["energy"] * (1 + 1e-9)  # microjoules and back are not always the same number
    (cheap,) = json.loads(pascal(*command, "--energy", microjoules, "--json")[1])["best"]
    assert cheap["timesteps"] <= uniform[0]["timesteps"]
    refused(pascal(*command, "-T", 2), "no lags keep this limit")
    refused(pascal(*command, "-T", 20, "--energy", 1), "one limit")
    refused(pascal(*command, "-o", lags), "--output needs")
    lags.write_text('{"lags": [-1]}')
    refused(pascal(*run[:-1]), "not a lags file")
    assert "lag" in pascal(*command)[1]


def test_lags_end_with_schedules_whose_spikes_carry_numbers_and_say_which_takes_the_least(pascal, trained):
    command = ["lags", trained / "model.pt", "--limit", 6, "--chip", "loihi2"]
    content = json.loads(pascal(*command, "--json")[1])
    (graded,) = content["graded"]
    energy = ["energy", trained / "model.pt", "--limit", 6, "--chip", "loihi2", "--schedule", "graded"]
    bill = json.loads(pascal(*energy, "--no-compare", "--json")[1])
    assert (graded["schedule"], graded["lags"], graded["timesteps"]) == ("graded", [], bill["timesteps"])
    sent = sum(each["events"]["graded_operations"] for each in bill["layers"])
    assert sent > 0 and graded["excess"] < 0, "each active neuron sends one spike"
    least = min(each["energy"] for each in content["uniform"])
    code, out, _ = pascal(*command)
    rows = [line for line in out.splitlines() if line.startswith("│")]
    assert code == 0 and rows[-1].split("│")[1].strip() == "graded"
    verdict = "beats all of these lags" if graded["energy"] < least else "does not beat all lags"
    assert f"schedule graded {verdict}" in out


def test_a_file_of_another_tool_is_run_and_inspected(pascal, tmp_path):
    rng = np.random.default_rng(0)
    nodes = {
        "input": nir.Input({"input": np.array([64])}),
        "fc": nir.Affine(rng.normal(size=(10, 64)), rng.normal(size=10)),
        "1.lif": nir.LIF(*(np.full(10, v) for v in (1e-3, 5.0, 0.0, 1.0))),
        "output": nir.Output({"output": np.array([10])}),
    }
    chain = list(nodes)
    nir.write(tmp_path / "f.nir", nir.NIRGraph(nodes, list(itertools.pairwise(chain)), type_check=False))
    refused(pascal("run", tmp_path / "f.nir"), "f.nir", "--timesteps")
    refused(pascal("run", tmp_path / "f.nir", "-T", 5, "--bits", 8), "--bits")
    for dt in ("nan", "0", "-1e-4"):
        refused(pascal("run", tmp_path / "f.nir", "-T", 5, "--dt", dt), "positive and finite")
    refused(pascal("run", tmp_path / "f.nir", "-T", 5, "--dt", 1), "tau of node '1.lif' is 0.001")
    refused(pascal("run", tmp_path / "f.nir", "-T", 5, "--r-per", "second"), "--r-per takes timestep or unit")
    refused(pascal("run", tmp_path / "f.nir", "-T", 5, "--current", "old"), "--current takes last or new")
    answers = [
        json.loads(pascal("run", tmp_path / "f.nir", "-T", 5, "--limit", 20, "--target", target, "--json")[1])
        for target in ("torch", "lava")
    ]
    assert answers[0]["spikes_by_node"] == answers[1]["spikes_by_node"]
    assert answers[0]["spikes_per_image"] > 0
    assert "pixel / 16" in answers[0]["inputs"]
    code, out, _ = pascal("inspect", tmp_path / "f.nir", "--json")
    report = json.loads(out)
    assert (code, report["weights"], report["problem"]) == (0, 640, None)
    assert {n["name"]: n["sends"] for n in report["nodes"]} == {"input": "64", "fc": "10", "1.lif": "10", "output": ""}
    nodes["w"] = nir.Linear(rng.normal(size=(10, 10)))
    raw = nir.NIRGraph(nodes, [*itertools.pairwise(chain), ("1.lif", "w"), ("w", "1.lif")], type_check=False)
    nir.write(tmp_path / "r.nir", raw)
    if shutil.which("dot"):
        assert pascal("inspect", tmp_path / "f.nir", "--plot", tmp_path / "f.svg")[0] == 0
        assert "LIF" in (tmp_path / "f.svg").read_text()
    else:
        refused(pascal("inspect", tmp_path / "f.nir", "--plot", tmp_path / "f.svg"), "graphviz")
    refused(pascal("inspect", tmp_path / "f.nir", "--plot", tmp_path / "f.jpg"), ".svg or .png")
    late = "recurrent: a timestep later arrives w -> 1.lif"
    assert late in json.loads(pascal("inspect", tmp_path / "r.nir", "--json")[1])["read"]
    code, out, _ = pascal("run", tmp_path / "r.nir", "-T", 5, "--limit", 20)
    assert code == 0 and f"read: {late}" in out


def test_inputs_that_change_over_time_are_shown_to_a_network_of_another_tool(pascal, tmp_path):
    nodes = {
        "input": nir.Input({"input": np.array([4])}),
        "if": nir.IF(np.full(4, 9999.0), np.full(4, 2.0)),
        "output": nir.Output({"output": np.array([4])}),
    }
    nir.write(tmp_path / "f.nir", nir.NIRGraph(nodes, list(itertools.pairwise(nodes)), type_check=False))
    x = np.zeros((3, 6, 4), np.float32)
    x[[0, 1, 2], 2, [1, 3, 0]] = 3
    np.savez(tmp_path / "x.npz", x=x, y=np.array([1, 3, 0]))
    refused(pascal("run", tmp_path / "f.nir", "--data", tmp_path / "x.npz"), "say --r-per timestep or --r-per unit")
    run = ["run", tmp_path / "f.nir", "--data", tmp_path / "x.npz", "--r-per", "unit"]
    answer = json.loads(pascal(*run, "--json")[1])
    assert (answer["timesteps"], answer["accuracy"], answer["spikes_per_image"]) == (6, 1.0, 1.0)
    assert "an entry in each timestep" in answer["inputs"]
    assert any("adds r x 0.0001 to I and IF" in line for line in answer["read"])
    refused(pascal(*run, "-T", 7), "the data has 6 timesteps, 7 are to be run")
    refused(pascal(*run, "--mean", 0, "--std", 1), "changes over time")


def test_frames_are_shown_to_a_network_of_another_tool(pascal, tmp_path):
    shape = (2, 3, 3)
    nodes = {
        "input": nir.Input({"input": np.array(shape)}),
        "if": nir.IF(np.ones(shape), np.full(shape, 0.99)),
        "output": nir.Output({"output": np.array(shape)}),
    }
    nir.write(tmp_path / "f.nir", nir.NIRGraph(nodes, list(itertools.pairwise(nodes)), type_check=False))
    frames = np.zeros((8, *shape), np.uint8)
    frames[[1, 2, 6]] = 255
    np.savez(tmp_path / "two.npz", frames=frames, starts=np.array([0, 4]))
    run = ["run", tmp_path / "f.nir", "--frames", tmp_path / "two.npz"]
    answer = json.loads(pascal(*run, "--json")[1])
    assert (answer["images"], answer["timesteps"], answer["spikes_per_image"]) == (2, 4, 18 * 3 / 2)
    np.savez(tmp_path / "odd.npz", frames=frames, starts=np.array([0, 3]))
    refused(pascal(*run[:-1], tmp_path / "odd.npz"), "sequences of 3 to 5 frames")
    refused(pascal(*run, "--threshold", 1), "--threshold")


def test_a_users_own_program_from_pt2_to_answers(pascal, tmp_path):
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3), QCFS(4), nn.AvgPool2d(2), QCFS(3), nn.Flatten(), nn.Linear(27, 10)
    ).eval()
    program = torch.export.export(module, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, tmp_path / "own.pt2")
    refused(pascal("run", tmp_path / "own.pt2"), "--mean")
    given = ["--scale", 16, "--mean", 0.3, "--std", 0.4]
    assert pascal("run", tmp_path / "own.pt2", "--limit", 20, *given)[0] == 0
    code, out, _ = pascal("export", tmp_path / "own.pt2", "--nir", "--scale", 16, "--mean", 0.3, "--std", 0.4)
    assert code == 0
    assert "own.nir" in out
    code, out, _ = pascal("verify", tmp_path / "own.pt2", "--nir", tmp_path / "own.nir", "--limit", 20, "--json")
    assert (code, json.loads(out)["exact"]) == (0, True)


@pytest.mark.parametrize("suffix", ["pt", "pt2"])
def test_double_precision_leaves_no_level_to_rounding(pascal, trained, tmp_path, suffix):
    own = tmp_path / f"own.{suffix}"
    inputs = []
    if suffix == "pt":
        own.write_bytes((trained / "model.pt").read_bytes())
    else:
        model = load(trained / "model.pt")
        example = torch.zeros(2, *model.input_shape)
        program = torch.export.export(model.module, (example,), dynamic_shapes=({0: torch.export.Dim("n")},))
        torch.export.save(program, own)
        inputs = ["--scale", model.preprocessing.scale, "--mean", model.preprocessing.mean[0]]
        inputs += ["--std", model.preprocessing.std[0]]
    assert pascal("export", own, "--nir", "--double", *inputs, "-o", tmp_path / "double.nir")[0] == 0
    assert read_nir(tmp_path / "double.nir").dtype == np.float64
    for given in (["--nir", tmp_path / "double.nir"], ["--double"]):
        code, out, _ = pascal("verify", own, *given, *inputs, "--json")
        assert code == 0
        assert sum(layer["flips"] for layer in json.loads(out)["layers"]) == 0


def test_verify_takes_the_bits_from_the_file(pascal, trained, tmp_path):
    assert pascal("export", trained / "model.pt", "--nir", "--bits", 4, "-o", tmp_path / "four.nir")[0] == 0
    command = ["verify", trained / "model.pt", "--nir", tmp_path / "four.nir", "--limit", 40]
    assert pascal(*command)[0] == 0
    refused(pascal(*command, "--bits", 8), "leave --bits out")
    code, out, _ = pascal("verify", trained / "model.pt", "--bits", 4, "--limit", 40)
    assert code == 0
    assert "integer QCFS network" in out


def test_quantize_chooses_bits_by_data_and_says_what_each_layer_lost(pascal, trained, tmp_path):
    file = tmp_path / "few.nir"
    command = ["quantize", trained / "model.pt", "-o", file, "--data", "digits", "--limit", 100]
    code, out, _ = pascal(*command, "--accuracy-drop", 1, "--range", "data", "--chip", "loihi1", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["accuracy"] >= report["source_accuracy"] - 0.01 - 1e-9
    assert report["bias_bits"] == 13
    assert sum(report["bits"]) < 8 * len(report["bits"])
    assert [layer["bits"] for layer in report["layers"]] == report["bits"]
    assert report["weight_bits"] == sum(layer["bits"] * layer["weights"] for layer in report["layers"])
    assert pascal("verify", trained / "model.pt", "--nir", file, "--target", "loihi", "--limit", 40)[0] == 0
    assert pascal("deploy", file, "--chip", "loihi1", "--schedule", "pasc", "-o", tmp_path / "chip")[0] == 0
    with np.load(tmp_path / "chip" / "registers.npz") as registers:
        assert "output.bias" in registers.files
    refused(pascal(*command[:2], "-o", file, "--accuracy-drop", 1), "--data")
    refused(pascal(*command[:2], "-o", file, "--bits", "4,x"), "--bits")
    refused(pascal(*command[:2], "-o", file, "--range", "wide"), "--range takes")
    refused(pascal("quantize", file, "-o", tmp_path / "again.nir"), "quantized already")
    before = file.read_bytes()
    refused(pascal(*command, "--bits", 2, "--accuracy-drop", 0), "already 2-bit weights cost")
    assert file.read_bytes() == before
    out = pascal("quantize", trained / "model.pt", "-o", file, "--bits", 5, "--range", "mse")[1]
    assert "5-bit weights, 5.00 bits each" in out


def test_a_reader_of_the_output_that_goes_does_not_change_the_answer(trained):
    command = f"{sys.executable} -m pascal_nm verify {trained}/model.pt --limit 20 | head -0; exit ${{PIPESTATUS[0]}}"
    assert subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE).returncode == 0
    full = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m pascal_nm inspect {trained}/model.nir > /dev/full"],
        capture_output=True,
        text=True,
    )
    assert (full.returncode, "Traceback" in full.stderr) == (2, False)


def test_preprocessing_that_cannot_work_is_refused(pascal, trained, tmp_path):
    module = nn.Sequential(nn.Conv2d(1, 3, 3), QCFS(4), nn.Flatten(), nn.Linear(108, 10)).eval()
    torch.export.save(torch.export.export(module, (torch.zeros(1, 1, 8, 8),)), tmp_path / "own.pt2")
    command = ["export", tmp_path / "own.pt2", "--nir"]
    refused(pascal(*command, "--mean", "0.1,0.2,0.3", "--std", "1,1,1"), "3 channels", "has 1")
    refused(pascal(*command, "--mean", "0.1,0.2", "--std", "1"), "2 value(s)")
    refused(pascal(*command, "--mean", "0.1", "--std", "0"), "std positive")
    refused(pascal(*command, "--mean", "nan", "--std", "1"), "finite")
    refused(pascal(*command, "--mean", "0.1"), "together")
    refused(pascal(*command, "--mean", "0.1", "--std", "1", "--scale", "-1"), "scale")
    refused(pascal(*command, "--mean", "0.1", "--std", "1", "--classes", "a,b"), "2 class names", "10 outputs")
    refused(pascal("export", trained / "model.pt", "--nir", "--mean", "0.5", "--std", "0.5"), "its own preprocessing")
    assert os.listdir(tmp_path) == ["own.pt2"]


def test_fine_tuning_from_a_file(pascal, trained, tmp_path):
    command = ["train", "--from", trained / "model.pt", "--epochs", 1, "-o", tmp_path / "m.pt"]
    refused(pascal(*command, "--width", 2), "--width does not go with --from")
    refused(pascal(*command, "--arch", "mlp"), "--arch does not go with --from")
    refused(pascal(*command[:2], trained / "model.nir"), "model.nir", "source network")
    refused(pascal("train", "--average"), "--average belongs to --from")
    refused(pascal(*command, "--final-levels", 2), "at least 3 epochs")
    code, out, _ = pascal(*command, "--epochs", 3, "--final-levels", 2)
    assert (code, "cnn" in out) == (0, True)
    populations = json.loads(pascal("inspect", tmp_path / "m.pt", "--json")[1])["populations"]
    assert {p["levels"] for p in populations if p["kind"] == "pasc"} == {2}


def test_trainings_that_cannot_work_are_refused(pascal, tmp_path):
    command = ["train", "--arch", "mlp", "--epochs", 1, "-o", tmp_path / "m.pt"]
    refused(pascal(*command, "--width", 0), "width")
    refused(pascal(*command, "--device", "foo"), "'foo'")
    refused(pascal(*command, "--learning-rate", 1e9), "diverged")
    refused(pascal("train", "-o", tmp_path / "none" / "m.pt"), "folder", "does not exist")
    (tmp_path / "text.pt").write_text("print()")
    refused(pascal("run", tmp_path / "text.pt"), "not a torch file")
    assert os.listdir(tmp_path) == ["text.pt"]


def test_missing_and_damaged_files(pascal, trained, tmp_path):
    refused(pascal("run", tmp_path / "none.nir"), "none.nir", "does not exist")
    refused(pascal("verify", tmp_path / "none.pt"), "none.pt", "does not exist")
    refused(pascal("verify", trained / "model.nir"), "source network")
    (tmp_path / "cut.nir").write_bytes((trained / "model.nir").read_bytes()[:3000])
    refused(pascal("run", tmp_path / "cut.nir"), "cut.nir")
    (tmp_path / "cut.pt").write_bytes((trained / "model.pt").read_bytes()[:3000])
    refused(pascal("export", tmp_path / "cut.pt", "--nir"), "cut.pt")
    refused(pascal("run", trained / "model.nir", "--data", tmp_path / "none.parquet"), "none.parquet")
    refused(pascal("run", trained / "model.nir", "--target", "spinnaker"), "spinnaker", "torch, lava, loihi")
    refused(pascal("run", trained / "model.nir", "--limit", 0), "at least 1")
    refused(pascal("train", "--levels", "4,x"), "levels", "4,x")
    refused(pascal("train", "--arch", "alexnet", "-o", tmp_path / "m.pt"), "alexnet", "resnet18")
    assert sorted(os.listdir(tmp_path)) == ["cut.nir", "cut.pt"]


def test_data_of_another_shape_is_refused(pascal, trained, tmp_path):
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / name / "0.png")
    refused(pascal("run", trained / "model.nir", "--data", tmp_path), "(1, 8, 8)", "(1, 9, 9)")


def test_an_unwritable_output_leaves_nothing(pascal, trained, tmp_path):
    (tmp_path / "file").write_text("")
    refused(pascal("export", trained / "model.pt", "--nir", "-o", tmp_path / "file" / "x.nir"), "x.nir")
    assert os.listdir(tmp_path) == ["file"]


def test_a_missing_lava_is_explained(pascal, trained, monkeypatch):
    for name in [n for n in sys.modules if n == "lava" or n.startswith(("lava.", "pascal_nm.process_models"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lava", None)
    refused(pascal("run", trained / "model.nir", "--target", "lava"), "Lava", "pip install")


def test_predictions_stand_beside_published_measurements(pascal):
    code, out, _ = pascal("silicon", "--json")
    found = json.loads(out)
    assert (code, found["outside"]) == (0, [])
    assert len({each["chip"] for each in found["measurements"]}) >= 3
    for each in found["measurements"]:
        for name, ratio in each["ratios"].items():
            assert ratio == pytest.approx(each["predicted"][name] / each["measured"][name])
    code, out, _ = pascal("silicon")
    assert code == 0 and "PilotNet" in out and "within 0.7 to 1.4" in out
    code, out, _ = pascal("silicon", "--markdown")
    assert code == 0 and out.startswith("| measurement |")


def test_a_ratio_outside_of_its_band_is_an_exit_code(pascal, monkeypatch):
    from pascal_nm.hw_targets import silicon

    monkeypatch.setitem(silicon.ASKED, "cores", (2.0, 3.0))
    code, out, _ = pascal("silicon")
    assert code == 1 and "cores predicted over measured is 0.95, outside of 2 to 3" in out


def test_the_source_network_stands_beside_a_device_that_runs_it(pascal, trained, tmp_path):
    command = ["energy", trained / "model.pt", "--limit", 6, "--no-compare"]
    found = json.loads(pascal(*command, "--json")[1])
    device = found["source_network_on_a_device"]
    assert device["device"].startswith("GreenWaves GAP9")
    assert device["joules"] == pytest.approx(
        1e-12 * device["operations"] * device["picojoules_of_a_multiply_accumulate"]
    )
    own = tmp_path / "own.toml"
    text = 'name = "Ours"\nsource = "s"\nnetwork = "n"\nmacs = 1000\nmicrojoules = 2\ncovers = "the board"\n'
    own.write_text(text)
    found = json.loads(pascal(*command, "--beside", own, "--json")[1])["source_network_on_a_device"]
    assert (found["device"], found["seconds"]) == ("Ours", None)
    assert found["joules"] == pytest.approx(2e-9 * found["operations"])
    said = pascal(*command, "--beside", own)[1]
    assert "Ours, at the 2e+03 pJ" in said and "hypothetical" in said
    own.write_text(text.replace("macs = 1000", "macs = 0"))
    refused(pascal(*command, "--beside", own), "macs is 0")
    refused(pascal(*command, "--beside", "toaster"), "unknown device 'toaster': choose from gap9")


def test_a_bill_says_what_it_does_not_know(pascal, trained):
    command = ["energy", trained / "model.pt", "--limit", 6, "--no-compare", "--chip"]
    said = pascal(*command, "loihi1")[1]
    assert "in events on Loihi 1" in said.splitlines()[0] and "in all" in said.splitlines()[0]
    assert "not known of this chip, and not in the total: the host's readout" in said
    found = json.loads(pascal(*command, "cmos45_int8", "--json")[1])
    assert found["not_known"] == ["static", "host"]
    assert found["energy"]["total"] is None and found["energy"]["dynamic"]["value"] == found["dynamic_joules_per_image"]


def test_what_is_not_known_is_named_of_several_chips_as_of_one(pascal, trained):
    command = ["energy", trained / "model.pt", "--limit", 6, "--no-compare"]
    names = ("loihi1", "loihi2", "cmos45_int8")
    several = [more for name in names for more in ("--chip", name)]
    lines = [line for line in pascal(*command, *several)[1].splitlines() if line.startswith("not known")]
    alone = {name: json.loads(pascal(*command, "--chip", name, "--json")[1])["not_known"] for name in names}
    together = json.loads(pascal(*command, *several, "--json")[1])["chips"]
    assert [each["not_known"] for each in together] == list(alone.values())
    assert alone["loihi1"] and alone["cmos45_int8"] == ["static", "host"]
    assert lines == [
        f"not known of {name}, and not in the total: {', '.join(parts)}" for name, parts in alone.items() if parts
    ]


def test_the_demo_prices_an_image_as_energy_does(pascal, trained, tmp_path, monkeypatch):
    """With messages and hops, static energy and the host."""
    from pascal_nm.cli import demo

    monkeypatch.setattr(demo, "train_network", lambda *_: load(trained / "model.pt"))
    find = demo.find

    def without_lava(target):
        if target == "lava":
            raise NotInstalledError("not here")
        return find(target)

    monkeypatch.setattr(demo, "find", without_lava)
    code, out, _ = pascal("demo", "-o", tmp_path, "--json")
    found, priced = json.loads(out), json.loads(pascal("energy", tmp_path / "model.nir", "--no-compare", "--json")[1])
    assert code == 0 and found["targets_not_installed"] == ["lava"]
    for key in ("chip", "dynamic_joules_per_image", "energy", "not_known"):
        assert found[key] == priced[key], key
    assert any(layer["joules_by_event"]["message"] for layer in priced["layers"])
    said, first = pascal("demo", "-o", tmp_path)[1], pascal("energy", tmp_path / "model.nir", "--no-compare")[1]
    assert first.splitlines()[0] in said
    assert "not known of Loihi 1, and not in the total: the host's readout" in said


def test_an_interrupted_training_goes_on(tmp_path):
    command = [sys.executable, "-c", "from pascal_nm.cli.main import main; main()", "train", "--epochs", "4"]
    command += ["-o", str(tmp_path / "model.pt")]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible)
    assert "epoch   1/4" in first.stderr.readline()
    first.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, rest = first.communicate(timeout=30)
    assert first.returncode == 130
    assert pace.since(start, time.monotonic) < 10
    assert "kept" in rest
    assert rest.endswith("interrupted\n")
    assert os.listdir(tmp_path) == ["model.pt.training"]
    second = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "epoch   1/4" not in second.stderr
    assert os.listdir(tmp_path) == ["model.pt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--levels", 1), "every layer has L = 1 already"),
        (("--levels", 4, "--final-levels", 1), "every layer has L = 1 already"),
        (("--levels", 2, "--adapt-reading", "authors"), "fewer than 3 levels"),
    ],
)
def test_levels_that_cannot_be_adapted_are_refused_before_the_training(pascal, tmp_path, options, message):
    command = ("train", "--data", "digits", "--arch", "mlp", "--epochs", 3, "--adapt", 2, *options)
    refused(pascal(*command, "-o", tmp_path / "model.pt"), message)
    assert not list(tmp_path.iterdir())
