r"""The portable graph: NIR primitives with PASC metadata (https://neuroir.org, nir 1.0).

==================  ================================================================================
in our graph        in the file
==================  ================================================================================
``analog``          ``Input``
``pasc``            ``IF`` with ``v_threshold`` = theta, ``v_reset`` = 0 and ``r`` = L_in / L
``max``             ``SumPool2d`` into ``IF`` with ``v_threshold`` 1/2: an OR under NIR's own reset
                    to ``v_reset``
``linear``          ``Scale`` with ones
``readout``         ``Output``
Projection          ``SumPool2d`` (if it pools), ``Flatten`` (dense from an image), then ``Conv2d``,
                    ``Affine`` or ``Scale``. Single synapses are a matrix with its zeros where they
                    lead to neurons without pixels and it is not too large, and single moved pixels
                    a convolution where there is one; else they stand in the metadata of a
                    ``Linear`` that fits nothing, and so do transposed convolutions with a stride
==================  ================================================================================

Exact behaviour needs the metadata: kind, levels, and the whole bias. What NIR's own equations see
is the equivalent rate network: with spike rates :math:`\rho = c / L`, Equation 1's argument is
:math:`z / (\theta L) = (L_{in} / L) \, (W \rho_{in} + b / L_{in}) / \theta`, hence ``r`` and the
per-step bias ``b / L_in`` on the first projection that has a bias field. Quantities that stand in
the file for such readers follow from the rest; reading checks that they still do, so that nothing
in a file is silently ignored.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import nir
import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.common.files import replacing, written_at_once
from pascal_nm.errors import FileError, GraphError, PascalError, described
from pascal_nm.export import plain, storage
from pascal_nm.export.nir_nodes import LARGEST, is_real
from pascal_nm.export.plain import Content
from pascal_nm.export.profile import Profile, preprocessing, profile_of
from pascal_nm.export.untrusted import NAME, read_raw
from pascal_nm.network import dynamics
from pascal_nm.network.graph import Graph, Population, Projection, Quantization, Timing, projection_name
from pascal_nm.network.operators import Identity, SumPool2d, of_node, pair

T = TypeVar("T")

_METADATA = "pascal_nm"
"""Key in the metadata of the graph, and of each node."""

_FORMAT = 2
"""Version of the metadata (docs/nir-spec.md). A reader refuses newer ones. In version 1, a
node's metadata had no key of its own."""


@dataclass(frozen=True, eq=False)
class OtherNir:
    """What a NIR file holds but a network with PASC metadata: another tool's, or for other tools.

    Attributes:
        path: of the file.
        raw: the graph in it.
        profile: what it says about itself; None of another tool's.
    """

    path: Path
    raw: nir.NIRGraph
    profile: Profile | None

    @property
    def form(self) -> str:
        """``foreign``, or the name of the profile."""
        return "foreign" if self.profile is None else self.profile.name


def write_nir(graph: Graph, path: str | Path) -> None:
    """Write ``graph`` to ``path`` as a NIR file; reading it back gives the same graph, bit for bit.

    Raises:
        FileError: the file cannot be written, or a name is too long for one; an existing file is
            then left as it was.
    """
    raw = to_nir(graph)
    if long := [name for name in raw.nodes if len(name) > NAME]:
        raise FileError(
            f"{path} was not written: the name {long[0][:40]!r}… has {len(long[0])} characters, at most {NAME}"
        )
    with replacing(path) as temporary, written_at_once(temporary) as content:
        storage.write(raw, content)


def read_nir(path: str | Path) -> Graph:
    """Read a NIR file that :func:`write_nir` wrote.

    Raises:
        FileError: the file is missing, damaged, not NIR, without PASC metadata, or
            contradicts itself.
    """
    found = read_any(path)
    if isinstance(found, Graph):
        return found
    if found.profile is not None:
        raise FileError(
            f"{path} is the {found.form} form of a network, for other tools (and `run`): give the model, "
            "or its file without --profile"
        )
    raise FileError(f"{path} is a NIR file without PASC metadata: export it with `pascal-nm export model.pt --nir`")


