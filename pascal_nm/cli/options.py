"""Options that several commands share, and how their values become objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import numpy as np
import typer

from pascal_nm import data
from pascal_nm.cli.output import note, progress, say, silence
from pascal_nm.common.layer_files import read_lags, read_levels
from pascal_nm.data import Dataset, Frames, Split
from pascal_nm.errors import DataError, FileError
from pascal_nm.export.nir_format import OtherNir, read_any, read_nir
from pascal_nm.hw_targets.objectives import OBJECTIVES
from pascal_nm.network.graph import Graph, Preprocessing, Timing
from pascal_nm.simulation import schedule as schedules

if TYPE_CHECKING:
    from pascal_nm.hw_targets.chip import Chip
    from pascal_nm.hw_targets.mapping import Placement
    from pascal_nm.source.architectures import Pool
    from pascal_nm.source.checkpoint import Model

DATA_HELP = (
    "digits (bundled), a Parquet file, a folder with one folder of images per class, arrays (.npz with x and perhaps "
    "y, mean, std, scale, classes; .npy), or a Hugging Face dataset."
)

ModelFile = Annotated[
    Path, typer.Argument(help="model.pt from `train`, or .pt2 from torch.export.save.", show_default=False)
]
NetworkFile = Annotated[
    Path, typer.Argument(help="model.nir; a .pt is converted first (a .pt2 by `export`).", show_default=False)
]
DataName = Annotated[str, typer.Option("--data", "-d", help=DATA_HELP)]
FramesName = Annotated[
    str | None,
    typer.Option(
        "--frames",
        help=(
            "Frames that follow each other instead of images: pan and still (bundled clips), a video, a folder of "
            "images or of such folders, .npz (T, ...), an event recording. State stays from one to the next."
        ),
        show_default=False,
    ),
]
Threshold = Annotated[
    float,
    typer.Option(
        "--threshold",
        help="Of frames: changes of a pixel up to this are left out; answers are exact for what is shown then.",
        min=0,
    ),
]
ImageColumn = Annotated[
    str | None, typer.Option(help="Column of the images, if it has an unusual name.", show_default=False)
]
LabelColumn = Annotated[str | None, typer.Option(help="Column of the labels, likewise.", show_default=False)]
Limit = Annotated[
    int | None, typer.Option(help="Take the first N images or frames only.", metavar="N", show_default=False)
]
TargetName = Annotated[str, typer.Option("--target", "-t", help="torch (simulator), lava, or loihi (chip model).")]
Bits = Annotated[
    int | None,
    typer.Option(
        help="Quantize a float network to integer weights of so many bits, 2 to 16.",
        show_default="the file's; 8 on loihi",
    ),
]
Double = Annotated[
    bool, typer.Option("--double", help="In double precision: twice the size and time, and rounding moves no level.")
]
ScheduleName = Annotated[
    str | None,
    typer.Option(
        help=(
            "pasc (the paper's), two_phase (a layer fires when its input is complete), "
            "streaming (all layers at once, signed spikes), or graded (a spike carries a number, by how much a "
            "level changes): the same levels in fewer timesteps."
        ),
        show_default="the file's, or pasc",
    ),
]
Lag = Annotated[
    str | None,
    typer.Option(
        help=(
            "Of the streaming schedule: timesteps from a layer's first input to its first spike; more of them, "
            "fewer spikes. A number, one for each layer (0,1,1), or a .json from `lags`."
        ),
        show_default="the file's, or 0",
    ),
]
Objective = Annotated[
    str,
    typer.Option(
        help=(
            f"Of the placement on cores: {', '.join(OBJECTIVES)}. For the first two, cores that are free on the chips "
            "that the network needs are used where that gains."
        )
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", callback=silence, expose_value=False, help="No progress and no notes, only results."),
]
Mean = Annotated[
    str | None,
    typer.Option(
        help=(
            "Where the file does not say (.pt2, NIR of other tools): mean of each channel, such as 0.49,0.48,0.45: "
            "inputs are (pixel / scale - mean) / std."
        )
    ),
]
Std = Annotated[str | None, typer.Option(help="Likewise: standard deviation of each channel.")]
Scale = Annotated[float, typer.Option(help="Likewise: the largest pixel value.")]


def load_data(
    name: str,
    limit: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    split: Split = "test",
    network: Graph | None = None,
    labels_for: str = "",
) -> Dataset:
    """Images by name, with a progress bar.

    Where they have different sizes, centre crops of the size that a network takes. Where labels are
    needed for something, images without are refused.
    """
    shape = () if network is None else network.input.shape
    crop = shape[1] if len(shape) == 3 and shape[0] == 3 and shape[1] == shape[2] else None
    with progress(f"reading {name}") as update:
        found = data.load(
            name, split, limit=limit, image_column=image_column, label_column=label_column, crop=crop, progress=update
        )
    if labels_for and not found.labelled:
        raise DataError(f"{labels_for} needs labels, and {name} has none: a .npz file has them as y")
    return found


def completed(graph: Graph, shown: Dataset | Frames, *, quantized: bool = False) -> Graph:
    """A network with what it does not say itself and its data do.

    That is mean and deviation, which a .npz file may hold; or else, where it is to be quantized,
    the range of its inputs.
    """
    if isinstance(shown, Frames):
        return graph
    if graph.preprocessing is None and shown.known is not None:
        note(f"the network does not say how pixels become inputs: mean and std are those of {shown.name}")
        graph = graph.replace(preprocessing=shown.known)
    if not quantized:
        return graph
    from pascal_nm.hw_targets import evaluation  # with torch, which `inspect` does not need

    ranged = evaluation.ranged(graph, shown)
    if ranged is not graph:
        note(f"the network is quantized for inputs up to {ranged.input_range:.4g}, the largest of {shown.name}")
    return ranged


def load_shown(
    name: str,
    frames: str | None,
    threshold: float,
    limit: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    *,
    network: Graph,
) -> Dataset | Frames:
    """The images of --data, or the frames of --frames."""
    if frames is None:
        if threshold:
            raise DataError("--threshold is of changes from frame to frame: it belongs to --frames")
        return load_data(name, limit, image_column, label_column, network=network)
    if image_column is not None or label_column is not None:
        raise DataError("--image-column and --label-column belong to --data, and frames have neither")
    with progress(f"reading {frames}") as update:
        shown = data.load_frames(frames, shape=network.input.shape, limit=limit, progress=update)
    pre = network.preprocessing
    if pre is not None and pre.scale != shown.scale:
        note(f"pixels of {frames} go up to {shown.scale:g}; they are scaled to the {pre.scale:g} of the network")
        shown = shown.rescaled(pre.scale)
    if not schedules.of(network).keeps(network):
        if network.timing.stop is None:
            why = f"schedule {network.timing} keeps no state; graded, streaming and two_phase need only changes"
        else:
            why = f"stopped after {network.timing.stop} timesteps, no state is kept"
        note(f"{why}: each frame is run from rest")
    return shown


def load_model(path: Path, mean: str | None = None, std: str | None = None, scale: float = 255.0) -> Model:
    """A model file; the preprocessing from the options where they are given."""
    if path.suffix == ".nir":
        raise FileError(f"{path} is a spiking network; this command needs the source network (.pt or .pt2)")
    from pascal_nm.source import checkpoint  # with torch, which a .nir does not need

    model = checkpoint.load(path)
    given = preprocessing(mean, std, scale)
    if given is not None and model.preprocessing not in (None, given):
        raise FileError(f"{path} was trained with its own preprocessing: leave --mean and --std out")
    model.preprocessing = given or model.preprocessing
    return model


def load_source(
    path: Path, given: Graph | None, mean: str | None = None, std: str | None = None, scale: float = 255.0
) -> tuple[Model, tuple[str, ...]]:
    """The model file of a spiking network's source, of the same float type.

    What it does not say (a .pt2 holds no preprocessing and no names of classes), the spiking
    network says; the names of that come with it, since it cannot be compared.
    """
    source = load_model(path, mean, std, scale)
    if given is None:
        return source, ()
    taken = []
    if source.preprocessing is None and given.preprocessing is not None:
        source.preprocessing = given.preprocessing
        taken.append("preprocessing")
    if not source.classes and given.classes:
        source.classes = given.classes
        taken.append("class names")
    return source.in_double() if given.dtype == np.float64 else source, tuple(taken)


def preprocessing(mean: str | None, std: str | None, scale: float) -> Preprocessing | None:
    """What --mean and --std say, if they are given."""
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise DataError("--mean and --std belong together: give both")
    return Preprocessing(scale, numbers("--mean", mean), numbers("--std", std))


def pool(wanted: str) -> Pool:
    """``avg`` or ``max``."""
    if wanted not in ("avg", "max"):
        raise DataError(f"--pool takes avg or max, not {wanted!r}")
    return cast("Pool", wanted)


def load_network(path: Path, mean: str | None = None, std: str | None = None, scale: float = 255.0) -> Graph:
    """The spiking network in a .nir file, or of a model file.

    The latter's preprocessing from the options where they are given.
    """
    return read_nir(path) if path.suffix == ".nir" else load_model(path, mean, std, scale).graph()


def load_any(path: Path, mean: str | None = None, std: str | None = None, scale: float = 255.0) -> Graph | OtherNir:
    """The same, or what else a .nir file holds."""
    return read_any(path) if path.suffix == ".nir" else load_model(path, mean, std, scale).graph()


def timing(graph: Graph, schedule: str | None, lag: str | None, stop: int | None) -> Graph:
    """The network with the schedule that the options ask for; what they leave open stays."""
    before = graph.timing
    if schedule is None:
        schedule = "streaming" if lag is not None and lag.endswith(".json") else before.schedule
    kept = before.lag if schedule == before.schedule else 0
    return graph.replace(timing=Timing(schedule, kept if lag is None else _lags(lag), stop or before.stop))


def _lags(text: str) -> int | tuple[int, ...]:
    return read_lags(text) if text.endswith(".json") else _by_layer(text, "a lag is a whole number", "lags")


def _by_layer(text: str, what: str, command: str) -> int | tuple[int, ...]:
    """One whole number for all layers, or one for each."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise DataError(
            f"{what}, one for each layer separated by commas, or a .json from `{command}`, not {text!r}"
        ) from None
    return numbers[0] if len(numbers) == 1 else numbers


