"""Every figure of the paper that can be computed without training.

Each is given as printed, from the paper's own inputs, and from true layer shapes.

Numbers in this file are the paper's (Ramesh and Srinivasan, PASCAL, TMLR 2025,
https://openreview.net/forum?id=kIdB7Xp1Iv) or its authors' (``get_Teff.py`` in
https://github.com/BrainSeek-Lab/PASCAL); what is computed from them is not stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch

from pascal_nm.paper.analysis import (
    FP32,
    INT8,
    RATE,
    MatMul,
    by_architecture,
    effective_timesteps,
    if_ratio,
    source_ratio,
)
from pascal_nm.source.architectures import Stem, build, qcfs_layers

_AUTHORS_FAN_IN = {
    "VGG-16, CIFAR": (27, 576, 576, 1152, 1152, *(2304,) * 3, *(4608,) * 5, 512, 512, 512),
    "VGG-16, ImageNet": (27, 576, 576, 1152, 1152, *(2304,) * 3, *(4608,) * 5, 25600, 4096, 4096),
    "ResNet-18": (288, 2304, 2304, 4608, 4608, 9216, 9216, 18432, 18432, 512),
    "ResNet-34": (216, *(2304,) * 3, *(4608,) * 4, *(9216,) * 6, *(18432,) * 3, 512),
}
"""C_i K_h K_w behind the r' lists of the authors' get_Teff.py (r' = 1 / (0.75 C_i K_h K_w)): for
ResNets one entry per block."""

_ARCHITECTURES: dict[str, tuple[str, tuple[int, int, int], int, Stem]] = {
    "VGG-16, CIFAR": ("vgg16", (3, 32, 32), 10, "cifar"),
    "VGG-16, ImageNet": ("vgg16", (3, 224, 224), 1000, "imagenet"),
    "ResNet-18": ("resnet18", (3, 32, 32), 10, "cifar"),
    "ResNet-34": ("resnet34", (3, 224, 224), 1000, "imagenet"),
}

_T_NORM = (
    ("Table 5, Table 17", "VGG-16, CIFAR", 4, 4.21),
    ("Table 6", "VGG-16, CIFAR", 8, 8.79),
    ("Table 5, Table 6", "VGG-16, ImageNet", 16, 18.37),
    ("Table 6", "ResNet-18", 8, 8.22),
    ("Table 5, Table 6", "ResNet-34", 8, 8.17),
    ("Table 6", "ResNet-34", 16, 16.67),
)
"""Where, network, L, T_norm as printed."""


@dataclass(frozen=True)
class _Mixed:
    """Levels that differ from layer to layer, and their T_eff.

    Attributes:
        where: tables that print T_eff.
        network: its name in :data:`_ARCHITECTURES`.
        data: data set, or the number of clusters.
        printed: T_eff.
        levels: L of each layer with neurons, in the order of the network.
        listed: how many levels the paper's list has, where they are not these.
        source: where the levels come from, if the paper's list is not the whole of it.
        authors: the levels that the authors' r' were put together with, where these are others.
    """

    where: str
    network: str
    data: str
    printed: float
    levels: tuple[int, ...]
    listed: int | None = None
    source: str = ""
    authors: tuple[int, ...] | None = None


_T_EFF = (
    _Mixed("Table 4", "VGG-16, CIFAR", "CIFAR-10", 2.13, (2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 4, 4, 2, 4, 4)),
    _Mixed(
        "Table 4, Table 5",
        "ResNet-18",
        "CIFAR-10",
        3.14,
        (4, 4, 4, 1, 4, 4, 4, 1, 4, 1, 1, 1, 1, 1, 1, 1, 4),
        listed=16,
        source="the network of their models/ResNet.py, which has a seventh 1 before the last 4",
        authors=(4, 4, 4, 1, 4, 4, 4, 1, 4, 1, 1, 1, 1, 1, 1, 4),
    ),
    _Mixed("Table 5", "ResNet-18", "CIFAR-100", 2.63, (4, 2, 4, 1, 4, 2, 2, 1, 4, 2, 2, 1, 4, 1, 1, 1, 4)),
    _Mixed("Table 4, Table 5", "VGG-16, CIFAR", "CIFAR-100", 4.54, (8, 4, 4, 1, 4, 4, 1, 1, 1, 1, 1, 4, 8, 8, 8)),
    _Mixed(
        "Table 4",
        "VGG-16, ImageNet",
        "chi = 3",
        9.92,
        (16, 16, 16, *(8,) * 5, *(4,) * 7),
        listed=14,
        source="the list with a seventh 4 at its end, which gives the printed T_eff",
    ),
    _Mixed("Table 4, Table 5", "VGG-16, ImageNet", "chi = 2", 12.40, (16, 16, 16, 8, 16, *(8,) * 10)),
    _Mixed(
        "Table 4, Table 5",
        "ResNet-34",
        "chi = 2",
        12.94,
        (16, 16, *(16, 8) * 12, 16, *(8,) * 6),
        listed=25,
        source="their get_Teff.py",
    ),
)
"""Tables 4 and 5. The levels of ResNet-18 on CIFAR-100 are printed in Table 2."""

_LISTED_UNIFORM = (("VGG-16, CIFAR", 16), ("ResNet-18", 16), ("ResNet-34", 16))
"""Table 2: how many entries the lists of uniform levels have; one for each layer with
neurons was meant."""

_TABLE_3 = (
    ("VGG-16, CIFAR", "CIFAR-10", 0.66, 0.005, 7.49, 11.03),
    ("VGG-16, CIFAR", "CIFAR-100", 0.62, 0.005, 7.96, 11.70),
    ("VGG-16, ImageNet", "ImageNet", 0.73, 0.006, 6.76, 9.94),
    ("ResNet-18", "CIFAR-10", 0.86, 0.008, 5.72, 8.38),
    ("ResNet-18", "CIFAR-100", 0.91, 0.008, 5.42, 7.95),
)
"""Network, data, normalized operations b, first layer's share c, and the ratios in FP32 and
INT8 as printed."""

_TOTALS: tuple[tuple[str, str, tuple[int, int, int], int, Stem, int], ...] = (
    ("Table 11, Appendix A.5", "vgg16", (3, 32, 32), 100, "cifar", 332_480_512),
    ("Table 11, Appendix A.5", "vgg16", (3, 32, 32), 10, "cifar", 332_111_872),
    ("Table 12, Appendix A.6", "vgg16", (3, 224, 224), 1000, "imagenet", 15_470_264_320),
    ("Table 13, Appendix A.7", "resnet18", (3, 32, 32), 100, "cifar", 217_630_720),
    ("Table 13, Appendix A.7", "resnet18", (3, 32, 32), 10, "cifar", 217_584_640),
)
"""Table, architecture, input, classes, stem, and the total of multiply-accumulates as printed. (The
tables have no printed number.)"""

_TABLE_A7: tuple[int, ...] = (
    *(1_769_472, *(37_748_736,) * 4),
    *(18_874_368, 9_437_184, 2_097_152, *(9_437_184,) * 2),
    *(4_718_592, 2_359_296, 524_288, *(2_359_296,) * 2),
    *(1_179_648, 589_824, 262_144, *(589_824,) * 2),
)
"""The rows of Table A.7 without the classifier."""

_HARDWARE = (
    ("Table 14", "energy, PASC over plain neurons", 446.02, 445.47, 1.001),
    ("Table 14", "energy of the neurons alone, PASC over plain", 0.63, 0.08, None),
    ("Table 14", "PASC neurons' share of the energy, %", 63, 446.02, None),
    ("Table 15", "energy, source network over spiking", 3724.865, 446.02, None),
    ("Table 16", "latency, PASC over plain neurons", 0.45, 0.40, None),
)
"""Table, ratio, its two printed terms (mJ and s; of VGG-16 on CIFAR-10, L = 4), and the ratio where
the text prints it (Section 4.2.1)."""


@dataclass(frozen=True)
class Entry:
    """One figure.

    Attributes:
        where: the items of the paper that it belongs to, with commas between them.
        what: the quantity.
        printed: in the paper; None for a ratio of printed figures that is not printed itself.
        same: computed from the paper's or the authors' own inputs; None where they are not given.
        true: computed from the true layer shapes; None where the inputs have no shapes.
        status: one of :data:`pascal_nm.paper.STATUSES`.
        note: why figures differ, or nothing.
    """

    where: str
    what: str
    printed: float | None
    same: float | None
    true: float | None
    status: str
    note: str = ""

    @property
    def items(self) -> tuple[str, ...]:
        """The items of the paper by name."""
        return tuple(self.where.split(", "))


def entries() -> list[Entry]:
    """All figures, in the order of the paper's tables."""
    return [*_table_2(), *_table_3(), *_table_4(), *_t_norm(), *_abstract(), *_totals(), *_hardware()]


@cache
def _layers_with_neurons(network: str) -> tuple[MatMul, ...]:
    """The convolutions and linear layers in front of neurons, one for each QCFS activation.

    The classifier and shortcuts have none.

    Args:
        network: a name in :data:`_ARCHITECTURES`.

    Raises:
        AssertionError: the architecture has another number of activations.
    """
    layers = _main_path(network)[:-1]
    arch, shape, classes, stem = _ARCHITECTURES[network]
    with torch.device("meta"):
        activations = len(qcfs_layers(build(arch, shape, classes, stem=stem)))
    assert len(layers) == activations, (network, len(layers), activations)
    return layers


@cache
def _all_layers(arch: str, shape: tuple[int, int, int], classes: int, stem: Stem) -> tuple[MatMul, ...]:
    return tuple(by_architecture(arch, shape, classes, stem=stem))


def _main_path(network: str) -> tuple[MatMul, ...]:
    return tuple(m for m in _all_layers(*_ARCHITECTURES[network]) if "shortcut" not in m.name)


def _of_true_shapes(network: str, levels: Sequence[int]) -> float:
    """T_norm or T_eff with the spike rate that the paper assumes, over the layers with neurons.

    Args:
        network: a name in :data:`_ARCHITECTURES`.
        levels: L of each layer with neurons.

    Raises:
        ValueError: not one number for each layer.
    """
    return effective_timesteps(levels, _ratios([m.fan_in for m in _layers_with_neurons(network)]))


def _as_the_authors(network: str, levels: Sequence[int]) -> float:
    """T_norm or T_eff as the authors' get_Teff.py computes it.

    It takes levels and its r' from the first on, the longer list cut off.
    """
    fan_in = _AUTHORS_FAN_IN[network]
    used = min(len(levels), len(fan_in))
    return effective_timesteps(levels[:used], _ratios(fan_in[:used]))


def _ratios(fan_in: Sequence[int]) -> list[float]:
    return [if_ratio(n) for n in fan_in]


def _status(printed: float, true: float) -> str:
    """Whether the true figure is the printed one.

    That is a whole number, or has two digits that are rounded or cut off.
    """
    if isinstance(printed, int):
        return "same" if true == printed else "corrected"
    return "same" if printed in (round(true, 2), math.floor(100 * true) / 100) else "corrected"


def _table_2() -> list[Entry]:
    return [_listed("Table 2", network, "uniform levels", listed) for network, listed in _LISTED_UNIFORM]


def _listed(where: str, network: str, data: str, listed: int, source: str = "") -> Entry:
    """How long a list of levels is, and should be."""
    true = len(_layers_with_neurons(network))
    note = f"one for each layer with neurons; here: {source}" if source else "one for each layer with neurons"
    return Entry(where, f"entries of the list of L, {network}, {data}", listed, None, true, "corrected", note)


def _t_norm() -> list[Entry]:
    result = []
    for where, network, level, printed in _T_NORM:
        same = _as_the_authors(network, [level] * len(_AUTHORS_FAN_IN[network]))
        true = _of_true_shapes(network, [level] * len(_layers_with_neurons(network)))
        what = f"T_norm, {network}, L = {level}"
        result.append(Entry(where, what, printed, same, true, _status(printed, true), f"authors' r': {_why(network)}"))
    return result


def _why(network: str) -> str:
    """What the authors' r' list has that the network has not."""
    if network == "VGG-16, CIFAR":
        return "C_i = 512 for FC2 and FC3, which have 4096; the classifier counts as a layer with neurons"
    if network == "VGG-16, ImageNet":
        return "a fan-in of 25600 for FC1, which has 25088; the classifier counts as a layer with neurons"
    return (
        "one entry for each block instead of each layer, other fan-ins than the network; the classifier counts "
        "(synapses of shortcuts are left out in both)"
    )


def _table_4() -> list[Entry]:
    """T_eff of Table 4, and of Table 5, which has one more."""
    result = [_listed("Table 4", m.network, m.data, m.listed, m.source) for m in _T_EFF if m.listed]
    for m in _T_EFF:
        same = _as_the_authors(m.network, m.authors or m.levels)
        true = _of_true_shapes(m.network, m.levels)
        note = ""
        if m.network.startswith("ResNet"):
            used = len(_AUTHORS_FAN_IN[m.network])
            note = f"authors' r' has {used} entries for {len(m.levels)} layers, and the levels behind them do not count"
        elif m.network == "VGG-16, CIFAR":
            note = "authors' r' has C_i = 512 for FC2, which has 4096"
        elif m.listed:
            note = f"the printed list has {m.listed} of {len(m.levels)} levels"
        result.append(
            Entry(m.where, f"T_eff, {m.network}, {m.data}", m.printed, same, true, _status(m.printed, true), note)
        )
    return result


def _table_3() -> list[Entry]:
    result = []
    for network, data, rate, first, *printed in _TABLE_3:
        layers = _all_layers(*_ARCHITECTURES[network])
        share = layers[0].macs / sum(m.macs for m in layers)
        for name, costs, value in zip(("FP32", "INT8"), (FP32, INT8), printed, strict=True):
            same, true = (source_ratio(rate, c, costs) for c in (first, share))
            note = f"the first layer's share is {share:.4f}, not {first}"
            if network == "ResNet-18":
                note += ": the total of A.7 is too small"
            what = f"E_ANN / E_SNN, {name}, {network}, {data}"
            result.append(Entry("Table 3", what, value, same, true, _status(value, true), note))
    return result


def _abstract() -> list[Entry]:
    """The reduction of timesteps that the abstract names, of the T that Table 5 prints."""
    (vgg,) = (printed for _, network, _, printed in _T_NORM if network == "VGG-16, ImageNet")
    (resnet,) = (printed for _, network, level, printed in _T_NORM if (network, level) == ("ResNet-34", 8))
    true = _of_true_shapes("ResNet-34", [8] * len(_layers_with_neurons("ResNet-34")))
    what = "timesteps of QCFS over T_norm, ResNet-34, ImageNet (abstract)"
    note = f"56 is 1024 / {vgg}, of VGG-16; ResNet-34 has 256 / {resnet} = {256 / resnet:.1f} by the printed T_norm"
    return [Entry("Table 5", what, 56, 1024 / vgg, 256 / true, "corrected", note)]


def _totals() -> list[Entry]:
    result = []
    for where, arch, shape, classes, stem, printed in _TOTALS:
        total = sum(m.macs for m in _all_layers(arch, shape, classes, stem))
        what = f"multiply-accumulates, {arch}, {shape[1]}x{shape[2]}, {classes} classes"
        wrong = where.startswith("Table 13")
        same = sum(_TABLE_A7) + 512 * classes if wrong else total
        note = (
            "convolutions from block 2.1 Conv2 on are computed with 64 channels, 128 behind a stride" if wrong else ""
        )
        result.append(Entry(where, what, printed, same, total, _status(printed, total), note))
    return result


def _hardware() -> list[Entry]:
    note = "a ratio of printed measurements on the authors' accelerator, which is not public"
    counted = f"{note}; from true shapes: in operations, all weighed alike (Equations 9 to 14)"
    true = _operations("VGG-16, CIFAR", levels=4, rate=_TABLE_3[0][2])
    return [
        Entry(
            where,
            what,
            value,
            a / b,
            true.get(what),
            "derived" if value is None else "same",
            counted if what in true else note,
        )
        for where, what, a, b, value in _HARDWARE
    ]


def _operations(network: str, levels: int, rate: float) -> dict[str, float]:
    """Entries of Table 14 in operations (Equation 14), over all layers.

    The analog input has the rate that the paper assumes.
    """
    first, *others = _main_path(network)
    synapses = RATE * first.macs + rate * sum(m.macs for m in others)
    neurons = sum(m.outputs for m in _layers_with_neurons(network))
    pasc, plain = (5 * levels - 2) * neurons, levels * neurons
    what = (entry[1] for entry in _HARDWARE[:3])
    ratios = ((synapses + pasc) / (synapses + plain), pasc / plain, 100 * pasc / (synapses + pasc))
    return dict(zip(what, ratios, strict=True))
