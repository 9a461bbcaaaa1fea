"""Is a converted graph the traced network? Proven on the spot, before anybody has to rely on it.

Between two QCFS activations both are affine maps, and two affine maps that agree at one point in
general position are the same. The traced program runs in double precision, in place and aliased as
the user wrote it; for all images but two, each QCFS activation passes on random numbers from 0 to
its levels instead of its own, so that every synapse of every layer, however deep, is in use. The
graph computes its pre-activations and outputs from these same numbers; what differs by more than
rounding is a mistake.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_map

from pascal_nm.common.arrays import Array
from pascal_nm.errors import ConversionError
from pascal_nm.network.graph import Graph
from pascal_nm.source import rounding
from pascal_nm.source.qcfs import step_of
from pascal_nm.source.tracing import QCFS, SourceNetwork, aten, guarded, logits
from pascal_nm.source.verification import Sums, interval, judged, with_max_populations

_ARITHMETIC = np.finfo(np.float64)

_FREE = 2
"""Images that run as they are: the example, and a random one."""


def prove(source: SourceNetwork, graph: Graph, example: Tensor | Sequence[Tensor] | None = None) -> None:
    """Compare every pre-activation, level and output of a graph with its source network.

    Args:
        source: the traced network.
        graph: what was converted from it, in float64.
        example: an input of the network, (N, *input shape); random ones are taken beside it.

    Raises:
        ConversionError: names the first population at which they differ by more than rounding.
    """
    inputs = _inputs(source, graph, example)
    run = _forced(source, inputs)
    problem = next(_problems(source, graph, inputs, run), None)
    if problem is not None:
        raise ConversionError(
            f"the converted network is not the source network: {problem}. This is a mistake of the conversion, not of "
            "the network: please report it (check=False gives the graph as it is)"
        )


@dataclass
class _Run:
    """What the program did, by QCFS layer.

    Each has its levels L, its argument z / step + 1/2, the level found and the one passed on.
    """

    arguments: dict[str, Array] = field(default_factory=dict)
    found: dict[str, Array] = field(default_factory=dict)
    levels: dict[str, Array] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)
    outputs: Array = field(default_factory=lambda: np.zeros(0))


def _inputs(source: SourceNetwork, graph: Graph, example: Tensor | Sequence[Tensor] | None) -> Array:
    """The example and random images, in a number that the program takes."""
    rng = np.random.default_rng(0)
    images = -(-(_FREE + 1) // (source.batch or 1)) * (source.batch or 1)
    shape = (images, *source.input_shape)
    if graph.preprocessing is not None:
        x = graph.preprocessing(rng.uniform(0, graph.preprocessing.scale, shape)).astype(np.float64)
    else:
        x = rng.normal(size=shape)
    given = [] if example is None else [example] if isinstance(example, Tensor) else example
    if given:
        x[0] = np.concatenate([e[0].detach().to(torch.float64).numpy().reshape(-1) for e in given]).reshape(x[0].shape)
    return x


def _forced(source: SourceNetwork, inputs: Array) -> _Run:
    rng = np.random.default_rng(1)
    parts, start = [], 0
    for x, _ in source.batches(inputs, torch.float64):
        parts.append(_Forced(source, rng, max(0, _FREE - start)).play(x))
        start += len(x)
    joined = {
        key: {name: np.concatenate([getattr(part, key)[name] for part in parts]) for name in parts[0].arguments}
        for key in ("arguments", "found", "levels")
    }
    return _Run(**joined, most=parts[0].most, outputs=np.concatenate([part.outputs for part in parts]))


class _Forced(fx.Interpreter):
    """Runs the program in double precision.

    Its QCFS activations pass on random numbers for all images but the first ``free``.

    What depends on parameters alone is computed in the program's own type, as the conversion does.
    """

    def __init__(self, source: SourceNetwork, rng: np.random.Generator, free: int) -> None:
        super().__init__(source.module)
        self._source, self._rng, self._free = source, rng, free
        self._run = _Run()
        self._moving: set[fx.Node] = set()
        for node in source.module.graph.nodes:
            if node.op == "placeholder" or any(a in self._moving for a in node.all_input_nodes):
                self._moving.add(node)

    @torch.no_grad()
    @guarded()
    def play(self, x: Tensor) -> _Run:
        """Run one batch."""
        self._run.outputs = logits(self.run(*self._source.split(x)))
        return self._run

    def run_node(self, n: fx.Node) -> Any:
        """Run one node; what comes from the input is of double precision."""
        if n not in self._moving or n.op in ("placeholder", "output", "call_module"):
            return super().run_node(n)  # a module holds what torch took for granted of shapes
        if n.target is aten._assert_tensor_metadata.default:
            return None  # of a type: here it is double
        args, kwargs = tree_map(self._widened, self.fetch_args_kwargs_from_env(n))
        if n.target is QCFS:
            return self._qcfs(self._source.names[n.name], *args)
        return n.target(*args, **kwargs)  # type: ignore[operator]

    def _widened(self, value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.double()
        narrow = torch.finfo(self._source.dtype).bits
        if isinstance(value, torch.dtype) and value.is_floating_point and torch.finfo(value).bits >= narrow:
            return torch.float64
        return value

    def _qcfs(self, name: str, z: Tensor, threshold: Tensor, levels: int) -> Tensor:
        step = step_of(z, threshold, levels)
        found = (QCFS(z, threshold, levels) / step).round_()
        passed = found.clone()
        forced = passed[self._free :]
        forced.copy_(torch.from_numpy(self._rng.uniform(0, levels, tuple(forced.shape))))
        run = self._run
        run.most[name] = levels
        run.arguments[name] = (z / step + 0.5).numpy()
        run.found[name], run.levels[name] = found.numpy(), passed.numpy()
        result: Tensor = passed * step
        return result


def _problems(source: SourceNetwork, graph: Graph, inputs: Array, run: _Run) -> Iterator[str]:
    """Where graph and program differ, first places first."""
    names = {p.name for p in graph.populations}
    levels = {name: level for name, level in run.levels.items() if name in names}
    counts = with_max_populations(
        graph, {name: level.reshape(-1, *graph[name].shape) for name, level in levels.items()}
    )
    errors = cache(lambda: rounding.errors(source, inputs, run.levels, _ARITHMETIC))
    columns, sums = graph.columns, Sums(graph, counts, inputs)
    for p in (*graph.spiking, *graph.outputs):
        layer = judged(graph, p, counts)
        if p.name not in columns and p.levels != run.most[layer.name]:
            yield f"{layer.name} has {run.most[layer.name]} levels in the source network, {p.levels} in the graph"
        expected = interval(graph, p, layer, sums, _ARITHMETIC)
        ends = columns.get(p.name)
        found = run.arguments[layer.name] if ends is None else run.outputs[:, ends]
        found = found.reshape(expected.value.shape)
        if not expected.holds(found).all():
            expected = expected.widened(errors().of(layer.name, columns).reshape(found.shape))
        what = "outputs" if ends is not None else f"pre-activations of {layer.name}"
        yield from _first(expected.holds(found), what, found, expected.value)
        if ends is None:
            level, passed = np.clip(np.floor(found), 0, p.levels), run.found[layer.name].reshape(found.shape)
            yield from _first(level == passed, f"levels of {layer.name}", passed, level)


def _first(fine: Array, what: str, there: Array, here: Array) -> Iterator[str]:
    if not fine.all():
        place = tuple(np.argwhere(~fine)[0])
        yield (
            f"{np.count_nonzero(~fine):,} of {fine.size:,} {what} differ, first at {list(map(int, place[1:]))}: "
            f"{there[place]:.6g} in the source network, {here[place]:.6g} in the graph"
        )
