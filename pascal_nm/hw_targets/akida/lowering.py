"""From an integer network to Akida's layers, or to a refusal that says what can run instead."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from pascal_nm.common.arrays import Array, Pair
from pascal_nm.errors import GraphError, TargetError
from pascal_nm.hw_targets.akida.device import Device, Registers
from pascal_nm.hw_targets.akida.program import AkidaProgram, Host, Layer, Volume, same
from pascal_nm.network.graph import Graph, Population, Projection
from pascal_nm.network.reach import volume

PIXELS = 255
"""The largest pixel that the chip takes."""


def bits(graph: Graph) -> tuple[int, ...]:
    """Bits of the weights of each layer with which a network fits: what ``quantize`` takes."""
    return (8, *(4 for _ in graph.weighted[1:]))


def lower(graph: Graph, device: Device) -> AkidaProgram:
    """The program of an integer network for a chip; its schedule does not matter for counts.

    Raises:
        TargetError: the chip has no such layers; the message names the population, and what can
            run instead.
    """
    if not graph.is_integer:
        raise TargetError(f"{device.name} computes in whole numbers: quantize the network first (--bits 8,4,4,…)")
    return _Lowering(graph, device).program()


class _Steps(NamedTuple):
    """A population with weights, and the pooling behind it."""

    source: Population
    projection: Projection
    population: Population
    pool: Projection | None
    pooled: Population

    @property
    def name(self) -> str:
        """Of the layer: that of the population whose counts it sends."""
        return self.pooled.name


@dataclass(frozen=True)
class _Sent:
    """What stands in front of a layer.

    Attributes:
        output: of the layer before it.
        kept: rows and columns that are the population's.
        pooled: it is a convolution of counts with a pooling.
        most: the largest value.
    """

    output: Volume
    kept: Pair
    pooled: bool
    most: int


class _Placed(NamedTuple):
    """A convolution as the chip has it: where its weights stand in a square kernel."""

    weight: Array
    stride: int
    output: Pair


class _Lowering:
    def __init__(self, graph: Graph, device: Device) -> None:
        self.graph, self.device = graph, device
        self.layers: list[Layer] = []
        self.registers: dict[str, Array] = {}

    def program(self) -> AkidaProgram:
        steps = list(self._chain())
        for step in steps:
            self._check_neurons(step)
        mean = self._mean()
        sent, borders = self._image(steps[0], mean)
        for step in steps[1:]:
            sent = self._behind(step, sent)
        output = self.graph.output
        self.registers["host.bias"] = np.broadcast_to(output.bias, output.shape).reshape(-1).astype(np.int32)
        self.registers["host.scale"] = np.broadcast_to(output.threshold, output.shape).reshape(-1).astype(np.float64)
        channels, rows, columns = volume(self.graph.input.shape)
        host = Host(
            (channels, rows, columns),
            mean,
            borders,
            self.graph.classes,
            self.graph.preprocessing,
            self.graph.quantization,
        )
        return AkidaProgram(self.device.name, self.device.version, host, tuple(self.layers), self.registers)

    # -- what the chip has -------------------------------------------------------------------------

    def _refused(self, where: str, reason: str, instead: str) -> TargetError:
        return TargetError(f"layer {where}: Akida {self.device.version} ({self.device.name}) {reason}: {instead}")

    def _chain(self) -> Iterator[_Steps]:
        """The layers in order, from the input to the output.

        Raises:
            TargetError: there are others beside them.
        """
        source = self.graph.input
        while not source.dynamics.reads_out:
            population, projection = self._next(source)
            if not population.dynamics.weighted:
                raise self._refused(
                    population.name, "pools what a layer with weights sends, once", "pool at most once behind a layer"
                )
            if population.dynamics.adds:
                raise self._refused(
                    population.name,
                    "sends counts of 0 to 15, not sums",
                    "give every layer a QCFS activation",
                )
            pool, pooled = None, population
            if not population.dynamics.reads_out:
                follower, way = self._next(population)
                if follower.dynamics.relays:
                    pool, pooled = way, follower
            yield _Steps(source, projection, population, pool, pooled)
            source = pooled

    def _next(self, source: Population) -> tuple[Population, Projection]:
        ways = self.graph.outgoing(source.name)
        joined = [q.target for q in ways if len(self.graph.incoming(q.target)) > 1]
        if len(ways) != 1 or joined:
            raise self._refused(
                joined[0] if joined else source.name,
                "adds no shortcut to a layer, and has one output",
                "train a network without (`train --arch vgg7`, or `cnn`)",
            )
        return self.graph[ways[0].target], ways[0]

    def _check_neurons(self, step: _Steps) -> None:
        p, levels = step.population, self.device.levels
        if not p.dynamics.reads_out and (p.levels not in levels or not p.dynamics.is_qcfs):
            nearest = min(levels, key=lambda known: (abs(known - p.levels), -known))
            raise self._refused(
                p.name,
                f"has levels {', '.join(map(str, levels[:-1]))} and {levels[-1]}, not {p.levels}",
                f"`train --from model.pt --levels {nearest}`",
            )
        for what, array in (("threshold", p.threshold), ("bias", p.bias)):
            if math.prod(array.shape[1:]) > 1:
                raise self._refused(
                    p.name, f"has one {what} for each channel", f"this {what} differs from neuron to neuron of one"
                )
        if step.pool is not None and not np.all(step.pooled.dynamics.sign(step.pooled) > 0):
            raise self._refused(
                step.name,
                "takes the largest count of a window, not the smallest",
                "its layer's spikes stand for negative values; train with positive amplitudes",
            )

    def _mean(self) -> tuple[int, ...]:
        """The pixel that stands for 0, by channel."""
        graph, device = self.graph, self.device
        name, pre = graph.input.name, graph.preprocessing
        channels = volume(graph.input.shape)[0]
        zero = None if pre is None else graph.input.zero(pre)
        if pre is None or zero is None or pre.scale > PIXELS:
            raise self._refused(
                name,
                "takes stored pixels of 8 bits",
                "say how pixels become inputs when the network is converted (--mean, --std), and quantize it anew",
            )
        if len(graph.input.shape) != 3 or channels not in device.image.channels:
            raise self._refused(
                name,
                f"takes images of {' or '.join(map(str, device.image.channels))} channels",
                f"this network takes {'x'.join(map(str, graph.input.shape))}",
            )
        mean = np.broadcast_to(zero, (channels, 1, 1)).reshape(-1)
        if mean.min() < 0 or mean.max() > PIXELS:
            raise self._refused(name, "pads images with a pixel of 0 to 255", "their mean is none")
        return tuple(int(m) for m in mean)

    # -- layers ------------------------------------------------------------------------------------

    def _image(self, step: _Steps, mean: tuple[int, ...]) -> tuple[_Sent, tuple[int, int, int, int]]:
        """The first layer, and the borders that the host adds."""
        limits, name = self.device.image, step.population.name
        if step.population.dynamics.reads_out:
            raise self._refused(
                name, "has a layer that counts behind the pixels", "train a network of two layers at least"
            )
        weight, stride, offsets = self._kernel(step, limits.kernels)
        target = volume(step.population.shape)[1:]
        sides = volume(step.source.shape)[1:]
        before = [max(0, -min(offset)) for offset in offsets]
        spans = [max(offset) + first + 1 for offset, first in zip(offsets, before, strict=True)]
        kernel = next((k for k in limits.kernels if k >= max(spans)), None)
        if kernel is None:
            raise self._refused(
                name,
                f"has kernels of {_listed(limits.kernels)} pixels a side for images",
                f"this layer sees {max(spans)}: begin with a convolution (`train --arch cnn`, or `vgg7`)",
            )
        if stride not in limits.strides:
            raise self._refused(
                name, f"has strides {_listed(limits.strides)} for pixels, not {stride}", "take one of these"
            )
        borders, framed = [], []
        for side, outputs, first in zip(sides, target, before, strict=True):
            fewest = (outputs - 1) * stride + kernel
            whole = min(max(fewest, side + first), fewest + stride - 1)
            borders += [first, whole - first - side]
            framed.append(whole)
        least = max(limits.least, kernel + 1)
        if min(framed) < least or framed[1] > limits.width:
            raise self._refused(
                name,
                f"takes images of {least} pixels a side at least, and {limits.width} a row at most",
                f"with its borders this one has {framed[0]}x{framed[1]}",
            )
        most = limits.filters[limits.channels.index(len(mean))][limits.kernels.index(kernel)]
        if len(weight) > most:
            raise self._refused(
                name,
                f"has {most} filters of {kernel}x{kernel} pixels at most",
                f"this layer has {len(weight)}: train a narrower one",
            )
        placed = _placed(
            weight, kernel, [[o + first for o in offset] for offset, first in zip(offsets, before, strict=True)]
        )
        constant = (placed.astype(np.int64) * np.asarray(mean)[:, None, None]).sum((1, 2, 3))
        pool, windows = self._pooling(step, limits.pools, padded=False)
        if pool and pool[0] != pool[1]:
            raise self._refused(
                step.name, "moves a window over pixels by its own size", "pool with a stride of that size"
            )
        layer = self._layer(
            step,
            "image",
            (framed[0], framed[1], len(mean)),
            windows,
            kernel,
            stride,
            pool or (1, 1),
            placed,
            PIXELS,
            limits.registers,
            constant,
        )
        return _Sent(layer.output, layer.kept, False, step.population.levels), tuple(borders)  # type: ignore[return-value]

    def _behind(self, step: _Steps, sent: _Sent) -> _Sent:
        """A further layer: dense where it ends in single neurons, and else a convolution."""
        if math.prod(volume(step.population.shape)[1:]) == 1:
            return self._dense(step, self._relayed(step.source, sent) if sent.pooled else sent)
        limits, name = self.device.convolution, step.population.name
        if step.population.dynamics.reads_out:
            raise self._refused(name, "has one output neuron for a class", "pool what the output gives over its image")
        if sent.kept != sent.output[:2]:
            raise self._refused(
                step.source.name,
                "pools what hangs over the border, too",
                f"images of {sent.kept[0]}x{sent.kept[1]} behind the pooling need ones of twice that before it",
            )
        weight, stride, offsets = self._kernel(step, limits.kernels)
        target, sides = volume(step.population.shape)[1:], sent.kept
        if stride > 2:
            raise self._refused(name, f"has strides 1 and 2, not {stride}", "take one of these")
        kernels = limits.kernels if stride == 1 else limits.strided
        for kernel in kernels:
            places = [
                [o + same(side, kernel, stride)[0] for o in offset] for offset, side in zip(offsets, sides, strict=True)
            ]
            if all(-(-side // stride) == n for side, n in zip(sides, target, strict=True)) and all(
                0 <= place < kernel for axis in places for place in axis
            ):
                break
        else:
            raise self._refused(
                name,
                f"has kernels of {_listed(kernels)} a side for a stride of {stride}, around their pixel, "
                "and images as large behind them",
                "this convolution is another: pad it by half its kernel, and take a stride of 1",
            )
        placed = _placed(weight, kernel, places)
        pool, windows = self._pooling(step, limits.pools, padded=True)
        layer = self._layer(
            step,
            "convolution",
            sent.output,
            windows,
            kernel,
            stride,
            pool or (1, 1),
            placed,
            sent.most,
            limits.registers,
        )
        return _Sent(layer.output, layer.kept, pool is not None, step.population.levels)

    def _dense(self, step: _Steps, sent: _Sent) -> _Sent:
        limits, name, shape = self.device.dense, step.population.name, step.source.shape
        projection = step.projection
        matrix = projection.operator.matrix(projection.pooled(shape))
        if projection.pool is not None:
            matrix = matrix @ projection.pool.matrix(shape)
        channels, rows, columns = volume(shape)
        full = np.zeros((matrix.shape[0], channels, *sent.output[:2]), np.int64)
        full[:, :, :rows, :columns] = matrix.toarray().reshape(-1, channels, rows, columns)
        inputs = math.prod(sent.output)
        if inputs > limits.inputs:
            raise self._refused(
                name,
                f"has dense layers of {limits.inputs:,} inputs at most",
                f"this one has {inputs:,}: pool before it",
            )
        if step.pool is not None:
            raise self._refused(step.name, "pools behind convolutions only", "leave this pooling out")
        layer = self._layer(step, "dense", sent.output, (1, 1), 1, 1, (1, 1), full, sent.most, limits.registers)
        return _Sent(layer.output, layer.kept, False, step.population.levels)

    def _relayed(self, source: Population, sent: _Sent) -> _Sent:
        """A convolution of single pixels that sends what it gets.

        The chip has no dense layer behind a pooling; counts of one layer are the potential here,
        with a threshold of 1.
        """
        filters = sent.output[2]
        name, activation = f"{source.name}_relay", int(sent.most).bit_length()
        while any(layer.name == name for layer in self.layers) or any(p.name == name for p in self.graph.populations):
            name += "_"
        self.registers[f"{name}.weights"] = np.eye(filters, dtype=np.int8)[None, None]
        self.registers[f"{name}.threshold"] = np.zeros(filters, np.int32)
        self.registers[f"{name}.step"] = np.full(filters, 2**activation, np.int32)
        self.layers.append(
            Layer(
                name,
                "convolution",
                source.name,
                sent.output,
                sent.output,
                sent.kept,
                weight_bits=1,
                activation_bits=activation,
            )
        )
        return replace(sent, pooled=False)

    def _kernel(self, step: _Steps, kernels: Sequence[int]) -> tuple[Array, int, list[list[int]]]:
        """Weights (filters, channels, rows, columns), the stride, and each weight's place.

        Places are rows and columns from the pixel at which a window stands, of weights that any
        window has inside of the image.
        """
        projection, name, shape = step.projection, step.population.name, step.source.shape
        operator, pool = projection.operator, projection.pool
        if pool is not None:
            merged = operator.pooled(None, pool)
            if merged is None or merged[1] is not None:
                raise self._refused(name, "averages no windows", "train with `--pool max`")
            operator = merged[0]
        try:
            found = operator.as_convolution(volume(shape))
        except GraphError as error:
            raise self._refused(name, f"has no such synapses ({error})", "a convolution, or a dense layer") from error
        if found.stride[0] != found.stride[1]:
            raise self._refused(name, "moves its windows as far in rows as in columns", f"not by {found.stride}")
        weight, stride = np.asarray(found.weight()), found.stride[0]
        offsets, target = [], volume(step.population.shape)[1:]
        for axis in (0, 1):
            places = [found.dilation[axis] * i - found.padding[axis] for i in range(found.kernel[axis])]
            side, outputs = volume(shape)[1 + axis], target[axis]
            seen = [any(0 <= o + stride * j < side for j in range(outputs)) for o in places]
            if not any(seen):
                seen[0] = True
            weight = np.compress(seen, weight, axis=2 + axis)
            offsets.append([o for o, s in zip(places, seen, strict=True) if s])
        if pool is not None and max(len(o) for o in offsets) > max(kernels):
            raise self._refused(
                name, f"averages no windows beyond kernels of {_listed(kernels)}", "train with `--pool max`"
            )
        return weight, stride, offsets

    def _pooling(self, step: _Steps, sizes: Sequence[int], *, padded: bool) -> tuple[Pair | None, Pair]:
        """Size and stride of a pooling, and rows and columns behind it as the chip has them."""
        rows, columns = volume(step.population.shape)[1:]
        if step.pool is None or step.pool.pool is None:
            return None, (rows, columns)
        pool, name = step.pool.pool, step.name
        (size, wide), (stride, far) = pool.kernel, pool.stride
        if size != wide or stride != far or size not in sizes or stride > size:
            raise self._refused(
                name,
                f"pools windows of {_listed(sizes)} pixels a side, moved by as much or less",
                f"not {size}x{wide}, moved by {stride}x{far}",
            )
        target, behind = volume(step.pooled.shape)[1:], []
        for side, wanted, border in zip((rows, columns), target, pool.padding, strict=True):
            first = same(side, size, stride)[0] if padded else 0
            outputs = -(-side // stride) if padded else (side - size) // stride + 1
            if [_window(j * stride - border, size, side) for j in range(wanted)] != [
                _window(j * stride - first, size, side) for j in range(min(wanted, outputs))
            ]:
                raise self._refused(
                    name, "pools from the first pixel on, without a border", "leave the pooling's padding out"
                )
            behind.append(outputs)
        if not padded and tuple(behind) != target:
            raise self._refused(name, "pools whole windows of the first layer", "leave ceil_mode out")
        return (size, stride), (behind[0], behind[1])

    def _layer(
        self,
        step: _Steps,
        kind: str,
        takes: Volume,
        windows: Pair,
        kernel: int,
        stride: int,
        pool: Pair,
        weight: Array,
        most: int,
        registers: Registers,
        constant: Array | int = 0,
    ) -> Layer:
        """A layer with its registers; weights are (filters, channels, rows, columns)."""
        p, name = step.population, step.population.name
        kept = volume(step.pooled.shape)[1:]
        held = self._weight_bits(step, weight, registers)
        down, up = (np.maximum(sign * weight.astype(np.int64), 0).sum((1, 2, 3)).max(initial=0) for sign in (-1, 1))
        if max(down, up) * most > registers.potential():
            raise self._refused(
                name,
                f"holds potentials up to {registers.potential():,}",
                f"these can reach {max(down, up) * most:,}: train fewer bits, or a narrower layer before it",
            )
        counts = not p.dynamics.reads_out
        activation = p.levels.bit_length() if counts else 0
        layer = Layer(
            step.name,
            kind,
            step.name,
            takes,
            (*windows, len(weight)),
            (kept[0], kept[1]),
            kernel,
            stride,
            *pool,
            held,
            activation,
        )
        self.layers.append(layer)
        self.registers[f"{layer.name}.weights"] = _as_held(weight.astype(np.int8), kind)
        if counts:
            theta, bias = (np.broadcast_to(a.reshape(-1), len(weight)).astype(np.int64) for a in (p.threshold, p.bias))
            threshold = theta - 1 - theta // 2 - bias + constant
            self._check_register(
                name, "threshold", threshold, -(2 ** (registers.threshold_bits - 1)), registers.potential()
            )
            self._check_register(name, "act_step", theta << activation, 1, 2**registers.step_bits - 1)
            self.registers[f"{layer.name}.threshold"] = threshold.astype(np.int32)
            self.registers[f"{layer.name}.step"] = (theta << activation).astype(np.int32)
        return layer

    def _weight_bits(self, step: _Steps, weight: Array, registers: Registers) -> int:
        """The fewest bits that hold the weights.

        Raises:
            TargetError: there are too few.
        """
        least, most = int(weight.min(initial=0)), int(weight.max(initial=0))
        for held in registers.weight_bits:
            low, high = registers.weights(held)
            if low <= least and most <= high:
                return held
        widest = max(registers.weight_bits)
        given = ",".join(map(str, bits(self.graph)))
        raise self._refused(
            step.population.name,
            f"holds weights of {widest} bits here, {' to '.join(map(str, registers.weights(widest)))}",
            f"these go from {least} to {most}: `--bits {given}`, or better `train --from model.pt --bits {given}`",
        )

    def _check_register(self, name: str, what: str, values: Array, least: int, most: int) -> None:
        if values.min() < least or values.max() > most:
            worst = int(values[np.argmax(np.abs(values))])
            raise self._refused(
                name,
                f"holds a {what} from {least:,} to {most:,}",
                f"{worst:,} is needed: its weights are too small against it",
            )


def _listed(values: Sequence[int]) -> str:
    *first, last = map(str, values)
    return f"{', '.join(first)} and {last}" if first else last


def _window(start: int, size: int, side: int) -> Pair:
    """The pixels of an image that a window covers, half-open."""
    return max(0, start), min(side, start + size)


def _placed(weight: Array, kernel: int, places: Sequence[Sequence[int]]) -> Array:
    """Weights (filters, channels, rows, columns) in a square kernel, with zeros around."""
    found = np.zeros((*weight.shape[:2], kernel, kernel), np.int64)
    found[:, :, np.asarray(places[0])[:, None], np.asarray(places[1])] = weight
    return found


def _as_held(weight: Array, kind: str) -> Array:
    """As the vendor's arrays hold weights; see :class:`.program.AkidaProgram`."""
    if kind == "dense":
        return np.ascontiguousarray(weight.transpose(0, 1, 3, 2).reshape(len(weight), -1).T[None, None])
    turned = weight[:, :, ::-1, ::-1] if kind == "convolution" else weight
    return np.ascontiguousarray(turned.transpose(2, 3, 1, 0))
