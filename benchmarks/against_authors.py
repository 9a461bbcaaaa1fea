"""Spiking networks against the PASCAL authors' own source networks, on random checkpoints in float64.

``git clone https://github.com/BrainSeek-Lab/PASCAL``, then ``python benchmarks/against_authors.py PASCAL``. Their network runs in its ANN mode
(``set_train()``, then ``eval()``); ours comes from the checkpoint file that it saves. Each row is one random checkpoint: largest difference of
the logits, levels that differ in any layer, and predictions that differ. Exits with 1 if a level or a prediction differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pascal_nm import convert, published, simulate
from pascal_nm.source import SourceNetwork

CASES = (
    ("vgg16", "uniform", False),
    ("vgg16", "mixed", False),
    ("vgg16", "mixed", True),
    ("resnet18", "uniform", False),
    ("resnet18", "mixed", False),
    ("resnet18", "mixed", True),
    ("resnet34", "uniform", True),
    ("resnet34", "mixed", False),
)
"""Architecture, levels, and whether some thresholds are negative."""


def authors(folder: Path) -> Any:
    """Their ``models`` package; what it imports for plots only is not needed."""
    stubs = {"cv2": "mean", "matplotlib": "pyplot", "matplotlib.pyplot": "xlim", "sympy": "print_rcode"}
    hidden = {name: sys.modules.pop(name, None) for name in stubs}
    for name, attribute in stubs.items():
        sys.modules[name] = types.ModuleType(name)
        setattr(sys.modules[name], attribute, None)
    sys.path.insert(0, str(folder))
    import models

    for name, module in hidden.items():
        del sys.modules[name]
        if module is not None:
            sys.modules[name] = module
    return models


def random_checkpoint(models: Any, arch: str, levels: list[int], negative: bool, seed: int) -> torch.nn.Module:
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
    layers = [m for m in network.modules() if type(m).__name__ == "IF"]
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif name.endswith(("running_mean", "bias")):
                tensor.normal_(0, 0.3)
            elif tensor.ndim > 1:
                tensor.normal_(0, tensor[0].numel() ** -0.5)
        for i, (layer, number) in enumerate(zip(layers, levels, strict=True)):
            layer.L = number
            layer.thresh.fill_(-1.0 if negative and i % 3 == 1 else 1.0).mul_(1 + torch.rand(1).item())
    network.set_train()
    for module in network.modules():
        if hasattr(module, "T_new"):
            module.T_new = module.T
    return network.eval()


def compare(
    models: Any, arch: str, kind: str, negative: bool, images: torch.Tensor, seed: int
) -> tuple[float, int, int]:
    """Largest difference of the logits; levels that differ; predictions that differ."""
    count = {"vgg16": 15, "resnet18": 17, "resnet34": 33}[arch]
    levels = [4] * count if kind == "uniform" else [(4, 8, 1, 2, 16)[i % 5] for i in range(count)]
    network = random_checkpoint(models, arch, levels, negative, seed)
    theirs: list[torch.Tensor] = []
    hooks = [
        m.register_forward_hook(lambda layer, _, output: theirs.append(output / layer.thresh * layer.L))
        for m in network.modules()
        if type(m).__name__ == "IF"
    ]
    with torch.no_grad():
        expected = network(images).numpy()
    for hook in hooks:
        hook.remove()
    with tempfile.TemporaryDirectory() as folder:
        torch.save(network.state_dict(), Path(folder) / "random.pth")
        model = published.load(Path(folder) / "random.pth", arch, levels)
    graph = convert(SourceNetwork(model.module, images[:1]))
    result = simulate.steps(graph, images.numpy())
    pairs = zip(result.counts.values(), theirs, strict=True)
    differing = sum(int((np.rint(level.numpy()) != count).sum()) for count, level in pairs)
    wrong = int((result.predictions != expected.argmax(1)).sum())
    return float(np.abs(result.logits - expected).max()), differing, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a clone of BrainSeek-Lab/PASCAL")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--cases", type=int, default=len(CASES), help="the first so many")
    options = parser.parse_args()
    models = authors(options.folder)
    images = torch.randn(options.images, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    print(f"{'':32}{'logits differ by':>18}{'levels':>10}{'predictions':>13}")
    exact = True
    for seed, (arch, kind, negative) in enumerate(CASES[: options.cases]):
        difference, levels, predictions = compare(models, arch, kind, negative, images, seed)
        name = f"{arch}, {kind}{', some negative' if negative else ''}"
        print(f"{name:32}{difference:18.1e}{levels:10}{predictions:13}", flush=True)
        exact &= levels == predictions == 0
    sys.exit(not exact)


if __name__ == "__main__":
    main()
