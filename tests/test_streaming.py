"""Streams: the same images as in memory, in an order that seed and epoch decide, in bounded memory,
shared between processes.
"""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pascal_nm import data, training
from pascal_nm.data import WHOLE, Part
from pascal_nm.data import streams as streaming
from pascal_nm.errors import DataError, PascalError
from pascal_nm.source import checkpoint
from pascal_nm.source.architectures import build
from pascal_nm.training import TrainingConfig, loop
from tests.test_data import png, write

datasets = pytest.importorskip("datasets")

SMALL = TrainingConfig(arch="mlp", options={"width": 0.25}, epochs=3, batch_size=16, shift=1)


def pictures(count, sizes=((8, 7),), seed=0):
    """Images that are all different, of given (height, width) in turn."""
    rng = np.random.default_rng(seed)
    shapes = itertools.islice(itertools.cycle(sizes), count)
    return [rng.integers(0, 256, (*shape, 3)).astype(np.uint8) for shape in shapes]


@pytest.fixture
def pair(tmp_path):
    """A name of 60 training and 20 test images of one size, in Parquet files of
    several row groups.
    """
    write(tmp_path / "x-train.parquet", pictures(60), row_group=7)
    write(tmp_path / "x-test.parquet", pictures(20, seed=1), row_group=7)
    return str(tmp_path / "x-train.parquet")


def folder(path, parts):
    """An image folder: (part, class, images)."""
    for part, kind, images in parts:
        (path / part / kind).mkdir(parents=True, exist_ok=True)
        for i, pixels in enumerate(images):
            (path / part / kind / f"{i:03}.png").write_bytes(png(pixels))
    return str(path)


def epoch(stream, seed=0, number=0, part=WHOLE, size=16, images=None):
    """The batches of an epoch."""
    rng = np.random.default_rng((seed, number))
    return list(stream.shuffled(rng, size, len(stream) if images is None else images, part))


def keys(batches):
    """What tells images apart, in their order."""
    return [(p.tobytes(), int(label)) for pixels, labels in batches for p, label in zip(pixels, labels, strict=True)]


def test_a_stream_and_memory_hold_the_same(pair):
    for stream, memory in zip(streaming.load_pair(pair, size=None), data.load_pair(pair), strict=True):
        assert (stream.shape, stream.classes, len(stream)) == (memory.shape, memory.classes, len(memory))
        assert keys(stream.batches(9)) == keys(memory.batches(9))
        assert stream.preprocessing() == memory.preprocessing()
        assert sorted(keys(stream.head(None).batches(9))) == sorted(keys(memory.batches(9)))
        assert keys(stream.head(5).batches(9)) == keys(stream.head(None).batches(9))[:5]
        assert not stream.crops


def test_a_network_has_the_same_accuracy_on_a_stream_and_in_memory(pair):
    (stream_train, stream_test), (train, test) = streaming.load_pair(pair, size=None), data.load_pair(pair)
    torch.manual_seed(0)
    run = loop._Training(build("mlp", train.shape, 3), stream_train, SMALL)
    for _ in run.epoch(0):
        pass
    assert run.accuracy(stream_test) == run.accuracy(test)
    assert run.accuracy(stream_train) == run.accuracy(train) != run.accuracy(test)


def test_an_image_folder_and_its_validation_images_are_streamed(tmp_path):
    images = {"a": pictures(5), "b": pictures(130, seed=1)}
    parts = [("train", kind, some) for kind, some in images.items()]
    name = folder(tmp_path / "set", [*parts, ("val", "b", pictures(4, seed=2))])
    (tmp_path / "set" / "train" / "a" / ".DS_Store").write_bytes(b"what some systems leave behind")
    (tmp_path / "set" / "test").mkdir()
    (tmp_path / "set" / "test" / "000.png").write_bytes(b"without a label, as in ImageNet")
    train, test = streaming.load_pair(name, size=None)
    assert (train.classes, len(train), len(test)) == (("a", "b"), 135, 4)
    assert test.name == "set (val)"
    expected = [(p.transpose(2, 0, 1).tobytes(), i) for i, kind in enumerate("ab") for p in images[kind]]
    assert sorted(keys(epoch(train))) == sorted(keys(train.batches(50))) == sorted(expected)
    assert [label for _, label in keys(test.batches(50))] == [1] * 4, "labels by name, though class a is missing"
    first = [label for _, label in keys(itertools.islice(train.batches(100), 1))]
    assert set(first) == {0, 1}, "classes are mixed in every shard"


