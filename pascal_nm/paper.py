"""Every figure of the paper that can be computed without training: as printed, from its own inputs, and from true layer shapes.

Numbers in this file are the paper's (Ramesh and Srinivasan, PASCAL, TMLR 2025, https://openreview.net/forum?id=kIdB7Xp1Iv) or its authors'
(``get_Teff.py`` in https://github.com/BrainSeek-Lab/PASCAL); what is computed from them is not stored.
"""

from __future__ import annotations

from dataclasses import dataclass

from pascal_nm.analysis import (
    FP32,
    INT8,
    MatMul,
    by_architecture,
    effective_timesteps,
    if_ratio,
    source_ratio,
)

AUTHORS_FAN_IN = {
    "VGG-16, CIFAR": (27, 576, 576, 1152, 1152, *(2304,) * 3, *(4608,) * 5, 512, 512, 512),
    "VGG-16, ImageNet": (27, 576, 576, 1152, 1152, *(2304,) * 3, *(4608,) * 5, 25600, 4096, 4096),
    "ResNet-18": (288, 2304, 2304, 4608, 4608, 9216, 9216, 18432, 18432, 512),
    "ResNet-34": (216, *(2304,) * 3, *(4608,) * 4, *(9216,) * 6, *(18432,) * 3, 512),
}
"""C_i K_h K_w behind the r' lists of the authors' get_Teff.py (r' = 1 / (0.75 C_i K_h K_w)): for ResNets one entry per block."""

ARCHITECTURES = {
    "VGG-16, CIFAR": ("vgg16", (3, 32, 32), 10, "cifar"),
    "VGG-16, ImageNet": ("vgg16", (3, 224, 224), 1000, "imagenet"),
    "ResNet-18": ("resnet18", (3, 32, 32), 10, "cifar"),
    "ResNet-34": ("resnet34", (3, 224, 224), 1000, "imagenet"),
}

T_NORM = (
    ("VGG-16, CIFAR", 4, 4.21),
    ("VGG-16, CIFAR", 8, 8.79),
    ("VGG-16, ImageNet", 16, 18.37),
    ("ResNet-18", 8, 8.22),
    ("ResNet-34", 8, 8.17),
    ("ResNet-34", 16, 16.67),
)
"""Tables 5 and 6: network, L, T_norm as printed."""

T_EFF = (
    ("VGG-16, CIFAR", "CIFAR-10", (2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 4, 4, 2, 4, 4), 2.13),
    ("ResNet-18", "CIFAR-10", (4, 4, 4, 1, 4, 4, 4, 1, 4, 1, 1, 1, 1, 1, 1, 4), 3.14),
    ("VGG-16, CIFAR", "CIFAR-100", (8, 4, 4, 1, 4, 4, 1, 1, 1, 1, 1, 4, 8, 8, 8), 4.54),
    ("VGG-16, ImageNet", "chi = 3", (16, 16, 16, 8, 8, 8, 8, 8, 4, 4, 4, 4, 4, 4), 9.92),
    ("VGG-16, ImageNet", "chi = 2", (16, 16, 16, 8, 16, *(8,) * 10), 12.40),
    ("ResNet-34", "chi = 2", (16, 16, *(16, 8) * 12, *(8,) * 7), 12.94),
)
"""Table 4: network, data, levels and T_eff as printed. ResNet-34's list is the authors' (get_Teff.py), whose beginning the table prints."""

TABLE_3 = (
    ("VGG-16, CIFAR", "CIFAR-10", 0.66, 0.005, 7.49, 11.03),
    ("VGG-16, CIFAR", "CIFAR-100", 0.62, 0.005, 7.96, 11.70),
    ("VGG-16, ImageNet", "ImageNet", 0.73, 0.006, 6.76, 9.94),
    ("ResNet-18", "CIFAR-10", 0.86, 0.008, 5.72, 8.38),
    ("ResNet-18", "CIFAR-100", 0.91, 0.008, 5.42, 7.95),
)
"""Network, data, normalized operations b, first layer's share c, and the ratios in FP32 and INT8 as printed."""

TOTALS = (
    ("Table A.5", "vgg16", (3, 32, 32), 100, "cifar", 332_480_512),
    ("Table A.5", "vgg16", (3, 32, 32), 10, "cifar", 332_111_872),
    ("Table A.6", "vgg16", (3, 224, 224), 1000, "imagenet", 15_470_264_320),
    ("Table A.7", "resnet18", (3, 32, 32), 100, "cifar", 217_630_720),
    ("Table A.7", "resnet18", (3, 32, 32), 10, "cifar", 217_584_640),
)
"""Table, architecture, input, classes, stem, and the total of multiply-accumulates as printed."""

TABLE_A7: tuple[int, ...] = (
    *(1_769_472, *(37_748_736,) * 4),
    *(18_874_368, 9_437_184, 2_097_152, *(9_437_184,) * 2),
    *(4_718_592, 2_359_296, 524_288, *(2_359_296,) * 2),
    *(1_179_648, 589_824, 262_144, *(589_824,) * 2),
)
"""The rows of Table A.7 without the classifier."""

