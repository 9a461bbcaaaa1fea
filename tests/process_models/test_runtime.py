"""A run ends: with its results, or with the child's own error, and nothing stays behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lava.magma", exc_type=ImportError)

from pascal_nm.errors import TargetError
from pascal_nm.process_models.dense.process import Dense
from pascal_nm.process_models.runtime import Session
from tests.process_models.faulty.process import Faulty

ROOT = Path(__file__).parents[2]


def children(pid: int) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(child) for child in listed.split()]


def network(how: str, step: int = 3) -> Faulty:
    faulty = Faulty(step=step, how=how)
    dense = Dense(shape_in=(2,), weight=np.ones((2, 2), np.int8))
    faulty.s_out.connect(dense.s_in)
    return faulty


@pytest.fixture
def nothing_left():
    before, files = set(children(os.getpid())), len(os.listdir("/proc/self/fd"))
    segments = set(os.listdir("/dev/shm"))
    yield
    assert set(children(os.getpid())) == before
    assert set(os.listdir("/dev/shm")) == segments
    assert len(os.listdir("/proc/self/fd")) <= files + 4


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise", "faulty failed in Lava: ZeroDivisionError: the mantissa"),
        ("die", "died.*SIGKILL"),
        ("hang", "does not go on: faulty is stuck"),
    ],
)
def test_a_child_that_fails_ends_the_run_with_its_own_error_in_5_seconds(how, message, nothing_left):
    start = time.monotonic()
    with pytest.raises(TargetError, match=message) as caught, Session(network(how), tag="fixed_pt") as session:
        session.run(10)
    assert time.monotonic() - start < 5
    if how != "die":
        assert "models.py" in str(caught.value.__cause__), "the cause shows the child's traceback"


def test_a_session_runs_on_from_where_it_ended(nothing_left):
    with Session(network("never"), tag="fixed_pt") as session:
        session.run(3)
        session.run(4)


def test_many_runs_leave_nothing(nothing_left):
    for _ in range(10):
        with Session(network("never"), tag="fixed_pt") as session:
            session.run(2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_program_takes_its_children_along(number, tmp_path):
    ready = tmp_path / "ready"
    program = textwrap.dedent(f"""
        import pathlib
        from tests.process_models.test_runtime import network, Session
        with Session(network("hang"), tag="fixed_pt") as session:
            pathlib.Path({str(ready)!r}).touch()
            session.run(10)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.DEVNULL, preexec_fn=interruptible
    )
    deadline = time.monotonic() + 60
    while not ready.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.5)
    started = children(process.pid)
    assert started, "the network has child processes"
    process.send_signal(number)
    process.wait(5)
    deadline = time.monotonic() + 3
    while (alive := [child for child in started if running(child)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive == []


def interruptible() -> None:
    """Undo what a shell does to programs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False
