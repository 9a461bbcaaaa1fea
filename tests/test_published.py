"""Checkpoints with the key names of the PASCAL and QCFS repositories."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from pascal_nm import QCFS, convert
from pascal_nm.errors import ConversionError, FileError
from pascal_nm.simulation import simulate
from pascal_nm.source import checkpoint, published
from pascal_nm.source.architectures import build, qcfs_layers
from tests.networks import randomized

THRESHOLD = {"new": "thresh", "old": "up"}


def vgg_keys(module, name):
    """Our state under the repositories' names: layer1 to layer5 with dropout in every place,
    then the classifier.
    """
    state, stage, index = {}, 1, 0
    for layer in module.features:
        prefix = f"layer{stage}.{index}"
        if isinstance(layer, QCFS):
            state[f"{prefix}.{name}"] = layer.threshold.reshape(1)
            index += 2
        elif isinstance(layer, nn.AvgPool2d):
            stage, index = stage + 1, 0
        else:
            state |= {f"{prefix}.{key}": value for key, value in layer.state_dict().items()}
            index += 1
    for index, layer in enumerate(module.classifier):
        if isinstance(layer, QCFS):
            state[f"classifier.{index}.{name}"] = layer.threshold.reshape(1)
        else:
            state |= {f"classifier.{index}.{key}": value for key, value in layer.state_dict().items()}
    return state


def resnet_keys(module, name):
    """The same for ResNets: conv1, conv2_x to conv5_x, fc; old files call the last activation
    of a block relu.
    """
    last = "act" if name == "thresh" else "relu"
    state = _renamed(module.stem, "conv1", name)
    stage, block = 2, 0
    for unit in module.blocks:
        if not isinstance(unit.shortcut[0], nn.Identity):
            stage, block = stage + 1, 0
        prefix = f"conv{stage}_x.{block}"
        state |= _renamed(unit.body, f"{prefix}.residual_function", name)
        state |= _renamed(unit.shortcut, f"{prefix}.shortcut", name)
        state[f"{prefix}.{last}.{name}"] = unit.act.threshold.reshape(1)
        block += 1
    return state | {f"fc.{key}": value for key, value in module.head[2].state_dict().items()}


def _renamed(module, prefix, name):
    return {
        f"{prefix}.{key.replace('threshold', name)}": value.reshape(1) if key.endswith("threshold") else value
        for key, value in module.state_dict().items()
    }


def random_network(arch, seed, levels):
    if arch == "resnet20":
        module = build(arch, (3, 32, 32), 7, levels)
    elif arch.startswith("resnet"):
        module = build(arch, (3, 32, 32), 10, levels, width=[6, 5, 7, 8])
    else:
        widths = [4, 6, 5, 7, 8, 8, 6, 5][: 8 if arch == "vgg11" else None]
        module = build(arch, (3, 32, 32), 10, levels, width=[*widths, 12, 9], conv_bias=True)
    return randomized(module, seed)


@pytest.mark.parametrize("names", ["new", "old"])
@pytest.mark.parametrize("arch", ["vgg11", "resnet18", "resnet20", "resnet34"])
@pytest.mark.parametrize("seed", [0, 1], ids=["positive", "some negative"])
def test_a_checkpoint_gives_the_network_that_wrote_it(arch, seed, names, tmp_path):
    count = len(qcfs_layers(random_network(arch, 0, 4)))
    levels = [(4, 8, 1, 2, 16)[i % 5] for i in range(count)]
    module = random_network(arch, seed, levels)
    keys = vgg_keys if arch.startswith("vgg") else resnet_keys
    torch.save(keys(module, THRESHOLD[names]), tmp_path / "published.pth")
    model = published.load(tmp_path / "published.pth", arch, levels)
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected = module(images).numpy()
        np.testing.assert_array_equal(model.module(images).numpy(), expected)
    result = simulate.counts(convert(model.in_double().source()), images.numpy())
    np.testing.assert_allclose(result.logits, expected, rtol=0, atol=1e-12)
    assert len(np.unique(np.concatenate([c.ravel() for c in result.counts.values()]))) > 5


def test_wrapped_state_dicts_and_data_parallel_prefixes_are_read(tmp_path):
    module = random_network("resnet18", 0, 4)
    state = {f"module.{key}": value for key, value in resnet_keys(module, "thresh").items()}
    torch.save({"epoch": 3, "model_state_dict": state, "acc": 0.5}, tmp_path / "wrapped.pth")
    model = published.load(tmp_path / "wrapped.pth", "resnet18", 4)
    assert model.recipe["width"] == [6, 5, 7, 8]
    assert model.input_shape == (3, 32, 32)


WRAPPERS = {
    "best accuracy": (lambda s: {"epoch": 3, "state_dict": s, "best_acc1": torch.tensor(50.0)}, "'state_dict'"),
    "scaler and generators": (
        lambda s: {"rng": torch.zeros(9).byte(), "scaler": {"scale": torch.ones(1)}, "net": s},
        "'net'",
    ),
    "in another": (lambda s: {"best": torch.tensor(1.0), "checkpoint": {"state_dict": s}}, "'checkpoint.state_dict'"),
    "average first": (lambda s: {"ema": {k: v * 0 for k, v in s.items()}, "state_dict": s}, "'state_dict' (not 'ema'"),
    "optimizer first": (
        lambda s: {"optimizer": {"state": {0: {"momentum_buffer": s["fc.weight"]}}}, "model": s},
        "'model'",
    ),
}


@pytest.mark.parametrize(("wrap", "said"), WRAPPERS.values(), ids=WRAPPERS)
def test_the_network_is_found_among_what_a_file_holds_and_named(wrap, said, tmp_path):
    module = random_network("resnet18", 0, 4)
    torch.save(wrap(resnet_keys(module, "thresh")), tmp_path / "wrapped.pth")
    notes = []
    model = published.load(tmp_path / "wrapped.pth", "resnet18", 4, note=notes.append)
    assert torch.equal(model.module.head[2].weight, module.head[2].weight)
    assert len(notes) == 1 and f"read was its entry {said}" in notes[0]


def test_what_other_programs_count_in_a_network_is_passed_over(tmp_path):
    module = random_network("resnet18", 0, 4)
    state = resnet_keys(module, "thresh")
    counted = {"total_ops": torch.zeros(1), "n_averaged": torch.tensor(3)}
    for key, value in state.items():
        counted |= {key: value, f"{key.rpartition('.')[0]}.total_params": torch.zeros(1)}
    torch.save({f"_orig_mod.module.{key}": value for key, value in counted.items()}, tmp_path / "x.pth")
    notes = []
    model = published.load(tmp_path / "x.pth", "resnet18", 4, note=notes.append)
    assert torch.equal(model.module.head[2].weight, module.head[2].weight) and notes == []


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_weights_that_are_no_numbers_of_a_network_are_refused(dtype, tmp_path):
    state = resnet_keys(random_network("resnet18", 0, 4), "thresh")
    torch.save({k: v.to(dtype) for k, v in state.items()}, tmp_path / "x.pth")
    with pytest.raises(FileError, match="must hold floating-point numbers"):
        published.load(tmp_path / "x.pth", "resnet18", 4)


def test_a_large_vgg_says_its_input_size(tmp_path):
    module = build("vgg11", (3, 224, 224), 12, 4, width=[2] * 10, conv_bias=True)
    torch.save(vgg_keys(module, "thresh"), tmp_path / "large.pth")
    model = published.load(tmp_path / "large.pth", "vgg11", 4)
    assert (model.input_shape, len(model.classes)) == ((3, 224, 224), 12)


def test_the_imported_model_is_saved_and_loaded(tmp_path):
    module = random_network("resnet18", 1, 4).float()
    torch.save(resnet_keys(module, "thresh"), tmp_path / "published.pth")
    model = published.load(tmp_path / "published.pth", "resnet18", 4, preprocessing=published.PREPROCESSING["cifar10"])
    checkpoint.save(model, tmp_path / "model.pt")
    again = checkpoint.load(tmp_path / "model.pt")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again.module(images), module(images), rtol=0, atol=0)
    assert again.preprocessing == published.PREPROCESSING["cifar10"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {k: v for k, v in state.items() if "fc" not in k}, "end with a linear layer"),
        (lambda state: {k: v for k, v in state.items() if "conv5_x.1" not in k}, "not resnet18"),
        (lambda state: {k: v for k, v in state.items() if k != "conv1.1.running_var"}, "no running_var"),
        (lambda state: state | {"fc.weight": state["fc.weight"][:, 1:]}, "fc.weight has shape"),
        (lambda state: state | {"fc.bias": state["fc.bias"] * np.nan}, "NaN"),
        (lambda state: {"epoch": 3}, "no state_dict"),
        (lambda state: state | {"odd.thing": torch.zeros(3)}, "odd holds thing"),
    ],
)
def test_a_file_that_is_something_else_is_refused(tmp_path, change, message):
    state = resnet_keys(random_network("resnet18", 0, 4), "thresh")
    torch.save(change(state), tmp_path / "bad.pth")
    with pytest.raises(FileError, match=message):
        published.load(tmp_path / "bad.pth", "resnet18", 4)


def test_what_stands_in_many_places_is_looked_at_once(tmp_path):
    content = {}
    content.update({str(i): content for i in range(2000)})
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(FileError, match="no state_dict"):
        published.load(tmp_path / "x.pth", "resnet18", 4)


def test_a_network_in_a_tuple_or_list_is_found(tmp_path):
    state = resnet_keys(random_network("resnet18", 0, 4), "thresh")
    torch.save((state, {"lr": 0.1}), tmp_path / "x.pth")
    notes = []
    published.load(tmp_path / "x.pth", "resnet18", 4, note=notes.append)
    assert notes[0].endswith("read was its entry '0'")


def test_numbers_in_names_may_have_any_length(tmp_path):
    torch.save({f"layer{digit * 5000}.weight": torch.zeros(1, 1, 1, 1) for digit in "98"}, tmp_path / "x.pth")
    with pytest.raises(FileError, match="linear layer"):
        published.load(tmp_path / "x.pth", "resnet18", 4)


def test_a_wrong_architecture_or_number_of_levels_is_refused(tmp_path):
    torch.save(resnet_keys(random_network("resnet18", 0, 4), "thresh"), tmp_path / "r18.pth")
    with pytest.raises(FileError, match="not resnet34"):
        published.load(tmp_path / "r18.pth", "resnet34", 4)
    with pytest.raises(FileError, match="vgg16"):
        published.load(tmp_path / "r18.pth", "vgg16", 4)
    with pytest.raises(ConversionError, match="3 levels were given for 17"):
        published.load(tmp_path / "r18.pth", "resnet18", [4, 4, 4])
    with pytest.raises(FileError, match="unknown architecture"):
        published.load(tmp_path / "r18.pth", "alexnet", 4)
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(FileError, match=r"module.pth holds pickled Python objects"):
        published.load(tmp_path / "module.pth", "vgg16", 4)


@pytest.mark.parametrize("arch", ["vgg11", "resnet18"])
def test_keys_in_another_order_than_the_modules_are_refused(arch, tmp_path):
    keys = (vgg_keys if arch == "vgg11" else resnet_keys)(random_network(arch, 0, 4), "thresh")
    swapped = ("layer3.0", "layer3.4") if arch == "vgg11" else ("conv2_x.0", "conv2_x.1")
    block = [{k: v for k, v in keys.items() if k.startswith(f"{name}.")} for name in swapped]
    rest = {k: v for k, v in keys.items() if k not in block[0] and k not in block[1]}
    first = next(iter(block[0]))
    before = dict(itertools.takewhile(lambda item: item[0] != first, keys.items()))
    torch.save(before | block[1] | block[0] | {k: v for k, v in rest.items() if k not in before}, tmp_path / "x.pth")
    with pytest.raises(FileError, match=rf"{swapped[0]}.* stands behind {swapped[1]}"):
        published.load(tmp_path / "x.pth", arch, 4)
