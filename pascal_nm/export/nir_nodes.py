"""NIR's nodes in one table: what their fields hold, and what shape they send for what reaches them.

Whatever reads or runs a graph asks here first, so that torch and Lava get the same checked graph:
nir itself takes fields of any type and rank, and torch broadcasts them against the batch or another
axis. Nothing here needs torch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

import nir
import numpy as np

from pascal_nm.common.arrays import Array, Shape
from pascal_nm.errors import GraphError

_NODES, _EDGES = 5_000, 10_000
"""The most of a graph that runs. A timestep takes some 10 us for each of both,
whatever their size."""

_VALUES = 1 << 24
"""What nodes may send in a timestep for one image, beyond as many values as the
file itself holds."""

SECONDS = 1e-4
"""Timestep that the field's readers assume where time constants are in seconds."""

_MOST_DELAY = 1 << 15
"""The most timesteps of a delay."""

_ROUNDS = 1_000_000
"""How deep cycles may stand in each other, times edges."""

_AXES = 8
"""The most axes of anything, and the most entries of a shape."""

LARGEST = 1 << 26
"""The most neurons of a population: some ten times the largest of a VGG-16 on ImageNet images."""

_LARGEST_SIDE = 1 << 24
"""The largest size, stride or padding."""

_LARGEST = float(np.finfo(np.float32).max)
"""Values beyond are infinite in single precision."""


class CannotRunError(GraphError):
    """Valid NIR that does not run here."""


class Field(NamedTuple):
    """What a field of a node must be.

    Attributes:
        words: in words, after "must be".
        fits: whether a value is that, by its type and shape.
        optional: whether it may be missing.
        each: whether it has an entry for every neuron; all such fields of a node have one shape.
        positive: whether its values must be.
    """

    words: str
    fits: Callable[[Any], bool]
    optional: bool = False
    each: bool = False
    positive: bool = False


def is_real(value: Any) -> bool:
    """Whether a field holds numbers, of up to :data:`_AXES` axes."""
    return (
        not isinstance(value, (str, bytes, dict)) and np.asarray(value).dtype.kind in "iuf" and np.ndim(value) <= _AXES
    )


def _is_whole(value: Any) -> bool:
    return not isinstance(value, (str, bytes, dict)) and np.asarray(value).dtype.kind in "iu"


def _array(axes: int) -> Field:
    return Field(
        f"numbers with {axes} ax{'i' if axes == 1 else 'e'}s",
        lambda v: is_real(v) and np.ndim(v) == axes and np.size(v) > 0,
    )


def _each(*, positive: bool = False, optional: bool = False) -> Field:
    return Field("numbers", lambda v: is_real(v) and np.size(v) > 0, optional, True, positive)


def _whole(least: int, sizes: tuple[int, ...] = (1,), *, optional: bool = False, most: int = _LARGEST_SIDE) -> Field:
    """Whole numbers: one, or as many as one of ``sizes``."""

    def fits(value: Any) -> bool:
        if not _is_whole(value) or np.ndim(value) > 1 or np.size(value) not in sizes:
            return False
        return least <= int(np.min(value)) and int(np.max(value)) <= most

    count = "a whole number" if sizes == (1,) else f"{' or '.join(map(str, sizes))} whole numbers"
    return Field(f"{count} of at least {least}", fits, optional)


def _padding(*sizes: int) -> Field:
    numbers = _whole(0, sizes)
    return Field(
        f"'same', 'valid' or {numbers.words}",
        lambda v: v in ("same", "valid") if isinstance(v, str) else numbers.fits(v),
    )


def _shape(*, optional: bool = False) -> Field:
    field = _whole(1, tuple(range(1, _AXES + 1)), optional=optional, most=LARGEST)
    return Field(f"a shape: 1 to {_AXES} whole numbers from 1 to {LARGEST:,}", field.fits, optional)


class Kind(NamedTuple):
    """A kind of node.

    Attributes:
        fields: by name.
        sends: shape of what leaves for the fields and the shape of what arrives, both without the
            batch.
    """

    fields: Mapping[str, Field]
    sends: Callable[[Mapping[str, Any], Shape], Shape]


def _like_input(fields: Mapping[str, Any], shape: Shape) -> Shape:
    """Entries for every neuron: of the same shape, or with axes of 1 in it, or a single one."""
    for field, value in fields.items():
        found = np.shape(value)
        single = found in ((), (1,))
        if not single and not (
            len(found) == len(shape) and all(a in (1, b) for a, b in zip(found, shape, strict=True))
        ):
            raise GraphError(f"its {field} has the shape {found}, what reaches it {shape}")
    return shape


