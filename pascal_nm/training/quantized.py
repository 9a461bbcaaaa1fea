r"""Training in the arithmetic of the integer network.

The forward pass is that of the network that :func:`pascal_nm.network.quantization.quantize` makes
of the weights as they are: in every step the network is converted and quantized, by the package's
own functions, and each convolution and linear layer, with the normalization behind it, computes
with what the integers stand for,

.. math::
    \hat W = s_j W^{int}, \qquad
    \hat z_j = s_j \left(\sum W^{int} c + b^{int}_j + \lfloor \theta^{int}_j / 2 \rfloor
        - \theta^{int}_j / 2 + \tfrac12\right)

of a population j on the grid :math:`s_j`, of integer pixels and spike counts. QCFS of
:math:`\hat z_j` is the count of the integer neuron. The last half is less than the sums of integers
can tell apart, and keeps the rounding of floats from moving a level where a sum meets a threshold.

Gradients pass straight through the rounding, as if it were not there (Bengio et al. 2013,
https://arxiv.org/abs/1308.3432): :math:`\partial \hat W / \partial W = 1`. They flow to weights,
normalizations' scales and shifts, and thresholds. Normalizations are folded into the weights that
are rounded (Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.2), with the statistics
that they have collected, which no longer change (Krishnamoorthi 2018,
https://arxiv.org/abs/1806.08342).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from pascal_nm.common.arrays import Array
from pascal_nm.errors import ConversionError, DataError, first_line
from pascal_nm.network.graph import Graph, Pixels, Preprocessing, Projection, Quantization
from pascal_nm.network.quantization import Layer, Layers
from pascal_nm.simulation import simulate
from pascal_nm.source.conversion import convert
from pascal_nm.source.qcfs import QCFS
from pascal_nm.source.tracing import SourceNetwork

BITS = (2, 8)
"""Bits of weights that a network can be trained for."""

_INPUT, _OUTPUT = "input", "output"
"""The ends of a network, where no QCFS layer is one."""


def recipe_of(bits: int | Sequence[int]) -> Quantization:
    """The recipe of a training for so many bits: in all layers, or in each.

    Raises:
        DataError: bits that no network can be trained for.
    """
    each = [bits] if isinstance(bits, int) else list(bits)
    for one in each:
        if not BITS[0] <= one <= BITS[1]:
            raise DataError(f"a network is trained for {BITS[0]} to {BITS[1]} bits, not {one}")
    return Quantization(each[0] if len(each) == 1 else tuple(each))


class QuantizedForward(fx.Interpreter):
    """Runs a network in the arithmetic of its integer network; gradients pass straight through.

    The network itself stays as it is, and shares its parameters, so that an optimizer of these
    trains what runs here.

    Args:
        module: a network that :func:`pascal_nm.source.architectures.build` made.
        input_shape: (C, H, W).
        preprocessing: how pixels become its inputs.
        recipe: bits of the weights.
        half: take weights rounded to half precision, as a file holds them.
        check: compare the outputs for a few images with those of the integer network.

    Raises:
        ConversionError: a layer has no weights of its own on a grid of its own.
        GraphError: the recipe is for another number of layers.
    """

    def __init__(
        self,
        module: nn.Module,
        input_shape: Sequence[int],
        preprocessing: Preprocessing,
        recipe: Quantization,
        *,
        half: bool = False,
        check: bool = True,
    ) -> None:
        super().__init__(fx.GraphModule(module, _traced(module)))
        self.network, self.recipe, self.half = module, recipe, half
        self._preprocessing = preprocessing
        parameter = next(module.parameters())
        host = copy.deepcopy(module).cpu()
        self._source = SourceNetwork(host, torch.zeros(1, *input_shape, dtype=parameter.dtype))
        self._layers = [path for path, layer in module.named_modules() if isinstance(layer, _LAYERS)]
        self._grids: _Grids | None = None
        self._places = _places(self.graph, dict(module.named_modules()), self.floats())
        if check:
            self._check()

    @torch.no_grad()
    def floats(self) -> Graph:
        """The spiking network of the parameters as they are."""
        now = self.network.state_dict()
        for name, kept in self._source.functional.state_dict.items():
            value = now[name].detach()
            kept.copy_(value.half() if self.half and value.ndim > 1 else value)
        return convert(self._source, preprocessing=self._preprocessing, check=False)

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the parameters as they are."""
        layers = Layers(self.floats(), self.recipe)
        modules, floats = dict(self.network.named_modules()), self._weights
        weights: dict[str, Tensor] = {}
        offsets: dict[str, Tensor] = {}
        for layer in layers:
            target = self._places.targets[layer.population.name]
            offsets[target] = self._placed(_offset(layer, modules.get(target)))
            for q, ratio in _ratios(layer):
                place = self._places.weights[q.source, q.target]
                weight = floats.get(place)
                if weight is None:
                    weights[place] = self._placed(ratio)
                else:  # in the memory order of the parameter, which convolutions like
                    like = torch.empty_like(modules[place].weight)
                    weights[place] = like.copy_(torch.from_numpy(ratio.reshape(weight.shape) * weight))
        scale = self._placed(layer.own[0].threshold)  # the readout comes last
        self._grids = _Grids(
            weights, offsets, self._placed(layers.input.threshold), self._placed(layers.input.bias), scale
        )

    @property
    def _weights(self) -> dict[str, Array]:
        """The weights of layers, as :meth:`floats` took them, by the layer's path."""
        kept = self._source.functional.state_dict
        return {path: kept[f"{path}.weight"].detach().double().numpy() for path in self._layers}

    def _placed(self, array: Any) -> Tensor:
        parameter = next(self.network.parameters())
        return torch.as_tensor(np.asarray(array)).to(parameter.device, parameter.dtype)

    def train(self, training: bool = True) -> None:
        """Set the network's mode; normalizations keep their statistics in both."""
        self.network.train(training)
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        self._grids = None

    def __call__(self, inputs: Tensor) -> Tensor:
        """Outputs (N, classes) of inputs (N, *input shape)."""
        if self._grids is None or self.network.training:
            self.refresh()
        grids = self._grids
        assert grids is not None, "refresh leaves it"
        step = grids.step
        outputs: Tensor = self.run((inputs / step + grids.mean).round() * step)
        outputs = outputs + grids.offsets[_OUTPUT]
        return _straight(outputs, (outputs.detach() * grids.readout).round() / grids.readout)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """A layer, on its grid."""
        grids, module = self._grids, self.fetch_attr(target)
        assert grids is not None, "refresh comes first"
        if isinstance(module, QCFS):
            return module(args[0] + grids.offsets[target])
        if target not in grids.weights:
            return module(*args, **kwargs)
        if isinstance(module, nn.Identity):
            return args[0] * grids.weights[target]
        return functional_call(module, {"weight": _straight(module.weight, grids.weights[target])}, args)

    @torch.no_grad()
    def _check(self) -> None:
        """Compare with the integer network, in double precision, on a few images of noise.

        Raises:
            ConversionError: they differ.
        """
        twin = QuantizedForward(
            copy.deepcopy(self.network).cpu().double(),
            self._source.input_shape,
            self._preprocessing,
            self.recipe,
            half=self.half,
            check=False,
        )
        twin.train(False)
        graph = twin.floats()
        pixels = np.random.default_rng(0).integers(0, int(self._preprocessing.scale) + 1, (2, *graph.input.shape))
        integers = Layers(graph, self.recipe)
        integer = integers.graph([layer.own for layer in integers])
        expected = simulate.counts(integer, Pixels(pixels, self._preprocessing)).logits
        found = twin(torch.from_numpy(self._preprocessing(pixels)).double()).numpy()
        if not np.allclose(found, expected, rtol=1e-6, atol=1e-9):
            raise ConversionError(
                "the network cannot be trained on integers: its forward pass is not that of its graph"
            )


