"""A network that takes vectors, and arrays in files, through every command."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import pascal_nm as pnm
from pascal_nm import data
from pascal_nm.errors import DataError
from pascal_nm.export.nir_format import read_nir, write_nir

RNG = np.random.default_rng(5)
X = RNG.normal(size=(24, 1, 4, 3)).astype(np.float32)
"""Of a vector of 12 numbers each, as images whose axes merge."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network as model.pt2 and model.nir, and arrays: with labels and without, and pixels."""
    path = tmp_path_factory.mktemp("arrays")
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(12, 10), pnm.QCFS(4), nn.Linear(10, 6), pnm.QCFS(3), nn.Linear(6, 3)).eval()
    for layer in module:
        if isinstance(layer, pnm.QCFS):
            nn.init.constant_(layer.threshold, 1.0)
    images = torch.export.Dim("images")
    torch.export.save(
        torch.export.export(module, (torch.zeros(2, 12),), dynamic_shapes=({0: images},)), path / "model.pt2"
    )
    net = pnm.convert(module, torch.zeros(1, 12))
    write_nir(net, path / "model.nir")
    flat = X.reshape(24, 12)
    labels = pnm.run(net, flat).predictions
    np.savez(path / "all.npz", x=X, y=labels, classes=["a", "b", "c"])
    np.savez(path / "x.npz", x=flat.astype(np.float64))
    np.save(path / "x.npy", flat)
    pixels = RNG.integers(0, 256, (24, 12)).astype(np.uint8)
    np.savez(path / "pixels.npz", x=pixels, y=labels, mean=0.5, std=[0.25])
    np.save(path / "pixels.npy", pixels)
    return path


def answered(outcome):
    code, out, err = outcome
    assert code == 0, err
    return json.loads(out)


def refused(outcome, *words):
    code, out, err = outcome
    assert (code, out, err.count("\n")) == (2, "", 1) and all(word in err for word in words), outcome


@pytest.mark.parametrize("name", ["all.npz", "x.npz", "x.npy", "pixels.npz"])
@pytest.mark.parametrize("target", ["torch", "loihi"])
def test_arrays_are_run_and_verified_with_accuracies_where_they_have_labels(pascal, folder, name, target):
    arguments = ("-d", folder / name, "-t", target, "--json", "-q")
    ran = answered(pascal("run", folder / "model.nir", *arguments))
    verified = answered(pascal("verify", folder / "model.pt2", "--nir", folder / "model.nir", *arguments))
    assert verified["exact"] and verified["images"] == ran["images"] == 24
    assert verified["accuracy"] == ran["accuracy"]
    if name.startswith("x"):
        assert ran["accuracy"] is None and ran["accuracy_over_time"] == []
    elif name == "all.npz" and target == "torch":
        assert ran["accuracy"] == 1.0


@pytest.mark.parametrize("name", ["all.npz", "x.npy"])
def test_arrays_have_an_energy(pascal, folder, name):
    (cmos, loihi) = answered(
        pascal(
            *("energy", folder / "model.nir", "-d", folder / name, "--json", "-q", "--no-compare"),
            *("--chip", "cmos45_fp32", "--chip", "loihi2"),
        )
    )["chips"]
    net = read_nir(folder / "model.nir")
    for found, chip in ((cmos, "cmos45_fp32"), (loihi, "loihi2")):
        assert found["dynamic_joules_per_image"] == pnm.energy(net, X, chip).dynamic


def test_a_network_of_vectors_is_quantized_deployed_mapped_and_executed(pascal, folder, tmp_path):
    code, _, err = pascal("deploy", folder / "model.nir", "-o", tmp_path / "none")
    assert code == 2 and "the range of the input is unknown" in err and "quantize --data" in err
    made = answered(
        pascal("quantize", folder / "model.nir", "-d", folder / "all.npz", "-o", tmp_path / "q.nir", "--json")
    )
    assert made["source_accuracy"] == 1.0
    assert "accuracy" not in answered(
        pascal("quantize", folder / "model.nir", "-d", folder / "x.npy", "-o", tmp_path / "p.nir", "--json", "-q")
    )
    assert not read_nir(tmp_path / "q.nir").differences(read_nir(tmp_path / "p.nir"))
    assert answered(pascal("deploy", tmp_path / "q.nir", "-o", tmp_path / "bundle", "--json"))["cores"]
    ran = answered(pascal("run", tmp_path / "bundle", "-d", folder / "x.npy", "-o", tmp_path / "a.npz", "--json"))
    expected = pnm.run(read_nir(tmp_path / "q.nir"), X).predictions
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["predictions"], expected)
    assert ran["accuracy"] is None
    assert answered(pascal("map", folder / "model.nir", "-d", folder / "x.npy", "--json"))["cores"]
    verified = answered(
        pascal("verify", folder / "model.pt2", "--nir", tmp_path / "q.nir", "-d", folder / "x.npz", "--json")
    )
    assert verified["exact"]


