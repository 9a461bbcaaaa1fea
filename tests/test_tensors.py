"""Files of torch.save: plain values and dense tensors come out of them, and nothing that is
larger than they are.
"""

import collections
import io
import pickle
import zipfile

import pytest
import torch
from torch import nn

from pascal_nm.errors import FileError
from pascal_nm.source import tensors
from tests.fuzzing import outcome
from tests.hostile_files import PICKLES, Payload, _endless, _with_attributes, entries, written


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.pth"


@pytest.mark.parametrize("new", [True, False])
def test_values_and_tensors_come_back(new, path):
    weight = nn.Parameter(torch.arange(6.0).reshape(2, 3).T)
    content = {"a": [1, 2.5, "x", None, b"y", {3}], "b": collections.OrderedDict(w=weight), "c": torch.tensor(True)}
    torch.save(content, path, _use_new_zipfile_serialization=new)
    found = tensors.load(path)
    assert found["a"] == content["a"]
    assert torch.equal(found["b"]["w"], weight)


STRANGE = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "quantized": lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
    "meta": lambda: torch.zeros(3, device="meta"),
    "a million million numbers by strides": lambda: torch.zeros(1).expand(10**6, 10**6),
    "an object": lambda: nn.Linear(2, 2),
}


@pytest.mark.parametrize("make", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("new", [True, False])
def test_other_tensors_and_objects_are_refused(make, new, path):
    torch.save({"a": [make()]}, path, _use_new_zipfile_serialization=new)
    with pytest.raises(FileError, match=r"x\.pth holds"):
        tensors.load(path)


@pytest.mark.parametrize("way", ["zip", "old", "pickle"])
def test_nothing_is_run(way, path, tmp_path):
    content = {"a": torch.zeros(2), "b": Payload(tmp_path / "executed")}
    if way == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=way == "zip")
    with pytest.raises(FileError, match="pickled Python objects"):
        tensors.load(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("steps", PICKLES, ids=range(len(PICKLES)))
def test_what_asks_for_memory_gets_none(steps, path):
    torch.save({"a": torch.zeros(4)}, path)
    changed = [
        (n, old[:2] + steps + b"0" + old[2:] if n.endswith("data.pkl") else old)
        for n, old in entries(path.read_bytes())
    ]
    path.write_bytes(written(changed))
    found = outcome(tensors.load, path)
    assert found["outcome"] in ("read", "refused"), found
    assert found["memory"] < 100e6, found


def test_a_damaged_number_is_noticed(path):
    torch.save({"a": torch.arange(1000.0)}, path)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        (weights,) = (info for info in file.infolist() if info.filename.endswith("data/0"))
    content[weights.header_offset + 500] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileError, match="checksum"):
        tensors.load(path)


def test_a_list_that_holds_itself_is_read_as_it_is(path):
    torch.save({"a": _endless()}, path)
    assert tensors.load(path)["a"][0][0] is not None


def text(value):
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


NUMBERS = b"]q\x05(" + b"".join(b"M" + i.to_bytes(2, "little") for i in range(2**16)) + b"e"
DOUBLED = b"K\x01\x85q\x00" + 45 * b"h\x00h\x00\x86q\x00"
MULTIPLIED = {
    "a tuple of twice the same, 45 times, as a key": DOUBLED + b"}h\x00K\x01s",
    "such a tuple in a set": DOUBLED + b"c__builtin__\nset\n](h\x00e\x85R",
    "the same text to bytes again and again": (
        b"c_codecs\nencode\nq\x01" + text("x" * 10**6) + text("latin1") + b"\x86q\x04" + b"h\x01h\x04R" * 3000
    ),
    "text to a code that takes the square of its length": (
        b"c_codecs\nencode\n" + text("".join(map(chr, range(0x4E00, 0x9E00))) * 50) + text("punycode") + b"\x86R"
    ),
    "the same numbers in set after set": b"c__builtin__\nset\nq\x01" + NUMBERS + b"\x85q\x06" + b"h\x01h\x06R" * 1000,
    "the same numbers in tensor after tensor": b"ctorch\nTensor\nq\x01"
    + NUMBERS
    + b"\x85q\x06"
    + b"h\x01h\x06R" * 2000,
    "numbers as keys that Python cannot tell apart": (
        b"}(" + b"".join(b"\x8a\x0a" + (i * (2**61 - 1)).to_bytes(10, "little") + b"N" for i in range(20_000)) + b"u"
    ),
}


@pytest.mark.parametrize("steps", MULTIPLIED.values(), ids=MULTIPLIED)
def test_few_bytes_that_ask_for_much_work_or_memory_are_refused(steps, path):
    torch.save({"a": torch.zeros(4)}, path)
    content = b"\x80\x02](" + steps + b"e."
    path.write_bytes(
        written([(n, content if n.endswith("data.pkl") else old) for n, old in entries(path.read_bytes())])
    )
    found = outcome(tensors.load, path)
    assert found["outcome"] == "refused"
    assert found["seconds"] < 3
    assert found["memory"] < 100e6


def test_attributes_of_a_tensor_do_not_hide_its_methods(path):
    torch.save(_with_attributes(), path)
    assert tensors.load(path).numel() == 3