class _Grids(NamedTuple):
    """What the integers of a moment stand for."""

    weights: dict[str, Tensor]
    """Of each layer, and the factor of each shortcut without one, by the module's path."""
    offsets: dict[str, Tensor]
    """What is added to the sums that come to each QCFS layer and output."""
    step: Tensor
    """The input that one unit of a pixel stands for."""
    mean: Tensor
    """What lies between the mean of pixels and a whole number."""
    readout: Tensor
    """Units of the grid in an output of 1."""


class _Places(NamedTuple):
    """Which modules a graph's parts stand for."""

    targets: Mapping[str, str]
    """The path of a QCFS layer, by population."""
    weights: Mapping[tuple[str, str], str]
    """The path of what holds the weights of a projection, by its ends."""


class _Straight(torch.autograd.Function):
    """The second of two, with the gradient of the first."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, rounded: Tensor) -> Tensor:
        return rounded.view_as(rounded)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def _straight(value: Tensor, rounded: Tensor) -> Tensor:
    result: Tensor = _Straight.apply(value, rounded)  # type: ignore[no-untyped-call]
    return result


def _ratios(layer: Layer) -> Iterator[tuple[Projection, Array]]:
    """Of each projection onto a layer, by what rounding multiplies each weight.

    Weights of zero stay as they are.
    """
    made, incoming = layer.own
    grid = layer.population.threshold.astype(np.float64) / made.threshold
    for before, after in zip(layer.incoming, incoming, strict=True):
        weight = before.operator.weight
        rounded = after.operator.with_weight(after.operator.weight.astype(np.float64)).scale_output(grid).weight
        yield before, np.divide(rounded, weight, out=np.ones_like(rounded), where=weight != 0)


def _offset(layer: Layer, activation: nn.Module | None) -> Array:
    """What brings the float network's sum to that of the integers, less their weights' share."""
    p, (made, _) = layer.population, layer.own
    bias = p.bias.astype(np.float64) / p.threshold
    if not isinstance(activation, QCFS):
        return np.asarray(made.bias / made.threshold - bias)
    step = activation.threshold.detach().cpu().double().numpy() / activation.levels
    theta = made.threshold
    return np.asarray(step * ((made.bias + theta // 2 + 0.5) / theta - 0.5 - bias))


_LAYERS = (nn.Conv2d, nn.Linear)
_PASSED = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.MaxPool2d,
    nn.Dropout,
    nn.Flatten,
    nn.Identity,
)


class _Tracer(fx.Tracer):
    """Follows a network from module to module."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (QCFS, *_LAYERS, *_PASSED))


