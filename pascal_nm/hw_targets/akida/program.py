"""A network in the form of Akida's layers: all that its registers hold, and what the host does.

Layers compute in whole numbers here, from nothing but the registers
(:mod:`pascal_nm.hw_targets.akida.neurons`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import DataError
from pascal_nm.hw_targets.akida.device import Side
from pascal_nm.hw_targets.akida.neurons import VERSIONS, Neurons
from pascal_nm.hw_targets.tables import Verbatim, Within
from pascal_nm.network.graph import Preprocessing, Quantization

Volume = tuple[Side, Side, Side]
"""Rows, columns and channels, in the order of the chip's arrays."""

KINDS = ("image", "convolution", "full")
"""Of version 1 ``InputConvolutional``, ``Convolutional`` and ``FullyConnected`` of the vendor's
software, of version 2 ``InputConv2D``, ``Conv2D`` and ``Dense1D``."""


@dataclass(frozen=True)
class Layer:
    """A layer, but for its registers.

    Attributes:
        name: unique in the program.
        kind: one of :data:`KINDS`. The first pads nothing, the second as much as keeps its image
            as large, where the stride is 1: before its kernel, and then before its pooling.
        sends: the population whose counts it sends, or whose potentials; a layer behind another of
            the same population sends some of them, or sums.
        input: what it takes.
        output: what it sends.
        kept: rows and columns of that which are the population's; those behind are no one's.
        sources: layers whose counts it takes, channels behind each other; none for the images.
        kernel: side.
        stride: of the kernel.
        pool: side of the max-pooling of potentials, 1 for none.
        pool_stride: likewise.
        upper: where zeros cannot be as many before an image as behind, there are more before it.
        vector: its population has no rows and columns.
        weight_bits: of its weights.
        activation_bits: of its counts, in version 2 with a sign; 0 where it sends its potentials.
    """

    name: str
    kind: str
    sends: str
    input: Volume
    output: Volume
    kept: tuple[Side, Side]
    sources: tuple[str, ...] = ()
    kernel: Side = 1
    stride: Side = 1
    pool: Side = 1
    pool_stride: Side = 1
    upper: bool = False
    vector: bool = False
    weight_bits: Annotated[int, Within(1, 8)] = 4
    activation_bits: Annotated[int, Within(0, 8)] = 4


@dataclass(frozen=True)
class Host:
    """What is done outside of the chip.

    Before it, an image of ``shape`` gets borders of its mean; after it, ``host.bias`` is added to
    the potentials, which over ``host.scale`` are logits.

    Attributes:
        shape: of stored images, channels, rows and columns.
        mean: the pixel that stands for 0, by channel.
        borders: rows above and below, columns left and right; a negative one is cut off.
        classes: names of the outputs; empty where the network does not say.
        preprocessing: of the source network.
        quantization: what its integers were made by; None where nobody said.
    """

    shape: tuple[Side, Side, Side]
    mean: tuple[Annotated[int, Within(0, 255)], ...]
    borders: tuple[Annotated[int, Within(-256, 256)], ...]
    classes: tuple[Annotated[str, Verbatim()], ...] = ()
    preprocessing: Preprocessing | None = None
    quantization: Quantization | None = None

    def images(self, pixels: Array) -> Array:
        """What the chip takes, uint8 (N, rows, columns, C), of images (N, C, rows, columns).

        Raises:
            DataError: they are no images of this network.
        """
        if pixels.shape[1:] != self.shape or pixels.dtype.kind not in "ui":
            raise DataError(f"the chip takes stored images of shape {self.shape}, not {pixels.dtype} {pixels.shape}")
        if pixels.size and not 0 <= int(pixels.min()) <= int(pixels.max()) <= 255:
            raise DataError(f"the chip takes pixels from 0 to 255, not {pixels.min()} to {pixels.max()}")
        (above, below, left, right), (_, rows, columns) = self.borders, self.shape
        framed = np.empty((len(pixels), above + rows + below, left + columns + right, self.shape[0]), np.uint8)
        framed[:] = np.asarray(self.mean, np.uint8)
        inside = framed[:, above : above + rows, left : left + columns]
        inside[:] = pixels.transpose(0, 2, 3, 1)[:, : inside.shape[1], : inside.shape[2]]
        return framed


