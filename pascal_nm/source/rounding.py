r"""How far rounding may move what the source network computes.

It is a bound, proven for its own operations.

A sum of n products that is computed with unit roundoff u differs from the true one by at most

.. math:: \gamma_n \sum_i |w_i| |x_i|, \qquad \gamma_n = \frac{n u}{1 - n u}

(Higham, Accuracy and Stability of Numerical Algorithms, Sections 3.1 and 3.4). The sum of
magnitudes is what the network itself gives when every weight, input and bias counts with its
absolute value and every difference as a sum. Here the program is run that way, and each value
carries the number of roundings behind it. The folded weights of the graph cannot show this bound:
there, large terms of the source (a bias and the mean of a normalization) have cancelled. Below the
least normal number t of a type an operation is off by u t at most, so a magnitude of at least t
covers that, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from operator import getitem
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves, tree_map

from pascal_nm.common.arrays import Array
from pascal_nm.source.tracing import COPIES, DROPOUTS, QCFS, SourceNetwork, aten, constants

Arithmetic = np.finfo[Any] | torch.finfo
"""What is needed of a float type: ``eps``, twice its unit roundoff, and its least normal
number ``tiny``."""


def gamma(roundings: int, arithmetic: Arithmetic) -> float:
    """Higham's bound on the relative error of so many roundings; infinite if they are too many."""
    share = roundings * float(arithmetic.eps) / 2
    return share / (1 - share) if share < 1 else math.inf


class Errors(NamedTuple):
    """What rounding may change, at most: pre-activations and outputs, (N, …).

    Pre-activations are by population name, in steps of one level.
    """

    activations: Mapping[str, Array]
    outputs: Array

    def of(self, name: str, columns: Mapping[str, slice]) -> Array:
        """Those of one population; ``columns`` says which outputs are a readout's."""
        return self.outputs[:, columns[name]] if name in columns else self.activations[name]


def errors(source: SourceNetwork, inputs: Array, levels: Mapping[str, Array], arithmetic: Arithmetic) -> Errors:
    """Bounds on the rounding errors of the source network's pre-activations and outputs.

    Args:
        source: the traced network.
        inputs: (N, *input shape).
        levels: the level of every QCFS neuron by population name, (N, *shape): from these each
            next sum starts.
        arithmetic: the float type in which the source computes.
    """
    parts, start = [], 0
    for x, n in source.batches(inputs, torch.float64):
        places = np.minimum(np.arange(start, start + len(x)), start + n - 1)
        found = _Magnitudes(source, {name: level[places] for name, level in levels.items()}, arithmetic).errors(x)
        parts.append(Errors({name: error[:n] for name, error in found.activations.items()}, found.outputs[:n]))
        start += n
    return Errors(
        {name: np.concatenate([part.activations[name] for part in parts]) for name in parts[0].activations},
        np.concatenate([part.outputs for part in parts]),
    )


class _Sum(NamedTuple):
    """The magnitude of a value, and how many roundings it has behind it."""

    size: Tensor
    roundings: int


