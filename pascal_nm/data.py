"""Labelled images in memory: the bundled digits, Parquet files, image folders, Hugging Face datasets.

Pixels stay as they are stored (8-bit); :class:`pascal_nm.graph.Preprocessing` turns them into the network's inputs, and travels with
the network, so that every target sees the same numbers.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from pascal_nm.errors import DataError, first_line
from pascal_nm.files import readable
from pascal_nm.graph import Array, Preprocessing

Split = Literal["train", "test"]

IMAGE_COLUMNS = ("image", "img", "pixel_values")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class")


TEST_PARTS = ("test", "validation", "valid", "val")
"""Names of the part to test on, in the order of preference."""


class Part(NamedTuple):
    """The share of one process, number ``rank`` of ``of`` from 0, in what several do together."""

    rank: int = 0
    of: int = 1

    @property
    def share(self) -> slice:
        """This process's images of a batch."""
        return slice(self.rank, None, self.of)


WHOLE = Part()
"""All, in a program of one process."""


class Images(Protocol):
    """Labelled images as a training takes them: in memory (:class:`Dataset`), or read as they are needed (:mod:`pascal_nm.streaming`)."""

    @property
    def name(self) -> str:
        """Where they come from."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each label."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""

    @property
    def crops(self) -> bool:
        """Whether the images of :meth:`shuffled` are random crops already, so that a training need not move them."""

    def __len__(self) -> int:
        """Images of an epoch."""

    def preprocessing(self) -> Preprocessing:
        """Mean and standard deviation of each channel."""

    def shuffled(
        self, rng: np.random.Generator, size: int, images: int, part: Part = WHOLE
    ) -> Iterator[tuple[Array, Array]]:
        """One epoch for training: the share of ``part`` in each batch of ``size``, ``images`` in all, in an order that ``rng`` alone decides.

        Every process gives a generator in the same state.
        """

    def batches(self, size: int, part: Part = WHOLE) -> Iterator[tuple[Array, Array]]:
        """All images once, for testing: pixels and labels, at most ``size`` at a time. The parts together are the whole."""

    def head(self, limit: int | None) -> Dataset:
        """The first ``limit`` images, in memory."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with labels.

    Attributes:
        name: where they came from.
        pixels: uint8 of shape (N, C, H, W).
        labels: int64 of shape (N,).
        classes: name of each label.
        scale: the largest pixel value: 255, or 16 for the digits.
    """

    name: str
    pixels: Array
    labels: Array
    classes: tuple[str, ...]
    scale: float = 255.0

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, channels, height, width = self.pixels.shape
        return (channels, height, width)

    @property
    def crops(self) -> bool:
        """False: images are as they were stored."""
        return False

    def preprocessing(self) -> Preprocessing:
        """Mean and standard deviation of each channel over these images."""
        return normalization(histogram(self.pixels), self.scale)

    def shuffled(
        self, rng: np.random.Generator, size: int, images: int, part: Part = WHOLE
    ) -> Iterator[tuple[Array, Array]]:
        """See :meth:`Images.shuffled`: one permutation of all images."""
        order = rng.permutation(len(self))[:images]
        chosen = (order[first : first + size][part.share] for first in range(0, len(order), size))
        return ((self.pixels[some], self.labels[some]) for some in chosen)

    def batches(self, size: int, part: Part = WHOLE) -> Iterator[tuple[Array, Array]]:
        """Pixels and labels, ``size`` at a time, of which a process takes its share."""
        for first in range(0, len(self), size):
            batch = slice(first, first + size)
            yield self.pixels[batch][part.share], self.labels[batch][part.share]

    def head(self, limit: int | None) -> Dataset:
        """The first ``limit`` images, or all."""
        return self if limit is None else replace(self, pixels=self.pixels[:limit], labels=self.labels[:limit])


def histogram(pixels: Array) -> Array:
    """How often each channel has each value: int64 of shape (C, 256) for uint8 pixels (N, C, H, W)."""
    return np.stack([np.bincount(pixels[:, c].reshape(-1), minlength=256) for c in range(pixels.shape[1])])


def normalization(histogram: Array, scale: float) -> Preprocessing:
    """The preprocessing that gives each channel mean 0 and deviation 1, rounded to four digits.

    Args:
        histogram: see :func:`histogram`.
        scale: the largest pixel value.
    """
    values = np.arange(256) / scale
    mean, std = [], []
    for counts in histogram:
        shares = counts / counts.sum()
        mean.append(float(shares @ values))
        std.append(math.sqrt(max(float(shares @ values**2) - mean[-1] ** 2, 1e-8)))
    return Preprocessing(scale, tuple(round(m, 4) for m in mean), tuple(max(round(s, 4), 1e-4) for s in std))


def load(
    name: str,
    split: Split = "test",
    *,
    limit: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    crop: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Load images by name.

    Args:
        name: ``digits`` (scikit-learn's 1797 real 8x8 images, nothing to download), a Parquet file, a folder with one folder per class,
            or a Hugging Face dataset name.
        split: which part of a dataset that has parts; of a folder, its ``train`` or ``test`` (``val``…) folder if it has them. A Parquet file is
            taken as it is.
        limit: at most so many images, from the start.
        image_column: column of the images, where it is not one of the usual names.
        label_column: column of the labels, likewise.
        crop: where images have different sizes: side of the centre crops, in colour, to take of them
            (:func:`pascal_nm.augmentation.centre_crop`); None refuses them.
        progress: called with (done, total) while images are decoded.

    Raises:
        DataError: unknown name or column, no images, images of different sizes, or a missing package.
        FileError: a missing or damaged file.
    """
    if limit is not None and limit < 1:
        raise DataError(f"a limit of {limit} images leaves nothing; give at least 1")
    if name == "digits":
        return _digits(split).head(limit)
    path = Path(name)
    if path.suffix == ".parquet":
        table = _parquet(path)
    elif path.exists():
        if not path.is_dir():
            raise DataError(f"{name} is neither a Parquet file (.parquet) nor a folder of images")
        table = _folder(path, split)
    elif path.suffix or name.startswith((".", "/")):
        raise DataError(f"{name} does not exist")
    else:
        table = _hub(name, split)
    return _decode(name, table, limit, image_column, label_column, crop, progress)


