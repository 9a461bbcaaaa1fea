"""Commands that run networks on data: run, verify and energy."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from pascal_nm import analysis
from pascal_nm.activity import LayerEvents
from pascal_nm.cli import nir_files, options
from pascal_nm.cli.output import joules, percent, print_json, progress, say, table
from pascal_nm.errors import DataError, FileError
from pascal_nm.export.nir_format import ForeignError, read_nir
from pascal_nm.files import writable, write_answers
from pascal_nm.graph import Graph
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import compiled, evaluation, find, workers
from pascal_nm.hw_targets.evaluation import Evaluation
from pascal_nm.hw_targets.simulator import LoihiTarget
from pascal_nm.verify import Verification


def run(
    network: options.NetworkFile,
    target: options.TargetName = "torch",
    data_name: options.DataName = "digits",
    limit: options.Limit = None,
    bits: Annotated[int | None, typer.Option(help="Quantize a float network first.", show_default="as it is")] = None,
    schedule: options.ScheduleName = None,
    lag: options.Lag = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write predictions and labels to this .npz file.")
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
    count: Annotated[
        int, typer.Option("--workers", help="Share the images among so many processes; the result is the same.", min=1)
    ] = 1,
    mean: options.Mean = None,
    std: options.Std = None,
    scale: options.Scale = 255.0,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Run a spiking network on images: accuracy, spikes and operations, counted.

    A NIR file of another tool runs, too, on torch and lava; --timesteps, --dt, --reset, --mean, --std and --scale say what it leaves open.
    """
    wishes = nir_files.Wishes(timesteps, dt, reset, options.preprocessing(mean, std, scale))
    if output is not None:
        writable(output)
    try:
        graph = options.load_network(network, mean, std, scale)
    except ForeignError:
        if (bits, schedule, lag, count) != (None, None, None, 1):
            raise DataError(
                f"--bits, --schedule, --lag and --workers are for networks of this package; {network} is none"
            ) from None
        images = options.load_data(data_name, limit, image_column, label_column)
        nir_files.run(network, target, images, wishes, output, as_json=as_json)
        return
    says = ("dt", "reset", *(["preprocessing"] if network.suffix == ".nir" else []))
    wishes.refuse_for(f"{network} is exact and says that itself; the option is for NIR of other tools", *says)
    if bits is not None and graph.is_integer:
        raise DataError(f"{network} holds integer weights already: leave --bits out")
    graph = options.timing(graph, schedule, lag, timesteps)
    program = compiled(graph, target, bits)
    data = options.load_data(data_name, limit, image_column, label_column, network=graph)
    start = time.perf_counter()
    with progress(f"running on {target}") as update:
        if count == 1:
            result = evaluation.evaluate(program, data, progress=update)
        else:
            result = workers.evaluate(program.graph, target, data, count, progress=update)
    seconds = time.perf_counter() - start
    if output is not None:
        write_answers(output, result.predictions, result.labels)
    spikes = sum(float(layer.emitted.mean()) for layer in result.events)
    content = {
        "network": str(network),
        "target": target,
        "arithmetic": "integer" if program.graph.is_integer else str(program.graph.dtype),
        "data": data.name,
        "images": len(data),
        "accuracy": result.accuracy,
        **vars(graph.timing),
        "timesteps": result.schedule.steps,
        "exact": float(result.exact.mean()),
        "accuracy_over_time": result.accuracy_over_time.tolist(),
        "timesteps_to_the_answer": {
            "mean": float(result.timesteps.mean()),
            "percentile_99": float(np.percentile(result.timesteps, 99)),
            "max": int(result.timesteps.max()),
        },
        "spikes_per_image": spikes,
        "synaptic_operations_per_image": sum(float(layer.synaptic_operations.mean()) for layer in result.events),
        "images_per_second": len(data) / seconds,
    }
    if as_json:
        print_json(content)
        return
    say(
        f"[bold]{percent(result.accuracy)}[/bold] of {len(data):,} images of {data.name} right on {target} "
        f"({content['arithmetic']}, {_steps(result)} timesteps)"
    )
    if result.schedule.stop is not None:
        say(
            f"after {result.schedule.steps} timesteps {percent(float(result.exact.mean()))} of the answers are final: exact, by certificate"
        )
    say(
        f"per image: {spikes:,.0f} spikes, {content['synaptic_operations_per_image']:,.0f} synaptic operations; "
        f"{content['images_per_second']:,.0f} images a second"
    )


def _steps(result: Evaluation) -> str:
    """Timesteps to the answer: one number, or mean and maximum where images differ."""
    least, most = int(result.timesteps.min()), int(result.timesteps.max())
    return str(most) if least == most else f"{result.timesteps.mean():.1f} on average, at most {most},"