class _Magnitudes(fx.Interpreter):
    """Runs the functional program on magnitudes.

    What depends on parameters alone is computed as it is.
    """

    def __init__(self, source: SourceNetwork, levels: Mapping[str, Array], arithmetic: Arithmetic) -> None:
        super().__init__(source.functional.graph_module)
        self._source, self._levels, self._arithmetic = source, levels, arithmetic
        self._activations: dict[str, Array] = {}

    @torch.no_grad()
    def errors(self, x: Tensor) -> Errors:
        """The bounds for one batch of inputs."""
        program = self._source.functional
        given = constants(program)
        placeholders = [n.name for n in program.graph.nodes if n.op == "placeholder"]
        inputs = iter(self._source.split(x.abs()))
        results = self.run(*(given[name] if name in given else _Sum(next(inputs), 0) for name in placeholders))
        # In front of the outputs stand the changes of the input, where it was worked on in place.
        outputs = results[len(results) - len(program.graph_signature.user_outputs) :]
        bounds = [self._bound(output).reshape(len(x), -1) for output in outputs if output is not None]
        return Errors(self._activations, np.concatenate(bounds, 1))

    def run_node(self, n: fx.Node) -> Any:
        """Run one node on the magnitudes of what comes from the input."""
        if n.op != "call_function":
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        sums = [a for a in tree_leaves((args, kwargs), is_leaf=_is_sum) if _is_sum(a)]
        if not sums:
            return super().run_node(n)
        if n.target is QCFS:
            return self._qcfs(self._source.functional_names[n.name], *args)
        if n.target is getitem and not _is_sum(args[0]):
            return args[0][args[1]]
        if n.target in _SAME:
            return sums[0]
        traced = n.meta.get("val")
        if traced is None:
            return None  # an assertion
        args, kwargs = tree_map(_magnitude, (args, kwargs), is_leaf=_is_sum)
        result = _RULES.get(n.target, n.target)(*args, **kwargs)  # type: ignore[operator]
        roundings = max(s.roundings for s in sums) + _roundings(n.target, args)

        def summed(found: Any) -> Any:
            if not isinstance(found, Tensor) or not found.is_floating_point():
                return found  # a size or an index
            return _Sum(found.double() + float(self._arithmetic.tiny), roundings)

        return tree_map(summed, result)

    def _qcfs(self, name: str, z: _Sum, threshold: Tensor, levels: int) -> _Sum:
        step = threshold.double().abs() / levels
        self._activations[name] = self._bound(_Sum(z.size / step, z.roundings))
        level = torch.from_numpy(self._levels[name].astype(np.float64)).reshape(z.size.shape)
        return _Sum(level * step, 2)

    def _bound(self, value: _Sum) -> Array:
        return np.asarray(value.size.numpy() * gamma(value.roundings, self._arithmetic))


def _is_sum(value: Any) -> bool:
    return isinstance(value, _Sum)


def _magnitude(value: Any) -> Any:
    if isinstance(value, _Sum):
        return value.size
    return value.double().abs() if isinstance(value, Tensor) and value.is_floating_point() else value


def _roundings(target: Any, args: Any) -> int:
    """Roundings of one result of an operation, at most."""
    if target in _WEIGHTED:
        return int(args[1][0].numel()) + 1
    if target in _POOLED:
        return int(args[0][0].numel()) + 1
    return 8  # a normalization has the most


def _add(x: Any, y: Any, alpha: float = 1) -> Any:
    return abs(x) + abs(alpha) * abs(y)


def _normalize(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, variance: Tensor, *rest: Any
) -> Tensor:
    eps = next(r for r in reversed(rest) if isinstance(r, float))
    column = (-1, *(1,) * (x.ndim - 2))
    result = (x + mean.reshape(column)) / torch.sqrt(variance + eps).reshape(column)
    result = result if weight is None else result * weight.reshape(column)
    return result if bias is None else result + bias.reshape(column)


_SAME = {*COPIES, *DROPOUTS, aten.neg.default, getitem}
_WEIGHTED = {aten.conv2d.default, aten.conv2d.padding, aten.linear.default}
_POOLED = {aten.avg_pool2d.default, aten.adaptive_avg_pool2d.default, aten.mean.dim}
_RULES: dict[Any, Callable[..., Any]] = {
    aten.add.Tensor: _add,
    aten.sub.Tensor: _add,
    aten.rsub.Scalar: lambda x, y, alpha=1: _add(y, x, alpha),
    aten.rsub.Tensor: lambda x, y, alpha=1: _add(y, x, alpha),
    aten.mul.Tensor: lambda x, y: abs(x) * abs(y),
    aten.div.Tensor: lambda x, y: abs(x) / abs(y),
    aten.batch_norm.default: _normalize,
    aten._native_batch_norm_legit_no_training.default: _normalize,
}
"""Operations in which something may cancel; all others run as they are, on magnitudes."""