def test_shards_in_a_folder_and_by_a_pattern_are_the_same_images(tmp_path):
    for i in range(3):
        write(tmp_path / f"train-{i}-of-3.parquet", pictures(10, seed=i))
    write(tmp_path / "validation-0-of-3.parquet", pictures(5, seed=9))
    (by_folder, test), (by_pattern, same) = (
        streaming.load_pair(str(tmp_path / name), size=None) for name in ("", "train-*.parquet")
    )
    assert len(by_folder) == 30
    assert keys(epoch(by_folder)) == keys(epoch(by_pattern))
    assert keys(test.batches(9)) == keys(same.batches(9))
    assert test.name.endswith("(validation)")


def test_test_images_without_labels_are_passed_over(tmp_path, pair):
    write(tmp_path / "x-validation.parquet", pictures(6, seed=4))
    assert len(streaming.load_pair(pair)[1]) == 20
    write(tmp_path / "x-test.parquet", pictures(20, seed=1), labels=[-1] * 20)
    assert len(streaming.load_pair(pair)[1]) == 6


@pytest.mark.parametrize("size", [None, 6])
def test_seed_and_epoch_alone_decide_the_order(pair, size):
    first, second = (streaming.load_pair(pair, size=size)[0] for _ in range(2))
    list(itertools.islice(second.batches(3), 2))  # reading before does not matter
    whole = keys(epoch(first, seed=1, number=2))
    assert whole == keys(epoch(second, seed=1, number=2))
    for other in (epoch(second, seed=1, number=3), epoch(second, seed=2, number=2)):
        assert keys(other) != whole
    labels = [label for _, label in whole]
    assert sorted(labels) == sorted([0, 1, 2] * 20), "every image once"
    assert labels != [0, 1, 2] * 20


def test_images_of_different_sizes_become_crops_of_one(tmp_path):
    sizes = ((30, 20), (9, 40), (16, 16))
    write(tmp_path / "x-train.parquet", [*pictures(30, sizes), *(p[..., 0] for p in pictures(6, sizes))])
    write(tmp_path / "x-test.parquet", pictures(9, sizes, seed=1))
    train, test = streaming.load_pair(str(tmp_path / "x-train.parquet"), size=12)
    assert train.shape == test.shape == (3, 12, 12)
    (pixels, _), *_ = epoch(train)
    assert pixels.shape == (16, 3, 12, 12)
    assert not set(keys(epoch(train))) & set(keys(epoch(train, number=1))), "every epoch has crops of its own"
    assert keys(test.batches(4)) == keys(test.batches(9)), "test crops do not change"
    assert training.defaults(train).cutout == training.defaults(train).shift == 0
    with pytest.raises(DataError, match=r"different sizes.*--size"):
        streaming.load_pair(str(tmp_path / "x-train.parquet"), size=None)[0].preprocessing()


@pytest.mark.parametrize("row_group", [7, 100], ids=["as many shards as wanted", "one shard"])
def test_processes_share_the_images(tmp_path, row_group):
    """Batches are as many in each, and no image is seen by two, though 57 cannot be halved."""
    write(tmp_path / "x-train.parquet", pictures(57), row_group=row_group)
    write(tmp_path / "x-test.parquet", pictures(21, seed=1), row_group=row_group)
    train, test = streaming.load_pair(str(tmp_path / "x-train.parquet"), size=None)
    parts = [Part(rank, 2) for rank in range(2)]
    tested = [keys(test.batches(4, part)) for part in parts]
    assert not set(tested[0]) & set(tested[1])
    assert sorted(tested[0] + tested[1]) == sorted(keys(test.batches(4)))
    assert min(map(len, tested)) >= 7
    epochs = [epoch(train, part=part, images=56) for part in parts]
    assert [len(labels) for _, labels in epochs[0]] == [len(labels) for _, labels in epochs[1]] == [8, 8, 8, 4]
    assert not set(keys(epochs[0])) & set(keys(epochs[1]))


def test_a_longer_epoch_starts_over_and_a_shorter_one_stops(pair):
    longer, _ = streaming.load_pair(pair, size=None, images_per_epoch=150)
    seen = keys(epoch(longer))
    assert len(seen) == len(longer) == 150
    assert seen[:60] == seen[60:120]
    shorter, _ = streaming.load_pair(pair, size=None, images_per_epoch=10)
    assert keys(epoch(shorter)) == keys(epoch(longer))[:10]


def test_a_stopped_training_goes_on_to_the_same_weights(pair, tmp_path):
    pair = streaming.load_pair(pair, size=6)
    whole = training.train(*pair, SMALL).module.state_dict()

    class StoppedError(Exception):
        pass

    def stop(progress):
        if progress.epoch == 2 and progress.images > 30:
            raise StoppedError

    with pytest.raises(StoppedError):
        training.train_to_file(*pair, SMALL, tmp_path / "model.pt", stop)
    with pytest.raises(PascalError, match=r"other settings \(images 60 instead of 40\)"):
        training.train_to_file(replace(pair[0], images=40), pair[1], SMALL, tmp_path / "model.pt")
    resumed = training.train_to_file(*pair, SMALL, tmp_path / "model.pt").module.state_dict()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