def read_any(path: str | Path) -> Graph | OtherNir:
    """Read any NIR file: what it holds is what its metadata say.

    Raises:
        FileError: the file is missing, damaged or not NIR, or contradicts its metadata.
    """
    raw = read_raw(path)
    if _METADATA not in raw.metadata:
        return OtherNir(Path(path), raw, profile_of(raw, path))
    try:
        return from_nir(raw)
    except GraphError as error:
        raise FileError(f"{path} does not hold a valid network: {error}") from error
    except (LookupError, ValueError, TypeError, AttributeError, StopIteration, OverflowError, PascalError) as error:
        raise FileError(f"{path} is damaged: its PASC metadata cannot be understood ({described(error)})") from error


def to_nir(graph: Graph) -> nir.NIRGraph:
    """The NIR graph of ``graph``."""
    nodes: dict[str, nir.NIRNode] = {}
    edges: list[tuple[str, str]] = []
    for own, leading in _parts(graph):
        nodes.update(own)
        edges += leading
    pre = graph.preprocessing
    header = {
        "format": _FORMAT,
        **vars(graph.timing),
        "populations": [p.name for p in graph.populations],
        "projections": [(p.source, p.target) for p in graph.projections],
        "preprocessing": None if pre is None else {"scale": pre.scale, "mean": pre.mean, "std": pre.std},
        "classes": graph.classes,
        "quantization": None if graph.quantization is None else vars(graph.quantization),
        **({} if graph.input_range is None else {"input_range": graph.input_range}),
    }
    for node in nodes.values():
        node.metadata = {_METADATA: node.metadata} if node.metadata else {}
    return nir.NIRGraph(nodes, edges, metadata={_METADATA: json.dumps(header)}, type_check=False)


def _plain(node: nir.NIRNode, version: int) -> nir.NIRNode:
    """The node with what our key holds as its metadata; its arrays are not copied."""
    found = copy.copy(node)
    found.metadata = node.metadata if version < 2 else node.metadata.get(_METADATA, {})
    if not isinstance(found.metadata, Mapping):
        raise GraphError(f"metadata {_METADATA!r} of a node must be a group")
    return found


def _parts(graph: Graph) -> Iterator[tuple[dict[str, nir.NIRNode], list[tuple[str, str]]]]:
    """By population: its node and those of the projections onto it, and the edges between them.

    Weights are those of the graph, not copies.
    """
    for p in graph.populations:
        nodes: dict[str, nir.NIRNode] = {}
        edges: list[tuple[str, str]] = []
        for projection in graph.incoming(p.name):
            chain = dict(_projection_nodes(graph, projection))
            nodes |= chain
            edges += itertools.pairwise([projection.source, *chain, p.name])
        yield {**nodes, p.name: _population_node(graph, p)}, edges


def from_nir(raw: nir.NIRGraph) -> Graph:
    """The graph of a NIR graph with PASC metadata.

    Raises:
        GraphError: it is not a valid network, or a value contradicts another one.
    """
    header = plain.parsed(raw.metadata[_METADATA])
    version = plain.whole(header["format"], "the format", 1)
    if version > _FORMAT:
        raise GraphError(f"its metadata has format {version}; this version reads up to {_FORMAT}: update pascal-nm")
    pre = header["preprocessing"]
    names = plain.texts(header["populations"], "the populations")
    ends = [plain.texts(pair, "a projection") for pair in plain.entries(header["projections"], "the projections")]
    _check_names(raw, names)
    raw = nir.NIRGraph({n: _plain(node, version) for n, node in raw.nodes.items()}, raw.edges, type_check=False)
    graph = Graph(
        tuple(_population(name, raw.nodes[name]) for name in names),
        tuple(_projection(raw, ends, i) for i in range(len(ends))),
        None if pre is None else preprocessing(Content(pre, "the preprocessing")),
        plain.texts(header["classes"], "the classes"),
        _timing(header),
        _quantization(header.get("quantization")),
        None if (most := header.get("input_range")) is None else plain.number(most, "the input range"),
    )
    _check(graph, raw)
    return graph


