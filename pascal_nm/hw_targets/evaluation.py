"""A whole dataset through a program.

It runs in batches that fit in memory, with progress, and what is reported is added up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pascal_nm.common import memory
from pascal_nm.common.arrays import Array, Shape
from pascal_nm.common.batches import batches
from pascal_nm.data import Dataset, Frames
from pascal_nm.errors import DataError, TargetError
from pascal_nm.network.graph import Graph, Inputs, Pixels, Quantization, merges, normalized
from pascal_nm.network.quantization import quantize, range_of
from pascal_nm.simulation import events, simulate
from pascal_nm.simulation.events import LayerEvents
from pascal_nm.simulation.result import FrameProgram, Program, RunResult
from pascal_nm.simulation.schedule import Schedule
from pascal_nm.simulation.session import thresholded
from pascal_nm.source.tracing import SourceNetwork
from pascal_nm.source.verification import Verification

_LOADS = ("synaptic_operation", "graded_operation", "message", "message_in")
"""The events that say how busy a core is beside its updates."""

Progress = Callable[[int, int], None]

Shown = Dataset | Frames
"""Images that have nothing to do with each other, or frames that follow each other."""

Given = Any
"""These, or images as :func:`pascal_nm.common.batches.batches` takes them, or
:class:`.graph.Pixels`."""


class Batch(NamedTuple):
    """Consecutive images of a dataset, and what a program made of them."""

    inputs: Inputs
    labels: Array
    result: RunResult


class Summary(NamedTuple):
    """What is kept of a batch.

    It is as in :class:`Evaluation`, except that ``right`` counts the correct predictions
    after each timestep.
    """

    predictions: Array
    labels: Array
    events: list[LayerEvents]
    schedule: Schedule
    timesteps: Array
    exact: Array
    right: Array
    injected: Array
    active: Mapping[str, Array]
    loads: Mapping[str, Array]

    @staticmethod
    def of(graph: Graph, batch: Batch) -> Summary:
        """Count what happened, and let go of every neuron's spikes."""
        result, labels = batch.result, batch.labels
        counted = events.count(graph, result) if result.activity else []
        right = np.zeros(0) if result.answers is None else (result.answers == labels[:, None]).sum(0)
        loads = {} if result.cores is None else {event: result.cores.by_core(event) for event in _LOADS}
        injected = np.full(len(labels), graph.input.size)
        if result.schedule.sparse:
            injected = result.spikes[graph.input.name].reshape(len(labels), -1).sum(1, dtype=np.int64)
        return Summary(
            *(result.predictions, labels, counted, result.schedule, result.timesteps, result.exact),
            *(right, injected, _active(graph, result), loads),
        )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a program did with a dataset.

    Attributes:
        predictions: class of each image, (N,).
        labels: the true classes, (N,).
        events: counted events by population, per image; empty for an engine that does not count.
        schedule: the windows of one image.
        timesteps: until the answer was final, or the image was stopped, (N,).
        exact: images whose answer is final, and so the source network's, (N,).
        loads: what each core of a chip did, each of :data:`_LOADS` by its name, (N, cores); empty
            where the network is on none.
        accuracy_over_time: share of correct predictions after each timestep, (steps,); empty for an
            engine without timesteps.
        injected: values of the input that were sent for each image, (N,).
        active: by layer, the share of its neurons that sent something for each image, (N,).
    """

    predictions: Array
    labels: Array
    events: list[LayerEvents]
    schedule: Schedule
    timesteps: Array
    exact: Array
    accuracy_over_time: Array
    injected: Array
    active: Mapping[str, Array] = field(default_factory=dict)
    loads: Mapping[str, Array] = field(default_factory=dict)

    @property
    def operations(self) -> float:
        """Operations in synapses of all that is sent, mean of an image."""
        return sum(float(np.mean(layer.operations)) for layer in self.events)

    @property
    def core_operations(self) -> Array:
        """The same on each core of a chip, (cores,)."""
        return np.asarray((self.loads["synaptic_operation"] + self.loads["graded_operation"]).mean(0))

    @property
    def accuracy(self) -> float:
        """Share of correct predictions; NaN where there are no labels."""
        return float(np.mean(self.predictions == self.labels)) if self.labelled else math.nan

    def unlike(self, expected: Array) -> int:
        """How many of the final predictions are not those expected, (N,)."""
        return int(np.count_nonzero((self.predictions != expected) & self.exact))

    @property
    def labelled(self) -> bool:
        """Whether there are labels to be right about: frames have none mostly."""
        return bool((self.labels >= 0).all())

    def spike_rates(self, graph: Graph) -> dict[str, float]:
        """Spikes that a neuron sends for an image, mean over each spiking population.

        The populations are those of the graph that ran. It is the paper's Figure 4.
        """
        emitted = {layer.name: float(layer.emitted.mean()) for layer in self.events}
        return {p.name: emitted[p.name] / p.size for p in graph.senders}

    @staticmethod
    def of(graph: Graph, batches: Iterator[Batch]) -> Evaluation:
        """Add up batches as they come; their spike counts are not kept."""
        return Evaluation.join([Summary.of(graph, batch) for batch in batches])

    @staticmethod
    def join(parts: Sequence[Summary]) -> Evaluation:
        """The summaries of consecutive batches, at least one, as one."""
        labels = np.concatenate([part.labels for part in parts])
        return Evaluation(
            np.concatenate([part.predictions for part in parts]),
            labels,
            [LayerEvents.join(layers) for layers in zip(*(part.events for part in parts), strict=True)],
            parts[0].schedule,
            np.concatenate([part.timesteps for part in parts]),
            np.concatenate([part.exact for part in parts]),
            np.sum([part.right for part in parts], 0) / len(labels),
            np.concatenate([part.injected for part in parts]),
            {name: np.concatenate([part.active[name] for part in parts]) for name in parts[0].active},
            {event: np.concatenate([part.loads[event] for part in parts]) for event in parts[0].loads},
        )


def _active(graph: Graph, result: RunResult) -> dict[str, Array]:
    """By layer, the share of its neurons that sent something, (N,)."""
    spikes = {p.name: result.spikes[p.name].reshape(len(result.predictions), -1) for p in graph.senders}
    return {name: np.count_nonzero(sent, axis=1) / sent.shape[1] for name, sent in spikes.items()}


def batch_images(graph: Graph) -> int:
    """Images that run together, by memory."""
    return memory.batch_size(sum(p.size for p in graph.populations), memory.KEPT)


def shown(data: Given, size: int, progress: Progress | None = None) -> Iterator[tuple[Array, Array]]:
    """Pixels or inputs of a dataset with labels, -1 where there are none, ``size`` at a time.

    ``progress`` is told of those that the caller is done with, where it is known how many there
    are.
    """
    done, images = 0, len(data) if isinstance(data, Shown) else 0
    if progress is not None and images:
        progress(0, images)
    for values, labels in batches(data, size=size):
        yield values, np.full(len(values), -1, np.int64) if labels is None else labels
        done += len(values)
        if progress is not None and images:
            progress(done, images)


def run_batches(
    program: Program,
    data: Given,
    *,
    size: int | None = None,
    threshold: float = 0,
    progress: Progress | None = None,
) -> Iterator[Batch]:
    """Run images or frames batch by batch.

    Args:
        program: from a target's ``compile``.
        data: images of the network's shape, as people have them; or frames, each of which goes on
            from the state that the one before it left, where the schedule keeps some.
        size: images of a batch; None chooses by memory.
        threshold: of frames: changes of a pixel up to this are left out, and each batch has the
            pixels that were shown instead.
        progress: called with (images done, images in all).

    Raises:
        DataError: the images or labels do not fit the network, or the graph does not say how
            pixels become inputs.
        TargetError: the target failed.
    """
    size = size or batch_images(program.graph)
    if isinstance(data, Frames):
        yield from _run_frames(program, data, size, threshold, progress)
        return
    for inputs, labels in as_shown(program.graph, data, size, threshold, progress):
        yield Batch(inputs, labels, program.run(inputs))


def as_shown(
    graph: Graph, data: Given, size: int, threshold: float = 0, progress: Progress | None = None
) -> Iterator[tuple[Inputs, Array]]:
    """A dataset as the network takes it with its labels, small changes of frames left out.

    Raises:
        DataError: as :func:`run_batches`.
    """
    check(graph, data)
    if isinstance(data, Pixels):
        for first in range(0, len(data), size):
            some = data[first : first + size]
            yield graph.taken(some), np.full(len(some), -1, np.int64)
        return
    last, done = None, 0
    for values, labels in shown(data, size, progress):
        if isinstance(data, Frames):
            values = thresholded(values, None if done in data.starts else last, threshold)
            last, done = values[-1], done + len(values)
        check_labels(labels, graph.output.size, "the data")
        yield graph.taken(graph.pixels(values) if isinstance(data, Frames) else values), labels


def _run_frames(
    program: Program, frames: Frames, size: int, threshold: float, progress: Progress | None
) -> Iterator[Batch]:
    if not isinstance(program, FrameProgram):
        raise TargetError("this target runs images, and no frames: choose torch, lava or loihi")
    session, done = program.session(), 0
    for inputs, labels in as_shown(program.graph, frames, size, threshold, progress):
        if done in frames.starts:
            session.reset()
        done += len(labels)
        yield Batch(inputs, labels, session.run(inputs))


def run_batch(program: Program, values: Array, labels: Array) -> Batch:
    """Run some images."""
    inputs = program.graph.taken(values)
    return Batch(inputs, labels, program.run(inputs))


def evaluate(
    program: Program,
    data: Given,
    *,
    size: int | None = None,
    threshold: float = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Run images and add up accuracy and events; arguments and errors as :func:`run_batches`."""
    batches = run_batches(program, data, size=size, threshold=threshold, progress=progress)
    return Evaluation.of(program.graph, batches)