def _dense(fields: Mapping[str, Any], shape: Shape) -> Shape:
    outputs, inputs = np.shape(fields["weight"])
    if shape != (inputs,):
        raise GraphError(f"its weight takes {inputs} inputs in one axis, what reaches it has the shape {shape}")
    _check_bias(fields, outputs)
    return (outputs,)


def _check_bias(fields: Mapping[str, Any], outputs: int) -> None:
    if "bias" in fields and np.shape(fields["bias"]) != (outputs,):
        raise GraphError(f"its bias has the shape {np.shape(fields['bias'])}, its outputs are {outputs}")


def _convolution(fields: Mapping[str, Any], shape: Shape) -> Shape:
    outputs, entering, *kernel = np.shape(fields["weight"])
    groups, axes = whole(fields["groups"]), len(kernel)
    if len(shape) != axes + 1 or shape[0] != entering * groups or outputs % groups:
        raise GraphError(
            f"its weight of shape {np.shape(fields['weight'])} in {groups} group(s) "
            f"does not fit what reaches it, of shape {shape}"
        )
    _check_bias(fields, outputs)
    said = fields.get("input_shape")
    if said is not None and sides(said, axes) != shape[1:]:
        raise GraphError(f"its input_shape is {sides(said, axes)}, what reaches it has the shape {shape}")
    stride, dilation, padding = sides(fields["stride"], axes), sides(fields["dilation"], axes), fields["padding"]
    extent = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    if isinstance(padding, str):
        if padding == "same" and set(stride) != {1}:
            raise GraphError(f"its padding 'same' needs a stride of 1, not {stride}")
        if padding == "same":
            return (outputs, *shape[1:])
        padding = 0
    return (outputs, *_windows(shape[1:], extent, stride, sides(padding, axes), extent))


