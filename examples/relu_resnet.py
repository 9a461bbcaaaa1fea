"""A ReLU ResNet as torchvision writes it, trained on CIFAR-10, becomes a spiking network in a line.

    python examples/relu_resnet.py CIFAR10_TRAIN.parquet CIFAR10_TEST.parquet [--weights relu.pt]

trains a ResNet-8 (a quarter of an hour on one core; ``--weights`` keeps it), makes QCFS networks
of it with L = 4, 8, 16 and 32, and prints the accuracy of each on all test images: as it is, and
after one epoch of fine-tuning. Of each as it is, the spiking network is made, too.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import pascal_nm as pnm
from pascal_nm.data.augmentation import augment


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut; one ``relu``, used twice."""

    def __init__(self, source: int, target: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(source, target, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(target)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(target, target, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(target)
        self.downsample = None
        if stride != 1 or source != target:
            self.downsample = nn.Sequential(nn.Conv2d(source, target, 1, stride, bias=False), nn.BatchNorm2d(target))

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps of ``target`` channels."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """Three stages of ``blocks`` blocks each, for images of 32x32."""

    def __init__(self, blocks: int = 1, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = self._stage(width, width, blocks, 1)
        self.layer2 = self._stage(width, 2 * width, blocks, 2)
        self.layer3 = self._stage(2 * width, 4 * width, blocks, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, classes)

    @staticmethod
    def _stage(source: int, target: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(source, target, stride)
        return nn.Sequential(first, *(BasicBlock(target, target, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, rate: float) -> None:
    """SGD with a cosine from ``rate`` to zero, on moved and mirrored images."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]  # thresholds, too
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0.0}]
    steps = epochs * -(-len(images) // 128)
    optimizer = torch.optim.SGD(groups, rate, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.2)
    rng = np.random.default_rng(0)
    for epoch in range(epochs):
        begun, total = time.time(), 0.0
        model.train()
        for chosen in torch.from_numpy(rng.permutation(len(images))).split(128):
            batch = augment(images[chosen], rng, shift=4, flip=True, cutout=0)
            loss = F.cross_entropy(model(batch), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        print(
            f"  epoch {epoch + 1} of {epochs}: loss {total / len(images):.3f}, {time.time() - begun:.0f} s", flush=True
        )
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of right answers."""
    right = [(model(x).argmax(1) == y).sum() for x, y in zip(images.split(500), labels.split(500), strict=True)]
    return float(sum(right) / len(labels))


def main() -> None:
    """Train, make QCFS networks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument(
        "--weights", type=Path, help="state_dict of the ReLU network: read if it is there, else written"
    )
    parser.add_argument("--blocks", type=int, default=1, help="of each stage: 1 is a ResNet-8, 2 a ResNet-14")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--levels", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--untuned", action="store_true", help="without fine-tuning")
    arguments = parser.parse_args()

    sets = [pnm.data.load(path, part) for path, part in ((arguments.train, "train"), (arguments.test, "test"))]
    preprocessing = sets[0].preprocessing()
    (images, labels), test = (
        (torch.from_numpy(preprocessing(s.pixels)).float(), torch.from_numpy(s.labels)) for s in sets
    )
    torch.manual_seed(0)
    relu = ResNet(arguments.blocks)
    if arguments.weights and arguments.weights.exists():
        relu.load_state_dict(torch.load(arguments.weights, weights_only=True))
        relu.eval()
    else:
        train(relu, images, labels, arguments.epochs, 0.2)
        if arguments.weights:
            torch.save(relu.state_dict(), arguments.weights)
    print(f"ReLU: {accuracy(relu, *test):.2%}\n\n| L | as it is | after one epoch |\n|---|---|---|", flush=True)

    loader = DataLoader(TensorDataset(images, labels), batch_size=256, shuffle=True)
    for levels in arguments.levels:
        qcfs = pnm.to_qcfs(relu, levels, loader)
        cells = [str(levels), f"{accuracy(qcfs, *test):.2%}"]
        if not arguments.untuned:
            train(qcfs, images, labels, 1, 0.02)
            cells.append(f"{accuracy(qcfs, *test):.2%}")
        print(f"| {' | '.join(cells)} |", flush=True)
    net = pnm.convert(qcfs, images[:1], preprocessing=preprocessing, classes=sets[0].classes)
    print(f"\nL = {levels} as a spiking network:", pnm.verify(qcfs, net, sets[1].head(200)))


if __name__ == "__main__":
    main()
