"""``run``, ``verify`` and ``energy`` say the same of data, whoever holds it."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import pascal_nm as pnm
from pascal_nm.errors import DataError

PRE = pnm.Preprocessing(255, (0.5,), (0.25,))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(12, 10), pnm.QCFS(4), nn.Linear(10, 6), pnm.QCFS(3), nn.Linear(6, 4)).eval()
    for layer in module:
        if isinstance(layer, pnm.QCFS):
            nn.init.constant_(layer.threshold, 1.0)
    return module


@pytest.fixture(scope="module")
def net(model):
    return pnm.convert(model, torch.zeros(1, 12))


RNG = np.random.default_rng(3)
X = RNG.normal(size=(30, 12)).astype(np.float32)
Y = RNG.integers(0, 4, 30)
PAIRS = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
KINDS = {
    "tensors": (torch.from_numpy(X), torch.from_numpy(Y)),
    "loader": DataLoader(PAIRS, batch_size=7),
    "torch dataset": PAIRS,
    "images that merge": (X.reshape(30, 1, 3, 4), Y),
    "our own": pnm.Dataset("own", X, Y, tuple("abcd"), scale=None),
}


def same(one, other):
    for name in ("predictions", "labels", "timesteps", "exact", "accuracy_over_time", "injected"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for mine, theirs in zip(one.events, other.events, strict=True):
        for name, value in vars(theirs).items():
            np.testing.assert_array_equal(getattr(mine, name), value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", ["torch", "loihi"])
def test_every_kind_of_data_runs_as_the_plain_arrays_do(net, kind, target):
    found, plain = pnm.run(net, KINDS[kind], target), pnm.run(net, X, target)
    same(found, pnm.run(net, (X, Y), target))
    np.testing.assert_array_equal(found.predictions, plain.predictions)
    assert found.labelled and found.accuracy == np.mean(plain.predictions == Y)
    without = pnm.run(net, DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=7), target)
    assert not without.labelled
    np.testing.assert_array_equal(without.predictions, plain.predictions)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_verifies_and_has_the_energy_of_the_plain_arrays(model, net, kind):
    found, plain = (pnm.verify(model, net, data) for data in (KINDS[kind], (X, Y)))
    assert found.exact and found.images == 30 and str(found) == str(plain)
    integer = pnm.quantize(net, input_range=KINDS[kind])
    assert integer.input_range == np.abs(X).max() and pnm.verify(model, integer, KINDS[kind]).exact
    assert pnm.verify(model, net, KINDS[kind], "loihi").exact
    for chip in ("loihi1", "cmos45_fp32"):
        bills = [pnm.energy(net, data, chip).joules_by_image for data in (KINDS[kind], X)]
        np.testing.assert_array_equal(*bills)


@pytest.mark.parametrize("kind", ["pixels", "uint8", "loader", "int64"])
def test_pixels_are_run_as_the_network_preprocesses_them(model, kind):
    net = pnm.convert(model, torch.zeros(1, 12), preprocessing=PRE)
    pixels = RNG.integers(0, 256, (20, 12)).astype(np.uint8)
    given = {
        "pixels": net.pixels(pixels),
        "uint8": (pixels, Y[:20]),
        "loader": DataLoader(TensorDataset(torch.from_numpy(pixels)), batch_size=7),
        "int64": (pixels.astype(int),),
    }[kind]
    for graph in (net, pnm.quantize(net)):
        expected = pnm.run(graph, (PRE(pixels), Y[:20]))
        bills = [pnm.energy(graph, data, "cmos45_fp32").joules_by_image for data in (given, pixels)]
        np.testing.assert_array_equal(*bills)
        assert pnm.verify(model, graph, given).exact
        if kind != "pixels":
            np.testing.assert_array_equal(pnm.run(graph, given).predictions, expected.predictions)


def test_a_range_of_inputs_is_kept_in_the_file_and_needs_data_that_come_twice(net, tmp_path):
    with pytest.raises(DataError, match="gone through only once"):
        pnm.run(net, iter([X]), "loihi")
    known = net.replace(input_range=4.5)
    pnm.export.write_nir(known, tmp_path / "net.nir")
    again = pnm.export.read_nir(tmp_path / "net.nir")
    assert again.input_range == 4.5 and not pnm.quantize(again).differences(pnm.quantize(net, input_range=4.5))
    assert pnm.run(again, iter([X]), "loihi").predictions.shape == (30,)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ((X, Y + 9), "label 12, but the network has 4 outputs"),
        ((X[:, :5], Y), "takes inputs of shape"),
        ((X.astype(np.uint8), Y), "does not say how pixels become inputs"),
        (DataLoader([{"x": 1}]), "dictionary"),
        ("digits", "pascal_nm.data.load"),
    ],
)
def test_what_does_not_fit_is_refused_by_all_three(model, net, data, why):
    for refusing in (
        lambda: pnm.run(net, data),
        lambda: pnm.verify(model, net, data),
        lambda: pnm.energy(net, data),
        lambda: pnm.energy(net, data, "cmos45_fp32"),
    ):
        with pytest.raises(DataError, match=why):
            refusing()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_becomes_a_dataset_in_memory(net, kind):
    made = pnm.Dataset.of(KINDS[kind], "mine", limit=25)
    assert len(made) == 25 and made.labelled and made.classes == ("0", "1", "2", "3")
    same(pnm.run(net, made), pnm.run(net, (X[:25], Y[:25])))
    assert not pnm.Dataset.of(X).labelled
    with pytest.raises(DataError, match="2 classes"):
        pnm.Dataset.of(KINDS[kind], classes=("a", "b"))
    with pytest.raises(DataError, match="some have none"):
        pnm.Dataset.of(iter([(X, Y), X]))


def test_a_session_takes_frames_that_merge_and_refuses_those_that_are_preprocessed(model):
    net = pnm.convert(model, torch.zeros(1, 12), preprocessing=PRE).replace(timing=pnm.Timing("graded"))
    frames = RNG.integers(0, 256, (4, 3, 4)).astype(np.uint8)
    found, expected = net.session().run(frames), pnm.simulate.counts(net, net.pixels(frames))
    np.testing.assert_array_equal(found.predictions, expected.predictions)
    for wrong in (PRE(frames.reshape(4, 12)), frames.astype(float) * 2):
        with pytest.raises(DataError, match="and not yet preprocessed"):
            net.session().run(wrong)
    with pytest.raises(DataError, match="does not say how pixels"):
        net.replace(preprocessing=None).session().run(frames)


@pytest.mark.parametrize(
    ("shape", "layer", "preprocessing"),
    [
        ((3, 9), nn.Conv1d(3, 4, 3), pnm.Preprocessing(255, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))),
        ((2, 3, 4, 5), nn.Conv3d(2, 3, (2, 3, 3)), pnm.Preprocessing(255, (0.4, 0.5), (0.2, 0.25))),
    ],
)
def test_series_and_volumes_are_run_verified_and_preprocessed_by_their_channels(shape, layer, preprocessing):
    torch.manual_seed(1)
    sizes = layer(torch.zeros(1, *shape)).numel()
    module = nn.Sequential(layer, pnm.QCFS(4), nn.Flatten(), nn.Linear(sizes, 3)).eval()
    nn.init.constant_(module[1].threshold, 1.0)
    pixels = RNG.integers(0, 256, (8, *shape)).astype(np.uint8)
    net = pnm.convert(module, torch.zeros(1, *shape), preprocessing=preprocessing)
    inputs = torch.from_numpy(preprocessing(pixels))
    np.testing.assert_array_equal(pnm.run(net, pixels).predictions, module(inputs).argmax(1))
    for data in (pixels, inputs, DataLoader(TensorDataset(inputs), batch_size=3)):
        assert pnm.verify(module, net, data).equal and pnm.verify(module, pnm.quantize(net), data).exact


class Two(nn.Module):
    """An image and some features."""

    def __init__(self):
        super().__init__()
        self.image, self.features, self.act = nn.Conv2d(1, 3, 3), nn.Linear(5, 3), nn.ReLU()
        self.head = nn.Linear(6, 3)

    def forward(self, image, features):
        return self.head(torch.cat([self.act(self.image(image)).mean((2, 3)), self.act(self.features(features))], 1))


def test_a_loader_of_several_inputs_is_taken_everywhere():
    torch.manual_seed(1)
    a, b, y = torch.randn(12, 1, 4, 4), torch.randn(12, 5), torch.randint(0, 3, (12,))
    pairs = [((a[i], b[i]), y[i]) for i in range(12)]
    loader = DataLoader(pairs, batch_size=5)
    qcfs = pnm.to_qcfs(Two(), 4, loader)
    net = pnm.convert(qcfs, (a[:1], b[:1]))
    assert pnm.verify(qcfs, net, loader).exact
    together = torch.cat([a.flatten(1), b], 1)
    found, expected = pnm.run(net, loader), pnm.run(net, DataLoader(together))
    np.testing.assert_array_equal(found.predictions, expected.predictions)
    assert found.accuracy == np.mean(found.predictions == y.numpy()) and np.isnan(expected.accuracy)
    assert pnm.energy(net, loader, "loihi2").dynamic > 0
    with pytest.raises(DataError, match=r"\(\(a, b\), y\) of a network of several inputs"):
        pnm.run(net, iter([(a, b, y)]))
