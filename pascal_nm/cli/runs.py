"""Commands that run networks on data: run and verify."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from pascal_nm.cli import bundles as bundle_words
from pascal_nm.cli import frames as frame_words
from pascal_nm.cli import nir_files, options, plots
from pascal_nm.cli.output import percent, print_json, progress, say, span, table
from pascal_nm.cli.outputs import PICTURE, Writes
from pascal_nm.common.files import write_answers
from pascal_nm.data import Frames
from pascal_nm.errors import DataError, FileError
from pascal_nm.export.nir_format import OtherNir, read_nir
from pascal_nm.hw_targets import bundles, compiled, evaluation, quantizes, workers
from pascal_nm.network.graph import Graph
from pascal_nm.simulation.result import Program
from pascal_nm.source.affine import growth_of
from pascal_nm.source.verification import Verification


def run(
    network: options.NetworkFile,
    target: options.TargetName = "torch",
    data_name: options.DataName = "digits",
    frames: options.FramesName = None,
    threshold: options.Threshold = 0.0,
    limit: options.Limit = None,
    bits: Annotated[int | None, typer.Option(help="Quantize a float network first.", show_default="as it is")] = None,
    schedule: options.ScheduleName = None,
    lag: options.Lag = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Also write predictions and labels to this .npz file."),
        Writes((".npz",)),
    ] = None,
    timesteps: Annotated[
        int | None,
        typer.Option(
            "--timesteps",
            "-T",
            help="Stop there, and say what is exact by then. NIR of other tools: how long an image is shown.",
            show_default="until the answer is final; the file's",
            min=1,
        ),
    ] = None,
    dt: Annotated[
        float | None,
        typer.Option(
            help="NIR of other tools: length of a timestep, for nodes with a time constant.", show_default="1e-4"
        ),
    ] = None,
    reset: Annotated[
        str | None,
        typer.Option(
            help="NIR of other tools: zero (NIR's own: to v_reset) or subtract (the threshold).",
            show_default="zero; subtract for rate files",
        ),
    ] = None,
    per: Annotated[
        str | None,
        typer.Option(
            "--r-per",
            help="NIR of other tools: r of IF and I is what an input adds in a timestep, or in a unit of time.",
            show_default="what the file leaves no doubt of",
            metavar="timestep|unit",
        ),
    ] = None,
    current: Annotated[
        str | None,
        typer.Option(
            help="NIR of other tools: a CubaLIF's potential takes the last current of its synapse, or the new one.",
            show_default="last, NIR's own; snnTorch and Norse mean new",
            metavar="last|new",
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--workers", help="Share the images among so many processes; the result is the same.", min=1)
    ] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Share them among the workers of a Dask cluster: tcp://host:8786, or the file of --scheduler-file.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help=(
                "Draw the spike rate of each layer and the accuracy over the timesteps, or the operations of each "
                "frame and which layers change, to a .png, .svg or .pdf."
            )
        ),
        PICTURE,
    ] = None,
    mean: options.Mean = None,
    std: options.Std = None,
    scale: options.Scale = 255.0,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Run a spiking network on images: accuracy, spikes and operations, counted.

    A folder from `pascal-nm deploy` is executed from its registers and routes.
    A NIR file of another tool runs, too, on torch and lava; --timesteps, --dt,
    --reset, --r-per, --current, --mean, --std and --scale say what it leaves open.
    """
    wishes = nir_files.Wishes(timesteps, dt, reset, options.preprocessing(mean, std, scale), per, current)
    if scheduler is not None and count != 1:
        raise DataError("--workers are of this machine, --scheduler has its own: give one")
    if network.is_dir() and bundles.form_of(network) != "stages":
        if (target, bits, schedule, lag, timesteps, count, scheduler, frames, plot) != (
            *("torch", None, None, None, None, 1),
            *(None, None, None),
        ):
            raise DataError(f"{network} runs as it was deployed, on images: leave out what changes that")
        bundle_words.run(network, data_name, limit, (image_column, label_column), output, as_json)
        return
    deployed = bundles.opened(network).program if network.is_dir() else None
    if deployed is not None:
        if (target, bits, schedule, lag, timesteps, count, scheduler) != ("torch", None, None, None, None, 1, None):
            raise DataError(f"{network} runs as it was deployed: leave out what changes the network or where it runs")
        target = "loihi"
    graph = options.load_any(network, mean, std, scale) if deployed is None else deployed.graph
    if isinstance(graph, OtherNir):
        if (bits, schedule, lag, count, scheduler, plot, threshold) != (None, None, None, 1, None, None, 0):
            raise DataError(
                "--bits, --schedule, --lag, --workers, --scheduler, "
                f"--threshold and --plot are for networks of this package; {network} is none"
            )
        if frames is None:
            images = options.load_data(data_name, limit, image_column, label_column)
        else:
            images = nir_files.sequences(graph, frames, limit)
        nir_files.run(graph, target, images, wishes, output, as_json=as_json)
        return
    says = (
        "dt",
        "reset",
        "per",
        "current",
        *(["preprocessing"] if network.suffix == ".nir" or deployed is not None else []),
    )
    wishes.refuse_for(f"{network} is exact and says that itself; the option is for NIR of other tools", *says)
    if frames is not None and (scheduler is not None or count != 1):
        raise DataError(
            "frames follow each other, and are not shared among workers: leave --workers and --scheduler out"
        )
    if bits is not None and graph.is_integer:
        raise DataError(f"{network} holds integer weights already: leave --bits out")
    graph = options.timing(graph, schedule, lag, timesteps)
    data = options.load_shown(data_name, frames, threshold, limit, image_column, label_column, network=graph)
    graph = options.completed(graph, data, quantized=deployed is None and quantizes(target, bits))
    program: Program = deployed or compiled(graph, target, bits, frames=frames is not None)
    start = time.perf_counter()
    with progress(f"running on {target}") as update:
        if isinstance(data, Frames) or (scheduler is None and count == 1):
            result = evaluation.evaluate(program, data, threshold=threshold, progress=update)
        elif scheduler is not None:
            result = workers.evaluate_on(scheduler, program.graph, target, data, progress=update)
        else:
            result = workers.evaluate(program.graph, target, data, count, progress=update)
    seconds = time.perf_counter() - start
    changed = evaluation.changed_by_quantization(graph, program, result, data, threshold)
    if output is not None:
        write_answers(output, result.predictions, result.labels)
    if plot is not None and isinstance(data, Frames):
        title = f"{network.name}, {len(data):,} frames of {data.name}, {graph.timing}"
        frame_words.draw(program.graph, data, result, title, plot)
    elif plot is not None:
        rates = [(program.graph[name], rate) for name, rate in result.spike_rates(program.graph).items()]
        title = f"{network.name}, {len(data):,} images of {data.name}, {graph.timing.schedule}"
        over_time = result.accuracy_over_time if result.labelled else np.zeros(0)
        plots.activity(rates, over_time, result.timesteps, title, plot)
    content = {
        "network": str(network),
        "target": target,
        "arithmetic": "integer" if program.graph.is_integer else str(program.graph.dtype),
        "data": data.name,
        "threshold": threshold,
        "images": len(data),
        "accuracy": result.accuracy if result.labelled else None,
        "predictions_changed_by_quantization": changed,
        **vars(graph.timing),
        "timesteps": result.schedule.steps,
        "exact": float(result.exact.mean()),
        "accuracy_over_time": result.accuracy_over_time.tolist() if result.labelled else [],
        "timesteps_to_the_answer": {
            "mean": float(result.timesteps.mean()),
            "percentile_99": float(np.percentile(result.timesteps, 99)),
            "max": int(result.timesteps.max()),
        },
        "spikes_per_image": sum(float(layer.emitted.mean()) for layer in result.events),
        "synaptic_operations_per_image": result.operations,
        "images_per_second": len(data) / seconds,
    }
    if isinstance(data, Frames):
        content |= evaluation.frame_summary(program.graph, data, result)
    if as_json:
        print_json(content)
        return
    if isinstance(data, Frames):
        frame_words.show(program.graph, data, result, target, _arithmetic(program.graph), len(data) / seconds)
        frame_words.note_threshold(threshold)
        options.say_changed(changed, len(data))
        _note_stop(result)
        return
    nir_files.say_right(result, data, f"on {target} ({_arithmetic(program.graph)}, {span(result.timesteps)} timesteps)")
    options.say_changed(changed, len(data))
    _note_stop(result)
    say(
        f"per image: {content['spikes_per_image']:,.0f} spikes, {content['synaptic_operations_per_image']:,.0f} "
        f"synaptic operations; {content['images_per_second']:,.0f} images a second"
    )


