"""QCFS networks: small ones for small images, and the paper's VGG and ResNet families.

Every network is a plain module with :class:`pascal_nm.source.qcfs.QCFS` where others have ReLU.
:func:`build` makes one by name. Layouts follow Bu et al. (https://arxiv.org/abs/2303.04347) and the
PASCAL paper's Tables A.5 to A.7; ``vgg7`` is the VGG-like network of Li et al.
(https://arxiv.org/abs/1605.04711): six convolutions, one hidden linear layer, no dropout.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pascal_nm.errors import ConversionError
from pascal_nm.source.qcfs import QCFS

Pool = Literal["avg", "max"]
Stem = Literal["cifar", "imagenet"]
_Width = float | Sequence[int]

VGG_LAYOUTS: dict[str, tuple[int | str, ...]] = {
    "vgg11": (64, "P", 128, "P", 256, 256, "P", 512, 512, "P", 512, 512, "P"),
    "vgg13": (64, 64, "P", 128, 128, "P", 256, 256, "P", 512, 512, "P", 512, 512, "P"),
    "vgg16": (64, 64, "P", 128, 128, "P", 256, 256, 256, "P", 512, 512, 512, "P", 512, 512, 512, "P"),
    "vgg19": (64, 64, "P", 128, 128, "P", *(256,) * 4, "P", *(512,) * 4, "P", *(512,) * 4, "P"),
}
"""Channels of the convolutions; P is a 2x2 pooling."""

RESNET_LAYOUTS: dict[str, tuple[tuple[int, int], ...]] = {
    "resnet8": ((16, 1), (32, 1), (64, 1)),
    "resnet18": ((64, 2), (128, 2), (256, 2), (512, 2)),
    "resnet20": ((16, 3), (32, 3), (64, 3)),
    "resnet34": ((64, 3), (128, 4), (256, 6), (512, 3)),
}
"""(channels, basic blocks) of each stage."""


def build(
    arch: str,
    input_shape: Sequence[int],
    classes: int,
    levels: int | Sequence[int] = 4,
    *,
    width: _Width = 1.0,
    pool: Pool = "avg",
    stem: Stem = "cifar",
    conv_bias: bool = False,
    threshold: float = 2.0,
) -> nn.Module:
    """A QCFS network by name.

    Args:
        arch: one of :data:`ARCHITECTURES`.
        input_shape: (C, H, W).
        classes: number of outputs.
        levels: L for all QCFS layers, or one number for each in the order of execution.
        width: factor on every hidden layer's channels; or the channels themselves, one number for
            each convolution and hidden linear layer (for each stage of a ResNet).
        pool: average or max pooling.
        stem: ``cifar`` (3x3, stride 1) or ``imagenet`` (7x7 stride 2 and a pooling for ResNets;
            larger first classifier for VGG).
        conv_bias: give convolutions a bias, though a normalization follows.
        threshold: initial QCFS threshold of every layer. 2 suits what batch normalization gives: at
            L = 4, nearly three quarters of the positive values fall into the range between the
            first step and the last.

    Raises:
        ConversionError: an unknown name, an impossible shape, a wrong number of levels, or a
            threshold of zero.
    """
    if threshold == 0 or not math.isfinite(threshold):
        raise ConversionError(f"the QCFS threshold to begin with must be finite and not zero, not {threshold}")
    if arch not in ARCHITECTURES:
        raise ConversionError(f"unknown architecture {arch!r}: choose from {', '.join(ARCHITECTURES)}")
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ConversionError(f"the input shape must be (C, H, W), not {tuple(input_shape)}")
    if classes < 1:
        raise ConversionError(f"a network needs at least one class, not {classes}")
    channels, height, size = (int(n) for n in input_shape)
    module = ARCHITECTURES[arch]((channels, height, size), classes, width=width, pool=pool, stem=stem)
    set_levels(module, levels)
    for layer in module.modules():
        if isinstance(layer, QCFS):
            nn.init.constant_(layer.threshold, threshold)
        elif isinstance(layer, nn.Conv2d) and conv_bias:
            layer.bias = nn.Parameter(torch.zeros(layer.out_channels))
    return module


def qcfs_layers(module: nn.Module) -> list[tuple[str, QCFS]]:
    """The QCFS layers with their paths, in the order of their definition.

    In every network here that is the order of execution.
    """
    return [(name, layer) for name, layer in module.named_modules() if isinstance(layer, QCFS)]


def set_levels(module: nn.Module, levels: int | Sequence[int]) -> None:
    """Give every QCFS layer its number of levels.

    Raises:
        ConversionError: not one number per layer, or a number below 1.
    """
    layers = qcfs_layers(module)
    numbers = [levels] * len(layers) if isinstance(levels, int) else list(levels)
    if len(numbers) != len(layers):
        raise ConversionError(
            f"{len(numbers)} levels were given for {len(layers)} QCFS layers: {', '.join(n for n, _ in layers)}"
        )
    for (name, layer), number in zip(layers, numbers, strict=True):
        if number < 1:
            raise ConversionError(f"levels must be at least 1, not {number} (layer {name})")
        layer.levels = int(number)


def _pooling(pool: Pool, size: int = 2) -> nn.Module:
    if pool not in ("avg", "max"):
        raise ConversionError(f"unknown pooling {pool!r}: choose avg or max")
    return nn.AvgPool2d(size) if pool == "avg" else nn.MaxPool2d(size)


def _conv(source: int, target: int, stride: int = 1, kernel: int = 3) -> list[nn.Module]:
    return [nn.Conv2d(source, target, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(target)]


def _channels(layout: Sequence[int], width: _Width) -> list[int]:
    if not isinstance(width, Sequence):
        if not width > 0:
            raise ConversionError(f"the width must be positive, not {width}")
        return [max(1, round(n * width)) for n in layout]
    if len(width) != len(layout) or min(width) < 1:
        raise ConversionError(f"{len(layout)} widths of at least 1 are needed, not {list(width)}")
    return [int(n) for n in width]


def _mlp(shape: tuple[int, int, int], classes: int, *, width: _Width, pool: Pool, stem: Stem) -> nn.Module:
    sizes = [shape[0] * shape[1] * shape[2], *_channels((256, 128), width)]
    layers: list[nn.Module] = [nn.Flatten()]
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), QCFS()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], classes))


def _cnn(shape: tuple[int, int, int], classes: int, *, width: _Width, pool: Pool, stem: Stem) -> nn.Module:
    if min(shape[1:]) < 4:
        raise ConversionError(f"images of {shape[1]}x{shape[2]} are too small for a cnn: it halves them twice")
    a, b, c = _channels((24, 48, 96), width)
    return nn.Sequential(
        *_conv(shape[0], a),
        QCFS(),
        *_conv(a, b),
        QCFS(),
        _pooling(pool),
        *_conv(b, c),
        QCFS(),
        _pooling(pool),
        nn.Flatten(),
        nn.Linear(c * (shape[1] // 4) * (shape[2] // 4), classes),
    )


def _vgg7(shape: tuple[int, int, int], classes: int, *, width: _Width, pool: Pool, stem: Stem) -> nn.Module:
    if min(shape[1:]) < 8:
        raise ConversionError(f"images of {shape[1]}x{shape[2]} are too small for a vgg7: it halves them three times")
    *channels, hidden = _channels((128, 128, 256, 256, 512, 512, 1024), width)
    layers: list[nn.Module] = []
    for i, (source, target) in enumerate(itertools.pairwise([shape[0], *channels])):
        layers += [*_conv(source, target), QCFS(), *([_pooling(pool)] if i % 2 else [])]
    features = channels[-1] * (shape[1] // 8) * (shape[2] // 8)
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(features, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        QCFS(),
        nn.Linear(hidden, classes),
    )


class VGG(nn.Module):
    """VGG with batch normalization and three fully connected layers (Tables A.5 and A.6)."""

    def __init__(
        self, layout: Sequence[int | str], shape: tuple[int, int, int], classes: int, *, width: _Width, pool: Pool
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, height, size = shape
        *widths, hidden, last = _channels([*(n for n in layout if isinstance(n, int)), 4096, 4096], width)
        convolutions = iter(widths)
        for entry in layout:
            if isinstance(entry, str):
                if height < 2 or size < 2:
                    raise ConversionError(
                        f"images of {shape[1]}x{shape[2]} are too small for this VGG: it halves them five times"
                    )
                layers.append(_pooling(pool))
                height, size = height // 2, size // 2
            else:
                target = next(convolutions)
                layers += [*_conv(channels, target), QCFS()]
                channels = target
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * height * size, hidden),
            QCFS(),
            nn.Dropout(),
            nn.Linear(hidden, last),
            QCFS(),
            nn.Dropout(),
            nn.Linear(last, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        result: Tensor = self.classifier(self.features(x))
        return result


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; QCFS after the first and after the sum."""

    def __init__(self, source: int, target: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_conv(source, target, stride), QCFS(), *_conv(target, target))
        self.shortcut = nn.Sequential(
            *(_conv(source, target, stride, 1) if stride != 1 or source != target else [nn.Identity()])
        )
        self.act = QCFS()

    def forward(self, x: Tensor) -> Tensor:
        """The block's activation, (N, target, H / stride, W / stride)."""
        result: Tensor = self.act(self.body(x) + self.shortcut(x))
        return result


