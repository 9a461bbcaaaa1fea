"""Everything that a report says, as one dictionary of plain values.

It is the JSON file, and all that the page is made of.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import pascal_nm
from pascal_nm.common.arrays import Array
from pascal_nm.common.files import sha256
from pascal_nm.data import Dataset, Frames
from pascal_nm.errors import PascalError, TargetError
from pascal_nm.hw_targets import compiled, cost, evaluation
from pascal_nm.hw_targets.bill import Bill, Priced
from pascal_nm.hw_targets.chip import Chip
from pascal_nm.hw_targets.choices import choices
from pascal_nm.hw_targets.evaluation import Evaluation, Shown
from pascal_nm.network import summary
from pascal_nm.network.graph import SCHEDULES, Graph, Inputs, Pixels, Timing
from pascal_nm.report.traces import record, trace
from pascal_nm.search import adaptive
from pascal_nm.simulation import schedule
from pascal_nm.simulation.result import FrameProgram, Program, Runner, RunResult
from pascal_nm.source.checkpoint import Model

_Progress = Callable[[str], AbstractContextManager[Callable[..., None]]]
"""A progress bar for the work that is named; :func:`pascal_nm.cli.output.progress`."""

_IMAGES = 6
"""Images or frames that the reader may pick from; at most a third are answered wrongly."""

_NEURONS = 24
"""Neurons of each population whose spikes and potentials are shown, drawn by ``SEED``."""

_SEED = 0

_PIXELS = 48
"""Rows and columns of a thumbnail at most: larger images are thinned."""

_CLUSTERS = 3
"""Clusters of the AL metric, as `adapt` makes them."""


def collect(
    name: str,
    graph: Graph,
    data: Shown,
    described: Mapping[str, Chip],
    model: Model | None,
    progress: _Progress,
    taken: Sequence[str] = (),
    calibration: Dataset | None = None,
    threshold: float = 0,
) -> dict[str, Any]:
    """Run a network in every way that the report shows.

    Args:
        name: of the network.
        graph: the spiking network, with the schedule that it is to run with.
        data: labelled images, or frames.
        described: chips by the names or files that were given.
        model: the source network; None where it is not known.
        progress: a bar for each of the runs.
        taken: what the model does not say and was taken from the network: not compared.
        calibration: training images, from which the AL metric is; None takes ``data``, and of
            frames there is none.
        threshold: of frames, as :func:`.evaluation.run_batches` takes it.

    Raises:
        PascalError: the data or the network do not fit each other, a chip or the source network.
    """
    priced = Priced.on(graph, described, frames=isinstance(data, Frames))
    counting = _Counting(compiled(graph, "torch"))
    certificate = None
    if model is None:
        with progress("running") as update:
            result = evaluation.evaluate(counting, data, threshold=threshold, progress=update)
    else:
        source = model.source()
        reference = model.graph(source)
        with progress("verifying") as update:
            verification, result = evaluation.verify(
                source, reference, counting, data, given=graph, threshold=threshold, progress=update
            )
        verification.taken = tuple(taken)
        certificate = evaluation.summary(verification, result)
    metric = None
    if not isinstance(data, Frames):
        metric = _metric(graph, data, calibration, counting.histograms, progress)
    bills = {name: bill for each in priced for name, bill in _priced(each, data, threshold, progress).items()}
    schedules = [_schedule(*each) for each in _in_every_schedule(graph, data, threshold, result, progress)]
    return {
        "network": _network(name, graph),
        "data": {"name": data.name, "images": len(data), "classes": list(data.classes)},
        "frames": _frames(graph, data, bills, threshold, result) if isinstance(data, Frames) else None,
        "unary": not result.schedule.sparse,
        "accuracy": result.accuracy if result.labelled else None,
        "timesteps": _timesteps(result),
        "spikes_per_image": sum(float(layer.emitted.mean()) for layer in result.events),
        "synaptic_operations_per_image": result.operations,
        "source": certificate,
        "al_metric": metric and {key: metric[key] for key in ("data", "images", "training_images")},
        "layers": _layers(graph, result, counting.histograms, metric and metric["layers"]),
        "images": [
            _image(graph, data, inputs, i) for i, inputs in _shown(graph, data, threshold, _chosen(data, result))
        ],
        "chips": [
            _chip(name, bills[name], graph, result)
            | {"schedules": _by_schedule(graph, chip, data, threshold, progress)}
            for name, chip in described.items()
        ],
        "schedules": schedules,
    }


def _priced(priced: Priced, data: Shown, threshold: float, progress: _Progress) -> dict[str, Bill]:
    with progress(f"counting events, {priced.title}") as update:
        return priced.bills(data, threshold=threshold, progress=update)


def _by_schedule(graph: Graph, chip: Chip, data: Shown, threshold: float, progress: _Progress) -> list[dict[str, Any]]:
    """What a chip takes under each schedule that it can run."""
    with progress(f"every schedule, {chip.name}") as update:
        return [each.summary() for each in choices(graph, chip, data, threshold=threshold, progress=update)]


def _frames(
    graph: Graph, frames: Frames, bills: Mapping[str, Bill], threshold: float, result: Evaluation
) -> dict[str, Any]:
    """What happened frame by frame, with its energy on each chip."""
    found = evaluation.frame_summary(graph, frames, result)
    found["each_frame"] |= {
        "neurons_that_sent": {layer: shares.tolist() for layer, shares in result.active.items()},
        "joules": {name: bill.joules_by_image.tolist() for name, bill in bills.items()},
    }
    return {"starts": list(frames.starts), "threshold": threshold} | found


def provenance(command: str, files: Sequence[Path], model: Model | None) -> dict[str, Any]:
    """What it takes to make the same report again.

    Args:
        command: the command line.
        files: those that were read; a folder, or a name of a dataset, has no checksum
            and is left out.
        model: the source network; None where it is not known.
    """
    packages = ("torch", "numpy", "nir", "plotly")
    source = None if model is None else {"recipe": dict(model.recipe), "data": model.data, "metrics": model.metrics}
    return {
        "command": command,
        "files": {str(path): sha256(path) for path in files if path.is_file()},
        "versions": {"pascal-nm": pascal_nm.__version__, "python": platform.python_version()}
        | {package: metadata.version(package) for package in packages},
        "seed_of_the_neurons_shown": _SEED,
        "source_network": source,
    }


@dataclass
class _Counting:
    """A program that also counts how often each spike count from 0 to L occurred.

    It does so for each ``pasc`` population.
    """

    program: Program
    histograms: dict[str, Array] = field(default_factory=dict)

    @property
    def graph(self) -> Graph:
        """See :class:`pascal_nm.simulation.result.Program`."""
        return self.program.graph

    def run(self, inputs: Inputs) -> RunResult:
        """Run, and count."""
        return self.counted(self.program.run(inputs))

    def session(self) -> Runner:
        """Run frames, and count."""
        if not isinstance(self.program, FrameProgram):
            raise TargetError("this target runs no frames")
        return _CountingRunner(self, self.program.session())

    def counted(self, result: RunResult) -> RunResult:
        """Count the levels of a run."""
        for p in self.graph.spiking:
            found = np.bincount(result.counts[p.name].reshape(-1), minlength=p.levels + 1)
            self.histograms[p.name] = self.histograms.get(p.name, 0) + found
        return result


@dataclass
class _CountingRunner:
    """A session whose levels are counted."""

    counting: _Counting
    runner: Runner

    def run(self, frames: Inputs) -> RunResult:
        """Run, and count."""
        return self.counting.counted(self.runner.run(frames))

    def reset(self) -> None:
        """See :class:`pascal_nm.simulation.result.Runner`."""
        self.runner.reset()


def _network(name: str, graph: Graph) -> dict[str, Any]:
    plan = schedule.of(graph)
    populations = []
    for p in graph.populations:
        window = plan.windows[p.name]
        stages = [{"stage": span.stage.value, "start": span.start, "stop": span.stop} for span in window.spans]
        sources = [
            {"source": q.source, "what": summary.projection(graph, q), "weights": q.operator.weight.size}
            for q in graph.incoming(p.name)
        ]
        populations.append(
            summary.population(graph, p) | {"window": str(window), "stages": stages, "projections": sources}
        )
    return {
        "name": name,
        "arithmetic": "integer" if graph.is_integer else str(graph.dtype),
        "neurons": sum(p.size for p in graph.senders),
        "weights": sum(q.operator.weight.size for q in graph.projections),
        **vars(graph.timing),
        "initiation_interval": plan.initiation_interval,
        "populations": populations,
    }


def _timesteps(result: Evaluation) -> dict[str, float]:
    return {
        "mean": float(result.timesteps.mean()),
        "percentile_99": float(np.percentile(result.timesteps, 99)),
        "max": int(result.timesteps.max()),
    }


def _metric(
    graph: Graph,
    data: Dataset,
    calibration: Dataset | None,
    histograms: Mapping[str, Array],
    progress: _Progress,
) -> dict[str, Any]:
    """The AL metric and cluster of each layer as `adapt` finds them, and their images."""
    if calibration is not None:
        with progress("measuring layers") as update:
            histograms = adaptive.histograms(graph, evaluation.inputs(graph, calibration, update))
    metrics = adaptive.measure(histograms) if histograms else []
    labels = adaptive.cluster([m.metric for m in metrics], _CLUSTERS)
    return {
        "data": data.name if calibration is None else calibration.name,
        "images": len(data) if calibration is None else len(calibration),
        "training_images": calibration is not None,
        "layers": {m.name: (m.metric, label) for m, label in zip(metrics, labels, strict=True)},
    }


def _layers(
    graph: Graph,
    result: Evaluation,
    histograms: Mapping[str, Array],
    adapted: Mapping[str, tuple[float, int]] | None,
) -> list[dict[str, Any]]:
    """The populations but for the input.

    Each has its size and spikes, and where it has levels, how they are used; ``adapted`` gives
    metric and cluster, where they are measured.
    """
    layers = []
    for events in result.events:
        p = graph[events.name]
        layer: dict[str, Any] = {
            "name": p.name,
            "kind": p.kind,
            "sends": p.dynamics.sends,
            "weighted": p.dynamics.weighted,
            "neurons": p.size,
            "weights": sum(q.operator.weight.size for q in graph.incoming(p.name)),
            "spikes_per_neuron": float(events.emitted.mean()) / p.size,
            "synaptic_operations": float(events.operations.mean()),
        }
        if p.name in histograms:
            shares = histograms[p.name] / histograms[p.name].sum()
            layer |= {
                "levels": p.levels,
                "share_of_each_count": shares.tolist(),
                "silent": float(shares[0]),
                "saturated": float(shares[-1]),
            }
        if adapted is not None and p.name in adapted:
            metric, cluster = adapted[p.name]
            layer |= {"al_metric": metric if math.isfinite(metric) else None, "cluster": cluster}
        layers.append(layer)
    return layers


def _chosen(data: Shown, result: Evaluation) -> list[int]:
    """Images to look at: up to a third that are answered wrongly, then the first of each class.

    Frames are as far from each other as they can be.
    """
    if isinstance(data, Frames):
        return sorted({round(i) for i in np.linspace(0, len(data) - 1, _IMAGES).tolist()})
    wrong = np.flatnonzero(result.predictions != result.labels)[: _IMAGES // 3 if result.labelled else 0]
    firsts = np.sort(np.unique(result.labels, return_index=True)[1])
    rest = [i for i in (*firsts, *range(len(result.labels))) if i not in wrong]
    return sorted([*wrong.tolist(), *list(dict.fromkeys(int(i) for i in rest))[: _IMAGES - len(wrong)]])


def _shown(graph: Graph, data: Shown, threshold: float, chosen: Sequence[int]) -> Iterator[tuple[int, Inputs]]:
    """The chosen images or frames as they are shown, (1, *input shape) each."""
    done = 0
    for inputs, labels in evaluation.as_shown(graph, data, evaluation.batch_images(graph), threshold):
        for i in chosen:
            if done <= i < done + len(labels):
                yield i, inputs[i - done : i - done + 1]
        done += len(labels)


def _picture(inputs: Inputs, scale: float | None) -> tuple[Array, float]:
    """What is drawn of one image, (C, H, W) of a moderate size, and its largest value.

    Inputs that are no pixels are moved to 0 and more; a vector is a row.
    """
    values = inputs.values[0] if isinstance(inputs, Pixels) else inputs[0] - inputs[0].min()
    largest = (scale if isinstance(inputs, Pixels) else None) or float(values.max()) or 1.0
    image = values.reshape((1,) * (3 - values.ndim) + values.shape)
    return image[:, :: -(-image.shape[1] // _PIXELS), :: -(-image.shape[2] // _PIXELS)], largest


def _image(graph: Graph, data: Shown, inputs: Inputs, i: int) -> dict[str, Any]:
    """One image: its pixels, its answer over time, and what some neurons of each population do.

    A frame is run from rest, as an image by itself.
    """
    result, recording = record(graph, inputs)
    small, scale = _picture(inputs, data.scale)
    assert result.answers is not None, "the simulator has timesteps"
    steps, logits = int(result.timesteps[0]), result.logits[0]
    rng, layers = np.random.default_rng(_SEED), []
    for p in graph.populations:
        if p.dynamics.injects:
            continue
        if p.dynamics.reads_out:
            outputs = logits[graph.columns[p.name]]
            neurons = np.sort(np.argsort(-outputs, kind="stable")[:_NEURONS])
        else:
            neurons = np.sort(rng.choice(p.size, min(_NEURONS, p.size), replace=False))
        stateless = p.dynamics.relays or p.dynamics.adds
        found = None if stateless else trace(graph, result, recording, p.name, neurons)
        shown: list[dict[str, Any]] = []
        kind = np.int16 if p.dynamics.counted else graph.dtype
        sent = None if p.dynamics.reads_out else recording.sent(p.name, neurons, steps, kind)
        for n, number in enumerate(neurons.tolist()):
            one: dict[str, Any] = {"neuron": [int(place) for place in np.unravel_index(number, p.shape)]}
            if sent is not None:
                one |= {"spikes": _when(sent[:, n] > 0), "taken_back": _when(sent[:, n] < 0)}
                if result.schedule.windows[p.name].graded or p.dynamics.graded:
                    one["numbers"] = sent[sent[:, n] != 0, n].tolist()
            if found is not None:
                one |= {
                    "potential": np.round(found.potential[:, n].astype(float), 4).tolist(),
                    "counter": found.counter[:, n].tolist(),
                    "up": _when(found.inside[:, n] > 0),
                    "down": _when(found.inside[:, n] < 0),
                }
            shown.append(one)
        facts = {"sends": p.dynamics.sends, "answers": p is graph.output, "levels": p.levels}
        layers.append({"name": p.name, "kind": p.kind, **facts, "neurons": shown})
    return {
        "image": i,
        "label": None if data.labels is None or data.labels[i] < 0 else int(data.labels[i]),
        "prediction": int(result.predictions[0]),
        "timesteps": steps,
        "answer_after_each_timestep": result.answers[0, :steps].tolist(),
        "spikes": sum(int(activity.emitted[0]) for activity in result.activity.values()),
        "scale": scale,
        "pixels": small.tolist(),
        "layers": layers,
    }


def _when(fired: Array) -> list[int]:
    return [int(t) for t in np.flatnonzero(fired)]


def _chip(name: str, bill: Bill, graph: Graph, result: Evaluation) -> dict[str, Any]:
    """What one chip costs, and which of its cores do it.

    Where it runs other numbers, also what became of the answers.
    """
    content = bill.summary()
    quantized = bill.graph.is_integer and not graph.is_integer
    changed = int(np.count_nonzero(bill.result.predictions != result.predictions)) if quantized else None
    content["predictions_changed_by_quantization"] = changed
    for layer, energy in zip(content["layers"], bill.layers, strict=True):
        layer["core_seconds"] = cost.core_seconds([energy.events], bill.chip) if bill.chip.latency else None
    cores = None
    if (placement := bill.placement) is not None:
        layers = [layer for layer, blocks in placement.blocks.items() for _ in range(blocks.cores)]
        columns, rows = placement.places.T.tolist()
        cores = {
            "chips": placement.chips,
            "layer": layers,
            "column": columns,
            "row": rows,
            "neurons": np.concatenate([blocks.sizes for blocks in placement.blocks.values()]).tolist(),
            "synaptic_operations": bill.result.core_operations.tolist(),
            "messages_out": bill.result.loads["message"].mean(0).tolist(),
        }
    arithmetic = "integer" if bill.graph.is_integer else str(bill.graph.dtype)
    return {"name": name, "arithmetic": arithmetic} | content | {"cores": cores}


def _in_every_schedule(
    graph: Graph, data: Shown, threshold: float, result: Evaluation, progress: _Progress
) -> Iterator[tuple[Graph, Evaluation | str]]:
    """The same network under each schedule, or why it has none; its own has been run."""
    for each in SCHEDULES:
        if each == graph.timing.schedule:
            yield graph, result
            continue
        other = graph.replace(timing=Timing(each))
        try:
            program = compiled(other, "torch")
            schedule.of(other)
        except PascalError as error:
            yield other, str(error)
            continue
        with progress(f"running, {each}") as update:
            yield other, evaluation.evaluate(program, data, threshold=threshold, progress=update)


def _schedule(graph: Graph, result: Evaluation | str) -> dict[str, Any]:
    if isinstance(result, str):
        return {**vars(graph.timing), "refused": result}
    steps = int(result.timesteps.max())
    final = result.exact[None] & (result.timesteps[None] <= np.arange(1, steps + 1)[:, None])
    return {
        **vars(graph.timing),
        "accuracy_over_time": result.accuracy_over_time[:steps].tolist() if result.labelled else [],
        "certified_over_time": final.mean(1).tolist(),
        "certified": float(result.exact.mean()),
        "accuracy": result.accuracy if result.labelled else None,
        "timesteps": _timesteps(result),
        "spikes_per_image": sum(float(layer.emitted.mean()) for layer in result.events),
    }
