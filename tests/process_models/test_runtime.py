"""A run ends: with its results, or with the child's own error, and nothing stays behind."""

import errno
import logging
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lava.magma", exc_type=ImportError)

from pascal_nm import convert
from pascal_nm.errors import TargetError
from pascal_nm.network.operators import Dense
from pascal_nm.process_models import memory
from pascal_nm.process_models.analog.process import AnalogInput
from pascal_nm.process_models.compat import ProcessServer, RunSteps, VarServer
from pascal_nm.process_models.pasc_network.process import PascNetwork
from pascal_nm.process_models.readout.process import Readout
from pascal_nm.process_models.runtime import Session
from pascal_nm.process_models.synapse.process import Synapse
from tests import networks, pace
from tests.process_models.faulty.process import Faulty
from tests.processes import children, launcher, nothing_left, running

__all__ = ["launcher", "nothing_left"]

ROOT = Path(__file__).parents[2]


def network(how: str, step: int = 3) -> Faulty:
    faulty = Faulty(step=step, how=how)
    dense = Synapse(Dense(np.ones((2, 2), np.int8)), shape_in=(2,))
    faulty.s_out.connect(dense.s_in)
    return faulty


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise", "faulty failed in Lava: ZeroDivisionError: the mantissa"),
        ("raise unpicklable", "faulty failed in Lava: .*TwoArgumentsError: the mantissa of nothing"),
        ("exit", "^faulty ended the run before its time, with exit code 0"),
        ("die", "died.*SIGKILL"),
        ("hang", "does not go on: faulty is stuck"),
    ],
)
def test_a_child_that_fails_ends_the_run_with_its_own_error_in_5_seconds(how, message, nothing_left):
    start = time.monotonic()
    with pytest.raises(TargetError, match=message) as caught, Session(network(how), tag="fixed_pt") as session:
        session.run(10)
    assert pace.since(start, time.monotonic) < 5
    if how not in ("die", "exit"):
        assert "models.py" in str(caught.value.__cause__), "the cause shows the child's traceback"


def test_an_error_is_told_where_contexts_are_pickled_too(nothing_left):
    """As they are once Dask has been imported."""
    pytest.importorskip("distributed")
    with (
        pytest.raises(TargetError, match="the mantissa of nothing"),
        Session(network("raise unpicklable"), tag="fixed_pt") as session,
    ):
        session.run(10)


def test_a_session_runs_on_from_where_it_ended(nothing_left):
    with Session(network("never"), tag="fixed_pt") as session:
        session.run(3)
        session.run(4)


def test_a_session_is_used_while_it_is_open():
    """What is written to channels that are gone ends the interpreter."""
    faulty = network("never")
    session = Session(faulty, tag="fixed_pt")
    with pytest.raises(TargetError, match="inside the Session's with block"):
        session.run(1)
    with session:
        session.run(1)
        with pytest.raises(TargetError, match="open already"):
            session.__enter__()
        session.run(1)
    for use in (lambda: session.run(1), lambda: session.pids, lambda: faulty.run(RunSteps(num_steps=1))):
        with pytest.raises(TargetError, match="inside the Session's with block"):
            use()


def test_a_network_that_was_stopped_by_lavas_own_call_does_not_run_on(nothing_left):
    faulty = network("never")
    with Session(faulty, tag="fixed_pt") as session:
        session.run(1)
        faulty.stop()
        with pytest.raises(TargetError, match="does not run any more"):
            session.run(1)


def test_vars_are_read_while_the_session_is_open():
    readout = Readout(shape=(2,), window=range(3))
    with Session(readout, tag="fixed_pt") as session:
        session.run(1)
        assert readout.v.get().shape == (1, 2)
    for use in (readout.v.get, lambda: readout.v.set(np.zeros((1, 2)))):
        with pytest.raises(TargetError, match="read its Vars inside"):
            use()


@pytest.mark.parametrize("steps", [0, -1, 2.5, 2**31, "3", None])
def test_a_number_of_timesteps_that_lava_would_take_for_another_command_is_refused(steps):
    with pytest.raises(TargetError, match=r"whole number of timesteps, from 1 to 2147483647, not"):
        Session(network("never"), tag="fixed_pt").run(steps)


def test_networks_run_at_the_same_time_in_threads_of_one_program(nothing_left):
    """Each with its own results, and Processes that the user made meanwhile stay as they are."""

    def run(levels):
        for _ in range(3):
            source = AnalogInput(currents=np.full((1, 1, 1), 5 * levels, np.int32))
            synapse = Synapse(Dense(np.ones((1, 1), np.int8)), shape_in=(1,), largest=5 * levels)
            readout = Readout(shape=(1,), window=range(1, 9))
            source.s_out.connect(synapse.s_in)
            synapse.a_out.connect(readout.a_in)
            with Session(readout, tag="fixed_pt") as session:
                together.wait(60)
                session.run(5)
                found = readout.v.get().item()
        return found

    together = threading.Barrier(3)
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(run, levels) for levels in (1, 2, 3)]
        made = [Synapse(Dense(np.ones((2, 2), np.int8)), shape_in=(2,)) for _ in range(100)]
    assert [future.result() for future in futures] == [5, 10, 15]
    assert all("timing" in process.proc_params._parameters for process in made)