def width(text: str | None) -> float | list[int] | None:
    """``0.25``, or the channels themselves: ``16,32,96,256``."""
    if text is None or "," not in text:
        return None if text is None else numbers("--width", text)[0]
    return [round(number) for number in numbers("--width", text)]


def bits(text: str) -> int | tuple[int, ...]:
    """``8``, or ``8,4,4,6``."""
    given = numbers("--bits", text)
    if any(number != int(number) for number in given):
        raise DataError(f"--bits takes whole numbers, not {text!r}")
    return int(given[0]) if len(given) == 1 else tuple(map(int, given))


def bits_of(path: Path, given: int | tuple[int, ...] | None) -> int | tuple[int, ...]:
    """Bits of the weights: those given, else those that a .pt was trained for, else 8."""
    if given is None and path.suffix == ".pt":
        given = load_model(path).bits
    return 8 if given is None else given


def levels(text: str | None) -> int | tuple[int, ...] | None:
    """``4``, or ``4,4,2,1``, or a levels file from `adapt`."""
    if text is None:
        return None
    return read_levels(text) if text.endswith(".json") else _by_layer(text, "levels are a whole number", "adapt")


def numbers(option: str, text: str) -> tuple[float, ...]:
    """What stands between the commas of an option's value."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise DataError(f"{option} takes numbers separated by commas, not {text!r}") from None


def whole_numbers(option: str, text: str) -> tuple[int, ...]:
    """The same, of whole numbers."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise DataError(f"{option} takes whole numbers separated by commas, not {text!r}") from None


def note_objective(objective: str, chip: Chip, placement: Placement | None) -> None:
    """Say where a chip's file lacks what an objective needs."""
    if placement is not None and placement.objective != objective:
        lacks = "times" if objective == "time" else "energies of messages"
        note(f"{chip.name}: its file gives no {lacks}, so the network is placed on the fewest cores")


def say_changed(changed: int | None, images: int) -> None:
    """How many predictions quantization changed, where there was any."""
    if changed is not None:
        say(f"quantization changed {changed:,} of {images:,} predictions of the float network")
