"""NIR graphs that other tools wrote, and our profiles for other tools, run on data: in torch, or in Lava.

An image is shown as a constant current for some timesteps; what the output node gives is added up over them, and the largest sum is the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import nir
import numpy as np
import torch
from torch import Tensor, nn

from pascal_nm.data import Dataset
from pascal_nm.errors import DataError, GraphError, TargetError, first_line
from pascal_nm.export import nir_modules
from pascal_nm.export.nir_modules import Reading
from pascal_nm.graph import Array, Shape

BATCH_VALUES = 1 << 24
"""Values that all nodes of one batch may send in a timestep."""

BATCH_IMAGES = 250
"""The most images of a batch."""


@dataclass(frozen=True, eq=False)
class NirResult:
    """What N images gave.

    Attributes:
        outputs: sums of the output node over all timesteps, (N, outputs).
        counts: spikes of each neuron by spiking node, (N, *shape), integers.
    """

    outputs: Array
    counts: Mapping[str, Array]

    @property
    def predictions(self) -> Array:
        """The output with the largest sum, (N,); the first of equals."""
        return np.asarray(self.outputs.argmax(1))

    @property
    def spikes(self) -> dict[str, Array]:
        """Spikes of each image by spiking node, (N,)."""
        return {name: count.reshape(len(count), -1).sum(1, dtype=np.int64) for name, count in self.counts.items()}


class NirProgram:
    """A NIR graph ready to run.

    Args:
        raw: the graph.
        timesteps: for how long an image is shown.
        reading: what the file leaves to its reader.
        target: ``torch`` or ``lava``.
        dtype: to compute in.

    Raises:
        GraphError: the graph cannot run; the message names the node.
        TargetError: unknown target, a number of timesteps below 1, or a part that Lava does not take.

    Attributes:
        input_shape: shape of one input.
        network: the graph in torch.
        shapes: what each node between input and output sends, without the batch, by its name.
    """

    def __init__(
        self,
        raw: nir.NIRGraph,
        timesteps: int,
        reading: Reading | None = None,
        target: str = "torch",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if timesteps < 1:
            raise TargetError(f"an image is shown for at least one timestep, not {timesteps}")
        if target not in ("torch", "lava"):
            raise TargetError(f"a NIR file without PASC metadata runs on torch or lava, not on {target!r}")
        self.raw, self.timesteps, self.target, self.dtype = nir_modules.renamed(raw), timesteps, target, dtype
        self.input_shape = nir_modules.input_shape(raw)
        self.network = nir_modules.to_torch(self.raw, reading, dtype)
        self.shapes = _shapes(self.network, self.input_shape, dtype)
        if target == "lava":
            self._fits_lava()

    def _fits_lava(self) -> None:
        from pascal_nm.process_models import compat  # noqa: F401  # fails here, with advice, where Lava is missing

        for name, node in self.raw.nodes.items():
            if isinstance(node, nir.NIRGraph):
                raise TargetError(f"Lava runs flat graphs; {name} is a graph of its own: use --target torch")

    @property
    def batch_size(self) -> int:
        """Images that run together."""
        return min(BATCH_IMAGES, max(1, BATCH_VALUES // sum(math.prod(shape) for shape in self.shapes.values())))

    def run(self, inputs: Array) -> NirResult:
        """Show N inputs, (N, *shape) with as many values as the input node takes.

        Raises:
            DataError: inputs of another size.
            TargetError: a child process of Lava failed.
        """
        if math.prod(inputs.shape[1:]) != math.prod(self.input_shape):
            raise DataError(f"the network takes inputs of shape {self.input_shape}, the data has {inputs.shape[1:]}")
        given = torch.from_numpy(inputs.reshape(len(inputs), *self.input_shape)).to(self.dtype)
        with torch.no_grad():
            return _torch(self, given) if self.target == "torch" else _lava(self, given)


def _shapes(network: nn.Module, shape: Shape, dtype: torch.dtype) -> dict[str, Shape]:
    """What each node sends, without the batch, by the name of its module.

    Raises:
        GraphError: shapes of neighbours do not fit.
    """
    shapes: dict[str, Shape] = {}
    at = ["input"]

    def before(name: str) -> Callable[..., None]:
        return lambda module, arguments: at.__setitem__(0, name)

    def after(name: str) -> Callable[..., None]:
        def note(module: nn.Module, arguments: object, output: Tensor | tuple[Tensor, object]) -> None:
            sent = output[0] if isinstance(output, tuple) else output
            shapes[name] = tuple(sent.shape[1:])

        return note

    inner = [(name, module) for name, module in network.named_modules() if not list(module.children())]
    hooks = [m.register_forward_pre_hook(before(name)) for name, m in inner]
    hooks += [m.register_forward_hook(after(name)) for name, m in inner]
    try:
        with torch.no_grad():
            network(torch.zeros(1, *shape, dtype=dtype))
    except (RuntimeError, IndexError, ValueError) as error:
        raise GraphError(f"node {at[0]!r} does not fit what reaches it: {first_line(error)}") from error
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def _torch(program: NirProgram, inputs: Tensor) -> NirResult:
    network, counts = program.network, dict[str, Tensor]()

    def counting(name: str) -> Callable[..., None]:
        def add(module: nn.Module, arguments: object, output: tuple[Tensor, object]) -> None:
            counts[name] = counts.get(name, torch.zeros_like(output[0])) + output[0]

        return add

    hooks = [module.register_forward_hook(counting(name)) for name, module in nir_modules.neurons(network)]
    try:
        state, total = None, None
        for _ in range(program.timesteps):
            output, state = network(inputs, state)
            total = output if total is None else total + output
    finally:
        for hook in hooks:
            hook.remove()
    assert total is not None, "NirProgram refuses less than one timestep"
    return NirResult(total.flatten(1).numpy(), {name: count.to(torch.int32).numpy() for name, count in counts.items()})


def _lava(program: NirProgram, inputs: Tensor) -> NirResult:
    from pascal_nm.process_models.compat import forget, making
    from pascal_nm.process_models.nir_network import NirNetwork
    from pascal_nm.process_models.runtime import Session

    modules = {name: program.network.get_submodule(name) for name in program.shapes}
    firing = {name for name, _ in nir_modules.neurons(program.network)}
    with making():
        network = NirNetwork(program.raw, modules, program.shapes, firing, inputs.numpy(), program.timesteps)
    try:
        with Session(network.entry, tag="floating_pt") as session:
            session.run(program.timesteps)
    finally:
        forget(network.processes)
    return NirResult(network.outputs, network.counts)


@dataclass(frozen=True, eq=False)
class NirEvaluation:
    """What a program did with a dataset.

    Attributes:
        predictions: class of each image, (N,).
        labels: the true classes, (N,).
        spikes: by spiking node, mean over the images.
    """

    predictions: Array
    labels: Array
    spikes: Mapping[str, float]

    @property
    def accuracy(self) -> float:
        """Share of correct predictions."""
        return float(np.mean(self.predictions == self.labels))


def evaluate(
    program: NirProgram,
    data: Dataset,
    inputs: Callable[[Array], Array],
    progress: Callable[[int, int], None] | None = None,
) -> NirEvaluation:
    """Run a dataset.

    Args:
        program: the network.
        data: images.
        inputs: what is shown for pixels (N, C, H, W).
        progress: called with (images done, images in all).

    Raises:
        DataError: images of another size, or more labels than outputs.
        TargetError: Lava failed.
    """
    predictions: list[Array] = []
    spikes: dict[str, int] = {}
    for pixels, labels in data.batches(program.batch_size):
        result = program.run(inputs(pixels))
        if int(labels.max()) >= result.outputs.shape[1]:
            raise DataError(
                f"{data.name} has label {labels.max()}, but the network has {result.outputs.shape[1]} outputs"
            )
        predictions.append(result.predictions)
        for name, counted in result.spikes.items():
            spikes[name] = spikes.get(name, 0) + int(counted.sum())
        if progress is not None:
            progress(sum(map(len, predictions)), len(data))
    means = {name: count / len(data) for name, count in spikes.items()}
    return NirEvaluation(np.concatenate(predictions), data.labels, means)