MEMORY = """
import pathlib, re, sys
import numpy as np
from pascal_nm.data import streams as streaming
streaming._BUFFER = 50
def peak():  # of this program; getrusage would give that of the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) / 1024
peaks = []
for name in sys.argv[1:]:
    train, _ = streaming.load_pair(name, size=32)
    for images in (train.shuffled(np.random.default_rng(0), 20, len(train)), train.batches(20)):
        assert sum(len(labels) for _, labels in images) == len(train)
    peaks.append(peak())
print(*peaks)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory where Linux has it")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """2,000 images are 90 MB as they are stored; 200 and 2,000 need the same."""
    stored = png(np.random.default_rng(0).integers(0, 256, (120, 125, 3)).astype(np.uint8))
    pyarrow = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    for count in (200, 2000):
        for part, images in (("train", count), ("test", 10)):
            rows = {"image": [{"bytes": stored + bytes([i % 256]), "path": None} for i in range(images)]}
            table = pa.table(rows | {"label": [i % 3 for i in range(images)]})
            pyarrow.write_table(table, tmp_path / f"{count}-{part}.parquet", row_group_size=5)
    names = [str(tmp_path / f"{count}-train.parquet") for count in (200, 2000)]
    assert (tmp_path / "2000-train.parquet").stat().st_size > 80e6, "or nothing is shown"
    # One heap for all threads: what the program holds is measured, not what allocators keep
    # for each thread.
    plain = os.environ | {"MALLOC_ARENA_MAX": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    command = [sys.executable, "-c", MEMORY, *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=plain)
    assert done.returncode == 0, done.stderr
    few, many = map(float, done.stdout.split())
    assert many - few < 40, f"{few:.0f} MB for 200 images, {many:.0f} MB for 2,000"


def test_the_command_line_trains_on_a_stream(tmp_path, pair, pascal):
    output = tmp_path / "model.pt"
    arguments = ["train", "--streaming", "--data", pair, "--size", 9, "--arch", "cnn", "--width", 0.2, "-o", output]
    code, out, err = pascal(*arguments, "--epochs", 3, "--images-per-epoch", 40, "--adapt", 2, "--json")
    assert code == 0, err
    assert json.loads(out)["test_accuracy"] >= 0
    model = checkpoint.load(output)
    assert model.recipe["input_shape"] == [3, 9, 9]
    assert model.preprocessing == streaming.load_pair(pair, size=9)[0].preprocessing()
    stored = tmp_path / "stored.pt"
    code, out, err = pascal(
        "train", "--streaming", "-d", pair, "--size", 0, "--arch", "mlp", "--epochs", 1, "-o", stored
    )
    assert code == 0, err
    assert "of 20 test images right (x-train.parquet (test))" in out


@pytest.mark.slow
def test_two_processes_train_one_network_on_a_stream(tmp_path):
    """`accelerate launch`: 57 images cannot be halved, and yet both make the same steps."""
    pytest.importorskip("accelerate")
    write(tmp_path / "x-train.parquet", pictures(57), row_group=5)
    write(tmp_path / "x-test.parquet", pictures(21, seed=1))
    launcher = ["-m", "accelerate.commands.launch", "--num_processes", "2", "--cpu", "-m", "pascal_nm"]
    arguments = ["train", "--streaming", "--data", tmp_path / "x-train.parquet", "--size", 6, "--arch", "mlp"]
    options = ["--batch-size", 8, "--epochs", 3, "-o", tmp_path / "model.pt", "--json"]
    command = [sys.executable, *launcher, *map(str, [*arguments, *options])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["test_accuracy"] * 21 == pytest.approx(
        round(json.loads(done.stdout)["test_accuracy"] * 21)
    ), "of 21 images, each tested once"


def test_large_images_have_networks_with_the_imagenet_stem(tmp_path, pascal):
    name = folder(tmp_path / "set", [(p, c, pictures(3, ((140, 150),))) for p in ("train", "test") for c in "ab"])
    common = ["train", "--streaming", "--data", name, "--size", 128, "--arch", "resnet8", "--width", 0.5, "--epochs", 1]
    for stem, kernel in ((), 7), (("--stem", "cifar"), 3):
        code, _, err = pascal(*common, *stem, "-o", tmp_path / f"{kernel}.pt")
        assert code == 0, err
        assert checkpoint.load(tmp_path / f"{kernel}.pt").module.stem[0].kernel_size == (kernel, kernel)


def test_options_that_do_not_fit_are_refused_in_one_line(tmp_path, pair, pascal):
    damaged = pictures(30)
    write(tmp_path / "y-test.parquet", pictures(5))
    table = write(tmp_path / "y-train.parquet", damaged, row_group=7)
    rewrite(table, 17, b"no image at all")
    write(tmp_path / "alone.parquet", pictures(5))
    write(tmp_path / "label-train.parquet", pictures(5), label="kind")
    write(tmp_path / "sorted-train.parquet", pictures(5), labels=[0, 1, 2, 3, -7])
    write(tmp_path / "sorted-test.parquet", pictures(5))
    cases = {
        ("--data", pair, "--size", 8): "--size belongs to --streaming",
        ("--data", pair, "--images-per-epoch", 8): "--images-per-epoch belongs to --streaming",
        ("--data", pair, "--streaming", "--stem", "large"): "--stem takes cifar or imagenet",
        ("--data", "digits", "--streaming"): "digits are in memory",
        ("--data", tmp_path / "none-train.parquet", "--streaming"): "does not exist",
        ("--data", tmp_path / "alone.parquet", "--streaming"): "no part with labels to test on",
        ("--data", tmp_path / "label-train.parquet", "--streaming"): "--label-column; there are: image, kind",
        ("--data", pair, "--streaming", "--image-column", "photo"): "has no column 'photo'",
        ("--data", table, "--streaming"): "image 17 of y-train.parquet cannot be decoded",
        ("--data", tmp_path / "sorted-train.parquet", "--streaming"): "image 4 of sorted-train.parquet has label -7",
        ("--data", tmp_path, "--streaming", "--label-column", "kind"): "no column 'kind'",
        ("--data", folder(tmp_path / "set", [("test", "a", pictures(1))]), "--streaming"): "no folder called train",
    }
    for arguments, message in cases.items():
        code, out, err = pascal("train", *arguments, "-o", tmp_path / "model.pt")
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1


def rewrite(path, index, stored):
    """Put other bytes in the place of an image."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path).to_pydict()
    table["image"][index]["bytes"] = stored
    pyarrow.parquet.write_table(pyarrow.table(table), path, row_group_size=7)