def verify(
    source: SourceNetwork,
    reference: Graph,
    program: Program,
    data: Given,
    *,
    given: Graph | None = None,
    threshold: float = 0,
    progress: Progress | None = None,
) -> tuple[Verification, Evaluation]:
    """Compare a program with its source network on a dataset.

    A float program is compared with the source network, every level and every output. An integer
    program is compared, bit for bit, with the integer QCFS network that the graph's own recipe of
    quantization (8 bits where it has none) makes of ``reference``, evaluated in closed form.

    Args:
        source: the source network.
        reference: the graph converted from it.
        program: the program under test; its graph should be ``reference``, or that quantized.
        data: images.
        given: the graph from which the program was made, which is compared with ``reference``, too:
            what quantization rounds away would be overlooked otherwise.
        threshold: as :func:`run_batches` takes it; the source network gets what is shown.
        progress: called with (images done, images in all).

    Raises:
        DataError: as :func:`run_batches`.
        TargetError: the target failed.
    """
    integer, made = program.graph.is_integer, program.graph.quantization or Quantization()
    reference = reference.replace(input_range=_range(program.graph) if integer else None)
    expected = (quantize(reference, made) if integer else reference).replace(timing=program.graph.timing)
    verification = Verification(differences=expected.differences(program.graph))
    if given is not None and integer and not given.is_integer:
        verification.differences[:0] = reference.replace(timing=given.timing).differences(given)

    alike = _layers(expected) == _layers(program.graph)

    def compared() -> Iterator[Batch]:
        for batch in run_batches(program, data, threshold=threshold, progress=progress):
            inputs = normalized(batch.inputs)
            if not alike:
                verification.add_answers(source(inputs), batch.result)
            elif integer:
                wanted = simulate.counts(expected, batch.inputs)
                verification.add_integer(wanted, batch.result, source(inputs), f"{made} weights")
            else:
                verification.add_float(source, expected, batch.result, inputs)
            yield batch

    evaluation = Evaluation.of(program.graph, compared())
    return verification, evaluation


