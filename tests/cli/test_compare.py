"""`pascal-nm compare`: what it prints, writes, draws and refuses."""

import json

import numpy as np
import pytest
import torch

from pascal_nm.data import load
from pascal_nm.export.nir_format import write_nir
from pascal_nm.search import comparison
from pascal_nm.source import checkpoint
from pascal_nm.source.architectures import build
from pascal_nm.source.checkpoint import Model
from tests import networks

SMALL = ("--data", "digits", "--limit", 20, "--timesteps", "2,4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two models with random weights, and one of them as a spiking network."""
    made = tmp_path_factory.mktemp("models")
    images = load("digits", limit=1)
    for seed in (0, 1):
        torch.manual_seed(seed)
        recipe = {"arch": "cnn", "input_shape": [1, 8, 8], "classes": 10, "width": 0.25, "levels": 4}
        module = networks.randomized(build(**recipe), seed)
        preprocessing = networks.for_digits().preprocessing
        checkpoint.save(Model(module, (1, 8, 8), images.classes, preprocessing, recipe), made / f"{seed}.pt")
    write_nir(checkpoint.load(made / "0.pt").graph(), made / "0.nir")
    return made


def test_the_answer_stands_first_and_every_method_has_a_row(pascal, folder, tmp_path):
    code, out, err = pascal("compare", folder / "0.pt", *SMALL, "--environments", tmp_path)
    assert code == 0, err
    assert out.startswith("exact, graded: the source network's class for 100.00 % of the images")
    for method in ("exact, pasc", "QCFS rate, T = 4", "QCFS exit, at 0.95", "ReLU rate, T = 2"):
        assert method in out
    assert "SpikingJelly is not installed" in err


def test_json_has_the_figures_of_the_library(pascal, folder):
    code, out, _ = pascal("compare", folder / "0.nir", *SMALL, "--no-relu", "--json")
    assert code == 0
    found = json.loads(out)
    graph = networks_graph(folder)
    made = comparison.compare(graph, load("digits", limit=20), timesteps=(2, 4))
    (network,) = found["networks"]
    assert network["source_accuracy"] == made.source
    assert [m["method"] for m in network["methods"]] == [row.method for row in made.rows]
    assert [m["spikes"] for m in network["methods"]] == [row.spikes for row in made.rows]
    assert network["accuracy_over_time"] == made.curves
    assert network["spikingjelly"] is None
    assert found["spread"] == []


def networks_graph(folder):
    return checkpoint.load(folder / "0.pt").graph()


def test_the_table_is_written_as_markdown_and_drawn(pascal, folder, tmp_path):
    pytest.importorskip("matplotlib")
    files = (tmp_path / "table.md", tmp_path / "figure.svg")
    code, _, err = pascal("compare", folder / "0.nir", *SMALL, "--no-relu", "-o", files[0], "--plot", files[1])
    assert code == 0, err
    lines = files[0].read_text().splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + 1 + 5 + 2 + 2 + 2
    assert lines[3].startswith("| exact, pasc |")
    drawn = files[1].read_text()
    assert "<svg" in drawn


def test_several_trainings_are_shown_with_mean_and_spread(pascal, folder, tmp_path):
    code, out, _ = pascal("compare", folder / "0.pt", folder / "1.pt", *SMALL, "--no-relu", "--json")
    assert code == 0
    found = json.loads(out)
    accuracies = [n["methods"][8]["accuracy"] for n in found["networks"]]
    assert found["networks"][0]["methods"][8]["method"] == "QCFS rate, T = 2"
    assert found["spread"][8]["mean"]["accuracy"] == pytest.approx(np.mean(accuracies))
    assert found["spread"][8]["deviation"]["accuracy"] == pytest.approx(np.std(accuracies, ddof=1))
    code, out, _ = pascal("compare", folder / "0.pt", folder / "1.pt", *SMALL, "--no-relu", "-o", tmp_path / "t.md")
    assert code == 0
    assert "±" in out
    assert "±" in (tmp_path / "t.md").read_text()


def test_thresholds_from_the_tested_images_are_said_to_be(pascal, folder, tmp_path):
    part = tmp_path / "images"
    for label in ("0", "1"):
        (part / label).mkdir(parents=True)
        pixels = np.full((8, 8), 100 * int(label) + 50, np.uint8)
        pytest.importorskip("PIL.Image").fromarray(pixels).save(part / label / "a.png")
    options = ("--data", part, "--timesteps", "2", "--environments", tmp_path)
    _, out, err = pascal("compare", folder / "0.pt", *options)
    assert "from the tested images" in err or "pixels" in err, (out, err)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--timesteps", "two"), "--timesteps takes whole numbers separated by commas, not 'two'"),
        (("--timesteps", "4,0"), "timesteps are 1 or more"),
        (("--timesteps", ""), "--timesteps takes whole numbers"),
        (("--confidence", "sure"), "--confidence takes numbers separated by commas, not 'sure'"),
        (("--confidence", "2"), "a confidence lies between 0 and 1, not 2"),
        (("-o", "table.txt"), ".md"),
        (("--data", "nothing.parquet"), "nothing.parquet"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(pascal, folder, options, message):
    code, out, err = pascal("compare", folder / "0.pt", *SMALL, *options)
    assert (code, out, err.count("\n")) == (2, "", 1), (out, err)
    assert message in err


def test_networks_with_other_images_are_no_trainings_of_one_network(pascal, folder, tmp_path):
    recipe = {"arch": "cnn", "input_shape": [1, 16, 16], "classes": 10, "width": 0.25, "levels": 4}
    model = Model(build(**recipe), (1, 16, 16), (), networks.for_digits().preprocessing, recipe)
    checkpoint.save(model, tmp_path / "other.pt")
    code, _, err = pascal("compare", folder / "0.pt", tmp_path / "other.pt", *SMALL, "--no-relu")
    assert code == 2
    assert "are not trainings of one network" in err