def test_one_row_group_of_everything_is_refused(monkeypatch, pair):
    monkeypatch.setattr(streaming, "_LARGEST_ROW_GROUP", 500)
    with pytest.raises(DataError, match=r"x-train\.parquet has a row group of .*row_group_size"):
        streaming.load_pair(pair)


def test_images_sorted_by_class_are_refused(monkeypatch, tmp_path, pair):
    monkeypatch.setattr(streaming, "MEASURED", 20)
    monkeypatch.setattr(streaming, "_BUFFER", 10)
    write(tmp_path / "x-train.parquet", pictures(60), labels=[i // 30 for i in range(60)])
    with pytest.raises(DataError, match="sorted by class"):
        streaming.load_pair(pair)[0].preprocessing()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A repository as on the hub: read by the builder that ``datasets`` chooses, whose number of
    images nobody has written down.
    """
    repository = tmp_path / "repository" / "data"
    repository.mkdir(parents=True)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    for part, count, seed in (("train", 60, 0), ("test", 10, 1)):
        rows = {"image": [{"bytes": png(p)} for p in pictures(count, seed=seed)], "label": [0, 1] * (count // 2)}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(repository / f"{part}-00000-of-00001.parquet")
    builder = datasets.load_dataset_builder
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda name: builder(str(tmp_path / "repository")))
    # `datasets` waits after each pass over Parquet rows, because of old versions of pyarrow
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_a_dataset_of_the_hub_is_streamed(hub):
    with pytest.raises(DataError, match="does not say how many images it has: give --images-per-epoch"):
        streaming.load_pair("someone/pets")
    train, test = streaming.load_pair("someone/pets", size=None, images_per_epoch=60)
    assert (train.name, test.name) == ("someone/pets", "someone/pets (test)")
    assert train.classes == ("cat", "dog")
    assert len(test) == 10, "counted"
    assert sorted(p for p, _ in keys(epoch(train))) == sorted(p.transpose(2, 0, 1).tobytes() for p in pictures(60))
    assert keys(epoch(train)) != keys(epoch(train, number=1))
    halves = [keys(epoch(train, part=Part(rank, 2))) for rank in range(2)]
    assert not set(halves[0]) & set(halves[1])
    with pytest.raises(DataError, match="no column 'photo'"):
        streaming.load_pair("someone/pets", image_column="photo", images_per_epoch=60)
