"""From an integer network to Akida's layers, or to a refusal that says what can run instead."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from pascal_nm.common.arrays import Array, Pair
from pascal_nm.errors import GraphError, TargetError
from pascal_nm.hw_targets.akida.device import Device, Registers
from pascal_nm.hw_targets.akida.neurons import VERSIONS, rounded_bias
from pascal_nm.hw_targets.akida.program import AkidaProgram, Host, Layer, Volume, same
from pascal_nm.network.graph import Graph, Population, Projection, Quantization
from pascal_nm.network.quantization import Layers, quantize
from pascal_nm.network.reach import volume

PIXELS = 255
"""The largest pixel that the chip takes."""


def bits(graph: Graph, device: Device) -> tuple[int, ...]:
    """Bits of the weights of each layer with which a network fits."""
    first, others = max(device.image.registers.weight_bits), max(device.convolution.registers.weight_bits)
    return (first, *(others for _ in graph.weighted[1:]))


def quantized(graph: Graph, device: Device, recipe: Quantization | None = None) -> Graph:
    """A float network in integers that fit a chip's registers; an integer network stays as it is.

    Version 2 divides by powers of two, and has biases of 8 bits: thresholds and biases become
    such.

    Args:
        graph: the network.
        device: the chip.
        recipe: bits of the weights, or more; :func:`bits` where it is None.

    Raises:
        GraphError: as :func:`pascal_nm.network.quantization.quantize`.
        TargetError: as :func:`lower`.
    """
    if graph.is_integer:
        return graph
    recipe = recipe or Quantization(bits(graph, device))
    if device.version == 1:
        return quantize(graph, recipe)
    layers = Layers(graph, recipe)
    made = layers.graph([layer.in_powers() for layer in layers]).replace(quantization=None)
    lowering = _Lowering(made, device)
    constants = {made.weighted[0].name: lowering.constant()}
    return made.replace(
        populations=tuple(_rounded(p, constants.get(p.name, 0)) if p.dynamics.fires else p for p in made.populations)
    )


def _rounded(p: Population, constant: Array | int) -> Population:
    """With biases that 8 bits hold when a constant of each channel is taken away."""
    bias = np.broadcast_to(p.bias.astype(np.int64).reshape(-1), p.shape[0]) - constant
    held = rounded_bias(bias)[0] + constant
    return replace(p, bias=held.reshape(-1, *(1,) * (len(p.shape) - 1)).astype(np.int32))


def lower(graph: Graph, device: Device) -> AkidaProgram:
    """The program of an integer network for a chip; its schedule does not matter for counts.

    Raises:
        TargetError: the chip has no such layers; the message names the population, and what can
            run instead.
    """
    if not graph.is_integer:
        raise TargetError(f"{device.name} computes in whole numbers: quantize the network first (--bits 8,4,4,…)")
    return _Lowering(graph, device).program()


class _Step(NamedTuple):
    """A population with weights, and the pooling behind it."""

    incoming: Sequence[Projection]
    population: Population
    pool: Projection | None
    pooled: Population

    @property
    def name(self) -> str:
        """Of the layer: that of the population whose counts it sends."""
        return self.pooled.name


@dataclass(frozen=True)
class _Sent:
    """What a layer sends.

    Attributes:
        layer: its name.
        output: rows, columns and channels.
        kept: rows and columns that are the population's.
        pooled: it is a convolution of counts with a pooling.
        most: the largest count.
        first: it takes the images.
    """

    layer: str
    output: Volume
    kept: Pair
    pooled: bool
    most: int
    first: bool = False


class _Taps(NamedTuple):
    """Synapses as a convolution.

    Attributes:
        weight: (filters, channels, rows, columns).
        stride: of its windows.
        offsets: rows and columns of each weight from the pixel at which a window stands.
    """

    weight: Array
    stride: int
    offsets: list[list[int]]


class _Lowering:
    def __init__(self, graph: Graph, device: Device) -> None:
        self.graph, self.device, self.neurons = graph, device, VERSIONS[device.version]
        self.layers: list[Layer] = []
        self.registers: dict[str, Array] = {}
        self.sent: dict[str, _Sent] = {}

    def program(self) -> AkidaProgram:
        mean, borders = self._mean(), (0, 0, 0, 0)
        for p in self.graph.populations[1:]:
            if p.dynamics.relays:
                self._check_pooling(p)
                continue
            step = self._step(p)
            self._check_neurons(step)
            if not self.layers:
                borders = self._image(step, mean)
            elif self._ends_in_neurons(step):
                self._dense(step)
            else:
                self._convolution(step)
        output = self.graph.output
        self.registers["host.bias"] = np.broadcast_to(output.bias, output.shape).reshape(-1).astype(np.int32)
        self.registers["host.scale"] = np.broadcast_to(output.threshold, output.shape).reshape(-1).astype(np.float64)
        channels, rows, columns = volume(self.graph.input.shape)
        graph, shape = self.graph, (channels, rows, columns)
        host = Host(shape, mean, borders, graph.classes, graph.preprocessing, graph.quantization)
        return AkidaProgram(self.device.name, self.device.version, host, tuple(self.layers), self.registers)

    def constant(self) -> Array:
        """What the pixels that stand for 0 bring each channel of the first layer."""
        step = self._step(self.graph.weighted[0])
        return _constant(self._kernel(step.incoming[0], step, self.device.image.kernels).weight, self._mean())

    # -- what the chip has -------------------------------------------------------------------------

    def _refused(self, where: str, reason: str, instead: str) -> TargetError:
        version = f"Akida {self.device.version}"
        of = "" if self.device.name == version else f" ({self.device.name})"
        return TargetError(f"layer {where}: {version}{of} {reason}: {instead}")

    def _step(self, p: Population) -> _Step:
        """A population with what leads to it.

        Raises:
            TargetError: the chip does not add it up so.
        """
        graph = self.graph
        if p.dynamics.adds:
            raise self._refused(p.name, "sends counts, not sums", "give every layer a QCFS activation")
        if p.dynamics.reads_out and p is not graph.output:
            raise self._refused(p.name, "has one output", "leave the others out")
        incoming = graph.incoming(p.name)
        if len(incoming) > 1 and not self.device.convolution.joined:
            raise self._refused(
                p.name,
                "adds no shortcut to a layer",
                "train a network without (`train --arch vgg7`, or `cnn`), or take akida2",
            )
        if self.layers and any(graph[q.source] is graph.input for q in incoming):
            raise self._refused(p.name, "takes pixels into one layer", "let no shortcut begin at the image")
        pools = [q for q in graph.outgoing(p.name) if graph[q.target].dynamics.relays]
        if pools and len(graph.outgoing(p.name)) > 1:
            raise self._refused(p.name, "sends what it pools", "let all take it pooled, or none")
        return _Step(incoming, p, pools[0] if pools else None, graph[pools[0].target] if pools else p)

    def _ends_in_neurons(self, step: _Step) -> bool:
        """Whether it is a dense layer: no image behind it, and nothing of images joined to it."""
        p, graph = step.population, self.graph
        joined = any(len(graph.incoming(q.target)) > 1 for q in graph.outgoing(p.name))
        alone = len({q.source for q in step.incoming}) == 1 and not (joined and len(p.shape) > 1)
        return _image_of(p) == (1, 1) and (p.dynamics.reads_out or alone)

    def _check_pooling(self, p: Population) -> None:
        """That a pooling stands behind a layer with weights, alone."""
        (q,) = self.graph.incoming(p.name)
        if not self.graph[q.source].dynamics.weighted:
            raise self._refused(
                p.name, "pools what a layer with weights sends, once", "pool at most once behind a layer"
            )

    def _check_neurons(self, step: _Step) -> None:
        p, levels = step.population, self.device.levels
        if not p.dynamics.reads_out and (p.levels not in levels or not p.dynamics.is_qcfs):
            nearest = min(levels, key=lambda known: (abs(known - p.levels), -known))
            several = f"levels {_listed(levels)}" if len(levels) < 9 else f"{levels[0]} to {levels[-1]} levels"
            raise self._refused(p.name, f"has {several}, not {p.levels}", f"`train --from model.pt --levels {nearest}`")
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

    def _image(self, step: _Step, mean: tuple[int, ...]) -> tuple[int, int, int, int]:
        """The first layer; gives the borders that the host adds."""
        limits, name = self.device.image, step.population.name
        if step.population.dynamics.reads_out:
            raise self._refused(
                name, "has a layer that counts behind the pixels", "train a network of two layers at least"
            )
        weight, stride, offsets = self._kernel(step.incoming[0], step, limits.kernels)
        target = volume(step.population.shape)[1:]
        sides = volume(self.graph.input.shape)[1:]
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
        pool, windows = self._pooling(step, limits.pools, padded=False)
        if pool and pool[0] != pool[1]:
            raise self._refused(
                step.name, "moves a window over pixels by its own size", "pool with a stride of that size"
            )
        shape = Layer(
            *(step.name, "image", step.name, (framed[0], framed[1], len(mean)), (*windows, len(weight))),
            kept=_image_of(step.pooled),
            kernel=kernel,
            stride=stride,
            pool=pool[0] if pool else 1,
            pool_stride=pool[1] if pool else 1,
        )
        self._add(step, shape, placed, PIXELS, limits.registers, _constant(placed, mean))
        return borders[0], borders[1], borders[2], borders[3]

    def _convolution(self, step: _Step) -> None:
        """A further layer, of what others send, channels behind each other."""
        limits, name = self.device.convolution, step.population.name
        if step.population.dynamics.reads_out:
            raise self._refused(name, "has one output neuron for a class", "pool what the output gives over its image")
        parts = self._parts(step)
        sources = list(parts)
        sides, stride = sources[0].output[:2], next(iter(parts.values()))[0].stride
        target = volume(step.population.shape)[1:]
        if stride > 2:
            raise self._refused(name, f"has strides 1 and 2, not {stride}", "take one of these")
        kernels = limits.kernels if stride == 1 else limits.strided
        found = self._place([taps for each in parts.values() for taps in each], sides, kernels)
        if found is None or tuple(-(-side // stride) for side in sides) != target:
            raise self._refused(
                name,
                f"has kernels of {_listed(kernels)} a side for a stride of {stride}, around their pixel, "
                "and images as large behind them",
                "train with `--pool max`"
                if any(q.pool for q in step.incoming)
                else "this convolution is another: pad it by half its kernel, and take a stride of 1",
            )
        kernel, upper = found
        filters = volume(step.population.shape)[0]
        weight = np.zeros((filters, sum(s.output[2] for s in sources), kernel, kernel), np.int64)
        first = 0
        for source, each in parts.items():
            mine = weight[:, first : first + source.output[2]]
            for taps in each:
                rows, columns = _shifted(taps, sides, kernel, upper)
                mine[:, :, np.asarray(rows)[:, None], np.asarray(columns)] += taps.weight
            first += source.output[2]
        pool, windows = self._pooling(step, limits.pools, padded=True)
        shape = Layer(
            *(step.name, "convolution", step.name, (*sides, weight.shape[1]), (*windows, filters)),
            kept=_image_of(step.pooled),
            sources=tuple(source.layer for source in sources),
            kernel=kernel,
            stride=stride,
            pool=pool[0] if pool else 1,
            pool_stride=pool[1] if pool else 1,
            upper=upper,
        )
        self._add(step, shape, weight, max(source.most for source in sources), limits.registers)

    def _parts(self, step: _Step) -> dict[_Sent, list[_Taps]]:
        """By layer that is taken from its synapses, all for images of one size.

        A larger image becomes a smaller one by a relay, where only its first pixels are seen.
        """
        name, joined = step.population.name, len({q.source for q in step.incoming}) > 1
        smallest = min(_image_of(self.graph[q.source]) for q in step.incoming)
        parts: dict[_Sent, list[_Taps]] = {}
        for q in step.incoming:
            source, taps = self.graph[q.source], self._kernel(q, step, self.device.convolution.kernels)
            sent, stride = self._behind(source), 1
            if sent.kept != sent.output[:2]:
                raise self._refused(
                    source.name,
                    "pools what hangs over the border, too",
                    f"images of {sent.kept[0]}x{sent.kept[1]} behind the pooling need ones of twice that before it",
                )
            if sent.kept != smallest:
                if taps.stride != 2 or taps.offsets != [[0], [0]] or tuple(-(-n // 2) for n in sent.kept) != smallest:
                    raise self._refused(
                        name,
                        "joins images of one size",
                        f"these are {sent.kept[0]}x{sent.kept[1]} and {smallest[0]}x{smallest[1]}",
                    )
                taps, stride = taps._replace(stride=1), 2
            parallel = len(self.graph.outgoing(source.name)) > 1
            if (sent.first or sent.pooled) and (joined or parallel):
                sent = self._relayed(source, sent)
            if stride > 1:
                sent = self._relayed(source, sent, stride)
            parts.setdefault(sent, []).append(taps)
        strides = {taps.stride for each in parts.values() for taps in each}
        if len(strides) > 1:
            raise self._refused(name, "moves all windows of a layer alike", f"not by {_listed(sorted(strides))}")
        return parts

    def _place(self, taps: Sequence[_Taps], sides: Pair, kernels: Sequence[int]) -> tuple[int, bool] | None:
        """The smallest square kernel that has all weights, and whether more zeros stand before."""
        uppers = (False, True) if self.device.convolution.upper and taps[0].stride > 1 else (False,)
        for kernel in kernels:
            for upper in uppers:
                places = [axis for each in taps for axis in _shifted(each, sides, kernel, upper)]
                if all(0 <= place < kernel for axis in places for place in axis):
                    return kernel, upper
        return None

    def _dense(self, step: _Step) -> None:
        """A layer that ends in single neurons."""
        limits, name = self.device.dense, step.population.name
        if len({q.source for q in step.incoming}) > 1:
            raise self._refused(name, "takes one layer into a dense one", "let shortcuts end before it")
        source = self.graph[step.incoming[0].source]
        sent = self._behind(source)
        sent = self._relayed(source, sent) if sent.pooled else sent
        channels, rows, columns = volume(source.shape)
        filters = volume(step.population.shape)[0]
        full = np.zeros((filters, channels, *sent.output[:2]), np.int64)
        for q in step.incoming:
            matrix = q.operator.matrix(q.pooled(source.shape))
            matrix = matrix if q.pool is None else matrix @ q.pool.matrix(source.shape)
            full[:, :, :rows, :columns] += matrix.toarray().reshape(-1, channels, rows, columns)
        inputs = math.prod(sent.output)
        while math.prod(sent.output) > limits.inputs:
            summed = self._summed(source, sent, full)
            if summed is None:
                raise self._refused(
                    name,
                    f"has dense layers of {limits.inputs:,} inputs at most",
                    f"this one has {inputs:,}: pool before it",
                )
            sent, full = summed
        if step.pool is not None:
            raise self._refused(step.name, "pools behind convolutions only", "leave this pooling out")
        shape = Layer(*(step.name, "full", step.name, sent.output, (1, 1, filters)), kept=(1, 1), sources=(sent.layer,))
        self._add(step, shape, full, sent.most, limits.registers)

    def _behind(self, source: Population) -> _Sent:
        """What the layer of a population sends."""
        return self.sent[source.name]

    def _relayed(self, source: Population, sent: _Sent, stride: int = 1) -> _Sent:
        """A convolution of single pixels that sends what it gets, of images every so many pixels.

        Version 1 has no dense layer behind a pooling, version 2 besides joins no images' layer, and
        no images of two sizes. A count is the potential here, and the threshold 1.
        """
        name = f"{source.name}_relay{stride if stride > 1 else ''}"
        if name in self.sent:
            return self.sent[name]
        rows, columns, filters = sent.output
        output = (-(-rows // stride), -(-columns // stride), filters)
        held = min(b for b in self.device.convolution.registers.weight_bits)
        layer = Layer(
            *(name, "convolution", source.name, sent.output, output),
            kept=(-(-sent.kept[0] // stride), -(-sent.kept[1] // stride)),
            sources=(sent.layer,),
            stride=stride,
            weight_bits=held,
            activation_bits=self._activation_bits(sent.most),
        )
        registers = self.neurons.registers(np.ones(filters, np.int64), np.zeros(filters, np.int64), sent.most)
        self._hold(layer, np.eye(filters, dtype=np.int64)[:, :, None, None], registers)
        self.sent[name] = _Sent(name, output, layer.kept, False, sent.most)
        return self.sent[name]

    def _summed(self, source: Population, sent: _Sent, weight: Array) -> tuple[_Sent, Array] | None:
        """The sums of 2x2 counts, and the weights that a dense layer has for them, where they do.

        None where it tells them apart, or they are more than the chip counts.
        """
        channels, (rows, columns) = sent.output[2], sent.output[:2]
        blocks = np.pad(weight, ((0, 0), (0, 0), (0, rows % 2), (0, columns % 2)), mode="edge")
        parts = [blocks[:, :, i::2, j::2] for i, j in np.ndindex(2, 2)]
        alike = all(np.array_equal(part, parts[0]) for part in parts)
        if (
            not alike
            or sent.kept != (rows, columns)
            or 4 * sent.most > max(self.device.levels)
            or min(rows, columns) < 2
        ):
            return None
        taps = _Taps(np.eye(channels, dtype=np.int64)[:, :, None, None].repeat(2, 2).repeat(2, 3), 2, [[0, 1], [0, 1]])
        found = self._place([taps], (rows, columns), self.device.convolution.strided)
        if found is None:
            return None
        kernel, upper = found
        places = _shifted(taps, (rows, columns), kernel, upper)
        output, most = (-(-rows // 2), -(-columns // 2), channels), 4 * sent.most
        layer = Layer(
            *(f"{sent.layer}_sum", "convolution", source.name, sent.output, output),
            kept=output[:2],
            sources=(sent.layer,),
            kernel=kernel,
            stride=2,
            upper=upper,
            weight_bits=min(self.device.convolution.registers.weight_bits),
            activation_bits=self._activation_bits(most),
        )
        registers = self.neurons.registers(np.ones(channels, np.int64), np.zeros(channels, np.int64), most)
        self._hold(layer, _placed(taps.weight, kernel, places), registers)
        return _Sent(layer.name, output, layer.kept, False, most), parts[0]

    def _kernel(self, projection: Projection, step: _Step, kernels: Sequence[int]) -> _Taps:
        """Synapses as a convolution: those weights that any window has inside of the image."""
        name, shape = step.population.name, self.graph[projection.source].shape
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
        weight, stride = np.rint(found.weight()).astype(np.int64), found.stride[0]
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
        return _Taps(weight, stride, offsets)

    def _pooling(self, step: _Step, sizes: Sequence[int], *, padded: bool) -> tuple[Pair | None, Pair]:
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

    def _add(
        self,
        step: _Step,
        shape: Layer,
        weight: Array,
        most: int,
        limits: Registers,
        constant: Array | int = 0,
    ) -> None:
        """A layer with its registers; weights are (filters, channels, rows, columns).

        The image of the pixels that stand for 0 brings each filter a ``constant``.
        """
        p, name = step.population, step.population.name
        counts = not p.dynamics.reads_out
        theta, bias = (np.broadcast_to(a.reshape(-1), len(weight)).astype(np.int64) for a in (p.threshold, p.bias))
        down, up = (np.maximum(sign * weight, 0).sum((1, 2, 3)).max(initial=0) for sign in (-1, 1))
        reached = int(max(down, up)) * most
        if reached > limits.potential():
            raise self._refused(
                name,
                f"holds potentials up to {limits.potential():,}",
                f"these can reach {reached:,}: train fewer bits, or a narrower layer before it",
            )
        registers: dict[str, Array] = {}
        if counts:
            try:
                registers = self.neurons.registers(theta, bias - constant, p.levels)
            except TargetError as error:
                reason, _, needed = str(error).partition("|")
                raise self._refused(name, reason, f"{needed}; quantize the float network for this chip") from error
            self._check_registers(name, registers, limits)
        weight, shifts = self._shifts(shape, weight, limits)
        if shifts is not None:
            self.registers[f"{shape.name}.input_shift"] = shifts
        held = self._weight_bits(step, weight, limits)
        bits_ = self._activation_bits(p.levels) if counts else 0
        layer = replace(shape, weight_bits=held, activation_bits=bits_, vector=len(p.shape) == 1)
        self._hold(layer, weight, registers)
        pooled = step.pool is not None and bool(layer.sources)
        self.sent[step.name] = _Sent(layer.name, layer.output, layer.kept, pooled, p.levels, not layer.sources)

    def _hold(self, layer: Layer, weight: Array, registers: Mapping[str, Array]) -> None:
        """Take a layer among those of the program."""
        self.layers.append(layer)
        self.registers[f"{layer.name}.weights"] = self._as_held(weight.astype(np.int8), layer.kind)
        for name, values in registers.items():
            self.registers[f"{layer.name}.{name}"] = values.astype(np.int32)

    def _activation_bits(self, levels: int) -> int:
        """The fewest bits that hold counts up to so many levels."""
        sign = self.device.version - 1
        return min(b for b in self.device.activation_bits if 2 ** (b - sign) > levels)

    def _shifts(self, shape: Layer, weight: Array, limits: Registers) -> tuple[Array, Array | None]:
        """Weights, and how far the counts that they take are shifted up, where they can be."""
        most = self.device.convolution.input_shift
        if not most or shape.kind != "convolution":
            return weight, None
        _, high = limits.weights(max(limits.weight_bits))
        largest = np.abs(weight).max((0, 2, 3))
        shifts = np.ceil(np.log2(np.maximum(largest, 1) / high)).clip(0, most).astype(np.int32)
        whole = (weight & ((1 << shifts)[:, None, None] - 1)) == 0
        shifts = np.where(whole.all((0, 2, 3)), shifts, 0).astype(np.int32)
        return weight >> shifts[:, None, None], shifts

    def _weight_bits(self, step: _Step, weight: Array, registers: Registers) -> int:
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
        given = ",".join(map(str, bits(self.graph, self.device)))
        raise self._refused(
            step.population.name,
            f"holds weights of {widest} bits here, {' to '.join(map(str, registers.weights(widest)))}",
            f"these go from {least} to {most}: `--bits {given}`, or better `train --from model.pt --bits {given}`",
        )

    def _check_registers(self, name: str, registers: Mapping[str, Array], limits: Registers) -> None:
        """That thresholds and steps of version 1 have their bits; those of version 2 have them."""
        ranges = {
            "threshold": ("threshold", -limits.potential() - 1, limits.potential()),
            "step": ("act_step in sixteenths", 1, 2**limits.step_bits - 1),
        }
        for key, (what, least, most) in ranges.items():
            values = registers.get(key, np.asarray([1]))
            if values.min() < least or values.max() > most:
                worst = int(values[np.argmax(np.abs(values))])
                raise self._refused(
                    name,
                    f"holds a {what} from {least:,} to {most:,}",
                    f"{worst:,} is needed: its weights are too small against it",
                )

    def _as_held(self, weight: Array, kind: str) -> Array:
        """As the vendor's arrays hold weights; see :class:`.program.AkidaProgram`."""
        moved = weight.transpose(0, 2, 3, 1)
        if kind == "full":
            flat = self.neurons.flat(moved).T
            return np.ascontiguousarray(flat[None, None] if self.device.version == 1 else flat)
        turned = moved[:, ::-1, ::-1] if kind == "convolution" else moved
        return np.ascontiguousarray(turned.transpose(1, 2, 3, 0))


def _image_of(p: Population) -> Pair:
    """Rows and columns."""
    _, rows, columns = volume(p.shape)
    return rows, columns


def _constant(weight: Array, mean: Sequence[int]) -> Array:
    """What a pixel of the mean everywhere brings each filter."""
    return np.asarray((weight.astype(np.int64) * np.asarray(mean)[:, None, None]).sum((1, 2, 3)))


def _shifted(taps: _Taps, sides: Pair, kernel: int, upper: bool) -> list[list[int]]:
    """Rows and columns in a kernel of the weights."""
    before = [same(side, kernel, taps.stride, upper)[0] for side in sides]
    return [[o + first for o in offset] for offset, first in zip(taps.offsets, before, strict=True)]


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