def test_what_lava_registers_is_forgotten_but_what_the_user_made_is_kept():
    def registered():
        handlers = [logging.getLogger(name).handlers for name in (None, "lava.magma.compiler.compiler")]
        return [len(ProcessServer().processes), len(VarServer().vars), *map(len, handlers)]

    graph = convert(networks.randomized(networks.perceptron()), networks.images())
    whole = [PascNetwork(graph=graph) for _ in range(2)]
    before = registered()
    for process in whole:
        with Session(process, tag="floating_pt") as session:
            session.run(1)
            dense = Synapse(Dense(np.ones((2, 2), np.int8)), shape_in=(2,))
        assert "timing" in dense.proc_params._parameters
    assert registered() == [before[0] + 2, before[1], before[2] + 2, before[3]]


def test_too_few_open_files_are_said_before_anything_starts(nothing_left):
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 20, allowed[1]))
    try:
        with (
            pytest.raises(TargetError, match=r"^3 processes need \d+ open files at once, \d+ are allowed: .*ulimit -n"),
            Session(network("never"), tag="fixed_pt"),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)


def test_a_system_that_starts_no_process_is_said(monkeypatch, nothing_left):
    real, forks = os.fork, []

    def fork():
        forks.append(1)
        if len(forks) == 2:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return real()

    monkeypatch.setattr(os, "fork", fork)
    with (
        pytest.raises(TargetError, match=r"does not start the processes.*ulimit -u"),
        Session(network("never"), tag="fixed_pt"),
    ):
        pass


@pytest.mark.skipif(not memory.SEMAPHORES.is_dir(), reason="semaphores are no files here")
def test_what_a_killed_program_left_in_shared_memory_is_removed_by_the_next_run():
    """Only this package's, and only of programs that are dead."""
    with Session(network("never"), tag="fixed_pt"):
        pass
    program = textwrap.dedent("""
        import multiprocessing, os, signal
        from multiprocessing.resource_tracker import _resource_tracker
        from pascal_nm.process_models.memory import own_semaphores

        with own_semaphores():  # of the kind that keeps its name
            semaphore = multiprocessing.get_context("spawn").Semaphore(0)
        print(semaphore._semlock.name[1:], flush=True)
        os.kill(_resource_tracker._pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    killed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    left = memory.SEMAPHORES / f"sem.{killed.stdout.strip()}"
    assert left.exists()
    living, others = (
        left.with_name(f"{left.name.rsplit('-', 2)[0]}-{os.getppid()}-x"),
        left.with_name(f"sem.mp-{os.getpid()}"),
    )
    for name in (living, others):
        name.touch()
    try:
        with Session(network("never"), tag="fixed_pt"):
            pass
        assert not left.exists()
        assert living.exists()
        assert others.exists()
    finally:
        for name in (living, others):
            name.unlink()


def test_many_runs_leave_nothing(nothing_left):
    for _ in range(10):
        with Session(network("never"), tag="fixed_pt") as session:
            session.run(2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_program_takes_its_children_along(number, launcher, tmp_path):
    program = f"""
import pathlib
from tests.process_models.test_runtime import network, Session

with Session(network("hang"), tag="fixed_pt") as session:
    pathlib.Path({str(tmp_path / "ready")!r}).touch()
    session.run(10)
"""
    pid = launcher.start(program, tmp_path / "ready")
    time.sleep(0.3)
    started = children(pid)
    assert started, "the network has child processes"
    os.kill(pid, number)
    assert launcher.exitcode() == (128 + number if number == signal.SIGTERM else -number)
    deadline = time.monotonic() + 3
    while (alive := [child for child in started if running(child)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert alive == []


def test_a_run_without_an_end_and_a_pause_are_refused_in_a_line_and_the_session_goes_on(nothing_left):
    from lava.magma.core.run_conditions import RunContinuous

    process = network("")
    with Session(process, tag="fixed_pt") as session:
        with pytest.raises(TargetError, match=r"session\.run\(steps\).*instead of RunContinuous"):
            process.run(condition=RunContinuous())
        session.run(3)
        with pytest.raises(TargetError, match=r"cannot be paused.*run fewer timesteps at a time"):
            process.pause()
        session.run(3)


def test_a_run_that_is_not_waited_for_is_waited_for_later(nothing_left):
    from lava.magma.core.run_conditions import RunSteps

    process = network("")
    with Session(process, tag="fixed_pt") as session:
        process.run(condition=RunSteps(num_steps=5, blocking=False))
        process.wait()
        session.run(2)
