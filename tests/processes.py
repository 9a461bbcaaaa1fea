"""The processes and shared memory of a program, for tests of what it leaves behind."""

import os
import signal
from pathlib import Path

import pytest


def children(pid: int) -> list[int]:
    """The process numbers of a program's own children."""
    return sorted(child for child in map(int, filter(str.isdigit, os.listdir("/proc"))) if parent(child) == pid)


def parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None  # it has ended


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def segments() -> set[str]:
    """What this package's programs have in shared memory, and what Python's semaphores are called; other programs may come and go."""
    return {name for name in os.listdir("/dev/shm") if name.startswith(("sem.pascal-nm-", "sem.mp-", "psm_"))}


def interruptible() -> None:
    """Undo what a shell does to programs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def nothing_left():
    before, files, shared = set(children(os.getpid())), len(os.listdir("/proc/self/fd")), segments()
    yield
    assert set(children(os.getpid())) == before
    assert segments() <= shared
    assert len(os.listdir("/proc/self/fd")) <= files + 4
