"""Data as people have it comes as the same batches, whoever holds it."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from pascal_nm import data
from pascal_nm.common.batches import batches
from pascal_nm.errors import DataError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(7, 2, 3)), RNG.integers(0, 4, 7)


class Items(Dataset):
    """Items of one's own: x alone, or (x, y)."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class Stream(IterableDataset):
    """Items that come once, without a length."""

    def __iter__(self):
        return iter([(torch.from_numpy(x), int(y)) for x, y in zip(X, Y, strict=True)])


def whole(given, **options):
    parts = list(batches(given, **options))
    labels = [y for _, y in parts]
    return np.concatenate([x for x, _ in parts]), None if labels[0] is None else np.concatenate(labels)


TENSORS = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
LABELLED = {
    "arrays": (X, Y),
    "tensors": (torch.from_numpy(X).requires_grad_(), torch.from_numpy(Y)),
    "lists": (X.tolist(), Y.tolist()),
    "a column of labels": (X, Y[:, None].astype(float)),
    "loader": DataLoader(TENSORS, batch_size=3),
    "loader without batches": DataLoader(TENSORS, batch_size=None),
    "torch dataset": TENSORS,
    "own dataset": Items([(x, int(y)) for x, y in zip(X, Y, strict=True)]),
    "stream": Stream(),
    "loader of a stream": DataLoader(Stream(), batch_size=4),
    "own batches": [(X[:3], Y[:3]), (X[3:], Y[3:])].__iter__,
}
PLAIN = {
    "array": X,
    "tensor": torch.from_numpy(X),
    "one of a tuple": (X,),
    "without labels": (X, None),
    "loader": DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=3),
    "own dataset": Items(X),
}


@pytest.mark.parametrize("size", [2, 256])
@pytest.mark.parametrize("limit", [None, 1, 5, 100])
@pytest.mark.parametrize("kind", [*LABELLED, *(f"{name}, x" for name in PLAIN)])
def test_every_kind_of_data_gives_the_same_inputs_and_labels(kind, limit, size):
    given = LABELLED.get(kind, PLAIN.get(kind.removesuffix(", x")))
    x, y = whole(given() if callable(given) else given, limit=limit, size=size)
    np.testing.assert_array_equal(x, X[:limit], strict=True)
    if kind in LABELLED:
        np.testing.assert_array_equal(y, Y[:limit], strict=True)
    else:
        assert y is None


def test_batches_are_no_larger_than_asked_and_stop_at_the_limit():
    assert [len(x) for x, _ in batches(X, size=3)] == [3, 3, 1]
    assert [len(x) for x, _ in batches(DataLoader(TENSORS, batch_size=5), size=3)] == [3, 2, 2]
    taken = iter([X[:2], X[2:4], X[4:]])
    assert [len(x) for x, _ in batches(taken, limit=3)] == [2, 1] and len(next(taken)) == 3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.uint8, torch.int64])
def test_the_type_of_inputs_is_kept(dtype):
    given = torch.from_numpy(X * 10).to(dtype)
    for each in (given, (given, Y), DataLoader(TensorDataset(given), batch_size=2)):
        np.testing.assert_array_equal(whole(each)[0], given.numpy(), strict=True)
    half = given.to(torch.bfloat16)
    np.testing.assert_array_equal(whole(half)[0], half.float().numpy(), strict=True)


def test_our_own_images_and_frames_give_their_pixels():
    digits = data.load("digits", limit=5)
    x, y = whole(digits)
    assert x is not None and x.dtype == np.uint8
    np.testing.assert_array_equal(y, digits.labels)
    frames = data.load_frames("pan", shape=(1, 4, 4), limit=3)
    x, y = whole(frames)
    np.testing.assert_array_equal(x, frames.pixels)
    assert y is None


def test_what_has_no_array_is_read_a_batch_at_a_time():
    class File:
        shape, dtype, read = (1000, 2), np.dtype(np.float32), []

        def __getitem__(self, some):
            self.read.append(some)
            return np.ones((1000, 2), np.float32)[some]

    file = File()
    assert sum(len(x) for x, _ in batches(file, limit=6, size=4)) == 6
    assert [some.stop - some.start for some in file.read] == [4, 4]


REFUSED = {
    "a batch of dictionaries": (
        DataLoader(Items([{"image": x, "label": 1} for x in X])),
        "dictionary ('image', 'label')",
    ),
    "a dictionary": ({"x": X}, "dict; give x"),
    "a list": ([X, Y], "numpy.stack"),
    "a name": ("digits", "pascal_nm.data.load"),
    "a number": (3, "not of type int"),
    "one number": (np.float32(3), "single number"),
    "nothing": (None, "NoneType"),
    "three parts": ((X, Y, Y), "3 parts"),
    "ragged lists": (([[1.0], [1.0, 2.0]],), "no array"),
    "ragged items": (Items([X[0], X[0, :1]]), "item 1 of the data is float64 of shape (1, 3)"),
    "items of two types": (Items([X[0], X[1].astype(np.float32)]), "item 1 of the data is float32"),
    "ragged batches": (iter([X, X[:, :1]]), "batch 1 has inputs of shape (1, 3)"),
    "labels too few": ((X, Y[:3]), "7 inputs and labels of shape (3,)"),
    "labels as vectors": ((X, np.eye(7)), "labels of shape (7, 7)"),
    "labels with fractions": ((X, Y + 0.5), "whole numbers from 0 on"),
    "labels that are negative": ((X, Y - 9), "whole numbers from 0 on"),
    "labels that are words": ((X, list("abcdefg")), "labels of the data"),
    "labels of some items": (Items([(X[0], 1), X[1]]), "not one label each"),
    "NaN": (X * np.nan, "NaN"),
    "infinite values in a later batch": (iter([X, X + np.inf]), "batch 1 holds NaN or infinite"),
    "complex numbers": (X * 1j, "complex128"),
    "an empty array": (X[:0], "no inputs"),
    "an empty loader": (iter([]), "no inputs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_data_is_refused_in_one_line_that_says_why(name):
    given, why = REFUSED[name]
    with pytest.raises(DataError) as refusal:
        list(batches(given))
    assert why in str(refusal.value) and "\n" not in str(refusal.value)


def test_pictures_that_are_no_numbers_yet_are_refused_with_what_to_do():
    image = pytest.importorskip("PIL.Image").fromarray(np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match="PILToTensor"):
        list(batches(Items([(image, 1)])))


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(DataError, match="at least 1"):
        list(batches(X, limit=0))
