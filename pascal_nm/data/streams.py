"""Labelled images that are read while they are needed.

Hugging Face datasets, Parquet shards and image folders need not fit in memory.

Rows come from ``datasets.IterableDataset``, which shuffles them through a buffer and gives each of
several processes its own. Threads decode and crop a few batches ahead of the training. What is held
in memory is the buffer, those batches and the ten shards (row groups of Parquet files) that are
read at a time, whatever the number of images; of an image folder also the names of the files.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.common.packages import require
from pascal_nm.data import hub, parquet
from pascal_nm.data.augmentation import centre_crop, random_crop
from pascal_nm.data.dataset import (
    TEST_PARTS,
    WHOLE,
    Dataset,
    Found,
    Part,
    channels_first,
    checked_label,
    columns,
    decoded,
    found,
    histogram,
    normalization,
    numbered,
    visible,
)
from pascal_nm.data.foreign import shown
from pascal_nm.errors import DataError, PascalError, first_line
from pascal_nm.network.graph import Preprocessing

T = TypeVar("T")

SIZE = 224
"""Usual side of the crops, in pixels."""

_BUFFER = 1000
"""Images among which the next one is drawn."""

MEASURED = 2048
"""Images, in the shuffled order of seed 0, whose mean and standard deviation stand
for those of all."""

_AHEAD = 3
"""Batches that are made ready before the training asks for them."""

_SHARD = 100
"""Files of an image folder that are drawn as one shard."""

_LARGEST_ROW_GROUP = 1 << 30
"""Bytes. A row group is read as a whole, and ten at a time."""

_PARTS = ("train", *TEST_PARTS)

_PART = re.compile(rf"(?<![a-z])({'|'.join(_PARTS)})(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Stream:
    """Images with labels that are read one after the other; see :class:`pascal_nm.data.Images`.

    Attributes:
        name: where they come from.
        rows: a ``datasets.IterableDataset`` of dictionaries with encoded images, integer labels,
            and perhaps ``place``: what an error calls the image.
        classes: name of each label.
        images: how many make an epoch; None where nobody knows before they are counted.
        size: side of the square crops in colour, in pixels; None for images as they are stored,
            all of one size.
        image_column: key of the images.
        label_column: key of the labels.
    """

    name: str
    rows: Any
    classes: tuple[str, ...]
    images: int | None
    size: int | None = SIZE
    image_column: str = "image"
    label_column: str = "label"

    def __len__(self) -> int:
        """Images of an epoch. Where the source does not tell, they are read once and counted."""
        return self._counted if self.images is None else self.images

    @cached_property
    def _counted(self) -> int:
        return sum(1 for _ in self._read(self.rows))

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        if self.size is not None:
            return (3, self.size, self.size)
        for row in self._read(self.rows):
            channels, height, width = self._stored(row, 0).shape
            return (channels, height, width)
        raise DataError(f"{self.name} holds no images")

    @property
    def crops(self) -> bool:
        """Whether images are random crops."""
        return self.size is not None

    def preprocessing(self) -> Preprocessing:
        """Mean and standard deviation of each channel, over :data:`MEASURED` images' test crops."""
        return self._measured

    @cached_property
    def _measured(self) -> Preprocessing:
        counts = np.zeros((self.shape[0], 256), np.int64)
        labels: list[int] = []
        for pixels, some in self._batches(self._sample(MEASURED), itertools.repeat(100), self._test_image):
            counts += histogram(pixels)
            labels += some.tolist()
        if not labels:
            raise DataError(f"{self.name} holds no images")
        if len(labels) == MEASURED and len(set(labels)) == 1 < len(self.classes):
            raise DataError(
                f"{self.name}: {MEASURED} images in shuffled order have one label: "
                "they lie sorted by class; store them mixed"
            )
        return normalization(counts, 255.0)

    def labelled(self) -> bool:
        """Whether the first image, if any, has a label: the hub marks images without one by -1."""
        row = next(self._read(self.rows), None)
        return row is not None and row[self.label_column] != -1

    def shuffled(
        self, rng: np.random.Generator, size: int, images: int, part: Part = WHOLE
    ) -> Iterator[tuple[Array, Array]]:
        """See :meth:`pascal_nm.data.Images.shuffled`.

        A process whose images are fewer than its share starts over with them.

        ``rng`` gives the seed of the order and of the crops, so that they are those of a seed and
        an epoch, as with ``set_epoch``.
        """
        seed = int(rng.integers(2**31))
        rows = self._endless(self._own(self.rows.shuffle(seed=seed, buffer_size=_BUFFER), part))
        counts = (len(range(images)[first : first + size][part.share]) for first in range(0, images, size))
        return _ahead(self._batches(rows, counts, partial(self._training_image, (seed, part.rank))), _AHEAD)

    def batches(self, size: int, part: Part = WHOLE) -> Iterator[tuple[Array, Array]]:
        """See :meth:`pascal_nm.data.Images.batches`: test crops, always in the same order."""
        rows = self._read(self._own(self.rows, part))
        return _ahead(self._batches(rows, itertools.repeat(size), self._test_image), _AHEAD)

    def head(self, limit: int | None) -> Dataset:
        """Test crops of ``limit`` images in the shuffled order of seed 0, in memory."""
        parts = list(self._batches(self._sample(limit), itertools.repeat(100), self._test_image))
        pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Dataset(self.name, pixels, labels, self.classes)

    def _sample(self, limit: int | None) -> Iterator[Any]:
        return itertools.islice(self._read(self.rows.shuffle(seed=0, buffer_size=_BUFFER)), limit)

    def _own(self, rows: Any, part: Part) -> Any:
        """The rows that only this process reads."""
        if part == WHOLE:
            return rows
        return require("datasets.distributed").split_dataset_by_node(rows, rank=part.rank, world_size=part.of)

    def _read(self, rows: Any) -> Iterator[Any]:
        try:
            yield from rows
        except PascalError:
            raise
        except Exception as error:  # network, hub and file errors of many types
            raise DataError(f"{self.name} cannot be read further: {first_line(error)}") from error

    def _endless(self, rows: Any) -> Iterator[Any]:
        while True:
            row = None
            for row in self._read(rows):
                yield row
            if row is None:
                raise DataError(f"{self.name} has too few images for so many processes")

    def _batches(
        self, rows: Iterator[Any], counts: Iterable[int], image: Callable[[Any, int], Array]
    ) -> Generator[tuple[Array, Array], None, None]:
        """Batches of ``counts`` rows, decoded by threads, until there are no more.

        ``image`` makes pixels of a row and its position.
        """
        require("PIL.Image")
        first = 0
        with ThreadPoolExecutor() as pool:
            for count in counts:
                some = list(itertools.islice(rows, count))
                if len(some) == 0 < count:
                    return
                images = list(pool.map(image, some, itertools.count(first)))
                labels = [self._label(row, first + i) for i, row in enumerate(some)]
                first += len(some)
                yield np.stack(images), np.asarray(labels, np.int64)

    def _training_image(self, seed: tuple[int, int], row: Any, position: int) -> Array:
        if self.size is None:
            return self._stored(row, position, self.shape)
        rng = np.random.default_rng((*seed, position))
        return channels_first(random_crop(self._colour(row, position), self.size, rng))

    def _test_image(self, row: Any, position: int) -> Array:
        if self.size is None:
            return self._stored(row, position, self.shape)
        return channels_first(centre_crop(self._colour(row, position), self.size))

    def _colour(self, row: Any, position: int) -> Any:
        return self._decoded(row, position).convert("RGB")

    def _decoded(self, row: Any, position: int) -> Any:
        return decoded(found(row[self.image_column], self.rows.info), self._place(row, position))

    def _stored(self, row: Any, position: int, shape: tuple[int, int, int] | None = None) -> Array:
        pixels = channels_first(self._decoded(row, position))
        if shape not in (None, pixels.shape):
            raise DataError(
                f"{self.name}: images have different sizes ({shape}, {pixels.shape}); crop them to one: --size"
            )
        return pixels

    def _label(self, row: Any, position: int) -> int:
        label = row[self.label_column]
        if not isinstance(label, int):
            raise DataError(f"{self.name}: column {self.label_column!r} does not hold integer labels")
        if not 0 <= label < len(self.classes):
            raise DataError(
                f"{self._place(row, position)} has label {label}, but there are {len(self.classes)} classes, from 0 on"
            )
        return label

    def _place(self, row: Any, position: int) -> str:
        """What an error calls an image."""
        image = row[self.image_column]
        path = image.get("path") if isinstance(image, dict) else None
        return row.get("place") or f"image {path or position} of {self.name}"


