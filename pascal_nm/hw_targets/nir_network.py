"""NIR graphs of other tools, and our profiles for other tools, run on data in torch or in Lava.

An image is shown as a constant current for some timesteps, an input that changes as it is, an entry
in each; what the output node gives is added up over them, and the largest sum is the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import nir
import numpy as np
import torch
from torch import Tensor, nn

from pascal_nm.common import memory
from pascal_nm.common.arrays import Array, Shape
from pascal_nm.data import Dataset
from pascal_nm.errors import DataError, TargetError
from pascal_nm.export import nir_modules
from pascal_nm.export.nir_modules import Reading
from pascal_nm.hw_targets import evaluation
from pascal_nm.hw_targets.evaluation import Progress

_MOST_TIMESTEPS = 2**15 - 1
"""For how long an image is shown at most: a neuron's spikes are counted in 16 bits."""

_MOST_PROCESSES = 500
"""The most nodes of a graph in Lava, where each is a process of the system."""


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
        TargetError: unknown target, a number of timesteps below 1, or a part that
            Lava does not take.

    Attributes:
        input_shape: shape of one input.
        network: the graph in torch.
        plan: the order of the nodes, and what each of them sends.
        reading: what was taken for what the file leaves open.
    """

    def __init__(
        self,
        raw: nir.NIRGraph,
        timesteps: int,
        reading: Reading | None = None,
        target: str = "torch",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not 1 <= timesteps <= _MOST_TIMESTEPS:
            raise TargetError(
                f"an image is shown for at least one timestep, not {timesteps}, and for {_MOST_TIMESTEPS:,} at most"
            )
        if target not in ("torch", "lava"):
            raise TargetError(f"a NIR file without PASC metadata runs on torch or lava, not on {target!r}")
        self.raw, self.timesteps, self.target, self.dtype = raw, timesteps, target, dtype
        self.network = nir_modules.to_torch(raw, reading, dtype)
        self.plan = self.network.plan
        self.reading = self.network.reading
        self.input_shape = self.plan.shapes[self.plan.source]
        if target == "lava":
            self._fits_lava()

    def _fits_lava(self) -> None:
        from pascal_nm.process_models import compat  # noqa: F401  # fails here, with advice, where Lava is missing

        if len(self.plan.order) > _MOST_PROCESSES:
            raise TargetError(
                f"Lava starts a process for each of {len(self.plan.order):,} nodes, "
                f"more than {_MOST_PROCESSES}: use --target torch"
            )

    @property
    def batch_size(self) -> int:
        """Images that run together."""
        return memory.batch_size(self.plan.values, memory.TRAIN)

    def run(self, inputs: Array) -> NirResult:
        """Show N inputs (N, *shape), or (N, T, *shape), of which one in each timestep.

        Axes of 1 do not count, and if the node takes one axis, all may be in it.

        Raises:
            DataError: inputs of another size, or whose axes would have to be changed; fewer entries
                than timesteps.
            TargetError: values that are not finite, or a child process of Lava that failed.
        """
        there = over_time(inputs.shape[1:], self.input_shape)
        if there is not None and there < self.timesteps:
            raise DataError(f"the data has {there} timesteps, {self.timesteps} are to be run")
        over = inputs[:, None] if there is None else inputs[:, : self.timesteps]
        shape = (len(inputs), over.shape[1], *self.input_shape)
        given = torch.from_numpy(np.ascontiguousarray(over.reshape(shape).swapaxes(0, 1))).to(self.dtype)
        with torch.no_grad():
            result = _torch(self, given) if self.target == "torch" else _lava(self, given)
        if not np.isfinite(result.outputs).all():
            raise TargetError("the network's outputs are not finite: its weights or inputs are too large")
        return result


def over_time(given: Shape, wanted: Shape) -> int | None:
    """Timesteps of inputs (T, *shape) that change; None of one (*shape) that is shown all the time.

    Raises:
        DataError: they are neither.
    """
    if given != wanted and (given[1:] == wanted or not fits(given, wanted)) and fits(given[1:], wanted):
        return given[0]
    if fits(given, wanted):
        return None
    raise DataError(f"the network takes inputs of shape {wanted}, the data has {given}")


def fits(given: Shape, wanted: Shape) -> bool:
    """Whether images of one shape are inputs of another without a guess at the order of axes.

    They are where the shapes are the same but for axes of 1, or all is in one axis.
    """
    return math.prod(given) == math.prod(wanted) and (
        len(wanted) == 1 or [n for n in given if n != 1] == [n for n in wanted if n != 1]
    )


def _torch(program: NirProgram, inputs: Tensor) -> NirResult:
    network, counts = program.network, dict[str, Tensor]()

    def counting(name: str) -> Callable[..., None]:
        def add(module: nn.Module, arguments: object, output: tuple[Tensor, object]) -> None:
            counts[name] = counts.get(name, torch.zeros_like(output[0])) + output[0]

        return add

    hooks = [module.register_forward_hook(counting(name)) for name, module in nir_modules.neurons(network)]
    try:
        state, total = None, None
        for t in range(program.timesteps):
            output, state = network(inputs[min(t, len(inputs) - 1)], state)
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

    firing = {name for name, _ in nir_modules.neurons(program.network)}
    with making():
        network = NirNetwork(program.plan, program.network.nodes, firing, inputs.numpy(), program.timesteps)
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

    @property
    def labelled(self) -> bool:
        """Whether there are labels to be right about."""
        return bool((self.labels >= 0).all())


def evaluate(
    program: NirProgram,
    data: Dataset,
    inputs: Callable[[Array], Array],
    progress: Progress | None = None,
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
    for pixels, labels in evaluation.shown(data, program.batch_size, progress):
        result = program.run(inputs(pixels))
        if int(labels.max()) >= result.outputs.shape[1]:
            raise DataError(
                f"{data.name} has label {labels.max()}, but the network has {result.outputs.shape[1]} outputs"
            )
        predictions.append(result.predictions)
        for name, counted in result.spikes.items():
            spikes[name] = spikes.get(name, 0) + int(counted.sum())
    means = {name: count / len(data) for name, count in spikes.items()}
    return NirEvaluation(np.concatenate(predictions), data.labels, means)
