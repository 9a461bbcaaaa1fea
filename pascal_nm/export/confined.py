"""Work on bytes from anywhere, in a forked child.

The system ends the child where it takes too long, too much memory, or crashes.

A library in C that loops over damaged bytes cannot be interrupted from Python, but its process can
be ended. A fork costs some milliseconds and needs no interpreter; the child only reads, answers
through a pipe, and fills memory that both share.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from pascal_nm.errors import FileError, described

_WALL_SECONDS = 60
"""For a child that waits and computes nothing: on a disk that does not answer."""

Answer = Callable[[Any], None]
"""Hands something that JSON holds to the parent."""


class Ended(Exception):  # noqa: N818  # it is not an error by itself
    """The child did not come to its end; the message says why."""


def answers(work: Callable[[Answer], None], seconds: int, memory: int) -> Iterator[Any]:
    """What ``work`` answers, one after the other, in a child with limits.

    Args:
        work: called in the child with the function that answers. It must not use threads or torch.
        seconds: of processor time.
        memory: bytes that the child may take on top of what this process has.

    Raises:
        FileError: raised by ``work``, or no child can be started.
        Ended: another error in ``work``, a crash, or a limit.
    """
    reading, writing = os.pipe()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # Python's on threads, whose locks the child never takes
            child = os.fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        raise FileError(f"no process can be started to read the file in: {error.strerror or error}") from error
    if child == 0:
        os.close(reading)
        _run(work, writing, seconds, memory)
    os.close(writing)
    done = False
    try:
        with os.fdopen(reading, "r", encoding="ascii") as lines:
            for line in lines:
                kind, content = json.loads(line)
                if kind == "refused":
                    raise FileError(content)
                if kind == "failed":
                    raise Ended(content)
                done = kind == "done"
                if not done:
                    yield content
    except BaseException:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        raise
    finally:
        status = _status(child)
    if not done:
        raise Ended(_why(status, seconds))


def _run(work: Callable[[Answer], None], writing: int, seconds: int, memory: int) -> NoReturn:
    """The child's whole life.

    It leaves without the parent's cleaning up, and never returns into the parent's code.
    """
    try:
        faulthandler.disable()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGXCPU):
            signal.signal(number, signal.SIG_DFL)
        signal.alarm(_WALL_SECONDS)
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_CPU, seconds)
        with suppress(OSError):  # systems without /proc do not hold a process to this limit either
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + memory)
        with os.fdopen(writing, "w", encoding="ascii") as lines:

            def send(kind: str, content: Any) -> None:
                lines.write(json.dumps((kind, content)) + "\n")

            try:
                work(lambda content: send("answer", content))
                send("done", None)
            except FileError as error:
                send("refused", str(error))
            except MemoryError:
                send("failed", "it takes more memory than a file of its size can need")
            except Exception as error:  # libraries raise many types for damaged files
                send("failed", described(error))
    finally:
        os._exit(0)


def _limit(what: int, value: int) -> None:
    _, most = resource.getrlimit(what)
    with suppress(ValueError, OSError):
        resource.setrlimit(what, (value if most == resource.RLIM_INFINITY else min(value, most), most))


def _status(child: int) -> int | None:
    try:
        return os.waitpid(child, 0)[1]
    except ChildProcessError:  # the program that we are part of has said that it does not want to know
        return None


def _why(status: int | None, seconds: int) -> str:
    number = None if status is None or not os.WIFSIGNALED(status) else os.WTERMSIG(status)
    if number == signal.SIGXCPU:
        return f"reading it takes more than {seconds} s"
    if number == signal.SIGALRM:
        return f"reading it takes more than {_WALL_SECONDS} s"
    return "HDF5 crashes on it" if number is not None else "reading it ended early"