def ranged(graph: Graph, data: Given) -> Graph:
    """A network as it can be quantized: with the range of its inputs in the data, if need be.

    Raises:
        DataError: the data does not fit the network, or can be gone through only once.
    """
    if graph.is_integer or graph.input_range is not None or graph.preprocessing is not None:
        return graph
    if isinstance(data, Iterator):
        raise DataError(
            "the range of the network's inputs is taken from the data, which can be gone through only once: give a "
            "loader, or quantize before, with input_range="
        )
    return graph.replace(input_range=range_of(graph, data))


def _range(graph: Graph) -> float | None:
    """The range of inputs for which a network was quantized; None: that of its preprocessing."""
    if graph.input_range is not None or graph.preprocessing is not None:
        return graph.input_range
    return graph.input.levels * float(graph.input.threshold.max())


def _layers(graph: Graph) -> list[tuple[str, Shape]]:
    return [(p.name, p.shape) for p in graph.populations]


def summary(verification: Verification, result: Evaluation) -> dict[str, Any]:
    """What :func:`verify` found, for JSON; accuracies are None of frames without labels."""
    right = verification.source_predictions == result.labels
    return {
        "exact": verification.exact,
        "equal_up_to_rounding": verification.equal,
        "verdict": verification.verdict,
        "arithmetic": verification.arithmetic,
        "images": verification.images,
        "culprit": verification.culprit,
        "differences": verification.differences,
        "not_compared": list(verification.taken),
        "prediction_mismatches": verification.prediction_mismatches,
        "integer_mismatches": verification.integer_mismatches,
        "levels_flipped": verification.flips,
        "output_difference": verification.output_difference,
        "probability_difference": verification.probability_difference,
        "layers": [vars(layer) for layer in verification.layers.values()],
        "source_accuracy": float(np.mean(right)) if result.labelled else None,
        "accuracy": result.accuracy if result.labelled else None,
        "predictions_unlike_source": int(np.count_nonzero(verification.source_predictions != result.predictions)),
    }