def _pool(fields: Mapping[str, Any], shape: Shape) -> Shape:
    if len(shape) != 3:
        raise GraphError(f"it takes images (C, H, W), what reaches it has the shape {shape}")
    kernel, stride, padding = (sides(fields[name], 2) for name in ("kernel_size", "stride", "padding"))
    return (shape[0], *_windows(shape[1:], kernel, stride, padding, tuple(k // 2 for k in kernel)))


def _windows(shape: Shape, extent: Shape, stride: Shape, padding: Shape, most: Shape) -> Shape:
    """How many windows fit in each axis; ``most`` padding."""
    if any(p > m for p, m in zip(padding, most, strict=True)):
        raise GraphError(f"its padding of {padding} is more than {most}, what its kernel reaches")
    found = tuple((n + 2 * p - e) // s + 1 for n, p, e, s in zip(shape, padding, extent, stride, strict=True))
    if min(found) < 1:
        raise GraphError(
            f"its kernel reaches over {extent}, more than what reaches it, {shape}, with padding {padding}"
        )
    return found


def flattens_all(fields: Mapping[str, Any]) -> bool:
    """Writers count the batch axis or do not: both ways of saying "all of it" mean that."""
    return whole(fields["end_dim"]) == -1 and whole(fields["start_dim"]) in (0, 1)


def _flatten(fields: Mapping[str, Any], shape: Shape) -> Shape:
    said = fields.get("input_type")
    declared = None if said is None else tuple(map(int, np.asarray(said).reshape(-1)))
    if declared is not None and shape not in (declared, declared[1:]):
        raise GraphError(f"its input_type is {declared}, what reaches it has the shape {shape}")
    if flattens_all(fields):
        return (math.prod(shape),)
    if declared is None:
        raise GraphError("it does not say by an input_type whether its axes count the batch")
    first, last = (n + len(declared) if n < 0 else n for n in (whole(fields["start_dim"]), whole(fields["end_dim"])))
    batch = len(declared) - len(shape)
    if not batch <= first <= last < len(declared):
        raise GraphError(f"it flattens the axes {first} to {last} of {declared}")
    first, last = first - batch, last - batch + 1
    return (*shape[:first], math.prod(shape[first:last]), *shape[last:])


def _declared(fields: Mapping[str, Any]) -> Shape:
    """The shape that an Input or Output says."""
    return tuple(map(int, np.asarray(fields["shape"]).reshape(-1)))


def _output(fields: Mapping[str, Any], shape: Shape) -> Shape:
    declared = _declared(fields)
    if declared[-len(shape) :] != shape and math.prod(declared) != math.prod(shape):
        raise GraphError(f"it declares the shape {declared}, what reaches it has the shape {shape}")
    return shape


def _input(fields: Mapping[str, Any], shape: Shape) -> Shape:
    declared = _declared(fields)
    if declared != shape:
        raise GraphError(f"it takes the shape {declared}, what reaches it has the shape {shape}")
    return shape


_FIRES = {"v_threshold": _each(), "v_reset": _each(optional=True)}
_LEAKS = {"tau": _each(positive=True), "r": _each(), "v_leak": _each()}
_CUBA = {
    "tau_syn": _each(positive=True),
    "tau_mem": _each(positive=True),
    "r": _each(),
    "v_leak": _each(),
    "w_in": _each(optional=True),
}
_POOL = {"kernel_size": _whole(1, (1, 2)), "stride": _whole(1, (1, 2)), "padding": _whole(0, (1, 2))}


def _convolves(axes: int) -> dict[str, Field]:
    sizes = (1, 2) if axes == 2 else (1,)
    return {
        "weight": _array(axes + 2),
        "bias": _array(1),
        "stride": _whole(1, sizes),
        "padding": _padding(*sizes),
        "dilation": _whole(1, sizes),
        "groups": _whole(1),
        "input_shape": _whole(1, sizes, optional=True),
    }


KINDS: Mapping[str, Kind] = {
    "Affine": Kind({"weight": _array(2), "bias": _array(1)}, _dense),
    "AvgPool2d": Kind(_POOL, _pool),
    "Conv1d": Kind(_convolves(1), _convolution),
    "Conv2d": Kind(_convolves(2), _convolution),
    "CubaLI": Kind(_CUBA, _like_input),
    "CubaLIF": Kind({**_CUBA, **_FIRES}, _like_input),
    "Delay": Kind({"delay": _each()}, _like_input),
    "Flatten": Kind(
        {"start_dim": _whole(-_AXES), "end_dim": _whole(-_AXES), "input_type": _shape(optional=True)}, _flatten
    ),
    "I": Kind({"r": _each()}, _like_input),
    "IF": Kind({"r": _each(), **_FIRES}, _like_input),
    "Input": Kind({"shape": _shape()}, _input),
    "LI": Kind(_LEAKS, _like_input),
    "LIF": Kind({**_LEAKS, **_FIRES}, _like_input),
    "Linear": Kind({"weight": _array(2)}, _dense),
    "Output": Kind({"shape": _shape()}, _output),
    "Scale": Kind({"scale": _each()}, _like_input),
    "SumPool2d": Kind(_POOL, _pool),
    "Threshold": Kind({"threshold": _each()}, _like_input),
}
"""Every kind of node but the graph itself."""


def whole(value: Any) -> int:
    """A field that holds one whole number."""
    return int(np.asarray(value).reshape(-1)[0])


def sides(value: Any, axes: int) -> Shape:
    """A field that holds a whole number for each axis, or one for all."""
    return tuple(int(n) for n in np.broadcast_to(np.asarray(value).reshape(-1), axes))


def fields_of(node: Any) -> dict[str, Any]:
    """The fields of a node that are given, by their names in a file."""
    found = {name: getattr(node, name, None) for name in KINDS[type(node).__name__].fields}
    if isinstance(node, nir.Input):
        found["shape"] = node.input_type["input"]
    elif isinstance(node, nir.Output):
        found["shape"] = node.output_type["output"]
    elif isinstance(node, nir.Flatten):
        found["input_type"] = node.input_type["input"]
    return {name: value for name, value in found.items() if value is not None}


def check_fields(name: str, kind: str, fields: Mapping[str, Any]) -> None:
    """Types and shapes of a node's fields, by themselves.

    Raises:
        GraphError: a field is missing or is not what it must be.
    """
    shapes = {}
    for field, rule in KINDS[kind].fields.items():
        if field not in fields:
            if rule.optional:
                continue
            raise GraphError(f"node {name!r} has no {field}")
        if not rule.fits(fields[field]):
            raise GraphError(f"{field} of node {name!r} must be {rule.words}, not {_described(fields[field])}")
        if rule.each and not (field == "w_in" and np.size(fields[field]) == 1):  # nir writes and takes a single weight
            shapes[field] = np.shape(fields[field])
    if len(set(shapes.values())) > 1:
        raise GraphError(f"fields of node {name!r} differ in shape: {', '.join(f'{f} {s}' for f, s in shapes.items())}")


def _described(value: Any) -> str:
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, dict):
        return "a group"
    array = np.asarray(value)
    return str(array.tolist())[:40] if array.size <= _AXES else f"{array.dtype} of shape {array.shape}"


def check_content(name: str, content: Mapping[str, Any]) -> None:
    """A node as a file holds it, with all nodes in it, before nir makes nodes of it.

    Raises:
        GraphError: an unknown kind, a field that is missing, unknown, or not what it must be.
    """
    kind = content.get("type", "")
    if not isinstance(kind, str) or kind not in (*KINDS, "NIRGraph"):
        raise GraphError(f"node {name!r} is of the unknown type {_described(kind)}")
    known = {"nodes", "edges"} if kind == "NIRGraph" else set(KINDS[kind].fields)
    unknown = sorted(set(content) - known - {"type", "metadata"})
    if unknown:
        raise GraphError(f"node {name!r} has the unknown field {unknown[0]!r}")
    if not isinstance(content.get("metadata", {}), dict):
        raise GraphError(f"metadata of node {name!r} must be a group")
    if kind != "NIRGraph":
        check_fields(name, kind, content)
        return
    nodes, edges = content.get("nodes"), content.get("edges", ())
    if not isinstance(nodes, dict) or not all(isinstance(node, dict) for node in nodes.values()):
        raise GraphError(f"nodes of the graph {name!r} must be a group of groups")
    if np.size(edges) and not (isinstance(edges, np.ndarray) and edges.dtype == object and edges.shape[1:] == (2,)):
        raise GraphError(f"edges of the graph {name!r} must be pairs of names, not {_described(edges)}")
    for inner, node in nodes.items():
        check_content(inner, node)


class Plan(NamedTuple):
    """How a checked graph runs.

    Graphs in it are part of it: their nodes have the graph's name and a dot before their own, and
    their Input and Output pass on what they get.

    Attributes:
        nodes: by name.
        order: names of all nodes; each comes after all that it hears in the same timestep.
        sources: for each node, those that it hears, in the order of the graph's edges.
        shapes: what each node sends, without the batch.
        source: the input node.
        sink: the output node.
        late: edges that close a cycle: what they bring was sent in the timestep before.
        delays: timesteps that a Delay holds what it gets, by its name.
    """

    nodes: Mapping[str, Any]
    order: tuple[str, ...]
    sources: Mapping[str, list[str]]
    shapes: Mapping[str, Shape]
    source: str
    sink: str
    late: frozenset[tuple[str, str]] = frozenset()
    delays: Mapping[str, Array] = {}

    @property
    def values(self) -> int:
        """What all nodes send in a timestep, and delays hold, for one image."""
        held = sum(math.prod(self.shapes[name]) * int(steps.max()) for name, steps in self.delays.items())
        return held + sum(math.prod(shape) for shape in self.shapes.values())


def plan(raw: nir.NIRGraph, dt: float | None = None) -> Plan:
    """Check a graph as a whole, and every field of every node.

    Where a graph is recurrent, one edge of each cycle brings what was sent in the timestep before:
    the one into the node where the cycle is entered from the Input (into each such node, where
    there are several). In a cycle with a Delay of a timestep or more it is the Delay's own, which
    then holds a timestep less.

    Args:
        raw: the graph.
        dt: length of a timestep in the unit of the graph's delays; None: 1e-4 s.

    Raises:
        CannotRunError: kinds of nodes that do not run here, too many nodes or edges, a delay that
            is no whole number of timesteps.
        GraphError: what is no NIR graph with one input and one output, or contradicts itself (the
            message names node and field); a timestep that is not positive and finite.
    """
    dt = SECONDS if dt is None else dt
    if not (math.isfinite(dt) and dt > 0):
        raise GraphError(f"a timestep must be positive and finite, not {dt}")
    found = _plan(raw, dt)
    stored = sum(np.size(value) for node in found.nodes.values() for value in fields_of(node).values())
    if found.values > _VALUES + stored:
        raise CannotRunError(f"its nodes send {found.values:,} values in a timestep, too many for a graph of this size")
    return found


def _plan(raw: nir.NIRGraph, dt: float) -> Plan:
    source, sink = _end(raw, nir.Input), _end(raw, nir.Output)
    nodes, sources = _flat(raw)
    fields = {name: _checked(name, node) for name, node in nodes.items()}
    delays = {name: _steps(name, node, dt) for name, node in nodes.items() if isinstance(node, nir.Delay)}
    cutting = {name for name, steps in delays.items() if steps.min() >= 1}
    cycles = _cycles(source, sources, cutting)
    late = cycles | {(first, last) for _, last in cycles for first in sources[last] if last in cutting}
    shorter = cutting & {last for _, last in late}
    delays = {name: np.asarray(steps - (name in shorter)) for name, steps in delays.items()}
    order = tuple(
        TopologicalSorter(
            {name: [n for n in heard if (n, name) not in cycles] for name, heard in sources.items()}
        ).static_order()
    )
    shapes = _shapes(source, nodes, fields, sources, order)
    for name, heard in sources.items():
        for other in heard[1:]:
            if shapes[other] != shapes[heard[0]]:
                raise GraphError(
                    f"node {name!r} gets the shape {shapes[heard[0]]} from {heard[0]!r}, "
                    f"but {shapes[other]} from {other!r}"
                )
    return Plan(nodes, order, sources, shapes, source, sink, frozenset(late), delays)


def _shapes(
    source: str,
    nodes: Mapping[str, Any],
    fields: Mapping[str, Mapping[str, Any]],
    sources: Mapping[str, list[str]],
    order: Sequence[str],
) -> dict[str, Shape]:
    """What each node sends; a Delay in a cycle may have to wait for what it hears."""
    shapes: dict[str, Shape] = {}
    left = list(order)
    while left:
        waiting = []
        for name in left:
            known = [n for n in sources[name] if n in shapes]
            if name == source:
                arriving = _declared(fields[name])
            elif known:
                arriving = shapes[known[0]]
            else:
                waiting.append(name)
                continue
            shapes[name] = _sent(name, nodes[name], fields[name], arriving)
        if len(waiting) == len(left):
            raise GraphError(f"nothing says what shape reaches node {waiting[0]!r}")
        left = waiting
    return shapes


def _flat(raw: nir.NIRGraph) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """All nodes, and those that each of them hears, in the order of the edges."""
    sources = _sources(raw, _end(raw, nir.Input), _end(raw, nir.Output))
    nodes: dict[str, Any] = {}
    heard: dict[str, list[str]] = {}
    first, last = ({name: name for name in raw.nodes} for _ in range(2))
    for name, node in raw.nodes.items():
        inner, within = {name: node}, {name: list[str]()}
        if isinstance(node, nir.NIRGraph):
            parts, hears = _flat(node)
            inner = {f"{name}.{part}": each for part, each in parts.items()}
            within = {f"{name}.{part}": [f"{name}.{n}" for n in ns] for part, ns in hears.items()}
            first[name], last[name] = f"{name}.{_end(node, nir.Input)}", f"{name}.{_end(node, nir.Output)}"
        if twice := sorted(inner.keys() & nodes.keys()):
            raise GraphError(f"two nodes have the name {twice[0]!r}, one of them in a graph in the graph")
        nodes |= inner
        heard |= within
    for name, before in sources.items():
        heard[first[name]] += [last[n] for n in before]
    if len(nodes) > _NODES or sum(map(len, heard.values())) > _EDGES:
        raise CannotRunError(f"a graph that can run has up to {_NODES:,} nodes and {_EDGES:,} edges, with those in it")
    return nodes, heard


def _steps(name: str, node: nir.Delay, dt: float) -> Array:
    """Timesteps of a Delay, of the shape of its field.

    Raises:
        GraphError: a negative delay.
        CannotRunError: no whole numbers, or too many.
    """
    exact = np.asarray(node.delay, np.float64) / dt
    if exact.min() < 0:
        raise GraphError(f"delay of node {name!r} is {np.min(node.delay):g}, into the past")
    steps = np.rint(exact)
    off = np.abs(exact - steps) > 1e-3 + 2e-7 * steps  # what single precision may be off
    if off.any() or steps.max() > _MOST_DELAY:
        worst = np.asarray(node.delay).reshape(-1)[np.abs(exact - steps).argmax()]
        raise CannotRunError(
            f"delay of node {name!r} holds {worst:g}, which is not a whole number of timesteps of {dt:g}, "
            f"up to {_MOST_DELAY:,}: give a --dt that fits the file's unit of time"
        )
    return np.asarray(steps, np.int64)


def _cycles(source: str, sources: Mapping[str, list[str]], cutting: set[str]) -> set[tuple[str, str]]:
    """Edges without which a graph has no cycle; which they are depends on the graph alone.

    Raises:
        GraphError: a cycle that nothing leads to.
        CannotRunError: too many cycles in each other.
    """
    try:
        TopologicalSorter(sources).prepare()
    except CycleError:
        pass
    else:
        return set()
    from scipy.sparse import csgraph, csr_matrix  # takes longer to load than `inspect` has

    names = list(sources)
    place = {name: i for i, name in enumerate(names)}
    cut: set[tuple[str, str]] = set()
    rounds = _ROUNDS // sum(map(len, sources.values()))
    for _ in range(rounds):
        pairs = [(first, last) for last, heard in sources.items() for first in heard if (first, last) not in cut]
        ends = np.array([(place[first], place[last]) for first, last in pairs], np.int64).reshape(-1, 2)
        matrix = csr_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (len(names),) * 2)
        _, part = csgraph.connected_components(matrix, connection="strong")
        inside = [(first, last) for first, last in pairs if part[place[first]] == part[place[last]]]
        if not inside:
            return cut
        cyclic = {part[place[last]] for _, last in inside}
        entered = {last for first, last in pairs if part[place[first]] != part[place[last]]}
        delayed = {part[place[last]] for _, last in inside if last in cutting}
        chosen = {
            (first, last) for first, last in inside if last in (cutting if part[place[last]] in delayed else entered)
        }
        if stuck := cyclic - {part[place[last]] for _, last in chosen}:
            shown = ", ".join(repr(name) for name in names if part[place[name]] in stuck)
            raise GraphError(f"nothing leads from {source!r} to the cycle of {shown[:200]}")
        cut |= chosen
    raise CannotRunError(f"its cycles stand in each other more than {rounds} deep")


def _sent(name: str, node: Any, fields: Mapping[str, Any], arriving: Shape) -> Shape:
    kind = KINDS[type(node).__name__]
    each = {field: value for field, value in fields.items() if kind.fields[field].each}
    try:
        return kind.sends(each or fields, arriving)
    except GraphError as error:
        raise GraphError(f"node {name!r} does not fit what reaches it: {error}") from error


def _checked(name: str, node: Any) -> dict[str, Any]:
    """The fields of a node, with finite values."""
    kind = type(node).__name__
    if kind not in KINDS:
        raise CannotRunError(f"node {name!r} is a {kind}; what can run: {', '.join(sorted(KINDS))}, NIRGraph")
    fields = fields_of(node)
    check_fields(name, kind, fields)
    for field, value in fields.items():
        if isinstance(value, str):
            continue
        least, most = float(np.min(value)), float(np.max(value))
        if not (least >= -_LARGEST and most <= _LARGEST):  # half precision has no such number
            raise GraphError(f"{field} of node {name!r} holds NaN, or values that are infinite in single precision")
        if KINDS[kind].fields[field].positive and not np.min(value) > 0:
            raise GraphError(f"{field} of node {name!r} must be positive")
    return fields


def input_shape(raw: nir.NIRGraph) -> Shape:
    """The shape of one input, as the graph's Input says it.

    Raises:
        GraphError: there is no such node, or several, or it says none.
    """
    name = _end(raw, nir.Input)
    return _declared(_checked(name, raw.nodes[name]))


def _end(raw: nir.NIRGraph, kind: type) -> str:
    found: list[str] = [name for name, node in raw.nodes.items() if isinstance(node, kind)]
    if len(found) != 1:
        shown = f": {', '.join(map(repr, found[:8]))}" if found else ""
        raise GraphError(f"a graph that can run has one {kind.__name__}, not {len(found)}{shown}")
    return found[0]


def _sources(raw: nir.NIRGraph, source: str, sink: str) -> dict[str, list[str]]:
    """The nodes that each node hears."""
    if len(raw.nodes) > _NODES or len(raw.edges) > _EDGES:
        raise CannotRunError(
            f"a graph that can run has up to {_NODES:,} nodes and {_EDGES:,} edges, "
            f"not {len(raw.nodes):,} and {len(raw.edges):,}"
        )
    sources: dict[str, list[str]] = {name: [] for name in raw.nodes}
    for (first, last), times in Counter(map(tuple, raw.edges)).items():
        for end in (first, last):
            if end not in sources:
                raise GraphError(f"the edge {first!r} -> {last!r} names the unknown node {end!r}")
        if times > 1:
            raise GraphError(f"the edge {first!r} -> {last!r} is there {times} times")
        if last == source or first == sink:
            raise GraphError(f"the edge {first!r} -> {last!r} leads into the Input, or out of the Output")
        sources[last].append(first)
    for name in raw.nodes:
        if not sources[name] and name != source:
            raise GraphError(f"no edge leads to node {name!r}")
    return sources
