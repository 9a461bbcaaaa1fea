"""Files that belong together are written together, or not at all, whatever fails."""

import os

import pytest

from pascal_nm.common.files import replacing, replacing_all
from pascal_nm.errors import FileError

CALLS = ("open", "replace", "unlink", "chmod", "fsync", "close", "link")


def write(*paths):
    with replacing_all(*paths) as temporaries:
        for path, temporary in zip(paths, temporaries, strict=True):
            temporary.write_text(f"new {path.name}")


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("there", ["abc", "", "b"])
@pytest.mark.parametrize("name", CALLS)
def test_whichever_call_fails_all_files_are_old_or_all_are_new(tmp_path, monkeypatch, name, there, failure):
    """One call of the system fails, the first, the second, and so on."""
    paths = [tmp_path / each for each in "abc"]
    for number in range(100):
        for path in paths:
            path.unlink(missing_ok=True)
        for each in there:
            (tmp_path / each).write_text("old")
        done, original = 0, getattr(os, name)

        def call(*arguments, _of=original, _number=number, **options):
            nonlocal done
            done += 1
            if done == _number + 1:
                raise failure
            return _of(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, name, call)
            try:
                write(*paths)
                failed = False
            except (FileError, KeyboardInterrupt):
                failed = True
        content = {path.name: path.read_text() for path in tmp_path.iterdir() if not path.name.startswith(".")}
        assert content in ({each: "old" for each in there}, {each: f"new {each}" for each in "abc"})
        for left in tmp_path.glob(".*"):
            assert name == "unlink", "only where nothing can be removed is anything left"
            left.unlink()
        if done <= number:
            assert not failed and content["a"] == "new a"
            return
    pytest.fail("it is called without end")


def test_an_error_of_the_writer_leaves_the_old_files(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(ZeroDivisionError), replacing_all(tmp_path / "a", tmp_path / "b") as (first, _):
        first.write_text(str(1 / 0))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(FileError, match="it is a folder"), replacing(tmp_path / "x"):
        pass
    with pytest.raises(FileError, match="does not exist"), replacing(tmp_path / "none" / "x"):
        pass
