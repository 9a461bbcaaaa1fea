"""Data: every way in gives the same images, and what cannot be used is refused with what to do."""

import contextlib
import io
import json
import os
import re
import struct
import sys
import time
import types
import zlib

import numpy as np
import pytest

from pascal_nm import data
from pascal_nm.data import dataset
from pascal_nm.data import streams as streaming
from pascal_nm.errors import DataError, PascalError
from tests.fuzzing import outcome

pyarrow = pytest.importorskip("pyarrow")
Image = pytest.importorskip("PIL.Image")


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3)).astype(np.uint8)


def write(path, images, labels=None, image="image", label="label", row_group=None):
    import pyarrow.parquet

    rows = [{"bytes": png(pixels), "path": None} for pixels in images]
    labels = [i % 3 for i in range(len(rows))] if labels is None else labels
    pyarrow.parquet.write_table(pyarrow.table({image: rows, label: labels}), path, row_group_size=row_group)
    return str(path)


def test_the_bundled_digits_are_split_without_overlap():
    train, test = data.load_pair("digits")
    assert (len(train), len(test)) == (1437, 360)
    assert train.shape == (1, 8, 8)
    assert train.pixels.max() == train.scale == 16
    assert np.bincount(test.labels).min() >= 34, "the split is stratified"
    assert len({p.tobytes() for p in np.concatenate([train.pixels, test.pixels])}) == 1797