def frame_summary(graph: Graph, frames: Frames, result: Evaluation) -> dict[str, Any]:
    """Per frame, for JSON; the first frame of a sequence comes from rest."""
    dense = events.dense_operations(graph)
    operations = np.sum([layer.arithmetic for layer in result.events], 0)
    later = np.delete(operations, frames.starts)
    return {
        "frames": len(frames),
        "sequences": len(frames.starts),
        "frames_a_second": frames.rate,
        "state_kept": result.schedule.kept,
        "values_changed": float(result.injected.mean()) / graph.input.size,
        "operations_a_frame": float(operations.mean()),
        "operations_a_first_frame": float(operations[list(frames.starts)].mean()),
        "operations_a_later_frame": float(later.mean()) if later.size else None,
        "dense_operations_a_frame": dense,
        "operations_over_dense": float(operations.mean()) / dense,
        "each_frame": {
            "prediction": result.predictions.tolist(),
            "values_changed": (result.injected / graph.input.size).tolist(),
            "operations": operations.tolist(),
            "timesteps": result.timesteps.tolist(),
        },
    }


def inputs(graph: Graph, data: Given, progress: Progress | None = None) -> Iterator[Inputs]:
    """A dataset as the network takes it, a batch at a time.

    Args:
        graph: the network.
        data: images of its shape.
        progress: called with (images done, images in all).

    Raises:
        DataError: as :func:`run_batches`.
    """
    return (taken for taken, _ in as_shown(graph, data, batch_images(graph), progress=progress))


def predictions(graph: Graph, data: Shown, threshold: float = 0) -> Array:
    """The classes that a network gives, (N,), in closed form."""
    shown_to = as_shown(graph, data, batch_images(graph), threshold)
    return np.concatenate([simulate.counts(graph, x).predictions for x, _ in shown_to])


def changed_by_quantization(
    graph: Graph, program: Program, result: Evaluation, data: Shown, threshold: float = 0
) -> int | None:
    """How many of a float network's predictions its quantized form changed; None if it has none.

    Answers that were taken before they were final are not counted.
    """
    if graph.is_integer or not program.graph.is_integer or not result.exact.any():
        return None
    return result.unlike(predictions(graph, data, threshold))


def check(graph: Graph, data: Given) -> None:
    """Refuse images or frames that the network was not made for; of other data each batch is seen.

    Raises:
        DataError: says in what they differ.
    """
    if not isinstance(data, Shown):
        return
    if not merges(data.shape, graph.input.shape):
        raise DataError(f"the network takes images of shape {graph.input.shape}, those of {data.name} are {data.shape}")
    pre = graph.preprocessing
    if isinstance(data, Dataset) and data.known is not None and pre not in (None, data.known):
        raise DataError(f"{data.name} says mean and std of its own, and the network has others: leave them out there")
    if not (isinstance(data, Dataset) and data.preprocessed):
        pre = graph.pixels(data.pixels[:0]).preprocessing
        if data.scale not in (None, pre.scale):
            raise DataError(
                f"pixels of {data.name} go up to {data.scale:g}, those that the network was made for up to "
                f"{pre.scale:g}"
            )
    if data.labels is not None:
        check_labels(data.labels, graph.output.size, data.name)


def check_labels(labels: Array, outputs: int, name: str) -> None:
    """Refuse labels that no output stands for.

    Raises:
        DataError: names the largest label.
    """
    if int(labels.max()) >= outputs:
        raise DataError(f"{name} has label {int(labels.max())}, but the network has {outputs} outputs")
