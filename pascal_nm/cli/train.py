"""The command that makes source networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from pascal_nm import data, training
from pascal_nm.cli import adapt, options
from pascal_nm.cli.output import note, percent, print_json, progress, say, table
from pascal_nm.cli.outputs import Given, Writes
from pascal_nm.data import Images
from pascal_nm.data import streams as streaming
from pascal_nm.errors import DataError, FileError
from pascal_nm.hw_targets import evaluation
from pascal_nm.network.graph import Graph
from pascal_nm.paper import analysis
from pascal_nm.search import adaptive
from pascal_nm.source.architectures import ARCHITECTURES
from pascal_nm.source.checkpoint import Model
from pascal_nm.training import Progress, TrainingConfig, quantized

_WITHOUT_START = {
    "--average": "there is nothing to average with",
    "--bits": "a network is trained in floats first, then fine-tuned for a number of bits",
}


def _beside(path: Path, given: Given) -> list[Path]:
    """What a training writes beside its network."""
    return [training.state_file(path), *([training.uniform_file(path)] if given["adapt_clusters"] else [])]


def train(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where to write the network."), Writes((".pt",), also=_beside)
    ] = Path("model.pt"),
    data_name: options.DataName = "digits",
    start_file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help=(
                "Fine-tune: begin with the network of this file (.pt, also of `import-checkpoint`), "
                "with its levels where --levels says no others."
            ),
            show_default="from scratch",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help=(
                "paper: the training of Appendix A.8, for CIFAR-10, CIFAR-100 and ImageNet; "
                "options given beside it override it."
            ),
            show_default="by the images",
        ),
    ] = None,
    arch: Annotated[
        str | None, typer.Option(help=f"One of: {', '.join(ARCHITECTURES)}.", show_default="by the images")
    ] = None,
    levels: Annotated[
        str | None,
        typer.Option(
            help="L of the QCFS layers: 4, one for each layer: 4,4,2, or a .json of `adapt`.", show_default="4"
        ),
    ] = None,
    final_levels: Annotated[
        str | None,
        typer.Option(help="Levels of the last third of the epochs, in the same forms.", show_default="as before"),
    ] = None,
    adapt_clusters: Annotated[
        int | None,
        typer.Option(
            "--adapt",
            min=1,
            metavar="CLUSTERS",
            help=(
                "Algorithm 4: train, measure, train again with levels of its own for each cluster of layers. "
                "Takes 3 epochs or more."
            ),
            show_default=False,
        ),
    ] = None,
    adapt_levels: Annotated[
        str | None,
        typer.Option(
            help="With --adapt: L of each cluster, from the lowest metric to the highest: 4,2,1.",
            show_default="L, L/2, L/4…",
        ),
    ] = None,
    adapt_reading: Annotated[
        str | None,
        typer.Option(
            help="With --adapt: reading of the metric, paper or authors, as in `adapt`.", show_default="paper"
        ),
    ] = None,
    adapt_alpha: Annotated[
        float | None,
        typer.Option(
            help="With --adapt: share from which on a level counts as non-empty, as in `adapt`.",
            show_default="by the reading",
        ),
    ] = None,
    width: Annotated[
        str | None,
        typer.Option(
            help="Factor on the channels of every hidden layer; or the channels themselves: 16,32,96,256.",
            show_default="1",
        ),
    ] = None,
    pool: Annotated[str | None, typer.Option(help="avg or max.", show_default="avg")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Where the threshold of every QCFS layer starts: 8 in QCFS, 1 in PASCAL.",
            show_default="2; 1 by the paper's recipe",
        ),
    ] = None,
    stem: Annotated[
        str | None,
        typer.Option(help="First layers of a ResNet: cifar (3x3), or imagenet (7x7).", show_default="by the images"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the images.", show_default="by the images")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images per step.", show_default="by the images")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="At the start; a cosine brings it to 0.", show_default="0.1")
    ] = None,
    label_smoothing: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the target spread over all classes.", show_default="0")
    ] = None,
    shift: Annotated[
        int | None,
        typer.Option(min=0, help="Pixels by which images are moved at random.", show_default="by the images"),
    ] = None,
    cutout: Annotated[
        int | None,
        typer.Option(min=0, help="Side of a square that is blanked out at random.", show_default="by the images"),
    ] = None,
    auto_augment: Annotated[
        bool | None,
        typer.Option(help="Also AutoAugment's policy for CIFAR-10, on colour images.", show_default="by the recipe"),
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0, help="On weights.", show_default="0.0005")] = None,
    decay_all: Annotated[
        bool | None,
        typer.Option(help="Weight decay on thresholds, biases and normalizations, too.", show_default="by the recipe"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order and augmentation.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1…")] = "cpu",
    mixed_precision: Annotated[bool, typer.Option(help="Forward pass in bfloat16.")] = False,
    average: Annotated[
        bool,
        typer.Option(
            "--average", help="With --from: the mean of the weights before and after, which often generalizes better."
        ),
    ] = False,
    half: Annotated[
        bool, typer.Option("--half", help="Round the trained weights to half precision: a file half as large.")
    ] = False,
    bits: Annotated[
        str | None,
        typer.Option(
            help=(
                "With --from: fine-tune for integer weights of so many bits, 2 to 8, in the arithmetic of the integer "
                "network: a number, or one for each layer and the output: 8,4,4,8."
            ),
            show_default="floats",
        ),
    ] = None,
    compile_network: Annotated[bool, typer.Option("--compile", help="Compile the network by torch.compile.")] = False,
    stream: Annotated[
        bool,
        typer.Option(
            "--streaming",
            help=(
                "Read images while they are needed: Parquet shards (folder/ or train-*.parquet), "
                "a folder with train/ and test/ or val/, or a Hugging Face dataset."
            ),
        ),
    ] = False,
    size: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="With --streaming: side of the crops (random ones for training); 0 takes images as they are stored.",
            show_default=str(streaming.SIZE),
        ),
    ] = None,
    images_per_epoch: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With --streaming: images of an epoch.", show_default="all")
    ] = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a QCFS network. A stopped training goes on when the command is given again."""
    choice = _choice(adapt_clusters, adapt_levels, adapt_reading, adapt_alpha)
    columns = {"image_column": image_column, "label_column": label_column}
    if stream:
        train_data, test_data = _streams(data_name, size, images_per_epoch, columns)
    else:
        train_data, test_data = _in_memory(data_name, size, images_per_epoch, columns)
    given: dict[str, Any] = {
        "arch": arch,
        "levels": options.levels(levels),
        "final_levels": options.levels(final_levels),
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "label_smoothing": label_smoothing,
        "shift": shift,
        "cutout": cutout,
        "weight_decay": weight_decay,
        "decay_all": decay_all,
        "auto_augment": auto_augment,
    }
    config = training.defaults(train_data) if recipe is None else training.recipe(recipe, train_data)
    shape = {
        key: value
        for key, value in (
            ("width", options.width(width)),
            ("pool", pool),
            ("stem", _stem(stem)),
            ("threshold", threshold),
        )
        if value is not None
    }
    start = None
    for option, of_start in (("--average", average), ("--bits", bits is not None)):
        if of_start and start_file is None:
            raise DataError(f"{option} belongs to --from: {_WITHOUT_START[option]}")
    if start_file is not None:
        start = _start(start_file, [*(["arch"] if arch else []), *shape])
        config = replace(config, arch=start.recipe["arch"], options={}, levels=start.levels)
    config = replace(
        config,
        **{key: value for key, value in given.items() if value is not None},
        options={**config.options, **shape},
        seed=seed,
        device=device,
        mixed_precision=mixed_precision,
        average=average,
        half=half,
        bits=None if bits is None else options.bits(bits),
        compile=compile_network,
    )
    if choice is not None:
        _train_adaptively(train_data, test_data, config, output, choice, as_json, start)
        return
    model = train_network(train_data, test_data, config, output, start)
    if not training.is_main_process():
        return
    if as_json:
        tuned = {} if config.bits is None else {"bits": config.bits}
        print_json({"file": str(output), "arch": config.arch, "data": test_data.name, **tuned, **model.metrics})
    else:
        tuned_for = "" if config.bits is None else f" for {quantized.recipe_of(config.bits)} weights"
        say(
            f"[bold]{output}[/bold]: {config.arch}{tuned_for}, "
            f"{percent(model.metrics['test_accuracy'])} of {len(test_data):,} test images right ({test_data.name})"
        )


