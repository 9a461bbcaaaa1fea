r"""The one data structure between the rooms: populations of neurons and projections between them.

A :class:`Graph` is a spiking network after conversion. Its words are the field's (PyNN, NEST): a
*population* is a layer of neurons with one set of dynamics, a *projection* is the set of synapses
from one population to another.

.. math::
    z_j = \sum_{p \in \mathrm{in}(j)} W_p * \mathrm{sumpool}_p(c_{\mathrm{src}(p)}) + b_j, \qquad
    c_j = \mathrm{clip}\!\left(
        \left\lfloor \frac{z_j}{\theta_j} + \frac12 \right\rfloor, 0, L_j\right)

where :math:`c` are spike counts, :math:`\theta_j` is the population's threshold (the paper's
:math:`\theta^*`, the potential of one spike), and the weights :math:`W_p` already hold the source's
spike amplitude, so that a spike is 0/1 (or -1/0/+1) and nothing else travels between populations.

A float graph comes from :func:`pascal_nm.source.conversion.convert`;
:func:`pascal_nm.network.quantization.quantize` turns it into an integer graph of the same type.
Arrays are NumPy, so that a graph needs neither torch nor Lava.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pascal_nm.common.arrays import Array, Shape, canonical
from pascal_nm.common.batches import array
from pascal_nm.errors import DataError, GraphError
from pascal_nm.network import dynamics, summary
from pascal_nm.network.dynamics import Dynamics
from pascal_nm.network.operators import Operator, SumPool2d
from pascal_nm.network.reach import Connections, volume

if TYPE_CHECKING:
    import pascal_nm


@dataclass(frozen=True, eq=False)
class Population:
    """Neurons with one set of dynamics.

    Attributes:
        name: unique in the graph; letters, digits and underscores.
        kind: names its dynamics (:mod:`pascal_nm.network.dynamics`): ``analog`` injects the input
            values, ``pasc`` is the spiking neuron of :mod:`pascal_nm.neuron`, ``max`` passes on the
            OR of its pooling window (the maximum, exact on thermometer trains), ``linear`` what
            arrives, added up, ``readout`` adds up.
        shape: (C, H, W) or (N,), without the batch.
        levels: L of a ``pasc`` population; a ``max`` population has its source's. For ``analog`` it
            is the largest magnitude of the quantized input, or 0 where the input is not quantized;
            of ``linear`` 0.
        threshold: positive, broadcastable to ``shape``. ``pasc``: the potential of one spike.
            ``readout``: the potential of one unit of the source network's output,
            ``logit = v / threshold``. ``analog``: the input that one unit of injected current
            stands for, ``current = input / threshold + bias``. ``max``: +1, or -1 where the
            source's spikes have a negative amplitude: then the largest value is the smallest count,
            the AND. ``linear``: the value that one unit of what it sends stands for.
        bias: broadcastable to ``shape``: the current injected in all, spread over the
            integration window. ``analog``: of an integer graph, the fraction that makes the current
            of every stored pixel a whole number.
    """

    name: str
    kind: str
    shape: Shape
    levels: int = 1
    threshold: Array = field(default_factory=lambda: np.ones(()))
    bias: Array = field(default_factory=lambda: np.zeros(()))

    def __post_init__(self) -> None:
        for attribute in ("threshold", "bias"):
            value = getattr(self, attribute)
            object.__setattr__(
                self, attribute, canonical(value, self.shape, f"{attribute} of population {self.name!r}")
            )

    @property
    def dynamics(self) -> Dynamics:
        """What its neurons do.

        Raises:
            GraphError: its kind is unknown.
        """
        return dynamics.of(self.kind, f"population {self.name!r}")

    @property
    def size(self) -> int:
        """Number of neurons."""
        return math.prod(self.shape)

    @property
    def steps(self) -> int:
        """Timesteps in which this population sends: its levels; once of an analog input.

        A readout never sends.
        """
        return self.dynamics.timesteps(self)

    def shaped(self, values: Array) -> Array:
        """Inputs or pixels (N, *shape) of N that :func:`merges` to its shape.

        Raises:
            DataError: they are of another shape.
        """
        given = values.shape[1:]
        if given == self.shape:
            return values
        if merges(given, self.shape):
            return values.reshape(len(values), *self.shape)
        advice = ""
        if values.ndim == 4 and merges((given[2], *given[:2]), self.shape):
            advice = ": its channels come last and would have to come first (x.transpose(0, 3, 1, 2))"
        elif merges(values.shape, self.shape):
            advice = ": it is a single input, of which x[None] makes a batch"
        raise DataError(f"the network takes inputs of shape {self.shape}, the data has shape {given}{advice}")

    def currents(self, inputs: Inputs, dtype: np.dtype[Any]) -> Array:
        """What an analog population injects; see :meth:`Graph.currents`."""
        if isinstance(inputs, Pixels):
            inputs = Pixels(self.shaped(array(inputs.values, "the data")), inputs.preprocessing)
            given = inputs.values
        else:
            inputs = given = self.shaped(array(inputs, "the data"))
        if not np.all(np.isfinite(given)):
            raise DataError("the data holds NaN or infinite values")
        if np.issubdtype(dtype, np.integer):
            return np.asarray(self._whole(inputs, given), dtype)
        given = inputs.inputs if isinstance(inputs, Pixels) else given
        with np.errstate(over="ignore"):  # Graph.currents refuses what is too large
            return np.asarray(given / self.threshold + self.bias, dtype)

    def _whole(self, inputs: Inputs, given: Array) -> Array:
        """The whole currents of an integer graph, within the range that it was quantized for."""
        zero = self.zero(inputs.preprocessing) if isinstance(inputs, Pixels) else None
        if zero is not None:
            kind = np.int64 if np.can_cast(given.dtype, np.int32) else np.float64
            exact = given.astype(kind) - zero.astype(kind)
        else:
            normalized = inputs.inputs if isinstance(inputs, Pixels) else given
            exact = normalized.astype(np.float64) / self.threshold + self.bias
        currents = np.asarray(np.rint(exact))
        if currents.size and np.abs(currents).max() > self.levels:
            raise DataError(
                f"the data reaches {np.abs(self.inputs(exact)).max():.4g}, but the network's input "
                f"was quantized for values up to {self.levels * float(self.threshold.max()):.4g}: "
                "check the preprocessing or quantize again for this data"
            )
        return currents

    def inputs(self, currents: Array) -> Array:
        """The inputs for which an analog population injects these currents."""
        return np.asarray((currents - self.bias) * self.threshold)

    def zero(self, preprocessing: Preprocessing) -> Array | None:
        """The pixel whose current is 0, by channel.

        None where a unit of current is not one step of a pixel, or no pixel has the current 0.
        """
        per_channel = (-1, *(1,) * (len(self.shape) - 1))
        zero = preprocessing.centre.reshape(per_channel) - self.bias
        steps = preprocessing.step.reshape(per_channel)
        whole = np.all(zero == np.rint(zero)) and np.all(np.abs(zero) <= np.iinfo(np.int32).max)
        return zero if np.all(self.threshold == steps) and whole else None


def merges(given: Shape, wanted: Shape) -> bool:
    """Whether an input of one shape is one of another with the same numbers in the same order.

    It is where neighbouring axes of ``given`` are merged, and axes of length 1 come and go: an
    image (1, 28, 28) is a vector (784,), a series (C, L) an image (C, 1, L), a volume (C, D, H, W)
    an image (C * D, H, W). No axis is divided, and none changes places.
    """
    left = [length for length in given if length != 1]
    for length in wanted:
        product = 1
        while left and product < length:
            product *= left.pop(0)
        if product != length:
            return False
    return bool(given) and not left


@dataclass(frozen=True, eq=False)
class Projection:
    """Synapses from ``source`` to ``target``: an optional sum-pooling, then an operator.

    ``number`` tells projections between the same two populations apart; a :class:`Graph` counts
    them, from 0 on.
    """

    source: str
    target: str
    operator: Operator
    pool: SumPool2d | None = None
    number: int = 0

    @property
    def name(self) -> str:
        """``source__target``; of a further projection between the two, with its number behind."""
        return projection_name(self.source, self.target, self.number)

    @property
    def window(self) -> int:
        """Values that a pooling in front adds up; 1 without one."""
        return self.pool.size if self.pool else 1

    def pooled(self, shape: Shape) -> Shape:
        """What the operator takes from a source of ``shape``: behind a pooling, if there is one."""
        return self.pool.output_shape(shape) if self.pool else shape

    def reach(self, shape: Shape) -> Connections:
        """The synapses from a source of ``shape``, those of a pooling in front included."""
        own = self.operator.reach(volume(self.pooled(shape)))
        return own if self.pool is None else own.after(self.pool.reach(shape))

    def largest_sum(self) -> float:
        """No sum over a target neuron's synapses is larger, where sources send values up to 1."""
        weight = self.operator.weight
        largest = max(abs(float(weight.max())), abs(float(weight.min()))) if weight.size else 0.0
        return largest * self.operator.fan_in * self.window

    @cached_property
    def gain(self) -> float:
        """The largest sum of the magnitudes of a neuron's weights, those of a pooling included."""
        return float(self.operator.sums().max(initial=0) * self.window)

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the target for a source of ``shape``."""
        return self.operator.output_shape(self.pooled(shape))


def projection_name(source: str, target: str, number: int) -> str:
    """See :attr:`Projection.name`."""
    return f"{source}__{target}" + (f"__{number}" if number else "")


@dataclass(frozen=True)
class Preprocessing:
    """How a stored pixel becomes the network's input: ``(pixel / scale - mean) / std`` per channel.

    ``scale`` is the largest pixel value (255 for 8-bit images); ``mean`` and ``std`` have one
    number for each channel.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # one number stands for one channel
            object.__setattr__(self, name, tuple(float(x) for x in np.atleast_1d(getattr(self, name))))
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise DataError(f"the largest pixel value (scale) must be positive, not {self.scale:g}")
        if len(self.mean) != len(self.std):
            raise DataError(
                f"mean has {len(self.mean)} value(s) and std {len(self.std)}: give one of each for every channel"
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise DataError(f"mean must be finite and std positive, not {list(self.mean)} and {list(self.std)}")

    @property
    def centre(self) -> Array:
        """The pixel value that becomes the input 0, by channel."""
        return np.asarray(self.mean) * self.scale

    @property
    def step(self) -> Array:
        """What the input grows by from one pixel value to the next, by channel."""
        return 1 / (self.scale * np.asarray(self.std))

    def __call__(self, pixels: Array) -> Array:
        """Map pixels of shape (N, C, H, W) or (N, F) to float32 inputs of the same shape."""
        column = (1, -1) + (1,) * (pixels.ndim - 2)
        mean, std = (np.asarray(value, np.float64).reshape(column) for value in (self.mean, self.std))
        return np.asarray((pixels / self.scale - mean) / std, np.float32)

    @property
    def highest(self) -> float:
        """The largest input that a pixel can become."""
        return float(np.max((1 - np.asarray(self.mean)) / np.asarray(self.std)))

    def repeated(self, times: int) -> Preprocessing:
        """That of channels (C * times) made by merging two axes (C, times)."""
        mean, std = (tuple(x for x in each for _ in range(times)) for each in (self.mean, self.std))
        return Preprocessing(self.scale, mean, std)

    def range(self) -> float:
        """Largest magnitude that an input can have."""
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        return float(np.max(np.maximum(np.abs(mean), np.abs(1 - mean)) / std))


@dataclass(frozen=True, eq=False)
class Pixels:
    """Images as they are stored, and how they become a network's inputs.

    Wherever inputs are taken, these are too: a float network then gets them normalized, and an
    integer network whole numbers, each pixel less the rounded mean.

    Attributes:
        values: (N, C, H, W) or (N, F), of any type of numbers.
        preprocessing: of the network that takes them.
    """

    values: Array
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, images: slice) -> Pixels:
        return Pixels(self.values[images], self.preprocessing)

    @cached_property
    def inputs(self) -> Array:
        """Normalized, as the source network takes them: float32 of the same shape."""
        return self.preprocessing(self.values)


