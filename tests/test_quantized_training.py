"""Training for a number of bits: the network that runs is the integer network, and it learns."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pascal_nm import data, training
from pascal_nm.errors import ConversionError, DataError, FileError, GraphError
from pascal_nm.network.graph import Pixels, Preprocessing, Quantization
from pascal_nm.network.quantization import quantize
from pascal_nm.simulation import simulate
from pascal_nm.source import checkpoint
from pascal_nm.source.architectures import build, qcfs_layers, set_levels
from pascal_nm.source.checkpoint import Model
from pascal_nm.training import TrainingConfig
from pascal_nm.training.quantized import QuantizedForward, recipe_of
from tests.networks import randomized

PREPROCESSING = Preprocessing(255.0, (0.48, 0.45, 0.41), (0.25, 0.24, 0.26))
SMALL = TrainingConfig(arch="cnn", options={"width": 0.25}, epochs=3, shift=1, learning_rate=0.05)

NETWORKS = {
    "mlp": {"width": 0.25},
    "cnn": {"width": 0.5, "levels": (4, 2, 8)},
    "cnn with max-pooling": {"width": 0.5, "pool": "max", "levels": 15},
    "resnet8": {"width": 0.5},
    "resnet9 with max-pooling": {"width": 0.125, "pool": "max"},
    "vgg11": {"width": 0.125, "levels": 15, "conv_bias": True},
}


def network(name, dtype=torch.float64, seed=0):
    return randomized(build(name.split()[0], (3, 32, 32), 10, **NETWORKS[name]), seed).to(dtype)


def images(n=6, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 32, 32)).astype(np.uint8)


def integers(module, bits):
    graph = Model(module, (3, 32, 32), preprocessing=PREPROCESSING).graph()
    return quantize(graph, Quantization(bits))


def bits_of(module, first, others):
    return (first, *(others for _ in qcfs_layers(module)))


def right(model, bits, images):
    """Share of images that the integer network of a checkpoint gets right."""
    graph = model.graph()
    result = simulate.counts(quantize(graph, Quantization(bits)), graph.taken(images.pixels))
    return float(np.mean(result.predictions == images.labels))


@pytest.fixture(scope="module")
def digits():
    train, test = data.load_pair("digits")
    return train.head(400), test.head(200)


@pytest.fixture(scope="module")
def trained(digits):
    return training.train(*digits, SMALL)


@pytest.mark.parametrize(
    ("name", "bits", "seed"),  # odd: thresholds of both signs
    [*((name, (8, 3), 1) for name in NETWORKS), ("resnet9 with max-pooling", 8, 0), ("vgg11", 4, 0)],
    ids=str,
)
def test_what_runs_is_the_integer_network_in_every_level_and_output(name, bits, seed):
    module = network(name, seed=seed)
    bits = bits_of(module, *bits) if isinstance(bits, tuple) else bits
    forward = QuantizedForward(module, (3, 32, 32), PREPROCESSING, Quantization(bits), check=False)
    forward.train(False)
    found = []
    for _, layer in qcfs_layers(module):
        step = layer.threshold.detach() / layer.levels
        layer.register_forward_hook(lambda _, __, out, step=step: found.append((out / step).round().int()))
    with torch.no_grad():
        outputs = forward(torch.from_numpy(PREPROCESSING(images())).double()).numpy()
    for _, layer in qcfs_layers(module):
        layer._forward_hooks.clear()
    graph = integers(module, bits)
    expected = simulate.counts(graph, Pixels(images(), PREPROCESSING))
    for p, levels in zip(graph.spiking, found, strict=True):
        assert np.array_equal(levels.numpy(), expected.counts[p.name]), p.name
    assert np.array_equal(np.rint(outputs * graph.output.threshold), expected.potential)


@pytest.mark.parametrize("name", ["resnet9 with max-pooling", "vgg11"])
def test_in_single_precision_it_is_the_same(name):
    module = network(name, torch.float32)
    forward = QuantizedForward(module, (3, 32, 32), PREPROCESSING, Quantization(4))
    forward.train(False)
    with torch.no_grad():
        outputs = forward(torch.from_numpy(PREPROCESSING(images(32)))).numpy()
    graph = integers(module, 4)
    expected = simulate.counts(graph, Pixels(images(32), PREPROCESSING))
    assert np.array_equal(np.rint(outputs * graph.output.threshold), expected.potential)


def test_each_step_runs_the_integers_of_the_weights_as_they_then_are():
    module = network("resnet8")
    forward = QuantizedForward(module, (3, 32, 32), PREPROCESSING, Quantization(3), check=False)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    inputs = torch.from_numpy(PREPROCESSING(images())).double()
    for _ in range(2):
        forward.train(True)
        graph = integers(module, 3)
        outputs = forward(inputs)
        expected = simulate.counts(graph, Pixels(images(), PREPROCESSING))
        assert np.array_equal(np.rint(outputs.detach().numpy() * graph.output.threshold), expected.potential)
        optimizer.zero_grad()
        outputs.square().mean().backward()
        optimizer.step()
    assert graph.differences(integers(module, 3)), "the steps moved no weight to another integer"


def test_inputs_between_pixels_are_rounded_to_them():
    module = network("cnn")
    forward = QuantizedForward(module, (3, 32, 32), PREPROCESSING, Quantization(8))
    forward.train(False)
    inputs = torch.from_numpy(PREPROCESSING(images())).double()
    with torch.no_grad():
        assert torch.equal(forward(inputs + 0.4 * PREPROCESSING.step.min()), forward(inputs))


@pytest.mark.parametrize("name", ["resnet8", "vgg11"])
def test_where_rounding_changes_next_to_nothing_gradients_are_those_of_the_float_network(name):
    module = network(name, seed=1)
    set_levels(module, 1000)
    whole = Preprocessing(255.0, (0.4, 0.4, 0.2), (0.25, 0.24, 0.26))  # means that are pixels
    inputs = torch.from_numpy(whole(images())).double()

    def gradients(run):
        module.zero_grad()
        torch.manual_seed(0)  # of dropout
        run(inputs)[:, 0].sum().backward()
        return torch.cat([p.grad.reshape(-1) for p in module.parameters()])

    forward = QuantizedForward(module, (3, 32, 32), whole, Quantization(16), check=False)
    forward.train(True)
    found, expected = gradients(forward), gradients(module)
    assert torch.linalg.norm(found - expected) < 0.02 * torch.linalg.norm(expected)


@pytest.mark.parametrize("name", ["cnn", "resnet8"])
def test_gradients_reach_every_parameter_and_statistics_stay(name):
    module = network(name)
    before = {k: v.clone() for k, v in module.named_buffers()}
    forward = QuantizedForward(module, (3, 32, 32), PREPROCESSING, Quantization(4))
    forward.train(True)
    forward(torch.from_numpy(PREPROCESSING(images())).double()).square().sum().backward()
    for parameter_name, parameter in module.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.any(), parameter_name
    assert all(torch.equal(v, before[k]) for k, v in module.named_buffers())


def test_training_wins_back_what_few_bits_lose(digits, trained):
    train, test = digits
    lost = right(trained, 2, test)
    seen = []
    config = replace(SMALL, bits=2, epochs=5)
    tuned = training.train(train, test, config, start=trained, progress=seen.append)
    losses = [p.loss for p in seen if p.test_accuracy is not None]
    assert losses[-1] < losses[0]
    assert tuned.metrics["test_accuracy"] > lost + 0.1


@pytest.mark.parametrize("half", [False, True])
def test_the_accuracy_is_that_of_the_integer_network_of_the_file(digits, trained, tmp_path, half):
    train, test = digits
    config = replace(SMALL, bits=3, epochs=1, half=half)
    training.train_to_file(train, test, config, tmp_path / "tuned.pt", start=trained)
    read = checkpoint.load(tmp_path / "tuned.pt")
    assert read.bits == 3
    assert read.metrics["test_accuracy"] == pytest.approx(right(read, 3, test))


def test_levels_may_change_on_the_way(digits, trained):
    train, test = digits
    config = replace(SMALL, bits=(8, 4, 4, 8), levels=8, final_levels=4, learning_rate=0.01)
    tuned = training.train(train, test, config, start=trained)
    assert tuned.levels == (4, 4, 4)
    assert tuned.metrics["test_accuracy"] == pytest.approx(right(tuned, tuned.bits, test))


def test_a_stopped_training_goes_on_to_the_same_weights_and_not_with_other_bits(digits, trained, tmp_path):
    config = replace(SMALL, bits=4, epochs=2)
    whole = training.train(*digits, config, start=trained)

    class StoppedError(Exception):
        pass

    def stop(progress):
        if progress.epoch == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        training.train(*digits, config, start=trained, checkpoint=tmp_path / "state", progress=stop)
    with pytest.raises(FileError, match="bits 4 instead of 8"):
        training.train(*digits, replace(config, bits=8), start=trained, checkpoint=tmp_path / "state")
    resumed = training.train(*digits, config, start=trained, checkpoint=tmp_path / "state")
    state = resumed.module.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in whole.module.state_dict().items())


@pytest.mark.parametrize("bits", [1, 9, (8, 4, 4, 16)])
def test_other_bits_are_refused(digits, trained, bits):
    with pytest.raises(DataError, match=r"trained for 2 to 8 bits, not (1|9|16)"):
        training.train(*digits, replace(SMALL, bits=bits), start=trained)


def test_bits_for_another_number_of_layers_are_refused(digits, trained):
    with pytest.raises(GraphError, match="3 values were given to quantize 4 layers: qcfs_2, qcfs_5, qcfs_9, output"):
        training.train(*digits, replace(SMALL, bits=(8, 4, 4)), start=trained)


@pytest.mark.parametrize("option", ["compile", "mixed_precision"])
def test_what_computes_in_other_numbers_is_refused(digits, trained, option):
    with pytest.raises(DataError, match=f"--{option.replace('_', '-')} does not go with --bits"):
        training.train(*digits, replace(SMALL, bits=4, **{option: True}), start=trained)


def test_a_network_from_scratch_is_refused(digits):
    with pytest.raises(DataError, match="give --from with --bits"):
        training.train(*digits, replace(SMALL, bits=4))


def test_layers_that_follow_each_other_without_qcfs_are_refused():
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Linear(8, 6), *list(build("mlp", (3, 2, 2), 2))[3:4])
    with pytest.raises(ConversionError, match=r"2 follows 1 without a QCFS layer in between"):
        QuantizedForward(module, (3, 2, 2), PREPROCESSING, Quantization(4))


def test_a_network_that_branches_on_its_input_is_refused():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = build("mlp", (3, 2, 2), 2, width=0.05)

        def forward(self, x):
            return self.layers(x if x.sum() > 0 else -x)

    with pytest.raises(ConversionError, match=r"torch\.fx cannot follow it"):
        QuantizedForward(Branching(), (3, 2, 2), PREPROCESSING, Quantization(4))


def test_a_file_remembers_the_bits_and_an_older_one_has_none(trained, tmp_path):
    for bits in (4, (8, 4, 4, 6), None):
        checkpoint.save(replace(trained, bits=bits), tmp_path / "model.pt")
        assert checkpoint.load(tmp_path / "model.pt").bits == bits
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    del content["bits"]
    torch.save(content, tmp_path / "model.pt")
    assert checkpoint.load(tmp_path / "model.pt").bits is None


def test_commands_take_the_bits_that_a_network_was_trained_for(pascal, trained, tmp_path):
    checkpoint.save(trained, tmp_path / "model.pt")
    code, out, _ = pascal(
        *("train", "--data", "digits", "--from", tmp_path / "model.pt", "--bits", "8,4,4,3", "--epochs", "1"),
        *("--learning-rate", "0.01", "-o", tmp_path / "tuned.pt", "--json"),
    )
    found = json.loads(out)
    assert code == 0 and found["bits"] == [8, 4, 4, 3]
    _, out, _ = pascal("quantize", tmp_path / "tuned.pt", "--data", "digits", "-o", tmp_path / "t.nir", "--json")
    quantized = json.loads(out)
    assert quantized["bits"] == [8, 4, 4, 3]
    assert quantized["accuracy"] == pytest.approx(found["test_accuracy"])
    _, out, _ = pascal("inspect", tmp_path / "tuned.pt")
    assert "for 3- to 8-bit weights" in out
    pascal("deploy", tmp_path / "tuned.pt", "-o", tmp_path / "bundle", "--json")
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert manifest["quantization"]["bits"] == [8, 4, 4, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bits", "4"), "--bits belongs to --from"),
        (("--from", "model.pt", "--bits", "9"), "a network is trained for 2 to 8 bits, not 9"),
        (("--from", "model.pt", "--bits", "8,4"), "2 values were given to quantize 4 layers"),
        (("--from", "model.pt", "--bits", "4.5"), "--bits takes whole numbers"),
    ],
)
def test_the_command_refuses_in_one_line(pascal, trained, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    checkpoint.save(trained, tmp_path / "model.pt")
    code, _, stderr = pascal("train", "--data", "digits", "-o", "tuned.pt", *options)
    assert code == 2 and message in stderr and stderr.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_a_recipe_has_the_bits_of_each_layer():
    assert recipe_of((8, 4)).bits == (8, 4) and recipe_of([4]).bits == 4
