"""Model files: nothing is executed, nothing is half-written, and every refusal is one line."""

import os
import pickle
import re
import zipfile

import pytest
import torch
from torch import nn

import pascal_nm as pnm
from pascal_nm import QCFS
from pascal_nm.common.files import readable, replacing
from pascal_nm.common.layer_files import read_levels
from pascal_nm.errors import FileError, PascalError
from pascal_nm.network.graph import Preprocessing
from pascal_nm.source import checkpoint
from pascal_nm.source.checkpoint import Model

RECIPE = {"arch": "mlp", "input_shape": [1, 4, 4], "classes": 3, "width": 0.05}


def model(levels=4):
    return Model(
        pnm.build(**RECIPE, levels=levels),
        (1, 4, 4),
        ("a", "b", "c"),
        Preprocessing(16.0, (0.3,), (0.4,)),
        RECIPE,
        "digits",
        {"x": 0.5},
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pt"


def test_a_checkpoint_reads_back_as_it_was_written(path):
    original = model([3, 7])
    checkpoint.save(original, path)
    loaded = checkpoint.load(path)
    assert loaded.graph().differences(original.graph()) == []
    for name in ("input_shape", "classes", "preprocessing", "recipe", "data", "metrics"):
        assert getattr(loaded, name) == getattr(original, name)


def test_a_pickled_object_is_refused_without_being_executed(path, tmp_path):
    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {marker}",))

    for write in (lambda o: torch.save(o, path), lambda o: path.write_bytes(pickle.dumps(o))):
        write(Evil())
        with pytest.raises(FileError, match=r"not opened|not a pascal-nm checkpoint"):
            checkpoint.load(path)
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(FileError, match="pickled Python objects"):
        checkpoint.load(path)
    assert not marker.exists()


def program(path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), QCFS(4), nn.Linear(3, 2)).eval()
    batch = torch.export.Dim.DYNAMIC
    torch.export.save(torch.export.export(network, (torch.zeros(2, 1, 2, 2),), dynamic_shapes=({0: batch},)), path)


def test_a_program_of_ones_own_loads(tmp_path):
    program(tmp_path / "own.pt2")
    loaded = checkpoint.load(tmp_path / "own.pt2")
    assert loaded.input_shape == (1, 2, 2)
    assert [p.levels for p in loaded.graph().spiking] == [4]


