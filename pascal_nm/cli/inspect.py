"""The command that shows what a network file holds.

For a NIR file of ours it does so without loading torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pascal_nm.cli import options, plots
from pascal_nm.cli.output import print_json, say, table
from pascal_nm.cli.outputs import Writes
from pascal_nm.export.nir_format import OtherNir, read_any, to_nir
from pascal_nm.network import summary
from pascal_nm.network.graph import Quantization
from pascal_nm.simulation import schedule


def inspect(
    network: options.NetworkFile,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the NIR graph to a .svg or .png, by nirviz."), Writes((".svg", ".png"))
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show a network's populations, synapses, levels and schedule, or another tool's NIR nodes.

    Of another tool's file, it says whether it can run.
    """
    model = None if network.suffix == ".nir" else options.load_model(network)
    graph = read_any(network) if model is None else model.graph()
    if isinstance(graph, OtherNir):
        from pascal_nm.cli import nir_files  # with torch, which says whether such a file can run

        nir_files.inspect(graph, plot, as_json=as_json)
        return
    if plot is not None:
        plots.nir_graph(to_nir(graph), plot)
    plan = schedule.of(graph)
    populations = [summary.population(graph, p) | {"window": str(plan.windows[p.name])} for p in graph.populations]
    content = {
        "file": str(network),
        "arithmetic": "integer" if graph.is_integer else str(graph.dtype),
        "populations": populations,
        "neurons": sum(p.size for p in graph.senders),
        "weights": sum(q.operator.weight.size for q in graph.projections),
        "timesteps": plan.steps,
        "initiation_interval": plan.initiation_interval,
        "preprocessing": None if graph.preprocessing is None else vars(graph.preprocessing),
        "classes": list(graph.classes),
    }
    if model is not None:
        content |= {"recipe": model.recipe, "data": model.data, "metrics": model.metrics, "bits": model.bits}
    if as_json:
        print_json(content)
        return
    keys = ("name", "kind", "shape", "levels", "neurons", "threshold", "from", "window")
    rows = [[p[key] for key in keys] for p in populations]
    table(f"{network}: {content['arithmetic']}", ("population", *keys[1:]), rows)
    interval = f"{plan.initiation_interval} timesteps" if plan.initiation_interval > 1 else "timestep"
    say(
        f"{content['neurons']:,} neurons, {content['weights']:,} weights; schedule {graph.timing}: "
        f"{'at most ' if plan.streams else ''}{plan.steps} timesteps an image, a new image every {interval}"
    )
    if graph.preprocessing is not None:
        pre = graph.preprocessing
        say(f"inputs: (pixel / {pre.scale:g} - mean) / std with mean {list(pre.mean)}, std {list(pre.std)}")
    if graph.classes:
        say(f"classes: {', '.join(graph.classes[:20])}{'…' if len(graph.classes) > 20 else ''}")
    if model is not None and model.metrics:
        trained = f"{model.recipe['arch']} trained on {model.data}" if model.recipe else "network"
        trained += "" if model.bits is None else f" for {Quantization(model.bits)} weights"
        say(f"{trained}: {', '.join(f'{key} {value:g}' for key, value in model.metrics.items())}")