def _timing(header: Content) -> Timing:
    lag, stop = header.get("lag", 0), header.get("stop")
    return Timing(
        plain.text(header["schedule"], "the schedule"),
        _each(lag, lambda entry: plain.whole(entry, "a lag")),
        None if stop is None else plain.whole(stop, "the last timestep", 1),
    )


def _quantization(made: Any) -> Quantization | None:
    if made is None:
        return None
    content = Content(made, "the quantization")
    return Quantization(
        _each(content["bits"], lambda entry: plain.whole(entry, "bits")),
        _each(content["range"], lambda entry: plain.text(entry, "a range")),
        _each(content["shift"], lambda entry: plain.whole(entry, "a shift", 0, 31)),
        plain.whole(content["bias_bits"], "bias bits"),
    )


def _each(value: Any, one: Callable[[Any], T]) -> T | tuple[T, ...]:
    """One for all layers, or a list of them."""
    return tuple(map(one, value)) if isinstance(value, list) else one(value)


def _population_node(graph: Graph, p: Population) -> nir.NIRNode:
    metadata = {"kind": p.kind, "levels": p.levels, "bias": p.bias}
    return p.dynamics.to_node(p, _levels_in(graph, p), metadata)


def _projection_nodes(graph: Graph, projection: Projection) -> Iterator[tuple[str, nir.NIRNode]]:
    shape, target = graph[projection.source].shape, graph[projection.target]
    if projection.pool is not None:
        pool = projection.pool
        yield (
            f"{projection.name}_pool",
            nir.SumPool2d(
                np.array(pool.kernel),
                np.array(pool.stride),
                np.array(pool.padding),
                metadata={"ceil": True} if pool.ceil else {},
            ),
        )
        shape = pool.output_shape(shape)
    if target.dynamics.weighted:
        yield from projection.operator.to_nodes(projection.name, shape, _bias_per_step(graph, projection, target))


def _bias_per_step(graph: Graph, projection: Projection, target: Population) -> Array | None:
    """The bias that a reader of plain NIR adds in every timestep.

    It goes on the first projection that has room for it.
    """
    carriers = [p for p in graph.incoming(target.name) if p.operator.takes_bias]
    if projection not in carriers[:1]:
        return None
    per_channel = np.broadcast_to(target.bias, (target.shape[0], *target.bias.shape[1:]))
    if per_channel.size != target.shape[0]:
        return None
    return np.asarray(per_channel.reshape(-1) / _levels_in(graph, target), np.float32)


def _levels_in(graph: Graph, p: Population) -> int:
    """The most timesteps in which a source sends: for a linear one, its own sources."""
    steps: dict[str, int] = {}
    for source in graph.populations:
        before = max((steps[q.source] for q in graph.incoming(source.name)), default=0)
        if source is p:
            return before
        steps[source.name] = before if source.dynamics.summed else source.steps
    raise GraphError(f"no population {p.name!r}")


def _population(name: str, node: nir.NIRNode) -> Population:
    metadata: Mapping[str, Any] = node.metadata
    kind = plain.text(metadata["kind"], f"the kind of {name!r}")
    if isinstance(node, nir.Input):
        shape = node.input_type["input"]
    elif isinstance(node, nir.Output):
        shape = node.output_type["output"]
    else:
        shape = _sending(node).shape
    threshold = dynamics.of(kind, f"population {name!r}").threshold(node)
    for what, value in (("threshold", threshold), ("bias", metadata["bias"])):
        if not is_real(value):
            raise GraphError(f"the {what} of population {name!r} must be numbers")
    if math.prod(int(n) for n in shape) > LARGEST:
        raise GraphError(f"population {name!r} has the shape {tuple(shape)}, more than {LARGEST:,} neurons")
    return Population(
        name,
        kind,
        tuple(int(n) for n in shape),
        plain.whole(metadata["levels"], f"the levels of {name!r}"),
        threshold,
        metadata["bias"],
    )


