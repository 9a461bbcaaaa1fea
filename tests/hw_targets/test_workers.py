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
from pathlib import Path

import numpy as np
import pytest

from pascal_nm import data, quantize
from pascal_nm.checkpoint import Model
from pascal_nm.errors import DataError, TargetError
from pascal_nm.export import write_nir
from pascal_nm.graph import Preprocessing
from pascal_nm.hw_targets import evaluation, find, workers
from pascal_nm.models import build
from tests.processes import children, nothing_left, running, segments

__all__ = ["nothing_left"]

ROOT = Path(__file__).parents[2]


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
    seen, few, others = [], digits.head(12), set(children(os.getpid()))

    def progress(done, images):
        if len(seen) == 2:
            os.kill(min(set(children(os.getpid())) - others), signal.SIGKILL)
        seen.append((done, images))

    result = workers.evaluate(graph, "lava", few, 2, size=2, progress=progress)
    assert_same(result, evaluation.evaluate(find("lava").compile(graph), few))
    assert (seen[0], seen[-1]) == ((0, 12), (12, 12))
    assert len(seen) == 1 + 6, "every batch counts once"


class Deadly(Preprocessing):
    def __call__(self, pixels):
        os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_always_die_end_the_run(graph, digits, nothing_left):
    deadly = dataclasses.replace(graph, preprocessing=Deadly(**vars(graph.preprocessing)))
    message = "3 times a worker died before a batch was done, the last by SIGKILL: is there memory for 1 workers"
    with pytest.raises(TargetError, match=message):
        workers.evaluate(deadly, "torch", digits, 1)


class Failing(Preprocessing):
    def __call__(self, pixels):
        raise DataError("these pixels are not pixels")


def test_an_error_in_a_worker_is_the_runs_error(graph, digits, nothing_left):
    failing = dataclasses.replace(graph, preprocessing=Failing(**vars(graph.preprocessing)))
    with pytest.raises(DataError, match=r"^these pixels are not pixels$") as caught:
        workers.evaluate(failing, "torch", digits.head(1), 1)
    assert "__call__" in str(caught.value.__cause__), "the cause shows where in the worker"


class OddError(Exception):
    """Can be pickled, but not read back."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def test_an_error_that_does_not_cross_a_pipe_is_told_by_one_that_does():
    for error in (OddError("one", "two"), type("LocalError", (Exception,), {})("one and two")):
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


SCRIPT = """
from pascal_nm import data
from pascal_nm.export import read_nir
from pascal_nm.hw_targets import workers
print("begins", flush=True)
digits = data.load("digits", limit=4)
graph = read_nir("network.nir")
print(len(workers.evaluate(graph, "torch", digits, 1).predictions), flush=True)
"""

OWN_CLASS = """
import dataclasses
import pascal_nm as pnm

class Mine(pnm.Preprocessing):
    pass

try:
    workers.evaluate(dataclasses.replace(graph, preprocessing=Mine(**vars(graph.preprocessing))), "torch", digits, 1)
except pnm.errors.TargetError as error:
    print(error)
"""


def run_script(graph, folder, arguments, text=None):
    write_nir(graph, folder / "network.nir")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, input=text, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)


def test_workers_of_a_script_without_a_guard_do_not_run_it(graph, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT + OWN_CLASS)
    begins, images, refusal = run_script(graph, tmp_path, ["script.py"]).stdout.splitlines()
    assert (begins, images) == ("begins", "4")
    assert "must be in a module that can be imported" in refusal


def test_a_program_from_standard_input_has_workers(graph, tmp_path):
    assert run_script(graph, tmp_path, [], SCRIPT).stdout.split() == ["begins", "4"]


def test_a_run_that_is_killed_leaves_no_process_and_nothing_in_shared_memory(graph, tmp_path):
    pytest.importorskip("lava.magma", exc_type=ImportError)
    write_nir(graph, tmp_path / "network.nir")
    shared = segments()
    command = [sys.executable, "-m", "pascal_nm", "run", tmp_path / "network.nir", "--target", "lava", "--workers", "2"]
    program = subprocess.Popen(
        [*map(str, command), "--data", "digits"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline, family = time.monotonic() + 60, []
    while time.monotonic() < deadline and len(family) < 5 and program.poll() is None:
        time.sleep(0.05)
        family = [child for worker in children(program.pid) for child in (worker, *children(worker))]
    assert len(family) >= 5, "two workers, and what Lava forks"
    program.kill()
    program.wait(5)
    deadline = time.monotonic() + 3
    while (alive := [child for child in family if running(child)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive == []
    assert segments() <= shared


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
    monkeypatch.setattr(workers, "ANSWER", "1s")
    with pytest.raises(TargetError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        workers.evaluate_on("tcp://127.0.0.1:9", graph, "torch", digits)


@pytest.mark.slow
def test_lava_runs_on_a_cluster(graph, digits, cluster):
    pytest.importorskip("lava.magma", exc_type=ImportError)
    few = digits.head(6)
    result = workers.evaluate_on(cluster.scheduler_address, graph, "lava", few)
    assert_same(result, evaluation.evaluate(find("lava").compile(graph), few))