Inputs = Array | Pixels
"""What a network runs on: inputs, preprocessed, (N, *input shape), or pixels as they are stored."""


def taken(population: Population, pre: Preprocessing | None, data: Any) -> Inputs:
    """Data as a network takes it: what is of a float type are inputs, whole numbers stored pixels.

    Args:
        population: the network's input.
        pre: how pixels become inputs, where the network says it.
        data: :class:`Pixels`, an array or a tensor, of shape (N, *input shape) or of one that
            :func:`merges` to it.

    Raises:
        DataError: another shape; whole numbers that are no pixels of this network; or pixels,
            as uint8 or as floats up to the preprocessing's scale, that would be run as inputs.
    """
    if isinstance(data, Pixels):
        return Pixels(population.shaped(array(data.values, "the data")), data.preprocessing)
    values = population.shaped(array(data, "the data"))
    if pre is None:
        if values.dtype == np.uint8:
            raise DataError(
                "the data is uint8, as pixels are stored, and the network does not say how pixels become inputs: "
                "give --mean and --std (to export, or verify), or in Python preprocessing= (to convert); numbers "
                "that are inputs as they are have a float type (x.astype('float32'))"
            )
        return values
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if values.dtype.kind == "f":
        if pre.scale > 1 and low >= 0 and high > pre.highest * (1 + _ROUNDED):
            raise DataError(
                f"the data goes from {low:.4g} to {high:.4g}, and the network's preprocessing makes "
                f"{pre.highest:.4g} at most: give pixels as they are stored as uint8, or inputs preprocessed as "
                f"(pixel / {pre.scale:g} - mean) / std"
            )
        return values
    if values.dtype.kind == "b" or (pre.scale > 1 and not 0 <= low <= high <= pre.scale):
        raise DataError(
            f"whole numbers are pixels, and those of this network go from 0 to {pre.scale:g}: the data is "
            f"{values.dtype} from {low:g} to {high:g}; inputs that are preprocessed have a float type"
        )
    return Pixels(values, pre)


