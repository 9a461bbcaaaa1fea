"""Commands about networks that exist: read published checkpoints, and inspect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pascal_nm import published, schedule
from pascal_nm.checkpoint import save
from pascal_nm.cli import nir_files, options, plots
from pascal_nm.cli.output import print_json, say, table
from pascal_nm.errors import FileError
from pascal_nm.export.nir_format import ForeignError, to_nir
from pascal_nm.graph import Graph, Identity, Population


def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="A .pth of the PASCAL or QCFS repositories.", show_default=False)],
    arch: Annotated[str, typer.Option(help=f"One of: {', '.join(published.ARCHITECTURES)}.")],
    levels: Annotated[str, typer.Option(help="L of the QCFS layers, or one for each: 4,4,2. The file does not tell.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to.", show_default="beside the file, as .pt")
    ] = None,
    pool: Annotated[str, typer.Option(help="Pooling of the network: avg or max.")] = "avg",
    trained_on: Annotated[
        str | None,
        typer.Option(help=f"Normalization of the repositories for: {', '.join(published.PREPROCESSING)}."),
    ] = None,
    mean: options.Mean = None,
    std: options.Std = None,
    scale: options.Scale = 255.0,
    input_size: Annotated[int | None, typer.Option(help="Height and width of a ResNet's images.", min=8)] = None,
    as_json: options.Json = False,
) -> None:
    """Read a published checkpoint of the PASCAL or QCFS repositories and write it as a model of this package."""
    number = options.levels(levels)
    assert number is not None, "--levels is required"
    if trained_on is not None and trained_on not in published.PREPROCESSING:
        raise FileError(f"--trained-on takes {', '.join(published.PREPROCESSING)}, not {trained_on!r}")
    usual = None if trained_on is None else published.PREPROCESSING[trained_on]
    model = published.load(
        file,
        arch,
        number,
        pool=options.pool(pool),
        preprocessing=options.preprocessing(mean, std, scale) or usual,
        input_size=input_size,
    )
    path = output or file.with_suffix(".pt")
    save(model, path)
    layers = model.recipe["levels"] if isinstance(model.recipe["levels"], list) else [model.recipe["levels"]]
    if as_json:
        print_json({"file": str(path), **model.recipe})
        return
    say(f"[bold]{path}[/bold]: {arch}, L = {', '.join(map(str, layers))}, {model.recipe['classes']} classes")
    if model.preprocessing is None:
        say("It does not say how pixels become inputs: give --trained-on, or --mean and --std, to run images.")


def inspect(
    network: options.NetworkFile,
    plot: Annotated[Path | None, typer.Option(help="Draw the NIR graph to a .svg or .png, by nirviz.")] = None,
    as_json: options.Json = False,
) -> None:
    """Show a network's populations, synapses, levels and schedule; of another tool's NIR file, its nodes and whether it can run."""
    plots.check(plot, "svg", "png")
    model = None if network.suffix == ".nir" else options.load_model(network)
    try:
        graph = options.load_network(network) if model is None else model.graph()
    except ForeignError:
        nir_files.inspect(network, plot, as_json=as_json)
        return
    if plot is not None:
        plots.nir_graph(to_nir(graph), plot)
    plan = schedule.of(graph)
    content = {
        "file": str(network),
        "arithmetic": "integer" if graph.is_integer else str(graph.dtype),
        "populations": [_population(graph, p) for p in graph.populations],
        "neurons": sum(p.size for p in graph.populations if p.kind not in ("analog", "readout")),
        "weights": sum(q.operator.weight.size for q in graph.projections),
        "timesteps": plan.steps,
        "initiation_interval": plan.initiation_interval,
        "preprocessing": None if graph.preprocessing is None else vars(graph.preprocessing),
        "classes": list(graph.classes),
    }
    if model is not None:
        content |= {"recipe": model.recipe, "data": model.data, "metrics": model.metrics}
    if as_json:
        print_json(content)
        return
    keys = ("name", "kind", "shape", "levels", "neurons", "threshold", "from", "window")
    rows = [[_population(graph, p)[key] for key in keys] for p in graph.populations]
    table(f"{network}: {content['arithmetic']}", ("population", *keys[1:]), rows)
    say(
        f"{content['neurons']:,} neurons, {content['weights']:,} weights, {plan.steps} timesteps an image, "
        f"a new image every {plan.initiation_interval}"
    )
    if graph.preprocessing is not None:
        pre = graph.preprocessing
        say(f"inputs: (pixel / {pre.scale:g} - mean) / std with mean {list(pre.mean)}, std {list(pre.std)}")
    if graph.classes:
        say(f"classes: {', '.join(graph.classes[:20])}{'…' if len(graph.classes) > 20 else ''}")
    if model is not None and model.metrics:
        trained = f"{model.recipe['arch']} trained on {model.data}" if model.recipe else "network"
        say(f"{trained}: {', '.join(f'{key} {value:g}' for key, value in model.metrics.items())}")


def _population(graph: Graph, p: Population) -> dict[str, Any]:
    window = schedule.of(graph).windows[p.name]
    low, high = float(p.threshold.min()), float(p.threshold.max())
    return {
        "name": p.name,
        "kind": p.kind,
        "shape": "x".join(map(str, p.shape)),
        "levels": p.levels if p.kind in ("pasc", "max") else "",
        "neurons": p.size,
        "threshold": f"{low:.6g}" if low == high else f"{low:.6g}…{high:.6g}",
        "from": ", ".join(_projection(graph, q.source, p.name) for q in graph.incoming(p.name)),
        "window": f"{window.start}-{window.stop - 1}",
    }


def _projection(graph: Graph, source: str, target: str) -> str:
    (q,) = (q for q in graph.incoming(target) if q.source == source)
    kernel = q.operator.weight.shape
    how = (
        "identity"
        if isinstance(q.operator, Identity)
        else f"{type(q.operator).__name__.lower()} {'x'.join(map(str, kernel))}"
    )
    if graph[target].kind == "max":
        how = "window"
    pooled = (
        f"{'x'.join(map(str, q.pool.kernel))} {'' if graph[target].kind == 'max' else 'sum-pooled '}" if q.pool else ""
    )
    return f"{source} ({pooled}{how})"