HARDWARE = (
    ("Table 14", "energy, PASC over plain neurons", 446.02, 445.47, 1.001),
    ("Table 14", "energy of the neurons alone, PASC over plain", 0.63, 0.08, 7.875),
    ("Table 14", "PASC neurons' share of the energy, %", 63, 446.02, 0.14),
    ("Table 15", "energy, source network over spiking", 3724.865, 446.02, 8.35),
    ("Table 16", "latency, PASC over plain neurons", 0.45, 0.40, 1.125),
)
"""Table, ratio, its two printed terms (mJ and s; of VGG-16 on CIFAR-10, L = 4), and the ratio as the text or the table gives it."""


@dataclass(frozen=True)
class Entry:
    """One figure.

    Attributes:
        where: table or equation.
        what: the quantity.
        printed: in the paper.
        same: computed from the paper's or the authors' own inputs; None where they are not given.
        true: computed from the true layer shapes; None where the inputs have no shapes.
        note: why figures differ, or nothing.
    """

    where: str
    what: str
    printed: float
    same: float | None
    true: float | None
    note: str = ""


def entries() -> list[Entry]:
    """All figures, in the order of the paper's tables."""
    return [*_table_3(), *_table_4(), *_t_norm(), *_totals(), *_hardware()]


def _main_path(network: str) -> list[MatMul]:
    arch, shape, classes, stem = ARCHITECTURES[network]
    return [m for m in by_architecture(arch, shape, classes, stem=stem) if "shortcut" not in m.name]


def _ratios(fan_in: tuple[int, ...]) -> list[float]:
    return [if_ratio(n) for n in fan_in]


def _t_norm() -> list[Entry]:
    result = []
    for network, levels, printed in T_NORM:
        true = tuple(m.fan_in for m in _main_path(network))
        authors = AUTHORS_FAN_IN[network]
        note = ""
        if network == "VGG-16, CIFAR":
            note = "authors' r' has C_i = 512 for FC2 and FC3, which have 4096"
        elif network.startswith("ResNet"):
            note = "authors' r' has one entry per block, and other fan-ins than the network"
        elif true != authors:
            note = "authors' r' of FC1 is rounded (fan-in 25600 for 25088)"
        same, corrected = (effective_timesteps([levels] * len(f), _ratios(f)) for f in (authors, true))
        result.append(Entry("Tables 5, 6", f"T_norm, {network}, L = {levels}", printed, same, corrected, note))
    return result


def _table_4() -> list[Entry]:
    result = []
    for network, data, levels, printed in T_EFF:
        fan_in = tuple(m.fan_in for m in _main_path(network))
        same = effective_timesteps(levels, _ratios(AUTHORS_FAN_IN[network]))
        true = effective_timesteps(levels, _ratios(fan_in))
        note = "" if abs(same - printed) < 0.01 else "the printed levels do not give the printed T_eff"
        if network.startswith("ResNet"):
            note = "authors' r' is shorter than the levels, and the rest of the levels is not counted"
        result.append(Entry("Table 4", f"T_eff, {network}, {data}", printed, same, true, note))
    return result


def _table_3() -> list[Entry]:
    result = []
    for network, data, rate, first, *printed in TABLE_3:
        layers = by_architecture(*ARCHITECTURES[network][:3], stem=ARCHITECTURES[network][3])
        share = layers[0].macs / sum(m.macs for m in layers)
        for name, costs, value in zip(("FP32", "INT8"), (FP32, INT8), printed, strict=True):
            same, true = (source_ratio(rate, c, costs) for c in (first, share))
            note = "Table A.7's total is too small: the first layer's share is 0.0032" if network == "ResNet-18" else ""
            result.append(Entry("Table 3", f"E_ANN / E_SNN, {name}, {network}, {data}", value, same, true, note))
    return result


def _totals() -> list[Entry]:
    result = []
    for where, arch, shape, classes, stem, printed in TOTALS:
        total = sum(m.macs for m in by_architecture(arch, shape, classes, stem=stem))
        what = f"multiply-accumulates, {arch}, {shape[1]}x{shape[2]}, {classes} classes"
        same = total if where != "Table A.7" else sum(TABLE_A7) + 512 * classes
        note = "" if where != "Table A.7" else "rows from block 2.1 Conv2 on halve the channels as well as the image"
        result.append(Entry(where, what, printed, same, total, note))
    return result


def _hardware() -> list[Entry]:
    note = "a ratio of printed measurements on the authors' accelerator, which is not public"
    counted = "the accelerator's figures are energies; Equations 9 to 14 weigh all operations alike"
    true = _operations("VGG-16, CIFAR", levels=4, rate=TABLE_3[0][2])
    return [
        Entry(where, what, value, a / b, true.get(what), counted if what in true else note)
        for where, what, a, b, value in HARDWARE
    ]


def _operations(network: str, levels: int, rate: float) -> dict[str, float]:
    """Entries of Table 14 in operations (Equations 9 to 14), over the layers that receive spikes and have neurons."""
    layers = _main_path(network)[1:-1]
    synapses, neurons = rate * sum(m.macs for m in layers), sum(m.outputs for m in layers)
    pasc, plain = (5 * levels - 2) * neurons, levels * neurons
    what = (entry[1] for entry in HARDWARE[:3])
    ratios = ((synapses + pasc) / (synapses + plain), pasc / plain, 100 * pasc / (synapses + pasc))
    return dict(zip(what, ratios, strict=True))