def normalized(inputs: Inputs) -> Array:
    """Inputs as the source network takes them."""
    return inputs.inputs if isinstance(inputs, Pixels) else inputs


class Traits(NamedTuple):
    """What is known of a schedule by its name.

    Attributes:
        lags: it takes a lag.
        graded: its spikes carry numbers.
    """

    lags: bool = False
    graded: bool = False


SCHEDULES = {
    "pasc": Traits(),
    "two_phase": Traits(),
    "streaming": Traits(lags=True),
    "graded": Traits(graded=True),
}
"""The schedules by name.

:func:`pascal_nm.simulation.schedule.register` adds others."""


@dataclass(frozen=True)
class Timing:
    """When the populations of a network fire.

    No choice changes a count; all change how long it takes and how many spikes travel.

    Attributes:
        schedule: one of :data:`SCHEDULES`.
        lag: of ``streaming``: timesteps that a population waits after its input has begun; one for
            all pasc populations, or one for each.
        stop: timesteps after which the answer is taken as it is then; None: when it is final.
    """

    schedule: str = "pasc"
    lag: int | tuple[int, ...] = 0
    stop: int | None = None

    def __str__(self) -> str:
        """The schedule, with its lags where it takes some: ``streaming, lag 1``."""
        lags = " ".join(map(str, _each(self.lag)))
        return f"{self.schedule}, lag {lags}" if SCHEDULES[self.schedule].lags else self.schedule

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise GraphError(f"unknown schedule {self.schedule!r}: choose from {', '.join(SCHEDULES)}")
        lags = (self.lag,) if isinstance(self.lag, int) else self.lag
        if any(lag < 0 for lag in lags):
            raise GraphError(f"a lag must be 0 or more, not {min(lags)}")
        if any(lags) and not SCHEDULES[self.schedule].lags:
            lagging = " or ".join(name for name, traits in SCHEDULES.items() if traits.lags)
            raise GraphError(f"a lag belongs to the schedule {lagging}, not to {self.schedule}")
        if self.stop is not None and self.stop < 1:
            raise GraphError(f"a network runs for at least one timestep, not {self.stop}")


