"""Where networks run: one class per target behind :class:`pascal_nm.simulation.result.Target`."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast, overload

from pascal_nm.common.arrays import Array
from pascal_nm.common.batches import batches, is_array
from pascal_nm.data import Dataset, Frames
from pascal_nm.errors import ConversionError, DataError, TargetError
from pascal_nm.network.graph import Graph, Inputs, Pixels, merges
from pascal_nm.simulation.result import Program, RunResult, Target

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

    from pascal_nm.hw_targets.bill import Bill
    from pascal_nm.hw_targets.evaluation import Evaluation
    from pascal_nm.source.tracing import SourceNetwork
    from pascal_nm.source.verification import Verification

_TARGETS: dict[str, Callable[[], Target]] = {}
"""What makes a target, by its name."""


def register(name: str, make: Callable[[], Target]) -> None:
    """Give a target a name, for :func:`run` and the command line.

    Args:
        name: of the target.
        make: gives the target, like its class.
    """
    _TARGETS[name] = make


def _own(module: str, name: str) -> Target:
    """A target of this package, whose module is imported when it is asked for."""
    target: Target = getattr(importlib.import_module(f"pascal_nm.hw_targets.{module}"), name)()
    return target


register("torch", partial(_own, "simulator", "TorchTarget"))
register("lava", partial(_own, "lava", "LavaTarget"))
register("loihi", partial(_own, "loihi", "LoihiTarget"))


def compiled(graph: Graph, name: str, bits: int | None = None, *, frames: bool = False) -> Program:
    """A graph made ready to run on the target called ``name``.

    Where bits are given, a float graph is quantized for it: by the target itself, where it has
    ``bits``. A target that has ``frames`` is told whether it is to run some.

    Raises:
        PascalError: the target is unknown or not installed, or the graph does not fit.
    """
    target: Any = find(name)
    if frames and hasattr(target, "frames"):
        target = replace(target, frames=True)
    if bits is not None and not graph.is_integer:
        if hasattr(target, "bits"):
            target = replace(target, bits=bits)
        else:
            from pascal_nm.network.quantization import quantize

            graph = quantize(graph, bits)
    program: Program = target.compile(graph)
    return program


def quantizes(name: str, bits: int | None = None) -> bool:
    """Whether a float network is quantized for the target called ``name``."""
    return bits is not None or hasattr(find(name), "bits")


def find(name: str) -> Target:
    """The target called ``name``; Lava is imported only when its target compiles a graph.

    Raises:
        TargetError: there is no such target.
    """
    if name not in _TARGETS:
        raise TargetError(f"unknown target {name!r}: choose from {', '.join(_TARGETS)}")
    return _TARGETS[name]()


@overload
def run(graph: Graph, data: Inputs | Tensor, target: str = "torch") -> RunResult: ...  # type: ignore[overload-overlap]


@overload
def run(
    graph: Graph, data: Dataset | Frames | Iterable[Any] | tuple[Any, ...], target: str = "torch"
) -> Evaluation: ...


def run(graph: Graph, data: Any, target: str = "torch") -> RunResult | Evaluation:
    """Run a network on a target.

    Args:
        graph: float or integer; ``loihi`` quantizes a float graph first.
        data: the network's inputs, preprocessed, of shape (N, *input shape), an array or a tensor;
            or stored pixels (``graph.pixels``, or whole numbers where the graph says how they
            become inputs). Or what is gone through a batch at a time: ``(x, y)`` with labels, a
            torch ``DataLoader`` or ``Dataset``, labelled images, or frames
            (:func:`pascal_nm.data.batches`).
        target: ``torch``, ``lava`` or ``loihi``.

    Returns:
        Of an array or a tensor: spike counts of every neuron, logits and predictions. Of all else:
        predictions, accuracy and counted events.

    Raises:
        PascalError: the target is unknown or not installed, or the data or the graph do not fit.
    """
    from pascal_nm.hw_targets import evaluation

    program = find(target).compile(evaluation.ranged(graph, data) if quantizes(target) else graph)
    if is_array(data) or isinstance(data, Pixels):
        return program.run(cast("Inputs", data))  # every target takes tensors, too: Graph.currents
    return evaluation.evaluate(program, data)


def verify(
    model: nn.Module | ExportedProgram | SourceNetwork, graph: Graph, data: Any, target: str = "torch"
) -> Verification:
    """Is the spiking network the source network?

    Every level of every neuron, and every output, is compared on every image.

    Args:
        model: the source network, in the graph's float type.
        graph: the spiking network, from ``convert``, ``quantize`` or a file, with linear
            populations as ``convert`` makes them, or none (``growth=math.inf``). An integer graph
            is compared with the integer QCFS network that its own recipe of quantization
            makes of the model.
        data: inputs, images or frames, as :func:`run` takes them; the graph says how pixels become
            inputs and what the classes are called: a model does not, so that this is not compared.
        target: ``torch``, ``lava`` or ``loihi``.

    Returns:
        The answer (``exact``; ``verdict`` in words), and what was counted in each layer.

    Raises:
        PascalError: the model cannot be converted; the target is unknown or not installed; the data
            or the graph do not fit.
    """
    from pascal_nm.hw_targets import evaluation
    from pascal_nm.source.affine import growth_of
    from pascal_nm.source.conversion import convert
    from pascal_nm.source.tracing import SourceNetwork

    if not isinstance(graph, Graph):
        raise DataError(f"verify takes a model, its spiking network and data, not {type(graph).__name__} in the middle")
    if not isinstance(model, SourceNetwork):
        model = _traced(model, graph, data)
    with warnings.catch_warnings():  # what is left out was said when the graph was made
        warnings.simplefilter("ignore", UserWarning)
        reference = convert(model, preprocessing=graph.preprocessing, classes=graph.classes, growth=growth_of(graph))
    program = find(target).compile(evaluation.ranged(graph, data) if quantizes(target) else graph)
    verification, _ = evaluation.verify(model, reference, program, data, given=graph)
    verification.taken = ("preprocessing", "class names")
    return verification


def _traced(module: nn.Module | ExportedProgram, graph: Graph, data: Any) -> SourceNetwork:
    """A source network with inputs of the shape of the data, or of the graph, which may be merged.

    Raises:
        ConversionError: it takes neither; says what the first of them met.
    """
    import torch
    from torch import nn

    from pascal_nm.source.activations import first_batch
    from pascal_nm.source.qcfs import QCFS
    from pascal_nm.source.tracing import SourceNetwork

    if isinstance(module, nn.Module) and not any(isinstance(layer, QCFS) for layer in module.modules()):
        raise ConversionError(
            "verify compares with the QCFS network that was converted, and this one has no QCFS activation: "
            "qcfs = to_qcfs(network, levels, data), then convert(qcfs, example) and verify(qcfs, ...)"
        )
    own = graph.input.shape
    dtype = torch.float32 if graph.is_integer else torch.from_numpy(graph.input.threshold).dtype
    if isinstance(first := None if isinstance(data, Iterator | Pixels) else first_batch(data)[0], tuple | list):
        return SourceNetwork(module, tuple(torch.zeros(1, *part.shape[1:], dtype=dtype) for part in first))
    given = () if isinstance(data, Iterator) else _first(data).shape[1:]
    shapes = [shape for shape in (given, own, tuple(n for n in own if n > 1)) if merges(shape, own)]
    met: list[ConversionError] = []
    for shape in dict.fromkeys(shapes):
        try:
            return SourceNetwork(module, torch.zeros(1, *shape, dtype=dtype))
        except ConversionError as error:
            met.append(error)
    raise met[0]


def _first(data: Any) -> Array:
    """The first of some data, (1, *shape)."""
    values, _ = next(batches(data.values if isinstance(data, Pixels) else data, 1, 1))
    return values


def energy(
    graph: Graph,
    data: Any,
    chip: str = "loihi1",
    *,
    memory: bool = False,
    objective: str = "time",
    pipelined: bool = False,
) -> Bill:
    """What a network costs on a chip.

    Events are counted in a run on the images, and multiplied by the figures of the chip's file.

    Args:
        graph: float or integer; where the chip computes in integers, a float graph is quantized for
            it, to fit its registers.
        data: inputs, images or frames, as :func:`run` takes them; each is one image of the bill.
        chip: a name of :func:`pascal_nm.hw_targets.chip.available`, or a TOML file.
        memory: count memory traffic, too, where the figures of the chip are arithmetic only.
        objective: what the placement on the chip's cores serves: ``time``, ``energy`` or ``cores``.
        pipelined: images follow each other every initiation interval of the schedule, and do not
            wait for each other's answers.

    Returns:
        Joules of an image: of its events (``dynamic``) by layer and kind of event, and with static
        energy and the host (``total``, None where the chip's file does not know them); seconds,
        cores; and the joules of the source network's operations (``source_dynamic``).

    Raises:
        PascalError: an unknown chip, or the network or the data do not fit.
    """
    from pascal_nm.hw_targets import bill, evaluation
    from pascal_nm.hw_targets import chip as chips

    described = chips.load(chip, memory=memory)
    graph = evaluation.ranged(graph, data) if described.widths else graph
    (priced,) = bill.Priced.on(graph, {chip: described}, objective, pipelined=pipelined)
    return priced.bills(data)[chip]
