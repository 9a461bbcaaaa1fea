"""The Python interface as its first example says: convert, write, run, by names of
the package alone.
"""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import pascal_nm as pnm


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), pnm.QCFS(4), nn.Linear(16, 10)).eval()


@pytest.fixture(scope="module")
def digits():
    return pnm.data.load("digits", limit=20)


@pytest.fixture(scope="module")
def net(model, digits):
    return pnm.convert(model, torch.zeros(1, 1, 8, 8), preprocessing=digits.preprocessing())


@pytest.mark.parametrize("target", ["torch", "lava", "loihi"])
def test_a_model_becomes_a_file_and_a_run_on_every_target(model, digits, target, tmp_path):
    if target == "lava":
        pytest.importorskip("lava")
    x = torch.from_numpy(digits.preprocessing()(digits.pixels))
    net = pnm.convert(model, x, preprocessing=digits.preprocessing())
    pnm.export.write_nir(net, str(tmp_path / "model.nir"))
    result = pnm.run(pnm.export.read_nir(tmp_path / "model.nir"), x, target=target)
    assert isinstance(result, pnm.RunResult)
    if target == "loihi":
        for name, count in pnm.run(pnm.quantize(net), x).counts.items():
            np.testing.assert_array_equal(result.counts[name], count)
    else:
        np.testing.assert_allclose(result.logits, model(x).detach().numpy(), atol=1e-5)


def test_a_run_takes_arrays_and_tensors_with_or_without_gradients(net, digits):
    inputs = net.preprocessing(digits.pixels)
    counts = [pnm.run(net, data).counts for data in (inputs, torch.from_numpy(inputs).requires_grad_())]
    for name in counts[0]:
        np.testing.assert_array_equal(counts[0][name], counts[1][name])


def test_a_run_of_labelled_images_knows_how_many_are_right(net, digits):
    result = pnm.run(net, digits)
    assert isinstance(result, pnm.Evaluation)
    np.testing.assert_array_equal(result.predictions, pnm.run(net, net.preprocessing(digits.pixels)).predictions)
    assert result.accuracy == np.mean(result.predictions == digits.labels)


@pytest.mark.parametrize("target", ["torch", "loihi"])
def test_verification_says_yes_of_the_network_and_no_of_another(model, net, digits, target):
    found = pnm.verify(model, net, digits, target)
    assert isinstance(found, pnm.Verification)
    assert (found.exact, found.images, found.prediction_mismatches) == (True, 20, 0)
    assert pnm.verify(model, pnm.quantize(net, 6), digits, target).exact
    changed = net.replace(populations=[replace(p, bias=p.bias + 1) if p.kind == "pasc" else p for p in net.populations])
    assert not pnm.verify(model, changed, digits, target).exact


def test_the_energy_of_a_network_is_that_of_the_command(net, digits, tmp_path, pascal):
    pnm.export.write_nir(net, tmp_path / "net.nir")
    for chip, memory in (("loihi1", False), ("cmos45_int8", True)):
        bill = pnm.energy(net, digits, chip, memory=memory)
        command = ["energy", tmp_path / "net.nir", "--limit", 20, "--chip", chip, *(["--memory"] if memory else [])]
        report = json.loads(pascal(*command, "--json")[1])
        assert bill.dynamic == pytest.approx(report["dynamic_joules_per_image"], rel=1e-12)
        assert sum(layer.dynamic for layer in bill.layers) == pytest.approx(bill.dynamic)
    with pytest.raises(pnm.PascalError, match="unknown chip"):
        pnm.energy(net, digits, "loihi9")


def test_verification_in_double_precision(model, digits):
    double = copy.deepcopy(model).double()
    net = pnm.convert(double, torch.zeros(1, 1, 8, 8, dtype=torch.float64), preprocessing=digits.preprocessing())
    found = pnm.verify(double, net, digits)
    assert found.exact and all(layer.flips == 0 for layer in found.layers.values())


def test_labelled_images_need_a_network_that_says_how_pixels_become_inputs(model, digits):
    net = pnm.convert(model, torch.zeros(1, 1, 8, 8))
    with pytest.raises(pnm.PascalError, match="preprocessing="):
        pnm.run(net, digits)


def test_what_does_not_fit_is_refused_in_words(net, digits):
    with pytest.raises(pnm.PascalError, match="choose from torch, lava, loihi"):
        pnm.run(net, digits, target="abacus")
    with pytest.raises(pnm.PascalError, match="takes inputs of shape"):
        pnm.run(net, np.zeros((2, 1, 7, 8)))


def test_a_printed_network_is_a_table_of_its_populations_and_not_its_weights(net):
    lines = repr(net).splitlines()
    assert lines[0] == "Spiking network in float32, schedule pasc"
    assert [line.split()[0] for line in lines[1:]] == ["name", *(p.name for p in net.populations)]
    assert lines[-1].endswith(f"{next(iter(net.spiking)).name} (dense 10x16)")
    assert repr(pnm.quantize(net)).startswith("Spiking network in 8-bit integers")
