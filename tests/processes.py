"""The processes and shared memory of a program, for tests of what it leaves behind."""

import os
import signal
import subprocess
import sys
import time
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
    """What this package's programs have in shared memory, and what Python's semaphores are called;
    other programs may come and go.
    """
    return {name for name in os.listdir("/dev/shm") if name.startswith(("sem.pascal-nm-", "sem.mp-", "psm_"))}


def left_behind(names: set[str], seconds: float = 30) -> set[str]:
    """Those of shared memory that stay: what other tests have in use goes when they end."""
    deadline = time.monotonic() + seconds
    while (names := names & segments()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return names


LAUNCHER = """
import os, sys
import pascal_nm, tests.networks, pascal_nm.hw_targets.workers
try:
    import pascal_nm.process_models.network, pascal_nm.process_models.runtime
except pascal_nm.errors.NotInstalledError:
    pass  # no Lava
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        break
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
else:
    sys.exit()
exec(eval(line))
"""


class Launcher:
    """Runs programs one after the other in forks of an interpreter that has imported what takes
    long. They end as an interpreter ends.
    """

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Undo what a shell does to programs in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        return self

    def __exit__(self, *error):
        self._process.communicate()

    def start(self, program: str, ready: Path) -> int:
        """The process number of a program that makes the file ``ready``."""
        print(repr(program), file=self._process.stdin, flush=True)
        pid = int(self._process.stdout.readline())
        deadline = time.monotonic() + 60
        while not ready.exists() and time.monotonic() < deadline and running(pid):
            time.sleep(0.02)
        assert ready.exists(), "the program failed"
        return pid

    def exitcode(self) -> int:
        """Of the program that was started last, once it has ended."""
        return int(self._process.stdout.readline())


@pytest.fixture(scope="session")
def launcher():
    with Launcher() as running:
        yield running


@pytest.fixture
def nothing_left():
    before, files, shared = set(children(os.getpid())), len(os.listdir("/proc/self/fd")), segments()
    yield
    assert set(children(os.getpid())) == before
    assert not left_behind(segments() - shared)
    assert len(os.listdir("/proc/self/fd")) <= files + 4
