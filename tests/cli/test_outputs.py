"""Nothing that a command reads is written over, and nothing is written under the name of another
format: asked before anything is read.
"""

import importlib
import json
import os
import shutil
from pathlib import Path
from typing import get_type_hints

import pytest

from pascal_nm.cli.main import COMMANDS
from pascal_nm.cli.outputs import _declarations

TOKENS = {
    "adapt": ["m.pt"],
    "compare": ["m.pt"],
    "deploy": ["m.nir", "--chip", "c.toml"],
    "demo": [],
    "energy": ["m.nir", "--chip", "c.toml", "--frames", "f.npz"],
    "export": ["m.pt", "--nir"],
    "import-checkpoint": ["m.pth", "--arch", "vgg16", "--levels", "4"],
    "inspect": ["m.nir"],
    "interop": ["m.nir"],
    "lags": ["m.nir", "--timesteps", "5", "--chip", "c.toml"],
    "map": ["m.nir", "--chip", "c.toml"],
    "paper": [],
    "quantize": ["m.pt", "--chip", "c.toml"],
    "report": ["m.nir", "--model", "m.pt", "--chip", "c.toml", "--frames", "f.npz"],
    "run": ["m.nir", "--lag", "l.json", "--frames", "f.npz"],
    "train": ["--from", "m.pt", "--levels", "l.json"],
}
"""A command line for each command that writes; none of its files holds what it should, so that
whatever is read first is another error."""


def function(name):
    return getattr(importlib.import_module(f"pascal_nm.cli.{COMMANDS[name].module}"), name.replace("-", "_"))


def outputs(name):
    """Each option by which a command writes, as it is given, with what is declared."""
    for option, declared in _declarations(function(name)):
        yield f"--{option}", declared


FILES = [(name, option, w) for name in TOKENS for option, w in outputs(name) if w.suffixes]
IDS = [f"{name} {option}" for name, option, _ in FILES]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for names in TOKENS.values():
        for name in names:
            if "." in name:
                Path(name).write_text(f"not what {name} should hold")
    return tmp_path


def refused(outcome, *words):
    code, out, err = outcome
    assert (code, out, err.count("\n")) == (2, "", 1), outcome
    for word in words:
        assert word in err, err


def content():
    return {str(p): p.read_bytes() for p in Path().rglob("*") if p.is_file()}


READ = {"answers", "model", "network", "networks", "file", "nir", "start_file", "environments"}
"""The options that name a file or a folder to read."""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_path_that_a_command_takes_is_read_or_declares_what_it_writes(name):
    paths = {option for option, hint in get_type_hints(function(name)).items() if "Path" in str(hint)}
    assert {option.removeprefix("--") for option, _ in outputs(name)} == paths - READ
    assert (name in TOKENS) == bool(paths - READ)


def by_link(path):
    Path(f"other{path.suffix}").symlink_to(path)
    return f"other{path.suffix}"


def by_another_name(path):
    Path(f"other{path.suffix}").hardlink_to(path)
    return f"other{path.suffix}"


def through_a_folder_that_is_a_link(path):
    Path("here").symlink_to(".")
    return Path("here") / path


SPELLINGS = [
    lambda path: path.absolute(),
    lambda path: f"./../{path.absolute().parent.name}/{path}",
    by_link,
    by_another_name,
    through_a_folder_that_is_a_link,
]


@pytest.mark.parametrize(("name", "option", "writes"), FILES, ids=IDS)
def test_what_a_command_reads_is_not_written(pascal, place, name, option, writes):
    """Each file that is read gets the name of the format that is written."""
    for token in [token for token in TOKENS[name] if "." in token]:
        path = Path(token).with_suffix(writes.suffixes[0])
        shutil.copy(token, path) if path.name != token else None
        before = content()
        arguments = [path if each == token else each for each in TOKENS[name]]
        refused(pascal(name, *arguments, option, path), "is a file that this command reads", option)
        assert content() == before


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_another_spelling_of_what_is_read_is_not_written_either(pascal, place, spelling):
    path = Path("x.nir")
    path.write_text("mine")
    refused(pascal("quantize", path, "-o", spelling(path)), "is a file that this command reads")
    assert path.read_text() == "mine"


@pytest.mark.parametrize(("name", "option", "writes"), FILES, ids=IDS)
def test_a_name_of_another_format_is_refused(pascal, place, name, option, writes):
    before = content()
    for wrong in ("x", f"x{writes.suffixes[0]}.bak", f"x{writes.suffixes[0].upper()}", writes.suffixes[0]):
        refused(pascal(name, *TOKENS[name], option, wrong), wrong, writes.suffixes[0], option)
    assert content() == before


