"""Networks that tests share: every operator that converts, in the combinations that users build."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from pascal_nm import QCFS, Graph, Population, Preprocessing, Projection
from pascal_nm.network.operators import Dense


def randomized(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights, normalization statistics and thresholds of both signs where ``seed``
    is odd; float64.
    """
    generator = torch.Generator().manual_seed(seed)
    module = module.double()
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        if name.endswith("running_var"):
            tensor.copy_(noise.abs() + 0.5)
        elif tensor.ndim > 1:
            tensor.copy_(noise / tensor[0].numel() ** 0.5)
        elif name.endswith("threshold"):
            sign = -1.0 if seed % 2 and len(name) % 2 else 1.0
            tensor.copy_(sign * (noise.abs() + 0.5))
        else:
            tensor.copy_(0.3 * noise + (1.0 if name.endswith("weight") else 0.0))
    return module.eval()


class Residual(nn.Module):
    """Identity and projection shortcuts, with other levels on each branch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), QCFS(3))
        self.body = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), QCFS(7), nn.Conv2d(4, 4, 1)
        )
        self.act = QCFS(5)
        self.down = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.BatchNorm2d(6), QCFS(4), nn.Conv2d(6, 6, 3, 1, 1))
        self.shortcut = nn.Sequential(nn.Conv2d(4, 6, 1, 2), nn.BatchNorm2d(6))
        self.act2 = QCFS(2)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))

    def forward(self, x):
        x = self.stem(x)
        x = self.act(self.body(x) + x)
        x = self.act2(self.down(x) + self.shortcut(x))
        return self.head(x)


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=(1, 2), padding=(1, 2), dilation=(1, 2)),
        nn.BatchNorm2d(4),
        QCFS(4),
        nn.Identity(),
        nn.AvgPool2d(2),
        nn.Dropout(0.5),
        nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False),
        QCFS(9),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * 2, 5),
        nn.BatchNorm1d(5),
        QCFS(2),
        nn.Linear(5, 3),
    )


def max_before_activation() -> nn.Module:
    """Max-pooling in front of the activation, as many users order them, overlapping and padded."""
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.MaxPool2d(3, 2, 1), QCFS(6), nn.Flatten(), nn.Linear(3 * 9, 3)
    )


def adaptive_pooling() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 1),
        QCFS(5),
        nn.AdaptiveAvgPool2d((4, 2)),
        nn.Conv2d(3, 4, 2),
        QCFS(3),
        nn.Flatten(),
        nn.Linear(12, 3),
    )


def chain_of_linear_maps() -> nn.Module:
    """Layers without activations between them: one projection."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(2 * 8 * 8, 9),
        nn.BatchNorm1d(9),
        nn.Linear(9, 7),
        QCFS(8),
        nn.Linear(7, 6),
        nn.Linear(6, 3),
    )


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(128, 16, bias=False),
        nn.BatchNorm1d(16),
        QCFS(1),
        nn.Linear(16, 8),
        QCFS(16),
        nn.Linear(8, 3),
    )


ALL = {
    "convolutional": convolutional,
    "residual": Residual,
    "max_before_activation": max_before_activation,
    "adaptive_pooling": adaptive_pooling,
    "chain_of_linear_maps": chain_of_linear_maps,
    "perceptron": perceptron,
}


def images(n: int = 16, seed: int = 0) -> torch.Tensor:
    """Inputs for every network here: float64 (n, 2, 8, 8)."""
    return torch.randn((n, 2, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def for_digits() -> Graph:
    """A spiking network for the digits, with random weights, for tests of what
    happens around one.
    """
    rng = np.random.default_rng(0)
    populations = (
        Population("input", "analog", (1, 8, 8)),
        Population("hidden", "pasc", (16,), levels=4),
        Population("output", "readout", (10,)),
    )
    projections = (
        Projection("input", "hidden", Dense(rng.normal(size=(16, 64)))),
        Projection("hidden", "output", Dense(rng.normal(size=(10, 16)))),
    )
    return Graph(populations, projections, Preprocessing(16.0, (0.3,), (0.4,)))
