r"""From a QCFS network to a spiking graph, exactly.

Between two QCFS activations a network is affine. The converter follows each value through the
traced network as a sum of *terms*, one linear map from one source population each, plus a bias
(:mod:`pascal_nm.source.affine`):

.. math:: z = \sum_k A_k c_k + b

where :math:`c_k` are spike counts. Batch normalization, scaling, pooling, concatenation and chains
of linear layers are folded into the terms in float64. A QCFS activation closes the sum: it becomes
a population, and its spike amplitude :math:`\lambda / L` becomes the first factor of the terms that
leave it.

Two linear maps in a row are one operator where there is such a one, and it has not many times the
synapses of both. Else a *linear population* stands between them, whose neurons pass on what they
add up. What an operation of torch does is known for the common ones
(:mod:`pascal_nm.source.operations`) and found by running it for all others
(:mod:`pascal_nm.source.probing`), so that whatever is affine converts.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from pascal_nm.errors import ConversionError, DataError, GraphError
from pascal_nm.network.graph import Graph, Preprocessing
from pascal_nm.source import operations
from pascal_nm.source.activations import Levels, first_batch, prepared
from pascal_nm.source.affine import GROWTH
from pascal_nm.source.converter import Converter, refusal, register
from pascal_nm.source.proof import prove
from pascal_nm.source.tracing import SourceNetwork

__all__ = ["Converter", "convert", "operations", "refusal", "register"]


def convert(
    network: nn.Module | ExportedProgram | SourceNetwork,
    example: Tensor | Sequence[Tensor] | None = None,
    *,
    levels: Levels | None = None,
    calibration: Any = None,
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] = (),
    check: bool = True,
    growth: float = GROWTH,
) -> Graph:
    """Convert a network into a spiking graph with the same answers.

    A ReLU network with ``levels`` becomes a QCFS network first, as :func:`pascal_nm.to_qcfs` makes
    it. The result is proven before it is returned: :func:`pascal_nm.source.proof.prove` compares
    every pre-activation, level and output of the graph with the traced program's.

    Args:
        network: the user's module, an exported program, or a traced :class:`SourceNetwork`.
        example: one input batch of shape (N, *input shape), of several inputs one of each; only
            shapes and types matter. By default the first batch of ``calibration``.
        levels: L of the QCFS activations that take the places of a ReLU network's: for all, one for
            each in the order of execution, or by name. Not needed for a QCFS network.
        calibration: data that their thresholds are set on: a DataLoader, a data set, arrays or
            tensors; labels are ignored.
        preprocessing: how pixels become inputs; travels with the graph.
        classes: names of the outputs; travel with the graph.
        check: prove the result; without it, conversion takes the time of two forward passes of
            three images less.
        growth: two linear maps in a row become one if that has at most so many times the synapses
            of both; else a population of kind ``linear`` stands between them, which takes a chip
            whose spikes carry numbers. ``math.inf``: none does, and +1 and -1 are all that travels.

    Returns:
        A float graph in the network's own float type (float32 for half precision).

    Raises:
        ConversionError: names the part of the network that has no exact spiking equivalent, and
            why; or the first place at which the graph is not the network.
    """
    if not isinstance(network, nn.Module | ExportedProgram | SourceNetwork):
        raise ConversionError(f"a torch.nn.Module or an exported program is needed, not a {type(network).__name__}")
    if isinstance(network, nn.Module):
        if example is None and calibration is None and levels is not None:
            raise ConversionError(
                "a ReLU network needs data that its thresholds are set on: convert(network, levels=8, calibration=data)"
            )
        if example is None and calibration is not None:
            example, calibration = first_batch(calibration)
        network = prepared(network, levels=levels, calibration=calibration, example=example)
        example = _as_parameters(network, example)
    elif levels is not None or calibration is not None:
        raise ConversionError(
            "levels and calibration are for a torch.nn.Module with ReLU; this has its QCFS activations"
        )
    source = network if isinstance(network, SourceNetwork) else SourceNetwork(network, example)
    for head in source.left_out:
        warnings.warn(f"{head} is left out: the largest output is the answer with and without it", stacklevel=2)
    populations, projections = Converter(source, growth).run()
    try:
        merged = populations[0].shape[0] // source.input_shape[0]  # of (C, D, H, W), which a graph has as (C * D, H, W)
        if preprocessing is not None and 1 < len(preprocessing.mean) == source.input_shape[0] and merged > 1:
            preprocessing = preprocessing.repeated(merged)
        graph = Graph(tuple(populations), tuple(projections), preprocessing, tuple(classes))
        if check:
            prove(source, graph, example)
        with np.errstate(over="ignore"):  # what becomes infinite is refused
            return graph.astype(np.float64 if source.dtype == torch.float64 else np.float32)
    except (GraphError, DataError) as error:
        raise ConversionError(str(error)) from error


def _as_parameters(module: nn.Module, example: Any) -> Any:
    """An example of floats in the type of a network's parameters, which may have become wider."""
    kind = next((p.dtype for p in module.parameters() if p.is_floating_point()), None)
    if isinstance(example, tuple | list):
        return type(example)(_as_parameters(module, each) for each in example)
    if kind is None or not isinstance(example, Tensor) or not example.is_floating_point():
        return example
    return example.to(torch.promote_types(example.dtype, kind))