def _choice(
    clusters: int | None, levels: str | None, reading: str | None, alpha: float | None
) -> adaptive.Choice | None:
    """What --adapt and its options ask for; None without."""
    if clusters is not None:
        return adapt.chosen(clusters, levels, reading or "paper", alpha)
    for option, value in (("levels", levels), ("reading", reading), ("alpha", alpha)):
        if value is not None:
            raise DataError(f"--adapt-{option} belongs to --adapt CLUSTERS: give both, or leave it out")
    return None


def _in_memory(
    name: str, size: int | None, images_per_epoch: int | None, columns: dict[str, str | None]
) -> tuple[Images, Images]:
    for option, value in (("--size", size), ("--images-per-epoch", images_per_epoch)):
        if value is not None:
            raise DataError(f"{option} belongs to --streaming: give both, or leave it out")
    with progress(f"reading {name}") as update:
        return data.load_pair(name, **columns, progress=update)


def _streams(
    name: str, size: int | None, images_per_epoch: int | None, columns: dict[str, str | None]
) -> tuple[Images, Images]:
    """Training and test images.

    Those that say how pixels become inputs are read at once, because it takes a while.
    """
    with progress(f"reading {streaming.MEASURED:,} images of {name}"):
        side = streaming.SIZE if size is None else size or None
        pair = streaming.load_pair(name, size=side, images_per_epoch=images_per_epoch, **columns)
        pair[0].preprocessing()
        return pair