def test_files_for_other_simulators_run_arrays(pascal, folder, tmp_path):
    unrolled, rate = tmp_path / "u.nir", tmp_path / "r.nir"
    assert pascal("export", folder / "model.nir", "--nir", "--profile", "unrolled", "-o", unrolled)[0] == 0
    assert answered(pascal("run", unrolled, "-d", folder / "all.npz", "--json"))["accuracy"] == 1.0
    assert answered(pascal("run", unrolled, "-d", folder / "x.npy", "--json"))["accuracy"] is None
    exporting = ("export", folder / "model.nir", "--nir", "--profile", "rate", "-o", rate)
    assert answered(pascal(*exporting, "-d", folder / "all.npz", "--json"))["measured"]
    refused(pascal(*exporting, "-d", folder / "x.npy"), "needs labels")
    refused(pascal("run", unrolled, "-d", folder / "pixels.npy"), "does not say how pixels become inputs")


@pytest.mark.slow
def test_the_other_commands_take_arrays_too(pascal, folder, tmp_path):
    pytest.importorskip("plotly")
    model, nir, labelled, plain = (folder / name for name in ("model.pt2", "model.nir", "all.npz", "x.npy"))
    assert answered(pascal("adapt", nir, "-d", plain, "-o", tmp_path / "l.json", "--json", "-q"))["images"] == 24
    assert answered(pascal("lags", nir, "-d", plain, "--json", "-q"))["uniform"]
    assert answered(pascal("compare", model, "-d", labelled, "--json", "-q"))["images"] == 24
    refused(pascal("compare", model, "-d", plain), "a comparison needs labels")
    for path, accuracy in ((labelled, 1.0), (plain, None)):
        page = answered(
            pascal(
                "report",
                nir,
                "--model",
                model,
                "-d",
                path,
                "-o",
                tmp_path / "r.html",
                "--json",
                "-q",
                "--chip",
                "loihi2",
            )
        )
        assert page["accuracy"] == accuracy and page["source"]["exact"] and len(page["images"][0]["pixels"][0][0]) == 12


def test_what_needs_labels_or_pixels_says_so(pascal, folder, tmp_path):
    nir, plain, pixels = (folder / name for name in ("model.nir", "x.npy", "pixels.npy"))
    drop = ("quantize", nir, "-d", plain, "-o", tmp_path / "q.nir", "--accuracy-drop", "1")
    refused(pascal(*drop), "--accuracy-drop needs labels", "x.npy")
    refused(pascal("train", "-d", plain, "-o", tmp_path / "m.pt"), "training takes 8-bit images")
    for command in ("run", "energy"):
        refused(pascal(command, nir, "-d", pixels, "-q"), "does not say how pixels become inputs")
    refused(pascal("run", nir, "-q"), "takes images of shape (12,)")


def test_a_file_says_how_its_pixels_become_inputs_and_must_not_contradict_the_network(pascal, folder, tmp_path):
    found = data.load(str(folder / "pixels.npz"))
    assert found.known == pnm.Preprocessing(255, (0.5,), (0.25,)) and found.shape == (12,)
    net = read_nir(folder / "model.nir")
    write_nir(net.replace(preprocessing=found.known), tmp_path / "same.nir")
    write_nir(net.replace(preprocessing=pnm.Preprocessing(255, (0.4,), (0.25,))), tmp_path / "other.nir")
    ran = [
        answered(pascal("run", path, "-d", folder / "pixels.npz", "--json", "-q"))
        for path in (folder / "model.nir", tmp_path / "same.nir")
    ]
    assert ran[0]["accuracy_over_time"] == ran[1]["accuracy_over_time"]
    refused(pascal("run", tmp_path / "other.nir", "-d", folder / "pixels.npz"), "says mean and std of its own")


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"images": X}, "'images': inputs or pixels are called x"),
        ({"x": X, "labels": X[:, 0, 0, 0]}, "labels y"),
        ({"x": X, "y": [0, 1]}, "one label for each"),
        ({"x": X, "y": [-1] * 24}, "whole numbers from 0 on"),
        ({"x": X, "y": [1.5] * 24}, "whole numbers from 0 on"),
        ({"x": X, "y": [3] * 24, "classes": ["a", "b"]}, "label 3, but there are 2 classes"),
        ({"x": X, "mean": 0.5}, "mean and std belong together"),
        ({"x": X, "mean": np.nan, "std": 1}, "NaN"),
        ({"x": X, "mean": 0.5, "std": -1.0}, "std positive"),
        ({"x": X, "scale": [1, 2]}, "one positive number"),
        ({"x": X, "classes": [1, 2]}, "no list of texts"),
        ({"x": X * np.nan}, "NaN"),
        ({"x": X.astype(str)}, "numbers are needed"),
        ({"x": X.astype(object)}, "cannot be read|numbers are needed"),
        ({"x": np.float32(3)}, "single number|no inputs"),
        ({"x": X[:0]}, "no inputs"),
    ],
)
def test_a_file_of_other_arrays_is_refused_with_the_reason(tmp_path, arrays, why):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=why):
        data.load(str(tmp_path / "a.npz"))


def test_a_limit_reads_the_first_inputs_of_a_file(folder):
    for name in ("all.npz", "x.npy"):
        whole, some = data.load(str(folder / name)), data.load(str(folder / name), limit=5)
        np.testing.assert_array_equal(some.pixels, whole.pixels[:5], strict=True)
        np.testing.assert_array_equal(some.labels, whole.labels[:5], strict=True)
        assert some.classes == whole.classes
    with pytest.raises(DataError, match="does not exist"):
        data.load(str(folder / "none.npz"))