def _note_stop(result: evaluation.Evaluation) -> None:
    """How many answers of a run that was stopped are the network's."""
    if result.schedule.stop is not None:
        say(
            f"after {result.schedule.steps} timesteps {percent(float(result.exact.mean()))} of the answers are final: "
            "exact, by certificate"
        )


def _arithmetic(graph: Graph) -> str:
    if not graph.is_integer:
        return str(graph.dtype)
    return "integers" if graph.quantization is None else f"{graph.quantization} weights"


_SHOWN = 4
"""Differences between a file and its model that are listed one by one."""


def verify(
    model: options.ModelFile,
    nir: Annotated[
        Path | None, typer.Option("--nir", help="Verify this file.", show_default="the model, converted now")
    ] = None,
    target: options.TargetName = "torch",
    data_name: Annotated[
        str | None,
        typer.Option("--data", "-d", help=options.DATA_HELP, show_default="digits; a bundle's own inputs"),
    ] = None,
    frames: options.FramesName = None,
    threshold: options.Threshold = 0.0,
    limit: options.Limit = None,
    bits: options.Bits = None,
    double: options.Double = False,
    schedule: options.ScheduleName = None,
    lag: options.Lag = None,
    mean: options.Mean = None,
    std: options.Std = None,
    scale: options.Scale = 255.0,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    simulator: Annotated[
        str | None,
        typer.Option(
            help="Of a bundle: run it in nengo-loihi or akida, on its inputs or on --data.", show_default=False
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="Of a bundle: what a board gave, a .npz file by the names of check.npz.", show_default=False),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Is the spiking network the source network? Exit code 1 means no.

    Every level and every output is compared.

    In integers, the answer is bit for bit. In floats, levels that flipped by
    rounding are counted, and the answer then is "equal up to rounding", not
    "exact".

    Of a folder from `pascal-nm deploy`: is it whole, and do a vendor's simulator (--simulator) or a
    board (--answers) give the integer network's counts?
    """
    if model.is_dir():
        if (nir, target, bits, double, schedule, lag) != (None, "torch", None, False, None, None):
            raise DataError(f"{model} is verified as it was deployed: leave out what changes the network")
        bundle_words.verify(model, simulator, answers, data_name, limit, (image_column, label_column), as_json)
        return
    if simulator is not None or answers is not None:
        raise DataError(f"--simulator and --answers are for bundles of `pascal-nm deploy`; {model} is none")
    given = None if nir is None else read_nir(nir)
    source, taken = options.load_source(model, given, mean, std, scale)
    if double:
        source = source.in_double()
    network = source.source()
    reference = source.graph(network, growth_of(given))
    if given is not None and given.is_integer and bits is not None:
        raise FileError(f"{nir} holds integer weights already: leave --bits out")
    timed = options.timing(given or reference, schedule, lag, None)
    data = options.load_shown(
        data_name or "digits", frames, threshold, limit, image_column, label_column, network=timed
    )
    timed = options.completed(timed, data, quantized=quantizes(target, bits))
    if reference.preprocessing is None:
        reference = reference.replace(preprocessing=timed.preprocessing)
    given = given and given.replace(preprocessing=timed.preprocessing)
    program = compiled(timed, target, bits, frames=frames is not None)
    with progress(f"verifying on {target}") as update:
        verification, result = evaluation.verify(
            network, reference, program, data, given=given, threshold=threshold, progress=update
        )
    verification.taken = taken
    found = evaluation.summary(verification, result)
    if as_json:
        about = {"model": str(model), "network": None if nir is None else str(nir), "target": target}
        print_json(about | found)
    else:
        compared, reference_is = f"{model}, converted now," if nir is None else str(nir), f"the source network {model}"
        if program.graph.is_integer:
            made = "" if given is not None and given.is_integer else "quantized now, "
            compared = f"{compared.removesuffix(',')}, {made}{verification.arithmetic},"
            reference_is = f"the integer QCFS network that the same quantization makes of {model}"
        say(f"compared: {compared} on {target} with {reference_is}")
        for what in taken:
            pre = reference.preprocessing if what == "preprocessing" else None
            values = "" if pre is None else f": (pixel / {pre.scale:g} - {list(pre.mean)}) / {list(pre.std)}"
            say(f"[bold]not compared:[/bold] {what}, which {model} does not say; taken from {nir}{values}")
        frame_words.note_threshold(threshold)
        _show_verification(verification, found, program.graph)
    if not verification.equal:
        raise typer.Exit(1)


def _show_verification(verification: Verification, found: dict[str, Any], graph: Graph) -> None:
    layers = verification.layers.values()
    if graph.is_integer:
        rows = [[layer.name, layer.differing] for layer in layers]
        if rows:
            table("against the integer QCFS network", ("layer", "differing counts or outputs"), rows)
    else:
        rows = [
            [layer.name, layer.neurons, "" if layer.name == "output" else layer.flips, layer.unexplained]
            for layer in layers
        ]
        if rows:
            columns = ("layer", "levels (outputs) compared", "flipped, all in all", "not explained by rounding")
            table("against the source network, level by level", columns, rows)
    if found["accuracy"] is not None:
        say(
            f"accuracy: source network {percent(found['source_accuracy'])}, spiking network "
            f"({verification.arithmetic}) {percent(found['accuracy'])}"
        )
    compared = "integer QCFS network" if graph.is_integer else "source network"
    say(
        f"largest difference from the {compared}: {verification.output_difference:.2g} of an output, "
        f"{verification.probability_difference:.2g} of a class probability (softmax)"
    )
    if verification.prediction_mismatches and graph.dtype == np.float32 and verification.culprit is None:
        say("rounding explains every flip: --double compares the same network with less of it")
    shown = verification.differences[:_SHOWN]
    for difference in shown:
        say(f"[red]differs from the model:[/red] {difference}")
    if len(verification.differences) > len(shown):
        say(f"… and {len(verification.differences) - len(shown)} more: is this the file of another training?")
    head, _, rest = verification.verdict.partition(":")
    style = "bold green" if verification.equal else "bold red"
    say(f"[{style}]{head}[/{style}]:{rest}")
