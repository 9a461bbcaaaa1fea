"""Commands about source networks: train and inspect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from pascal_nm import data, published, schedule, training
from pascal_nm.checkpoint import Model, save
from pascal_nm.cli import options
from pascal_nm.cli.output import note, percent, print_json, progress, say, table
from pascal_nm.errors import FileError
from pascal_nm.graph import Graph, Identity, Population
from pascal_nm.models import ARCHITECTURES
from pascal_nm.training import Progress, TrainingConfig


def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the network.")] = Path("model.pt"),
    data_name: options.DataName = "digits",
    arch: Annotated[
        str | None, typer.Option(help=f"One of: {', '.join(ARCHITECTURES)}.", show_default="by the images")
    ] = None,
    levels: Annotated[
        str | None, typer.Option(help="L of the QCFS layers: 4, or one for each layer: 4,4,2.", show_default="4")
    ] = None,
    width: Annotated[
        float | None, typer.Option(help="Factor on the channels of every hidden layer.", show_default="1")
    ] = None,
    pool: Annotated[str | None, typer.Option(help="avg or max.", show_default="avg")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the images.", show_default="by the images")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images per step.", show_default="by the images")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="At the start; a cosine brings it to 0.", show_default="0.1")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order and augmentation.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1…")] = "cpu",
    mixed_precision: Annotated[bool, typer.Option(help="Forward pass in bfloat16.")] = False,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    as_json: options.Json = False,
) -> None:
    """Train a QCFS network. A training that was stopped goes on when the same command is given again."""
    with progress(f"reading {data_name}") as update:
        train_data, test_data = data.load_pair(
            data_name, image_column=image_column, label_column=label_column, progress=update
        )
    given: dict[str, Any] = {
        "arch": arch,
        "levels": options.levels(levels),
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    config = training.defaults(train_data)
    shape = {key: value for key, value in (("width", width), ("pool", pool)) if value is not None}
    config = replace(
        config,
        **{key: value for key, value in given.items() if value is not None},
        options={**config.options, **shape},
        seed=seed,
        device=device,
        mixed_precision=mixed_precision,
    )
    model = train_network(train_data, test_data, config, output)
    if as_json:
        print_json({"file": str(output), "arch": config.arch, "data": test_data.name, **model.metrics})
    else:
        say(
            f"[bold]{output}[/bold]: {config.arch}, {percent(model.metrics['test_accuracy'])} of {len(test_data):,} test images right"
        )


def train_network(train_data: data.Dataset, test_data: data.Dataset, config: TrainingConfig, path: Path) -> Model:
    """Train with a progress bar, one line per epoch on stderr, into a file."""
    with progress(f"training {config.arch}") as update:

        def show(state: Progress) -> None:
            done = (state.epoch - 1) * state.total + state.images
            update(done, state.epochs * state.total, f"loss {state.loss:.3f}  accuracy {percent(state.train_accuracy)}")
            if state.test_accuracy is not None:
                note(
                    f"epoch {state.epoch:3}/{state.epochs}  loss {state.loss:.4f}  training {percent(state.train_accuracy)}"
                    f"  test {percent(state.test_accuracy)}"
                )

        try:
            return training.train_to_file(train_data, test_data, config, path, show)
        except KeyboardInterrupt:
            state = training.state_file(path)
            if state.exists():
                note(f"kept {state}: the same command goes on from the last finished epoch")
            raise


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
    model = published.load(file, arch, number, pool=options.pool(pool), input_size=input_size)
    model.preprocessing = options.preprocessing(mean, std, scale)
    if model.preprocessing is None and trained_on is not None:
        model.preprocessing = published.PREPROCESSING[trained_on]
    path = output or file.with_suffix(".pt")
    save(model, path)
    layers = model.recipe["levels"] if isinstance(model.recipe["levels"], list) else [model.recipe["levels"]]
    if as_json:
        print_json({"file": str(path), **model.recipe})
        return
    say(f"[bold]{path}[/bold]: {arch}, L = {', '.join(map(str, layers))}, {model.recipe['classes']} classes")
    if model.preprocessing is None:
        say("It does not say how pixels become inputs: give --trained-on, or --mean and --std, to run images.")


def inspect(network: options.NetworkFile, as_json: options.Json = False) -> None:
    """Show a network's populations, synapses, levels and schedule."""
    model = None if network.suffix == ".nir" else options.load_model(network)
    graph = options.load_network(network) if model is None else model.graph()
    plan = schedule.pasc(graph)
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
    window = schedule.pasc(graph).windows[p.name]
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