BITS = (2, 16)
"""Fewest and most bits of an integer weight."""

RANGES = ("max", "mse")
"""How :func:`pascal_nm.network.quantization.quantize` may choose the range of a channel's
weights."""

PerLayer = int | tuple[int, ...]


class LayerQuantization(NamedTuple):
    """How one layer is quantized; see :class:`Quantization`."""

    bits: int
    range: str
    shift: int
    bias_bits: int

    @property
    def largest(self) -> int:
        """The largest mantissa of a weight."""
        return int(2 ** (self.bits - 1) - 1)


@dataclass(frozen=True)
class Quantization:
    """How a float network became an integer one.

    It is all that it takes to do it again (:func:`pascal_nm.network.quantization.quantize`).

    Each attribute but the last has one value for all layers or one for each: the populations with
    weights, in order.

    Attributes:
        bits: of the signed weight mantissas, 2 to 16.
        range: one of :data:`RANGES`. ``max`` reaches to the largest weight of a channel; ``mse``
            clips large weights where the finer steps of the others make the squared error smaller.
        shift: integer thresholds are multiples of ``2**shift``, as a chip with a threshold's
            mantissa and shift may need.
        bias_bits: a bias has so many significant bits, its sign among them; 0 keeps all.
    """

    bits: PerLayer = 8
    range: str | tuple[str, ...] = "max"
    shift: PerLayer = 0
    bias_bits: int = 0

    def __post_init__(self) -> None:
        for attribute in ("bits", "range", "shift"):  # as a file holds them
            value = getattr(self, attribute)
            object.__setattr__(self, attribute, tuple(value) if isinstance(value, list) else value)
        for bits in _each(self.bits):
            if not BITS[0] <= bits <= BITS[1]:
                raise GraphError(f"weights of {bits} bits are not supported; choose {BITS[0]} to {BITS[1]}")
        for name in _each(self.range):
            if name not in RANGES:
                raise GraphError(f"unknown range {name!r}: choose from {', '.join(RANGES)}")
        if any(shift < 0 for shift in _each(self.shift)) or self.bias_bits not in (0, *range(2, 33)):
            raise GraphError(f"a shift is 0 or more, bias bits 2 to 32, not {self.shift} and {self.bias_bits}")

    def check(self, layers: Sequence[str]) -> None:
        """Refuse a recipe for another number of layers.

        Raises:
            GraphError: names the layers.
        """
        for given in (len(_each(value)) for value in (self.bits, self.range, self.shift)):
            _require(
                given in (1, len(layers)),
                f"{given} values were given to quantize {len(layers)} layers: {', '.join(layers)}",
            )

    def layer(self, index: int) -> LayerQuantization:
        """That of one layer."""
        bits, name, shift = (v[index if len(v) > 1 else 0] for v in map(_each, (self.bits, self.range, self.shift)))
        return LayerQuantization(bits, name, shift, self.bias_bits)

    def __str__(self) -> str:
        """``8-bit``, or ``3- to 8-bit``."""
        least, most = min(_each(self.bits)), max(_each(self.bits))
        return f"{most}-bit" if least == most else f"{least}- to {most}-bit"


