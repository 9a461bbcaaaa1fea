"""Several processes give what one gives, also where one of them is killed."""

import dataclasses
import errno
import os
import pickle
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pascal_nm import data, quantize
from pascal_nm.errors import DataError, TargetError
from pascal_nm.export import write_nir
from pascal_nm.hw_targets import evaluation, find, workers
from pascal_nm.network.graph import Preprocessing
from pascal_nm.source.architectures import build
from pascal_nm.source.checkpoint import Model
from tests.processes import children, launcher, left_behind, nothing_left, running, segments

__all__ = ["launcher", "nothing_left"]


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=50)


@pytest.fixture(scope="module")
def graph(digits):
    module = build("cnn", digits.shape, 10, 4, width=0.25).eval()
    return quantize(Model(module, digits.shape, digits.classes, digits.preprocessing()).graph())


def assert_same(result, expected):
    for field in ("predictions", "labels", "timesteps", "exact", "accuracy_over_time"):
        np.testing.assert_array_equal(getattr(result, field), getattr(expected, field), err_msg=field)
    assert result.schedule == expected.schedule
    assert [layer.name for layer in result.events] == [layer.name for layer in expected.events]
    for ours, theirs in zip(result.events, expected.events, strict=True):
        for field in dataclasses.fields(ours):
            np.testing.assert_array_equal(getattr(ours, field.name), getattr(theirs, field.name), err_msg=field.name)


def test_a_killed_worker_that_runs_lava_is_replaced_and_the_result_is_that_of_one_process(graph, digits, nothing_left):
    pytest.importorskip("lava.magma", exc_type=ImportError)
    seen, few, others = [], digits.head(8), set(children(os.getpid()))

    def progress(done, images):
        if len(seen) == 2:
            os.kill(min(set(children(os.getpid())) - others), signal.SIGKILL)
        seen.append((done, images))

    result = workers.evaluate(graph, "lava", few, 2, size=2, progress=progress)
    assert_same(result, evaluation.evaluate(find("lava").compile(graph), few))
    assert (seen[0], seen[-1]) == ((0, 8), (8, 8))
    assert len(seen) == 1 + 4, "every batch counts once"


class Deadly(Preprocessing):
    @property
    def centre(self):
        os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_always_die_end_the_run(graph, digits, nothing_left):
    deadly = dataclasses.replace(graph, preprocessing=Deadly(**vars(graph.preprocessing)))
    message = "3 times a worker died before a batch was done, the last by SIGKILL: is there memory for 1 workers"
    with pytest.raises(TargetError, match=message):
        workers.evaluate(deadly, "torch", digits, 1)


class Failing(Preprocessing):
    @property
    def centre(self):
        raise DataError("these pixels are not pixels")


def test_an_error_in_a_worker_is_the_runs_error(graph, digits, nothing_left):
    failing = dataclasses.replace(graph, preprocessing=Failing(**vars(graph.preprocessing)))
    with pytest.raises(DataError, match=r"^these pixels are not pixels$") as caught:
        workers.evaluate(failing, "torch", digits.head(1), 1)
    assert "in centre" in str(caught.value.__cause__), "the cause shows where in the worker"


class Unreadable:
    """Can be pickled, but not read back, whoever has taught exceptions other ways to be
    pickled (Dask does).
    """

    def __reduce__(self):
        return int, ("no number",)

    def __str__(self):
        return "one and two"


def test_an_error_that_does_not_cross_a_pipe_is_told_by_one_that_does():
    for error in (ValueError(Unreadable()), type("LocalError", (Exception,), {})("one and two")):
        told = pickle.loads(pickle.dumps(workers._portable(error)))
        assert isinstance(told, TargetError)
        assert str(told) == "a worker failed: one and two"


def test_what_no_worker_can_have_is_said(graph, digits):
    class Local(Preprocessing):
        pass

    local = dataclasses.replace(graph, preprocessing=Local(**vars(graph.preprocessing)))
    with pytest.raises(TargetError, match=r"cannot be sent to workers: .*Local"):
        workers.evaluate(local, "torch", digits, 2)


def test_too_few_open_files_or_processes_are_said(graph, digits, monkeypatch):
    def refuse(*arguments, **named):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(TargetError, match=r"does not start the processes of this run: .*ulimit -u"):
        workers.evaluate(graph, "torch", digits, 2)
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 20, allowed[1]))
    try:
        with pytest.raises(TargetError, match=r"^20 processes need \d+ open files"):
            workers.evaluate(graph, "torch", digits, 20)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)