def _ahead(items: Generator[T, None, None], depth: int) -> Iterator[T]:
    """The same items, up to ``depth`` of which a thread works out before they are asked for."""
    end = object()
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(1) as worker:
        try:
            while True:
                while len(waiting) < depth:
                    waiting.append(worker.submit(next, items, end))
                item = waiting.popleft().result()
                if item is end:
                    return
                yield item
        finally:
            for future in waiting:
                future.cancel()
            worker.submit(items.close)


def load_pair(
    name: str,
    *,
    size: int | None = SIZE,
    images_per_epoch: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> tuple[Stream, Stream]:
    """Training and test images as streams.

    The part to test on is the first of ``test``, ``validation``, ``valid`` and ``val`` that exists
    and has labels; its name is in the name of the test data.

    Args:
        name: a folder of Parquet shards or of images, with the parts' names in the names of
            files or folders; a Parquet file or a pattern for several, such as
            ``train-*.parquet``, which brings the test images of the same name but for the
            part's; or a Hugging Face dataset name.
        size: side of the square crops, in pixels; None takes images as they are stored,
            all of one size.
        images_per_epoch: how many images make an epoch; by default all, if the source says
            how many those are.
        image_column: column of the images, where it is not one of the usual names.
        label_column: column of the labels, likewise.

    Raises:
        DataError: no such data, no part to train or to test on, a missing column, no names of
            classes, or an unknown number of images.
    """
    parts = _parts(name, image_column, label_column)
    if "train" not in parts:
        raise DataError(f"{name} has no part called train; it has: {', '.join(parts) or 'none'}")
    images = images_per_epoch or parts["train"].images
    if images is None:
        raise DataError(f"{name} does not say how many images it has: give --images-per-epoch")
    train = replace(parts["train"], images=images, size=size)
    for test in (replace(parts[part], size=size) for part in TEST_PARTS if part in parts):
        if test.labelled():
            return train, test
    raise DataError(
        f"{name} has no part with labels to test on, called {', '.join(TEST_PARTS[:-1])} or {TEST_PARTS[-1]}; "
        f"it has: {', '.join(parts)}"
    )


def _parts(name: str, image_column: str | None, label_column: str | None) -> dict[str, Stream]:
    """The parts that a training may need, under their names."""
    path = Path(name)
    if name == "digits":
        raise DataError("the digits are in memory: leave --streaming out")
    if path.suffix == ".parquet":
        return _parquet(path, _named_alike(path), image_column, label_column)
    if path.is_dir():
        shards = sorted([*path.glob("*.parquet"), *path.glob("*/*.parquet")])
        return _parquet(path, _grouped(path, shards), image_column, label_column) if shards else _folder(path)
    if path.exists():
        raise DataError(f"{name} is neither a Parquet file (.parquet) nor a folder")
    if path.suffix or name.startswith((".", "/")):
        raise DataError(f"{name} does not exist")
    return _hub(name, image_column, label_column)


def _named_alike(path: Path) -> dict[str, list[Path]]:
    """The files of each part, whose names differ from a file's (or pattern's) in the part only."""
    found = _PART.search(path.name)
    if found is None:
        return {"train": [path]} if path.exists() else {}
    names = {part: path.name[: found.start()] + part + path.name[found.end() :] for part in _PARTS}
    files = {part: sorted(path.parent.glob(pattern)) for part, pattern in names.items()}
    return {part: some for part, some in files.items() if some}


def _grouped(folder: Path, shards: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of each part, by the first part's name in their paths."""
    parts: dict[str, list[Path]] = {}
    for path in shards:
        if found := _PART.search(str(path.relative_to(folder))):
            parts.setdefault(found[0].lower(), []).append(path)
    return parts


def _parquet(
    path: Path, parts: dict[str, list[Path]], image_column: str | None, label_column: str | None
) -> dict[str, Stream]:
    if not parts:
        raise DataError(f"{path} does not exist, or no name in it has a part's name: {', '.join(_PARTS)}")
    schema = parquet.opened(next(iter(parts.values()))[0]).schema_arrow
    wanted = columns(str(path), schema.names, image_column, label_column)
    groups = {part: [group for file in files for group in _row_groups(file, wanted)] for part, files in parts.items()}
    classes = parquet.class_names(schema, wanted[1]) or _numbered(parts.get("train", []), wanted[1])
    return {
        part: Stream(
            _part_name(path.name, part),
            _generated(_parquet_rows, shards=[group[:3] for group in some], columns=wanted),
            classes,
            sum(rows for *_, rows in some),
        )
        for part, some in groups.items()
    }


def _row_groups(path: Path, wanted: tuple[str, str]) -> Iterator[tuple[str, int, int, int]]:
    """The row groups of a file that has the wanted columns.

    Each is (path, index of the row group, index of its first row, number of its rows).
    """
    file, first = parquet.opened(path), 0
    columns(str(path), file.schema_arrow.names, *wanted)
    metadata = file.metadata
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        if group.total_byte_size > _LARGEST_ROW_GROUP:
            raise DataError(
                f"{path} has a row group of {group.total_byte_size / 2**30:.1f} GB, which would be held in memory: "
                "write it with row groups of some hundred images (row_group_size of pyarrow)"
            )
        yield str(path), index, first, group.num_rows
        first += group.num_rows


def _numbered(files: Sequence[Path], label: str) -> tuple[str, ...]:
    """Names of classes that have numbers only, up to the largest label."""
    values = (value for path in files for (value,) in parquet.rows(path, [label]))
    labels = (
        checked_label(value, (), f"{files[0].parent}: column {label!r}")
        for value in values
        if not isinstance(value, int)
        or value >= 0  # a negative one is refused with its image's name, where that is read
    )
    return numbered(max(labels, default=-1))


def _parquet_rows(shards: list[tuple[str, int, int]], columns: tuple[str, str]) -> Iterator[dict[str, Any]]:
    for path, group, first in shards:
        for number, (image, label) in enumerate(parquet.rows(path, columns, [group]), first):
            yield {"image": image, "label": label, "place": f"image {number} of {Path(path).name}"}


def _folder(path: Path) -> dict[str, Stream]:
    parts = [part for part in _PARTS if (path / part).is_dir()]
    if "train" not in parts:
        raise DataError(f"{path} has no folder called train, and no Parquet files")
    classes = tuple(_classes(path / "train"))
    streams, names = {}, tuple(map(shown, classes))
    for part in parts:
        files = _image_files(path / part, classes)
        shards = [files[first : first + _SHARD] for first in range(0, len(files), _SHARD)]
        rows = _generated(_folder_rows, shards=shards, root=str(path / part), classes=classes)
        streams[part] = Stream(_part_name(shown(path.name), part), rows, names, len(files))
    return streams


def _classes(folder: Path) -> list[str]:
    return [entry.name for entry in visible(folder) if entry.is_dir()]


def _image_files(folder: Path, classes: tuple[str, ...]) -> list[str]:
    """The files of a part as ``class/name``, mixed.

    What is shuffled are shards of neighbours, which must not have one label.
    """
    names = _classes(folder)
    if unknown := sorted(set(names) - set(classes)):
        raise DataError(f"{folder} has classes that the training images lack: {', '.join(unknown[:3])}")
    files = [f"{name}/{file.name}" for name in names for file in visible(folder / name) if file.is_file()]
    return [files[i] for i in np.random.default_rng(0).permutation(len(files))]


def _folder_rows(shards: list[list[str]], root: str, classes: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    labels = {name: label for label, name in enumerate(classes)}
    for name in itertools.chain.from_iterable(shards):
        yield {"image": Found(f"{root}/{name}"), "label": labels[name.split("/")[0]], "place": f"image {name}"}


def _generated(rows: Callable[..., Iterator[dict[str, Any]]], *, shards: list[Any], **others: Any) -> Any:
    """A ``datasets.IterableDataset`` of the rows that a function makes of shards."""
    return require("datasets").IterableDataset.from_generator(rows, gen_kwargs={"shards": shards, **others})


def _hub(name: str, image_column: str | None, label_column: str | None) -> dict[str, Stream]:
    datasets = require("datasets")
    try:
        with hub.reached_or_offline():
            builder = datasets.load_dataset_builder(name)
        if hasattr(builder.config, "fragment_scan_options"):
            # Otherwise pyarrow keeps every row group that it has read of a shard.
            options = require("pyarrow.dataset").ParquetFragmentScanOptions(pre_buffer=False)
            builder.config.fragment_scan_options = options
        found = builder.as_streaming_dataset()
    except Exception as error:  # network, hub and builder errors of many types
        raise DataError(
            f"no data called {name!r}: not a file or a folder, "
            f"and as a Hugging Face dataset it failed: {first_line(error)}"
        ) from error
    return {part: _hub_part(name, part, found[part], image_column, label_column) for part in _PARTS if part in found}


def _hub_part(name: str, part: str, rows: Any, image_column: str | None, label_column: str | None) -> Stream:
    datasets, features = require("datasets"), rows.features or {}
    image, label = columns(name, list(features), image_column, label_column)
    classes = tuple(getattr(features[label], "names", None) or ())
    if not classes:
        raise DataError(
            f"{name}: column {label!r} does not name its classes, and a stream cannot count them beforehand"
        )
    split = (rows.info.splits or {}).get(part)
    images = split.num_examples if split else None
    rows = rows.select_columns([image, label])
    if type(features[image]).__name__ == "Image":
        rows = rows.cast_column(image, datasets.Image(decode=False))
    return Stream(_part_name(name, part), rows, classes, images or None, SIZE, image, label)


def _part_name(name: str, part: str) -> str:
    return name if part == "train" else f"{name} ({part})"