def _stem(name: str | None) -> str | None:
    if name not in (None, "cifar", "imagenet"):
        raise DataError(f"--stem takes cifar or imagenet, not {name!r}")
    return name


def _start(path: Path, options_of_the_network: list[str]) -> Model:
    """The network to begin with."""
    if options_of_the_network:
        raise DataError(f"--{options_of_the_network[0]} does not go with --from: the network is that of {path}")
    model = options.load_model(path)
    if not model.recipe:
        raise FileError(f"{path} is a program of torch.export, which can be run, not trained: --from takes a .pt")
    return model


def train_network(
    train_data: Images, test_data: Images, config: TrainingConfig, path: Path, start: Model | None = None
) -> Model:
    """Train with a progress bar, one line per epoch on stderr, into a file."""
    with _shown(config, path) as show:
        return training.train_to_file(train_data, test_data, config, path, show, start)


@contextmanager
def _shown(config: TrainingConfig, path: Path) -> Iterator[Callable[[Progress], None] | None]:
    """Progress on stderr in the main process, and what is kept after an interruption."""
    if not training.is_main_process():
        yield None
        return
    with progress(f"training {config.arch}") as update:

        def show(state: Progress) -> None:
            done = (state.epoch - 1) * state.total + state.images
            update(done, state.epochs * state.total, f"loss {state.loss:.3f}  accuracy {percent(state.train_accuracy)}")
            if state.test_accuracy is not None:
                note(
                    f"epoch {state.epoch:3}/{state.epochs}  loss {state.loss:.4f}  training "
                    f"{percent(state.train_accuracy)}  test {percent(state.test_accuracy)}"
                )

        try:
            yield show
        except KeyboardInterrupt:
            if kept := sorted(path.parent.glob(f"{path.name}*.training")):
                note(f"kept {kept[-1]}: the same command goes on from the last finished epoch")
            raise


def _train_adaptively(
    train_data: Images,
    test_data: Images,
    config: TrainingConfig,
    path: Path,
    choice: adaptive.Choice,
    as_json: bool,
    start: Model | None,
) -> None:
    measured = config.levels if config.final_levels is None else config.final_levels
    choice.check([measured] if isinstance(measured, int) else measured)
    decided: list[tuple[Graph, adaptive.Plan]] = []

    def choose(model: Model) -> list[int]:
        graph = model.graph()
        inputs = evaluation.inputs(graph, train_data.head(adaptive.IMAGES))
        made = choice.plan(adaptive.histograms(graph, inputs))
        decided.append((graph, made))
        note(f"levels from the switch on: {', '.join(map(str, made.levels))}")
        return made.levels

    with _shown(config, path) as show:
        uniform, adapted = training.train_adaptively(train_data, test_data, config, path, choose, show, start)
    if not training.is_main_process():
        return
    graph, made = decided[-1]
    if as_json:
        print_json(
            {
                "file": str(path),
                "uniform_file": str(training.uniform_file(path)),
                "reading": choice.reading,
                **adapt.plan_json(made),
                **adapt.timesteps_json(graph, made.levels),
                "test_accuracy": adapted.metrics["test_accuracy"],
                "uniform_effective_timesteps": adaptive.effective_timesteps(graph, made.before),
                "uniform_test_accuracy": uniform.metrics["test_accuracy"],
            }
        )
        return
    table(
        f"AL metric ({choice.reading}) of {training.uniform_file(path)}",
        ("layer", "metric M", "cluster", "L before", "L"),
        [[m.name, f"{m.metric:.4g}", label, m.levels, level] for m, label, level in adapt.rows(made)],
    )
    for remark in made.remarks:
        say(remark)
    for file, levels, model in (
        (training.uniform_file(path), made.before, uniform),
        (path, made.levels, adapted),
    ):
        steps, right = adaptive.effective_timesteps(graph, levels), percent(model.metrics["test_accuracy"])
        of = f"{len(test_data):,} test images right ({test_data.name})"
        say(f"[bold]{file}[/bold]: {config.arch}, T_eff {steps:.2f}, {right} of {of}")
    say(
        f"T_eff is Equation 16 at the spike rate that the paper assumes, {analysis.RATE}; "
        "`pascal-nm energy` measures the rates"
    )