@pytest.mark.parametrize(("name", "option", "writes"), FILES, ids=IDS)
def test_a_folder_and_a_missing_folder_are_refused_first(pascal, place, name, option, writes):
    Path(f"folder{writes.suffixes[0]}").mkdir()
    refused(pascal(name, *TOKENS[name], option, f"folder{writes.suffixes[0]}"), "it is a folder")
    refused(pascal(name, *TOKENS[name], option, f"none/x{writes.suffixes[0]}"), "none does not exist")
    Path("file").write_text("x")
    refused(pascal(name, *TOKENS[name], option, f"file/x{writes.suffixes[0]}"), "file does not exist")


@pytest.fixture
def bundle(place):
    """A folder with the manifest of a bundle, as far as that is what makes it one."""
    Path("bundle").mkdir()
    Path("bundle/manifest.json").write_text(json.dumps({"pascal_nm": "0.1.0", "files": {}}))
    return Path("bundle")


@pytest.mark.parametrize(("name", "option", "writes"), FILES, ids=IDS)
def test_nothing_is_written_into_a_bundle(pascal, bundle, name, option, writes):
    (bundle / "sub").mkdir()
    for path in (bundle / "x", bundle / "sub" / "x"):
        arguments = (option, path.with_suffix(writes.suffixes[0]))
        refused(pascal(name, *TOKENS[name], *arguments), "lies in the bundle", option)


@pytest.mark.parametrize("name", ["deploy", "demo"])
def test_a_folder_that_is_written_is_in_no_bundle_and_holds_nothing_that_is_read(pascal, bundle, name):
    refused(pascal(name, *TOKENS[name], "-o", bundle / "sub"), "lies in the bundle")
    if name == "deploy":
        shutil.copy("m.nir", bundle / "network.nir")
        before = content()
        for folder in (".", "bundle", "bundle/../bundle", Path("bundle").absolute()):
            network = "m.nir" if folder == "." else "bundle/network.nir"
            refused(pascal("deploy", network, "-o", folder), "holds", network)
        assert content() == before
    else:
        refused(pascal(name, "-o", bundle), "lies in the bundle")


def test_a_folder_may_be_named_like_a_chip_or_a_data_set(pascal, bundle):
    """The second `deploy` into a folder that is called after its chip."""
    bundle.rename("loihi2")
    refused(pascal("deploy", "m.nir", "--chip", "loihi2", "-o", "loihi2"), "m.nir is not a NIR file")
    Path("digits").mkdir()
    Path("digits/x.png").write_text("an old picture")
    refused(pascal("map", "m.nir", "--data", "digits", "--plot", "digits/x.png"), "m.nir is not a NIR file")


def test_a_picture_does_not_replace_an_image_that_is_read(pascal, place):
    Path("images/cat").mkdir(parents=True)
    Path("images/cat/1.png").write_text("a cat")
    refused(pascal("run", "m.nir", "--data", "images", "--plot", "images/cat/1.png"), "is one of the images in images")
    refused(
        pascal("run", "m.nir", "--frames", "images", "--plot", "images/cat/1.png"), "is one of the images in images"
    )
    assert Path("images/cat/1.png").read_text() == "a cat"


def test_outputs_of_one_command_are_different_files(pascal, place):
    Path("a.png").write_text("x")
    Path("b.json").symlink_to("a.png")
    refused(pascal("lags", *TOKENS["lags"], "-o", "b.json", "--plot", "a.png"), "writes by another option")


def test_what_is_written_beside_the_output_is_no_input_either(pascal, place):
    Path("r.json").write_text("[0]")
    refused(pascal("report", "m.nir", "--lag", "r.json", "-o", "r.html"), "r.json is a file that this command reads")
    Path("m.uniform.pt").write_text("x")
    refused(pascal("train", "--from", "m.uniform.pt", "--adapt", "2", "-o", "m.pt"), "m.uniform.pt is a file")


def test_outputs_that_are_not_given_are_no_inputs_either(pascal, place):
    refused(pascal("import-checkpoint", "m.pt", "--arch", "vgg16", "--levels", "4"), "m.pt is a file", "--output")
    Path("m.int.nir").symlink_to("m.pt")
    refused(pascal("quantize", "m.pt"), "m.int.nir is a file that this command reads")
    for profile, ending in (("pasc", ".nir"), ("rate", ".rate.nir"), ("unrolled", ".unrolled.nir")):
        Path(f"a{ending}").symlink_to("m.pt")
        Path("a.pt").symlink_to("m.pt") if not Path("a.pt").exists() else None
        refused(pascal("export", "a.pt", "--nir", "--profile", profile), f"a{ending} is a file that this command reads")
    assert not os.path.islink("m.pt")