def _traced(module: nn.Module) -> fx.Graph:
    try:
        return _Tracer().trace(module)
    except Exception as error:  # torch raises many types for code that it cannot follow
        raise _refusal(f"torch.fx cannot follow it from module to module ({first_line(error)})") from error


@dataclass(frozen=True)
class _Branch:
    """A way from a QCFS layer, or the input, to the next one.

    Attributes:
        source: where it begins.
        place: the layer with weights on it; without one, the last module that does nothing.
        weighted: whether there is such a layer.
    """

    source: str
    place: str | None = None
    weighted: bool = False

    def through(self, path: str, module: nn.Module) -> _Branch:
        """The way, longer by a module."""
        if isinstance(module, _LAYERS):
            if self.weighted:
                raise _refusal(f"{path} follows {self.place} without a QCFS layer in between")
            return replace(self, place=path, weighted=True)
        return replace(self, place=path) if isinstance(module, nn.Identity) and not self.weighted else self


def _refusal(reason: str) -> ConversionError:
    return ConversionError(f"the network cannot be trained for a number of bits: {reason}")


def _branches(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> dict[str, list[_Branch]]:
    """The ways to each QCFS layer and to the output, in the order of execution."""
    ways: dict[fx.Node, list[_Branch]] = {}
    found: dict[str, list[_Branch]] = {}
    for node in graph.nodes:
        before = [way for argument in node.all_input_nodes for way in ways[argument]]
        if node.op == "placeholder":
            ways[node] = [_Branch(_INPUT)]
        elif node.op == "output":
            found[_OUTPUT] = before
        elif node.op == "call_module":
            path, module = str(node.target), modules[str(node.target)]
            if isinstance(module, QCFS):
                if path in found:
                    raise _refusal(f"{path} stands in two places")
                found[path], ways[node] = before, [_Branch(path)]
            else:
                ways[node] = [way.through(path, module) for way in before]
        else:
            ways[node] = before
    return found


def _places(graph: fx.Graph, modules: Mapping[str, nn.Module], floats: Graph) -> _Places:
    """Where the parts of a spiking network stand in its source network."""
    branches = _branches(graph, modules)
    activations = [path for path in branches if path != _OUTPUT]
    if len(floats.outputs) != 1 or len(floats.spiking) != len(activations):
        raise _refusal("not all of its QCFS layers become populations")
    targets = {p.name: path for p, path in zip(floats.spiking, activations, strict=True)}
    targets[floats.output.name] = _OUTPUT
    begins = {floats.input.name: _INPUT, **targets}
    weights: dict[tuple[str, str], str] = {}
    for p in floats.populations:
        if p.dynamics.injects:
            continue
        if p.dynamics.relays and not p.dynamics.summed:
            begins[p.name] = begins[floats.incoming(p.name)[0].source]
            continue
        if p.name not in targets:
            raise _refusal(f"{p.name} adds up what others send, without a QCFS layer")
        for q in floats.incoming(p.name):
            ways = [way for way in branches[targets[p.name]] if way.source == begins[q.source]]
            if len(ways) != 1 or ways[0].place is None or ways[0].place in weights.values():
                raise _refusal(f"what leads from {q.source} to {p.name} has no layer of its own")
            weights[q.source, q.target] = ways[0].place
    return _Places(targets, weights)
