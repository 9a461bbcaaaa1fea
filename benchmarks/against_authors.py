"""Spiking networks against the PASCAL authors' own networks, source and spiking, on random
checkpoints in float64.

``git clone https://github.com/BrainSeek-Lab/PASCAL``, then
``python benchmarks/against_authors.py PASCAL``. Ours comes from the checkpoint file that their
network saves. Each row is one random checkpoint, and each group of columns a comparison with our
spiking network:

* *source*: their network in its ANN mode (``set_train()``, then ``eval()``): largest difference of
  the logits, levels that differ in any layer, and predictions that differ.
* *spiking*: their spiking mode, prepared as their ``main_test.py`` does (biases and running means
  over the L of the layer before), with the tolerance of its comparison with the threshold
  (``input >= -8e-5``) set to -1e-12: levels and predictions that differ.
* *as published*: the same with their own tolerance.

Exits with 1 if a level or a prediction of *source* differs, or of *spiking* where the
first threshold is positive: with a negative one, their first layer sends no spikes, and
the rows below say so.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pascal_nm import convert
from pascal_nm.common.arrays import Array
from pascal_nm.simulation import simulate
from pascal_nm.simulation.result import RunResult
from pascal_nm.source.tracing import SourceNetwork, published

CASES = (
    ("vgg16", "uniform", "none"),
    ("vgg16", "mixed", "none"),
    ("vgg16", "mixed", "some"),
    ("vgg16", "mixed", "all but the first"),
    ("vgg16", "uniform", "the first"),
    ("resnet18", "uniform", "none"),
    ("resnet18", "mixed", "none"),
    ("resnet18", "mixed", "some"),
    ("resnet18", "mixed", "the first"),
    ("resnet34", "uniform", "some"),
    ("resnet34", "mixed", "none"),
)
"""Architecture, levels, and which thresholds are negative."""

NEGATIVE = {
    "none": lambda i: False,
    "some": lambda i: i % 3 == 1,
    "all but the first": lambda i: i > 0,
    "the first": lambda i: i == 0,
}
"""Whether the threshold of layer i is negative."""

PATCHES = {
    "layer.py": (("input >= -8e-5", "input >= TOLERANCE"), ("device=0", "device='cpu'")),
    "ResNet.py": (("device = 0", "device='cpu'"),),
}
"""What keeps their modules from another tolerance, and from running without a GPU."""

PUBLISHED, NONE = -8e-5, -1e-12
"""Their tolerance, and one that takes in the rounding of sums of a few spikes in float64 only."""


class Difference(NamedTuple):
    """How two networks differ.

    Attributes:
        logits: by how much at most.
        levels: how many, in all layers.
        predictions: how many.
    """

    logits: float
    levels: int
    predictions: int


def authors(folder: Path) -> Any:
    """Their ``models`` package, patched in a copy; what it imports for plots only is not needed."""
    stubs = {"cv2": "mean", "matplotlib": "pyplot", "matplotlib.pyplot": "xlim", "sympy": "print_rcode"}
    hidden = {name: sys.modules.pop(name, None) for name in stubs}
    for name, attribute in stubs.items():
        sys.modules[name] = types.ModuleType(name)
        setattr(sys.modules[name], attribute, None)
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(folder / "models", Path(copy) / "models")
        for name, changes in PATCHES.items():
            _patch(Path(copy) / "models" / name, changes)
        sys.path.insert(0, copy)
        import models

        sys.path.remove(copy)
    sys.modules["models.layer"].TOLERANCE = PUBLISHED  # type: ignore[attr-defined]
    for name, module in hidden.items():
        del sys.modules[name]
        if module is not None:
            sys.modules[name] = module
    return models


def _patch(path: Path, changes: Sequence[tuple[str, str]]) -> None:
    text = path.read_text()
    for old, new in changes:
        if old not in text:
            sys.exit(
                f"{path.name} of this clone has no {old!r}: it is another version than this benchmark is written for"
            )
        text = text.replace(old, new)
    path.write_text(text)


def random_checkpoint(models: Any, arch: str, levels: list[int], negative: str, seed: int) -> torch.nn.Module:
    """Their network with random weights, statistics and thresholds, VGG a quarter as wide."""
    torch.manual_seed(seed)
    if arch == "vgg16":
        wide = sys.modules["models.VGG"].cfg["VGG16"]
        narrow = [[n if isinstance(n, str) else n // 4 for n in stage] for stage in wide[:-1]]
        sys.modules["models.VGG"].cfg["narrow"] = [*narrow, [128, 128, 512, "M"]]
        network = sys.modules["models.VGG"].VGG("narrow", 10, 0.0)
    else:
        # Their global list is shorter than ResNet-34's layers.
        sys.modules["models.ResNet"].mylist[:] = [4] * 100
        sys.modules["models.ResNet"].counter = 0
        network = getattr(models, arch)(10)
    network = network.double()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif name.endswith(("running_mean", "bias")):
                tensor.normal_(0, 0.3)
            elif tensor.ndim > 1:
                tensor.normal_(0, tensor[0].numel() ** -0.5)
        for i, (layer, number) in enumerate(zip(neurons(network), levels, strict=True)):
            layer.L = number
            layer.thresh.fill_(-1.0 if NEGATIVE[negative](i) else 1.0).mul_(1 + torch.rand(1).item())
    return network.eval()


def neurons(network: torch.nn.Module) -> list[Any]:
    """Their IF layers, in order."""
    return [m for m in network.modules() if type(m).__name__ == "IF"]


def blocks(network: torch.nn.Module) -> list[Any]:
    """Their residual blocks, in order.

    Each holds two of the IF layers, the first of all stands before them.
    """
    return [m for m in network.modules() if hasattr(m, "T_new")]


def as_source(network: Any) -> None:
    """Their ANN mode, in which the levels of a block's branches must not be looked at."""
    network.set_train()
    for block in blocks(network):
        block.T_new = block.T