def test_parquet_gives_the_pixels_that_were_stored(tmp_path, images):
    loaded = data.load(write(tmp_path / "some.parquet", images))
    np.testing.assert_array_equal(loaded.pixels, images.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(loaded.labels, np.arange(20) % 3)
    assert loaded.classes == ("0", "1", "2")


def test_unusual_columns_are_named_by_the_user(tmp_path, images):
    path = write(tmp_path / "some.parquet", images, image="picture", label="kind")
    with pytest.raises(DataError, match=r"--image-column.*picture, kind"):
        data.load(path)
    with pytest.raises(DataError, match=r"no column 'photo'; it has: picture, kind"):
        data.load(path, image_column="photo")
    assert len(data.load(path, image_column="picture", label_column="kind")) == 20


def test_a_folder_of_images_gives_the_same(tmp_path, images):
    for i, pixels in enumerate(images):
        folder = tmp_path / "set" / "test" / "abc"[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:02}.png").write_bytes(png(pixels))
    loaded = data.load(str(tmp_path / "set"))
    assert loaded.classes == ("a", "b", "c")
    order = sorted(range(20), key=lambda i: (i % 3, i))
    np.testing.assert_array_equal(loaded.pixels, images[order].transpose(0, 3, 1, 2))


def test_training_finds_the_test_images_beside_the_training_images(tmp_path, images):
    write(tmp_path / "x-train.parquet", images)
    write(tmp_path / "x-test.parquet", images[:4])
    for name in ("x-train.parquet", "x-test.parquet"):
        train, test = data.load_pair(str(tmp_path / name))
        assert (len(train), len(test)) == (20, 4)


def test_training_images_that_belong_to_others_are_found_by_name(tmp_path, images):
    """Beside test images, in their folder, or themselves; and none is made up."""
    train, test = (write(tmp_path / f"x-{part}.parquet", images[:4]) for part in ("train", "test"))
    assert data.training_part(test) == data.training_part(train) == train
    assert data.training_part(write(tmp_path / "y-test.parquet", images[:4])) is None
    assert data.training_part(write(tmp_path / "some.parquet", images[:4])) is None
    (tmp_path / "plain" / "a").mkdir(parents=True)
    (tmp_path / "parts" / "train" / "a").mkdir(parents=True)
    assert data.training_part(str(tmp_path / "plain")) is None
    assert data.training_part(str(tmp_path / "parts")) == str(tmp_path / "parts")
    assert data.training_part("digits") == "digits"


def test_without_test_images_a_tenth_is_held_out_and_said(tmp_path, images):
    train, test = data.load_pair(write(tmp_path / "all.parquet", images))
    assert (len(train), len(test)) == (18, 2)
    assert "held-out" in test.name
    held = {p.tobytes() for p in test.pixels}
    assert not held & {p.tobytes() for p in train.pixels}


def test_test_images_without_training_images_cannot_train(tmp_path, images):
    with pytest.raises(DataError, match=r"x-train\.parquet"):
        data.load_pair(write(tmp_path / "x-test.parquet", images))


def test_normalization_makes_mean_zero_and_deviation_one(tmp_path, images):
    loaded = data.load(write(tmp_path / "some.parquet", images))
    inputs = loaded.preprocessing()(loaded.pixels)
    np.testing.assert_allclose(inputs.mean((0, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(inputs.std((0, 2, 3)), 1, atol=1e-3)


def test_bad_data_is_refused_in_one_line(tmp_path, images):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing more")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    cases = {
        str(tmp_path / "missing.parquet"): "does not exist",
        str(tmp_path / "broken.parquet"): "cannot be read as Parquet",
        str(tmp_path / "empty"): "holds no images",
        str(tmp_path / "notes.txt"): "neither a Parquet file",
        write(tmp_path / "labels.parquet", images, labels=["x"] * 20): "does not hold integer labels",
        write(tmp_path / "negative.parquet", images, labels=[-1] * 20): "negative labels",
        write(tmp_path / "sizes.parquet", [*images, images[0][:3]]): "different sizes",
    }
    for name, message in cases.items():
        with pytest.raises(PascalError, match=message) as caught:
            data.load(name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("limit", [0, -5])
def test_a_limit_that_leaves_nothing_is_refused(limit):
    with pytest.raises(DataError, match="limit"):
        data.load("digits", limit=limit)


def test_images_of_different_sizes_are_cropped_for_a_network_and_refused_without(tmp_path):
    for split in ("train", "val"):
        for i, size in enumerate([(20, 30), (40, 24), (33, 33)]):
            folder = tmp_path / split / "ab"[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((*size, 3), 10 * i + (split == "val"), np.uint8)).save(folder / f"{i}.png")
    with pytest.raises(DataError, match="different sizes"):
        data.load(str(tmp_path))
    loaded = data.load(str(tmp_path), crop=16)
    assert loaded.pixels.shape == (3, 3, 16, 16)
    assert sorted(np.unique(loaded.pixels)) == [1, 11, 21], "the test part is val"


LABELS = {
    "a thousand million": (10**9, "label 1000000000"),
    "half": (0.5, "does not hold integer labels"),
    "not a number": (float("nan"), "does not hold integer labels"),
    "none": (None, "does not hold integer labels"),
    "nearly more than 64 bits hold": (2**62, "holds the label"),
}


@pytest.mark.parametrize(("label", "message"), LABELS.values(), ids=LABELS)
def test_labels_are_whole_numbers_of_classes(label, message, tmp_path, images):
    labels = [label] * 20 if isinstance(label, float) else [*[0] * 19, label]
    path = write(tmp_path / "x.parquet", images, labels=labels)
    found = outcome(lambda name: data.load(name).classes, path)
    assert found["outcome"] == "refused" and message in found["text"], found
    assert found["memory"] < 100e6, found


def test_a_label_beyond_the_names_of_the_classes_is_refused(tmp_path, images):
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(write(tmp_path / "x.parquet", images))
    info = {"info": {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}
    pyarrow.parquet.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(info)}), tmp_path / "x.parquet"
    )
    with pytest.raises(DataError, match="label 2, but there are 2 classes"):
        data.load(str(tmp_path / "x.parquet"))


@pytest.mark.parametrize(
    "text", ["[" * 10**5, "[]", '{"info": []}', '{"info": {"features": {"label": {"names": [1]}}}}']
)
def test_names_that_are_none_are_passed_over(text, tmp_path, images):
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(write(tmp_path / "x.parquet", images))
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": text}), tmp_path / "x.parquet")
    assert data.load(str(tmp_path / "x.parquet")).classes == ("0", "1", "2")


@pytest.mark.parametrize("stored", [True, False])
def test_a_path_in_a_table_is_not_followed(stored, tmp_path, images):
    import pyarrow.parquet

    (tmp_path / "there.png").write_bytes(png(images[0]))
    os.mkfifo(tmp_path / "fifo")
    for place in (
        str(tmp_path / "there.png"),
        str(tmp_path / "fifo"),
        "file:///etc/passwd",
        "http://127.0.0.1:9/x.png",
    ):
        row = {"bytes": None, "path": place} if stored else place
        for part in ("train", "test"):
            table = pyarrow.table({"image": [row] * 3, "label": [0, 1, 2]})
            pyarrow.parquet.write_table(table, tmp_path / f"x-{part}.parquet")
        for load in (data.load, lambda name: streaming.load_pair(name, size=None)[0].preprocessing()):
            with pytest.raises(DataError, match="not followed"):
                load(str(tmp_path / "x-train.parquet"))


def pixels_of_nothing(width, height):
    """A PNG that is small, and says that it is large."""
    content = bytearray(png(np.zeros((4, 4, 3), np.uint8)))
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


IMAGES = {
    "a bomb": (lambda path: pixels_of_nothing(30_000, 30_000), "pixels; at most|decompression bomb"),
    "many large ones": (lambda path: png(np.zeros((4000, 4000, 3), np.uint8)), "more than 100 times what is stored"),
    "a program": (
        lambda path: f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch {path}) (w) file\n".encode(),
        "decoded",
    ),
    "nothing": (lambda path: b"", "cannot be decoded"),
}


@pytest.mark.parametrize(("make", "message"), IMAGES.values(), ids=IMAGES)
def test_images_that_would_run_something_or_fill_the_memory_are_refused(make, message, tmp_path):
    import pyarrow.parquet

    rows = [{"bytes": make(tmp_path / "executed"), "path": None}] * 6
    pyarrow.parquet.write_table(pyarrow.table({"image": rows, "label": [0] * 6}), tmp_path / "x.parquet")
    found = outcome(lambda name: data.load(name).shape, str(tmp_path / "x.parquet"))
    assert found["outcome"] == "refused" and re.search(message, found["text"]), found
    assert found["memory"] < 500e6 and not (tmp_path / "executed").exists()


def test_names_of_classes_that_are_no_text_are_written_out(tmp_path, images):
    for i, name in enumerate((b"\xff\xfe", b"a")):
        os.mkdir(os.path.join(os.fsencode(tmp_path), name))
        with open(os.path.join(os.fsencode(tmp_path), name, b"x.png"), "wb") as file:
            file.write(png(images[i]))
    assert data.load(str(tmp_path)).classes == ("a", r"\xff\xfe")


def test_a_dataset_has_a_label_for_each_of_its_images():
    pixels = np.zeros((3, 1, 2, 2), np.uint8)
    for wrong, labels in (
        (pixels, np.zeros(2, int)),
        (pixels, np.zeros((3, 1), int)),
        (pixels[:0], np.zeros(0, int)),
        (pixels[0, 0, 0], np.zeros(2, int)),
    ):
        with pytest.raises(DataError, match=r"labels of shape|no images"):
            data.Dataset("x", wrong, labels, ("a",))


def test_a_table_that_says_the_same_again_and_again_is_refused(tmp_path):
    image = png(np.zeros((8, 8, 3), np.uint8))
    rows = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 10**6, pyarrow.int8()), pyarrow.array([image]))
    table = pyarrow.table({"image": rows, "label": pyarrow.array([0] * 10**6, pyarrow.int8())})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match="20 times its size"):
        data.load(str(tmp_path / "x.parquet"))