def rewritten(source, target, change):
    """The archive with ``change(name, bytes)`` applied to every entry; None drops one."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
        return new


@pytest.mark.parametrize("entry", ["data/aotinductor/model/lib.so", "extra/evil.py", "data/constants/custom_obj_0"])
def test_a_program_that_holds_code_is_refused(entry, tmp_path):
    program(tmp_path / "own.pt2")
    with zipfile.ZipFile(tmp_path / "own.pt2") as archive:
        root = archive.namelist()[0].split("/")[0]
    with zipfile.ZipFile(tmp_path / "own.pt2", "a") as archive:
        archive.writestr(f"{root}/{entry}", b"anything")
    with pytest.raises(FileError, match="could run code"):
        checkpoint.load(tmp_path / "own.pt2")


def test_a_program_whose_sample_inputs_are_pickled_objects_is_refused(tmp_path):
    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {marker}",))

    program(tmp_path / "own.pt2")
    torch.save(Evil(), tmp_path / "evil.pt")
    evil = (tmp_path / "evil.pt").read_bytes()
    rewritten(tmp_path / "own.pt2", tmp_path / "bad.pt2", lambda name, old: evil if "sample_inputs" in name else old)
    with pytest.raises(FileError, match="could run code"):
        checkpoint.load(tmp_path / "bad.pt2")
    assert not marker.exists()


def test_a_size_expression_that_is_code_is_refused(tmp_path):
    program(tmp_path / "own.pt2")

    def change(name, old):
        return (
            re.sub(rb'("expr_str":\s*")', rb"\1__import__('os').getcwd() or ", old) if name.endswith(".json") else old
        )

    rewritten(tmp_path / "own.pt2", tmp_path / "bad.pt2", change)
    with pytest.raises(FileError, match="not plain arithmetic"):
        checkpoint.load(tmp_path / "bad.pt2")


@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".nir"])
@pytest.mark.parametrize("damage", ["missing", "empty", "folder", "text", "truncated"])
def test_damaged_files_are_refused_in_one_line(suffix, damage, tmp_path):
    file = tmp_path / f"model{suffix}"
    if suffix == ".pt":
        checkpoint.save(model(), file)
    elif suffix == ".pt2":
        program(file)
    else:
        pnm.export.write_nir(model().graph(), file)
    content = file.read_bytes()
    file.unlink()
    match damage:
        case "empty":
            file.touch()
        case "folder":
            file.mkdir()
        case "text":
            file.write_text("this is not a network")
        case "truncated":
            file.write_bytes(content[: len(content) // 2])
    with pytest.raises(PascalError) as caught:
        pnm.export.read_nir(file) if suffix == ".nir" else checkpoint.load(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def changed(path, change):
    checkpoint.save(model(), path)
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


CHANGES = {
    "nan weight": (lambda c: c["state_dict"]["1.weight"].fill_(float("nan")), "1.weight holds NaN"),
    "zero threshold": (lambda c: c["state_dict"]["3.threshold"].zero_(), "threshold of 3 is zero"),
    "levels zero": (lambda c: c.update(levels=[0, 4]), "levels must be at least 1"),
    "levels missing": (lambda c: c.update(levels=[4]), "1 levels were given for 2"),
    "wrong shape": (
        lambda c: c["state_dict"].update({"1.weight": torch.zeros(2, 2)}),
        "do not fit the architecture 'mlp'",
    ),
    "unknown architecture": (lambda c: c["recipe"].update(arch="transformer"), "unknown architecture"),
    "no recipe": (lambda c: c.pop("recipe"), "recipe"),
    "version of another kind": (lambda c: c.update(version="x"), "'version' is missing or of another kind"),
    "a number for a name": (lambda c: c.update(classes=[1, 2, 3]), "'classes' is missing or of another kind"),
    "a list for a number": (lambda c: c["recipe"].update(classes=[3]), "'recipe' is missing or of another kind"),
    "preprocessing that is none": (lambda c: c["preprocessing"].update(std=["x"]), "'preprocessing' is missing"),
    "a standard deviation of zero": (lambda c: c["preprocessing"].update(std=[0.0]), "std positive"),
    "more than the file holds": (lambda c: c["recipe"].update(width=[10**5, 10**5]), "do not fit the architecture"),
    "images that no machine has room for": (lambda c: c["recipe"].update(input_shape=[1, 10**6, 10**6]), "values"),
    "newer": (lambda c: c.update(version=99), "newer pascal-nm"),
    "not ours": (lambda c: c.pop("format"), "not a pascal-nm checkpoint"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_a_checkpoint_that_no_network_can_have_is_refused(change, message, path):
    changed(path, change)
    with pytest.raises(FileError, match=message):
        checkpoint.load(path)


def test_an_interrupted_write_leaves_the_old_file_and_no_other(path, monkeypatch):
    checkpoint.save(model(), path)
    before = path.read_bytes()

    def fail(content, file):
        file.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(model(), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_full_disk_is_one_line_and_leaves_nothing(path):
    with pytest.raises(FileError, match="No space left"), replacing(path) as temporary, temporary.open("wb"):
        raise OSError(28, "No space left on device")
    assert os.listdir(path.parent) == []


def test_a_folder_that_does_not_exist_is_one_line(tmp_path):
    with pytest.raises(FileError, match="cannot write"):
        checkpoint.save(model(), tmp_path / "nowhere" / "model.pt")


def test_a_module_of_ones_own_is_not_saved_as_a_checkpoint(path):
    with pytest.raises(FileError, match=r"torch\.export\.save"):
        checkpoint.save(Model(nn.Linear(2, 2), (2,)), path)


TEXTS = [
    "[" * 10**5,
    "{}",
    "[4]",
    '{"levels": 4}',
    '{"levels": {"a": 1}}',
    '{"levels": [true]}',
    '{"levels": [1.0]}',
    "\xff",
    '"x"',
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_levels_file_that_holds_no_levels_is_refused(text, tmp_path):
    (tmp_path / "levels.json").write_text(text, encoding="latin-1")
    with pytest.raises(FileError, match="is not a levels file") as caught:
        read_levels(tmp_path / "levels.json")
    assert "\n" not in str(caught.value)


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "x.pt")
    with pytest.raises(FileError, match="pipe or a device"):
        readable(tmp_path / "x.pt")