def as_spiking(models: Any, network: Any, levels: list[int]) -> None:
    """Their spiking mode.

    Numbers of timesteps in every layer, and a layer's constants shared out over the
    timesteps of its input.
    """
    network.is_training = False
    for i, layer in enumerate(neurons(network)):
        layer.index, layer.list, layer.T = i, levels, levels[i]
        layer.expand = models.ExpandTemporalDim(levels[max(i - 1, 0)])
    for i, block in enumerate(blocks(network)):
        block.T, block.T_new = levels[2 * i], levels[2 * i + 1]
    network.expand = models.ExpandTemporalDim(levels[-1])
    with torch.no_grad():
        for module, steps in _inputs(network, levels):
            for name in ("bias", "running_mean"):
                if getattr(module, name, None) is not None:
                    getattr(module, name).div_(steps)


def _inputs(network: Any, levels: list[int]) -> Iterator[tuple[torch.nn.Module, int]]:
    """Layers with constants, behind the first IF layer, each with the timesteps in which
    its input comes.
    """
    shortcuts = {id(m): levels[2 * i] for i, block in enumerate(blocks(network)) for m in block.shortcut.modules()}
    fired = 0
    for module in network.modules():
        if type(module).__name__ == "IF":
            fired += 1
        elif isinstance(module, (torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.Linear)) and fired:
            yield module, shortcuts.get(id(module), levels[fired - 1])


@contextmanager
def watched(network: torch.nn.Module, images: int) -> Iterator[list[Array]]:
    """The levels of each of their IF layers, (N, *shape), one after the other while
    the network runs.
    """
    found: list[Array] = []

    def keep(layer: Any, _: Any, output: torch.Tensor) -> None:
        total = output.reshape(-1, images, *output.shape[1:]).sum(0)
        found.append(np.rint((total / layer.thresh * layer.L).numpy()))

    hooks = [layer.register_forward_hook(keep) for layer in neurons(network)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def difference(network: Any, images: torch.Tensor, ours: RunResult, levels: list[int]) -> Difference:
    """Their network, in the mode in which it is, against our run on the same images."""
    with torch.no_grad(), watched(network, len(images)) as theirs:
        outputs = network(images)
    logits = (outputs.sum(0) if outputs.ndim == 3 else outputs).numpy()
    pairs = zip(ours.counts.values(), theirs, strict=True)
    return Difference(
        float(np.abs(ours.logits - logits).max()),
        sum(int((level != count).sum()) for count, level in pairs),
        int((ours.predictions != logits.argmax(1)).sum()),
    )


def compare(models: Any, case: tuple[str, str, str], images: torch.Tensor, seed: int) -> list[Difference]:
    """From their source network, their spiking one without tolerance, and that with
    their tolerance.
    """
    arch, kind, negative = case
    count = {"vgg16": 15, "resnet18": 17, "resnet34": 33}[arch]
    levels = [4] * count if kind == "uniform" else [(4, 8, 1, 2, 16)[i % 5] for i in range(count)]
    network = random_checkpoint(models, arch, levels, negative, seed)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(network.state_dict(), Path(folder) / "random.pth")
        model = published.load(Path(folder) / "random.pth", arch, levels)
    ours = simulate.steps(convert(SourceNetwork(model.module, images[:1])), images.numpy())
    as_source(network)
    found = [difference(network, images, ours, levels)]
    as_spiking(models, network, levels)
    for tolerance in (NONE, PUBLISHED):
        sys.modules["models.layer"].TOLERANCE = tolerance  # type: ignore[attr-defined]
        found.append(difference(network, images, ours, levels))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a clone of BrainSeek-Lab/PASCAL")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--cases", type=int, default=len(CASES), help="the first so many")
    options = parser.parse_args()
    models = authors(options.folder)
    images = torch.randn(options.images, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    print(f"{'':44}{'source':>28}{'spiking':>22}{'as published':>22}")
    columns = "".join(f"{'levels':>10}{'predictions':>12}" for _ in range(2))
    print(f"{'':18}{'negative thresholds':<20}{'logits':>10}{'levels':>12}{'predictions':>12}{columns}")
    exact = True
    for seed, case in enumerate(CASES[: options.cases]):
        source, spiking, as_published = compare(models, case, images, seed)
        arch, kind, negative = case
        others = "".join(f"{found.levels:10,}{found.predictions:12}" for found in (spiking, as_published))
        print(
            f"{f'{arch}, {kind}':18}{negative:<20}"
            f"{source.logits:10.1e}{source.levels:12,}{source.predictions:12}{others}",
            flush=True,
        )
        exact &= source.levels == source.predictions == 0
        exact &= NEGATIVE[negative](0) or spiking.levels == spiking.predictions == 0
    sys.exit(not exact)


if __name__ == "__main__":
    main()