def test_what_only_the_starting_program_defines_is_said(graph, monkeypatch):
    main = sys.modules["__main__"]
    kind = type("Mine", (Preprocessing,), {"__module__": "__main__"})
    monkeypatch.setattr(main, "Mine", kind, raising=False)
    order = pickle.dumps((dataclasses.replace(graph, preprocessing=kind(**vars(graph.preprocessing))), "torch", 1))
    monkeypatch.delattr(main, "Mine")
    with pytest.raises(TargetError, match=r"Can't get attribute 'Mine'.*must be in a module that can be imported"):
        workers._ordered(order)


SCRIPT = """
import __main__
__main__.__file__ = FILE  # as Python has it
from pascal_nm import data
from pascal_nm.export import read_nir
from pascal_nm.hw_targets import workers

with open(FOLDER + "/ready", "a") as file:
    file.write("begins\\n")
digits = data.load("digits", limit=4)
result = workers.evaluate(read_nir(FOLDER + "/network.nir"), "TARGET", digits, 1, size=1)
with open(FOLDER + "/done", "w") as file:
    print(len(result.predictions), file=file)
"""


def script(graph, folder, file, target="torch"):
    """A program without ``if __name__ == "__main__"``, written to ``folder``, that has a worker."""
    write_nir(graph, folder / "network.nir")
    text = SCRIPT.replace("FOLDER", repr(str(folder))).replace("FILE", repr(file)).replace("TARGET", target)
    (folder / "script.py").write_text(text)
    return text


@pytest.mark.parametrize("file", ["script.py", "<stdin>"])
def test_workers_do_not_run_the_program_that_starts_them(file, graph, launcher, tmp_path):
    """A script without a guard would run again in each of them; one from standard input
    has no file to run.
    """
    path = str(tmp_path / file) if file.endswith(".py") else file
    launcher.start(script(graph, tmp_path, path), tmp_path / "ready")
    assert launcher.exitcode() == 0
    assert (tmp_path / "ready").read_text() == "begins\n"
    assert (tmp_path / "done").read_text() == "4\n"


def test_a_run_that_is_killed_leaves_no_process_and_nothing_in_shared_memory(graph, launcher, tmp_path):
    pytest.importorskip("lava.magma", exc_type=ImportError)
    shared, family = segments(), []
    pid = launcher.start(script(graph, tmp_path, "<stdin>", "lava"), tmp_path / "ready")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(family) < 4 and running(pid):
        time.sleep(0.01)
        family = [child for worker in children(pid) for child in (worker, *children(worker))]
    os.kill(pid, signal.SIGKILL)
    assert launcher.exitcode() == -signal.SIGKILL
    assert len(family) >= 4, "a worker, and what Lava forks"
    deadline = time.monotonic() + 3
    while (alive := [child for child in family if running(child)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert alive == []
    assert not left_behind(segments() - shared)


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, worker_dashboard_address=None
    ) as running:
        yield running


@pytest.mark.slow
def test_a_cluster_gives_what_one_process_gives_also_where_a_worker_is_killed(graph, digits, cluster):
    killed = []

    def progress(done, images):
        if done and not killed:
            killed.append(next(iter(cluster.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

    result = workers.evaluate_on(cluster.scheduler_address, graph, "torch", digits, size=4, progress=progress)
    assert killed
    assert_same(result, evaluation.evaluate(find("torch").compile(graph), digits))


def test_an_error_on_a_cluster_is_the_runs_error(graph, digits, cluster):
    failing = dataclasses.replace(graph, preprocessing=Failing(**vars(graph.preprocessing)))
    with pytest.raises(DataError, match="these pixels are not pixels"):
        workers.evaluate_on(cluster.scheduler_address, failing, "torch", digits)


def test_a_scheduler_that_does_not_answer_is_named(graph, digits, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(workers, "_ANSWER", "1s")
    with pytest.raises(TargetError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        workers.evaluate_on("tcp://127.0.0.1:9", graph, "torch", digits)


@pytest.mark.slow
def test_lava_runs_on_a_cluster(graph, digits, cluster):
    pytest.importorskip("lava.magma", exc_type=ImportError)
    few = digits.head(6)
    result = workers.evaluate_on(cluster.scheduler_address, graph, "lava", few)
    assert_same(result, evaluation.evaluate(find("lava").compile(graph), few))
