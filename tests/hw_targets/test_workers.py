"""Several processes give what one gives, also where one of them is killed."""

import dataclasses
import multiprocessing
import os
import signal

import numpy as np
import pytest

from pascal_nm import data, quantize
from pascal_nm.checkpoint import Model
from pascal_nm.errors import DataError, TargetError
from pascal_nm.graph import Preprocessing
from pascal_nm.hw_targets import evaluation, find, workers
from pascal_nm.models import build


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


def test_a_killed_worker_is_replaced_and_the_result_is_that_of_one_process(graph, digits):
    seen = []

    def progress(done, images):
        if len(seen) == 2:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        seen.append((done, images))

    result = workers.evaluate(graph, "torch", digits, 2, size=4, progress=progress)
    assert_same(result, evaluation.evaluate(find("torch").compile(graph), digits))
    assert seen[0] == (0, 50)
    assert seen[-1] == (50, 50)
    assert len(seen) == 1 + 13, "every batch counts once"
    assert multiprocessing.active_children() == []


def test_workers_that_run_lava_give_the_same(graph, digits):
    pytest.importorskip("lava.magma", exc_type=ImportError)
    result = workers.evaluate(graph, "lava", digits.head(6), 2)
    assert_same(result, evaluation.evaluate(find("lava").compile(graph), digits.head(6)))


class Deadly(Preprocessing):
    def __call__(self, pixels):
        os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_always_die_end_the_run(graph, digits):
    pre = graph.preprocessing
    deadly = dataclasses.replace(graph, preprocessing=Deadly(**vars(pre)))
    with pytest.raises(TargetError, match="3 times a worker died"):
        workers.evaluate(deadly, "torch", digits, 1)
    assert multiprocessing.active_children() == []


class Failing(Preprocessing):
    def __call__(self, pixels):
        raise DataError("these pixels are not pixels")


def test_an_error_in_a_worker_is_the_runs_error(graph, digits):
    failing = dataclasses.replace(graph, preprocessing=Failing(**vars(graph.preprocessing)))
    with pytest.raises(DataError, match="these pixels are not pixels"):
        workers.evaluate(failing, "torch", digits, 2)
    assert multiprocessing.active_children() == []


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