def _sending(node: nir.NIRNode) -> Array:
    """A field of a node in front of others that has a number for each neuron."""
    values: Array = node.scale if isinstance(node, nir.Scale) else node.v_threshold
    return values


def _projection(raw: nir.NIRGraph, ends: Sequence[tuple[str, ...]], index: int) -> Projection:
    """The projection at a place of the header's list."""
    source, target = ends[index]
    number = ends[:index].count(ends[index])
    name = projection_name(source, target, number)
    pool = raw.nodes.get(f"{name}_pool")
    window = None
    if pool is not None:
        ceil = bool(pool.metadata.get("ceil", False))
        window = SumPool2d(pair(pool.kernel_size), pair(pool.stride), pair(pool.padding), ceil)
    node = raw.nodes.get(name)
    if node is None:
        shape = getattr(raw.nodes[target], "v_threshold", getattr(raw.nodes[target], "scale", np.zeros(0))).shape
        weights = [np.asarray(n.weight).dtype for n in raw.nodes.values() if hasattr(n, "weight")]
        integer = any(np.issubdtype(dtype, np.integer) for dtype in weights)
        ones = np.ones((1,) * len(shape), np.int8 if integer else np.float64)
        return Projection(source, target, Identity(ones), window, number)
    return Projection(source, target, of_node(node), window, number)


def _check_names(raw: nir.NIRGraph, populations: Sequence[str]) -> None:
    """Every node that the metadata or an edge speak of must be there."""
    named = dict.fromkeys([*populations, *(str(end) for edge in raw.edges for end in edge)])
    if missing := [name for name in named if name not in raw.nodes]:
        spare = [name for name in raw.nodes if name not in named]
        renamed = f"; nothing names its node {_listed(spare)}: was it renamed?" if spare else ""
        raise GraphError(f"its metadata or edges name {_listed(missing)}, and it has no such node{renamed}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _check(graph: Graph, raw: nir.NIRGraph) -> None:
    """Every node, field and edge of the file must be the one that the graph itself gives."""
    names: set[str] = set()
    edges: list[tuple[str, str]] = []
    for nodes, leading in _parts(graph):
        for name in nodes.keys() & raw.nodes.keys():
            _check_node(name, nodes[name], raw.nodes[name])
        names |= nodes.keys()
        edges += leading
    if names != raw.nodes.keys():
        raise GraphError(f"its nodes do not fit its metadata: {sorted(names ^ raw.nodes.keys())}")
    if sorted(edges) != sorted(map(tuple, raw.edges)):
        raise GraphError("its edges do not fit its metadata")


def _check_node(name: str, expected: nir.NIRNode, found: nir.NIRNode) -> None:
    if type(expected) is not type(found):
        raise GraphError(f"node {name!r} is a {type(found).__name__}, not a {type(expected).__name__}")
    there = _content(found)
    for field, value in _content(expected).items():
        if field == "metadata" or value is there[field]:  # weights are the arrays of the file itself
            continue
        if not np.array_equal(np.asarray(value), np.asarray(there[field])):
            raise GraphError(
                f"{field} of node {name!r} contradicts the network's metadata; one of them was changed by hand"
            )


def _content(node: nir.NIRNode) -> dict[str, Any]:
    """A node's fields, and what its metadata says that follows from the network.

    Large arrays are not copied.
    """
    return {**storage.slim(node).to_dict(), **storage.large(node), "levels_in": node.metadata.get("levels_in")}
