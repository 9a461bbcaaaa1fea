"""What `run` and `inspect` do with NIR files that are not ours alone.

They are files of other tools, and for other tools.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

import numpy as np

from pascal_nm.cli import plots
from pascal_nm.cli.output import percent, print_json, progress, say, table
from pascal_nm.common.arrays import Array, Shape
from pascal_nm.common.files import write_answers
from pascal_nm.data import Dataset, Frames, load_frames
from pascal_nm.errors import DataError, FileError, GraphError
from pascal_nm.export import nir_modules, nir_nodes
from pascal_nm.export.nir_format import OtherNir
from pascal_nm.export.nir_modules import Per, Reading
from pascal_nm.export.nir_neuron import Current, Reset
from pascal_nm.export.nir_nodes import CannotRunError
from pascal_nm.export.profile import Profile
from pascal_nm.hw_targets import nir_network
from pascal_nm.hw_targets.evaluation import Evaluation
from pascal_nm.hw_targets.nir_network import NirEvaluation, NirProgram
from pascal_nm.network.graph import Preprocessing


class Wishes(NamedTuple):
    """What the user said about a file that does not say it itself; None where nothing was said.

    Attributes:
        timesteps: for how long an image is shown.
        dt: length of a timestep.
        reset: ``zero`` or ``subtract``.
        preprocessing: how pixels become inputs.
        per: what ``r`` of ``IF`` and ``I`` is of, ``timestep`` or ``unit``.
        current: of a synapse, that its neuron takes: ``last`` or ``new``.
    """

    timesteps: int | None
    dt: float | None
    reset: str | None
    preprocessing: Preprocessing | None
    per: str | None = None
    current: str | None = None

    def refuse_for(self, what: str, *names: str) -> None:
        """Refuse wishes that a kind of file leaves no room for.

        Raises:
            DataError: one of ``names`` was given.
        """
        options = {
            "timesteps": "--timesteps",
            "dt": "--dt",
            "reset": "--reset",
            "preprocessing": "--mean and --std",
            "per": "--r-per",
            "current": "--current",
        }
        for name in names:
            if getattr(self, name) is not None:
                raise DataError(f"{options[name]}: {what}")


def run(file: OtherNir, target: str, data: Dataset, wishes: Wishes, output: Path | None, *, as_json: bool) -> None:
    """Run what a file holds on images and say how it did.

    Predictions and labels are written to ``output``.
    """
    path, profile = file.path, file.profile
    if profile is not None:
        wishes.refuse_for(f"{path} says that itself", "dt", "preprocessing", "per", "current")
        if wishes.timesteps not in (None, profile.timesteps):
            raise DataError(
                f"{path} was made for {profile.timesteps} timestep(s), and is another network with another number"
            )
    wishes = wishes._replace(reset=wishes.reset or ("subtract" if file.form == "rate" else "zero"))
    there = _over_time(file, data)
    program = _program(file, target, wishes._replace(timesteps=wishes.timesteps or there))
    shown, how = _inputs(profile, wishes, data, changing=there is not None)
    start = time.perf_counter()
    with progress(f"running on {target}") as update:
        result = nir_network.evaluate(program, data, shown, update)
    seconds = time.perf_counter() - start
    read = program.reading.words(program.plan)
    if output is not None:
        write_answers(output, result.predictions, result.labels)
    content = {
        "network": str(path),
        "profile": file.form,
        "target": target,
        "data": data.name,
        "images": len(data),
        "inputs": how,
        "accuracy": result.accuracy if result.labelled else None,
        "timesteps": program.timesteps,
        "reset": wishes.reset,
        "read": read,
        "spikes_per_image": sum(result.spikes.values()),
        "spikes_by_node": dict(result.spikes),
        "images_per_second": len(data) / seconds,
    }
    if as_json:
        print_json(content)
        return
    steps = f"{program.timesteps} timestep{'s' if program.timesteps > 1 else ''}"
    say_right(result, data, f"on {target} ({_kind(file)}, {steps}, reset: {wishes.reset})")
    say(f"per image: {content['spikes_per_image']:,.0f} spikes; {content['images_per_second']:,.0f} images a second")
    say(f"inputs: {how}")
    for line in read:
        say(f"read: {line}")


def sequences(file: OtherNir, frames: str, limit: int | None) -> Dataset:
    """The sequences of --frames, each an input that changes over time.

    Pixels of images are from 0 to 1, events are counts.

    Raises:
        FileError: the graph takes no input.
        DataError: no frames that it takes, or sequences of different lengths.
    """
    if file.profile is not None:
        raise DataError(f"--frames: {file.path} shows one image for {file.profile.timesteps} timestep(s)")
    shape = _input_shape(file)
    with progress(f"reading {frames}") as update:
        shown = load_frames(frames, shape=shape, limit=limit, progress=update)
    parts = list(shown.sequences())
    if len({len(part) for part in parts}) > 1:
        least, most = min(map(len, parts)), max(map(len, parts))
        raise DataError(f"{shown.name} has sequences of {least} to {most} frames: give those of one length at a time")
    values = np.stack([part.pixels for part in parts]).astype(np.float32) / np.float32(shown.scale)
    labels = np.full(len(parts), -1) if shown.labels is None else shown.labels[list(shown.starts)]
    return Dataset(shown.name, values, labels.astype(np.int64), shown.classes, None)


def say_right(result: NirEvaluation | Evaluation, data: Dataset | Frames, how: str) -> None:
    """How many images are right, or that nobody can know it."""
    if result.labelled:
        say(f"[bold]{percent(result.accuracy)}[/bold] of {len(data):,} images of {data.name} right {how}")
    else:
        say(f"{len(data):,} images of {data.name}, which have no labels, {how}")


def _kind(file: OtherNir) -> str:
    return "NIR of another tool" if file.profile is None else f"profile {file.form}"


def _program(file: OtherNir, target: str, wishes: Wishes) -> NirProgram:
    timesteps = file.profile.timesteps if file.profile else wishes.timesteps
    if timesteps is None:
        raise FileError(f"{file.path} does not say for how long an image is shown: give --timesteps")
    choices = (("--r-per", wishes.per, get_args(Per)), ("--current", wishes.current, get_args(Current)))
    for option, given, known in choices:
        if given not in (None, *known):
            raise DataError(f"{option} takes {' or '.join(known)}, not {given!r}")
    if wishes.reset not in ("zero", "subtract"):
        raise DataError(f"--reset takes zero or subtract, not {wishes.reset!r}")
    try:
        reading = Reading(
            wishes.dt,
            cast("Reset", wishes.reset),
            cast("Per | None", wishes.per),
            cast("Current", wishes.current or "last"),
        )
        return NirProgram(file.raw, timesteps, reading, target)
    except GraphError as error:
        raise FileError(f"{file.path}: {error}") from error


def _over_time(file: OtherNir, data: Dataset) -> int | None:
    """Timesteps of inputs that change over time; None of images.

    Raises:
        FileError: the graph takes no input.
        DataError: they are no inputs of it.
    """
    return None if file.profile is not None else nir_network.over_time(data.shape, _input_shape(file))


def _input_shape(file: OtherNir) -> Shape:
    try:
        return nir_nodes.input_shape(file.raw)
    except GraphError as error:
        raise FileError(f"{file.path}: {error}") from error


def _inputs(
    profile: Profile | None, wishes: Wishes, data: Dataset, *, changing: bool
) -> tuple[Callable[[Array], Array], str]:
    """What is shown for pixels, and in words.

    Raises:
        DataError: preprocessing of what are no images.
    """
    if profile is not None:
        return profile.inputs, "as the file says"
    if changing:
        wishes.refuse_for(f"{data.name} changes over time, and is taken as it is", "preprocessing")
        return lambda values: values, "as the data gives them, an entry in each timestep"
    if data.preprocessed:
        return lambda values: values, "as the data gives them, in every timestep"
    pre = wishes.preprocessing or data.known or Preprocessing(data.scale or 255.0)
    return (
        pre,
        f"(pixel / {pre.scale:g} - mean) / std with mean {list(pre.mean)}, std {list(pre.std)}, in every timestep",
    )


def inspect(file: OtherNir, plot: Path | None, *, as_json: bool) -> None:
    """Show the nodes of what a file holds, and whether they can run; draw them.

    Raises:
        FileError: it is no NIR graph.
    """
    path, raw, profile = file.path, file.raw, file.profile
    order, nodes_of = list(raw.nodes), raw.nodes
    sources: Mapping[str, list[str]] = {n: [a for a, b in raw.edges if b == n] for n in raw.nodes}
    problem, shapes, read = None, dict[str, Shape](), list[str]()
    try:
        plan = nir_nodes.plan(raw)
        order, nodes_of, sources = list(plan.order), plan.nodes, plan.sources
        shapes = {name: sent for name, sent in plan.shapes.items() if name != plan.sink}
        read = nir_modules.resolved(plan, Reading()).words(plan)
    except CannotRunError as error:
        problem = str(error)
    except GraphError as error:
        raise FileError(f"{path}: {error}") from error
    if plot is not None:
        plots.nir_graph(raw, plot)
    nodes = [_node(name, nodes_of[name], sources.get(name, []), shapes.get(name)) for name in order]
    content = {
        "file": str(path),
        "profile": file.form,
        "nodes": nodes,
        "weights": sum(int(node["weights"]) for node in nodes),
        "problem": problem,
        "read": read,
        "timesteps": None if profile is None else profile.timesteps,
        "measured": [] if profile is None else [vars(m) for m in profile.measured],
    }
    if as_json:
        print_json(content)
        return
    keys = ("name", "kind", "from", "sends", "weights", "details")
    table(f"{path}: {_kind(file)}", ("node", *keys[1:]), [[node[key] for key in keys] for node in nodes])
    for m in () if profile is None else profile.measured:
        say(
            f"measured, exported with T = {m.timesteps}, reset {m.reset}: "
            f"{percent(m.accuracy)} of {m.images:,} images, {percent(m.agreement)} as the source network"
        )
    if profile is not None:
        _show_inputs(profile)
    for line in read:
        say(f"`run` reads: {line}")
    say(f"[red]cannot run here:[/red] {problem}" if problem else "it can run here: `pascal-nm run`")


def _show_inputs(profile: Profile) -> None:
    """How pixels become what the input node takes: what runs the file elsewhere has to do so."""
    pre, p = profile.preprocessing, profile.input
    zero = p.zero(pre) if profile.integer and pre is not None else None
    if zero is not None:
        say(f"inputs: whole numbers, pixel - {zero.reshape(-1).astype(int).tolist()}")
    elif pre is not None:
        text = f"inputs: (pixel / {pre.scale:g} - mean) / std with mean {list(pre.mean)}, std {list(pre.std)}"
        if profile.integer:
            steps = [float(f"{step:.6g}") for step in p.threshold.reshape(-1)]
            text += f", divided by {steps} and rounded to whole numbers"
        say(text)
    if profile.classes:
        say(f"outputs: {', '.join(profile.classes[:20])}{'…' if len(profile.classes) > 20 else ''}")


def _node(name: str, node: Any, sources: Sequence[str], sent: Shape | None) -> dict[str, Any]:
    weight = getattr(node, "weight", getattr(node, "scale", None))
    return {
        "name": name,
        "kind": type(node).__name__,
        "from": ", ".join(sources),
        "sends": "" if sent is None else "x".join(map(str, sent)),
        "weights": 0 if weight is None else int(np.asarray(weight).size),
        "details": ", ".join(f"{key} {_range(value)}" for key, value in _parameters(node)),
    }


def _parameters(node: Any) -> list[tuple[str, Any]]:
    names = ("tau", "tau_mem", "tau_syn", "r", "v_threshold", "v_reset", "v_leak", "kernel_size", "stride", "padding")
    return [(name, value) for name in names if (value := getattr(node, name, None)) is not None]


def _range(value: Any) -> str:
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    if array.size == 0:
        return "empty"
    low, high = array.min(), array.max()
    return f"{low:g}" if low == high else f"{low:g}…{high:g}"