def _numbered(projections: Sequence[Projection]) -> tuple[Projection, ...]:
    """With those between the same populations numbered in their order."""
    met: Counter[tuple[str, str]] = Counter()
    found = []
    for q in projections:
        ends = (q.source, q.target)
        found.append(q if q.number == met[ends] else replace(q, number=met[ends]))
        met[ends] += 1
    return tuple(found)


def _each(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """A spiking network: populations in topological order, and the projections between them.

    Construction validates everything: a Graph that exists is well formed. Exactly one
    population is ``analog`` (the input) and one or more are ``readout`` (the outputs). Printed, it
    is a table of its populations.
    """

    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] = ()
    timing: Timing = Timing()
    quantization: Quantization | None = None
    """How an integer network was made; None of a float one, or where nobody said."""
    input_range: float | None = None
    """The largest magnitude of inputs that quantization provides for, where it is not that of the
    preprocessing."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "populations", tuple(self.populations))
        object.__setattr__(self, "projections", _numbered(self.projections))
        _validate(self)

    @cached_property
    def _by_name(self) -> dict[str, Population]:
        return {population.name: population for population in self.populations}

    def __repr__(self) -> str:
        return summary.text(self)

    def __getitem__(self, name: str) -> Population:
        try:
            return self._by_name[name]
        except KeyError:
            raise GraphError(f"no population {name!r}; there are: {', '.join(self._by_name)}") from None

    @property
    def input(self) -> Population:
        """The analog input population."""
        return next(p for p in self.populations if p.dynamics.injects)

    @property
    def output(self) -> Population:
        """The readout population; of several the first, whose largest output is the answer."""
        return self.outputs[0]

    @property
    def outputs(self) -> tuple[Population, ...]:
        """The readout populations, in order."""
        return tuple(p for p in self.populations if p.dynamics.reads_out)

    @property
    def columns(self) -> dict[str, slice]:
        """Where each readout stands among all outputs side by side, by name."""
        ends = list(itertools.accumulate((p.size for p in self.outputs), initial=0))
        return {p.name: slice(*span) for p, span in zip(self.outputs, itertools.pairwise(ends), strict=True)}

    @property
    def weighted(self) -> tuple[Population, ...]:
        """The populations with weights of their own, in order."""
        return tuple(p for p in self.populations if p.dynamics.weighted)

    @property
    def spiking(self) -> tuple[Population, ...]:
        """The populations that fire, in order: one for each QCFS layer of the source network."""
        return tuple(p for p in self.populations if p.dynamics.fires)

    @property
    def senders(self) -> tuple[Population, ...]:
        """The populations that send spikes: those that fire, and those that pass spikes on."""
        return tuple(p for p in self.populations if p.dynamics.sends)

    @property
    def counted(self) -> tuple[Population, ...]:
        """Those of them whose spikes add up to a count: all but the linear ones."""
        return tuple(p for p in self.populations if p.dynamics.counted)

    def largest(self, name: str, own: Callable[[Population], float]) -> float:
        """The largest magnitude of what a population sends.

        Others send up to ``own``; linear ones no more than their weights make of what these send,
        and peaks no more than one of their sources.
        """
        return sum(gain * own(self[source]) for source, gain in self._gains.get(name, {name: 1.0}).items())

    @cached_property
    def _gains(self) -> dict[str, dict[str, float]]:
        """Of each linear population and peak, how much of what others send is in a sum, at most."""
        found: dict[str, dict[str, float]] = {}
        for p in self.populations:
            if not p.dynamics.summed:
                continue
            mine = found[p.name] = {}
            for q in self.incoming(p.name):
                gain = q.gain if p.dynamics.adds else 1.0
                for source, part in found.get(q.source, {q.source: 1.0}).items():
                    mine[source] = mine.get(source, 0.0) + gain * part
        return found

    def incoming(self, name: str) -> tuple[Projection, ...]:
        """Projections onto the population ``name``."""
        return self._ends[1].get(name, ())

    def outgoing(self, name: str) -> tuple[Projection, ...]:
        """Projections from the population ``name``."""
        return self._ends[0].get(name, ())

    @cached_property
    def _ends(self) -> tuple[dict[str, tuple[Projection, ...]], dict[str, tuple[Projection, ...]]]:
        outgoing: dict[str, tuple[Projection, ...]] = {}
        incoming: dict[str, tuple[Projection, ...]] = {}
        for projection in self.projections:
            outgoing[projection.source] = (*outgoing.get(projection.source, ()), projection)
            incoming[projection.target] = (*incoming.get(projection.target, ()), projection)
        return outgoing, incoming

    @cached_property
    def is_integer(self) -> bool:
        """True for a quantized graph: all weights, thresholds and biases are integers.

        Only the input's and the readout's scale need not be.
        """
        return all(np.issubdtype(p.operator.weight.dtype, np.integer) for p in self.projections)

    def pixels(self, values: Array) -> Pixels:
        """Stored pixels (N, *input shape) as this network takes them.

        Raises:
            DataError: the network does not say how pixels become inputs.
        """
        if self.preprocessing is None:
            raise DataError(
                "the network does not say how pixels become inputs: give --mean and --std (to export, or verify), "
                "or in Python preprocessing= (to convert)"
            )
        return Pixels(values, self.preprocessing)

    def taken(self, data: Any) -> Inputs:
        """Data as this network takes it; see :func:`taken`."""
        return taken(self.input, self.preprocessing, data)

    def currents(self, inputs: Inputs) -> Array:
        """What the analog population injects for N inputs, (N, *input shape).

        Data is taken as by :meth:`taken`. Of inputs, an array or tensor, it is
        input / threshold + bias: in a float graph of its own float type, in an integer graph
        rounded to int32. Of pixels, an integer graph gives the pixel less the rounded mean,
        computed in integers: the same as of the inputs that normalization makes of them. Every
        target runs on these numbers.

        Raises:
            DataError: as :meth:`taken`; NaN or infinite values, values outside the quantized range,
                or so large that sums of floats overflow.
        """
        currents = self.input.currents(self.taken(inputs), self.dtype)
        if not self.is_integer and currents.size:
            largest = float(np.abs(currents).max())
            valued = [p.name for p in self.populations if p.dynamics.valued]
            most = {name: self.largest(name, lambda p: p.dynamics.injects) for name in valued}
            reach = max(q.largest_sum() * most[q.source] for q in self.projections if q.source in most)
            if not largest * max(reach, 1.0) < self._most:
                raise DataError(f"the data reaches {largest:.3g}: with the network's weights, beyond {self.dtype}")
        return currents

    @property
    def _most(self) -> float:
        """The largest sum of one projection.

        The float type holds others, biases and thresholds beside it.
        """
        return float(np.finfo(self.dtype).max) / 2**20

    @property
    def dtype(self) -> np.dtype[Any]:
        """The membrane potentials' type: the weights' float type, or int32 of an integer graph."""
        return np.dtype(np.int32 if self.is_integer else self.projections[0].operator.weight.dtype)

    def session(self, **options: Any) -> pascal_nm.Session:
        """Runs frames one by one: ``session.step(frame)``; state stays from one to the next.

        Takes the options of :class:`pascal_nm.simulation.session.Session`.
        """
        import pascal_nm

        return pascal_nm.Session(self, **options)

    def replace(self, **changes: Any) -> Graph:
        """A copy with some fields changed, validated again."""
        return replace(self, **changes)

    def astype(self, dtype: npt.DTypeLike) -> Graph:
        """A float graph with all its numbers in another float type."""
        return self.replace(
            populations=tuple(
                replace(p, threshold=p.threshold.astype(dtype), bias=p.bias.astype(dtype)) for p in self.populations
            ),
            projections=tuple(
                replace(q, operator=q.operator.with_weight(q.operator.weight.astype(dtype))) for q in self.projections
            ),
        )

    def differences(self, other: Graph) -> list[str]:
        """What differs between two graphs, bit for bit, one line each; empty where nothing does."""
        return list(_differences(self, other))


def _validate(graph: Graph) -> None:
    names = [p.name for p in graph.populations]
    _require(len(set(names)) == len(names), f"population names must be unique: {names}")
    clash = sorted({q.name for q in graph.projections} & set(names))
    _require(not clash, f"population {', '.join(clash)} has the name of a projection: call it something else")
    inputs = [p.name for p in graph.populations if p.dynamics.injects]
    _require(len(inputs) == 1, f"a graph needs exactly one analog population, not {inputs}")
    _require(bool(graph.outputs), "a graph needs a readout population")
    edges = [(p.source, p.target) for p in graph.projections]
    seen: set[str] = set()
    for population in graph.populations:
        _validate_population(graph, population)
        for projection in graph.incoming(population.name):
            where = f"projection {projection.source} -> {projection.target}"
            _require(projection.source in seen, f"{where}: the source must be a population listed before the target")
            _validate_projection(graph[projection.source], population, projection, where)
        seen.add(population.name)
    for name in (n for edge in edges for n in edge):
        _require(name in seen, f"a projection names the unknown population {name!r}")
    _validate_types(graph)
    pre, channels = graph.preprocessing, graph.input.shape[0]
    given = len(pre.mean) if pre is not None else 1
    _require(given in (1, channels), f"the preprocessing is for {given} channels, the network's input has {channels}")
    most = graph.input_range
    _require(
        most is None or 0 < most < math.inf, f"the input range must be positive and finite, not {graph.input_range}"
    )
    if isinstance(graph.timing.lag, tuple):
        layers, given = [p.name for p in graph.spiking], len(graph.timing.lag)
        _require(given == len(layers), f"{given} lags were given for {len(layers)} layers: {', '.join(layers)}")
    if (made := graph.quantization) is not None:
        _require(graph.is_integer, "a float graph cannot say how it was quantized")
        made.check([p.name for p in graph.weighted])
    outputs = graph.output.size
    _require(len(graph.classes) in (0, outputs), f"{len(graph.classes)} class names were given for {outputs} outputs")


def _validate_population(graph: Graph, p: Population) -> None:
    where = f"population {p.name!r}"
    _require(p.name.isidentifier(), f"{where}: a name is made of letters, digits and underscores")
    _require(len(p.shape) in (1, 3) and min(p.shape) > 0, f"{where}: shape must be (C, H, W) or (N,), not {p.shape}")
    least, most = p.dynamics.levels
    _require(
        not isinstance(p.levels, bool) and isinstance(p.levels, int | np.integer) and least <= p.levels <= most,
        f"{where}: levels must be a whole number from {least} to {most:,}, not {p.levels}",
    )
    for what in ("bias", "threshold"):
        _validate_numbers(getattr(p, what), f"{where}: the {what}")
    p.dynamics.check(p, where)
    sources, (fewest, most_of) = len(graph.incoming(p.name)), p.dynamics.sources
    _require(
        fewest <= sources <= most_of,
        f"{where}: a population of kind {p.kind} cannot have {sources} incoming projection(s)",
    )


def _validate_projection(source: Population, target: Population, projection: Projection, where: str) -> None:
    _require(not source.dynamics.reads_out, f"{where}: a readout sends no spikes")
    _validate_numbers(projection.operator.weight, f"{where}: the weights")
    try:
        shape = projection.output_shape(source.shape)
    except GraphError as error:
        raise GraphError(f"{where}: {error}") from None
    _require(shape == target.shape, f"{where}: gives shape {shape}, but the target has shape {target.shape}")
    target.dynamics.check_source(target, source, projection, where)


def _validate_numbers(array: Array, what: str) -> None:
    """Finite floats of 32 or 64 bits, or signed integers of 32 bits at most.

    The magnitude of an integer has that type, too.
    """
    _require(array.dtype in _NUMBERS, f"{what} must be floats of 32 or 64 bits or signed integers, not {array.dtype}")
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    _require(math.isfinite(low) and math.isfinite(high), f"NaN or infinite values in {what}")
    if np.issubdtype(array.dtype, np.integer):  # the magnitude of the least number of a type is not of that type
        least = -np.iinfo(array.dtype).max
        _require(low >= least, f"{what} reaches {low:.0f}; the least of type {array.dtype} is {least}")


_ROUNDED = 1e-3
"""By so much, relatively, an input may be larger than the preprocessing makes one: as rounded by
whoever computed it."""

_NUMBERS = [np.dtype(t) for t in (np.float32, np.float64, np.int8, np.int16, np.int32)]


def _validate_types(graph: Graph) -> None:
    """One kind of arithmetic in the whole graph, and sums that its type can hold."""
    types = {q.operator.weight.dtype for q in graph.projections if graph[q.target].dynamics.weighted}
    if any(np.issubdtype(t, np.integer) for t in types):
        found = [(f"the weights of {q.name}", q.operator.weight) for q in graph.projections]
        for p in graph.populations:
            found += [] if p.dynamics.injects else [(f"the bias of {p.name}", p.bias)]
            found += [(f"the threshold of {p.name}", p.threshold)] if p.dynamics.counted else []
        for what, array in found:
            integer = np.issubdtype(array.dtype, np.integer)
            _require(integer, f"an integer graph has integers only, but {what} are of type {array.dtype}")
        return
    _require(len(types) == 1, f"a float graph has one type, not {' and '.join(sorted(map(str, types)))}")
    largest = {
        p.name: graph.largest(p.name, lambda p: 0 if p.dynamics.injects else p.levels) for p in graph.populations
    }
    for q in graph.projections:
        most = largest[q.source]
        if q.largest_sum() * most > graph._most:
            raise GraphError(
                f"projection {q.source} -> {q.target}: "
                f"the sum of its weights times {most:.6g} spikes is beyond the range of {graph.dtype}"
            )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise GraphError(message)


def _differences(a: Graph, b: Graph) -> Iterator[str]:
    if [p.name for p in a.populations] != [p.name for p in b.populations]:
        yield f"populations: {[p.name for p in a.populations]} against {[p.name for p in b.populations]}"
        return
    for p, q in zip(a.populations, b.populations, strict=True):
        yield from _attributes(f"population {p.name}", p, q, ("kind", "shape", "levels", "threshold", "bias"))
    if [p.name for p in a.projections] != [p.name for p in b.projections]:
        yield f"projections: {[p.name for p in a.projections]} against {[p.name for p in b.projections]}"
        return
    for s, t in zip(a.projections, b.projections, strict=True):
        where = f"projection {s.source} -> {s.target}"
        if type(s.operator) is not type(t.operator) or (s.pool is None) != (t.pool is None):
            yield f"{where}: the operators are of different types"
            continue
        if a[s.target].dynamics.weighted:  # elsewhere it is the identity, of whatever type
            yield from _attributes(where, s.operator, t.operator, tuple(vars(s.operator)))
        if s.pool is not None:
            yield from _attributes(where, s.pool, t.pool, tuple(vars(s.pool)))
    yield from _attributes("graph", a, b, ("preprocessing", "classes", "timing"))


def _attributes(where: str, a: object, b: object, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        x, y = getattr(a, name), getattr(b, name)
        if isinstance(x, np.ndarray):
            if x.dtype != y.dtype or x.shape != y.shape:
                yield f"{where}: {name} is {x.dtype}{x.shape} against {y.dtype}{y.shape}"
            elif not np.array_equal(x, y):
                yield f"{where}: {name} differs in {np.count_nonzero(x != y)} of {x.size} value(s)"
        elif x != y:
            yield f"{where}: {name} is {x} against {y}"