class ResNet(nn.Module):
    """ResNet of basic blocks (Table A.7), with the CIFAR or the ImageNet stem."""

    def __init__(
        self,
        layout: Sequence[tuple[int, int]],
        shape: tuple[int, int, int],
        classes: int,
        *,
        width: _Width,
        pool: Pool,
        stem: Stem,
    ) -> None:
        super().__init__()
        widths = _channels([entry for entry, _ in layout], width)
        channels = widths[0]
        large = stem == "imagenet"
        self.stem = nn.Sequential(*_conv(shape[0], channels, 2 if large else 1, 7 if large else 3), QCFS())
        self.pool = _pooling(pool) if large else nn.Identity()
        blocks: list[nn.Module] = []
        for stage, (target, (_, count)) in enumerate(zip(widths, layout, strict=True)):
            for block in range(count):
                blocks.append(BasicBlock(channels, target, 2 if stage and not block else 1))
                channels = target
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        result: Tensor = self.head(self.blocks(self.pool(self.stem(x))))
        return result


class ResNet9(nn.Module):
    """Page's network for short trainings: convolutions and two blocks, max-pooling in between.

    See https://github.com/davidcpage/cifar10-fast.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, *, width: _Width, pool: Pool, stem: Stem) -> None:
        super().__init__()
        if min(shape[1:]) < 8:
            raise ConversionError(
                f"images of {shape[1]}x{shape[2]} are too small for a resnet9: it halves them three times"
            )
        a, b, c, d = _channels((64, 128, 256, 512), width)
        self.features = nn.Sequential(
            *_conv(shape[0], a),
            QCFS(),
            *_conv(a, b),
            QCFS(),
            _pooling(pool),
            BasicBlock(b, b, 1),
            *_conv(b, c),
            QCFS(),
            _pooling(pool),
            *_conv(c, d),
            QCFS(),
            _pooling(pool),
            BasicBlock(d, d, 1),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(d, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        result: Tensor = self.head(self.features(x))
        return result


def _vgg(name: str) -> Callable[..., nn.Module]:
    return lambda shape, classes, *, width, pool, stem: VGG(VGG_LAYOUTS[name], shape, classes, width=width, pool=pool)


def _resnet(name: str) -> Callable[..., nn.Module]:
    return lambda shape, classes, **options: ResNet(RESNET_LAYOUTS[name], shape, classes, **options)


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "vgg7": _vgg7,
    "resnet9": ResNet9,
    **{name: _resnet(name) for name in RESNET_LAYOUTS},
    **{name: _vgg(name) for name in VGG_LAYOUTS},
}
"""Builders by name; see :func:`build`."""
