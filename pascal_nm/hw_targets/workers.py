"""A whole dataset through a target by several processes, of this machine or of a Dask cluster: the same result, bit for bit, also where a worker dies.

Each worker compiles the graph for its own target and runs batch after batch; only what is reported of a batch comes back. Where a worker dies (killed
by the system for want of memory, say), this machine's pool is started anew and does what was not done; a cluster gives the batch to another worker.
This machine's workers are started afresh (``spawn``), not forked, so that they have torch's threads.

Dask, not Ray: a scheduler and workers of plain Python, that a batch system's job or two shells start, and whose futures are those of the standard library.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from typing import Any

import torch

from pascal_nm.data import Dataset
from pascal_nm.errors import NotInstalledError, TargetError, first_line
from pascal_nm.graph import Array, Graph
from pascal_nm.hw_targets import evaluation, find
from pascal_nm.hw_targets.evaluation import Batch, Evaluation, Progress, Summary
from pascal_nm.result import Program

DEATHS = 3
"""Deaths without a finished batch in between, after which the run is given up."""

ANSWER = "10s"
"""How long a scheduler may take to answer."""

Task = tuple[Array, Array]
"""Pixels and labels of a batch."""


def evaluate(
    graph: Graph,
    target: str,
    data: Dataset,
    workers: int,
    *,
    size: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run a dataset and add up accuracy and events, as :func:`pascal_nm.hw_targets.evaluation.evaluate` does in one process.

    Args:
        graph: the graph that runs.
        target: name of the target.
        data: images of the network's shape.
        workers: processes.
        size: images of a batch; None chooses by memory, and for integer graphs so that every worker gets some. (Floating point may round otherwise in
            other batches.)
        progress: called with (images done, images in all).

    Raises:
        DataError: the images or labels do not fit the network.
        TargetError: the target failed, or workers died again and again.
    """
    job = _job(graph, data, workers, size, progress)
    deaths, done = 0, 0
    while not job.complete:
        try:
            with _pool(graph, target, workers) as pool:
                job.run(lambda *task: pool.submit(_work, *task), 2 * workers)
        except BrokenProcessPool:
            deaths, done = (1 if len(job.summaries) > done else deaths + 1), len(job.summaries)
            if deaths >= DEATHS:
                raise TargetError(
                    f"{DEATHS} times a worker died before a batch was done: is there memory for {workers} workers?"
                ) from None
    return job.result()


def evaluate_on(
    scheduler: str,
    graph: Graph,
    target: str,
    data: Dataset,
    *,
    size: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """The same on the workers of a Dask cluster, which have this package installed.

    Args:
        scheduler: its address, ``tcp://host:8786``.
        graph: the graph that runs.
        target: name of the target.
        data: images, which are sent to the workers.
        size: images of a batch, as :func:`evaluate` has it.
        progress: called with (images done, images in all).

    Raises:
        DataError: the images or labels do not fit the network.
        NotInstalledError: Dask's ``distributed`` is missing.
        TargetError: no scheduler answers, it has no workers, the target failed, or a batch cost several workers their lives.
    """
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise NotInstalledError("--scheduler needs Dask: pip install 'pascal-nm[dask]'") from error
    try:
        client: Any = Client(scheduler, timeout=ANSWER, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise TargetError(f"no Dask scheduler answers at {scheduler}: {first_line(error)}") from error
    with client:
        workers = sum(client.nthreads().values())
        if not workers:
            raise TargetError(
                f"the Dask scheduler at {scheduler} has no workers: start some with `dask worker {scheduler} --nthreads 1`"
            )
        job = _job(graph, data, workers, size, progress)
        sent = client.scatter(graph, broadcast=True)
        pool = client.get_executor(pure=False)
        try:
            job.run(lambda *task: pool.submit(_work_for, sent, target, *task), 2 * workers)
        except KilledWorker as error:
            raise TargetError(f"Dask gave a batch up: {first_line(error)}") from None
    return job.result()


def _job(graph: Graph, data: Dataset, workers: int, size: int | None, progress: Progress | None) -> _Job:
    """The work; integer graphs in batches of which every worker gets some."""
    evaluation.check(graph, data)
    size = size or evaluation.batch_images(graph)
    if graph.is_integer:
        size = min(size, math.ceil(len(data) / workers))
    return _Job(data.batches(size), len(data), progress)


class _Job:
    """Batches that are under way, and what is known of those that are done."""

    def __init__(self, batches: Iterator[Task], images: int, progress: Progress | None) -> None:
        self._batches, self._images, self._progress = enumerate(batches), images, progress
        self._open: dict[int, Task] = {}
        self.summaries: dict[int, Summary] = {}
        self._tell()

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        self._take(1)
        return not self._open

    def _take(self, most: int) -> None:
        """Have so many batches under way, where there are any."""
        self._open.update(islice(self._batches, max(0, most - len(self._open))))

    def result(self) -> Evaluation:
        """Of all batches, in their order."""
        return Evaluation.join([summary for _, summary in sorted(self.summaries.items())])

    def run(self, submit: Callable[[Array, Array], Future[Summary]], most: int) -> None:
        """Work until all is done, with at most so many batches under way."""
        futures: dict[Future[Summary], int] = {}
        while not self.complete:
            self._take(most)
            for index in self._open.keys() - futures.values():
                futures[submit(*self._open[index])] = index
            for future in wait(futures, return_when=FIRST_COMPLETED).done:
                index = futures.pop(future)
                self.summaries[index] = future.result()
                del self._open[index]
                self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(sum(len(summary.labels) for summary in self.summaries.values()), self._images)


@contextmanager
def _pool(graph: Graph, target: str, workers: int) -> Iterator[ProcessPoolExecutor]:
    """Workers, which are ended with the block: at once where it fails."""
    before = set(multiprocessing.active_children())
    threads = torch.get_num_threads()
    if graph.is_integer:  # the number of threads may change how floating point rounds
        threads = max(1, threads // workers)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start, (graph, target, threads))
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_program: Program


def _start(graph: Graph, target: str, threads: int) -> None:
    """A worker begins."""
    global _program
    _may_have_children()
    torch.set_num_threads(threads)
    _program = find(target).compile(graph)


def _may_have_children() -> None:
    """Lava's: it forks them, and a daemon, as which Dask starts its workers, may have none."""
    multiprocessing.set_start_method("fork", force=True)
    config: Any = multiprocessing.current_process()
    config._config["daemon"] = False


def _work(pixels: Array, labels: Array) -> Summary:
    """A worker of this machine runs a batch."""
    return _summary(_program, pixels, labels)


def _work_for(graph: Graph, target: str, pixels: Array, labels: Array) -> Summary:
    """A worker of a cluster runs a batch."""
    return _summary(_compiled(graph, target), pixels, labels)


@lru_cache(maxsize=1)
def _compiled(graph: Graph, target: str) -> Program:
    """Made once for all batches: a worker keeps the graph that it was sent."""
    _may_have_children()
    return find(target).compile(graph)


def _summary(program: Program, pixels: Array, labels: Array) -> Summary:
    graph = program.graph
    assert graph.preprocessing is not None, "check refuses a graph without"
    inputs = graph.preprocessing(pixels)
    return Summary.of(graph, Batch(inputs, labels, program.run(inputs)))
