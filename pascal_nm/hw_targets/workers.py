"""A whole dataset through a target by several processes: the same result, bit for bit.

They are processes of this machine or of a Dask cluster. The result is the same also
where a worker dies.

Each worker compiles the graph for its own target and runs batch after batch; only what is reported
of a batch comes back. Where a worker dies (killed by the system for want of memory, say), a new one
does its batch; a cluster gives the batch to another worker.

This machine's workers are fresh interpreters, not forks, so that they have torch's threads.
They import this package and not the program that starts them, so that it may be a script
without ``if __name__ == "__main__"``, or come from standard input. All that connects a worker
with its parent is a pipe: there are no semaphores in shared memory, and a worker whose parent
is killed ends with it.

Dask, not Ray: a scheduler and workers of plain Python, that a batch system's job or two shells
start, and whose futures are those of the standard library.
"""

from __future__ import annotations

import math
import multiprocessing
import pickle
import queue
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import lru_cache
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any

import torch

from pascal_nm.common.arrays import Array
from pascal_nm.common.processes import ChildError, check_open_files, end_with_parent, ending, not_started
from pascal_nm.data import Dataset
from pascal_nm.errors import NotInstalledError, TargetError, described, first_line
from pascal_nm.hw_targets import evaluation, find
from pascal_nm.hw_targets.evaluation import Evaluation, Progress, Summary
from pascal_nm.network.graph import Graph
from pascal_nm.simulation.result import Program

_DEATHS = 3
"""Deaths without a finished batch in between, after which the run is given up."""

_FILES = 5
"""Open files that a worker takes in its parent while it is started; then it is one."""