@dataclass(frozen=True, eq=False)
class AkidaProgram:
    """All that a chip is loaded with.

    Attributes:
        chip: its name.
        version: of Akida.
        host: what is done before and after.
        layers: from the pixels to the output.
        registers: ``NAME.weights`` of each layer, int8 as the vendor's arrays hold them (rows,
            columns, inputs, filters; those of a ``convolution`` turned by 180 degrees; of a
            ``full`` layer as :meth:`.neurons.Neurons.flat` orders its inputs, and of version 1
            with two axes of length 1 in front); int32 (filters,) of layers that send counts what
            :attr:`.neurons.Neurons.names` says; of version 2 ``NAME.input_shift`` (inputs,), by
            which an input's counts are shifted up; ``host.bias`` int32 (outputs,) and
            ``host.scale``.
    """

    chip: str
    version: int
    host: Host
    layers: tuple[Layer, ...]
    registers: Mapping[str, Array]

    def __call__(self, images: Array) -> Iterator[tuple[Layer, Array]]:
        """Each layer with what it sends for images as the chip takes them, in the chip's order.

        Counts are uint8 (N, rows, columns, filters), potentials int64.
        """
        sent: dict[str, Array] = {}
        for layer in self.layers:
            parts = [sent[name] for name in layer.sources]
            values = np.concatenate(parts, 3) if len(parts) > 1 else parts[0] if parts else images
            weights, shifts = self.registers[f"{layer.name}.weights"], self.registers.get(f"{layer.name}.input_shift")
            values = values if shifts is None else values.astype(np.int64) << shifts
            potential = pooled(layer, sums(layer, weights, values, self.neurons))
            if layer.activation_bits:
                held = {name: self.registers[f"{layer.name}.{name}"] for name in self.neurons.names}
                potential = self.neurons.counts(held, potential, layer.activation_bits)
            sent[layer.name] = potential
            yield layer, potential

    @property
    def neurons(self) -> Neurons:
        """Of its version."""
        return VERSIONS[self.version]

    def run(self, pixels: Array) -> tuple[dict[str, Array], Array]:
        """Counts by population, int32 (N, *its shape), and the potentials (N, outputs) of images.

        Counts of a population that is pooled are those of the pooling.
        """
        return self.answer({layer.name: values for layer, values in self(self.host.images(pixels))})

    def answer(self, sent: Mapping[str, Array]) -> tuple[dict[str, Array], Array]:
        """The same of what each layer sent, by its name."""
        counts: dict[str, Array] = {}
        potential = np.zeros((0, 0), np.int64)
        for layer in self.layers:
            values = self.own(layer, sent[layer.name])
            if layer.activation_bits:
                counts.setdefault(layer.sends, values.astype(np.int32))
            else:
                potential = values.reshape(len(values), -1).astype(np.int64) + self.registers["host.bias"]
        return counts, potential

    def own(self, layer: Layer, values: Array) -> Array:
        """What a layer sent, in the order and the shape of its population."""
        rows, columns = layer.kept
        moved = values[:, :rows, :columns].transpose(0, 3, 1, 2)
        return np.asarray(moved.reshape(len(moved), -1) if layer.vector else moved)


def same(side: int, kernel: int, stride: int, upper: bool = False) -> tuple[int, int]:
    """Zeros before and behind an axis that a layer pads by itself, as TensorFlow's "same"."""
    missing = max(0, (-(-side // stride) - 1) * stride + kernel - side)
    before = missing - missing // 2 if upper else missing // 2
    return before, missing - before


def sums(layer: Layer, weights: Array, values: Array, neurons: Neurons) -> Array:
    """The potentials before pooling, int64 (N, rows, columns, filters); weights are the register's.

    Sums of floats are exact: no partial sum needs the 53 bits of a float64.
    """
    if layer.kind == "full":
        matrix = weights.reshape(-1, weights.shape[-1]).astype(np.float64)
        return np.asarray(neurons.flat(values).astype(np.float64) @ matrix, np.int64)[:, None, None]
    if layer.kind == "convolution":
        borders = [same(side, layer.kernel, layer.stride, layer.upper) for side in values.shape[1:3]]
        values = np.pad(values, ((0, 0), *borders, (0, 0)))
        weights = weights[::-1, ::-1]
    rows, columns = ((side - layer.kernel) // layer.stride + 1 for side in values.shape[1:3])
    dtype = np.float32 if _bound(weights, int(values.max(initial=0))) < 2**24 else np.float64
    found = np.zeros((len(values), rows, columns, weights.shape[3]), dtype)
    values = values.astype(dtype)
    for i, j in np.ndindex(layer.kernel, layer.kernel):
        last = (i + (rows - 1) * layer.stride + 1, j + (columns - 1) * layer.stride + 1)
        found += values[:, i : last[0] : layer.stride, j : last[1] : layer.stride] @ weights[i, j].astype(dtype)
    return np.asarray(found, np.int64)


def _bound(weights: Array, most: int) -> int:
    """No partial sum of values up to ``most`` is larger."""
    return int(np.abs(weights.astype(np.int64)).sum((0, 1, 2)).max(initial=0)) * most


def pooled(layer: Layer, potential: Array) -> Array:
    """The largest potential of each window."""
    if layer.pool == layer.pool_stride == 1:
        return potential
    if layer.kind == "convolution":
        borders = [same(side, layer.pool, layer.pool_stride) for side in potential.shape[1:3]]
        potential = np.pad(potential, ((0, 0), *borders, (0, 0)), constant_values=np.iinfo(np.int64).min)
    rows, columns = ((side - layer.pool) // layer.pool_stride + 1 for side in potential.shape[1:3])
    windows = [
        potential[
            :,
            i : i + rows * layer.pool_stride : layer.pool_stride,
            j : j + columns * layer.pool_stride : layer.pool_stride,
        ][:, :rows, :columns]
        for i, j in np.ndindex(layer.pool, layer.pool)
    ]
    return np.asarray(np.max(windows, 0))