def load_pair(
    name: str,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Dataset, Dataset]:
    """Training and test images.

    A Parquet file brings its sibling (``cifar10-train.parquet`` and ``cifar10-test.parquet``). Where there are no test images, a tenth of the
    images, drawn at random with a fixed seed, is held out, and the name of the test data says so.

    Raises:
        DataError: as :func:`load`.
    """

    def get(source: str, split: Split) -> Dataset:
        return load(source, split, image_column=image_column, label_column=label_column, progress=progress)

    path = Path(name)
    if path.suffix == ".parquet" and path.exists():
        train, test = _siblings(path)
        return (
            _hold_out(get(str(train), "train")) if test is None else (get(str(train), "train"), get(str(test), "test"))
        )
    if path.is_dir() and not any((path / part).is_dir() for part in TEST_PARTS):
        return _hold_out(get(name, "train"))
    return get(name, "train"), get(name, "test")


def _hold_out(data: Dataset) -> tuple[Dataset, Dataset]:
    if len(data) < 10:
        raise DataError(f"{data.name} has {len(data)} images, too few to hold some out for testing")
    held = np.zeros(len(data), bool)
    held[np.random.default_rng(0).permutation(len(data))[: len(data) // 10]] = True
    test = replace(data, name=f"{data.name} (a held-out tenth)", pixels=data.pixels[held], labels=data.labels[held])
    return replace(data, pixels=data.pixels[~held], labels=data.labels[~held]), test


@dataclass(frozen=True)
class _Table:
    """Rows before decoding: ``column(name, stop)`` gives the first ``stop`` values; ``classes`` may be empty."""

    columns: Sequence[str]
    rows: int
    column: Callable[[str, int], Sequence[Any]]
    classes: Callable[[str], Sequence[str]]


def _digits(split: Split) -> Dataset:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    index = np.arange(len(bunch.target))
    train, test = train_test_split(index, test_size=360, random_state=0, stratify=bunch.target)
    chosen = np.sort(train if split == "train" else test)
    pixels = bunch.images[chosen][:, None].astype(np.uint8)
    return Dataset("digits", pixels, bunch.target[chosen].astype(np.int64), tuple("0123456789"), scale=16.0)


def _siblings(path: Path) -> tuple[Path, Path | None]:
    """The training file, and the test file that lies beside it under the same name but for train and test."""
    if "test" in path.stem:
        train = path.with_name(path.name.replace("test", "train"))
        if not train.exists():
            raise DataError(f"{path} holds test images, and the training images are not beside it as {train.name}")
        return train, path
    test = path.with_name(path.name.replace("train", "test"))
    return path, test if test != path and test.exists() else None


def _parquet(path: Path) -> _Table:
    readable(path)
    parquet = require("pyarrow.parquet")
    try:
        table = parquet.read_table(path)
    except Exception as error:  # pyarrow raises its own and OS errors for damaged files
        raise DataError(f"{path} cannot be read as Parquet: {first_line(error)}") from error
    return _Table(
        table.column_names,
        table.num_rows,
        lambda name, stop: table[name].slice(0, stop).to_pylist(),
        lambda column: class_names(table.schema, column),
    )


def class_names(schema: Any, column: str) -> tuple[str, ...]:
    """The names of a column's labels, as Hugging Face's ``datasets`` keeps them in an Arrow schema; none where there are none."""
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = metadata.get("info", {}).get("features", {}).get(column, {})
    return tuple(feature.get("names") or ()) if isinstance(feature, dict) else ()


def _folder(path: Path, split: Split) -> _Table:
    parts = [split] if split == "train" else TEST_PARTS
    root = next((path / part for part in parts if (path / part).is_dir()), path)
    names = sorted(p.name for p in root.iterdir() if p.is_dir())
    files = [(f, i) for i, name in enumerate(names) for f in sorted((root / name).iterdir()) if f.is_file()]
    columns: dict[str, list[Any]] = {
        "image": [{"bytes": None, "path": str(f)} for f, _ in files],
        "label": [i for _, i in files],
    }
    return _Table(("image", "label"), len(files), lambda name, stop: columns[name][:stop], lambda _: names)


def _hub(name: str, split: Split) -> _Table:
    datasets = require("datasets")
    try:
        table = datasets.load_dataset(name, split=split)
    except Exception as error:  # network, hub and builder errors of many types
        reason = first_line(error)
        raise DataError(
            f"no data called {name!r}: not digits, a file, or a folder, and as a Hugging Face dataset it failed: {reason}"
        ) from error
    features = table.features
    for column, feature in features.items():
        if type(feature).__name__ == "Image":
            table = table.cast_column(column, datasets.Image(decode=False))
    return _Table(
        table.column_names,
        len(table),
        lambda column, stop: table[:stop][column],
        lambda column: getattr(features[column], "names", ()),
    )


def _decode(
    name: str,
    table: _Table,
    limit: int | None,
    image_column: str | None,
    label_column: str | None,
    crop: int | None,
    progress: Callable[[int, int], None] | None,
) -> Dataset:
    image_column, label_column = columns(name, table.columns, image_column, label_column)
    stop = table.rows if limit is None else min(limit, table.rows)
    if stop < 1:
        raise DataError(f"{name} holds no images")
    rows = table.column(image_column, stop)
    require("PIL.Image")
    with ThreadPoolExecutor() as pool:
        images: list[Array] = []
        for image in pool.map(_image, rows, range(len(rows)), chunksize=256):
            images.append(image)
            if progress is not None and (len(images) % 1024 == 0 or len(images) == stop):
                progress(len(images), stop)
    shapes = {image.shape for image in images}
    if len(shapes) > 1 and crop is not None:
        images = [channels_first(_cropped(row, f"image {i}", crop)) for i, row in enumerate(rows)]
    elif len(shapes) > 1:
        raise DataError(
            f"{name}: images have different sizes ({', '.join(map(str, sorted(shapes)[:3]))}); resize them to one"
        )
    try:
        labels = np.asarray(table.column(label_column, stop), np.int64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: column {label_column!r} does not hold integer labels") from error
    if labels.min() < 0:
        raise DataError(f"{name}: column {label_column!r} holds negative labels (images without a label?)")
    classes = tuple(table.classes(label_column)) or tuple(str(i) for i in range(int(labels.max()) + 1))
    # A path's last part names the data everywhere, also in files that others get.
    return Dataset(Path(name).name if Path(name).exists() else name, np.stack(images), labels, classes)


def _image(row: Any, index: int) -> Array:
    """One stored image as uint8 (C, H, W)."""
    return channels_first(decoded(row, f"image {index}"))


def _cropped(row: Any, place: str, size: int) -> Any:
    from pascal_nm.augmentation import centre_crop

    return centre_crop(decoded(row, place).convert("RGB"), size)


def decoded(row: Any, place: str) -> Any:
    """One stored image as a Pillow image, grey (L) or in colour (RGB).

    Args:
        row: encoded bytes, a path or URL, a dictionary of both as ``datasets`` has it, or an array of 8-bit pixels.
        place: what an error calls the image.

    Raises:
        DataError: it is damaged, or no image.
    """
    from PIL import Image

    if isinstance(row, dict):
        row = row.get("bytes") or row.get("path")
    try:
        with _opened(row, place) as image:
            if image.mode not in ("L", "RGB"):
                return image.convert("L" if image.mode in ("1", "I", "F") else "RGB")
            image.load()
            return image
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow's decoders raise
        raise DataError(f"{place} cannot be decoded: {first_line(error)}") from error


def _opened(row: Any, place: str) -> Any:
    from PIL import Image

    if isinstance(row, str) and "://" in row:  # a member of an archive or repository that is streamed
        with require("fsspec").open(row, "rb") as file:
            row = file.read()
    if isinstance(row, (bytes, str)):
        return Image.open(io.BytesIO(row) if isinstance(row, bytes) else row)
    if isinstance(row, Image.Image):
        return row
    array = np.asarray(row)
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise DataError(f"{place} is not an 8-bit image: {array.dtype} of shape {array.shape}")
    return Image.fromarray(array)


def channels_first(image: Any) -> Array:
    """The pixels of a grey or colour Pillow image: uint8 (C, H, W)."""
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def columns(name: str, there: Sequence[str], image: str | None, label: str | None) -> tuple[str, str]:
    """The columns of the images and of the labels: those that are wanted, or else those of a usual name.

    Raises:
        DataError: a wanted column is missing, or none has a usual name.
    """
    return _column(name, there, image, IMAGE_COLUMNS, "image"), _column(name, there, label, LABEL_COLUMNS, "label")


def _column(name: str, there: Sequence[str], wanted: str | None, usual: Sequence[str], what: str) -> str:
    if wanted is not None:
        if wanted not in there:
            raise DataError(f"{name} has no column {wanted!r}; it has: {', '.join(there)}")
        return wanted
    for column in usual:
        if column in there:
            return column
    raise DataError(f"{name}: which column holds the {what}? Give --{what}-column; there are: {', '.join(there)}")


def require(module: str) -> Any:
    """A module of the ``data`` extra.

    Raises:
        DataError: it is not installed; says how to install it.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(f'{module.split(".")[0]} is not installed: pip install "pascal-nm[data]"') from error