_ANSWER = "10s"
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
    """Run a dataset and add up accuracy and events, in several processes.

    In one, :func:`pascal_nm.hw_targets.evaluation.evaluate` does the same.

    Args:
        graph: the graph that runs.
        target: name of the target.
        data: images of the network's shape.
        workers: processes.
        size: images of a batch; None chooses by memory, and for integer graphs so that every worker
            gets some. (Floating point may round otherwise in other batches.)
        progress: called with (images done, images in all).

    Raises:
        DataError: the images or labels do not fit the network.
        TargetError: the target failed, the system starts no workers, or they died again and again.
    """
    job = _job(graph, data, workers, size, progress)
    with _Pool(graph, target, workers) as pool:
        job.run(pool.submit, 2 * workers)
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
        TargetError: no scheduler answers, it has no workers, the target failed, or a batch cost
            several workers their lives.
    """
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise NotInstalledError("--scheduler needs Dask: pip install 'pascal-nm[dask]'") from error
    try:
        client: Any = Client(scheduler, timeout=_ANSWER, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise TargetError(f"no Dask scheduler answers at {scheduler}: {first_line(error)}") from error
    with client:
        workers = sum(client.nthreads().values())
        if not workers:
            raise TargetError(
                f"the Dask scheduler at {scheduler} has no workers: "
                f"start some with `dask worker {scheduler} --nthreads 1`"
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


class _Pool:
    """Workers of this machine, each led by a thread.

    They are started with their first batch and ended with the ``with`` block, at
    once where it fails.
    """

    def __init__(self, graph: Graph, target: str, workers: int) -> None:
        check_open_files(workers, _FILES)
        threads = torch.get_num_threads()
        if graph.is_integer:  # the number of threads may change how floating point rounds
            threads = max(1, threads // workers)
        try:
            self._order = pickle.dumps((graph, target, threads))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TargetError(f"the network cannot be sent to workers: {described(error)}") from error
        self._deaths = 0
        self._workers = [_Worker() for _ in range(workers)]
        self._free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(workers)
        self._closed = False

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self._closed = True  # before the workers are killed: a thread looks at it after it has started one
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.end()

    def submit(self, pixels: Array, labels: Array) -> Future[Summary]:
        """Have a batch run by the next worker that is free."""
        return self._threads.submit(self._run, (pixels, labels))

    def _run(self, task: Task) -> Summary:
        worker = self._free.get()
        try:
            while True:
                try:
                    worker.start(self._order)
                    if self._closed:
                        raise EOFError
                    answer = worker.ask(task)
                    self._deaths = 0
                    return answer
                except EOFError:
                    self._died(worker.end())
        finally:
            self._free.put(worker)

    def _died(self, exitcode: int) -> None:
        """Go on with a new worker, but not for ever."""
        self._deaths += 1
        if self._deaths >= _DEATHS or self._closed:
            advice = f": is there memory for {len(self._workers)} workers?" if exitcode == -signal.SIGKILL else ""
            raise TargetError(
                f"{_DEATHS} times a worker died before a batch was done, the last by {ending(exitcode)}{advice}"
            )


_BOOT = (
    "import sys; from multiprocessing.connection import Connection; pipe = Connection(int(sys.argv[1])); "
    "sys.path[:] = pipe.recv(); from pascal_nm.hw_targets import workers; workers.serve(pipe)"
)
"""What the interpreter of a worker runs."""


class _Worker:
    """A process that runs batches, and the pipe to it."""

    _process: subprocess.Popen[bytes] | None = None

    def start(self, order: bytes) -> None:
        """Have a process that runs the network of ``order``, unless there is one."""
        if self._process is not None:
            return
        self._pipe, theirs = multiprocessing.Pipe()
        with theirs:
            command = [sys.executable, "-c", _BOOT, str(theirs.fileno())]
            try:
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
            except OSError as error:
                raise not_started(error) from error
        self._send(sys.path)
        # Now the worker has imported what it needs. A large network is not sent before, so that
        # workers start at the same time.
        self._receive()
        self._send(order)

    def ask(self, task: Task) -> Summary:
        """What comes of a batch.

        Raises:
            EOFError: the process has died.
        """
        self._send(task)
        answer, trace = self._receive()
        if isinstance(answer, Exception):
            raise answer from ChildError(trace)
        summary: Summary = answer
        return summary

    def kill(self) -> None:
        """Kill the process, of which its thread hears."""
        if self._process is not None:
            self._process.kill()

    def end(self) -> int:
        """Kill the process and wait for its end.

        Gives its exit code, 0 where there was no process.
        """
        if self._process is None:
            return 0
        self._process.kill()
        exitcode, self._process = self._process.wait(), None
        self._pipe.close()
        return exitcode

    def _send(self, what: object) -> None:
        try:
            self._pipe.send(what)
        except OSError as error:
            raise EOFError from error

    def _receive(self) -> Any:
        try:
            return self._pipe.recv()
        except OSError as error:  # the connection was reset
            raise EOFError from error


def serve(pipe: Connection) -> None:
    """What a worker does: run batch after batch, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    end_with_parent()
    pipe.send(None)
    program: Program | None = None
    try:
        order = pipe.recv()
        while True:
            task: Task = pipe.recv()
            try:
                program = program or _ordered(order)
                answer: tuple[Any, str] = _summary(program, *task), ""
            except Exception as error:
                answer = _portable(error), traceback.format_exc()
            pipe.send(answer)
    except EOFError:
        return


def _ordered(order: bytes) -> Program:
    """The program that a worker was ordered to run."""
    try:
        graph, target, threads = pickle.loads(order)
    except (AttributeError, ImportError) as error:
        raise TargetError(
            f"a worker does not find what the network is made of ({first_line(error)}): "
            "it must be in a module that can be imported"
        ) from error
    torch.set_num_threads(threads)
    return find(target).compile(graph)


def _portable(error: Exception) -> Exception:
    """An error that crosses a pipe: itself, where it can."""
    try:
        same: Exception = pickle.loads(pickle.dumps(error))
        return same
    except Exception:
        return TargetError(f"a worker failed: {described(error)}")


def _may_have_children() -> None:
    """Lava's: it forks them, and a daemon, as which Dask starts its workers, may have none."""
    multiprocessing.set_start_method("fork", force=True)
    config: Any = multiprocessing.current_process()
    config._config["daemon"] = False


def _work_for(graph: Graph, target: str, pixels: Array, labels: Array) -> Summary:
    """A worker of a cluster runs a batch."""
    return _summary(_compiled(graph, target), pixels, labels)


@lru_cache(maxsize=1)
def _compiled(graph: Graph, target: str) -> Program:
    """Made once for all batches: a worker keeps the graph that it was sent."""
    _may_have_children()
    return find(target).compile(graph)


def _summary(program: Program, pixels: Array, labels: Array) -> Summary:
    return Summary.of(program.graph, evaluation.run_batch(program, pixels, labels))
