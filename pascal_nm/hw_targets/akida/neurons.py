r"""What Akida's neurons compute, by version: registers of QCFS, and counts from registers.

Version 1 computes, of an integer potential P, with a threshold t and an act_step for each channel
and counts of b bits,

.. math::
    c = \mathrm{clip}\!\left(\left\lceil
        \frac{P - t}{\mathrm{act\_step} \cdot 2^{4 - b}} \right\rceil, 0, 2^b - 1\right),

which is QCFS with L = 1, 3 or 15 levels where

.. math::
    \mathrm{act\_step} = \theta / 2^{4 - b}, \qquad
    t = \theta - 1 - \lfloor \theta / 2 \rfloor - b_j.

Its registers hold ``act_step`` in sixteenths, so that every integer threshold has one.

Version 2 multiplies and shifts, and rounds half up,

.. math::
    c = \left\lfloor \frac{\mathrm{scale} \cdot
        \mathrm{clip}(P + \mathrm{bias} \cdot 2^{d}, 0, \mathrm{most} \cdot 2^{e})}{2^{k}}
        + \frac12 \right\rfloor,

with numbers of 8 bits, which is QCFS with any L up to 127 where :math:`\theta` is a power of two
(scale 1, most L), or where a scale of 8 bits does as well for all levels, and where 8 bits hold the
bias.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import TargetError

BYTE = 255
"""The largest scale."""

SHIFT = 31
"""The largest shift of version 2."""


class Neurons(ABC):
    """Of a version: their registers by name, each of one value for each filter."""

    names: tuple[str, ...]

    @abstractmethod
    def registers(self, theta: Array, bias: Array, levels: int) -> dict[str, Array]:
        """What they hold to be QCFS with integer thresholds and biases, int64 (filters,).

        Raises:
            TargetError: they hold no such numbers; says what they hold, and then what is needed.
        """

    @abstractmethod
    def counts(self, held: Mapping[str, Array], potential: Array, bits: int) -> Array:
        """Counts of potentials (N, rows, columns, filters), from the registers by name."""

    @abstractmethod
    def flat(self, values: Array) -> Array:
        """Counts (N, rows, columns, channels) in the order of a dense layer's inputs: (N, n)."""


class First(Neurons):
    """Version 1."""

    names = ("threshold", "step")

    def registers(self, theta: Array, bias: Array, levels: int) -> dict[str, Array]:
        """Every integer threshold has its step."""
        step = theta << levels.bit_length()
        return {"threshold": (theta - 1 - theta // 2 - bias).astype(np.int64), "step": step.astype(np.int64)}

    def counts(self, held: Mapping[str, Array], potential: Array, bits: int) -> Array:
        """With the threshold that a step stands for: step * 2**(4 - bits) / 16."""
        threshold, step = (held[name].astype(np.int64) for name in self.names)
        raised = (potential - threshold) << bits
        return np.asarray(np.clip(-(-raised // step), 0, 2**bits - 1), np.uint8)

    def flat(self, values: Array) -> Array:
        """By channel, column and row."""
        return np.asarray(values.transpose(0, 3, 2, 1).reshape(len(values), -1))


class Scale(NamedTuple):
    """Of a threshold: ``scale / 2**shift``, of potentials up to ``most << most_shift``."""

    scale: int
    shift: int
    most: int
    most_shift: int


class Second(Neurons):
    """Version 2."""

    names = ("bias", "bias_shift", "scale", "shift", "most", "most_shift")

    def registers(self, theta: Array, bias: Array, levels: int) -> dict[str, Array]:
        """Where thresholds fit scales, and biases fit 8 bits."""
        rounded, shifts = rounded_bias(bias)
        if np.any(rounded != bias):
            worst = int(bias[np.argmax(rounded != bias)])
            raise TargetError(f"holds a bias of 8 bits times a power of two|{worst:,} is needed")
        found = [scale(int(t), levels) for t in theta]
        if None in found:
            worst = int(theta[found.index(None)])
            raise TargetError(
                f"divides by a power of two over 1 to {BYTE}|no such number tells {levels} levels of a threshold of "
                f"{worst:,} apart"
            )
        fields = np.asarray(found, np.int64).reshape(-1, len(Scale._fields)).T
        held = dict(zip(Scale._fields, fields, strict=True))
        return {"bias": bias >> shifts, "bias_shift": shifts, **held}

    def counts(self, held: Mapping[str, Array], potential: Array, bits: int) -> Array:
        """Rounded half up."""
        bias, more, scale, shift, most, up = (held[name].astype(np.int64) for name in self.names)
        shared = np.clip(potential + (bias << more), 0, most << up) * scale
        half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)
        return np.asarray(np.clip((shared + half) >> shift, 0, 2 ** (bits - 1) - 1), np.uint8)

    def flat(self, values: Array) -> Array:
        """By row, column and channel."""
        return np.asarray(values.reshape(len(values), -1))


VERSIONS: dict[int, Neurons] = {1: First(), 2: Second()}


def rounded_bias(bias: Array) -> tuple[Array, Array]:
    """Biases as 8 bits times a power of two hold them, int64, and the exponents of these."""
    shifts = np.zeros(bias.shape, np.int64)
    while np.any(wide := ~_signed(_shifted(bias, shifts))):
        shifts = shifts + wide
    return _shifted(bias, shifts) << shifts, shifts


def _shifted(bias: Array, shifts: Array) -> Array:
    """Divided by powers of two, and rounded."""
    return np.asarray((bias + ((np.int64(1) << shifts) >> 1)) >> shifts)


def _signed(values: Array) -> Array:
    return np.asarray((values >= -128) & (values <= 127))


@lru_cache(maxsize=1 << 14)
def scale(theta: int, levels: int) -> Scale | None:
    """Registers that tell a threshold's levels apart as QCFS does; None where there are none."""
    if theta & (theta - 1) == 0:
        shift = theta.bit_length() - 1
        return Scale(1, shift, levels, shift) if shift <= SHIFT else None
    counts = np.arange(1, levels + 1)
    first = (((2 * counts - 1) * theta) + 1) // 2
    """The least potential of each level."""
    for shift in range(theta.bit_length(), theta.bit_length() + 8):
        factor = round(2**shift / theta)
        half = 1 << (shift - 1)
        if not 0 < factor <= BYTE:
            continue
        if np.any((first * factor + half) >> shift != counts) or np.any(
            ((first - 1) * factor + half) >> shift >= counts
        ):
            continue
        for up in range(theta.bit_length() + levels.bit_length()):
            most = -(-int(first[-1]) >> up)
            if most <= BYTE and ((most << up) * factor + half) >> shift == levels:
                return Scale(factor, shift, most, up)
    return None