def test_hidden_files_and_folders_are_no_images_and_no_classes(tmp_path):
    for name in ("a", "b", ".git"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(png(np.zeros((8, 8, 3), np.uint8)))
    (tmp_path / "a" / ".DS_Store").write_bytes(b"x")
    found = data.load(str(tmp_path))
    assert (len(found), found.classes) == (2, ("a", "b"))


def test_pipes_and_hidden_files_among_streamed_images_are_left_alone(tmp_path):
    for name in ("a", "b", ".git"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "0.png").write_bytes(png(np.zeros((8, 8, 3), np.uint8)))
    os.mkfifo(tmp_path / "train" / "a" / "1.png")
    classes = tuple(streaming._classes(tmp_path / "train"))
    assert classes == ("a", "b")
    assert sorted(streaming._image_files(tmp_path / "train", classes)) == ["a/0.png", "b/0.png"]


@pytest.mark.parametrize(("label", "found"), [(1, 1), (1.0, 1), (True, 1), (1.5, None), (float("nan"), None)])
def test_a_label_is_a_whole_number_of_any_type(label, found):
    with contextlib.nullcontext() if found else pytest.raises(DataError, match="integer labels"):
        assert dataset.checked_label(label, (), "x") == found


def test_a_name_of_the_hub_without_a_network_is_said_at_once(monkeypatch):
    """Its own packages try five times, for more than a minute."""
    datasets, client = pytest.importorskip("datasets"), pytest.importorskip("huggingface_hub")

    def no_network(*arguments, **options):
        raise OSError("no route to host")

    def waits(seconds):
        raise AssertionError("tries again")

    monkeypatch.setattr(client, "get_session", lambda: types.SimpleNamespace(head=no_network))
    monkeypatch.setattr(time, "sleep", waits)
    before = client.constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    for load in (data.load, streaming.load_pair):
        with pytest.raises(DataError, match=r"no data called 'someone/pets'.*Couldn't reach"):
            load("someone/pets")
    assert before == (client.constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE)


@pytest.mark.parametrize("load", [data.load, streaming.load_pair])
def test_a_name_of_the_hub_without_its_package_says_what_to_install(monkeypatch, load):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"^datasets is not installed: pip install"):
        load("someone/pets")
