"""Archives of torch: one that readers may see differently is refused."""

import io
import zipfile

import pytest
import torch

from pascal_nm.errors import FileError
from pascal_nm.source import archive
from tests.hostile_files import entries, written


@pytest.fixture
def content():
    to = io.BytesIO()
    torch.save({"a": torch.arange(5)}, to)
    return to.getvalue()


def names(content, tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with path.open("rb") as file, archive.opened(path, file) as found:
        return {name: found.read(name) for name in found.names}


def test_what_torch_and_python_write_is_read(content, tmp_path):
    found = names(content, tmp_path)
    assert "data.pkl" in found
    assert found == names(written(entries(content)), tmp_path)


def with_directory_moved(content):
    """Four bytes in front of the list of entries, which its end still says is where it was."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return content[: file.start_dir] + b"more" + content[file.start_dir :]


def as_written(**options):
    return lambda content: written(entries(content), **options)


def with_comment(content):
    to = io.BytesIO(written(entries(content)))
    with zipfile.ZipFile(to, "a") as file:
        file.comment = b"x"
    return to.getvalue()


DIFFERENT = {
    "an entry twice": lambda content: written([entries(content)[0], *entries(content)]),
    "an entry twice but for its case": lambda c: written([(entries(c)[0][0].upper(), b""), *entries(c)]),
    "bytes in front": lambda content: b"more" + content,
    "an archive in front": lambda content: content + content,
    "bytes behind": lambda content: content + b"more",
    "bytes in front of the list": with_directory_moved,
    "a comment": with_comment,
    "compressed": as_written(compression=zipfile.ZIP_DEFLATED),
    "two folders": lambda content: written([("other/x", b""), *entries(content)]),
    "another name in the entry": lambda c: c.replace(b"/data/0", b"/data/1", 1),
    "encrypted": lambda c: c.replace(b"\x00\x00\x08\x08", b"\x00\x00\x09\x08"),
    "half": lambda content: content[: len(content) // 2],
}


@pytest.mark.parametrize("change", DIFFERENT.values(), ids=DIFFERENT)
def test_an_archive_that_readers_may_see_differently_is_refused(change, content, tmp_path):
    with pytest.raises(FileError, match=r"x\.pt is damaged, or not an archive as torch writes them"):
        names(change(content), tmp_path)