SHOWN = 4
"""Differences between a file and its model that are listed one by one."""


def verify(
    model: options.ModelFile,
    nir: Annotated[
        Path | None, typer.Option("--nir", help="Verify this file.", show_default="the model, converted now")
    ] = None,
    target: options.TargetName = "torch",
    data_name: options.DataName = "digits",
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
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Is the spiking network the source network? Every level of every neuron is compared; exit code 1 means no."""
    source = options.load_model(model, mean, std, scale)
    given = None if nir is None else read_nir(nir)
    if source.preprocessing is None and given is not None:
        source.preprocessing = given.preprocessing
    if given is not None and not source.classes:
        source.classes = given.classes
    if double or (given is not None and given.dtype == np.float64):
        source = source.in_double()
    reference = source.graph()
    if given is not None and given.is_integer and bits is not None:
        raise FileError(f"{nir} holds integer weights already: leave --bits out")
    program = compiled(options.timing(given or reference, schedule, lag, None), target, bits)
    data = options.load_data(data_name, limit, image_column, label_column, network=reference)
    network = source.source()
    with progress(f"verifying on {target}") as update:
        verification, result = evaluation.verify(network, reference, program, data, progress=update)
    answers = evaluation.source_predictions(network, reference, data)
    if as_json:
        print_json(_verification_json(verification, result, answers, target))
    else:
        _show_verification(verification, result, answers, program.graph)
    if not verification.exact:
        raise typer.Exit(1)


def _verification_json(
    verification: Verification, result: Evaluation, answers: np.ndarray[Any, Any], target: str
) -> dict[str, Any]:
    return {
        "exact": verification.exact,
        "target": target,
        "images": verification.images,
        "culprit": verification.culprit,
        "differences": verification.differences,
        "prediction_mismatches": verification.prediction_mismatches,
        "integer_mismatches": verification.integer_mismatches,
        "layers": [vars(layer) for layer in verification.layers.values()],
        "source_accuracy": float(np.mean(answers == result.labels)),
        "accuracy": result.accuracy,
        "predictions_unlike_source": int(np.count_nonzero(answers != result.predictions)),
    }


def _show_verification(
    verification: Verification, result: Evaluation, answers: np.ndarray[Any, Any], graph: Graph
) -> None:
    layers = verification.layers.values()
    if graph.is_integer:
        rows = [[layer.name, layer.differing] for layer in layers]
        if rows:
            table("against the integer QCFS network", ("layer", "differing counts"), rows)
        say(f"differing predictions: {verification.integer_mismatches} of {verification.images:,}")
        changed = int(np.count_nonzero(answers != result.predictions))
        say(f"against the float source network, quantization changed {changed} of {len(answers):,} predictions")
    else:
        rows = [[layer.name, layer.neurons, layer.flips, layer.unexplained] for layer in layers]
        if rows:
            columns = ("layer", "levels compared", "flipped, all in all", "not explained by rounding")
            table("against the source network, level by level", columns, rows)
        say(f"differing predictions: {verification.prediction_mismatches} of {verification.images:,}")
    say(
        f"accuracy: source network {percent(float(np.mean(answers == result.labels)))}, spiking {percent(result.accuracy)}"
    )
    if verification.prediction_mismatches and graph.dtype == np.float32 and verification.culprit is None:
        say("rounding explains every flip: --double compares the same network without it")
    shown = verification.differences[:SHOWN]
    for difference in shown:
        say(f"[red]differs from the model:[/red] {difference}")
    if len(verification.differences) > len(shown):
        say(f"… and {len(verification.differences) - len(shown)} more: is this the file of another training?")
    if verification.exact:
        what = "the integer QCFS network, bit for bit" if graph.is_integer else "the source network"
        say(f"[bold green]exact[/bold green]: the spiking network is {what}")
    else:
        where = f", first in [bold]{verification.culprit}[/bold]" if verification.culprit else ""
        say(f"[bold red]not exact[/bold red]: the spiking network is not the source network{where}")


def energy(
    network: options.NetworkFile,
    data_name: options.DataName = "digits",
    chip: Annotated[
        str, typer.Option("--chip", "-c", help=f"{', '.join(chips.available())}, or a .toml file.")
    ] = "loihi1",
    limit: options.Limit = None,
    schedule: options.ScheduleName = None,
    lag: options.Lag = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """What the network would cost on a chip: events counted on the images, times the chip's table."""
    described = chips.load(chip)
    graph = options.timing(options.load_network(network), schedule, lag, None)
    program = (LoihiTarget(chip, cores=described.core is not None) if described.widths else find("torch")).compile(
        graph
    )
    data = options.load_data(data_name, limit, image_column, label_column, network=graph)
    with progress("counting events") as update:
        result = evaluation.evaluate(program, data, progress=update)
    layers = chips.energy(result.events, described)
    total = sum(layer.total for layer in layers)
    source = chips.source_energy(program.graph, described)
    formulas = _closed_formulas(program.graph, result)
    if as_json:
        print_json(
            {
                "chip": described.name,
                "estimate": described.estimate,
                "source": described.source,
                "images": len(data),
                **vars(graph.timing),
                "timesteps": float(result.timesteps.mean()),
                "accuracy": result.accuracy,
                "joules_per_image": total,
                "seconds_per_image": _seconds(result),
                "source_network_joules_per_image": source,
                "layers": [_layer_json(layer) for layer in layers],
                "closed_formulas": {
                    "effective_timesteps": formulas.effective_timesteps,
                    "pasc_over_plain_neurons": formulas.energy_ratio,
                    "source_over_spiking_fp32": formulas.source_ratio(analysis.FP32),
                    "source_over_spiking_int8": formulas.source_ratio(analysis.INT8),
                    "layers": [vars(layer) for layer in formulas.layers],
                },
            }
        )
        return
    if total <= 0:
        raise FileError(f"chip {chip} prices every counted event at nothing")
    columns = (
        "layer",
        "synaptic op.",
        "multiply-acc.",
        "updates",
        "idle updates",
        "spikes out",
        "inside",
        "messages",
        "hops",
        "energy",
        "share",
    )
    counts = [_counts(layer.events) for layer in layers]
    rows = [
        [layer.name, *row, joules(layer.total), percent(layer.total / total)]
        for layer, row in zip(layers, counts, strict=True)
    ]
    sums = [sum(column) for column in zip(*counts, strict=True)]
    table(
        f"{described.name}, per image, mean of {len(data):,} images of {data.name}",
        columns,
        [*rows, ["all", *sums, joules(total), ""]],
        total=True,
    )
    say(f"accuracy {percent(result.accuracy)}, {_steps(result)} timesteps an image")
    if (seconds := _seconds(result)) is not None and result.chip is not None:
        cores = result.chip.operations.shape[1]
        say(
            f"{1e3 * seconds:.3g} ms an image on {cores:,} cores: each timestep lasts as long as its slowest core, the longest way and the barrier"
        )
    cheaper, factor = ("less", source / total) if total <= source else ("more", total / source)
    say(
        f"the spiking network takes {factor:.3g} times {cheaper} than the source network's multiply-accumulates "
        f"on the same table, {joules(source)}"
    )
    say(f"figures: {described.source}{' (an estimate, not published figures)' if described.estimate else ''}")
    _show_formulas(formulas)


def _counts(events: LayerEvents) -> list[int]:
    means = events.means()
    hops = means.pop("hops_x") + means.pop("hops_y")
    return [round(count) for count in [*means.values(), hops]]


def _seconds(result: Evaluation) -> float | None:
    """Of an image, mean; None where the chip's file gives no times."""
    if result.chip is None or np.isnan(result.chip.seconds).any():
        return None
    return float(result.chip.seconds.mean())


def _closed_formulas(graph: Graph, result: Evaluation) -> analysis.Analysis:
    """The paper's estimate from the spike rates that were measured."""
    emitted = {layer.name: float(layer.emitted.mean()) for layer in result.events}
    rates = {p.name: emitted[p.name] / p.size for p in graph.populations if p.kind in ("pasc", "max")}
    return analysis.analyse(graph, rates)


def _show_formulas(formulas: analysis.Analysis) -> None:
    columns = ("layer", "levels", "spikes per input", "multiply-acc. of the source", "r' (Eq. 11, 12)", "r_E (Eq. 10)")

    def figure(value: float | None) -> str:
        return "" if value is None else f"{value:.4g}"

    rows = [
        [layer.name, layer.levels, figure(layer.rate), layer.macs, figure(layer.ratio), figure(layer.energy)]
        for layer in formulas.layers
    ]
    table("the paper's closed formulas, with these spike rates", columns, rows)
    say(
        f"T_eff {formulas.effective_timesteps:.3g} (Eq. 16), PASC over plain neurons {formulas.energy_ratio:.4g} (Eq. 14), "
        f"source over spiking network {formulas.source_ratio(analysis.FP32):.3g} in FP32 and "
        f"{formulas.source_ratio(analysis.INT8):.3g} in INT8 (Table 3)"
    )


def _layer_json(layer: chips.LayerEnergy) -> dict[str, Any]:
    return {
        "name": layer.name,
        "joules": layer.total,
        "joules_by_event": dict(layer.joules),
        "events": layer.events.means(),
    }
