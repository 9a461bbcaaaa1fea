"""Labelled images in memory: the bundled digits, Parquet files, folders, Hugging Face datasets.

Pixels stay as they are stored (8-bit); :class:`pascal_nm.network.graph.Preprocessing` turns them
into the network's inputs, and travels with the network: every target sees the same numbers.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.common.batches import batches
from pascal_nm.common.packages import require
from pascal_nm.data import arrays, hub, parquet
from pascal_nm.data.foreign import shown, told
from pascal_nm.errors import DataError, first_line
from pascal_nm.network.graph import Preprocessing

Split = Literal["train", "test"]

_IMAGE_COLUMNS = ("image", "img", "pixel_values")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class")


_CLASSES = 1 << 17
"""The most classes where they have no names: a label is smaller. ImageNet-21k has 21,841."""

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
"""Formats of images that are decoded. Pillow would run other programs for some of the rest."""

PIXELS, _MANY_PIXELS = 1 << 25, 1 << 20
"""The most pixels of an image as it is stored (8K video has fewer), and from how many on images are
decoded one at a time."""

_DECODED = 64
"""Images that are decoded together."""

ARRAYS = (".npz", ".npy")
"""Files of arrays."""

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
    """Labelled images as a training takes them.

    They are in memory (:class:`Dataset`), or read as they are needed
    (:mod:`pascal_nm.data.streams`).
    """

    @property
    def name(self) -> str:
        """Where they come from."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each label."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image."""

    @property
    def crops(self) -> bool:
        """Whether the images of :meth:`shuffled` are random crops, so that training moves none."""

    def __len__(self) -> int:
        """Images of an epoch."""

    def preprocessing(self) -> Preprocessing:
        """Mean and standard deviation of each channel."""

    def shuffled(
        self, rng: np.random.Generator, size: int, images: int, part: Part = WHOLE
    ) -> Iterator[tuple[Array, Array]]:
        """One epoch for training, in an order that ``rng`` alone decides.

        Gives the share of ``part`` in each batch of ``size``, ``images`` in all.

        Every process gives a generator in the same state.
        """

    def batches(self, size: int, part: Part = WHOLE) -> Iterator[tuple[Array, Array]]:
        """All images once, for testing: pixels and labels, at most ``size`` at a time.

        The parts together are the whole.
        """

    def head(self, limit: int | None) -> Dataset:
        """The first ``limit`` images, in memory."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with labels, or inputs of any shape.

    Attributes:
        name: where they came from.
        pixels: uint8 of shape (N, C, H, W). Arrays of others may be of any shape (N, *shape); those
            of a float type are inputs, preprocessed.
        labels: int64 of shape (N,), -1 where there are none.
        classes: name of each label.
        scale: the largest pixel value: 255, or 16 for the digits; None where it is not known.
        known: how pixels become inputs, where the data itself says it.
    """

    name: str
    pixels: Array
    labels: Array
    classes: tuple[str, ...]
    scale: float | None = 255.0
    known: Preprocessing | None = None

    def __post_init__(self) -> None:
        if self.pixels.ndim < 2 or not self.pixels.size:
            raise DataError(f"{self.name} holds no images: pixels (N, C, H, W) of shape {self.pixels.shape}")
        if self.labels.shape != (len(self.pixels),):
            raise DataError(
                f"{self.name} has {len(self.pixels)} images and labels of shape {self.labels.shape}: "
                "one for each is needed"
            )

    @staticmethod
    def of(data: Any, name: str = "the data", *, limit: int | None = None, classes: Sequence[str] = ()) -> Dataset:
        """Whatever :func:`pascal_nm.common.batches.batches` takes, in memory.

        Args:
            data: a loader, arrays, tensors…
            name: of the dataset.
            limit: at most so many, from the start.
            classes: names of the labels; without them they have numbers.

        Raises:
            DataError: it is none of these, or some have labels and some none.
        """
        inputs, labels = zip(*batches(data, limit), strict=True)
        known = [y for y in labels if y is not None]
        if len(known) not in (0, len(labels)):
            raise DataError(f"some of {name} have labels and some have none")
        x = np.concatenate(inputs)
        y = np.concatenate(known) if known else np.full(len(x), -1, np.int64)
        checked_label(max(0, int(y.max())), classes, name)
        scale = getattr(data, "scale", None if x.dtype != np.uint8 else 255.0)
        return Dataset(name, x, y, tuple(classes) or (numbered(int(y.max())) if known else ()), scale)

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image."""
        return self.pixels.shape[1:]

    @property
    def labelled(self) -> bool:
        """Whether it has labels."""
        return bool((self.labels >= 0).all())

    @property
    def preprocessed(self) -> bool:
        """Whether it holds inputs, and no pixels."""
        return self.pixels.dtype.kind == "f"

    def check_images(self) -> None:
        """Refuse what training does not take.

        Raises:
            DataError: they are no 8-bit images with labels.
        """
        if self.pixels.ndim != 4 or self.pixels.dtype != np.uint8 or not self.labelled:
            without = "" if self.labelled else " without labels"
            raise DataError(
                f"training takes 8-bit images (N, C, H, W) with labels; {self.name} holds {self.pixels.dtype} of shape "
                f"{self.pixels.shape}{without}"
            )

    @property
    def crops(self) -> bool:
        """False: images are as they were stored."""
        return False

    def preprocessing(self) -> Preprocessing:
        """Mean and standard deviation of each channel over these images, or what they say."""
        return self.known or normalization(histogram(self.pixels), self.scale or 255.0)

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
    """How often each channel has each value, of uint8 pixels (N, C, H, W): int64 (C, 256)."""
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
        name: ``digits`` (scikit-learn's 1797 real 8x8 images, nothing to download), a Parquet file,
            a folder with one folder per class, arrays (``.npz`` with ``x`` and perhaps ``y``,
            ``mean``, ``std``, ``scale`` and ``classes``; ``.npy``), or a Hugging Face dataset name.
        split: which part of a dataset that has parts; of a folder, its ``train`` or ``test``
            (``val``…) folder if it has them. A Parquet file is taken as it is.
        limit: at most so many images, from the start.
        image_column: column of the images, where it is not one of the usual names.
        label_column: column of the labels, likewise.
        crop: where images have different sizes: side of the centre crops, in colour, to take of
            them (:func:`pascal_nm.data.augmentation.centre_crop`); None refuses them.
        progress: called with (done, total) while images are decoded.

    Raises:
        DataError: unknown name or column, no images, images of different sizes, or a
            missing package.
        FileError: a missing or damaged file.
    """
    if limit is not None and limit < 1:
        raise DataError(f"a limit of {limit} images leaves nothing; give at least 1")
    if name == "digits":
        return _digits(split).head(limit)
    path = Path(name)
    if path.suffix == ".parquet":
        table = _parquet(path)
    elif path.suffix in ARRAYS:
        return _arrays(path, limit)
    elif path.exists():
        if not path.is_dir():
            raise DataError(f"{name} is neither a Parquet file (.parquet), arrays (.npz, .npy) nor a folder of images")
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

    A Parquet file brings its sibling (``cifar10-train.parquet`` and ``cifar10-test.parquet``).
    Where there are no test images, a tenth of the images, drawn at random with a fixed seed, is
    held out, and the name of the test data says so.

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
    if path.suffix in ARRAYS or (path.is_dir() and not any((path / part).is_dir() for part in TEST_PARTS)):
        return _hold_out(get(name, "train"))
    return get(name, "train"), get(name, "test")


def training_part(name: str) -> str | None:
    """What :func:`load` takes, with split ``train``, for these images' training images.

    None where none are known.

    Of a Parquet file, the sibling (``cifar10-train.parquet`` beside ``cifar10-test.parquet``) or
    the file itself, if its name says so; of a folder, itself, if it has a ``train`` folder; of
    other names, themselves.
    """
    path = Path(name)
    if path.suffix == ".parquet" and "test" in path.stem:
        train = path.with_name(path.name.replace("test", "train"))
        return str(train) if train.exists() else None
    if path.suffix == ".parquet":
        return name if "train" in path.stem else None
    if path.is_dir():
        return name if (path / "train").is_dir() else None
    return None if path.suffix in ARRAYS else name


def _hold_out(data: Dataset) -> tuple[Dataset, Dataset]:
    if len(data) < 10:
        raise DataError(f"{data.name} has {len(data)} images, too few to hold some out for testing")
    held = np.zeros(len(data), bool)
    held[np.random.default_rng(0).permutation(len(data))[: len(data) // 10]] = True
    test = replace(data, name=f"{data.name} (a held-out tenth)", pixels=data.pixels[held], labels=data.labels[held])
    return replace(data, pixels=data.pixels[~held], labels=data.labels[~held]), test


@dataclass(frozen=True)
class _Table:
    """Rows before decoding.

    ``read(image column, label column)`` gives pairs, again and again; ``classes`` may be empty.
    """

    columns: Sequence[str]
    rows: int
    read: Callable[[str, str], Iterable[tuple[Any, Any]]]
    classes: Callable[[str], Sequence[str]]


class Found(str):
    """The place of an image that was found by looking for images.

    Text that a file holds never becomes one, and is not followed.
    """


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
    """The training file, and the test file beside it: the same name but for train and test."""
    if "test" in path.stem:
        train = path.with_name(path.name.replace("test", "train"))
        if not train.exists():
            raise DataError(f"{path} holds test images, and the training images are not beside it as {train.name}")
        return train, path
    test = path.with_name(path.name.replace("train", "test"))
    return path, test if test != path and test.exists() else None


def _parquet(path: Path) -> _Table:
    file = parquet.opened(path)
    return _Table(
        file.schema_arrow.names,
        file.metadata.num_rows,
        lambda image, label: parquet.rows(path, (image, label)),
        lambda column: parquet.class_names(file.schema_arrow, column),
    )


def _folder(path: Path, split: Split) -> _Table:
    parts = [split] if split == "train" else TEST_PARTS
    root = next((path / part for part in parts if (path / part).is_dir()), path)
    names = [p.name for p in visible(root) if p.is_dir()]
    files = [(Found(f), i) for i, name in enumerate(names) for f in visible(root / name) if f.is_file()]
    return _Table(("image", "label"), len(files), lambda image, label: files, lambda _: [shown(name) for name in names])


def visible(folder: Path) -> list[Path]:
    """What is in a folder but for hidden files, which systems and editors leave there."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _arrays(path: Path, limit: int | None) -> Dataset:
    """Inputs or pixels as they are stored."""
    found = arrays.read(path, limit)
    labels = np.full(len(found.x), -1, np.int64) if found.y is None else found.y
    known = None
    if found.mean is not None and found.std is not None:
        known = Preprocessing(found.scale or (255.0 if found.x.dtype.kind in "iu" else 1.0), found.mean, found.std)
    data = Dataset(shown(path.name), found.x, labels, found.classes, found.scale, known)
    if data.labelled:
        checked_label(int(labels.max()), data.classes, f"{data.name}: y")
        return data if data.classes else replace(data, classes=numbered(int(labels.max())))
    return data


def _hub(name: str, split: Split) -> _Table:
    datasets = require("datasets")
    try:
        with hub.reached_or_offline():
            table = datasets.load_dataset(name, split=split)
    except Exception as error:  # network, hub and builder errors of many types
        reason = first_line(error)
        raise DataError(
            f"no data called {name!r}: not digits, a file, or a folder, "
            f"and as a Hugging Face dataset it failed: {reason}"
        ) from error
    features = table.features
    for column, feature in features.items():
        if type(feature).__name__ == "Image":
            table = table.cast_column(column, datasets.Image(decode=False))
    return _Table(
        table.column_names,
        len(table),
        lambda image, label: ((found(row[image], table.info), row[label]) for row in table),
        lambda column: getattr(features[column], "names", ()),
    )


def found(image: Any, info: Any) -> Any:
    """An image of a Hugging Face dataset.

    It is given by its bytes, or by the place in the dataset's own files where
    ``datasets`` found it.
    """
    if not isinstance(image, dict):
        return image
    listed = getattr(info, "builder_name", None) == "imagefolder"
    return image.get("bytes") or (Found(image["path"]) if listed else None)


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
    require("PIL.Image")

    def rows() -> Iterator[tuple[Any, Any]]:
        return itertools.islice(table.read(image_column, label_column), stop)

    shapes: set[tuple[int, int, int]] = set()
    labels: list[int] = []
    classes = tuple(table.classes(label_column))
    stored = 0
    for row, label in rows():
        shape, size = _measured(row, f"image {len(labels)} of {name}")
        shapes.add(shape)
        stored += size
        labels.append(checked_label(label, classes, f"{name}: column {label_column!r}"))
    if not labels:
        raise DataError(f"{name} holds no images")
    if len(shapes) > 1 and crop is None:
        raise DataError(
            f"{name}: images have different sizes ({', '.join(map(str, sorted(shapes)[:3]))}); resize them to one"
        )
    shape = (3, crop, crop) if len(shapes) > 1 and crop is not None else shapes.pop()
    if len(labels) * math.prod(shape) > parquet.EXPANSION * stored + parquet.SPARE_BYTES:
        raise DataError(
            f"{name} was not decoded: "
            f"{len(labels):,} images of shape {shape} are more than {parquet.EXPANSION} times what is stored of them"
        )
    decode = _image if crop is None or len(shapes) < 2 else partial(_cropped, size=crop)
    pixels = np.empty((len(labels), *shape), np.uint8)
    images = (row for row, _ in rows())
    places = (f"image {number} of {name}" for number in range(len(labels)))
    decode_into(pixels, images, places, decode, progress)
    # A path's last part names the data everywhere, also in files that others get.
    named = shown(Path(name).name) if Path(name).exists() else name
    return Dataset(named, pixels, np.asarray(labels, np.int64), classes or numbered(max(labels)))


def decode_into(
    pixels: Array,
    rows: Iterable[Any],
    places: Iterable[str],
    decode: Callable[[Any, str], Array],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Decode stored images by several threads, a few at a time.

    Args:
        pixels: uint8 (N, C, H, W), which is filled.
        rows: N stored images; see :func:`decoded`.
        places: what an error calls each of them.
        decode: given an image and its place, gives uint8 (C, H, W).
        progress: called with (done, total).
    """
    rows, places = iter(rows), iter(places)
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(pixels), _DECODED):
            some = list(itertools.islice(rows, _DECODED))
            for i, image in enumerate(pool.map(decode, some, itertools.islice(places, len(some)))):
                pixels[first + i] = image
            if progress is not None:
                progress(first + len(some), len(pixels))


def checked_label(label: Any, classes: Sequence[str], where: str) -> int:
    """A label as a whole number.

    Raises:
        DataError: it is none, is negative, or names no class; the line begins with ``where``.
    """
    if isinstance(label, float) and label.is_integer():  # as pandas writes whole numbers once one of them was missing
        label = int(label)
    if not isinstance(label, int):
        raise DataError(f"{where} does not hold integer labels, but {label!r:.40}")
    if label < 0:
        raise DataError(f"{where} holds negative labels (images without a label?)")
    if label >= (len(classes) or _CLASSES):
        raise DataError(
            f"{where} holds the label {label}, but there are {len(classes) or _CLASSES:,} classes at most, from 0 on"
        )
    return label


def numbered(largest: int) -> tuple[str, ...]:
    """Names of classes that have numbers only."""
    return tuple(map(str, range(largest + 1)))


def _image(row: Any, place: str) -> Array:
    """One stored image as uint8 (C, H, W)."""
    return channels_first(decoded(row, place))


def _cropped(row: Any, place: str, size: int) -> Array:
    from pascal_nm.data.augmentation import centre_crop

    return channels_first(centre_crop(decoded(row, place).convert("RGB"), size))


_one_at_a_time = threading.Lock()


def decoded(row: Any, place: str) -> Any:
    """One stored image as a Pillow image, grey (L) or in colour (RGB).

    Args:
        row: encoded bytes, a place that was :class:`Found`, or an array of 8-bit pixels.
        place: what an error calls the image.

    Raises:
        DataError: it is damaged, too large, or no image.
    """
    with _opened(row, place) as image:
        many = image.width * image.height > _MANY_PIXELS
        with _one_at_a_time if many else contextlib.nullcontext(), told(f"{place} cannot be decoded"):
            if image.mode not in ("L", "RGB"):
                return image.convert("L" if image.mode in ("1", "I", "F") else "RGB")
            image.load()
            return image


def _measured(row: Any, place: str) -> tuple[tuple[int, int, int], int]:
    """(C, H, W) of a stored image, and how many bytes are stored of it; it is not decoded."""
    with _opened(row, place) as image:
        grey = image.mode in ("L", "1", "I", "F")
        size = len(row) if isinstance(row, bytes) else image.width * image.height
        if isinstance(row, Found) and "://" not in row:
            size = os.stat(row).st_size
        return (1 if grey else 3, image.height, image.width), size


def _opened(row: Any, place: str) -> Any:
    """A Pillow image that is not decoded yet."""
    from PIL import Image

    with told(f"{place} cannot be decoded"):
        if isinstance(row, Found) and "://" in row:  # a member of an archive or repository that is streamed
            with require("fsspec").open(row, "rb") as file:
                row = file.read()
        if isinstance(row, str) and not isinstance(row, Found):
            raise DataError(
                f"{place} is a path or address ({row[:40]!r}), which is not followed: store the images' bytes"
            )
        if row is None or isinstance(row, dict):
            raise DataError(
                f"{place} has no bytes stored; a path in its place is not followed: store the images' bytes"
            )
        if isinstance(row, (bytes, str)):
            image: Image.Image = Image.open(io.BytesIO(row) if isinstance(row, bytes) else row, formats=_FORMATS)
        elif isinstance(row, Image.Image):
            image = row
        else:
            array = np.asarray(row)
            if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,), (4,)):
                raise DataError(f"{place} is not an 8-bit image: {array.dtype} of shape {array.shape}")
            image = Image.fromarray(array)
        if not 0 < image.width * image.height <= PIXELS:
            raise DataError(f"{place} has {image.width} x {image.height} pixels; at most {PIXELS:,} are decoded")
        return image


def channels_first(image: Any) -> Array:
    """The pixels of a grey or colour Pillow image: uint8 (C, H, W)."""
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def fitted(image: Any, shape: tuple[int, int, int], place: str) -> Array:
    """The largest middle part of a Pillow image that has a network's shape, and its pixels.

    Every pixel of the result is the mean of the area that it covers.

    Args:
        image: grey or in colour.
        shape: (C, H, W), where C is 1 (grey) or 3.
        place: what an error calls the image.

    Returns:
        uint8 of this shape.

    Raises:
        DataError: an image has other channels.
    """
    from PIL import Image

    channels, height, width = shape
    if channels not in (1, 3):
        raise DataError(f"{place} is grey or in colour, 1 or 3 channels; the network takes {channels}")
    image = image.convert("L" if channels == 1 else "RGB")
    scale = min(image.width / width, image.height / height)
    left, top = max(0.0, image.width - scale * width) / 2, max(0.0, image.height - scale * height) / 2
    box = (left, top, image.width - left, image.height - top)
    return channels_first(image.resize((width, height), Image.Resampling.BOX, box=box))


def columns(name: str, there: Sequence[str], image: str | None, label: str | None) -> tuple[str, str]:
    """The columns of images and labels: those that are wanted, or else those of a usual name.

    Raises:
        DataError: a wanted column is missing, or none has a usual name.
    """
    return _column(name, there, image, _IMAGE_COLUMNS, "image"), _column(name, there, label, _LABEL_COLUMNS, "label")


def _column(name: str, there: Sequence[str], wanted: str | None, usual: Sequence[str], what: str) -> str:
    if wanted is not None:
        if wanted not in there:
            raise DataError(f"{name} has no column {wanted!r}; it has: {', '.join(there)}")
        return wanted
    for column in usual:
        if column in there:
            return column
    raise DataError(f"{name}: which column holds the {what}? Give --{what}-column; there are: {', '.join(there)}")
